//! A bridge with sensors that learn what the weather does to them, so that a drift of a few micrometres is found against a season of
//! hundreds. Try it:
//!
//! ```text
//! cargo run --release --example bridge
//! ```
//!
//! `docs/bridge.md` says how a drift is told from a season, and what the same test finds without what the sensors learn.

#[path = "../common/beside.rs"]
mod beside;
mod drift;
mod events;
mod generator;
mod job;
mod sensor;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use clap::Parser;
use nekton::{Error, Publisher, Result, Runner, say};

use crate::beside::{run_beside, run_number};
use crate::events::{DAY, Sent};
use crate::generator::{BEGIN, Bridge, Comes, Fault};
use crate::job::{PARTITIONS, Shown};
use crate::sensor::{Alarm, By};

/// Sensors on a bridge and the weather: strain corrected for what each has learned of the weather, and slow drifts found in it
#[derive(Parser)]
#[command(name = "bridge", version)]
struct Options {
    /// Spans of the bridge
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(3..=10_000), help_heading = "Bridge")]
    spans: u32,
    /// Sensors of a span
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(3..=1_000), help_heading = "Bridge")]
    sensors: u32,
    /// Days from the first of January on
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500), help_heading = "Bridge")]
    days: u32,
    /// Minutes between two readings of a sensor
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60), help_heading = "Bridge")]
    every: u32,
    /// Micrometres a metre and week by which some sensors drift; 0 for none
    #[arg(long, value_name = "STRAIN", default_value_t = 1.5, help_heading = "Bridge")]
    drift: f64,
    /// The same number makes up the same bridge and weather
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Bridge")]
    seed: u64,
    #[command(flatten)]
    runner: Runner,
}

fn main() {
    if let Err(error) = nekton::parse::<Options>().and_then(run) {
        say(format_args!("bridge: {error}"));
        std::process::exit(error.exit_code());
    }
}

fn run(options: Options) -> Result<()> {
    let Options { spans, sensors, days, every, drift, seed, runner } = options;
    if runner.process().1 > 1 {
        return Err(Error::config(
            "the bridge is made up and its alarms are judged by one process: leave --processes out",
        ));
    }
    let run = run_number();
    let bridge = Bridge { spans, sensors, days, every, seed, drift };
    let readings = Publisher::open(&runner, "readings", PARTITIONS)?;
    let weather = Publisher::open(&runner, "weather", 1)?;

    let alarms: Arc<Mutex<Vec<Alarm>>> = Arc::default();
    let shown: Arc<OnceLock<Shown>> = Arc::default();
    let (topics, begun) = (runner.topics_url().to_owned(), Instant::now());
    let publish = |over: &AtomicBool| publish(&bridge, run, readings, weather, over);
    let (telling, built) = (alarms.clone(), shown.clone());
    let (_, published) = run_beside(runner, "bridge", publish, move |flow| {
        let told = telling.clone();
        let hear = move |alarm: &Alarm| {
            told.lock().unwrap_or_else(PoisonError::into_inner).push(alarm.clone());
        };
        // The workers of a process build the same views.
        let _ = built.set(job::build(flow, run, (spans, sensors), hear));
    })?;
    println!(
        "{} readings of {} sensors in {days} days, in {:.1} s",
        published,
        spans * sensors,
        begun.elapsed().as_secs_f64()
    );
    let mut alarms = std::mem::take(&mut *alarms.lock().unwrap_or_else(PoisonError::into_inner));
    alarms.sort_by_key(|alarm| (alarm.day, alarm.sensor));
    compare(&bridge.faults(), &alarms);
    shown.get().map_or(Ok(()), print)?;
    println!("Topics at {topics}: sensors, spans, alerts (upsert), alarms");
    Ok(())
}

/// What each test has found of what there was, and what it found besides.
fn compare(faults: &[Fault], alarms: &[Alarm]) {
    println!(
        "{:36}{:>10}{:>14}{:>14}{:>16}",
        "strain corrected by", "found", "days after", "shift then", "false alarms"
    );
    let of = |fault: &Fault, alarm: &Alarm| {
        let day = alarm.day.saturating_sub((BEGIN / DAY) as u32);
        fault.sensor == alarm.sensor && (fault.from..fault.until).contains(&day)
    };
    let tests = [
        ("nothing", By::Nothing),
        ("steel's response, by the book", By::Book),
        ("its own response, as learned", By::Learned),
    ];
    for (name, by) in tests {
        let raised: Vec<&Alarm> = alarms.iter().filter(|alarm| alarm.by == by && alarm.raised).collect();
        let found = faults.iter().filter_map(|fault| {
            let alarm = raised.iter().find(|alarm| of(fault, alarm))?;
            Some((alarm.day - (BEGIN / DAY) as u32 - fault.from, alarm.shift.to_f64().abs()))
        });
        let found: Vec<(u32, f64)> = found.collect();
        let wrong = raised.iter().filter(|alarm| !faults.iter().any(|fault| of(fault, alarm))).count();
        let mean = |sum: f64| match found.len() {
            0 => "-".to_owned(),
            count => format!("{:.1}", sum / count as f64),
        };
        let days = mean(found.iter().map(|(days, _)| f64::from(*days)).sum());
        let shift = mean(found.iter().map(|(_, shift)| shift).sum());
        let of_all = format!("{} of {}", found.len(), faults.len());
        println!("{name:36}{of_all:>10}{days:>14}{shift:>14}{wrong:>16}");
    }
}

/// The alerts that stand.
fn print(shown: &Shown) -> Result<()> {
    let alerts = shown.alerts.snapshot()?.records;
    println!("Alerts in the end:");
    for ((sensor, alert), _) in alerts {
        let since = alert.since.saturating_sub((BEGIN / DAY) as u32);
        let who = if alert.alone { "alone" } else { "with its span" };
        println!(
            "  sensor {sensor:>2} of span {}  since day {since}  {:>6} µm/m  {who}",
            alert.span,
            alert.shift.to_string()
        );
    }
    Ok(())
}

/// Publishes everything, or until the job is over. Returns how many readings there were.
fn publish(
    bridge: &Bridge,
    run: u64,
    mut readings: Publisher,
    mut weather: Publisher,
    over: &AtomicBool,
) -> Result<u64> {
    let mut day = 0;
    for comes in bridge.events() {
        match comes {
            Comes::Reading(event) => {
                let sensor = event.sensor;
                readings.publish(&sensor, &Sent { run, event })?;
            }
            Comes::Weather(event) => {
                let today = event.at / DAY;
                weather.publish("station", &Sent { run, event })?;
                if std::mem::replace(&mut day, today) != today {
                    readings.send()?;
                    weather.send()?;
                }
                if over.load(Ordering::SeqCst) {
                    break;
                }
            }
        }
    }
    let published = readings.published();
    readings.close()?;
    weather.close()?;
    Ok(published)
}
