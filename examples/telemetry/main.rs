//! Telemetry of a fleet: vehicles in pods in clusters, alerts that need several agents at once, and what they come to
//! without times. Try it:
//!
//! ```text
//! cargo run --release --example telemetry
//! ```
//!
//! `docs/telemetry.md` says what the events are, what the topics hold, and why many answers are wrong where agents tell
//! one another what they think.

#[path = "../common/beside.rs"]
mod beside;
mod fleet;
mod job;
mod without;

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Parser;
use nekton::{Error, Publisher, Result, Runner, say};

use crate::beside::{publish_all, run_beside, run_number};
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
    let run = run_number();
    let fleet = Fleet::new(vehicles, seed);
    let telemetry: Vec<Telemetry> = fleet.events(events).map(|event| Telemetry { run, event }).collect();
    let publisher = Publisher::open(&runner, "telemetry", PARTITIONS)?;

    let told = Told::new(&telemetry);
    let (topics, begun) = (runner.topics_url().to_owned(), Instant::now());
    // A pod's events stay in order.
    let publish =
        |over: &AtomicBool| publish_all(&telemetry, |event| event.event.pod(), rate, publisher, over);
    let telling = told.clone();
    let (summary, ()) =
        run_beside(runner, "telemetry", publish, move |flow| job::build(flow, run, &telling))?;
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
