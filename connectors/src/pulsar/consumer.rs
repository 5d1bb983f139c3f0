//! The task that reads one partition: keeps a subscription on the broker that serves it, asks for as much
//! as there is room for, and hands over records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nekton_engine::connect::{Position, RawRecord, Start};
use nekton_engine::{Error, Kind, Result};

use super::admin::Admin;
use super::batch::{self, Content};
use super::client::{Backoff, Client, Purpose};
use super::connection::Heard;
use super::frame::{self, Frame};
use super::progress::{EntryId, Progress, Seen};
use super::queue::{Queue, size};
use super::subscription::{self, Subscription};
use super::topic::TopicUrl;
use super::{PulsarSettings, partition_name};

/// How long another holder of the subscription may be one of our own connections that broke.
const HALF_OPEN: Duration = Duration::from_secs(20);
/// More than this waiting to be taken in, and the broker is asked nothing.
const WAITING: usize = 1 << 20;
/// The most permits that are given at once.
const MOST_PERMITS: usize = 100_000;

/// One partition's consumer.
pub(super) struct Consumer {
    client: Arc<Client>,
    settings: PulsarSettings,
    url: TopicUrl,
    /// `None` for a plain topic.
    partition: Option<u32>,
    start: Start,
    queue: Arc<Queue>,
    progress: Progress,
    /// An entry whose checksum was wrong once.
    suspect: Option<EntryId>,
    /// Where an exclusive subscription begins is settled.
    placed: bool,
    /// Whether the subscription was there before this task.
    existed: Option<bool>,
    /// Permits that are out, minus the records that have come.
    permits: i64,
    /// Bytes of a record, a running mean; 0 until something came.
    mean: usize,
    /// Records of an entry, a running mean.
    batch: f64,
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
            permits: 0,
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
            if self.queue.is_closed() {
                return;
            }
        }
    }

    async fn session(&mut self) -> Result<Over> {
        // What was the end before may not be any more.
        self.queue.not_ended();
        let mut granted = self.subscribe().await?;
        self.permits = 0;
        let mut records = Vec::new();
        let every = if self.settings.until_end { Duration::from_millis(50) } else { Duration::from_secs(1) };
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard_at = Instant::now();
        let mut asked_at = Instant::now();
        let mut behind_before = false;
        let queue = self.queue.clone();
        loop {
            let has_room = self.flow(&granted);
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
                        let over = self.frame(frame, &granted, &mut records).await;
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
                () = queue.changed() => {
                    if queue.is_closed() {
                        self.acknowledge(&granted);
                        granted.leave().await;
                        return Ok(Over::Closed);
                    }
                }
                _ = ticks.tick() => {
                    self.acknowledge(&granted);
                    let quiet = heard_at.elapsed();
                    let ended = self.queue.has_ended();
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
                    let asks = self.queue.asks();
                    let behind = self.look(&granted).await?;
                    if !has_room {
                        // Nothing can come: that is no silence.
                        heard_at = Instant::now();
                        continue;
                    }
                    if !behind && self.settings.until_end && quiet >= every {
                        self.queue.end(asks);
                    }
                    if !behind || quiet < self.settings.silence {
                        behind_before = false;
                    } else if behind_before {
                        let seconds = quiet.as_secs();
                        tracing::warn!(topic = self.topic(), seconds, "silent although there is more: subscribing again");
                        granted.leave().await;
                        return Ok(Over::Again("it was silent"));
                    } else {
                        behind_before = true;
                    }
                }
            }
        }
    }

    async fn subscribe(&mut self) -> Result<Subscription> {
        if self.existed.is_none() && self.settings.durable && matches!(self.start, Start::PublishedAt(_)) {
            let (url, settings, partition) = (self.url.clone(), self.settings.clone(), self.partition);
            let asked = tokio::task::spawn_blocking(move || {
                Admin::new(&url, &settings)?.subscriptions(&url, partition)
            });
            let known = asked.await.map_err(|error| Error::new(Kind::Internal, error.to_string()))??;
            // A job that has begun goes on where it was.
            let existed = known.contains(&subscription::name(&self.settings.job));
            (self.existed, self.placed) = (Some(existed), existed);
        }
        let mut granted = self.ask_for_subscription().await?;
        if let Start::PublishedAt(time) = self.start
            && !self.placed
        {
            granted.seek(&self.topic(), time).await?;
            // That has closed it.
            granted = self.ask_for_subscription().await?;
        }
        if let Some(stands) = granted.last(&self.topic()).await?.1 {
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
                granted.acknowledge(acked, self.partition);
            }
        }
        self.placed = true;
        tracing::debug!(topic = self.topic(), broker = granted.connection.address, "subscribed");
        Ok(granted)
    }

    async fn ask_for_subscription(&self) -> Result<Subscription> {
        let topic = self.topic();
        let connection = self.client.broker_of(&topic, Purpose::Reading).await?;
        let received = self.progress.received();
        let request = subscription::request(&topic, &self.settings, self.start, received);
        Subscription::open(connection, request, &format!("reading {topic}")).await
    }

    /// Tells the broker how many more messages there is room for. Whether there is room at all.
    fn flow(&mut self, granted: &Subscription) -> bool {
        let Some(free) = self.queue.free() else { return false };
        // Until the size of a record is known, few are asked for.
        let target = match self.mean {
            0 => (self.queue.room() / self.settings.max_record_bytes.max(1)).clamp(1, 100),
            mean => (free / mean).clamp(1, MOST_PERMITS),
        };
        if self.permits <= target as i64 / 2 {
            let permits = target as i64 - self.permits;
            self.permits += permits;
            granted.permit(u32::try_from(permits).unwrap_or(u32::MAX));
        }
        true
    }

    /// Takes in one frame; `Some` if the session is over.
    async fn frame(
        &mut self,
        frame: Frame,
        granted: &Subscription,
        out: &mut Vec<RawRecord>,
    ) -> Result<Option<Over>> {
        let Some(message) = frame.command.message else { return Ok(None) };
        let Some(id) = EntryId::of(&message.message_id) else { return Ok(None) };
        let content = frame::message(frame.rest.clone());
        let count =
            content.as_ref().map_or(1, |(metadata, _)| metadata.num_messages_in_batch.unwrap_or(1).max(1));
        self.permits -= i64::from(count);
        match self.progress.see(id) {
            Seen::Again => return Ok(None),
            Seen::Next => {}
            Seen::Behind(last) => {
                let (_, stands) = granted.last(&self.topic()).await?;
                if let Some(stands) = stands
                    && self.progress.lost(stands)
                {
                    return Err(self.gone(last, stands));
                }
            }
        }
        let position = Position { ledger: id.ledger, entry: id.entry as u64, index: 0 };
        let content = match content {
            Err(reason) if self.suspect != Some(id) => {
                // It may have been damaged on its way.
                tracing::warn!(topic = self.topic(), entry = %id, reason, "an unreadable entry: asking for it again");
                self.suspect = Some(id);
                return Ok(Some(Over::Again("an entry was unreadable")));
            }
            Err(reason) => Content::unreadable(position, &frame.rest, reason),
            Ok((metadata, payload)) => {
                batch::content(position, &metadata, payload, self.settings.max_record_bytes)
            }
        };
        let mut records = match content {
            Content::Records(records) => records,
            Content::Mark(time) => {
                // Whoever sees the mark has all before it.
                self.queue.add(out);
                self.queue.mark(position, time);
                Vec::new()
            }
        };
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

    /// Whether there is more than what was received. Notes the lag, and that nothing was lost.
    async fn look(&self, granted: &Subscription) -> Result<bool> {
        let (last, stands) = granted.last(&self.topic()).await?;
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
        self.queue.note_lag(lag);
        Ok(behind)
    }

    /// About how many records have not come yet.
    async fn backlog(&self, granted: &Subscription) -> Result<Option<u64>> {
        let entries = granted.backlog(&self.topic()).await?;
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
                subscription::name(&self.settings.job)
            ),
        )
    }

    fn acknowledge(&mut self, granted: &Subscription) {
        let released = self.queue.released();
        if let Some(id) = released.and_then(|position| self.progress.release(position))
            && self.settings.durable
        {
            granted.acknowledge(id, self.partition);
        }
    }
}
