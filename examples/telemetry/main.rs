//! Telemetry of a fleet: vehicles in pods in clusters, alerts that need several agents at once, and what they come to
//! without times. Try it:
//!
//! ```text
//! cargo run --release --example telemetry
//! ```
//!
//! `docs/telemetry.md` says what the events are, what the topics hold, and why many answers are wrong where agents tell
//! one another what they think.

mod fleet;
mod job;
mod without;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use nekton::{Error, Kind, Publisher, Result, Runner, say};

use crate::fleet::{Fleet, Telemetry};
use crate::job::Told;

/// How many partitions the topic of events gets where it does not exist yet.
const PARTITIONS: u32 = 4;

/// A fleet sends telemetry; nekton looks after its pods, and every answer is compared with what was so
#[derive(Parser)]
#[command(name = "telemetry", version)]
struct Options {
    /// Vehicles; 20 are a pod, and 50 pods a cluster
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(20..), help_heading = "Fleet")]
    vehicles: u32,
    /// Events, after one for each vehicle that fills it up
    #[arg(long, default_value_t = 200_000, help_heading = "Fleet")]
    events: usize,
    /// Events a second; 0 for as fast as it can
    #[arg(long, default_value_t = 0, help_heading = "Fleet")]
    rate: u64,
    /// What chance decides follows from this
    #[arg(long, default_value_t = 1, help_heading = "Fleet")]
    seed: u64,
    #[command(flatten)]
    runner: Runner,
}

fn main() {
    if let Err(error) = nekton::parse::<Options>().and_then(run) {
        say(format_args!("telemetry: {error}"));
        std::process::exit(error.exit_code());
    }
}

fn run(options: Options) -> Result<()> {
    let Options { vehicles, events, rate, seed, runner } = options;
    if runner.process().1 > 1 {
        return Err(Error::config(
            "the fleet is published and checked by one process: leave --processes out",
        ));
    }
    let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let fleet = Fleet::new(vehicles, seed);
    let telemetry: Vec<Telemetry> = fleet.events(events).map(|event| Telemetry { run, event }).collect();
    let publisher = Publisher::open(&runner, "telemetry", PARTITIONS)?;

    let publishing = Arc::new(AtomicBool::new(true));
    let over = AtomicBool::new(false);
    let told = Told::new(&telemetry);
    // Each run is a fleet of its own, and begins at nothing.
    let runner = runner.default_checkpoints("none").end_after(publishing.clone());
    let (topics, begun) = (runner.topics_url().to_owned(), Instant::now());
    let done = std::thread::scope(|scope| {
        let publish = scope.spawn(|| {
            let done = publish(&telemetry, rate, publisher, &over);
            publishing.store(false, Ordering::SeqCst);
            done
        });
        let telling = told.clone();
        let done = runner.run("telemetry", move |flow| job::build(flow, run, &telling));
        over.store(true, Ordering::SeqCst);
        match publish.join() {
            Ok(published) => published.and(done),
            Err(_) => Err(Error::new(Kind::Internal, "the fleet's thread panicked")),
        }
    });
    let summary = done?;
    println!("{} events of {vehicles} vehicles in {:.1} s", summary.events, begun.elapsed().as_secs_f64());
    println!("{:24}{:>12}{:>12}{:>16}{:>16}", "", "answers", "wrong", "false leaks", "false pairs");
    print("with nekton", &told.found());
    print("without times", &without::run(&telemetry, &told));
    println!("Topics at {topics}: pods, alerts, clusters (upsert)");
    Ok(())
}

fn print(name: &str, found: &job::Found) {
    println!(
        "{name:24}{:>12}{:>12}{:>16}{:>16}",
        found.answers, found.wrong, found.false_leaks, found.false_pairs
    );
}

/// Publishes everything, at a rate, or until the job is over.
fn publish(telemetry: &[Telemetry], rate: u64, mut publisher: Publisher, over: &AtomicBool) -> Result<()> {
    let begun = Instant::now();
    for (number, event) in telemetry.iter().enumerate() {
        if rate > 0 {
            let due = Duration::from_secs_f64(number as f64 / rate as f64);
            while let Some(early) = due.checked_sub(begun.elapsed()).filter(|early| !early.is_zero()) {
                publisher.send()?;
                std::thread::sleep(early.min(Duration::from_millis(50)));
                if over.load(Ordering::SeqCst) {
                    return publisher.close();
                }
            }
        }
        if number % 1_024 == 0 && over.load(Ordering::SeqCst) {
            break;
        }
        // A pod's events stay in order.
        publisher.publish(&event.event.pod(), event)?;
    }
    publisher.close()
}
