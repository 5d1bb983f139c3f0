//! What workers write down of their dataflow, from the logs of timely and differential.
//!
//! These logs cannot be switched on later, so they are kept from the start: a few numbers an operator, added to where a
//! worker calls one or sends a batch, 55 ns each, most of that for the clock. What is in them is handed out only when somebody asks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use differential_dataflow::logging::{DifferentialEvent, DifferentialEventBuilder};
use timely::logging::{StartStop, TimelyEvent, TimelyEventBuilder};
use timely::progress::reachability::logging::{TrackerEvent, TrackerEventBuilder};
use timely::worker::Worker;

use crate::dataflow::{Channel, Dataflow, Operator};
use crate::time::Time;

/// What the workers of a process have told, and whether more is asked for.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    asked: AtomicU64,
    /// Without figures.
    shape: Mutex<(Vec<Operator>, Vec<Channel>)>,
    workers: Box<[Mutex<Told>]>,
}

/// The figures of a worker, by the numbers of operators, channels and scopes.
#[derive(Clone, Debug, Default)]
struct Told {
    /// On the worker's own clock.
    at: Duration,
    operators: Vec<Work>,
    records: Vec<u64>,
    held: BTreeMap<usize, Vec<Held>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Work {
    busy: Duration,
    calls: u64,
    arranged: Option<i64>,
}

/// The times at one operator, with how many there are: of batches that wait, and those that it may still send at.
#[derive(Clone, Debug, Default)]
struct Held {
    waiting: Vec<(Time, i64)>,
    open: Vec<(Time, i64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entry of a number.
fn at<T: Default>(entries: &mut Vec<T>, number: usize) -> &mut T {
    if entries.len() <= number {
        entries.resize_with(number + 1, T::default);
    }
    &mut entries[number]
}

impl Gauges {
    pub(crate) fn new(workers: usize) -> Self {
        Gauges { workers: (0..workers).map(|_| Mutex::default()).collect(), ..Gauges::default() }
    }

    /// Asks the workers to tell what they have written down. They do when they have worked next.
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// What they told last.
    pub(crate) fn read(&self) -> Dataflow {
        let (mut operators, mut channels) = lock(&self.shape).clone();
        // What is in a scope stands behind it.
        operators.sort_by(|a, b| a.address.cmp(&b.address));
        let mut ran = Duration::ZERO;
        for (worker, told) in self.workers.iter().enumerate() {
            let told = lock(told);
            ran += told.at;
            for operator in &mut operators {
                let work = told.operators.get(operator.id).copied().unwrap_or_default();
                operator.busy += work.busy;
                operator.calls += work.calls;
                if let Some(arranged) = work.arranged {
                    let arranged = u64::try_from(arranged).unwrap_or_default();
                    *operator.arranged.get_or_insert_default() += arranged;
                }
            }
            for channel in &mut channels {
                channel.records += told.records.get(channel.id).copied().unwrap_or_default();
            }
            if worker == 0 {
                hold(&mut operators, &told.held);
            }
        }
        Dataflow { workers: self.workers.len(), ran, operators, channels }
    }
}

/// Says of each operator what it holds.
fn hold(operators: &mut [Operator], held: &BTreeMap<usize, Vec<Held>>) {
    let scopes: BTreeMap<Vec<usize>, usize> =
        operators.iter().map(|operator| (operator.address.clone(), operator.id)).collect();
    for operator in operators {
        let Some((&number, scope)) = operator.address.split_last() else { continue };
        let held = scopes.get(scope).and_then(|scope| held.get(scope)).and_then(|held| held.get(number));
        let Some(Held { waiting, open }) = held else { continue };
        let some =
            |times: &[(Time, i64)]| times.iter().filter(|(_, count)| *count > 0).map(|(time, _)| *time).min();
        operator.waiting = waiting.iter().filter_map(|(_, count)| u64::try_from(*count).ok()).sum();
        operator.holds = some(waiting).into_iter().chain(some(open)).min();
    }
}

/// What one worker writes down.
struct Tally {
    told: Told,
    shape: Option<(Vec<Operator>, Vec<Channel>)>,
    /// Operators that are being called, one within the other: since when, and how long those within them have taken.
    calls: Vec<(usize, Duration, Duration)>,
    answered: u64,
}

/// Has a worker write down what its dataflow does; before it is built. `local` counts the workers of its process.
pub(crate) fn gauge(worker: &mut Worker, gauges: &std::sync::Arc<Gauges>, local: usize) {
    let Some(mut logs) = worker.log_register() else { return };
    let tally = Tally {
        told: Told::default(),
        shape: (local == 0).then(Default::default),
        calls: Vec::new(),
        answered: 0,
    };
    let tally = Rc::new(RefCell::new(tally));
    let (of_worker, gauges) = (tally.clone(), gauges.clone());
    logs.insert::<TimelyEventBuilder, _>("timely", move |at, events| {
        let mut tally = of_worker.borrow_mut();
        match events {
            Some(events) => events.drain(..).for_each(|(at, event)| tally.take(at, event)),
            None => tally.tell(*at, &gauges, local),
        }
    });
    let of_worker = tally.clone();
    logs.insert::<DifferentialEventBuilder, _>("differential/arrange", move |_, events| {
        for (_, event) in events.iter_mut().flat_map(|events| events.drain(..)) {
            of_worker.borrow_mut().arrange(&event);
        }
    });
    // Each worker knows of all of them.
    if local == 0 {
        let name = format!("timely/reachability/{}", std::any::type_name::<Time>());
        logs.insert::<TrackerEventBuilder<Time>, _>(&name, move |_, events| {
            for (_, event) in events.iter_mut().flat_map(|events| events.drain(..)) {
                tally.borrow_mut().track(event);
            }
        });
    }
}

impl Tally {
    fn take(&mut self, at_time: Duration, event: TimelyEvent) {
        match event {
            TimelyEvent::Schedule(event) => match event.start_stop {
                StartStop::Start => self.calls.push((event.id, at_time, Duration::ZERO)),
                StartStop::Stop => {
                    let Some((id, since, within)) = self.calls.pop() else { return };
                    let took = at_time.saturating_sub(since);
                    let work = at(&mut self.told.operators, id);
                    work.busy += took.saturating_sub(within);
                    work.calls += 1;
                    if let Some((_, _, within)) = self.calls.last_mut() {
                        *within += took;
                    }
                }
            },
            TimelyEvent::Messages(event) if event.is_send => {
                *at(&mut self.told.records, event.channel) += event.record_count.unsigned_abs();
            }
            TimelyEvent::Operates(event) => {
                if let Some((operators, _)) = &mut self.shape {
                    operators.push(Operator {
                        id: event.id,
                        address: event.addr,
                        name: event.name,
                        ..Operator::default()
                    });
                }
            }
            TimelyEvent::Channels(event) => {
                if let Some((_, channels)) = &mut self.shape {
                    channels.push(Channel {
                        id: event.id,
                        scope: event.scope_addr,
                        from: event.source.0,
                        to: event.target.0,
                        records: 0,
                        blocks: event.typ.contains("::events::Block<"),
                    });
                }
            }
            _ => {}
        }
    }

    fn arrange(&mut self, event: &DifferentialEvent) {
        let (operator, diff) = match event {
            DifferentialEvent::Batch(batch) => (batch.operator, batch.length as i64),
            DifferentialEvent::Drop(batch) => (batch.operator, -(batch.length as i64)),
            DifferentialEvent::Merge(merge) => match merge.complete {
                Some(merged) => (merge.operator, merged as i64 - (merge.length1 + merge.length2) as i64),
                None => return,
            },
            _ => return,
        };
        *at(&mut self.told.operators, operator).arranged.get_or_insert_default() += diff;
    }

    fn track(&mut self, event: TrackerEvent<Time>) {
        let (scope, updates, waiting) = match event {
            TrackerEvent::TargetUpdate(event) => (event.tracker_id, event.updates, true),
            TrackerEvent::SourceUpdate(event) => (event.tracker_id, event.updates, false),
        };
        let scope = self.told.held.entry(scope).or_default();
        for (node, _, time, diff) in updates {
            let held = at(scope, node);
            // A few: as many as epochs are on their way.
            let times = if waiting { &mut held.waiting } else { &mut held.open };
            match times.iter().position(|(other, _)| *other == time) {
                Some(place) => {
                    times[place].1 += diff;
                    if times[place].1 == 0 {
                        times.swap_remove(place);
                    }
                }
                None => times.push((time, diff)),
            }
        }
    }

    fn tell(&mut self, at: Duration, gauges: &Gauges, local: usize) {
        if let Some((operators, channels)) = &mut self.shape
            && !(operators.is_empty() && channels.is_empty())
        {
            let mut shape = lock(&gauges.shape);
            shape.0.append(operators);
            shape.1.append(channels);
        }
        let asked = gauges.asked.load(Ordering::Relaxed);
        if asked != self.answered {
            (self.answered, self.told.at) = (asked, at);
            lock(&gauges.workers[local]).clone_from(&self.told);
        }
    }
}
