//! How late will each flight leave? Predicted two hours ahead from what is known then, and judged by what happens.
//!
//! The way of the data: `log.rs` (what becomes known when), `planes.rs`, `airports.rs`, `forecaster.rs`, and `job.rs`, which
//! puts them together.

mod airports;
mod board;
mod forecaster;
mod job;
pub mod log;
mod planes;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nekton::{Flow, Publisher, Result, Runner, View};

use crate::replay::Replay;
use crate::screen::{Canvas, FRAME, LINE, fits, ink, put};
use board::Board;
use job::Line;
use log::Told;

/// Runs the job, with the replay of the log beside it, and says at the end how good the predictions were.
pub fn run(
    runner: Runner,
    published: Option<(Replay<Told>, Publisher)>,
    only: Option<u64>,
    examples: bool,
    shows: bool,
) -> Result<()> {
    let topics = runner.topics_url().to_owned();
    let build = move |flow: &mut Flow<'_>| job::build(flow, only, examples);
    let seen = |view: &View<Line>| Ok(Board::of(view)?.progress.heard);
    let show = |view: &OnceLock<View<Line>>, replay: Option<&Replay<Told>>, over: &AtomicBool| {
        if shows {
            self::show(view, replay.map(Replay::events), over);
        }
    };
    let (done, view) = crate::job(runner, "flights-predict", published, build, seen, show);
    let summary = done?;
    if let Some(view) = view.get().filter(|_| shows) {
        put(&Board::of(view)?.summary(summary.elapsed, &topics, examples));
    }
    Ok(())
}

/// Shows the scoreboard until it is over: drawn again and again, or a line now and then where there is no terminal.
fn show(view: &OnceLock<View<Line>>, of: Option<u64>, over: &AtomicBool) {
    use std::io::IsTerminal;
    let live = std::io::stdout().is_terminal() && fits();
    let (mut canvas, begun, mut said) = (Canvas::default(), Instant::now(), Instant::now());
    while !over.load(Ordering::SeqCst) {
        if let Some(Ok(board)) = view.get().map(Board::of)
            && board.progress.heard > 0
        {
            if live {
                canvas.draw(&board.frame(of, begun.elapsed(), ink()));
            } else if said.elapsed() >= LINE {
                said = Instant::now();
                put(&board.line());
            }
        }
        std::thread::sleep(FRAME);
    }
    if let Some(Ok(board)) = view.get().map(Board::of).filter(|_| live) {
        canvas.draw(&board.frame(of, begun.elapsed(), ink()));
    }
}
