//! `nekton top`: how jobs do, as it changes.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use nekton::{Error, Kind, Result};
use serde_json::{Value, json};

use crate::job::{Job, Token};
use crate::records::{clock, short, span};
use crate::tap::written;
use crate::terminal::Terminal;

/// Where jobs are looked for on this machine.
const PORTS: std::ops::Range<u16> = 9090..9100;
/// Over how long rates are taken, and how often what is shown is new.
const EVERY: Duration = Duration::from_secs(1);

/// Shows how fast jobs are, how far behind, and how large: on a terminal every second until `q` is typed, elsewhere once.
#[derive(Args)]
pub(crate) struct Command {
    /// Where jobs show themselves [default: all on the ports 9090 to 9099 of this machine]
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// Print a JSON object for each job, once
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    token: Token,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let token = command.token.read()?;
    let terminal = if command.json { None } else { Terminal::open()? };
    let mut jobs: Vec<Seen> = Vec::new();
    loop {
        look(command, &token, &mut jobs)?;
        match &terminal {
            Some(terminal) => {
                terminal.show(&page(&jobs))?;
                if terminal.ends_within(EVERY) {
                    return Ok(());
                }
            }
            None => {
                // Rates need a second look.
                std::thread::sleep(EVERY);
                look(command, &token, &mut jobs)?;
                if let Some(why) = silent(&jobs) {
                    return Err(Error::new(Kind::Unavailable, why));
                }
                let text = match command.json {
                    true => jobs.iter().map(|job| format!("{}\n", job.as_json())).collect(),
                    false => page(&jobs),
                };
                return written(std::io::stdout().lock().write_all(text.as_bytes())).map(drop);
            }
        }
    }
}

const NONE: &str = "no job shows itself on the ports 9090 to 9099 of this machine: start one, or say where it is: \
                    nekton top URL";

/// Why there is nothing to show, if no job answers.
fn silent(jobs: &[Seen]) -> Option<String> {
    match jobs.iter().find_map(|job| job.answer.as_ref().err()) {
        None => jobs.is_empty().then(|| NONE.to_owned()),
        Some(why) => jobs.iter().all(|job| job.answer.is_err()).then(|| why.clone()),
    }
}

/// Looks at all jobs; at first and then now and again for those that have come.
fn look(command: &Command, token: &Option<String>, jobs: &mut Vec<Seen>) -> Result<()> {
    let before = std::mem::take(jobs);
    if command.urls.is_empty() {
        for port in PORTS {
            let job = Job::at(&port.to_string(), token.clone())?;
            match job.json("/api/job") {
                Ok(answer) => jobs.extend(Seen::new(&job.url, answer)),
                // It is a job, unless something else speaks of tokens.
                Err(error) if error.kind() == Kind::Config => jobs.push(Seen::silent(&job.url, &error)),
                Err(_) => {}
            }
        }
    } else {
        for url in &command.urls {
            let job = Job::at(url, token.clone())?;
            let answer = job.json("/api/job");
            jobs.push(match answer {
                Ok(answer) => Seen::new(&job.url, answer)
                    .unwrap_or_else(|| Seen::silent(&job.url, &"it is no nekton job")),
                Err(error) => Seen::silent(&job.url, &error),
            });
        }
    }
    for job in &mut *jobs {
        if let Some(before) = before.iter().find(|before| before.url == job.url) {
            job.since(before);
        }
    }
    Ok(())
}

/// What a job says of itself, and what it did since it was asked before.
struct Seen {
    url: String,
    answer: Result<Value, String>,
    /// Events and messages a second.
    rates: Option<(f64, f64)>,
}

impl Seen {
    /// `None` if that is no job's answer.
    fn new(url: &str, answer: Value) -> Option<Self> {
        let job = answer["about"]["job"].is_string() && answer["figures"].is_object();
        job.then(|| Seen { url: url.to_owned(), answer: Ok(answer), rates: None })
    }

    fn silent(url: &str, why: &dyn std::fmt::Display) -> Self {
        Seen { url: url.to_owned(), answer: Err(why.to_string()), rates: None }
    }

    /// Finds out how fast it is.
    fn since(&mut self, before: &Seen) {
        let (Ok(now), Ok(then)) = (&self.answer, &before.answer) else { return };
        // By the job's own clock. One that was started again begins anew.
        let of = |name: &str| {
            let number = |answer: &Value| answer["figures"][name].as_u64();
            number(now)?.checked_sub(number(then)?)
        };
        let Some(millis @ 1..) = of("now") else { return };
        let rate = |name| of(name).map(|count| count as f64 * 1e3 / millis as f64);
        if now["about"]["started"] == then["about"]["started"] {
            self.rates = rate("events").zip(rate("messages"));
        }
    }

    fn as_json(&self) -> Value {
        match &self.answer {
            Err(why) => json!({ "url": self.url, "error": why }),
            Ok(answer) => json!({
                "url": self.url,
                "job": answer["about"]["job"],
                "about": answer["about"],
                "events_per_second": self.rates.map(|rates| rates.0),
                "messages_per_second": self.rates.map(|rates| rates.1),
                "figures": answer["figures"],
            }),
        }
    }

    /// The cells of its line.
    fn cells(&self) -> Option<[String; 9]> {
        let answer = self.answer.as_ref().ok()?;
        let (about, figures) = (&answer["about"], &answer["figures"]);
        let count = |value: &Value| value.as_u64().map_or("?".to_owned(), |count| short(count as f64));
        let rate = |rate: Option<f64>| rate.map_or(String::new(), short);
        let workers = match about["processes"].as_u64() {
            Some(processes @ 2..) => format!("{} in {processes}", count(&about["workers"])),
            _ => count(&about["workers"]),
        };
        let fresh = match (&figures["ready"], figures["behind"].as_u64()) {
            (Value::Bool(false), _) => "starting".to_owned(),
            (_, None | Some(0)) => "up to date".to_owned(),
            (_, Some(behind)) => span(behind),
        };
        let now = figures["now"].as_u64().unwrap_or_default();
        let checkpoint = match figures["committed"].as_u64() {
            None | Some(0) => "none yet".to_owned(),
            Some(committed) => format!("{} ago", span(now.saturating_sub(committed))),
        };
        Some([
            about["job"].as_str().unwrap_or_default().to_owned(),
            workers,
            rate(self.rates.map(|rates| rates.0)),
            rate(self.rates.map(|rates| rates.1)),
            fresh,
            count(&figures["in_flight"]),
            count(&figures["dead_letters"]),
            checkpoint,
            self.url.clone(),
        ])
    }
}

const HEADS: [&str; 9] =
    ["JOB", "WORKERS", "EVENTS/S", "OUT/S", "BEHIND", "EPOCHS", "DEAD", "CHECKPOINT", "AT"];

/// All jobs, in a table, and their views.
fn page(jobs: &[Seen]) -> String {
    let now = jobs.iter().filter_map(|job| job.answer.as_ref().ok()?["figures"]["now"].as_u64()).max();
    let at = now.map(|now| format!("   {}", clock(&now.into()))).unwrap_or_default();
    let mut page = match jobs.len() {
        0 => return format!("{NONE}\n"),
        1 => format!("1 job{at}\n\n"),
        count => format!("{count} jobs{at}\n\n"),
    };
    let rows: Vec<_> = jobs.iter().filter_map(Seen::cells).collect();
    let widths: [usize; 9] = std::array::from_fn(|column| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        lengths.chain([HEADS[column].len()]).max().unwrap_or_default()
    });
    let mut line = |cells: [&str; 9]| {
        for (column, (cell, width)) in cells.into_iter().zip(widths).enumerate() {
            let _ = match column {
                // Words to the left, numbers to the right.
                0 | 8 => write!(page, "{cell:width$}  "),
                _ => write!(page, "{cell:>width$}  "),
            };
        }
        page.truncate(page.trim_end().len());
        page.push('\n');
    };
    line(HEADS);
    for row in &rows {
        line(row.each_ref().map(|cell| &cell[..]));
    }
    for job in jobs {
        match &job.answer {
            Err(why) => {
                let at = if why.contains(&job.url) { String::new() } else { format!("{}  ", job.url) };
                let _ = writeln!(page, "{at}{why}");
            }
            Ok(answer) => {
                let Some(views) = answer["figures"]["views"].as_object().filter(|views| !views.is_empty())
                else {
                    continue;
                };
                let _ = write!(page, "\n{}", answer["about"]["job"].as_str().unwrap_or_default());
                for (name, size) in views {
                    let _ = write!(page, "   {name} {}", short(size.as_f64().unwrap_or_default()));
                }
                page.push('\n');
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(now: u64, events: u64, behind: u64) -> Value {
        let figures = json!({
            "now": now, "events": events, "messages": events / 2, "behind": behind, "in_flight": 2, "dead_letters": 1,
            "committed": now - 3_200, "ready": true, "views": {"planes": 5_678, "late": 31}
        });
        json!({ "about": {"job": "fleet", "workers": 2, "processes": 1, "started": 7}, "figures": figures })
    }

    #[test]
    fn a_job_has_a_line_and_one_for_its_views() {
        let at = "http://127.0.0.1:9090";
        let now = 1_769_863_200_123;
        let before = Seen::new(at, answer(now - 2_000, 1_000, 0)).unwrap();
        let mut job = Seen::new(at, answer(now, 41_000, 7)).unwrap();
        job.since(&before);
        let none = Seen::silent("http://127.0.0.1:9091", &"nothing listens there");
        let expected = "\
2 jobs   12:40:00.123Z

JOB    WORKERS  EVENTS/S  OUT/S  BEHIND  EPOCHS  DEAD  CHECKPOINT  AT
fleet        2       20k    10k    7 ms       2     1   3.2 s ago  http://127.0.0.1:9090

fleet   late 31   planes 5.7k
http://127.0.0.1:9091  nothing listens there
";
        assert_eq!(page(&[job, none]), expected);
        // Started again, it begins anew: there is no rate yet.
        let mut again = Seen::new(at, answer(now, 5, 0)).unwrap();
        again.since(&before);
        assert_eq!(again.as_json()["events_per_second"], Value::Null);
        assert!(Seen::new(at, json!({"status": "success"})).is_none(), "others listen on this port, too");
    }
}
