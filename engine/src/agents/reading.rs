//! Reading: what a collection holds for an agent's key, given to the agent when it has changed.
//!
//! **What is given.** A root that reads has, beside its events, a collection of `(key, value)`. At a time `t` at which the
//! values of a key change, net, its agent gets all of them as they are then, sorted, at `t + 1`: before its timer and its
//! events of `t + 1`. An agent is not created by what it could read; a new one is given what there is before its first event
//! (as of the time before). So after every time each agent has read what the collection held at the time before, whatever the
//! number of workers and the batching.
//!
//! **State, not events.** The collection is derived, and never stored. A checkpoint has for each agent a *digest* of what it has
//! read last. A run that goes on from a checkpoint as of `C` has all views as of `C - 1` in its dataflow, hence the whole
//! collection as of `C - 1`; it gives at `C` to each agent whose digest differs. These are the agents for which something
//! changed at `C - 1`, to which the run before gave it at `C` as well, or would have. While a job runs it asks the same
//! question (does the digest differ?), so both do the same even where two digests are equal by chance. A root that has
//! begun to read only now has no digests: each agent that can read anything gets it at `C`.
//!
//! **Loops.** The collection may depend on the root's own views. Its stream comes back over an edge of timely's that adds 1 to all
//! times, in this and in the other case: so "all before `t` is closed" at the root implies that all changes before `t - 1` are
//! there. Progress tracking passes such a cycle without counting: a frontier that goes from `t` to `t + 1,000` does so at
//! once. What is due at `t + 1` is due like a timer: the pace closes that time when the clock is there, and a loop takes a
//! millisecond a round, or longer.
//!
//! **The end.** A loop may never settle, so inputs' ends need a rule. Sources of a program with a loop keep their times open until
//! all sources of all workers have ended; then go on to [`SETTLING`] later, and end when all before has arrived. What a loop
//! would give after that, or, in a job with checkpoints, from the last checkpoint's time on, is not given. So all workers
//! stop at the same time, and the next run goes on there. Asked to stop, sources do the same without the time for settling.

use std::collections::{BTreeMap, HashMap};

use differential_dataflow::consolidation::consolidate;
use serde::Serialize;
use timely::dataflow::operators::Capability;

use super::{Agent, Context, Key, Reads, Record};
use crate::error::{Error, Kind, Result};
use crate::hash::{FixedState, fixed_hash};
use crate::time::Time;

/// For so long, of the dataflow's time, a loop goes on when all inputs have ended.
pub(crate) const SETTLING: Time = 1_000;

/// Whether the agents of a root read a collection, and how they are given it.
pub(crate) trait Hears<A: Agent>: 'static {
    /// Whether they do.
    const READS: bool;
    /// What there is to be read.
    type Linked: Record;
    /// Gives it to one.
    fn on_linked(agent: &mut A, linked: &[Self::Linked], context: &mut Context<'_, A>);
}

/// Agents that know only their events.
pub(crate) struct EventsOnly;

impl<A: Agent> Hears<A> for EventsOnly {
    const READS: bool = false;
    type Linked = ();
    fn on_linked(_agent: &mut A, _linked: &[()], _context: &mut Context<'_, A>) {}
}

/// Agents that read a collection.
pub(crate) struct Collections;

impl<A: Reads> Hears<A> for Collections {
    const READS: bool = true;
    type Linked = A::Linked;
    fn on_linked(agent: &mut A, linked: &[A::Linked], context: &mut Context<'_, A>) {
        agent.on_linked(linked, context);
    }
}

/// Changes of the collection that are given at one time.
pub(super) struct Due<K, V> {
    pub(super) capabilities: Vec<Capability<Time>>,
    pub(super) changes: Vec<((K, V), isize)>,
}

/// What a key's agent can read.
struct Linked<V> {
    /// Sorted.
    values: Vec<V>,
    /// The sum of the values' hashes: a change of one value changes it without a look at the others.
    sum: u64,
}

/// The collection that the agents of a root read, on one worker: all keys of its segments, whether there is an agent or not.
///
/// A key costs about 80 bytes and itself, a value its own size. A change costs a pass over the values of its key.
pub(super) struct Collected<K, V> {
    of: HashMap<K, Linked<V>, FixedState>,
    /// What is given when.
    due: BTreeMap<Time, Due<K, V>>,
    /// Nothing is given before this time, as of which the root was restored.
    from: Time,
    /// Agents have been restored that may have read something else.
    restored: bool,
    buffer: Vec<u8>,
}

impl<K: Key, V: Record> Collected<K, V> {
    pub(super) fn new() -> Self {
        Collected {
            of: HashMap::default(),
            due: BTreeMap::new(),
            from: 0,
            restored: false,
            buffer: Vec::new(),
        }
    }

    /// The agents are those of a checkpoint as of `from`, for which `capabilities` are.
    pub(super) fn go_on(&mut self, from: Time, capabilities: Vec<Capability<Time>>) {
        (self.from, self.restored) = (from, true);
        self.due.insert(from, Due { capabilities, changes: Vec::new() });
    }

    /// A change at `time` has come; `hold` makes the capabilities for the time at which it is given.
    pub(super) fn put(
        &mut self,
        change: (K, V),
        time: Time,
        diff: isize,
        hold: impl FnOnce(Time) -> Vec<Capability<Time>>,
    ) {
        let given = (time + 1).max(self.from);
        let due =
            self.due.entry(given).or_insert_with(|| Due { capabilities: hold(given), changes: Vec::new() });
        due.changes.push((change, diff));
    }

    /// The next time at which something is given.
    pub(super) fn earliest(&self) -> Option<Time> {
        self.due.keys().next().copied()
    }

    /// What is given at `time`.
    pub(super) fn take(&mut self, time: Time) -> Option<Due<K, V>> {
        self.due.remove(&time)
    }

    /// Forgets what would be given from `time` on.
    pub(super) fn forget_from(&mut self, time: Time) {
        self.due.split_off(&time);
    }

    /// Whether agents have been restored, and nothing was given since. No more than once.
    pub(super) fn first_after_restore(&mut self) -> bool {
        std::mem::take(&mut self.restored)
    }

    /// Takes in the changes that are given at `time`; the keys that they are of, sorted.
    ///
    /// # Errors
    /// If the collection would have a record less than no times.
    pub(super) fn change(&mut self, time: Time, mut changes: Vec<((K, V), isize)>) -> Result<Vec<K>> {
        consolidate(&mut changes);
        let mut keys = Vec::new();
        let mut changes = changes.into_iter().peekable();
        while let Some(((key, value), diff)) = changes.next() {
            let mut of_key = vec![(value, diff)];
            while let Some(((_, value), diff)) = changes.next_if(|((other, _), _)| *other == key) {
                of_key.push((value, diff));
            }
            let linked = self.of.entry(key.clone()).or_insert_with(|| Linked { values: Vec::new(), sum: 0 });
            for (value, diff) in &of_key {
                let hash = hash_of(value, &mut self.buffer)?;
                linked.sum = linked.sum.wrapping_add(hash.wrapping_mul(*diff as u64));
            }
            if !merge(&mut linked.values, of_key) {
                return Err(Error::config(format!(
                    "what the agent {key:?} is to read has a record less than no times at the time {}: a collection may be \
                     the difference of two only where the second is part of the first",
                    time - 1
                )));
            }
            if linked.values.is_empty() {
                self.of.remove(&key);
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// What the agent of a key can read, and its digest: 0 if that is nothing.
    pub(super) fn of(&self, key: &K) -> (&[V], u64) {
        if self.of.is_empty() {
            return (&[], 0);
        }
        self.of.get(key).map_or((&[], 0), |linked| (&linked.values, linked.sum.max(1)))
    }
}

/// A hash of a value that is the same in every build: of what it is written as.
fn hash_of<V: Serialize>(value: &V, buffer: &mut Vec<u8>) -> Result<u64> {
    buffer.clear();
    rmp_serde::encode::write(buffer, value).map_err(|error| {
        Error::new(Kind::Config, format!("what agents are to read cannot be written: {error}"))
    })?;
    Ok(fixed_hash(buffer.as_slice()))
}

/// Changes sorted values by sorted changes; whether nothing was taken that is not there.
fn merge<V: Ord + Clone>(values: &mut Vec<V>, changes: Vec<(V, isize)>) -> bool {
    let mut before = std::mem::take(values).into_iter().peekable();
    for (value, mut diff) in changes {
        while let Some(smaller) = before.next_if(|other| *other < value) {
            values.push(smaller);
        }
        while diff < 0 {
            if before.next_if_eq(&value).is_none() {
                return false;
            }
            diff += 1;
        }
        values.extend(std::iter::repeat_n(value, diff as usize));
    }
    values.extend(before);
    values.shrink_to(values.len() * 2);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_has_the_values_that_came_and_did_not_go(
            steps in prop::collection::vec(prop::collection::vec((0..3_u8, 0..6_u16, -2..4_isize), 0..8), 0..20),
        ) {
            let mut collected = Collected::<u8, u16>::new();
            let mut model = BTreeMap::<(u8, u16), isize>::new();
            for (at, step) in steps.into_iter().enumerate() {
                let mut changes = Vec::new();
                for (key, value, diff) in step {
                    let count = model.entry((key, value)).or_default();
                    let diff = diff.max(-*count);
                    *count += diff;
                    changes.push(((key, value), diff));
                }
                collected.change(at as Time + 1, changes).unwrap();
                for key in 0..3 {
                    let of_key = model.iter().filter(|((of, _), _)| *of == key);
                    let values: Vec<u16> =
                        of_key.flat_map(|((_, value), count)| std::iter::repeat_n(*value, *count as usize)).collect();
                    let mut anew = Collected::<u8, u16>::new();
                    anew.change(1, values.iter().map(|value| ((key, *value), 1)).collect()).unwrap();
                    // The digest depends on the values alone, not on how they came about.
                    prop_assert_eq!(collected.of(&key), anew.of(&key));
                    prop_assert_eq!(collected.of(&key).0, &values[..]);
                    prop_assert_eq!(collected.of(&key).1 == 0, values.is_empty());
                }
            }
        }
    }

    #[test]
    fn a_record_that_is_not_there_cannot_go() {
        let mut collected = Collected::<u8, u16>::new();
        collected.change(1, vec![((7, 1), 1)]).unwrap();
        let error = collected.change(5, vec![((7, 1), -2)]).unwrap_err();
        assert!(error.to_string().contains("agent 7") && error.to_string().contains("time 4"), "{error}");
    }
}
