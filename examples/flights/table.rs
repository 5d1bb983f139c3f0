//! The table that is shown: what is in it, and how its lines are written.

use std::collections::{BTreeMap, VecDeque};

use nekton::{Result, View};

use crate::agents::{AirportFigures, Figures, Leg, TallyView};
use crate::calendar::{HOUR, MINUTE};
use crate::data::Names;
use crate::job::Line;

/// How wide the table is, in columns.
pub const WIDTH: usize = 80;
/// Carriers that are shown while it changes.
pub const CARRIERS: usize = 7;
/// No flight of the year took three and a half hours longer than planned and landed where it was to: who is
/// overdue for four was diverted.
const OVERDUE: u64 = 4 * HOUR;

/// What there is to show, all of one time.
#[derive(Debug, Default)]
pub struct Shown {
    airports: BTreeMap<String, AirportFigures>,
    carriers: BTreeMap<String, TallyView>,
    pub aloft: Vec<(String, Leg)>,
    /// When the last event happened.
    pub at: u64,
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
pub struct Ink(pub bool);

impl Ink {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
    fn faint(self, text: &str) -> String {
        self.with("2", text)
    }
    pub fn blue(self, text: &str) -> String {
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

pub fn progress(events: u64, of: Option<u64>, rate: f64, ink: Ink) -> String {
    let rate = format!("{}/s", number(rate as u64));
    let Some(of) = of else { return format!(" {} events, {rate}", number(events)) };
    let share = if of == 0 { 1.0 } else { (events as f64 / of as f64).min(1.0) };
    let words = format!("{:>3.0} %  {} of {} events  {rate:>10}", share * 100.0, number(events), number(of));
    let room = WIDTH - 4 - words.chars().count();
    let full = (share * room as f64) as usize;
    format!(" {}{}  {words}", ink.blue(&"━".repeat(full)), ink.faint(&"─".repeat(room - full)))
}

/// Airports and the carriers with the most departures.
pub fn tables(shown: &Shown, names: &Names, carriers: usize, ink: Ink) -> Vec<String> {
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

pub fn plane(tail: &str, leg: &Leg, at: u64, names: &Names, ink: Ink) -> String {
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
pub fn pulse(numbers: &VecDeque<u64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = numbers.iter().copied().max().unwrap_or(0).max(1);
    numbers.iter().map(|number| BARS[(number * 7).div_ceil(highest) as usize]).collect()
}

pub fn total(shown: &Shown) -> Figures {
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

pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.0} %", part as f64 * 100.0 / whole as f64) }
}

pub fn minutes(sum: i64, count: u64) -> String {
    if count == 0 { "-".to_owned() } else { format!("{:+.1} m", sum as f64 / count as f64) }
}
