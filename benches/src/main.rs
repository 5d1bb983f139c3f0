//! nekton's measurements. Each runs its baseline in the same process and minute, because machines are
//! noisy and only ratios mean something.

mod again;
mod checkpoints;
mod durability;
mod fanout;
mod latency;
mod learn;
mod links;
mod live;
mod memory;
mod nowhere;
mod process;
mod proximity;
mod pulsar;
#[path = "../../examples/common/random.rs"]
mod random;
mod recovery;
mod report;
mod w1;
mod warp;
mod windows;

use clap::{Parser, Subcommand};

/// Measures nekton against baselines of the same run.
#[derive(Parser)]
#[command(name = "nekton-benches")]
struct Arguments {
    /// Print one JSON object with all figures on the last line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Events of 1 M agents, counted by status and parent, against a hash-table loop in one thread.
    W1(w1::Options),
    /// Bytes of memory an agent, against a bare hash table.
    Memory(memory::Options),
    /// From when an event is due to its change at the sink, at fixed rates; and what an idle job costs.
    Latency(latency::Options),
    /// One link changed among many: from the change to the new roll-up, components and reachability, against
    /// computing them anew.
    Links(links::Options),
    /// Models in agents: predictions and updates a second, alone and in agents, against a loop with a hash table.
    Learn(learn::Options),
    /// Moving agents: moves a second to the new links between those near one another, against a loop with a grid.
    Proximity(proximity::Options),
    /// Windows in event time with many keys and late events, against a loop in one thread.
    Windows(windows::Options),
    /// Checkpoints and bindings on against off: throughput, latency, and the longest pause.
    Durability(durability::Options),
    /// From a start to the first new output, with the state of many agents to be restored.
    Recovery(recovery::Options),
    /// Sizes of checkpoints, against the state and against what has changed.
    Checkpoints(checkpoints::Options),
    /// One view to many clients: the job's throughput with and without them, and what one of them costs.
    Fanout(fanout::Options),
    /// A backlog and latency on a real Apache Pulsar, against pulsar-perf. Needs Java 17 and, the first time, Maven.
    Pulsar(pulsar::Options),
    /// Commands of a client of SwimOS's protocol, to agents and back to 1,000 links, against a publisher.
    Warp(warp::Options),
}

fn main() {
    let arguments = Arguments::parse();
    let report = match arguments.bench {
        Bench::W1(options) => Some(w1::run(&options)),
        Bench::Memory(options) => memory::run(&options),
        Bench::Latency(options) => Some(latency::run(&options)),
        Bench::Links(options) => Some(links::run(&options)),
        Bench::Learn(options) => Some(learn::run(&options)),
        Bench::Proximity(options) => Some(proximity::run(&options)),
        Bench::Windows(options) => Some(windows::run(&options)),
        Bench::Durability(options) => Some(durability::run(&options)),
        Bench::Recovery(options) => recovery::run(&options),
        Bench::Checkpoints(options) => Some(checkpoints::run(&options)),
        Bench::Fanout(options) => fanout::run(&options),
        Bench::Warp(options) => Some(warp::run(&options)),
        Bench::Pulsar(options) => match pulsar::run(&options) {
            Ok(report) => Some(report),
            Err(error) => {
                nekton::say(format_args!("nekton-benches: {error}"));
                std::process::exit(1);
            }
        },
    };
    if let Some(report) = report {
        report.print(arguments.json);
    }
}
