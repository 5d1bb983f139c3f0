//! The ledger: on worker 0, writes which records got which time, and holds each time until that is durable.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};

use super::{Binding, Bound, Durable, Positions};
use crate::error::{Error, Kind, Result};
use crate::job::{Delivery, Shared};
use crate::pace::{Pace, first};
use crate::time::Time;

/// Up to where partitions were read at each time since the last checkpoint, on worker 0.
pub(crate) struct Reads {
    settled: Positions,
    since: VecDeque<Binding>,
    /// The first time of each record of the log that may still be needed.
    logged: VecDeque<Time>,
    /// Records of the log that are not needed any more, and that nobody has been told of.
    obsolete: u64,
    /// All before is in a checkpoint, which the log is still to be told.
    settled_at: Option<Time>,
}

impl Reads {
    pub(crate) fn new(durable: &Durable) -> Self {
        Reads {
            settled: durable.plan.positions(),
            since: durable.plan.bindings.iter().cloned().collect(),
            logged: durable.plan.logged.iter().copied().collect(),
            obsolete: 0,
            settled_at: None,
        }
    }

    /// Up to where partitions had been read before `time`.
    pub(crate) fn before(&self, time: Time) -> Positions {
        let mut positions = self.settled.clone();
        settle(&mut positions, self.since.iter().take_while(|binding| binding.time < time));
        positions
    }

    /// What was bound before `time` is in a checkpoint, and the oldest one that is kept is as of `oldest`.
    pub(crate) fn committed(&mut self, time: Time, oldest: Time) {
        let count = self.since.iter().take_while(|binding| binding.time < time).count();
        self.settled_at = Some(time);
        settle(&mut self.settled, self.since.drain(..count).collect::<Vec<_>>().iter());
        while self.logged.front().is_some_and(|&logged| logged < oldest) {
            self.logged.pop_front();
            self.obsolete += 1;
        }
    }
}

fn settle<'b>(positions: &mut Positions, bindings: impl Iterator<Item = &'b Binding>) {
    for bound in bindings.flat_map(|binding| &binding.bounds) {
        positions.insert((bound.source.clone(), bound.partition), bound.last);
    }
}

/// Builds the ledger and, on every worker, what tells the sinks how far it is.
pub(crate) fn ledger<'s>(
    scope: Scope<'s, Time>,
    bounds: Vec<StreamVec<'s, Time, Bound>>,
    pace: &Rc<Pace>,
    shared: &Arc<Shared>,
    reads: &Rc<RefCell<Reads>>,
) -> Result<()> {
    let durable = shared.durable().ok_or_else(|| Error::new(Kind::Internal, "no durability"))?.clone();
    let mut builder = OperatorBuilder::new("Ledger".to_owned(), scope);
    let address = builder.operator_info().address;
    let mut inputs: Vec<_> =
        bounds.into_iter().map(|bounds| builder.new_input(bounds, Exchange::new(|_: &Bound| 0))).collect();
    let (output, written) = builder.new_output::<Vec<()>>();
    let mut log = None;
    if scope.index() == 0 {
        log = durable.log.lock().ok().and_then(|mut log| log.take());
        let sync = scope.worker().sync_activator_for(address.to_vec());
        durable.log_waker.set(Arc::new(move || {
            // A worker that has gone needs no waking.
            let _ = sync.activate();
        }));
    }
    pace.add_source(scope.activator_for(address));
    let (shared_, reads, pace_) = (shared.clone(), reads.clone(), pace.clone());
    let (delivery, restored) = (shared.config.delivery, durable.plan.restored().unwrap_or(0));
    let (mut opening, obsolete) = (durable.plan.opening.clone(), durable.plan.obsolete);
    builder.build(move |mut capabilities| {
        let _output = output;
        let mut begin = capabilities.pop();
        let mut trims = VecDeque::from([(u64::from(opening.is_some()), obsolete)]);
        let mut pending: BTreeMap<Time, (Capability<Time>, Vec<Bound>)> = BTreeMap::new();
        let mut outstanding: VecDeque<(u64, Capability<Time>)> = VecDeque::new();
        let mut appended = 0;
        let mut since = restored;
        move |frontiers| {
            for input in &mut inputs {
                input.for_each(|capability, bounds| {
                    let time = *capability.time();
                    let held = pending.entry(time).or_insert_with(|| (capability.retain(0), Vec::new()));
                    held.1.append(bounds);
                });
            }
            let held = begin.take();
            let Some(log) = log.as_mut() else { return };
            let frontier = frontiers.iter().filter_map(first).min();
            let work = || -> Result<()> {
                if let Some(opening) = opening.take() {
                    log.append(encoded(&opening)?)?;
                    appended += 1;
                    reads.borrow_mut().logged.push_back(opening.time);
                    // Nothing that is not bound leaves before it is known that nothing is.
                    outstanding.extend(held.filter(|_| opening.void).map(|held| (appended, held)));
                }
                while let Some(entry) = pending.first_entry() {
                    let time = *entry.key();
                    if frontier.is_some_and(|frontier| frontier <= time) {
                        break;
                    }
                    let (capability, bounds) = entry.remove();
                    // The next checkpoint is of a later time.
                    pace_.follow(time + 1);
                    let binding = Binding { time, bounds: folded(bounds), void: false, since };
                    let mut reads = reads.borrow_mut();
                    if delivery == Delivery::ExactlyOnce {
                        log.append(encoded(&binding)?)?;
                        appended += 1;
                        outstanding.push_back((appended, capability));
                        reads.logged.push_back(time);
                    }
                    reads.since.push_back(binding);
                }
                let settled_at = reads.borrow_mut().settled_at.take();
                if let Some(time) = settled_at {
                    since = time;
                    if delivery == Delivery::ExactlyOnce {
                        let mut reads = reads.borrow_mut();
                        // Times in the log never go back, or it could not be cut.
                        let time = reads.logged.back().map_or(time, |&last| last.max(time));
                        log.append(encoded(&Binding { time, bounds: Vec::new(), void: false, since })?)?;
                        appended += 1;
                        reads.logged.push_back(time);
                    }
                }
                let durable = log.durable()?;
                while outstanding.front().is_some_and(|(number, _)| *number <= durable) {
                    outstanding.pop_front();
                }
                let obsolete = std::mem::take(&mut reads.borrow_mut().obsolete);
                if obsolete > 0 && delivery == Delivery::ExactlyOnce {
                    trims.push_back((appended, obsolete));
                }
                // What is cut off must have been followed by what says so.
                while let Some(&(_, count)) = trims.front().filter(|(number, _)| *number <= durable) {
                    trims.pop_front();
                    if count > 0 {
                        log.trim(count)?;
                    }
                }
                Ok(())
            };
            if let Err(error) = work() {
                shared_.fail(error.context("the log of bindings"));
            }
        }
    });

    let mut builder = OperatorBuilder::new("Bound".to_owned(), scope);
    let mut input = builder.new_input(written, Pipeline);
    let pace = pace.clone();
    builder.build(move |_capabilities| {
        move |frontiers| {
            input.for_each(|_, _| {});
            pace.bound(first(&frontiers[0]));
        }
    });
    Ok(())
}

pub(super) fn encoded(binding: &Binding) -> Result<Bytes> {
    let bytes = serde_json::to_vec(binding).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
    Ok(bytes.into())
}

/// One bound a partition: several readings of one time follow one another.
fn folded(bounds: Vec<Bound>) -> Vec<Bound> {
    let mut folded: BTreeMap<(String, u32), Bound> = BTreeMap::new();
    for bound in bounds {
        let known = folded.entry((bound.source.clone(), bound.partition)).or_insert_with(|| bound.clone());
        known.first = known.first.min(bound.first);
        known.last = known.last.max(bound.last);
    }
    folded.into_values().collect()
}
