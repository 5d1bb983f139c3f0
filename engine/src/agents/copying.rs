//! The copy of a segment for a snapshot, page by page: the pages that are about to change first, the others when
//! there is time. So an event that meets a segment of ten thousand agents waits for the copy of 16.

use std::ops::Range;

/// Agents that are copied together.
const PAGE: u32 = 16;

/// What has been copied of a segment.
pub(super) struct Copying {
    /// How many agents there were. Those that settle later are not part of the snapshot.
    agents: u32,
    /// By page, a bit: copied.
    pages: Vec<u64>,
    /// All pages before this one are copied.
    next: u32,
    bytes: Vec<u8>,
}

impl Copying {
    /// Nothing is copied of so many agents.
    pub(super) fn new(agents: u32) -> Self {
        let pages = vec![0; agents.div_ceil(PAGE).div_ceil(64) as usize];
        Copying { agents, pages, next: 0, bytes: Vec::new() }
    }

    /// Copies the page of an agent by its slot, if that is part of the snapshot and not copied yet: `encode` appends the
    /// agents in a range of slots.
    #[inline]
    pub(super) fn before(&mut self, slot: u32, encode: impl FnOnce(Range<u32>, &mut Vec<u8>)) {
        if slot < self.agents && !self.is_copied(slot / PAGE) {
            self.copy(slot / PAGE, encode);
        }
    }

    /// Copies the next page that is not copied yet; whether there was one.
    pub(super) fn next(&mut self, encode: impl FnOnce(Range<u32>, &mut Vec<u8>)) -> bool {
        let all = self.agents.div_ceil(PAGE);
        while self.next < all && self.is_copied(self.next) {
            self.next += 1;
        }
        if self.next < all {
            self.copy(self.next, encode);
        }
        self.next < all
    }

    /// All that is copied.
    pub(super) fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn is_copied(&self, page: u32) -> bool {
        self.pages[page as usize / 64] & (1 << (page % 64)) != 0
    }

    fn copy(&mut self, page: u32, encode: impl FnOnce(Range<u32>, &mut Vec<u8>)) {
        self.pages[page as usize / 64] |= 1 << (page % 64);
        encode(page * PAGE..((page + 1) * PAGE).min(self.agents), &mut self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_agent_is_copied_once_whatever_changes_first(
            agents in 0..20_000_u32,
            changes in prop::collection::vec(0..25_000_u32, 0..300),
        ) {
            let mut copying = Copying::new(agents);
            let mut copied = vec![0; agents as usize];
            let mut mark = |slots: Range<u32>| slots.for_each(|slot| copied[slot as usize] += 1);
            let mut changes = changes.into_iter();
            loop {
                for slot in changes.by_ref().take(3) {
                    copying.before(slot, |slots, _| mark(slots));
                }
                if !copying.next(|slots, _| mark(slots)) {
                    break;
                }
            }
            prop_assert!(copied.iter().all(|&times| times == 1));
        }
    }
}
