//! The dataflow of a job as it runs, for whoever looks at it: operators, channels, how long each works, what waits where.

use std::time::Duration;

use crate::time::Time;

/// The dataflow of one process, from [`Live::dataflow`](crate::Live::dataflow): its shape, and what its operators have done so far.
/// Figures are sums over the workers of the process; take the difference of two for rates. What waits where, and what is
/// held, is of all processes, as the first worker knows it.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # use std::sync::Arc;
/// use nekton_engine::{Part, dataflow::Operator};
///
/// # let topics = Memory::default();
/// # topics.publish("readings", &["[7,64]", "[8,12]"]);
/// let config = JobConfig { until_end: true, ..JobConfig::new("house") };
/// let live = config.live.clone();
/// run(config, Arc::new(topics), |flow| {
///     let readings = flow.events::<(u64, i64)>("readings");
///     let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor);
///     flow.view("hot", &sensors.filter(|(_, celsius)| *celsius > 60));
/// })?;
/// let dataflow = live.dataflow();
/// let named = |part| dataflow.operators.iter().find(|operator: &&Operator| operator.part() == part);
/// assert_eq!(named(Part::Root).map(Operator::title), Some("sensors"));
/// assert_eq!(named(Part::View).map(Operator::title), Some("hot"));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Dataflow {
    /// How many workers the figures are of.
    pub workers: usize,
    /// How long they had run when they told, all together.
    pub ran: Duration,
    /// The operators, and the scopes that they are in. A scope stands before what is in it.
    pub operators: Vec<Operator>,
    /// What leads from one to another.
    pub channels: Vec<Channel>,
}

/// What an operator is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Reads a topic.
    Source,
    /// Holds agents.
    Root,
    /// Computes from others.
    Derived,
    /// Writes a topic.
    Sink,
    /// Keeps a view.
    View,
    /// Belongs to nekton: time, bindings, checkpoints.
    Own,
}

/// An operator, or a scope with operators in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operator {
    /// A number of its own.
    pub id: usize,
    /// The numbers of the scopes that it is in, from the outermost on, each within the one before, and its own.
    pub address: Vec<usize>,
    /// What it is called.
    pub name: String,
    /// How long it has worked, without what is in it.
    pub busy: Duration,
    /// How often it has been called.
    pub calls: u64,
    /// How many updates it keeps in order, if it does.
    pub arranged: Option<u64>,
    /// How many batches of records wait for it.
    pub waiting: u64,
    /// The earliest time that waits for it, or that it holds open. A scope: what waits for it from outside.
    pub holds: Option<Time>,
}

impl Operator {
    /// What it is for, by its name.
    pub fn part(&self) -> Part {
        match self.name.split_once(": ") {
            Some(("Source", _)) => Part::Source,
            Some(("Agents", _)) => Part::Root,
            Some(("Sink", _)) => Part::Sink,
            Some(("View", _)) => Part::View,
            _ if OWN.contains(&&self.name[..]) => Part::Own,
            _ => Part::Derived,
        }
    }

    /// Its name, without what it is for.
    pub fn title(&self) -> &str {
        match self.part() {
            Part::Derived | Part::Own => &self.name,
            _ => self.name.split_once(": ").map_or(&self.name, |(_, title)| title),
        }
    }
}

/// What the engine calls its own operators.
const OWN: [&str; 9] =
    ["Pace", "Ticks", "Gate", "Marks", "Ledger", "Bound", "Commit", "Committed", "Last times"];

/// A channel from one operator to another in the same scope. The number 0 is the scope's own side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// A number of its own.
    pub id: usize,
    /// The address of the scope.
    pub scope: Vec<usize>,
    /// The number of the operator that it leads from, within the scope.
    pub from: usize,
    /// The number of the operator that it leads to.
    pub to: usize,
    /// What has gone through: records, or blocks of events.
    pub records: u64,
    /// Whether those are blocks of events, of up to thousands each.
    pub blocks: bool,
}
