//! What a producer has been given and the broker has not confirmed. Pure: it decides what is sent, what a
//! receipt means, and what is sent again after a reconnect.

use std::collections::VecDeque;

use bytes::Bytes;
use nekton_engine::connect::WriteBatch;
use nekton_engine::{Error, Kind, Result, Time};
use pulsar::message::proto::MessageMetadata;

use super::batch::{self, Compression};

/// The most messages of an entry.
const MOST_MESSAGES: usize = 1_000;
/// About the most bytes of an entry, uncompressed, if it has more than one message.
const MOST_BYTES: usize = 128 << 10;
/// Entries on their way at once: four times more or less was slower (see `docs/decisions/0001-own-pulsar-protocol-layer.md`).
const IN_FLIGHT: usize = 16;
/// A sequence id is a time and, in the lowest bits, an index.
const INDEX_BITS: u32 = 20;
/// The index of the mark that closes a time: behind all of its messages.
const CLOSED: u64 = (1 << INDEX_BITS) - 1;

pub(super) struct Entry {
    pub(super) first: u64,
    pub(super) highest: u64,
    pub(super) metadata: MessageMetadata,
    pub(super) payload: Bytes,
    /// The time all of whose messages are out with this entry.
    closes: Option<Time>,
}

pub(super) struct Window {
    producer: String,
    compression: Compression,
    max_message: usize,
    /// The highest sequence id that was given away, or that the topic held before.
    last: Option<u64>,
    entries: VecDeque<Entry>,
    /// How many of the entries have been sent since the last reconnect.
    sent: usize,
    /// What the topic held when the producer was granted: what is sent again up to here is a duplicate.
    resume: Option<u64>,
    written: Option<Time>,
}

impl Window {
    pub(super) fn new(compression: Compression) -> Self {
        Window {
            producer: String::new(),
            compression,
            max_message: 5 << 20,
            last: None,
            entries: VecDeque::new(),
            sent: 0,
            resume: None,
            written: None,
        }
    }

    /// All of this time's messages, and all before, are stored.
    pub(super) fn written(&self) -> Option<Time> {
        self.written
    }

    /// The time of the last message known to be in the topic, or given to it, and how many of it: of a time that is
    /// marked as closed, all.
    pub(super) fn last(&self) -> Option<(Time, u64)> {
        let count = |last| if last & CLOSED == CLOSED { u64::MAX } else { (last & CLOSED) + 1 };
        self.last.map(|last| (last >> INDEX_BITS, count(last)))
    }

    /// The topic holds ids up to `last`, whatever the broker remembers of the producer.
    pub(super) fn holds(&mut self, last: u64) {
        self.last = self.last.max(Some(last));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a batch and cuts it into entries.
    pub(super) fn push(&mut self, batch: WriteBatch) -> Result<()> {
        let WriteBatch { time, first, messages } = batch;
        let mut rest = &messages[..];
        let mut index = first;
        while !rest.is_empty() {
            let size = |message: &nekton_engine::connect::Message| {
                message.value.as_ref().map_or(0, Bytes::len) + message.key.as_ref().map_or(0, Bytes::len) + 32
            };
            let mut bytes = 0;
            let fit = rest.iter().take(MOST_MESSAGES).take_while(|message| {
                bytes += size(message);
                bytes <= MOST_BYTES
            });
            let count = fit.count().max(1);
            let (now, later) = rest.split_at(count);
            let first = ((time << INDEX_BITS) + index).max(self.last.map_or(0, |last| last + 1));
            let (metadata, payload) = batch::entry(&self.producer, time, index, first, now, self.compression)
                .map_err(|error| Error::new(Kind::Internal, format!("compressing messages: {error}")))?;
            // The broker's limit is for metadata and payload together.
            if payload.len() + prost::Message::encoded_len(&metadata) > self.max_message {
                let key = now[0].key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                return Err(Error::new(
                    Kind::BadInput,
                    format!(
                        "a message of {} bytes (key {key}) is more than the {} bytes that the broker takes: raise its maxMessageSize, \
                         or write less at once",
                        payload.len(),
                        self.max_message
                    ),
                ));
            }
            let highest = first + count as u64 - 1;
            let closes = later.is_empty().then_some(time);
            self.entries.push_back(Entry { first, highest, metadata, payload, closes });
            self.last = Some(highest);
            rest = later;
            index += count as u64;
        }
        Ok(())
    }

    /// Takes a progress mark: behind it, nothing of `time` follows.
    pub(super) fn push_mark(&mut self, time: Time) {
        let id = ((time << INDEX_BITS) | CLOSED).max(self.last.map_or(0, |last| last + 1));
        let metadata = batch::mark(&self.producer, time, id);
        self.entries.push_back(Entry {
            first: id,
            highest: id,
            metadata,
            payload: Bytes::new(),
            closes: Some(time),
        });
        self.last = Some(id);
    }

    /// The next entry to send now, if there is one.
    pub(super) fn next_to_send(&mut self) -> Option<&Entry> {
        if self.sent >= IN_FLIGHT {
            return None;
        }
        let entry = self.entries.get(self.sent)?;
        self.sent += 1;
        Some(entry)
    }

    /// The broker has confirmed the entry of these ids; `stored` is false if it took it for a duplicate.
    pub(super) fn receipt(&mut self, first: u64, stored: bool) -> Result<()> {
        // Receipts come in order. One for an entry that is not awaited is from before a reconnect.
        if self.sent == 0 || self.entries.front().is_none_or(|entry| entry.first != first) {
            return Ok(());
        }
        if !stored && self.resume.is_none_or(|resume| first > resume) {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "the broker holds sequence id {first} of producer {} already and has not stored the message: \
                     somebody else writes under this job's name",
                    self.producer
                ),
            ));
        }
        self.confirm();
        Ok(())
    }

    fn confirm(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.sent = self.sent.saturating_sub(1);
            self.written = entry.closes.or(self.written);
        }
    }

    /// A producer was granted; the broker has got its messages up to `last`. All that is not confirmed is sent again:
    /// the broker tells a duplicate, once it is stored, by its receipt, and until then it may still be lost.
    pub(super) fn granted(&mut self, producer: &str, max_message: usize, last: Option<u64>) -> Result<()> {
        self.producer = producer.to_owned();
        self.max_message = max_message;
        (self.sent, self.resume) = (0, last);
        let half = |entry: &&Entry| last.is_some_and(|last| entry.first <= last && last < entry.highest);
        if let Some(entry) = self.entries.iter().find(half) {
            return Err(Error::new(
                Kind::Internal,
                format!("the broker holds a part of the entry {}..={}", entry.first, entry.highest),
            ));
        }
        for entry in &mut self.entries {
            producer.clone_into(&mut entry.metadata.producer_name);
        }
        if self.entries.is_empty() {
            self.last = self.last.max(last);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nekton_engine::connect::Message;

    fn batch(time: Time, count: usize, size: usize) -> WriteBatch {
        let message = Message { key: None, value: Some(vec![b'1'; size].into()) };
        WriteBatch { time, first: 0, messages: vec![message; count] }
    }

    fn window(last: Option<u64>) -> Window {
        let mut window = Window::new(Compression::None);
        window.granted("p", 1 << 20, last).unwrap();
        window
    }

    fn sent(window: &mut Window) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| window.next_to_send().map(|entry| (entry.first, entry.highest))).collect()
    }

    #[test]
    fn ids_are_times_and_indices_and_only_rise() {
        let mut window = window(Some((7 << 20) + 5));
        assert_eq!(window.last(), Some((7, 6)));
        window.push(batch(7, 2, 1)).unwrap();
        window.push(batch(9, 1_500, 1)).unwrap();
        assert_eq!(
            sent(&mut window),
            [
                ((7 << 20) + 6, (7 << 20) + 7),
                (9 << 20, (9 << 20) + 999),
                ((9 << 20) + 1_000, (9 << 20) + 1_499)
            ]
        );
    }

    #[test]
    fn a_mark_stands_behind_all_of_its_time_and_before_all_that_follows() {
        let mut window = window(None);
        window.push(batch(7, 2, 1)).unwrap();
        window.push_mark(7);
        assert_eq!(window.last(), Some((7, u64::MAX)));
        window.push(batch(8, 1, 1)).unwrap();
        let closed = (8 << 20) - 1;
        assert_eq!(sent(&mut window), [(7 << 20, (7 << 20) + 1), (closed, closed), (8 << 20, 8 << 20)]);
    }

    #[test]
    fn a_time_is_written_when_its_last_entry_is_confirmed() {
        let mut window = window(None);
        window.push(batch(3, 1_500, 1)).unwrap();
        let ids = sent(&mut window);
        window.receipt(ids[0].0, true).unwrap();
        assert_eq!(window.written(), None);
        window.receipt(ids[1].0, true).unwrap();
        assert_eq!(window.written(), Some(3));
        assert!(window.is_empty());
    }

    #[test]
    fn after_a_reconnect_all_is_sent_again_and_duplicates_are_confirmed() {
        let mut window = window(None);
        window.push(batch(3, 1, 1)).unwrap();
        window.push(batch(4, 2, 1)).unwrap();
        window.push(batch(5, 1, 1)).unwrap();
        assert_eq!(sent(&mut window).len(), 3);
        window.granted("p", 1 << 20, Some((4 << 20) + 1)).unwrap();
        assert_eq!(window.written(), None);
        assert_eq!(sent(&mut window).len(), 3);
        window.receipt(3 << 20, false).unwrap();
        window.receipt(4 << 20, false).unwrap();
        assert_eq!(window.written(), Some(4));
        // A receipt of the connection before.
        window.receipt(3 << 20, true).unwrap();
        assert!(!window.is_empty());
        assert!(window.receipt(5 << 20, false).is_err(), "the broker did not have this one");
    }

    #[test]
    fn a_message_that_is_taken_for_a_duplicate_is_an_error() {
        let mut window = window(None);
        window.push(batch(3, 1, 1)).unwrap();
        let ids = sent(&mut window);
        assert_eq!(window.receipt(ids[0].0, false).unwrap_err().kind(), Kind::Conflict);
    }

    #[test]
    fn no_more_than_the_window_is_on_its_way() {
        let mut window = window(None);
        for time in 0..40 {
            window.push(batch(time, 1, 1)).unwrap();
        }
        assert_eq!(sent(&mut window).len(), IN_FLIGHT);
        window.receipt(0, true).unwrap();
        assert_eq!(sent(&mut window).len(), 1);
    }

    #[test]
    fn large_messages_travel_alone_and_too_large_ones_are_refused() {
        let mut window = window(None);
        window.push(batch(1, 3, 100_000)).unwrap();
        assert_eq!(sent(&mut window).len(), 3);
        let error = window.push(batch(2, 1, 2 << 20)).unwrap_err().to_string();
        assert!(error.contains("more than the 1048576 bytes"), "{error}");
    }
}
