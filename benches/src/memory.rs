//! Memory: what an agent costs, all in. Agents with a u64 key and 16 bytes of state come into being one after
//! the other, in scattered order; a fifth of them are seen, and counted by parent (key / 1,000). Measured is what
//! is resident when all events have arrived at the sink, less what was resident before the first. Beside it
//! a bare hash table of the same keys and states, filled in the same order. Each size is measured in
//! processes of its own, so that nothing is left over from the one before.

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;

use nekton::connect::{Polled, Position};
use nekton::differential_dataflow::operators::CountTotal;
use nekton::hash::FixedState;
use nekton::{
    Agent, Block, Context, Feed, Flow, JobConfig, Order, Reading, Result, Time, engine::run as run_job,
};
use serde::{Deserialize, Serialize};

use crate::nowhere::Nowhere;
use crate::process;
use crate::report::Report;

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Numbers of agents.
    #[arg(long, value_delimiter = ',', default_value = "1000000,5000000,10000000,20000000,50000000")]
    agents: Vec<u64>,
    /// What a child process measures.
    #[arg(long, hide = true)]
    child: Option<Subject>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Subject {
    Engine,
    Table,
}

/// What a child process found, in bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Found {
    before: u64,
    after: u64,
    peak: u64,
}

impl Found {
    fn now(before: u64) -> Self {
        Found { before, after: process::resident(), peak: process::peak() }
    }
    fn each(&self, agents: u64) -> f64 {
        self.after.saturating_sub(self.before) as f64 / agents as f64
    }
    fn peak_each(&self, agents: u64) -> f64 {
        self.peak.saturating_sub(self.before) as f64 / agents as f64
    }
}

/// The keys from 0, each once, in scattered order: multiples of a prime that does not divide their number.
fn key(index: u64, agents: u64) -> u64 {
    (u128::from(index) * 2_654_435_761 % u128::from(agents)) as u64
}

/// An agent of 16 bytes.
#[derive(Serialize, Deserialize)]
struct Meter {
    value: u64,
    seen: Time,
}

impl Agent for Meter {
    type Key = u64;
    type Event = (u64, u64);
    /// Only those with high values are seen.
    type View = ();
    type Emit = ();
    fn create(_key: &u64) -> Self {
        Meter { value: 0, seen: 0 }
    }
    fn on_event(&mut self, event: &(u64, u64), context: &mut Context<'_, Self>) {
        *self = Meter { value: event.1, seen: context.time() };
    }
    fn view(&self) -> Option<()> {
        (self.value % 100 >= 80 && self.seen > 0).then_some(())
    }
}

/// One event for each agent; measures when all have arrived.
struct Once {
    agents: u64,
    at: u64,
    before: Option<u64>,
    stamped: Time,
    done: bool,
}

impl Feed<(u64, u64)> for Once {
    fn poll(&mut self, budget: usize, into: &mut Reading<(u64, u64)>) -> Result<Polled> {
        self.before.get_or_insert_with(process::resident);
        if self.done {
            return Ok(Polled::End);
        }
        let mut left = (budget as u64 / 16).min(self.agents - self.at);
        while left > 0 {
            let size = left.min(10_000);
            let position = Position { entry: self.at, ..Position::default() };
            let order = Order { source: 0, partition: 0, position };
            let events = (self.at..self.at + size).map(|index| (key(index, self.agents), index)).collect();
            into.blocks.push(Block { order, events });
            self.at += size;
            left -= size;
        }
        Ok(if self.at == self.agents { Polled::Idle } else { Polled::More })
    }
    fn stamped(&mut self, time: Time) {
        self.stamped = time;
    }
    fn arrived(&mut self, time: Time) {
        if self.at == self.agents && time > self.stamped && !self.done {
            self.done = true;
            say(Found::now(self.before.unwrap_or_default()));
        }
    }
}

fn engine(agents: u64) {
    let program = move |flow: &mut Flow<'_>| {
        let events =
            flow.feed("once", |_, _, _| Once { agents, at: 0, before: None, stamped: 0, done: false });
        let high = events.agents::<Meter>("meters", |&(key, _)| key);
        flow.each_time(&high.map(|(key, ())| key / 1_000).count_total(), |_, updates| {
            black_box(updates);
        });
    };
    let mut config = JobConfig::new("memory");
    config.until_end = true;
    run_job(config, Arc::new(Nowhere), program).expect("the job runs");
}

fn table(agents: u64) {
    let before = process::resident();
    let mut table = hashbrown::HashMap::<u64, (u64, Time), FixedState>::default();
    for index in 0..agents {
        table.insert(key(index, agents), (index, 1));
    }
    black_box(&table);
    say(Found::now(before));
}

fn say(found: Found) {
    println!("{}", serde_json::to_string(&found).expect("plain data"));
}

fn child(subject: &str, agents: u64) -> Found {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args(["memory", "--child", subject, "--agents", &agents.to_string()])
        .output()
        .expect("this program can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    said.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| {
        panic!("measuring {subject} with {agents} agents failed: {} {errors}", output.status)
    })
}

/// Runs the measurement; `None` in a child process, which says what it found by itself.
pub fn run(options: &Options) -> Option<Report> {
    match options.child {
        Some(Subject::Engine) => options.agents.iter().for_each(|&agents| engine(agents)),
        Some(Subject::Table) => options.agents.iter().for_each(|&agents| table(agents)),
        None => return Some(report(options)),
    }
    None
}

fn report(options: &Options) -> Report {
    let mut report = Report::new("memory");
    let mut last = None;
    for &agents in &options.agents {
        let millions = agents as f64 / 1e6;
        let [engine, table] = ["engine", "table"].map(|subject| child(subject, agents));
        for (name, found) in [("engine", engine), ("bare table", table)] {
            report.figure(format!("{name}, {millions} M agents"), found.each(agents), "bytes each");
            report.figure(
                format!("{name}, {millions} M agents, peak"),
                found.peak_each(agents),
                "bytes each",
            );
        }
        report.figure(
            format!("engine / bare table, {millions} M agents"),
            engine.each(agents) / table.each(agents),
            "",
        );
        last = Some((millions, engine.each(agents)));
    }
    if let Some((millions, each)) = last {
        report.at_most(format!("bytes an agent at {millions} M, at most"), 45.0, each);
    }
    report
}
