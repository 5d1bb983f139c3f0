//! Pace: which time records get, when an epoch closes, and how much may be in flight.
//!
//! Every worker has one [`Pace`]. Its sources stamp what they read with the worker's open epoch; after
//! the step in which something was read, the epoch is closed, and no earlier than a millisecond
//! later the next one is filled with all that has come in meanwhile. So an event that comes alone leaves
//! at once, and under load epochs widen by themselves.
//!
//! * **Ticks.** A worker that closed an epoch tells all others to go on to the next time, so that
//!   none of them holds it back. Nothing is sent while nothing happens: an idle job is parked.
//! * **Back-pressure.** A source reads only while fewer than [`MAX_IN_FLIGHT`] of its worker's epochs
//!   are on their way; the [gate](gate) sees them arrive at every root, sink and view. A read is
//!   bounded in bytes, see [`Quantum`].
//! * **Timers** of agents are due at times of their own: the pace closes epochs for them when nobody else does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use timely::progress::frontier::MutableAntichain;
use timely::progress::operate::FrontierInterest;
use timely::scheduling::Activator;

use crate::job::Shared;
use crate::machine::Machine;
use crate::time::Time;
use std::sync::Arc;

/// The most epochs of one worker that are on their way from its sources to the sinks.
pub const MAX_IN_FLIGHT: usize = 6;

/// The time between two epochs of one worker, on the average at least.
const EPOCH: Duration = Duration::from_millis(1);

/// The pace of one worker.
pub(crate) struct Pace {
    shared: Arc<Shared>,
    /// The worker's number in its process.
    local: usize,
    /// The time that the next record gets at least; all before is closed here.
    open: Cell<Time>,
    /// The furthest that a peer has asked this worker to go.
    asked: Cell<Time>,
    /// The open epoch's time, once something was stamped with it.
    stamped: Cell<Option<Time>>,
    /// When the next epoch may be opened. What one was late by, the next one may be early: timers
    /// are always a little late, and delays must not add up where an event comes every millisecond.
    next: Cell<Option<Instant>>,
    /// Closed times on their way.
    in_flight: RefCell<VecDeque<Time>>,
    /// All before this time has arrived everywhere; `None` when nothing will ever follow.
    arrived: Cell<Option<Time>>,
    /// A tick that peers are to be told.
    tick: Cell<Option<Time>>,
    /// Peers that have not said yet where their times start.
    unheard: Cell<usize>,
    /// The earliest timer of each root on this worker.
    timers: RefCell<Vec<Option<Time>>>,
    /// All before this time is bound, durably; `None` when nothing more will be.
    bound: Cell<Option<Time>>,
    /// All before this time is in a checkpoint.
    committed: Cell<Time>,
    /// No more checkpoints will be committed.
    commits_ended: Cell<bool>,
    /// The last time that a sink of this worker has written.
    wrote: Cell<Time>,
    /// The last time of all workers, once all is written.
    last: Cell<Option<Time>>,
    /// Whether there are agents that read what depends on their own views.
    loops: Cell<bool>,
    /// By source of this worker: from where on its times are open.
    holding: RefCell<Vec<Option<Time>>>,
    /// Sources of this worker that have not ended, and workers that have such.
    reading: Cell<usize>,
    unended: Cell<usize>,
    /// Peers are to be told that all sources of this worker have ended.
    ended: Cell<bool>,
    /// Whom to wake when any of this changes.
    sources: RefCell<Vec<Activator>>,
    /// On a simulated machine: whom to wake when.
    alarms: RefCell<Vec<(Instant, Activator)>>,
}

impl Pace {
    pub(crate) fn new(shared: Arc<Shared>, local: usize) -> Rc<Self> {
        Rc::new(Pace {
            shared,
            local,
            open: Cell::new(0),
            asked: Cell::new(0),
            stamped: Cell::new(None),
            next: Cell::new(None),
            in_flight: RefCell::default(),
            arrived: Cell::new(Some(0)),
            tick: Cell::new(None),
            unheard: Cell::new(0),
            timers: RefCell::default(),
            bound: Cell::new(Some(0)),
            committed: Cell::new(0),
            commits_ended: Cell::new(false),
            wrote: Cell::new(0),
            last: Cell::new(None),
            loops: Cell::new(false),
            holding: RefCell::default(),
            reading: Cell::new(0),
            unended: Cell::new(0),
            ended: Cell::new(false),
            sources: RefCell::default(),
            alarms: RefCell::default(),
        })
    }

    /// The machine that this runs on.
    pub(crate) fn machine(&self) -> &Machine {
        &self.shared.machine
    }

    /// Wakes an operator after so long.
    pub(crate) fn wake_after(&self, activator: &Activator, delay: Duration) {
        if self.shared.machine.is_simulated() {
            self.alarms.borrow_mut().push((self.shared.machine.instant() + delay, activator.clone()));
        } else {
            activator.activate_after(delay);
        }
    }

    /// Before a step on a simulated machine: wakes whom it is time for.
    pub(crate) fn ring(&self) {
        let now = self.shared.machine.instant();
        self.alarms.borrow_mut().retain(|(at, activator)| {
            if *at <= now {
                activator.activate();
            }
            *at > now
        });
    }

    /// Adds an operator to be woken at every change.
    pub(crate) fn add_source(&self, activator: Activator) {
        self.sources.borrow_mut().push(activator);
    }

    pub(crate) fn wake(&self) {
        for source in self.sources.borrow().iter() {
            source.activate();
        }
    }

    /// The time below which this worker will stamp nothing more.
    pub(crate) fn open(&self) -> Time {
        self.open.get()
    }

    /// All before this time has arrived at every root, sink and view; `None` at the very end.
    pub(crate) fn arrived(&self) -> Option<Time> {
        self.arrived.get()
    }

    /// Whether all peers have built their dataflows and said where their times start.
    pub(crate) fn all_heard(&self) -> bool {
        self.unheard.get() == 0
    }

    /// Whether a source may read now: `Ok` with the time to stamp, or how long to wait, where it is
    /// known (otherwise an arrival will wake the source).
    pub(crate) fn turn(&self) -> Result<Time, Option<Duration>> {
        if let Some(time) = self.stamped.get() {
            return Ok(time);
        }
        // No new time may be below what any partition of an output holds already.
        if self.unheard.get() > 0 || self.in_flight.borrow().len() >= MAX_IN_FLIGHT {
            return Err(None);
        }
        if let Some(next) = self.next.get() {
            let wait = next.saturating_duration_since(self.shared.machine.instant());
            if !wait.is_zero() {
                return Err(Some(wait));
            }
        }
        Ok(self.open.get().max(self.shared.machine.now()))
    }

    /// The time that a record would get now.
    pub(crate) fn present(&self) -> Time {
        self.stamped.get().unwrap_or_else(|| self.open.get().max(self.shared.machine.now()))
    }

    /// Something was stamped with `time`: the epoch closes when this step of the worker is over.
    pub(crate) fn stamp(&self, time: Time) {
        if self.stamped.get().is_none() {
            self.stamped.set(Some(time));
            let now = self.shared.machine.instant();
            let in_time = |next: &Instant| now.saturating_duration_since(*next) < EPOCH;
            self.next.set(Some(self.next.get().filter(in_time).unwrap_or(now) + EPOCH));
            self.shared.counters.epochs.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// New times start behind `time`, on the other workers as well.
    pub(crate) fn start_after(&self, time: Time) {
        if self.open.get() <= time {
            self.open.set(time + 1);
            self.tick.set(Some(time + 1));
        }
    }

    /// Called after every step of the worker: closes the epoch that was filled in it.
    pub(crate) fn after_step(&self) {
        if let Some(time) = self.stamped.take() {
            self.in_flight.borrow_mut().push_back(time);
            self.show();
            self.open.set(self.open.get().max(self.asked.get()).max(time + 1));
            self.tick.set(Some(self.open.get()));
            self.wake();
        }
    }

    /// A peer goes on to `time`, or has read at the time before it. While an epoch is being filled, that waits for the step's end.
    pub(crate) fn follow(&self, time: Time) {
        self.asked.set(self.asked.get().max(time));
        if self.stamped.get().is_none() && self.open.get() < time {
            self.open.set(time);
            self.wake();
        }
    }

    /// Whether an epoch is being filled in this step.
    pub(crate) fn filling(&self) -> bool {
        self.stamped.get().is_some()
    }

    /// Tells all peers to go on to `time`, at which nothing was read.
    pub(crate) fn tell(&self, time: Time) {
        self.tick.set(Some(time));
        self.wake();
    }

    /// An epoch of a time of long ago was read again: it is in flight like others.
    pub(crate) fn replayed(&self, time: Time) {
        self.in_flight.borrow_mut().push_back(time);
        self.show();
    }

    /// Tells who looks on what is in flight.
    fn show(&self) {
        let in_flight = self.in_flight.borrow();
        let oldest = in_flight.front().copied().unwrap_or_default();
        self.shared.counters.in_flight[self.local].set(in_flight.len(), oldest);
    }

    /// Whether what was read before may be read again now, or too much of that is in flight.
    pub(crate) fn may_replay(&self) -> bool {
        self.in_flight.borrow().len() < MAX_IN_FLIGHT
    }

    /// All before `time` is bound durably; sinks may write it.
    pub(crate) fn bound(&self, time: Option<Time>) {
        if self.bound.get() != time {
            self.bound.set(time);
            self.wake();
        }
    }

    /// The first time that is not bound durably; `None` if all are.
    pub(crate) fn unbound(&self) -> Option<Time> {
        self.bound.get()
    }

    /// All before `time` is in a checkpoint.
    pub(crate) fn commit(&self, time: Time) {
        self.committed.set(self.committed.get().max(time));
        self.wake();
    }

    pub(crate) fn committed(&self) -> Time {
        self.committed.get()
    }

    pub(crate) fn commits_end(&self) {
        self.commits_ended.set(true);
        self.wake();
    }

    pub(crate) fn commits_ended(&self) -> bool {
        self.commits_ended.get()
    }

    /// A sink writes messages of `time`.
    pub(crate) fn write(&self, time: Time) {
        self.wrote.set(self.wrote.get().max(time));
    }

    pub(crate) fn wrote(&self) -> Time {
        self.wrote.get()
    }

    /// All is written, on all workers; the last time was `time`.
    pub(crate) fn end_at(&self, time: Time) {
        self.last.set(Some(time));
        self.wake();
    }

    /// The last time of all workers, once all is written.
    pub(crate) fn last(&self) -> Option<Time> {
        self.last.get()
    }

    /// The program has agents that read what depends on their own views.
    pub(crate) fn add_loop(&self) {
        self.loops.set(true);
    }

    /// Whether it has. Then a source that has ended stays until all have: what went round would go on without the clock.
    pub(crate) fn loops(&self) -> bool {
        self.loops.get()
    }

    /// A source will read; its slot.
    pub(crate) fn add_reader(&self) -> usize {
        self.reading.set(self.reading.get() + 1);
        let mut holding = self.holding.borrow_mut();
        holding.push(Some(0));
        holding.len() - 1
    }

    /// A source's times are open from here on; `None`: they are over.
    pub(crate) fn hold(&self, slot: usize, from: Option<Time>) {
        let before = std::mem::replace(&mut self.holding.borrow_mut()[slot], from);
        if from != before && (self.loops.get() || from.is_none()) {
            self.wake();
        }
    }

    /// From where on the times of this worker's sources are open; `None` when all are over.
    pub(crate) fn held(&self) -> Option<Time> {
        self.holding.borrow().iter().flatten().min().map(|&held| held.max(self.open.get()))
    }

    /// A source will not read any more.
    pub(crate) fn ends_reading(&self) {
        self.reading.set(self.reading.get() - 1);
        if self.reading.get() == 0 {
            self.unended.set(self.unended.get() - 1);
            self.ended.set(true);
            self.tell(self.open.get());
        }
    }

    /// Whether all sources of all workers have ended.
    pub(crate) fn all_read(&self) -> bool {
        self.unended.get() == 0
    }

    fn arrive(&self, frontier: Option<Time>) {
        if self.arrived.get() == frontier {
            return;
        }
        self.arrived.set(frontier);
        let mut in_flight = self.in_flight.borrow_mut();
        let (now, counters) = (self.shared.machine.now(), &self.shared.counters);
        while let Some(&time) = in_flight.front().filter(|&&time| frontier.is_none_or(|f| time < f)) {
            in_flight.pop_front();
            // What is read again has times of long ago.
            if time > counters.replays.load(Ordering::Relaxed) {
                counters.arriving.add(now.saturating_sub(time));
            }
        }
        drop(in_flight);
        self.show();
        self.shared.counters.before.fetch_max(frontier.unwrap_or(Time::MAX), Ordering::Relaxed);
        self.wake();
    }

    /// A slot in which a root keeps its earliest timer.
    pub(crate) fn add_root(&self) -> usize {
        let mut timers = self.timers.borrow_mut();
        timers.push(None);
        timers.len() - 1
    }

    /// Tells the earliest timer of the root in `slot`.
    pub(crate) fn set_timer(&self, slot: usize, due: Option<Time>) {
        let before = std::mem::replace(&mut self.timers.borrow_mut()[slot], due);
        if due != before && due.is_some() {
            self.wake();
        }
    }

    /// Closes the epoch of a timer that has come due; otherwise how long until the next one.
    fn due(&self) -> Option<Duration> {
        let earliest = self.timers.borrow().iter().flatten().min().copied()?;
        if earliest < self.open.get() || self.stamped.get().is_some() {
            return None;
        }
        if self.shared.until().is_some_and(|(until, _)| earliest > until) {
            return None;
        }
        // What a loop may still do, its sources say: beyond that it would go on on some workers, and not on others.
        if self.loops.get() && self.all_read() {
            return None;
        }
        let now = self.shared.machine.now();
        if earliest <= now {
            self.open.set(earliest + 1);
            self.tick.set(Some(earliest + 1));
            self.wake();
            None
        } else {
            Some(Duration::from_millis(earliest - now))
        }
    }
}

/// How many bytes a source reads at a turn: doubled while it finds more than that waiting and epochs
/// follow one another quickly, halved when it does not. So epochs stay small when it is quiet and are wide under
/// load, but not wider than what is worked through in about [`WIDE`].
#[derive(Debug)]
pub(crate) struct Quantum {
    bytes: usize,
    last: Option<Instant>,
}

/// An epoch that takes longer than this is wide enough.
const WIDE: Duration = Duration::from_millis(50);

impl Quantum {
    const LEAST: usize = 64 << 10;
    const MOST: usize = 16 << 20;

    pub(crate) fn new() -> Self {
        Quantum { bytes: Self::LEAST, last: None }
    }
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
    /// Takes into account that a turn found `more` waiting than it read.
    pub(crate) fn adapt(&mut self, more: bool, now: Instant) {
        let quick = self.last.replace(now).is_none_or(|last| now - last < WIDE);
        self.bytes = match (more, quick) {
            (true, true) => (self.bytes * 2).min(Self::MOST),
            (true, false) => self.bytes,
            (false, _) => (self.bytes / 2).max(Self::LEAST),
        };
    }
}

/// "Go on to this time", for one worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Tick {
    worker: usize,
    time: Time,
    /// The first one of its sender.
    first: bool,
    /// Also: the job is to end.
    stop: bool,
    /// Also: all sources of its sender have ended.
    ended: bool,
}

/// Builds the operators that send and receive ticks and that watch timers. Call once a worker, first.
pub(crate) fn ticks<'s>(scope: Scope<'s, Time>, pace: &Rc<Pace>, shared: &Arc<Shared>) {
    let (index, peers) = (scope.index(), scope.peers());

    let mut builder = OperatorBuilder::new("Pace".to_owned(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    let sync = scope.worker().sync_activator_for(info.address.to_vec());
    shared.config.stop.add_waker(Arc::new(move || {
        // A worker that has gone needs no waking.
        let _ = sync.activate();
    }));
    pace.add_source(scope.activator_for(info.address.clone()));
    let (output, stream) = builder.new_output::<Vec<Tick>>();
    let mut output = OutputBuilder::from(output);
    let (pace_, stop) = (pace.clone(), shared.config.stop.clone());
    pace.unheard.set(peers - 1);
    pace.unended.set(peers);
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        let mut stopped = false;
        let mut begun = false;
        move |_frontiers| {
            let Some(held) = capability.as_mut() else { return };
            if pace_.arrived().is_none() {
                capability = None;
                return;
            }
            if let Some(wait) = pace_.due() {
                pace_.wake_after(&activator, wait);
            }
            if *held.time() < pace_.open() {
                held.downgrade(&pace_.open());
            }
            let first = !std::mem::replace(&mut begun, true);
            if first {
                // The sinks are built: this worker's times start behind what their partitions hold.
                pace_.tick.set(Some(pace_.open()));
            }
            if stop.requested() && !stopped {
                stopped = true;
                pace_.tick.set(Some(pace_.open()));
                pace_.wake();
            }
            if let Some(time) = pace_.tick.take()
                && peers > 1
            {
                let ended = pace_.ended.take();
                let mut handle = output.activate();
                let mut session = handle.session(&*held);
                for worker in (0..peers).filter(|&w| w != index) {
                    session.give(Tick { worker, time, first, stop: stopped, ended });
                }
            }
        }
    });

    let mut builder = OperatorBuilder::new("Ticks".to_owned(), scope);
    let mut input = builder.new_input(stream, Exchange::new(|tick: &Tick| tick.worker as u64));
    builder.set_notify_for(0, FrontierInterest::Never);
    let (pace, stop) = (pace.clone(), shared.config.stop.clone());
    builder.build(move |_capabilities| {
        move |_frontiers| {
            input.for_each(|_, ticks| {
                for tick in ticks.drain(..) {
                    pace.follow(tick.time);
                    if tick.first {
                        pace.unheard.set(pace.unheard.get() - 1);
                        pace.wake();
                    }
                    if tick.ended {
                        pace.unended.set(pace.unended.get() - 1);
                        pace.wake();
                    }
                    if tick.stop && !stop.requested() {
                        stop.request();
                    }
                }
            });
        }
    });
}

/// Builds the operator that sees epochs arrive: its inputs carry no data, only the progress of
/// every source, root, sink and view. Call once a worker, last.
pub(crate) fn gate<'s>(scope: Scope<'s, Time>, pace: &Rc<Pace>, progress: Vec<StreamVec<'s, Time, ()>>) {
    let mut builder = OperatorBuilder::new("Gate".to_owned(), scope);
    let mut inputs: Vec<_> = progress.into_iter().map(|stream| builder.new_input(stream, Pipeline)).collect();
    let pace = pace.clone();
    builder.build(move |_capabilities| {
        move |frontiers| {
            for input in &mut inputs {
                input.for_each(|_, _| {});
            }
            pace.arrive(frontiers.iter().filter_map(first).min());
        }
    });
}

/// The one time of a frontier of a totally ordered timestamp; `None` where it is empty.
pub(crate) fn first(frontier: &MutableAntichain<Time>) -> Option<Time> {
    frontier.frontier().first().copied()
}
