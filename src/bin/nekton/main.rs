//! The `nekton` command: a sandbox with a real Pulsar, new programs, a job's processes, and a look at jobs that run, into
//! topics and checkpoints. Programs are binaries of their own; it never contains any.

mod bell;
mod check;
mod checkpoint;
mod display;
mod explain;
mod inspect;
mod job;
#[cfg(unix)]
mod launch;
mod new;
mod publish;
mod records;
mod sandbox;
mod tail;
mod tap;
#[cfg(unix)]
mod terminal;
#[cfg(unix)]
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A stream processor whose programs are ordinary Rust binaries.
#[derive(Parser)]
#[command(name = "nekton", version, about, arg_required_else_help = true)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Run a real Apache Pulsar on this machine, for trying things
    #[command(subcommand)]
    Sandbox(sandbox::Command),
    /// Write a small program that compiles, runs and has a test
    New(new::Command),
    /// Run a program in several processes on this machine, and again when it dies
    #[cfg(unix)]
    Launch(launch::Command),
    /// Show how jobs do that run: rates, freshness, sizes
    #[cfg(unix)]
    Top(top::Command),
    /// Print what changes in a view of a job, as it happens
    Tap(tap::Command),
    /// Print what all views of a job say of one key, and its links
    Inspect(inspect::Command),
    /// Print the dataflow of a job that runs, as text or as a drawing
    Explain(explain::Command),
    /// Look into topics and write to them
    #[command(subcommand)]
    Topics(Topics),
    /// Say whether a program can go on from its checkpoints, without running it
    Check(check::Command),
    /// Look into checkpoints
    #[command(subcommand)]
    Checkpoint(checkpoint::Command),
}

#[derive(Subcommand)]
enum Topics {
    /// Print the records of a topic, one a line
    Tail(tail::Command),
    /// Write lines from standard input to a topic, one a record
    Publish(publish::Command),
}

fn main() -> ExitCode {
    let outcome = match Command::parse().what {
        What::Sandbox(command) => sandbox::run(command),
        What::New(command) => new::run(&command),
        #[cfg(unix)]
        What::Launch(command) => launch::run(&command),
        #[cfg(unix)]
        What::Top(command) => top::run(&command),
        What::Tap(command) => tap::run(&command),
        What::Inspect(command) => inspect::run(&command),
        What::Explain(command) => explain::run(&command),
        What::Topics(Topics::Tail(command)) => tail::run(&command),
        What::Topics(Topics::Publish(command)) => publish::run(command),
        What::Check(command) => return check::run(command),
        What::Checkpoint(command) => checkpoint::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            nekton::say(format_args!("nekton: {error}"));
            ExitCode::FAILURE
        }
    }
}
