//! The traffic of a city: signals that say when they will change, queues that are seen coming, and corridors that are
//! congested. Try it:
//!
//! ```text
//! cargo run --release --example traffic                                                       # a minute a second
//! cargo run --release --example traffic -- --intersections 10000 --minutes 10 --speed max
//! ```
//!
//! The city is made up; `docs/traffic.md` says how, what the topics hold, and how good the predictions are.

#[path = "../common/beside.rs"]
mod beside;
mod events;
mod forecaster;
mod generator;
mod intersection;
mod job;
mod models;
#[path = "../common/random.rs"]
mod random;
mod streets;
mod summary;

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::Parser;
use nekton::{Error, Publisher, Result, Runner, say};

use crate::beside::{run_beside, run_number};
use crate::events::{BEGIN, Told};
use crate::generator::City;
use crate::job::{Extras, Shown};
use crate::streets::Streets;

/// All that is told is in one partition: its order is that of the city's clock.
const PARTITIONS: u32 = 1;
/// What is published is at most so far ahead of what has been worked through, in milliseconds of the city's clock: a report is
/// heard beside those of its neighbours from about the same time, however fast time passes.
const LEAD: u64 = 10_000;
/// The most intersections that are shown one by one.
const SCREENS: u32 = 10_000;

/// The traffic of a city that is made up: nekton predicts when its signals change and where cars will wait, and finds the
/// corridors that are congested
#[derive(Parser)]
#[command(name = "traffic", version)]
struct Options {
    /// Intersections with signals
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=4_000_000), help_heading = "City")]
    intersections: u32,
    /// How long, by the clock of the city
    #[arg(long, value_name = "N", default_value_t = 60, help_heading = "City")]
    minutes: u64,
    /// How many times as fast as in the city (60: a minute a second), or max
    #[arg(long, value_name = "N|max", default_value = "60", help_heading = "City")]
    speed: Speed,
    /// What chance decides follows from this
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "City")]
    seed: u64,
    /// Write each prediction when it is made, to the topic `forecasts`
    #[arg(long, help_heading = "City")]
    forecasts: bool,
    /// Publish what the city's controllers tell and do nothing else
    #[arg(long, help_heading = "City")]
    publish_only: bool,
    #[command(flatten)]
    runner: Runner,
}

/// How fast time passes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

impl FromStr for Speed {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Speed::Max),
            Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
            _ => Err("write a number above 0, such as 60 for a minute a second, or max".to_owned()),
        }
    }
}

fn main() {
    if let Err(error) = nekton::parse::<Options>().and_then(run) {
        say(format_args!("traffic: {error}"));
        std::process::exit(error.exit_code());
    }
}

fn run(options: Options) -> Result<()> {
    let Options { intersections, minutes, speed, seed, forecasts, publish_only, runner } = options;
    if runner.process().1 > 1 {
        return Err(Error::config("the city is published by one process: leave --processes out"));
    }
    let run = run_number();
    let publisher = Publisher::open(&runner, "city", PARTITIONS)?;
    let city = City::new(intersections, seed, run);
    let begun = Instant::now();
    if publish_only {
        let published = publish(city, minutes, speed, publisher, None, &AtomicBool::new(false))?;
        let seconds = begun.elapsed().as_secs_f64();
        println!("published {published} events of {intersections} intersections in {seconds:.1} s");
        return Ok(());
    }

    let (topics, workers) = (runner.topics_url().to_owned(), runner.workers());
    let shown: Arc<OnceLock<Shown>> = Arc::default();
    let extras =
        Extras { forecasts, screens: (intersections <= SCREENS).then(|| Streets::new(intersections, seed)) };
    let publish = |over: &AtomicBool| publish(city, minutes, speed, publisher, Some(&shown), over);
    let built = shown.clone();
    run_beside(runner, "traffic", publish, move |flow| {
        // The workers of a process build the same views.
        let _ = built.set(job::build(flow, run, extras));
    })?;
    let Some(shown) = shown.get() else { return Ok(()) };
    summary::print(shown, intersections, workers, begun.elapsed())?;
    println!("Topics at {topics}: predictions, queues, corridors (changes), scores, progress (upsert)");
    Ok(())
}

/// Publishes what the city's controllers tell, at its speed, until it is over; returns how many events that were. Stays close
/// to what has been `shown`.
fn publish(
    mut city: City,
    minutes: u64,
    speed: Speed,
    mut publisher: Publisher,
    shown: Option<&OnceLock<Shown>>,
    over: &AtomicBool,
) -> Result<u64> {
    let begun = Instant::now();
    let mut last = 0;
    city.roads(&mut |told: &Told| publisher.publish(&told.intersection, told))?;
    for second in 0..minutes * 60 {
        let waits = |publisher: &mut Publisher| -> Result<Option<Duration>> {
            if let Speed::Times(times) = speed {
                let early = Duration::from_secs_f64(second as f64 / times).saturating_sub(begun.elapsed());
                if !early.is_zero() {
                    return Ok(Some(early.min(Duration::from_millis(50))));
                }
            }
            let Some(shown) = shown else { return Ok(None) };
            let seen = seen(shown)?.max(BEGIN);
            if city.at() <= seen + LEAD || last <= seen {
                return Ok(None);
            }
            publisher.send()?;
            Ok(Some(Duration::from_millis(1)))
        };
        while let Some(nap) = waits(&mut publisher)? {
            if over.load(Ordering::SeqCst) {
                publisher.close()?;
                return Ok(0);
            }
            std::thread::sleep(nap);
        }
        city.second(&mut |told: &Told| {
            last = told.at;
            publisher.publish(&told.intersection, told)
        })?;
        publisher.send()?;
    }
    let published = publisher.published();
    publisher.close()?;
    Ok(published)
}

/// Up to when everything has been worked through.
fn seen(shown: &OnceLock<Shown>) -> Result<u64> {
    let Some(shown) = shown.get() else { return Ok(0) };
    Ok(shown.progress.snapshot()?.records.first().map_or(0, |((_, progress), _)| progress.at))
}
