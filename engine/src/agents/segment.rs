//! The agents of one segment: a dense array, an index by key, and what has been touched at the present time.

use hashbrown::HashTable;

use super::pages::Pages;
use super::{Agent, Context, Effects, TimerChange};
use crate::hash::fixed_hash;
use crate::time::Time;

/// An agent in its segment.
struct Resident<A: Agent> {
    key: A::Key,
    state: A,
}

/// An agent that was touched at the present time, and what its view was before.
struct Touched<A: Agent> {
    slot: u32,
    before: Option<A::View>,
}

/// The agents of one segment.
///
/// An agent costs its own size, and in the index 5 bytes a slot at 44 to 88 percent load: for an 8-byte key
/// and 16 bytes of state, 31 to 37 bytes.
pub(super) struct Agency<A: Agent> {
    index: HashTable<u32>,
    residents: Pages<Resident<A>>,
    /// A bit for each slot: touched at the present time.
    marks: Vec<u64>,
    touched: Vec<Touched<A>>,
    /// Slots whose agent has left at the present time.
    left: Vec<u32>,
}

impl<A: Agent> Default for Agency<A> {
    fn default() -> Self {
        Agency {
            index: HashTable::new(),
            residents: Pages::default(),
            marks: Vec::new(),
            touched: Vec::new(),
            left: Vec::new(),
        }
    }
}

impl<A: Agent> Agency<A> {
    /// Lets the agent of `key` handle an event. `hash` is the key's [`fixed_hash`]. Returns the
    /// change of its timer, if any.
    #[inline]
    pub(super) fn on_event(
        &mut self,
        time: Time,
        hash: u64,
        key: &A::Key,
        event: &A::Event,
        effects: &mut Effects<A>,
    ) -> Option<TimerChange> {
        let residents = &mut self.residents;
        let slot = match self.index.find(hash, |&slot| residents[slot].key == *key) {
            Some(&slot) => slot,
            None => self.settle(hash, key),
        };
        self.touch(slot);
        let resident = &mut self.residents[slot];
        resident.state.on_event(event, &mut Context { key: &resident.key, time, effects });
        if effects.any { self.after(slot, effects) } else { self.stays(slot) }
    }

    /// Lets the agent of `key` handle its timer.
    pub(super) fn on_timer(
        &mut self,
        time: Time,
        key: &A::Key,
        effects: &mut Effects<A>,
    ) -> Option<TimerChange> {
        let residents = &self.residents;
        let slot = *self.index.find(fixed_hash(key), |&slot| residents[slot].key == *key)?;
        self.touch(slot);
        let resident = &mut self.residents[slot];
        resident.state.on_timer(&mut Context { key: &resident.key, time, effects });
        if effects.any { self.after(slot, effects) } else { None }
    }

    /// Whether nothing was touched at the present time so far.
    pub(super) fn untouched(&self) -> bool {
        self.touched.is_empty()
    }

    /// Puts an agent back that a checkpoint has.
    pub(super) fn restore(&mut self, key: A::Key, state: A) {
        let slot = u32::try_from(self.residents.len()).expect("under 2^32 agents in one of 1,024 segments");
        let hash = fixed_hash(&key);
        self.residents.push(Resident { key, state });
        if self.residents.len() > self.marks.len() * 64 {
            self.marks.push(0);
        }
        let residents = &self.residents;
        self.index.insert_unique(hash, slot, |&slot| fixed_hash(&residents[slot].key));
    }

    /// Every agent, with its key.
    pub(super) fn each(&self, mut logic: impl FnMut(&A::Key, &A)) {
        for slot in 0..self.residents.len() as u32 {
            let resident = &self.residents[slot];
            logic(&resident.key, &resident.state);
        }
    }

    #[cold]
    fn settle(&mut self, hash: u64, key: &A::Key) -> u32 {
        let slot = u32::try_from(self.residents.len()).expect("under 2^32 agents in one of 1,024 segments");
        self.residents.push(Resident { key: key.clone(), state: A::create(key) });
        if self.residents.len() > self.marks.len() * 64 {
            self.marks.push(0);
        }
        let residents = &self.residents;
        self.index.insert_unique(hash, slot, |&slot| fixed_hash(&residents[slot].key));
        // An agent that was not there had no view.
        self.marks[slot as usize / 64] |= 1 << (slot % 64);
        self.touched.push(Touched { slot, before: None });
        slot
    }

    #[inline]
    fn touch(&mut self, slot: u32) {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        if self.marks[word] & bit == 0 {
            self.marks[word] |= bit;
            self.touched.push(Touched { slot, before: self.residents[slot].state.view() });
        }
    }

    /// An event came for an agent that may have left at this very time: then it is back.
    #[inline]
    fn stays(&mut self, slot: u32) -> Option<TimerChange> {
        if !self.left.is_empty() {
            self.left.retain(|&left| left != slot);
        }
        None
    }

    #[cold]
    fn after(&mut self, slot: u32, effects: &mut Effects<A>) -> Option<TimerChange> {
        effects.any = false;
        let timer = effects.timer.take();
        self.stays(slot);
        if std::mem::take(&mut effects.leave) {
            let resident = &mut self.residents[slot];
            resident.state = A::create(&resident.key);
            self.left.push(slot);
            return Some(TimerChange::Clear);
        }
        timer
    }

    /// Ends the present time: gives every change of a view to `changed`, lets agents go that left.
    pub(super) fn finish(&mut self, mut changed: impl FnMut(A::Key, A::View, isize)) {
        for Touched { slot, before } in self.touched.drain(..) {
            self.marks[slot as usize / 64] &= !(1 << (slot % 64));
            let Resident { key, state } = &self.residents[slot];
            let after = if self.left.contains(&slot) { None } else { state.view() };
            if before != after {
                if let Some(view) = before {
                    changed(key.clone(), view, -1);
                }
                if let Some(view) = after {
                    changed(key.clone(), view, 1);
                }
            }
        }
        if !self.left.is_empty() {
            self.let_go();
        }
    }

    #[cold]
    fn let_go(&mut self) {
        let mut left = std::mem::take(&mut self.left);
        // From the back, so that the last agent, which fills the hole, is never one that goes.
        left.sort_unstable_by_key(|&slot| std::cmp::Reverse(slot));
        for slot in left {
            let gone = self.residents.swap_remove(slot);
            if let Ok(entry) = self.index.find_entry(fixed_hash(&gone.key), |&at| at == slot) {
                entry.remove();
            }
            let last = self.residents.len() as u32;
            if slot < last {
                let hash = fixed_hash(&self.residents[slot].key);
                if let Some(at) = self.index.find_mut(hash, |&at| at == last) {
                    *at = slot;
                }
            }
        }
        let words = self.residents.len().div_ceil(64);
        self.marks.truncate(words);
        if self.residents.len() < self.index.capacity() / 4 {
            self.marks.shrink_to_fit();
            let residents = &self.residents;
            self.index.shrink_to_fit(|&slot| fixed_hash(&residents[slot].key));
        }
    }
}
