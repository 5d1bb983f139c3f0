//! The task that writes one partition: keeps a producer on the broker that serves it, and its window full.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nekton_engine::connect::{Waker, WriteBatch};
use nekton_engine::{Error, Kind, Result, Time};
use pulsar::message::proto::{self, ProducerAccessMode};
use tokio::sync::mpsc;

use super::anchor::Last;
use super::client::{Backoff, Client, Purpose};
use super::connection::{Heard, command, refusal};
use super::frame;
use super::granted::Granted;
use super::progress::EntryId;
use super::window::Window;

/// How long a broker may take to notice that a connection of ours, which holds what we ask for, is gone.
const HALF_OPEN: Duration = Duration::from_secs(45);

/// What the task is to write.
pub(super) enum Given {
    Batch(WriteBatch),
    /// All of this time and before has been given.
    Mark(Time),
}

/// What the task tells the writer's owner.
pub(super) struct Told {
    state: Mutex<State>,
    waker: Waker,
}

#[derive(Default)]
struct State {
    written: Option<Time>,
    error: Option<Error>,
}

impl Told {
    pub(super) fn new(waker: Waker) -> Self {
        Told { state: Mutex::default(), waker }
    }

    pub(super) fn written(&self) -> Result<Option<Time>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.error {
            Some(error) => Err(error.clone()),
            None => Ok(state.written),
        }
    }

    fn wrote(&self, written: Option<Time>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.written < written {
            state.written = written;
            drop(state);
            (self.waker)();
        }
    }

    fn fail(&self, error: Error) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).error = Some(error);
        (self.waker)();
    }
}

/// One partition's producer.
pub(super) struct Producer {
    pub(super) client: Arc<Client>,
    pub(super) topic: String,
    /// The name of an exclusive producer; one that shares the topic gets its name from the broker.
    pub(super) name: Option<String>,
    pub(super) schema: Option<proto::Schema>,
    pub(super) window: Window,
    /// The number of our exclusive ownership, once granted.
    pub(super) epoch: Option<u64>,
    pub(super) told: Arc<Told>,
    /// The name that the broker gave a producer that shares its topic: with it, nothing is stored twice.
    pub(super) given: Option<String>,
    /// Is told which entry is the last, so that it is kept.
    pub(super) last: Option<Last>,
}

/// A producer that the broker has granted.
pub(super) type Opened = Granted<mpsc::UnboundedReceiver<Heard>>;

impl Producer {
    /// Asks for the producer. The first time, a producer of an earlier run is fenced off; later on, only
    /// what is still ours is taken back.
    pub(super) async fn open(&mut self) -> Result<Opened> {
        let connection = self.client.broker_of(&self.topic, Purpose::Writing).await?;
        let mode = match (&self.name, self.epoch) {
            (None, _) => ProducerAccessMode::Shared,
            (_, None) => ProducerAccessMode::ExclusiveWithFencing,
            (_, Some(_)) => ProducerAccessMode::Exclusive,
        };
        let granted = Granted::producer(connection);
        let request = |request_id| {
            command!(Producer, producer: proto::CommandProducer {
                topic: self.topic.clone(),
                producer_id: granted.id,
                request_id,
                producer_name: self.name.clone().or_else(|| self.given.clone()),
                user_provided_producer_name: Some(self.name.is_some()),
                schema: self.schema.clone(),
                producer_access_mode: Some(mode as i32),
                topic_epoch: self.epoch,
                ..Default::default()
            })
        };
        let answer = granted.ask(&format!("writing to {}", self.topic), request).await;
        let success = answer?.producer_success.unwrap_or_default();
        if self.name.is_some() {
            self.epoch = success.topic_epoch.or(self.epoch);
        }
        let known = self.name.is_some() || self.given.is_some();
        let last = u64::try_from(success.last_sequence_id()).ok().filter(|_| known);
        if self.name.is_none() {
            self.given = Some(success.producer_name.clone());
        }
        self.window.granted(&success.producer_name, granted.connection.max_message, last)?;
        self.told.wrote(self.window.written());
        Ok(granted)
    }

    /// Writes what comes until no more can come and all is out.
    pub(super) async fn run(mut self, mut granted: Opened, mut batches: mpsc::UnboundedReceiver<Given>) {
        let mut backoff = Backoff::default();
        let mut written = None;
        loop {
            match self.write(&mut granted, &mut batches).await {
                Ok(Over::Done) => return,
                Ok(Over::Again(reason)) => {
                    tracing::info!(topic = self.topic, reason, "the producer is opened again");
                    drop(granted);
                    if written < self.window.written() {
                        (written, backoff) = (self.window.written(), Backoff::default());
                    }
                    backoff.pause().await;
                    match self.reopen().await {
                        Ok(again) => granted = again,
                        Err(error) => return self.told.fail(error),
                    }
                }
                Err(error) => return self.told.fail(error),
            }
        }
    }

    async fn reopen(&mut self) -> Result<Opened> {
        let mut backoff = Backoff::default();
        let mut held_since: Option<Instant> = None;
        loop {
            match self.open().await {
                Ok(granted) => return Ok(granted),
                Err(error) if error.kind() == Kind::Unavailable => {
                    held_since = None;
                    if backoff.attempts().is_multiple_of(8) && backoff.attempts() > 0 {
                        tracing::warn!(topic = self.topic, %error, "still trying to write");
                    }
                }
                Err(error) if error.kind() == Kind::Conflict => {
                    // The holder may be a connection of ours that broke.
                    let held = held_since.get_or_insert_with(Instant::now).elapsed();
                    if error.to_string().contains("has already moved") || held > HALF_OPEN {
                        let hint = "a newer run of this job, or another job, has taken over its output: this one ends";
                        return Err(Error::new(Kind::Conflict, format!("{error}: {hint}")));
                    }
                }
                Err(error) => return Err(error),
            }
            backoff.pause().await;
        }
    }

    async fn write(
        &mut self,
        granted: &mut Opened,
        batches: &mut mpsc::UnboundedReceiver<Given>,
    ) -> Result<Over> {
        let mut more = true;
        loop {
            while let Some(entry) = self.window.next_to_send() {
                let send = command!(Send, send: proto::CommandSend {
                    producer_id: granted.id,
                    sequence_id: entry.first,
                    highest_sequence_id: Some(entry.highest),
                    num_messages: entry.metadata.num_messages_in_batch,
                    ..Default::default()
                });
                granted.connection.send(frame::encode_message(&send, &entry.metadata, &entry.payload));
            }
            if !more && self.window.is_empty() {
                // All is out; whether the broker hears this changes nothing.
                granted.leave().await;
                return Ok(Over::Done);
            }
            tokio::select! {
                batch = batches.recv(), if more => match batch {
                    Some(Given::Batch(batch)) => self.window.push(batch)?,
                    Some(Given::Mark(time)) => self.window.push_mark(time),
                    None => more = false,
                },
                heard = granted.heard.recv() => {
                    let Some(Heard::Frame(frame)) = heard else {
                        return Ok(Over::Again("the connection is lost"));
                    };
                    let command = frame.command;
                    if let Some(receipt) = command.send_receipt {
                        let entry = receipt.message_id.as_ref().map(EntryId::of);
                        let stored = entry.is_none_or(|entry| entry.is_some());
                        if let (Some(last), Some(entry)) = (&mut self.last, entry.flatten()) {
                            last.stored(entry);
                        }
                        self.window.receipt(receipt.sequence_id, stored)?;
                        self.told.wrote(self.window.written());
                    } else if let Some(error) = command.send_error {
                        let error = refusal(error.error, &error.message, &format!("writing to {}", self.topic));
                        match error.kind() {
                            Kind::Denied | Kind::Missing | Kind::Config => return Err(error),
                            // A fenced producer is told so when it asks again.
                            _ => {
                                tracing::info!(topic = self.topic, %error, "the broker has not stored a message");
                                granted.close().await;
                                return Ok(Over::Again("the broker has not stored a message"));
                            }
                        }
                    } else if command.close_producer.is_some() {
                        return Ok(Over::Again("the topic has moved"));
                    }
                }
            }
        }
    }
}

enum Over {
    /// Everything is out.
    Done,
    /// The producer is gone, for this reason.
    Again(&'static str),
}
