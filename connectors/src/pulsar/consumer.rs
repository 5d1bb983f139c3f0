//! The task that reads one partition: keeps a subscription on the broker that serves it, asks for as much
//! as there is room for, and hands over records.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nekton_engine::connect::{Position, RawRecord, Start, Waker};
use nekton_engine::{Error, Kind, Result, Time};
use pulsar::message::proto::{self, command_ack::AckType, command_subscribe as subscribe};
use tokio::sync::Notify;

use super::admin::Admin;
use super::batch;
use super::client::{Backoff, Client, Purpose};
use super::connection::{Connection, Heard, Outbox, command};
use super::frame::{self, Frame};
use super::progress::{EntryId, Progress, Seen};
use super::topic::TopicUrl;
use super::{PulsarSettings, partition_name};

/// How long another holder of the subscription may be one of our own connections that broke.
const HALF_OPEN: Duration = Duration::from_secs(20);
/// What a record costs in memory beside its bytes.
const RECORD: usize = 128;
/// More than this waiting to be taken in, and the broker is asked nothing.
const WAITING: usize = 1 << 20;
/// An entry may have so many bytes when it is unpacked, or twice those of the longest record.
const MOST_UNPACKED: usize = 32 << 20;
/// The most permits that are given at once.
const MOST_PERMITS: usize = 100_000;

/// Records on their way from the task to the reader's owner. Bounded by `room` bytes, more or less an entry.
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

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn size(record: &RawRecord) -> usize {
    record.payload.len() + record.key.as_ref().map_or(0, bytes::Bytes::len) + RECORD
}

impl Queue {
    pub(super) fn new(room: usize, waker: Waker) -> Self {
        Queue { state: Mutex::default(), changed: Notify::new(), waker, room }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

    fn add(&self, records: &mut Vec<RawRecord>) {
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

    fn mark(&self, position: Position, time: Time) {
        let mut state = self.state();
        state.end = false;
        state.bytes += RECORD;
        state.marks.push_back((position, time));
        drop(state);
        (self.waker)();
    }

    fn fail(&self, error: Error) {
        self.state().error = Some(error);
        (self.waker)();
    }
}

/// One partition's consumer.
pub(super) struct Consumer {
    pub(super) client: Arc<Client>,
    pub(super) settings: PulsarSettings,
    pub(super) url: TopicUrl,
    /// `None` for a plain topic.
    pub(super) partition: Option<u32>,
    pub(super) start: Start,
    pub(super) queue: Arc<Queue>,
    pub(super) progress: Progress,
    /// An entry whose checksum was wrong once.
    suspect: Option<EntryId>,
    /// Where an exclusive subscription begins is settled.
    placed: bool,
    /// Whether the subscription was there before this task.
    existed: Option<bool>,
    /// Tells the subscriptions apart that leave nothing behind.
    number: u64,
    /// Bytes of a record, a running mean; 0 until something came.
    mean: usize,
    /// Records of an entry, a running mean.
    batch: f64,
}

/// A subscription that the broker has granted.
struct Granted {
    connection: Arc<Connection>,
    id: u64,
    heard: Outbox,
    /// Permits that are out, minus the records that have come.
    permits: i64,
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.connection.forget(self.id);
        // Others may use the connection: were the consumer left open on it, we would turn ourselves away.
        let request_id = self.connection.next_id();
        let close = proto::CommandCloseConsumer { consumer_id: self.id, request_id };
        self.connection.tell(&command!(CloseConsumer, close_consumer: close));
    }
}

enum Over {
    /// Nobody reads any more.
    Closed,
    /// Subscribe again, for this reason.
    Again(&'static str),
}

impl Consumer {
    pub(super) fn new(
        client: Arc<Client>,
        settings: PulsarSettings,
        url: TopicUrl,
        partition: Option<u32>,
        start: Start,
        queue: Arc<Queue>,
    ) -> Self {
        let after = match start {
            Start::After(position) => Some(position),
            _ => None,
        };
        Consumer {
            client,
            settings,
            url,
            partition,
            start,
            queue,
            progress: Progress::new(after),
            suspect: None,
            placed: false,
            existed: None,
            number: next_number(),
            mean: 0,
            batch: 1.0,
        }
    }

    fn topic(&self) -> String {
        partition_name(&self.url, self.partition.is_none(), self.partition.unwrap_or(0))
    }

    /// Reads until it is closed or fails for good.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut busy_since = None;
        loop {
            let begun = Instant::now();
            let error = match self.session().await {
                Ok(Over::Closed) => return,
                Ok(Over::Again(reason)) => {
                    tracing::info!(topic = self.topic(), reason, "subscribing again");
                    None
                }
                Err(error) => Some(error),
            };
            if begun.elapsed() > Duration::from_secs(10) {
                backoff = Backoff::default();
                busy_since = None;
            }
            match error {
                None => {}
                Some(error) => match error.kind() {
                    Kind::Unavailable => {
                        if backoff.attempts() > 0 && backoff.attempts().is_multiple_of(8) {
                            tracing::warn!(topic = self.topic(), %error, "still trying to read");
                        }
                    }
                    // The holder may be a connection of ours that broke.
                    Kind::Conflict if busy_since.get_or_insert_with(Instant::now).elapsed() <= HALF_OPEN => {}
                    Kind::Conflict => {
                        let hint = format!(
                            "another job named {:?} reads it: end that one, or give this one another name",
                            self.settings.job
                        );
                        return self.queue.fail(Error::new(Kind::Conflict, format!("{error}: {hint}")));
                    }
                    _ => return self.queue.fail(error),
                },
            }
            backoff.pause().await;
            if self.queue.state().closed {
                return;
            }
        }
    }

    async fn session(&mut self) -> Result<Over> {
        // What was the end before may not be any more.
        self.queue.state().end = false;
        let mut granted = self.subscribe().await?;
        let mut records = Vec::new();
        let every = if self.settings.until_end { Duration::from_millis(50) } else { Duration::from_secs(1) };
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard_at = Instant::now();
        let mut asked_at = Instant::now();
        let mut behind_before = false;
        let queue = self.queue.clone();
        loop {
            let has_room = self.flow(&mut granted);
            tokio::select! {
                heard = granted.heard.next(), if has_room => {
                    let mut next = Some(heard);
                    let mut bytes = 0;
                    while let Some(heard) = next {
                        let Heard::Frame(frame) = heard else {
                            self.queue.add(&mut records);
                            return Ok(Over::Again("the connection is lost"));
                        };
                        if frame.command.close_consumer.is_some() {
                            self.queue.add(&mut records);
                            return Ok(Over::Again("the topic has moved"));
                        }
                        let before = records.len();
                        let over = self.frame(frame, &mut granted, &mut records).await;
                        if !matches!(over, Ok(None)) {
                            self.queue.add(&mut records);
                        }
                        if let Some(over) = over? {
                            return Ok(over);
                        }
                        bytes += records[before.min(records.len())..].iter().map(size).sum::<usize>();
                        if bytes > 256 << 10 {
                            break;
                        }
                        next = granted.heard.try_next();
                    }
                    heard_at = Instant::now();
                    behind_before = false;
                    self.queue.add(&mut records);
                }
                () = queue.changed.notified() => {
                    if queue.state().closed {
                        self.acknowledge(&granted);
                        self.close(&granted).await;
                        return Ok(Over::Closed);
                    }
                }
                _ = ticks.tick() => {
                    self.acknowledge(&granted);
                    let quiet = heard_at.elapsed();
                    let ended = self.queue.state().end;
                    let asked = asked_at.elapsed();
                    let might_end = self.settings.until_end && has_room && quiet >= every;
                    let look = (might_end && (!ended || asked > Duration::from_secs(1)))
                        || asked > self.settings.silence.min(Duration::from_secs(5));
                    if !look {
                        continue;
                    }
                    asked_at = Instant::now();
                    if granted.heard.waiting() > WAITING {
                        // The answer would wait behind what is waiting.
                        heard_at = Instant::now();
                        continue;
                    }
                    let asks = self.queue.state().asks;
                    let behind = self.look(&granted).await?;
                    if !has_room {
                        // Nothing can come: that is no silence.
                        heard_at = Instant::now();
                        continue;
                    }
                    if !behind && self.settings.until_end && quiet >= every {
                        let mut state = self.queue.state();
                        if state.asks == asks {
                            state.end = true;
                            drop(state);
                            (self.queue.waker)();
                        }
                    }
                    if !behind || quiet < self.settings.silence {
                        behind_before = false;
                    } else if behind_before {
                        let seconds = quiet.as_secs();
                        tracing::warn!(topic = self.topic(), seconds, "silent although there is more: subscribing again");
                        self.close(&granted).await;
                        return Ok(Over::Again("it was silent"));
                    } else {
                        behind_before = true;
                    }
                }
            }
        }
    }

    fn subscription(&self) -> String {
        format!("nekton-{}", self.settings.job)
    }

    async fn subscribe(&mut self) -> Result<Granted> {
        if self.existed.is_none() && self.settings.durable && matches!(self.start, Start::PublishedAt(_)) {
            let (url, settings, partition) = (self.url.clone(), self.settings.clone(), self.partition);
            let asked = tokio::task::spawn_blocking(move || {
                Admin::new(&url, &settings)?.subscriptions(&url, partition)
            });
            let known = asked.await.map_err(|error| Error::new(Kind::Internal, error.to_string()))??;
            // A job that has begun goes on where it was.
            let existed = known.contains(&self.subscription());
            (self.existed, self.placed) = (Some(existed), existed);
        }
        let mut granted = self.ask_for_subscription().await?;
        if let Start::PublishedAt(time) = self.start
            && !self.placed
        {
            let request_id = granted.connection.next_id();
            let seek = command!(Seek, seek: proto::CommandSeek {
                consumer_id: granted.id,
                request_id,
                message_id: None,
                message_publish_time: Some(time),
            });
            granted
                .connection
                .ask(request_id, &seek, &format!("going to a time in {}", self.topic()))
                .await?;
            // That has closed it.
            granted = self.ask_for_subscription().await?;
        }
        if let Some(stands) = self.last(&granted).await?.1 {
            if let (Start::After(after), false) = (self.start, self.placed) {
                let after = EntryId { ledger: after.ledger, entry: after.entry as i64 };
                // Before the first entry of a later ledger, where all before was acknowledged, is no harm.
                if stands > after && stands.entry >= 0 {
                    return Err(self.gone(after, stands));
                }
            }
            self.progress.begin(stands);
            if self.settings.durable
                && let Some(acked) = self.progress.acked()
                && stands < acked
            {
                // The broker has not kept the last acknowledgements, or has not got them.
                self.send_ack(&granted, acked);
            }
        }
        self.placed = true;
        tracing::debug!(topic = self.topic(), broker = granted.connection.address, "subscribed");
        Ok(granted)
    }

    async fn ask_for_subscription(&self) -> Result<Granted> {
        let topic = self.topic();
        let connection = self.client.broker_of(&topic, Purpose::Reading).await?;
        let id = connection.next_id();
        let request_id = connection.next_id();
        let start_message_id = (!self.settings.durable).then(|| {
            let at = |ledger_id, entry_id| proto::MessageIdData { ledger_id, entry_id, ..Default::default() };
            match (self.progress.received(), self.start) {
                (Some(id), _) => at(id.ledger, id.entry as u64),
                (None, Start::Latest) => at(i64::MAX as u64, i64::MAX as u64),
                (None, Start::After(position)) => at(position.ledger, position.entry),
                (None, _) => at(u64::MAX, u64::MAX),
            }
        });
        let position = match self.start {
            Start::Latest => subscribe::InitialPosition::Latest,
            _ => subscribe::InitialPosition::Earliest,
        };
        let name = if self.settings.durable {
            self.subscription()
        } else {
            format!("{}-{}-{}", self.subscription(), super::now(), self.number)
        };
        let request = command!(Subscribe, subscribe: proto::CommandSubscribe {
            topic: topic.clone(),
            subscription: name,
            sub_type: subscribe::SubType::Exclusive as i32,
            consumer_id: id,
            request_id,
            durable: Some(self.settings.durable),
            start_message_id,
            initial_position: Some(position as i32),
            force_topic_creation: Some(false),
            ..Default::default()
        });
        let granted = Granted { heard: connection.hear_consumer(id), connection, id, permits: 0 };
        granted.connection.ask(request_id, &request, &format!("reading {topic}")).await?;
        Ok(granted)
    }

    /// Tells the broker how many more messages there is room for. Whether there is room at all.
    fn flow(&self, granted: &mut Granted) -> bool {
        let held = self.queue.state().bytes;
        if held > self.queue.room {
            return false;
        }
        // Until the size of a record is known, few are asked for.
        let target = match self.mean {
            0 => (self.queue.room / self.settings.max_record_bytes.max(1)).clamp(1, 100),
            mean => ((self.queue.room - held) / mean).clamp(1, MOST_PERMITS),
        };
        if granted.permits <= target as i64 / 2 {
            let permits = target as i64 - granted.permits;
            granted.permits += permits;
            granted.connection.tell(&command!(Flow, flow: proto::CommandFlow {
                consumer_id: granted.id,
                message_permits: u32::try_from(permits).unwrap_or(u32::MAX),
            }));
        }
        true
    }

    /// Takes in one frame; `Some` if the session is over.
    async fn frame(
        &mut self,
        frame: Frame,
        granted: &mut Granted,
        out: &mut Vec<RawRecord>,
    ) -> Result<Option<Over>> {
        let Some(message) = frame.command.message else { return Ok(None) };
        let Some(id) = EntryId::of(&message.message_id) else { return Ok(None) };
        let at = (id.ledger, id.entry as u64);
        let content = frame::message(frame.rest.clone());
        let count =
            content.as_ref().map_or(1, |(metadata, _)| metadata.num_messages_in_batch.unwrap_or(1).max(1));
        granted.permits -= i64::from(count);
        match self.progress.see(id) {
            Seen::Again => return Ok(None),
            Seen::Next => {}
            Seen::Behind(last) => {
                let (_, stands) = self.last(granted).await?;
                if let Some(stands) = stands
                    && self.progress.lost(stands)
                {
                    return Err(self.gone(last, stands));
                }
            }
        }
        let mut records = Vec::new();
        let defect = match content {
            Err(reason) if self.suspect != Some(id) => {
                // It may have been damaged on its way.
                tracing::warn!(topic = self.topic(), entry = %id, reason, "an unreadable entry: asking for it again");
                self.suspect = Some(id);
                return Ok(Some(Over::Again("an entry was unreadable")));
            }
            Err(reason) => Some((reason, frame.rest)),
            Ok((metadata, payload)) if !metadata.encryption_keys.is_empty() => {
                Some(("it is encrypted, which is not supported".to_owned(), payload))
            }
            Ok((metadata, payload)) if metadata.num_chunks_from_msg() > 1 => {
                Some(("it is a chunk of a larger message, which is not supported".to_owned(), payload))
            }
            Ok((metadata, _)) if batch::marked(&metadata).is_some() => {
                // Whoever sees the mark has all before it.
                self.queue.add(out);
                let position = Position { ledger: at.0, entry: at.1, index: 0 };
                batch::marked(&metadata).into_iter().for_each(|time| self.queue.mark(position, time));
                None
            }
            Ok((metadata, payload)) => {
                let most = self.settings.max_record_bytes;
                batch::records(at, &metadata, payload, (2 * most).max(MOST_UNPACKED), &mut records);
                for record in records.iter_mut().filter(|record| record.payload.len() > most) {
                    record.defect =
                        Some(format!("a record of {} bytes, more than {most}", record.payload.len()));
                    record.payload = batch::beginning(&record.payload);
                }
                None
            }
        };
        if let Some((reason, payload)) = defect {
            let position = Position { ledger: at.0, entry: at.1, index: 0 };
            records.push(batch::defective(position, batch::beginning(&payload), reason));
        }
        if !records.is_empty() {
            let mean = records.iter().map(size).sum::<usize>() / records.len();
            // Growth is believed at once, as it is what could take too much memory.
            self.mean = if self.mean == 0 { mean } else { mean.max((self.mean * 7 + mean) / 8) };
            self.batch = self.batch * 0.9 + records.len() as f64 * 0.1;
        }
        self.progress.take(id, &mut records);
        out.append(&mut records);
        Ok(None)
    }

    /// The last entry of the partition, and where the subscription stands.
    async fn last(&self, granted: &Granted) -> Result<(Option<EntryId>, Option<EntryId>)> {
        let request_id = granted.connection.next_id();
        let request = command!(GetLastMessageId, get_last_message_id: proto::CommandGetLastMessageId {
            consumer_id: granted.id,
            request_id,
        });
        let what = format!("asking for the end of {}", self.topic());
        let answer = granted.connection.ask(request_id, &request, &what).await;
        // While a topic moves, the broker that served it does not know the consumer any more.
        let answer = answer.map_err(|error| match error.kind() {
            Kind::Missing => Error::new(Kind::Unavailable, error.to_string()),
            _ => error,
        })?;
        let answer = answer.get_last_message_id_response.unwrap_or_default();
        let stands = answer.consumer_mark_delete_position.as_ref().and_then(EntryId::of);
        Ok((EntryId::of(&answer.last_message_id), stands))
    }

    /// Whether there is more than what was received. Notes the lag, and that nothing was lost.
    async fn look(&self, granted: &Granted) -> Result<bool> {
        let (last, stands) = self.last(granted).await?;
        if let (Some(stands), Some(received)) = (stands, self.progress.received())
            && self.progress.lost(stands)
        {
            return Err(self.gone(received, stands));
        }
        let received = self.progress.received();
        let behind = match (last, received) {
            (None, _) => false,
            (Some(_), None) => self.start != Start::Latest,
            (Some(last), Some(received)) => last > received,
        };
        let lag = if behind { self.backlog(granted).await? } else { Some(0) };
        if let Some(lag @ 1..) = lag {
            tracing::info!(topic = self.topic(), lag, "behind the end of the partition, in records");
        }
        self.queue.state().lag = lag;
        Ok(behind)
    }

    /// About how many records have not come yet.
    async fn backlog(&self, granted: &Granted) -> Result<Option<u64>> {
        let request_id = granted.connection.next_id();
        let request = command!(ConsumerStats, consumer_stats: proto::CommandConsumerStats {
            consumer_id: granted.id,
            request_id,
        });
        let what = format!("asking for the backlog of {}", self.topic());
        let answer = granted.connection.ask(request_id, &request, &what).await?;
        let entries = answer.consumer_stats_response.and_then(|stats| stats.msg_backlog);
        // The broker counts entries, and those that have come but are not acknowledged as well.
        let entries = entries.map(|entries| entries.saturating_sub(self.progress.unacked() as u64));
        Ok(entries.map(|entries| (entries as f64 * self.batch) as u64))
    }

    fn gone(&self, last: EntryId, stands: EntryId) -> Error {
        Error::new(
            Kind::Lost,
            format!(
                "{} has lost messages: entries behind {last} and up to {stands} were deleted before they were read (retention, expiry, \
                 a backlog quota, or somebody moved the subscription {})",
                self.topic(),
                self.subscription()
            ),
        )
    }

    fn acknowledge(&mut self, granted: &Granted) {
        let released = self.queue.state().released.take();
        if let Some(id) = released.and_then(|position| self.progress.release(position))
            && self.settings.durable
        {
            self.send_ack(granted, id);
        }
    }

    fn send_ack(&self, granted: &Granted, id: EntryId) {
        granted.connection.tell(&command!(Ack, ack: proto::CommandAck {
            consumer_id: granted.id,
            ack_type: AckType::Cumulative as i32,
            message_id: vec![proto::MessageIdData {
                ledger_id: id.ledger,
                entry_id: id.entry as u64,
                partition: self.partition.map(|partition| partition as i32),
                ..Default::default()
            }],
            ..Default::default()
        }));
    }

    /// Closes the consumer, and waits until the broker has heard that, and all before.
    async fn close(&self, granted: &Granted) {
        let request_id = granted.connection.next_id();
        let close = proto::CommandCloseConsumer { consumer_id: granted.id, request_id };
        let closing = command!(CloseConsumer, close_consumer: close);
        let asked = granted.connection.ask(request_id, &closing, "closing a consumer");
        let _ = tokio::time::timeout(Duration::from_secs(2), asked).await;
    }
}
