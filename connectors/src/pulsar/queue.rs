//! Records on their way from the task that reads a partition to the reader's owner.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nekton_engine::connect::{Position, RawRecord, Waker};
use nekton_engine::{Error, Result, Time};
use tokio::sync::Notify;

/// What a record costs in memory beside its bytes.
const RECORD: usize = 128;

/// The records that wait, and what the two ends tell one another. Bounded by `room` bytes, more or less an entry.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Tells the task that there is room, something is released, or it is over.
    changed: Notify,
    waker: Waker,
    room: usize,
}

#[derive(Default)]
struct State {
    records: VecDeque<RawRecord>,
    /// Progress marks among the records; each takes the room of a record.
    marks: VecDeque<(Position, Time)>,
    bytes: usize,
    released: Option<Position>,
    lag: Option<u64>,
    error: Option<Error>,
    end: bool,
    /// How often it was said that the end is to be looked for anew.
    asks: u64,
    closed: bool,
}

/// What a record takes of the room.
pub(super) fn size(record: &RawRecord) -> usize {
    record.payload.len() + record.key.as_ref().map_or(0, bytes::Bytes::len) + RECORD
}

impl Queue {
    pub(super) fn new(room: usize, waker: Waker) -> Self {
        Queue { state: Mutex::default(), changed: Notify::new(), waker, room }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner's end.
impl Queue {
    /// Moves waiting records of about `budget` bytes, and the marks among them; whether there are more, and whether
    /// this is the end.
    pub(super) fn take(
        &self,
        budget: usize,
        out: &mut Vec<RawRecord>,
        marks: &mut Vec<(Position, Time)>,
    ) -> Result<(bool, bool)> {
        let mut state = self.state();
        let before = state.bytes;
        let mut taken = 0;
        while taken < budget {
            let Some(record) = state.records.pop_front() else { break };
            taken += size(&record);
            out.push(record);
        }
        let next = state.records.front().map(|record| record.position);
        let due = state.marks.iter().take_while(|mark| next.is_none_or(|next| mark.0 < next)).count();
        taken += due * RECORD;
        marks.extend(state.marks.drain(..due));
        state.bytes -= taken;
        if before > self.room / 2 && state.bytes <= self.room / 2 {
            self.changed.notify_one();
        }
        if state.records.is_empty()
            && let Some(error) = &state.error
        {
            return Err(error.clone());
        }
        Ok((!state.records.is_empty(), state.end))
    }

    pub(super) fn release(&self, position: Position) {
        self.state().released = Some(position);
    }

    pub(super) fn lag(&self) -> Option<u64> {
        let state = self.state();
        state.lag.map(|lag| lag + state.records.len() as u64)
    }

    /// What was the end may not be any more.
    pub(super) fn recheck(&self) {
        let mut state = self.state();
        state.end = false;
        state.asks += 1;
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }
}

/// The task's end.
impl Queue {
    pub(super) fn add(&self, records: &mut Vec<RawRecord>) {
        if records.is_empty() {
            return;
        }
        let mut state = self.state();
        state.end = false;
        state.bytes += records.iter().map(size).sum::<usize>();
        state.records.extend(records.drain(..));
        drop(state);
        (self.waker)();
    }

    pub(super) fn mark(&self, position: Position, time: Time) {
        let mut state = self.state();
        state.end = false;
        state.bytes += RECORD;
        state.marks.push_back((position, time));
        drop(state);
        (self.waker)();
    }

    pub(super) fn fail(&self, error: Error) {
        self.state().error = Some(error);
        (self.waker)();
    }

    /// How many bytes there are in all for what waits.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// How many of them are free; `None` while there are none, and more waits.
    pub(super) fn free(&self) -> Option<usize> {
        self.room.checked_sub(self.state().bytes)
    }

    /// Waits until something is to be looked at again.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// What is done with, if that is news.
    pub(super) fn released(&self) -> Option<Position> {
        self.state().released.take()
    }

    /// About so many records have not come yet.
    pub(super) fn note_lag(&self, lag: Option<u64>) {
        self.state().lag = lag;
    }

    /// How often the end was to be looked for anew.
    pub(super) fn asks(&self) -> u64 {
        self.state().asks
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().end
    }

    /// What was the end is not any more, as far as the task knows.
    pub(super) fn not_ended(&self) {
        self.state().end = false;
    }

    /// This is the end, unless it was to be looked for anew since `asks`.
    pub(super) fn end(&self, asks: u64) {
        let mut state = self.state();
        if state.asks == asks {
            state.end = true;
            drop(state);
            (self.waker)();
        }
    }
}
