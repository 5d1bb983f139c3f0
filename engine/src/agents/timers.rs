//! The pending timers of a root on one worker: at most one an agent, by due time.

use std::collections::{BTreeSet, HashMap};

use super::{Key, TimerChange};
use crate::hash::FixedState;
use crate::time::Time;

/// Pending timers, by due time, then segment, then key: the order in which they fire. Setting,
/// clearing and firing cost a search in a tree each; a pending timer about 100 bytes and two keys.
pub(super) struct Timers<K: Key> {
    due: BTreeSet<(Time, u16, K)>,
    of: HashMap<K, Time, FixedState>,
}

impl<K: Key> Default for Timers<K> {
    fn default() -> Self {
        Timers { due: BTreeSet::new(), of: HashMap::default() }
    }
}

impl<K: Key> Timers<K> {
    /// Carries out what an agent asked for.
    pub(super) fn change(&mut self, segment: u16, key: &K, change: TimerChange) {
        let before = match change {
            TimerChange::Set(due) => {
                self.due.insert((due, segment, key.clone()));
                self.of.insert(key.clone(), due).filter(|&before| before != due)
            }
            TimerChange::Clear => self.of.remove(key),
        };
        if let Some(before) = before {
            self.due.remove(&(before, segment, key.clone()));
        }
    }

    /// The earliest due time.
    pub(super) fn earliest(&self) -> Option<Time> {
        self.due.first().map(|(due, ..)| *due)
    }

    /// The latest due time.
    pub(super) fn latest(&self) -> Option<Time> {
        self.due.last().map(|(due, ..)| *due)
    }

    /// The segment and key of the next timer, if that is due at `time`.
    pub(super) fn due(&self, time: Time) -> Option<(u16, &K)> {
        self.due.first().filter(|(due, ..)| *due <= time).map(|(_, segment, key)| (*segment, key))
    }

    /// Takes the next timer.
    pub(super) fn pop(&mut self) -> Option<K> {
        let (_, _, key) = self.due.pop_first()?;
        self.of.remove(&key);
        Some(key)
    }

    /// The pending timer of a key.
    pub(super) fn of(&self, key: &K) -> Option<Time> {
        if self.of.is_empty() { None } else { self.of.get(key).copied() }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.due.clear();
        self.of.clear();
    }
}
