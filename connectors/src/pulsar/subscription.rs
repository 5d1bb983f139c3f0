//! A subscription at a broker: what the broker is asked for and about it, and what it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nekton_engine::connect::Start;
use nekton_engine::{Error, Kind, Result};
use pulsar::message::proto::{self, command_ack::AckType, command_subscribe as subscribe};

use super::PulsarSettings;
use super::connection::{Connection, Outbox, command};
use super::granted::Granted;
use super::progress::EntryId;

pub(super) type Subscription = Granted<Outbox>;

/// The name of the durable subscription that a job reads with.
pub(super) fn name(job: &str) -> String {
    format!("nekton-{job}")
}

/// The request of who reads a topic or partition as its settings say, and has `received` it up to an entry.
pub(super) fn request(
    topic: &str,
    settings: &PulsarSettings,
    start: Start,
    received: Option<EntryId>,
) -> proto::CommandSubscribe {
    // Tells the subscriptions apart that leave nothing behind.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let start_message_id = (!settings.durable).then(|| {
        let at = |ledger_id, entry_id| proto::MessageIdData { ledger_id, entry_id, ..Default::default() };
        match (received, start) {
            (Some(id), _) => at(id.ledger, id.entry as u64),
            (None, Start::Latest) => at(i64::MAX as u64, i64::MAX as u64),
            (None, Start::After(position)) => at(position.ledger, position.entry),
            (None, _) => at(u64::MAX, u64::MAX),
        }
    });
    let position = match start {
        Start::Latest => subscribe::InitialPosition::Latest,
        _ => subscribe::InitialPosition::Earliest,
    };
    let name = name(&settings.job);
    let subscription = match settings.durable {
        true => name,
        false => format!("{name}-{}-{}", super::now(), NEXT.fetch_add(1, Ordering::Relaxed)),
    };
    proto::CommandSubscribe {
        topic: topic.to_owned(),
        subscription,
        sub_type: subscribe::SubType::Exclusive as i32,
        durable: Some(settings.durable),
        start_message_id,
        initial_position: Some(position as i32),
        ..Default::default()
    }
}

impl Subscription {
    /// Subscribes. The numbers of `request` are filled in, and no topic is made.
    pub(super) async fn open(
        connection: Arc<Connection>,
        request: proto::CommandSubscribe,
        what: &str,
    ) -> Result<Self> {
        let granted = Granted::consumer(connection);
        let request = |request_id| {
            let (consumer_id, force_topic_creation) = (granted.id, Some(false));
            let request =
                proto::CommandSubscribe { consumer_id, request_id, force_topic_creation, ..request };
            command!(Subscribe, subscribe: request)
        };
        granted.ask(what, request).await?;
        Ok(granted)
    }

    /// So many more messages may come.
    pub(super) fn permit(&self, messages: u32) {
        let flow = proto::CommandFlow { consumer_id: self.id, message_permits: messages };
        self.connection.tell(&command!(Flow, flow: flow));
    }

    /// All up to this entry is done with.
    pub(super) fn acknowledge(&self, id: EntryId, partition: Option<u32>) {
        self.connection.tell(&command!(Ack, ack: proto::CommandAck {
            consumer_id: self.id,
            ack_type: AckType::Cumulative as i32,
            message_id: vec![proto::MessageIdData {
                ledger_id: id.ledger,
                entry_id: id.entry as u64,
                partition: partition.map(|partition| partition as i32),
                ..Default::default()
            }],
            ..Default::default()
        }));
    }

    /// Goes to the first message that was published at this time or later. The broker then closes it.
    pub(super) async fn seek(&self, topic: &str, time: u64) -> Result<()> {
        let seek = |request_id| {
            command!(Seek, seek: proto::CommandSeek {
                consumer_id: self.id,
                request_id,
                message_id: None,
                message_publish_time: Some(time),
            })
        };
        self.ask(&format!("going to a time in {topic}"), seek).await.map(|_| ())
    }

    /// The last entry of the topic or partition, and where the subscription stands.
    pub(super) async fn last(&self, topic: &str) -> Result<(Option<EntryId>, Option<EntryId>)> {
        let request = |request_id| {
            let request = proto::CommandGetLastMessageId { consumer_id: self.id, request_id };
            command!(GetLastMessageId, get_last_message_id: request)
        };
        let answer = self.ask(&format!("asking for the end of {topic}"), request).await;
        // While a topic moves, the broker that served it does not know the consumer any more.
        let answer = answer.map_err(|error| match error.kind() {
            Kind::Missing => Error::new(Kind::Unavailable, error.to_string()),
            _ => error,
        })?;
        let answer = answer.get_last_message_id_response.unwrap_or_default();
        let stands = answer.consumer_mark_delete_position.as_ref().and_then(EntryId::of);
        Ok((EntryId::of(&answer.last_message_id), stands))
    }

    /// How many entries are not acknowledged, if the broker says it.
    pub(super) async fn backlog(&self, topic: &str) -> Result<Option<u64>> {
        let request = |request_id| {
            let request = proto::CommandConsumerStats { consumer_id: self.id, request_id };
            command!(ConsumerStats, consumer_stats: request)
        };
        let answer = self.ask(&format!("asking for the backlog of {topic}"), request).await?;
        Ok(answer.consumer_stats_response.and_then(|stats| stats.msg_backlog))
    }
}
