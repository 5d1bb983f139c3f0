//! Shows what a sandbox is doing: one line that moves on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use nekton::sandbox::Progress;
use nekton::say;

const EVERY: Duration = Duration::from_secs(10);
const BAR: usize = 24;

/// Shows progress on standard error.
pub(crate) struct Display {
    terminal: bool,
    shown: Option<(Discriminant<Progress>, Instant)>,
    turn: usize,
}

impl Display {
    pub(crate) fn new() -> Self {
        Display { terminal: std::io::stderr().is_terminal(), shown: None, turn: 0 }
    }

    pub(crate) fn show(&mut self, progress: &Progress) {
        let kind = discriminant(progress);
        let first = self.shown.is_none_or(|(shown, _)| shown != kind);
        if self.terminal {
            // What is done stays as a line of its own.
            let end = if first && self.shown.is_some() { "\n" } else { "" };
            let turning = ['|', '/', '-', '\\'][self.turn % 4];
            self.turn += 1;
            eprint!("{end}\r\x1b[2K{turning} {}{progress}", bar(progress));
            // A terminal that is gone needs no display.
            let _ = std::io::stderr().flush();
            self.shown = Some((kind, Instant::now()));
        } else if first || self.shown.is_some_and(|(_, at)| at.elapsed() >= EVERY) {
            say(progress);
            self.shown = Some((kind, Instant::now()));
        }
    }

    /// Takes the moving line away.
    pub(crate) fn done(self) {
        if self.terminal && self.shown.is_some() {
            eprint!("\r\x1b[2K");
        }
    }
}

fn bar(progress: &Progress) -> String {
    let Progress::Fetching(done, of) = progress else { return String::new() };
    let filled = (done.saturating_mul(BAR as u64) / of.max(&1)).min(BAR as u64) as usize;
    format!("[{}{}] ", "#".repeat(filled), "-".repeat(BAR - filled))
}
