//! The sink operator: sends what changed to the worker that writes its partition, holds it until its
//! time is closed, encodes it in order, and holds the time until it is out.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use timely::ExchangeData;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::progress::Marks;
use crate::connect::{Envelope, Message, PartitionId, PartitionWriter, Sink, SinkSettings, WriteBatch};
use crate::error::Result;
use crate::job::Shared;
use crate::live::Counted;
use crate::pace::{Pace, first};
use crate::time::Time;

/// Turns all updates of one time and partition into messages, in their final order.
type Encode<D> = Box<dyn FnMut(Time, Vec<D>, &mut Vec<Message>) -> Result<()>>;

/// How updates become messages.
pub(crate) struct Encoder<D> {
    pub(crate) envelope: Envelope,
    pub(crate) schema: Option<String>,
    /// The time of an update that came under a capability for the time given.
    pub(crate) time: fn(&D, Time) -> Time,
    /// The partition of an update, below the number given.
    pub(crate) place: Rc<dyn Fn(&D, PartitionId) -> PartitionId>,
    pub(crate) encode: Encode<D>,
}

struct Partition<D> {
    number: PartitionId,
    /// What the partition held when it was opened: the time of its last message, and how many of that time.
    holds: Option<(Time, u64)>,
    writer: Box<dyn PartitionWriter>,
    updates: Vec<D>,
    /// Up to where it is known to be marked as closed.
    marked: Option<Time>,
}

/// What [`PartitionWriter::last_count`] says of a time that is marked as closed.
const ALL: u64 = u64::MAX;

/// A time whose messages are on their way, with the partitions that have some.
struct Outstanding {
    time: Time,
    bytes: u64,
    /// Keeps the time open until its messages are out.
    _capability: Capability<Time>,
    partitions: Vec<usize>,
}

/// Leaves out what the partition holds already from an earlier run: all before `restored`, which is the restored state
/// itself, and of what is made again, the first messages. Returns how many of this time are left out.
fn leave_out(
    messages: &mut Vec<Message>,
    time: Time,
    holds: Option<(Time, u64)>,
    restored: Option<Time>,
) -> u64 {
    let (last, count) = holds.unwrap_or_default();
    let left_out = if restored.is_some_and(|restored| time < restored) || time < last {
        messages.len()
    } else if time == last {
        messages.len().min(usize::try_from(count).unwrap_or(usize::MAX))
    } else {
        0
    };
    messages.drain(..left_out);
    left_out as u64
}

/// Builds a sink; returns a stream that carries its progress: a time has passed when all of its
/// messages are safely out.
pub(crate) fn sink<'s, D: ExchangeData>(
    updates: StreamVec<'s, Time, D>,
    topic: &str,
    mut encoder: Encoder<D>,
    pace: &Rc<Pace>,
    shared: &Arc<Shared>,
) -> Result<StreamVec<'s, Time, ()>> {
    let scope = updates.scope();
    let (worker, peers) = (scope.index(), scope.peers());
    let settings = SinkSettings {
        envelope: encoder.envelope,
        schema: encoder.schema.take(),
        partitions: shared.config.new_topic_partitions,
    };
    let sink: Arc<dyn Sink> = shared.sink(topic, &settings)?;
    let count = sink.partitions().max(1);

    let mut builder = OperatorBuilder::new(format!("Sink: {topic}"), scope);
    let place = encoder.place.clone();
    let mut input = builder
        .new_input(updates, Exchange::new(move |update: &D| u64::from(place(update, count)) % peers as u64));
    let (progress_output, progress) = builder.new_output::<Vec<()>>();
    let address = builder.operator_info().address;

    let mut partitions = Vec::new();
    for number in (0..count).filter(|number| *number as usize % peers == worker) {
        let sync = scope.worker().sync_activator_for(address.to_vec());
        let waker = Arc::new(move || {
            // A worker that has gone needs no waking.
            let _ = sync.activate();
        });
        // The operator is begun and must be finished, whether its partitions can be opened or not.
        let writer = match sink.open(number, waker) {
            Ok(writer) => writer,
            Err(error) => {
                shared.fail(error);
                break;
            }
        };
        if let Some(time) = writer.last_time() {
            pace.start_after(time);
        }
        let holds = writer.last_time().map(|time| (time, writer.last_count()));
        // A time may be marked behind its own messages, but not twice.
        let marked =
            holds.and_then(|(time, count)| if count == ALL { Some(time) } else { time.checked_sub(1) });
        partitions.push(Partition { number, holds, writer, updates: Vec::new(), marked });
    }

    // Bindings of a time must be durable before its messages leave.
    pace.add_source(scope.activator_for(address.clone()));
    // A topic that the checkpoint knows holds what led to the restored state; to a new one, it is all new.
    let restored = shared.durable().map(|durable| {
        let manifest = durable.plan.manifest.as_ref();
        manifest
            .filter(|manifest| manifest.sinks.iter().any(|known| known == topic))
            .map(|manifest| manifest.time)
    });
    let binds = shared.keeps().is_some();
    let mut marks = shared.config.progress_marks.map(|every| Marks::new(every, scope.activator_for(address)));
    let (pace, shared, time_of) = (pace.clone(), shared.clone(), encoder.time);
    let written_here = shared.counters.named(Counted::Written, topic);
    builder.build_reschedule(move |_capabilities| {
        let mut pending: BTreeMap<Time, (Capability<Time>, Vec<D>)> = BTreeMap::new();
        let mut outstanding: VecDeque<Outstanding> = VecDeque::new();
        let mut partitions = partitions;
        // Keeps the port, which never carries data.
        let _progress_output = progress_output;
        move |frontiers| {
            input.for_each(|capability, updates| {
                let earliest = *capability.time();
                // Differential's operators may send the updates of several times under the earliest of them.
                if updates.iter().all(|update| time_of(update, earliest) == earliest) {
                    let (_, held) =
                        pending.entry(earliest).or_insert_with(|| (capability.retain(0), Vec::new()));
                    if held.is_empty() {
                        std::mem::swap(held, updates);
                    } else {
                        held.append(updates);
                    }
                    return;
                }
                for update in updates.drain(..) {
                    let time = time_of(&update, earliest);
                    let held =
                        pending.entry(time).or_insert_with(|| (capability.delayed(&time, 0), Vec::new()));
                    held.1.push(update);
                }
            });
            if shared.failed() {
                return false;
            }
            let frontier = first(&frontiers[0]);
            // Nothing leaves before it is durable which records got its time.
            let unbound = if binds { pace.unbound() } else { None };
            let mut work = || -> Result<()> {
                while let Some(entry) = pending.first_entry() {
                    let time = *entry.key();
                    if frontier.is_some_and(|frontier| frontier <= time) {
                        break;
                    }
                    if unbound.is_some_and(|unbound| unbound <= time) {
                        break;
                    }
                    let (capability, updates) = entry.remove();
                    pace.write(time);
                    for update in updates {
                        let number = (encoder.place)(&update, count);
                        partitions[number as usize / peers].updates.push(update);
                    }
                    let (mut written_to, mut bytes) = (Vec::new(), 0);
                    for (index, partition) in partitions.iter_mut().enumerate() {
                        debug_assert_eq!(partition.number as usize, index * peers + worker);
                        if partition.updates.is_empty() {
                            continue;
                        }
                        let mut messages = Vec::new();
                        (encoder.encode)(time, std::mem::take(&mut partition.updates), &mut messages)?;
                        let mut first = 0;
                        if let Some(restored) = restored {
                            first = leave_out(&mut messages, time, partition.holds, restored);
                        }
                        if !messages.is_empty() {
                            shared.counters.messages.fetch_add(messages.len() as u64, Ordering::Relaxed);
                            written_here.fetch_add(messages.len() as u64, Ordering::Relaxed);
                            bytes += messages
                                .iter()
                                .filter_map(|m| m.value.as_ref())
                                .map(|v| v.len() as u64)
                                .sum::<u64>();
                            partition.writer.write(WriteBatch { time, first, messages })?;
                            written_to.push(index);
                        }
                    }
                    shared.counters.unwritten.fetch_add(bytes, Ordering::Relaxed);
                    outstanding.push_back(Outstanding {
                        time,
                        bytes,
                        _capability: capability,
                        partitions: written_to,
                    });
                }
                let ended = frontier.is_none() && pending.is_empty();
                if let Some(marks) = &mut marks {
                    // All before is written; at the end, on all workers.
                    let next = frontier.into_iter().chain(unbound).min();
                    let closed = if ended {
                        pace.last()
                    } else {
                        next.and_then(|next| next.checked_sub(1)).filter(|closed| *closed > 0)
                    };
                    let new = partitions.iter().any(|partition| partition.marked < closed);
                    if new && (ended || marks.due(&pace)) {
                        for partition in partitions.iter_mut().filter(|partition| partition.marked < closed) {
                            closed.map_or(Ok(()), |closed| partition.writer.mark(closed))?;
                            partition.marked = closed;
                        }
                    }
                }
                while let Some(Outstanding { time, bytes, partitions: written_to, .. }) = outstanding.front()
                {
                    for &index in written_to {
                        if partitions[index].writer.written()?.is_none_or(|written| written < *time) {
                            return Ok(());
                        }
                    }
                    shared.counters.unwritten.fetch_sub(*bytes, Ordering::Relaxed);
                    outstanding.pop_front();
                }
                if ended && (marks.is_none() || pace.last().is_some()) {
                    for partition in partitions.drain(..) {
                        partition.writer.close()?;
                    }
                }
                Ok(())
            };
            if let Err(error) = work() {
                shared.fail(error);
            }
            // With marks, it stays until the last ones are written.
            marks.is_some() && !partitions.is_empty()
        }
    });
    Ok(progress)
}
