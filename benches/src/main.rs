//! nekton's measurements. Each runs its baseline in the same process and minute, because machines are
//! noisy and only ratios mean something.

mod report;
mod w1;

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
}

fn main() {
    let arguments = Arguments::parse();
    let report = match arguments.bench {
        Bench::W1(options) => w1::run(&options),
    };
    report.print(arguments.json);
}
