//! The root operator: routes events to the workers of their segments, holds them until their time is
//! closed, and applies them in order.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use differential_dataflow::{AsCollection, VecCollection};
use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Map;

use super::reading::{Collected, Hears};
use super::segment::Agency;
use super::timers::Timers;
use super::{Agent, Agents, Effects, Key, Record, TimerChange};
use crate::connect::{Position, Waker};
use crate::durable::commit::Report;
use crate::durable::compact::Places;
use crate::durable::marks::Mark;
use crate::durable::snapshot::{Snapshot, Stored, Storing, restore};
use crate::durable::taken_over;
use crate::error::{Kind, Result};
use crate::events::{Block, Event, Events, Order};
use crate::hash::{SEGMENTS, Segment, fixed_hash};
use crate::job::Shared;
use crate::live::Counted;
use crate::machine::Machine;
use crate::pace::{Pace, first};
use crate::time::Time;

/// The events of a block that go to one worker, with their keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Parcel<K, E> {
    worker: u32,
    order: Order,
    events: Vec<(K, E)>,
}

/// Fewer events than this are applied as they come; more are first sorted by segment within their parcels
/// and applied segment by segment, so that the agents of a segment come into the processor's cache once.
const SORT_FROM: usize = 8 << 10;

/// So many agents are looked up before the first of them gets its event: the processor then waits for them together. What
/// an agent does with its event cannot be foreseen, and so it would wait for one after the other.
const AT_ONCE: usize = 32;

/// The state of a root on one worker.
struct Root<A: Agent, R: Hears<A>> {
    agencies: Vec<Agency<A>>,
    /// What the agents read.
    collected: Collected<A::Key, R::Linked>,
    timers: Timers<A::Key>,
    effects: Effects<A>,
    /// Segments touched at the present time.
    touched: Vec<u16>,
    census: Census,
    sorter: Sorter,
    /// By segment: changed since the last snapshot.
    dirty: Vec<bool>,
    /// Where segments are stored.
    places: Places,
    /// What is being copied.
    snapshot: Option<Snapshot>,
}

/// How many agents each segment has.
struct Census {
    by_segment: Box<[u32; SEGMENTS]>,
    /// How many more there are than were told of; wraps around below zero.
    news: u64,
}

impl Default for Census {
    fn default() -> Self {
        Census { by_segment: Box::new([0; SEGMENTS]), news: 0 }
    }
}

impl Census {
    fn count(&mut self, segment: u16, agents: u32) {
        let before = std::mem::replace(&mut self.by_segment[segment as usize], agents);
        self.news = self.news.wrapping_add(agents.into()).wrapping_sub(before.into());
    }

    fn tell(&mut self, all: &AtomicU64) {
        match std::mem::take(&mut self.news) {
            0 => {}
            news => drop(all.fetch_add(news, Ordering::Relaxed)),
        }
    }
}

impl<A: Agent, R: Hears<A>> Root<A, R> {
    fn new() -> Self {
        let agency = || if R::READS { Agency::reading() } else { Agency::default() };
        Root {
            agencies: (0..SEGMENTS).map(|_| agency()).collect(),
            collected: Collected::new(),
            timers: Timers::default(),
            effects: Effects { any: false, timer: None, leave: false, segment: 0, emitted: Vec::new() },
            touched: Vec::new(),
            census: Census::default(),
            sorter: Sorter::default(),
            dirty: vec![false; SEGMENTS],
            places: Places::new(),
            snapshot: None,
        }
    }

    /// Called before a segment changes at the present time for the first time.
    #[inline]
    fn changes(&mut self, segment: usize) {
        self.touched.push(segment as u16);
        self.dirty[segment] = true;
    }

    /// Begins to copy the segments that have changed, as they are before `time`.
    fn begin_snapshot(&mut self, time: Time, capability: Capability<Time>) {
        let changed: VecDeque<usize> =
            (0..SEGMENTS).filter(|&segment| std::mem::take(&mut self.dirty[segment])).collect();
        changed.iter().for_each(|&segment| self.agencies[segment].begin_copy());
        self.snapshot = Some(Snapshot::new(time, capability, changed));
    }

    /// Copies on for about as long as `slice`; whether all is copied.
    fn copy_on(&mut self, slice: Duration, machine: &Machine) -> bool {
        let Root { agencies, timers, snapshot, .. } = self;
        let Some(snapshot) = snapshot else { return true };
        let begun = machine.instant();
        while let Some(segment) = snapshot.next() {
            while agencies[segment].copy_on(timers) {
                if machine.instant().saturating_duration_since(begun) > slice {
                    return false;
                }
            }
            snapshot.put(agencies[segment].end_copy());
        }
        true
    }

    /// Forgets the timers that are not due in this run; a checkpoint keeps them.
    fn forget_timers(&mut self, machine: &Machine) {
        self.copy_on(Duration::MAX, machine);
        self.timers.clear();
    }

    /// Applies events in their order.
    fn apply(&mut self, time: Time, events: &[(A::Key, A::Event)]) {
        for events in events.chunks(AT_ONCE) {
            let mut found = [(0, None); AT_ONCE];
            for (found, (key, _)) in found.iter_mut().zip(events) {
                let hash = fixed_hash(key);
                let segment = Segment::of(hash).index();
                *found = (segment, self.agencies[segment].find(hash, key));
            }
            for (event, (segment, found)) in events.iter().zip(found) {
                self.apply_one(time, segment, found, event);
            }
        }
    }

    /// Applies an event to the agent of its key, which was found in its segment if it was there.
    #[inline]
    fn apply_one(&mut self, time: Time, segment: usize, found: Option<u32>, event: &(A::Key, A::Event)) {
        if self.agencies[segment].untouched() {
            self.changes(segment);
        }
        let agency = &mut self.agencies[segment];
        self.effects.segment = segment as u16;
        if R::READS {
            // A new agent reads first.
            let linked = self.collected.of(&event.0);
            let (timers, effects) = (&self.timers, &mut self.effects);
            if linked.1 != 0
                && agency.is_news(&event.0, true, linked.1)
                && let Some(change) = agency.on_linked::<R>(time, (&event.0, true), linked, timers, effects)
            {
                self.timers.change(segment as u16, &event.0, change);
            }
        }
        if let Some(change) = agency.on_event(time, found, event, &self.timers, &mut self.effects) {
            self.timers.change(segment as u16, &event.0, change);
        }
    }

    /// Takes in what has changed of what agents read, and gives it to them.
    fn read(&mut self, time: Time, changes: Vec<((A::Key, R::Linked), isize)>) -> Result<()> {
        let mut keys = self.collected.change(time, changes)?;
        if self.collected.first_after_restore() {
            // Whose digest differs has not been given what changed right before the checkpoint.
            let collected = &self.collected;
            let all = self.agencies.iter().flat_map(|agency| agency.to_be_told(|key| collected.of(key).1));
            keys = all.cloned().collect();
            keys.sort_unstable();
        }
        for key in keys {
            let segment = Segment::of(fixed_hash(&key)).index();
            if !self.agencies[segment].is_news(&key, false, self.collected.of(&key).1) {
                continue;
            }
            if self.agencies[segment].untouched() {
                self.changes(segment);
            }
            let (linked, agency) = (self.collected.of(&key), &mut self.agencies[segment]);
            self.effects.segment = segment as u16;
            let (timers, effects) = (&self.timers, &mut self.effects);
            if let Some(change) = agency.on_linked::<R>(time, (&key, false), linked, timers, effects) {
                self.timers.change(segment as u16, &key, change);
            }
        }
        Ok(())
    }

    /// The next time at which anything is due by itself.
    fn due(&self) -> Option<Time> {
        self.timers.earliest().into_iter().chain(self.collected.earliest()).min()
    }

    /// Fires all timers due at `time`.
    fn fire(&mut self, time: Time) {
        while let Some((segment, key)) = self.timers.due(time) {
            // The snapshot has the timer that is about to go.
            self.agencies[segment as usize].before_timer(key, &self.timers);
            if self.agencies[segment as usize].untouched() {
                self.changes(segment.into());
            }
            let Some(key) = self.timers.pop() else { break };
            let agency = &mut self.agencies[segment as usize];
            self.effects.segment = segment;
            if let Some(change) = agency.on_timer(time, &key, &self.timers, &mut self.effects) {
                self.timers.change(segment, &key, change);
            }
        }
    }

    /// Applies the events of a time, whose parcels are in order.
    fn apply_all(&mut self, time: Time, parcels: &mut [Parcel<A::Key, A::Event>]) {
        let count: usize = parcels.iter().map(|parcel| parcel.events.len()).sum();
        if count < SORT_FROM {
            for parcel in parcels {
                self.apply(time, &parcel.events);
            }
            return;
        }
        let ends: Vec<_> = parcels.iter_mut().map(|parcel| self.sorter.sort(&mut parcel.events)).collect();
        let mut starts = vec![0; parcels.len()];
        for segment in 0..SEGMENTS {
            for ((parcel, ends), start) in parcels.iter().zip(&ends).zip(&mut starts) {
                let end = ends[segment] as usize;
                self.apply(time, &parcel.events[*start..end]);
                *start = end;
            }
        }
    }
}

/// Sorts events by their keys' segments, keeping the order within each: a counting sort in place.
#[derive(Default)]
struct Sorter {
    segments: Vec<u16>,
    places: Vec<u32>,
}

impl Sorter {
    /// Sorts, and returns where each segment ends.
    fn sort<K: Key, E>(&mut self, events: &mut [(K, E)]) -> Vec<u32> {
        let mut next = vec![0_u32; SEGMENTS + 1];
        self.segments.clear();
        self.segments.extend(events.iter().map(|(key, _)| Segment::of(fixed_hash(key)).index() as u16));
        for &segment in &self.segments {
            next[segment as usize + 1] += 1;
        }
        for segment in 0..SEGMENTS {
            next[segment + 1] += next[segment];
        }
        self.places.clear();
        self.places.extend(self.segments.iter().map(|&segment| {
            let place = &mut next[segment as usize];
            *place += 1;
            *place - 1
        }));
        // Every swap brings one event to its place.
        for at in 0..events.len() {
            while self.places[at] as usize != at {
                let place = self.places[at] as usize;
                events.swap(at, place);
                self.places.swap(at, place);
            }
        }
        next.truncate(SEGMENTS);
        next
    }
}

/// What is held for one time.
struct Pending<K, E> {
    capabilities: Vec<Capability<Time>>,
    parcels: Vec<Parcel<K, E>>,
}

/// What a root gives: its agents, its progress, and what of it is in a store.
pub(crate) struct Rooted<'s, A: Agent> {
    pub(crate) agents: Agents<'s, A>,
    pub(crate) progress: StreamVec<'s, Time, ()>,
    pub(crate) reports: StreamVec<'s, Time, Report>,
}

/// For so long at once a snapshot is copied, between other work: for a third of the time that the other work took, within
/// these bounds. An epoch passes a worker many times on its way, and meets a slice each time.
const SLICE: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(1);

/// What the agents of a root read: changes of a collection, under times that are 1 later than the changes' own.
pub(crate) struct Linking<'s, K: Key, V: Record> {
    pub(crate) changes: StreamVec<'s, Time, ((K, V), Time, isize)>,
    /// It depends on the root's own views.
    pub(crate) looped: bool,
}

/// Builds a root.
pub(crate) fn root<'s, A: Agent, R: Hears<A>>(
    events: &Events<'s, A::Event>,
    linking: Option<Linking<'s, A::Key, R::Linked>>,
    marks: StreamVec<'s, Time, Mark>,
    (name, number): (&str, u32),
    key: impl Fn(&A::Event) -> A::Key + 'static,
    pace: &Rc<Pace>,
    shared: &Arc<Shared>,
) -> Rooted<'s, A> {
    let scope = events.blocks.scope();
    let at = (scope.index(), scope.peers());
    let parcels = route(events.blocks(), scope.peers(), key);

    let mut builder = OperatorBuilder::new(format!("Agents: {name}"), scope);
    let mut input = builder
        .new_input(parcels, Exchange::new(|parcel: &Parcel<A::Key, A::Event>| u64::from(parcel.worker)));
    let mut marks = builder.new_input(marks, Exchange::new(|mark: &Mark| u64::from(mark.worker)));
    let looped = linking.as_ref().is_some_and(|linking| linking.looped);
    let mut linked = linking.map(|linking| {
        let worker = move |key: &A::Key| Segment::of(fixed_hash(key)).worker(at.1) as u64;
        builder.new_input(linking.changes, Exchange::new(move |((key, _), _, _): &_| worker(key)))
    });
    let address = builder.operator_info().address;
    let activator = scope.activator_for(address.clone());
    let sync = scope.worker().sync_activator_for(address.to_vec());
    let (views_output, views) = builder.new_output::<Vec<((A::Key, A::View), Time, isize)>>();
    let mut views_output = OutputBuilder::from(views_output);
    let (emitted_output, emitted) = builder.new_output::<Vec<Block<A::Emit>>>();
    let mut emitted_output = OutputBuilder::from(emitted_output);
    let (progress_output, progress) = builder.new_output::<Vec<()>>();
    let (reports_output, reports) = builder.new_output::<Vec<Report>>();
    let mut reports_output = OutputBuilder::from(reports_output);

    let slot = pace.add_root();
    let agents = shared.counters.named(Counted::Agents, name);
    let (pace, shared, name) = (pace.clone(), shared.clone(), name.to_owned());
    let stored: Waker = Arc::new(move || {
        // A worker that has gone needs no waking.
        let _ = sync.activate();
    });
    builder.build_reschedule(move |capabilities| {
        let mut root = Root::<A, R>::new();
        let durable = shared.durable().cloned();
        // For the restored state; without one, there is none.
        let manifest = durable.as_ref().and_then(|durable| durable.plan.manifest.clone());
        let mut to_restore = manifest.map(|manifest| (manifest, capabilities));
        let mut asked: VecDeque<(Time, Capability<Time>)> = VecDeque::new();
        let mut storing = Storing::default();
        // When a snapshot was last copied on.
        let mut copied = shared.machine.instant();
        let mut pending: BTreeMap<Time, Pending<A::Key, A::Event>> = BTreeMap::new();
        // Capabilities for the earliest timer.
        let mut timer_capabilities: Option<Vec<Capability<Time>>> = None;
        // Keeps the port, which never carries data.
        let _progress_output = progress_output;
        move |frontiers| {
            if let Some(((manifest, capabilities), durable)) = to_restore.take().zip(durable.as_ref()) {
                // Before the first time that is not contained.
                let time = manifest.time.saturating_sub(1);
                let capability = capabilities[0].delayed(&time);
                let mut handle = views_output.activate();
                let mut session = handle.session(&capability);
                let restored = restore::<A>(
                    &name,
                    &manifest,
                    &*durable.store,
                    at,
                    &mut root.places,
                    |segment, Stored { key, state, timer, digest }| {
                        if let Some(view) = A::view(&state) {
                            session.give(((key.clone(), view), time, 1));
                        }
                        if let Some(due) = timer {
                            root.timers.change(segment as u16, &key, TimerChange::Set(due));
                        }
                        root.agencies[segment].restore(key, state, digest);
                    },
                );
                drop(session);
                for (segment, agency) in root.agencies.iter().enumerate() {
                    root.census.count(segment as u16, agency.agents());
                }
                root.census.tell(&agents);
                if let Err(error) = restored {
                    // Whoever takes a job over deletes in time what only earlier runs have needed.
                    let taken = error.kind() == Kind::Lost && durable.is_taken_over().unwrap_or(false);
                    shared.fail(if taken { taken_over(&durable.job) } else { error });
                }
                if R::READS {
                    let at = |capability: &Capability<Time>| capability.delayed(&manifest.time);
                    root.collected.go_on(manifest.time, capabilities[..3].iter().map(at).collect());
                }
                if let Some(due) = root.timers.earliest() {
                    timer_capabilities =
                        Some(capabilities[..3].iter().map(|capability| capability.delayed(&due)).collect());
                }
            }
            marks.for_each(|capability, marks| {
                for mark in marks.drain(..) {
                    asked.push_back((mark.time, capability.retain(3)));
                }
            });
            input.for_each(|capability, parcels| {
                let held = pending.entry(*capability.time()).or_insert_with(|| Pending {
                    capabilities: (0..3).map(|port| capability.retain(port)).collect(),
                    parcels: Vec::new(),
                });
                held.parcels.append(parcels);
            });

            if let Some(linked) = &mut linked {
                linked.for_each(|capability, changes| {
                    for (change, time, diff) in changes.drain(..) {
                        let hold = |time| (0..3).map(|port| capability.delayed(&time, port)).collect();
                        root.collected.put(change, time, diff, hold);
                    }
                });
            }

            // Who has seen a mark for a time that is not closed takes the snapshot first.
            let mut frontier = frontiers.iter().filter_map(first).min();
            if looped && frontiers[0].is_empty() && frontiers[1].is_empty() {
                // What still goes round is not waited for, but for what a checkpoint is to contain.
                let contained = asked.back().map_or(0, |(time, _)| *time);
                if frontier.is_none_or(|frontier| frontier >= contained) {
                    frontier = None;
                    root.collected.forget_from(contained);
                }
            }
            let ended = frontier.is_none();
            let begin = |root: &mut Root<A, R>,
                         storing: &mut Storing,
                         asked: &mut VecDeque<_>,
                         before: Option<Time>| {
                while let Some(durable) = &durable
                    && asked.front().is_some_and(|(time, _)| before.is_none_or(|before| *time <= before))
                    && let Some((time, capability)) = asked.pop_front()
                {
                    root.copy_on(Duration::MAX, &shared.machine);
                    if let Some(snapshot) = root.snapshot.take() {
                        storing.store(snapshot, &name, at.0, durable, &mut root.places, stored.clone());
                    }
                    root.places.tidy(&mut root.dirty);
                    root.begin_snapshot(time, capability);
                }
            };
            // Stopped, not ended: timers in the future are not due. Those before what has been read, or before what a
            // checkpoint is to contain, are.
            let stopped = shared.config.stop.requested() || shared.until().is_some();
            let due_before = (ended && stopped).then(|| {
                let read = pending.last_key_value().map_or(0, |(time, _)| time + 1);
                read.max(asked.back().map_or(0, |(time, _)| *time))
            });
            // After the end of all inputs, the timers fire that are pending then; what they set beyond the
            // last of these does not, or an agent that always sets its next timer would never end.
            let mut last_timer = None;
            loop {
                let to_read = root.collected.earliest();
                if pending.is_empty()
                    && (to_read.is_none() || to_read >= due_before)
                    && due_before.is_some_and(|before| root.timers.earliest().is_none_or(|due| due >= before))
                {
                    begin(&mut root, &mut storing, &mut asked, None);
                    root.forget_timers(&shared.machine);
                }
                if ended && pending.is_empty() && to_read.is_none() && last_timer.is_none() {
                    last_timer = root.timers.latest();
                }
                let next = pending.keys().next().copied().into_iter().chain(root.due()).min();
                let Some(time) = next.filter(|&time| frontier.is_none_or(|frontier| time < frontier)) else {
                    break;
                };
                begin(&mut root, &mut storing, &mut asked, Some(time));
                if last_timer.is_some_and(|last| time > last) {
                    begin(&mut root, &mut storing, &mut asked, None);
                    root.forget_timers(&shared.machine);
                    break;
                }
                let (held, changes) =
                    root.collected.take(time).map(|due| (due.capabilities, due.changes)).unzip();
                let Pending { capabilities, mut parcels } =
                    pending.remove(&time).unwrap_or_else(|| Pending {
                        capabilities: held.unwrap_or_else(|| {
                            timer_capabilities
                                .as_ref()
                                .expect("a pending timer holds capabilities for its time")
                                .iter()
                                .map(|capability| capability.delayed(&time))
                                .collect()
                        }),
                        parcels: Vec::new(),
                    });
                if let Some(changes) = changes
                    && let Err(error) = root.read(time, changes)
                {
                    shared.fail(error.context(format!("the root {name:?}")));
                    return false;
                }
                root.fire(time);
                parcels.sort_by_key(|parcel| parcel.order);
                root.apply_all(time, &mut parcels);

                let mut handle = views_output.activate();
                let mut session = handle.session(&capabilities[0]);
                for segment in root.touched.drain(..) {
                    root.agencies[segment as usize]
                        .finish(&root.timers, |key, view, diff| session.give(((key, view), time, diff)));
                    root.census.count(segment, root.agencies[segment as usize].agents());
                }
                root.census.tell(&agents);
                drop(session);
                if !root.effects.emitted.is_empty() {
                    let mut handle = emitted_output.activate();
                    let mut session = handle.session(&capabilities[1]);
                    root.effects.emitted.sort_by_key(|(segment, _)| *segment);
                    let mut emitted = root.effects.emitted.drain(..).peekable();
                    while let Some((segment, event)) = emitted.next() {
                        let mut events = vec![event];
                        while let Some((_, event)) = emitted.next_if(|(other, _)| *other == segment) {
                            events.push(event);
                        }
                        let order = Order {
                            source: number,
                            partition: segment.into(),
                            position: Position::default(),
                        };
                        session.give(Block { order, events });
                    }
                }
                hold_for_timers(&root.timers, &mut timer_capabilities, &capabilities);
            }
            begin(&mut root, &mut storing, &mut asked, frontier);
            if let Some(durable) = &durable
                && root.snapshot.is_some()
            {
                let other_work = shared.machine.instant().saturating_duration_since(copied);
                let slice = (other_work / 3).clamp(*SLICE.start(), *SLICE.end());
                let whole = root.copy_on(slice, &shared.machine);
                copied = shared.machine.instant();
                if whole {
                    if let Some(snapshot) = root.snapshot.take() {
                        storing.store(snapshot, &name, at.0, durable, &mut root.places, stored.clone());
                    }
                } else {
                    activator.activate();
                }
            }
            while let Some(report) = storing.next() {
                match report {
                    Ok((capability, report)) => {
                        reports_output.activate().session(&capability).give(report);
                    }
                    Err(error) => shared.fail(error.context("storing a checkpoint")),
                }
            }
            match root.timers.earliest() {
                None => timer_capabilities = None,
                Some(due) => {
                    for capability in timer_capabilities.iter_mut().flatten() {
                        if *capability.time() < due {
                            capability.downgrade(&due);
                        }
                    }
                }
            }
            pace.set_timer(slot, root.due());
            // The operator stays until the last snapshot is stored.
            !shared.failed() && (root.snapshot.is_some() || !storing.is_empty() || !asked.is_empty())
        }
    });

    let views: VecCollection<_, _, isize> = views.as_collection();
    Rooted { agents: Agents { views, emitted: events.flow.events_of(emitted) }, progress, reports }
}

/// Makes sure that capabilities are held for the earliest timer; `now` are those of the present time.
fn hold_for_timers<K: Key>(
    timers: &Timers<K>,
    held: &mut Option<Vec<Capability<Time>>>,
    now: &[Capability<Time>],
) {
    if let Some(due) = timers.earliest() {
        let enough = held.as_ref().is_some_and(|held| *held[0].time() <= due);
        if !enough {
            *held = Some(now.iter().map(|capability| capability.delayed(&due)).collect());
        }
    }
}

/// Divides every block by the worker that owns its keys' segments.
fn route<'s, K: Key, E: Event>(
    blocks: StreamVec<'s, Time, Block<E>>,
    peers: usize,
    key: impl Fn(&E) -> K + 'static,
) -> StreamVec<'s, Time, Parcel<K, E>> {
    blocks.flat_map(move |block| {
        let mut parcels: Vec<Parcel<K, E>> = (0..peers as u32)
            .map(|worker| Parcel { worker, order: block.order, events: Vec::new() })
            .collect();
        if let [only] = &mut parcels[..] {
            only.events = block.events.into_iter().map(|event| (key(&event), event)).collect();
        } else {
            for parcel in &mut parcels {
                parcel.events.reserve(block.events.len() / peers + block.events.len() / 8);
            }
            for event in block.events {
                let key = key(&event);
                let worker = Segment::of(fixed_hash(&key)).worker(peers);
                parcels[worker].events.push((key, event));
            }
            parcels.retain(|parcel| !parcel.events.is_empty());
        }
        parcels
    })
}
