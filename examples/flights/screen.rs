//! What people see: a table that is drawn again ten times a second, lines where there is no terminal, and a
//! summary at the end.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nekton::{Summary, View};

use crate::agents::Figures;
use crate::calendar::{in_new_york, month_name};
use crate::data::Names;
use crate::events::FlightEvent;
use crate::job::Line;
use crate::replay::{Due, Replay};
use crate::table::{
    CARRIERS, Ink, Shown, WIDTH, minutes, number, percent, plane, progress, pulse, tables, total,
};

/// How high a terminal must be, in lines.
const HEIGHT: u16 = 24;
/// How often the table is drawn.
pub const FRAME: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
pub const LINE: Duration = Duration::from_secs(2);
/// Planes that are shown.
const PLANES: usize = 4;

/// Draws while a job runs.
pub struct Screen<'a> {
    names: &'a Names,
    shows: bool,
    /// Whether standard output can be drawn upon.
    pub live: bool,
    ink: Ink,
    /// Planes aloft, a number a frame.
    pulse: VecDeque<u64>,
    /// Events seen at the frames of the last second.
    rate: VecDeque<(Instant, u64)>,
}

impl<'a> Screen<'a> {
    pub fn new(names: &'a Names, shows: bool) -> Self {
        let live = std::io::stdout().is_terminal() && fits();
        Screen { names, shows, live, ink: ink(), pulse: VecDeque::new(), rate: VecDeque::new() }
    }

    /// Shows what a view has until it is over.
    pub fn show(
        &mut self,
        view: &OnceLock<View<Line>>,
        replay: Option<&Replay<FlightEvent>>,
        over: &AtomicBool,
    ) {
        if !self.shows {
            return;
        }
        let mut canvas = Canvas::default();
        let mut said = Instant::now();
        loop {
            let last = over.load(Ordering::SeqCst);
            let Some(Ok(shown)) = view.get().map(Shown::of) else {
                if last {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            if self.live {
                let mut frame = self.frame(&shown, replay.map(Replay::events));
                while last && frame.last().is_some_and(String::is_empty) {
                    frame.pop();
                }
                canvas.draw(&frame);
            } else if said.elapsed() >= LINE && shown.events > 0 && !last {
                said = Instant::now();
                put(&self.line(&shown));
            }
            if last {
                return;
            }
            std::thread::sleep(FRAME);
        }
    }

    /// Events a second, over the last second.
    fn events_a_second(&mut self, events: u64) -> f64 {
        let now = Instant::now();
        self.rate.push_back((now, events));
        while self.rate.len() > 2
            && self.rate.front().is_some_and(|(at, _)| now - *at > Duration::from_secs(1))
        {
            self.rate.pop_front();
        }
        let Some(&(since, before)) = self.rate.front() else { return 0.0 };
        events.saturating_sub(before) as f64 / (now - since).as_secs_f64().max(0.05)
    }

    fn frame(&mut self, shown: &Shown, of: Option<u64>) -> Vec<String> {
        let ink = self.ink;
        let rate = self.events_a_second(shown.events);
        let clock = if shown.at == 0 { String::new() } else { in_new_york(shown.at) };
        let title = "nekton · flights from New York, 2013";
        let gap = WIDTH - 2 - title.chars().count() - clock.chars().count();
        let mut lines = vec![format!(" {}{:gap$}{}", ink.bold(title), "", ink.bold(&clock))];
        lines.push(progress(shown.events, of, rate, ink));
        lines.push(String::new());
        lines.extend(tables(shown, self.names, CARRIERS, ink));
        lines.push(String::new());

        self.pulse.push_back(shown.aloft.len() as u64);
        let room = WIDTH - 2 - 22;
        while self.pulse.len() > room {
            self.pulse.pop_front();
        }
        let count = format!("{:<14}{:>6}", "PLANES ALOFT", number(shown.aloft.len() as u64));
        lines.push(format!(" {}  {}", ink.bold(&count), ink.blue(&pulse(&self.pulse))));
        let mut longest: Vec<_> = shown.aloft.iter().collect();
        longest.sort_by_key(|(_, leg)| leg.departed);
        let planes =
            longest.iter().take(PLANES).map(|(tail, leg)| plane(tail, leg, shown.at, self.names, ink));
        lines.extend(planes.chain(std::iter::repeat(String::new())).take(PLANES));
        lines
    }

    fn line(&self, shown: &Shown) -> String {
        let Figures { departed, cancelled, late, delay_minutes } = total(shown);
        format!(
            "{}  {} events, {} departed, {} cancelled, {} late, {} on average, {} aloft\n",
            in_new_york(shown.at),
            number(shown.events),
            number(departed),
            number(cancelled),
            percent(late, departed).trim_start(),
            minutes(delay_minutes, departed).trim_start(),
            shown.aloft.len()
        )
    }
}

/// What is drawn again and again at the same place.
#[derive(Default)]
pub struct Canvas {
    drawn: usize,
}

impl Canvas {
    /// Goes up to where the last frame began, and over it line by line: nothing flickers.
    pub fn draw(&mut self, frame: &[String]) {
        let mut text = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        self.drawn = frame.len();
        for line in frame {
            let _ = writeln!(text, "\r{line}\x1b[K");
        }
        text.push_str("\x1b[J");
        put(&text);
    }
}

/// Whether the terminal is large enough, and can be drawn upon.
pub fn fits() -> bool {
    let able = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    able && terminal_size::terminal_size()
        .is_none_or(|(width, height)| usize::from(width.0) >= WIDTH && height.0 >= HEIGHT)
}

/// Colours where they are seen and not unwanted (no-color.org).
pub fn ink() -> Ink {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Ink(std::io::stdout().is_terminal() && fits() && !unwanted)
}

/// Writes to standard output; whoever has closed it does not want to know.
pub fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What was done, for the summary.
pub struct Done {
    /// The months replayed, if this process did it.
    pub months: Option<RangeInclusive<usize>>,
    /// How many events these months have.
    pub events: Option<u64>,
    pub summary: Summary,
    pub workers: usize,
    pub topics: String,
    /// Whether the tables are on the screen already.
    pub drawn: bool,
}

/// Says at the end what was done and where it is.
pub fn summary(shown: &Shown, names: &Names, done: &Done) {
    let seconds = done.summary.elapsed.as_secs_f64();
    let mut text = String::from("\n");
    if !done.drawn {
        for line in tables(shown, names, usize::MAX, Ink(false)) {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
    }
    let all = total(shown);
    let mut say = |what: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(what);
        text.push('\n');
    };
    let what = match &done.months {
        None => "Consumed".to_owned(),
        Some(months) => {
            let (from, to) = (month_name(*months.start()), month_name(*months.end()));
            let part =
                if done.events.is_some_and(|events| shown.events < events) { "a part of " } else { "" };
            let through = if from == to { String::new() } else { format!(" to {to}") };
            format!("Replayed {part}{from}{through} 2013")
        }
    };
    say(format_args!(
        "{what}: {} flights, {} events in {seconds:.1} s ({} a second) on {} worker{}",
        number(all.departed + all.cancelled),
        number(shown.events),
        number((shown.events as f64 / seconds.max(0.001)) as u64),
        done.workers,
        if done.workers == 1 { "" } else { "s" },
    ));
    say(format_args!("Topics at {}:", done.topics));
    say(format_args!("  flights   what happened, an event a line"));
    say(format_args!("  carriers  figures by carrier (upsert)"));
    say(format_args!("  airports  figures by airport, and flights aloft (upsert)"));
    say(format_args!("  aloft     planes as they leave and land (changes)"));
    put(&text);
}

/// Says now and then how much was published, until it is over.
pub fn published<E: Due>(replay: &Replay<E>, over: &AtomicBool) {
    let mut said = Instant::now();
    while !over.load(Ordering::SeqCst) {
        if said.elapsed() >= LINE {
            said = Instant::now();
            nekton::say(format_args!(
                "published {} of {} events",
                number(replay.published()),
                number(replay.events())
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
