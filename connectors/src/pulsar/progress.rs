//! How far a partition has been read and is done with. Pure: what an arriving entry is (new, seen before,
//! behind a gap), and what may be acknowledged.

use std::collections::VecDeque;

use nekton_engine::connect::{Position, RawRecord};
use pulsar::message::proto::MessageIdData;

/// Where an entry stands. Before the first entry of a ledger is -1, as the broker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    pub(super) ledger: u64,
    pub(super) entry: i64,
}

impl EntryId {
    /// `None` for the broker's way of saying "none": -1:-1.
    pub(super) fn of(id: &MessageIdData) -> Option<Self> {
        (id.ledger_id != u64::MAX).then_some(EntryId { ledger: id.ledger_id, entry: id.entry_id as i64 })
    }
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.ledger, self.entry)
    }
}

/// What an arriving entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The one behind the last.
    Next,
    /// Received before; the broker sends again what is not acknowledged.
    Again,
    /// Not the one behind the last: either the broker has left out what nobody is to see (the marks of
    /// transactions and replication), or a new ledger begins, or something is lost.
    Behind(EntryId),
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last entry received, or the one before the first.
    received: Option<EntryId>,
    /// Records up to here were dealt with by an earlier run.
    after: Option<Position>,
    /// Entries received and not acknowledged, each with the index of its last record; `None` if it has none.
    unacked: VecDeque<(EntryId, Option<u32>)>,
    acked: Option<EntryId>,
}

impl Progress {
    pub(super) fn new(after: Option<Position>) -> Self {
        Progress { after, ..Progress::default() }
    }

    pub(super) fn received(&self) -> Option<EntryId> {
        self.received
    }

    /// The subscription stands behind this entry, and nothing has been received yet.
    pub(super) fn begin(&mut self, behind: EntryId) {
        self.received = self.received.or(Some(behind));
    }

    /// How many entries are received and not acknowledged.
    pub(super) fn unacked(&self) -> usize {
        self.unacked.len()
    }

    pub(super) fn see(&self, id: EntryId) -> Seen {
        match self.received {
            None => Seen::Next,
            Some(last) if id <= last => Seen::Again,
            Some(last) if id.ledger == last.ledger && id.entry == last.entry + 1 => Seen::Next,
            Some(last) => Seen::Behind(last),
        }
    }

    /// Whether entries between the last received and the present one are gone, given where the
    /// subscription stands now: it moves only by our acknowledgements, unless something was deleted.
    pub(super) fn lost(&self, stands: EntryId) -> bool {
        // While something of ours is not acknowledged, the subscription cannot pass it by itself. When nothing is,
        // the broker moves it over marks that nobody is to see, and into the next ledger.
        self.received.is_some_and(|last| stands > last) && !self.unacked.is_empty()
    }

    /// The last entry that was acknowledged.
    pub(super) fn acked(&self) -> Option<EntryId> {
        self.acked
    }

    /// Takes an entry's records, and leaves those that are new in `records`.
    pub(super) fn take(&mut self, id: EntryId, records: &mut Vec<RawRecord>) {
        self.received = Some(id);
        self.unacked.push_back((id, records.last().map(|record| record.position.index)));
        if let Some(after) = self.after {
            records.retain(|record| record.position > after);
        }
    }

    /// Everything up to `position` is done with: the entry up to which that may be acknowledged, if it is
    /// a new one.
    pub(super) fn release(&mut self, position: Position) -> Option<EntryId> {
        let mut acked = None;
        while let Some((id, last)) = self.unacked.front() {
            let done = match last {
                Some(index) => {
                    Position { ledger: id.ledger, entry: id.entry as u64, index: *index } <= position
                }
                // An entry without records is done with once all before it is.
                None => true,
            };
            if !done {
                break;
            }
            acked = Some(*id);
            self.unacked.pop_front();
        }
        self.acked = acked.or(self.acked);
        acked
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn id(ledger: u64, entry: i64) -> EntryId {
        EntryId { ledger, entry }
    }

    fn records(id: EntryId, count: u32) -> Vec<RawRecord> {
        (0..count)
            .map(|index| RawRecord {
                position: Position { ledger: id.ledger, entry: id.entry as u64, index },
                key: None,
                payload: Bytes::new(),
                published: 0,
                defect: None,
            })
            .collect()
    }

    fn position(id: EntryId, index: u32) -> Position {
        Position { ledger: id.ledger, entry: id.entry as u64, index }
    }

    #[test]
    fn what_is_sent_again_is_known_again() {
        let mut progress = Progress::default();
        progress.begin(id(3, -1));
        for entry in 0..5 {
            assert_eq!(progress.see(id(3, entry)), Seen::Next);
            progress.take(id(3, entry), &mut records(id(3, entry), 2));
        }
        assert_eq!(progress.see(id(3, 2)), Seen::Again);
        assert_eq!(progress.see(id(3, 6)), Seen::Behind(id(3, 4)));
        assert_eq!(progress.see(id(9, 0)), Seen::Behind(id(3, 4)));
    }

    #[test]
    fn a_gap_is_a_loss_if_the_subscription_was_moved_past_what_came() {
        let mut progress = Progress::default();
        progress.begin(id(3, -1));
        progress.take(id(3, 0), &mut records(id(3, 0), 1));
        assert!(!progress.lost(id(3, -1)), "where it began");
        assert!(!progress.lost(id(3, 0)), "what came was acknowledged");
        assert!(progress.lost(id(3, 1)), "somebody skipped an entry");
        assert!(progress.lost(id(5, 7)), "somebody skipped ledgers");
        assert!(progress.lost(id(5, -1)), "the rest of a ledger is gone without our acknowledgement");
        assert_eq!(progress.release(position(id(3, 0), 0)), Some(id(3, 0)));
        assert!(!progress.lost(id(5, -1)), "the broker has closed the acknowledged ledger");
    }

    #[test]
    fn an_entry_is_acknowledged_when_its_last_record_is_done_with() {
        let mut progress = Progress::default();
        progress.take(id(1, 0), &mut records(id(1, 0), 3));
        progress.take(id(1, 1), &mut Vec::new());
        progress.take(id(2, 0), &mut records(id(2, 0), 1));
        assert_eq!(progress.release(position(id(1, 0), 1)), None);
        assert_eq!(progress.release(position(id(1, 0), 2)), Some(id(1, 1)));
        assert_eq!(progress.release(position(id(1, 0), 2)), None);
        assert_eq!(progress.release(position(id(2, 0), 0)), Some(id(2, 0)));
        assert_eq!(progress.unacked(), 0);
    }

    proptest! {
        #[test]
        fn records_up_to_a_start_are_left_out_and_no_others(
            sizes in prop::collection::vec(1..4_u32, 1..20),
            at in any::<prop::sample::Index>(),
        ) {
            let all: Vec<_> = sizes.iter().enumerate().flat_map(|(e, &n)| records(id(1, e as i64), n)).collect();
            let after = at.index(all.len());
            let mut progress = Progress::new(Some(all[after].position));
            let mut read = Vec::new();
            for (entry, &count) in sizes.iter().enumerate() {
                let mut records = records(id(1, entry as i64), count);
                progress.take(id(1, entry as i64), &mut records);
                read.extend(records.into_iter().map(|record| record.position));
            }
            let left: Vec<_> = all[after + 1..].iter().map(|record| record.position).collect();
            prop_assert_eq!(read, left);
        }
    }
}
