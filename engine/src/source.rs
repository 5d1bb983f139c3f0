//! The source operator: reads a feed at the worker's pace and stamps what it read.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};

use crate::agents::SETTLING;
use crate::connect::{PartitionId, Polled, Position, Waker};
use crate::dead_letter::DeadLetter;
use crate::durable::Bound;
use crate::error::Result;
use crate::events::Block;
use crate::job::Shared;
use crate::live::Counted;
use crate::pace::{Pace, Quantum};
use crate::time::Time;

/// How often a source at its end looks whether something is still being published.
const HOLD_CHECK: Duration = Duration::from_millis(20);

/// How long a source that is to end at a time sleeps at most, until then.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What one turn of a [`Feed`] read.
#[derive(Debug)]
pub struct Reading<E> {
    /// Events, in blocks whose `order.source` the engine fills in.
    pub blocks: Vec<Block<E>>,
    /// Records that could not be read.
    pub dead_letters: Vec<Block<DeadLetter>>,
}

impl<E> Default for Reading<E> {
    fn default() -> Self {
        Reading { blocks: Vec::new(), dead_letters: Vec::new() }
    }
}

/// The share of an input that one worker reads, already decoded. Topics are one implementation;
/// generators and recorded scripts are others.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// use nekton_engine::connect::Polled;
///
/// /// The even numbers below 10, with their own times: 0 at 1, 2 at 3, and so on.
/// struct Even(u64);
///
/// impl Feed<u64> for Even {
///     fn poll(&mut self, _budget: usize, into: &mut Reading<u64>) -> Result<Polled> {
///         let position = Position { entry: self.0, ..Position::default() };
///         let order = Order { source: 0, partition: 0, position };
///         into.blocks.push(Block { order, events: vec![self.0] });
///         self.0 += 2;
///         Ok(if self.0 < 10 { Polled::More } else { Polled::End })
///     }
///     fn next_time(&self) -> Option<Time> {
///         Some(self.0 + 1)
///     }
/// }
///
/// # let topics = job(&[], |flow| {
/// let even = flow.feed("even", |_worker, _workers, _waker| Even(0));
/// flow.sink("even", &even);
/// # });
/// assert_eq!(topics.lines("even"), ["0", "2", "4", "6", "8"]);
/// ```
pub trait Feed<E>: 'static {
    /// Reads about `budget` bytes without blocking.
    fn poll(&mut self, budget: usize, into: &mut Reading<E>) -> Result<Polled>;
    /// The last [`Reading`] got this time.
    fn stamped(&mut self, time: Time) {
        let _ = time;
    }
    /// What was read since this was last called: partitions, with the first and last position of each. A feed
    /// that tells nothing cannot be read again after a restart.
    fn bounds(&mut self, into: &mut Vec<(PartitionId, Position, Position)>) {
        let _ = into;
    }
    /// Whether the reading for [`Feed::next_time`] is whole; otherwise more of that time follows.
    fn whole(&self) -> bool {
        true
    }
    /// Whether [`Feed::next_time`] is one at which an earlier run has read the same: such readings are paced.
    fn replays(&self) -> bool {
        false
    }
    /// Everything stamped with a time below `time` has left on all sinks.
    fn arrived(&mut self, time: Time) {
        let _ = time;
    }
    /// For an input that brings its own times: the time of the next reading, which is then all of
    /// that time. Times must rise, and be below `Time::MAX`. Such a feed ignores pace and clock.
    fn next_time(&self) -> Option<Time> {
        None
    }
}

/// The streams of a source operator.
pub(crate) struct Sourced<'s, E: Clone + 'static> {
    pub(crate) events: StreamVec<'s, Time, Block<E>>,
    pub(crate) dead_letters: StreamVec<'s, Time, Block<DeadLetter>>,
    pub(crate) progress: StreamVec<'s, Time, ()>,
    pub(crate) bounds: StreamVec<'s, Time, Bound>,
}

/// Builds a source operator. `feed` gets the waker to call when there is something to read.
pub(crate) fn source<'s, E, F>(
    scope: Scope<'s, Time>,
    name: &str,
    number: u32,
    pace: &Rc<Pace>,
    shared: &Arc<Shared>,
    feed: impl FnOnce(Waker) -> F,
) -> Sourced<'s, E>
where
    E: Clone + 'static,
    F: Feed<E>,
{
    let mut builder = OperatorBuilder::new(format!("Source: {name}"), scope);
    let info = builder.operator_info();
    pace.add_source(scope.activator_for(info.address.clone()));
    let slot = pace.add_reader();
    let activator = scope.activator_for(info.address.clone());
    let sync = scope.worker().sync_activator_for(info.address.to_vec());
    let mut feed = feed(Arc::new(move || {
        // A worker that has gone needs no waking.
        let _ = sync.activate();
    }));

    let (output, blocks) = builder.new_output::<Vec<Block<E>>>();
    let mut output = OutputBuilder::from(output);
    let (dead_output, dead_blocks) = builder.new_output::<Vec<Block<DeadLetter>>>();
    let mut dead_output = OutputBuilder::from(dead_output);
    let (progress_output, progress) = builder.new_output::<Vec<()>>();
    let (bounds_output, bounds) = builder.new_output::<Vec<Bound>>();
    let mut bounds_output = OutputBuilder::from(bounds_output);

    let name = name.to_owned();
    let durable = shared.keeps().is_some();
    let (pace, shared) = (pace.clone(), shared.clone());
    let read_here = shared.counters.named(Counted::Read, &name);
    builder.build_reschedule(move |capabilities| {
        let mut capabilities = Some(capabilities);
        let mut quantum = Quantum::new();
        let mut reading = Reading::default();
        let mut released = 0;
        let mut read = Vec::new();
        let until = shared.until();
        let (mut over, mut alarm) = (false, None::<Instant>);
        // In a program with a loop: when this has ended, and until when it stays then.
        let (mut ended, mut stays) = (None::<Time>, None::<Time>);
        // Keeps the port, which never carries data.
        let _progress_output = progress_output;
        move |_frontiers| {
            // The operator stays until the last of what it read has arrived, so that its feed is told.
            let unfinished =
                if durable { !pace.commits_ended() } else { pace.arrived().is_some() } && !shared.failed();
            // What is in a checkpoint will not be read again; without checkpoints, what has arrived.
            let arrived = if durable { pace.committed() } else { pace.arrived().unwrap_or(Time::MAX) };
            if arrived > released {
                released = arrived;
                feed.arrived(arrived);
            }
            let Some(held) = capabilities.as_mut() else { return unfinished };
            pace.hold(slot, Some(*held[0].time()));
            if shared.failed() {
                // Its time stays open: to other processes, one of which only a part was read must not look closed.
                return unfinished;
            }
            let scripted = feed.next_time();
            let replays = scripted.is_some() && feed.replays();
            // What is bound is read again even so: a checkpoint contains it as soon as it is of a later time.
            let stopped = shared.config.stop.requested() && !replays;
            if pace.loops() && (ended.is_some() || stopped) {
                let open = pace.open().max(*held[0].time());
                let since = *ended.get_or_insert_with(|| {
                    pace.ends_reading();
                    open
                });
                if stays.is_none() {
                    held.iter_mut().for_each(|capability| capability.downgrade(&open));
                    pace.hold(slot, Some(open));
                    if !pace.all_read() {
                        return unfinished;
                    }
                    let settled = if stopped { 0 } else { since.saturating_add(SETTLING).min(Time::MAX - 1) };
                    stays = Some(settled.max(open.saturating_sub(1)));
                }
                // All agents have read what is due by then, on all workers, before any hears of the end.
                let until = stays.unwrap_or_default();
                pace.start_after(until);
                held.iter_mut().for_each(|capability| capability.downgrade(&until.saturating_add(1)));
                pace.hold(slot, Some(*held[0].time()));
                if pace.arrived().is_none_or(|arrived| arrived > until) {
                    capabilities = None;
                    pace.hold(slot, None);
                }
                return unfinished;
            }
            if stopped {
                capabilities = None;
                pace.hold(slot, None);
                return unfinished;
            }
            if let Some((until, only_bound)) = until {
                over |= scripted.map_or(only_bound || pace.present() > until, |time| time > until);
                if over {
                    // Timers that are due by then fire before the end.
                    pace.start_after(until);
                    for capability in held.iter_mut().filter(|capability| *capability.time() <= until) {
                        capability.downgrade(&(until + 1));
                    }
                    if pace.arrived().is_none_or(|arrived| arrived > until) {
                        capabilities = None;
                        pace.hold(slot, None);
                    }
                    return unfinished;
                }
                let instant = shared.machine.instant();
                if alarm.is_none_or(|alarm| alarm <= instant) {
                    let left = until.saturating_sub(shared.machine.now()).saturating_add(1);
                    let wait = Duration::from_millis(left).min(LONGEST_WAIT);
                    alarm = Some(instant + wait);
                    pace.wake_after(&activator, wait);
                }
            }
            if replays && !pace.may_replay() {
                // An arrival wakes this again.
                return unfinished;
            }
            if scripted.is_none() && *held[0].time() < pace.open() {
                for capability in held.iter_mut() {
                    capability.downgrade(&pace.open());
                }
            }
            let time = match (scripted, pace.turn()) {
                (Some(time), _) | (None, Ok(time)) => time,
                (None, Err(wait)) => {
                    if let Some(wait) = wait {
                        pace.wake_after(&activator, wait);
                    }
                    return unfinished;
                }
            };
            let polled = match feed.poll(quantum.bytes(), &mut reading) {
                Ok(polled) => polled,
                Err(error) => {
                    shared.fail(error);
                    return false;
                }
            };
            quantum.adapt(polled == Polled::More, shared.machine.instant());
            if !(reading.blocks.is_empty() && reading.dead_letters.is_empty()) {
                feed.stamped(time);
                for capability in held.iter_mut() {
                    capability.downgrade(&time);
                }
                if scripted.is_none() {
                    pace.stamp(time);
                }
                feed.bounds(&mut read);
                if durable && !replays && !read.is_empty() {
                    let mut handle = bounds_output.activate();
                    let mut session = handle.session(&held[3]);
                    for &(partition, first, last) in &read {
                        session.give(Bound { source: name.clone(), partition, first, last });
                    }
                }
                read.clear();
                if !reading.blocks.is_empty() {
                    let mut handle = output.activate();
                    let mut session = handle.session(&held[0]);
                    for mut block in reading.blocks.drain(..) {
                        shared.counters.events.fetch_add(block.events.len() as u64, Ordering::Relaxed);
                        read_here.fetch_add(block.events.len() as u64, Ordering::Relaxed);
                        block.order.source = number;
                        session.give(block);
                    }
                }
                if !reading.dead_letters.is_empty() {
                    let mut handle = dead_output.activate();
                    let mut session = handle.session(&held[1]);
                    for mut block in reading.dead_letters.drain(..) {
                        shared.counters.dead_letters.fetch_add(block.events.len() as u64, Ordering::Relaxed);
                        block.order.source = number;
                        session.give(block);
                    }
                }
            }
            match polled {
                Polled::End if until.is_some() => {
                    over = true;
                    activator.activate();
                }
                Polled::End if pace.loops() => {
                    ended = held.first().map(|held| pace.open().max(*held.time()));
                    pace.ends_reading();
                    activator.activate();
                    return unfinished;
                }
                Polled::End => {
                    capabilities = None;
                    pace.hold(slot, None);
                }
                Polled::More => activator.activate(),
                // Nobody wakes a source when the hold is lifted.
                Polled::Idle if shared.held_open() => pace.wake_after(&activator, HOLD_CHECK),
                Polled::Idle => {}
            }
            // A feed that brings its own times closes each with its reading.
            if let Some(held) = capabilities.as_mut()
                && scripted.is_some()
            {
                if !feed.whole() {
                    return unfinished;
                }
                if replays {
                    pace.replayed(time);
                    activator.activate();
                }
                let next = feed.next_time().map_or(time + 1, |next| next.max(time + 1));
                for capability in held.iter_mut() {
                    capability.downgrade(&next);
                }
            }
            unfinished
        }
    });

    Sourced { events: blocks, dead_letters: dead_blocks, progress, bounds }
}
