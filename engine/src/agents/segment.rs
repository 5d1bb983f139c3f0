//! The agents of one segment: a dense array, an index by key, and what has been touched at the present time.

use std::ops::Range;

use hashbrown::HashTable;

use super::copying::Copying;
use super::pages::Pages;
use super::reading::Hears;
use super::timers::Timers;
use super::{Agent, Context, Effects, TimerChange};
use crate::durable::snapshot::encode;
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
    /// The copy for a snapshot, while there is one.
    copying: Option<Box<Copying>>,
    /// By slot, where agents read a collection: a digest of what each has read last; 0 for nothing.
    read: Option<Box<Pages<u64>>>,
}

impl<A: Agent> Default for Agency<A> {
    fn default() -> Self {
        Agency {
            index: HashTable::new(),
            residents: Pages::default(),
            marks: Vec::new(),
            touched: Vec::new(),
            left: Vec::new(),
            copying: None,
            read: None,
        }
    }
}

impl<A: Agent> Agency<A> {
    /// Of agents that read a collection.
    pub(super) fn reading() -> Self {
        Agency { read: Some(Box::default()), ..Agency::default() }
    }

    /// Where the agent of `key` is, if there is one: until the present time ends. `hash` is the key's [`fixed_hash`].
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &A::Key) -> Option<u32> {
        let residents = &self.residents;
        self.index.find(hash, |&slot| residents[slot].key == *key).copied()
    }

    /// Lets the agent of `key` handle an event. `found` is where it was found; it may have come since. Returns the
    /// change of its timer, if any. `timers` are those before it.
    #[inline]
    pub(super) fn on_event(
        &mut self,
        time: Time,
        found: Option<u32>,
        (key, event): &(A::Key, A::Event),
        timers: &Timers<A::Key>,
        effects: &mut Effects<A>,
    ) -> Option<TimerChange> {
        let slot = found.unwrap_or_else(|| self.find_or_settle(key));
        self.touch(slot, timers);
        let resident = &mut self.residents[slot];
        resident.state.on_event(event, &mut Context { key: &resident.key, time, effects });
        if effects.any { self.after(slot, effects) } else { self.stays(slot) }
    }

    /// Lets the agent of `key` handle its timer, which is not among the timers any more.
    pub(super) fn on_timer(
        &mut self,
        time: Time,
        key: &A::Key,
        timers: &Timers<A::Key>,
        effects: &mut Effects<A>,
    ) -> Option<TimerChange> {
        let slot = self.slot(key)?;
        self.touch(slot, timers);
        let resident = &mut self.residents[slot];
        resident.state.on_timer(&mut Context { key: &resident.key, time, effects });
        if effects.any { self.after(slot, effects) } else { None }
    }

    /// Gives the agent of `key` what it can read, which [is news](Agency::is_news) to it. If there is none, it is settled: it is
    /// `new`, its first event is next. Returns the change of its timer, if any.
    pub(super) fn on_linked<R: Hears<A>>(
        &mut self,
        time: Time,
        (key, new): (&A::Key, bool),
        (linked, digest): (&[R::Linked], u64),
        timers: &Timers<A::Key>,
        effects: &mut Effects<A>,
    ) -> Option<TimerChange> {
        let slot = self.find_or_settle(key);
        self.touch(slot, timers);
        self.note(slot, digest);
        let resident = &mut self.residents[slot];
        R::on_linked(&mut resident.state, linked, &mut Context { key: &resident.key, time, effects });
        let change = if effects.any { self.after(slot, effects) } else { None };
        if new {
            // Also one that has left is not given it again before the event, which it stays for.
            self.note(slot, digest);
        }
        change
    }

    /// Whether the agent of `key` would be given something with this digest.
    pub(super) fn is_news(&self, key: &A::Key, new: bool, digest: u64) -> bool {
        self.slot(key).map_or(new && digest != 0, |slot| self.read_by(slot) != digest)
    }

    /// The keys of the agents that have read something else than what `digest` says there is.
    pub(super) fn to_be_told(&self, digest: impl Fn(&A::Key) -> u64) -> impl Iterator<Item = &A::Key> {
        let slots = 0..self.residents.len() as u32;
        slots
            .filter(move |&slot| self.read_by(slot) != digest(&self.residents[slot].key))
            .map(|slot| &self.residents[slot].key)
    }

    fn read_by(&self, slot: u32) -> u64 {
        self.read.as_ref().map_or(0, |read| read[slot])
    }

    fn note(&mut self, slot: u32, digest: u64) {
        if let Some(read) = &mut self.read {
            read[slot] = digest;
        }
    }

    /// Whether nothing was touched at the present time so far.
    pub(super) fn untouched(&self) -> bool {
        self.touched.is_empty()
    }

    /// Puts an agent back that a checkpoint has, with the digest of what it has read.
    pub(super) fn restore(&mut self, key: A::Key, state: A, digest: u64) {
        if let Some(read) = &mut self.read {
            read.push(digest);
        }
        let slot = u32::try_from(self.residents.len()).expect("under 2^32 agents in one of 1,024 segments");
        let hash = fixed_hash(&key);
        self.residents.push(Resident { key, state });
        if self.residents.len() > self.marks.len() * 64 {
            self.marks.push(0);
        }
        let residents = &self.residents;
        self.index.insert_unique(hash, slot, |&slot| fixed_hash(&residents[slot].key));
    }

    /// How many agents there are.
    pub(super) fn agents(&self) -> u32 {
        self.residents.len() as u32
    }

    /// Begins to copy all agents as they are now.
    pub(super) fn begin_copy(&mut self) {
        self.copying = Some(Box::new(Copying::new(self.residents.len() as u32)));
    }

    /// Copies some more of them; whether there may be more to do.
    pub(super) fn copy_on(&mut self, timers: &Timers<A::Key>) -> bool {
        let (residents, read) = (&self.residents, self.read.as_deref());
        let copying = self.copying.as_mut();
        copying.is_some_and(|copying| {
            copying.next(|slots, into| encode_all(residents, read, slots, timers, into))
        })
    }

    /// Ends a copy.
    pub(super) fn end_copy(&mut self) -> Vec<u8> {
        self.copying.take().map_or_else(Vec::new, |copying| copying.bytes())
    }

    /// Copies an agent whose timer is about to go, with its timer.
    pub(super) fn before_timer(&mut self, key: &A::Key, timers: &Timers<A::Key>) {
        if self.copying.is_some()
            && let Some(slot) = self.slot(key)
        {
            self.before(slot, timers);
        }
    }

    /// Copies an agent that is about to change.
    #[inline]
    fn before(&mut self, slot: u32, timers: &Timers<A::Key>) {
        let (residents, read) = (&self.residents, self.read.as_deref());
        if let Some(copying) = &mut self.copying {
            copying.before(slot, |slots, into| encode_all(residents, read, slots, timers, into));
        }
    }

    fn slot(&self, key: &A::Key) -> Option<u32> {
        self.find(fixed_hash(key), key)
    }

    fn find_or_settle(&mut self, key: &A::Key) -> u32 {
        let hash = fixed_hash(key);
        self.find(hash, key).unwrap_or_else(|| self.settle(hash, key))
    }

    #[cold]
    fn settle(&mut self, hash: u64, key: &A::Key) -> u32 {
        let slot = u32::try_from(self.residents.len()).expect("under 2^32 agents in one of 1,024 segments");
        self.residents.push(Resident { key: key.clone(), state: A::create(key) });
        if let Some(read) = &mut self.read {
            read.push(0);
        }
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
    fn touch(&mut self, slot: u32, timers: &Timers<A::Key>) {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        if self.marks[word] & bit == 0 {
            self.marks[word] |= bit;
            self.before(slot, timers);
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
            self.note(slot, 0);
            return Some(TimerChange::Clear);
        }
        timer
    }

    /// Ends the present time: gives every change of a view to `changed`, lets agents go that left.
    pub(super) fn finish(
        &mut self,
        timers: &Timers<A::Key>,
        mut changed: impl FnMut(A::Key, A::View, isize),
    ) {
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
            self.let_go(timers);
        }
    }

    #[cold]
    fn let_go(&mut self, timers: &Timers<A::Key>) {
        let mut left = std::mem::take(&mut self.left);
        // From the back, so that the last agent, which fills the hole, is never one that goes.
        left.sort_unstable_by_key(|&slot| std::cmp::Reverse(slot));
        for slot in left {
            // The last agent moves.
            self.before(self.residents.len() as u32 - 1, timers);
            let gone = self.residents.swap_remove(slot);
            if let Some(read) = &mut self.read {
                read.swap_remove(slot);
            }
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

/// Appends the agents in a range of slots, as they are stored.
fn encode_all<A: Agent>(
    residents: &Pages<Resident<A>>,
    read: Option<&Pages<u64>>,
    slots: Range<u32>,
    timers: &Timers<A::Key>,
    into: &mut Vec<u8>,
) {
    for slot in slots {
        let Resident { key, state } = &residents[slot];
        encode(key, state, timers.of(key), read.map_or(0, |read| read[slot]), into);
    }
}
