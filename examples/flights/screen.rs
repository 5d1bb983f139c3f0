//! What people see: a table that is drawn again ten times a second, lines where there is no terminal, and a
//! summary at the end.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nekton::{Result, Summary, View};

use crate::agents::{AirportFigures, Figures, Leg, TallyView};
use crate::calendar::{HOUR, MINUTE, in_new_york, month_name};
use crate::data::Names;
use crate::job::Line;
use crate::replay::Replay;

/// How wide the table is, in columns.
const WIDTH: usize = 80;
/// How high a terminal must be, in lines.
const HEIGHT: u16 = 24;
/// How often the table is drawn.
const FRAME: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(2);
/// Carriers and planes that are shown.
const CARRIERS: usize = 7;
const PLANES: usize = 4;
/// No flight of the year took three and a half hours longer than planned and landed where it was to: who is
/// overdue for four was diverted.
const OVERDUE: u64 = 4 * HOUR;

/// What there is to show, all of one time.
#[derive(Debug, Default)]
pub struct Shown {
    airports: BTreeMap<String, AirportFigures>,
    carriers: BTreeMap<String, TallyView>,
    aloft: Vec<(String, Leg)>,
    /// When the last event happened.
    at: u64,
    /// Events seen.
    pub events: u64,
}

impl Shown {
    pub fn of(view: &View<Line>) -> Result<Self> {
        let mut shown = Shown::default();
        for (line, _) in view.snapshot()?.records {
            match line {
                Line::Airport(code, figures) => drop(shown.airports.insert(code, figures)),
                Line::Carrier(code, tally) => drop(shown.carriers.insert(code, tally)),
                Line::Aloft(tail, leg) => shown.aloft.push((tail, leg)),
            }
        }
        shown.at = shown.carriers.values().map(|tally| tally.at).max().unwrap_or(0);
        shown.events = shown.carriers.values().map(|tally| tally.events).sum();
        let at = shown.at;
        shown.aloft.retain(|(_, leg)| leg.departed + planned(leg) + OVERDUE > at);
        Ok(shown)
    }

    fn aloft_from(&self, origin: &str) -> u64 {
        self.aloft.iter().filter(|(_, leg)| leg.origin == origin).count() as u64
    }
}

/// Colours, or none of them.
#[derive(Clone, Copy)]
struct Ink(bool);

impl Ink {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
    fn faint(self, text: &str) -> String {
        self.with("2", text)
    }
    fn blue(self, text: &str) -> String {
        self.with("36", text)
    }
    /// A share of late flights: green, yellow or red.
    fn share(self, share: f64, text: &str) -> String {
        self.with(
            if share < 0.15 {
                "32"
            } else if share < 0.25 {
                "33"
            } else {
                "31"
            },
            text,
        )
    }
}

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
    pub fn show(&mut self, view: &OnceLock<View<Line>>, replay: Option<&Replay>, over: &AtomicBool) {
        if !self.shows {
            return;
        }
        let mut drawn = 0;
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
                // Up to where the last frame began, and over it line by line: nothing flickers.
                let mut text = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
                drawn = frame.len();
                for line in frame {
                    let _ = writeln!(text, "\r{line}\x1b[K");
                }
                text.push_str("\x1b[J");
                put(&text);
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

/// Whether the terminal is large enough, and can be drawn upon.
fn fits() -> bool {
    let able = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    able && terminal_size::terminal_size()
        .is_none_or(|(width, height)| usize::from(width.0) >= WIDTH && height.0 >= HEIGHT)
}

/// Colours where they are seen and not unwanted (no-color.org).
fn ink() -> Ink {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Ink(std::io::stdout().is_terminal() && fits() && !unwanted)
}

/// Writes to standard output; whoever has closed it does not want to know.
fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn progress(events: u64, of: Option<u64>, rate: f64, ink: Ink) -> String {
    let rate = format!("{}/s", number(rate as u64));
    let Some(of) = of else { return format!(" {} events, {rate}", number(events)) };
    let share = if of == 0 { 1.0 } else { (events as f64 / of as f64).min(1.0) };
    let words = format!("{:>3.0} %  {} of {} events  {rate:>10}", share * 100.0, number(events), number(of));
    let room = WIDTH - 4 - words.chars().count();
    let full = (share * room as f64) as usize;
    format!(" {}{}  {words}", ink.blue(&"━".repeat(full)), ink.faint(&"─".repeat(room - full)))
}

/// Airports and the carriers with the most departures.
fn tables(shown: &Shown, names: &Names, carriers: usize, ink: Ink) -> Vec<String> {
    let head =
        |what: &str| format!("{what:<30}{:>9}{:>11}{:>7}{:>8}", "departed", "cancelled", "late", "delay");
    let mut lines =
        vec![format!(" {}", ink.faint(&format!("{}{:>7}{:>6}", head("AIRPORT"), "aloft", "div.")))];
    let (mut aloft, mut untold) = (0, 0);
    for (code, figures) in &shown.airports {
        let AirportFigures { departed, cancelled, late, delay_minutes, .. } = *figures;
        let seen = shown.aloft_from(code);
        let gone = figures.aloft.saturating_sub(seen);
        (aloft, untold) = (aloft + seen, untold + gone);
        let row = row(code, names.airport(code), &Figures { departed, cancelled, late, delay_minutes }, ink);
        lines.push(format!(" {row}{:>7}{:>6}", number(seen), number(gone)));
    }
    let all = row("", "all", &total(shown), ink);
    lines.push(format!(" {}", format_args!("{all}{:>7}{:>6}", number(aloft), number(untold))));
    lines.push(String::new());
    lines.push(format!(" {}", ink.faint(&head("CARRIER"))));
    let mut ranked: Vec<_> = shown.carriers.iter().collect();
    ranked.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.figures.departed));
    let rows = ranked
        .iter()
        .take(carriers)
        .map(|(code, tally)| format!(" {}", row(code, names.carrier(code), &tally.figures, ink)));
    let missing = carriers.min(CARRIERS).saturating_sub(ranked.len());
    lines.extend(rows.chain(std::iter::repeat_n(String::new(), missing)));
    lines
}

fn row(code: &str, name: &str, figures: &Figures, ink: Ink) -> String {
    let Figures { departed, cancelled, late, delay_minutes } = *figures;
    let share = if departed == 0 { 0.0 } else { late as f64 / departed as f64 };
    format!(
        "{}{}{:>9}{:>11}{}{:>8}",
        ink.bold(&format!("{code:<5}")),
        fit(name, 25),
        number(departed),
        number(cancelled),
        ink.share(share, &format!("{:>7}", percent(late, departed))),
        minutes(delay_minutes, departed),
    )
}

fn plane(tail: &str, leg: &Leg, at: u64, names: &Names, ink: Ink) -> String {
    let flown = at.saturating_sub(leg.departed);
    let full = ((flown as f64 / planned(leg) as f64).min(1.0) * 8.0) as usize;
    let bar = format!("{}{}", ink.blue(&"━".repeat(full)), ink.faint(&"─".repeat(8 - full)));
    format!(
        " {}{}{:<8}{} {bar} {} {} {:>2} h {:02}",
        ink.bold(&format!("{tail:<8}")),
        fit(names.plane(tail), 19),
        leg.flight,
        leg.origin,
        leg.dest,
        fit(names.airport(&leg.dest), 18),
        flown / HOUR,
        flown % HOUR / MINUTE,
    )
}

/// A bar a number, as high as it is beside the highest.
fn pulse(numbers: &VecDeque<u64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = numbers.iter().copied().max().unwrap_or(0).max(1);
    numbers.iter().map(|number| BARS[(number * 7).div_ceil(highest) as usize]).collect()
}

fn total(shown: &Shown) -> Figures {
    shown.carriers.values().fold(Figures::default(), |sum, tally| Figures {
        departed: sum.departed + tally.figures.departed,
        cancelled: sum.cancelled + tally.figures.cancelled,
        late: sum.late + tally.figures.late,
        delay_minutes: sum.delay_minutes + tally.figures.delay_minutes,
    })
}

/// How long a flight was to take, from gate to gate.
fn planned(leg: &Leg) -> u64 {
    leg.due.saturating_sub(leg.scheduled).max(MINUTE)
}

/// Text in exactly so many columns.
fn fit(text: &str, columns: usize) -> String {
    if text.chars().count() < columns {
        return format!("{text:<columns$}");
    }
    text.chars().take(columns - 2).chain(['…', ' ']).collect()
}

/// A number with its thousands apart.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.0} %", part as f64 * 100.0 / whole as f64) }
}

fn minutes(sum: i64, count: u64) -> String {
    if count == 0 { "-".to_owned() } else { format!("{:+.1} m", sum as f64 / count as f64) }
}

/// What was done, for the summary.
pub struct Done {
    /// The months replayed, if this process did it.
    pub months: Option<RangeInclusive<usize>>,
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
        Some(months) if months.start() == months.end() => {
            format!("Replayed {} 2013", month_name(*months.start()))
        }
        Some(months) => {
            format!("Replayed {} to {} 2013", month_name(*months.start()), month_name(*months.end()))
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
pub fn published(replay: &Replay, over: &AtomicBool) {
    let mut said = Instant::now();
    while !over.load(Ordering::SeqCst) {
        if said.elapsed() >= LINE {
            said = Instant::now();
            eprintln!("published {} of {} events", number(replay.published()), number(replay.events()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
