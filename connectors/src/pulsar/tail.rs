//! The last entry of a partition: what an earlier run wrote last.

use std::time::Duration;

use nekton_engine::{Error, Kind, Result, Time};
use pulsar::message::proto::{self, command_subscribe as subscribe};

use super::batch;
use super::client::{Client, Purpose};
use super::connection::{Heard, command};
use super::frame;
use super::progress::EntryId;

/// How long the last entry may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the last entry of a partition says, if one of us wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) time: Time,
    /// How many messages of that time the partition holds; `u64::MAX` if the entry marks it as closed.
    pub(super) count: u64,
    pub(super) highest_sequence_id: u64,
    pub(super) at: EntryId,
}

/// Reads the last entry of a topic or partition, leaving nothing behind on the broker.
pub(super) async fn tail(client: &Client, topic: &str) -> Result<Option<Tail>> {
    let what = format!("reading the end of {topic}");
    let connection = client.broker_of(topic, Purpose::Reading).await?;
    let name = format!("nekton-tail-{}-{}", super::now(), connection.next_id());
    let mut at =
        proto::MessageIdData { ledger_id: i64::MAX as u64, entry_id: i64::MAX as u64, ..Default::default() };
    let mut last = None;
    loop {
        let id = connection.next_id();
        let mut heard = connection.hear_consumer(id);
        let request_id = connection.next_id();
        let request = command!(Subscribe, subscribe: proto::CommandSubscribe {
            topic: topic.to_owned(),
            subscription: name.clone(),
            sub_type: subscribe::SubType::Exclusive as i32,
            consumer_id: id,
            request_id,
            durable: Some(false),
            start_message_id: Some(at.clone()),
            force_topic_creation: Some(false),
            ..Default::default()
        });
        let close = |request_id| command!(CloseConsumer, close_consumer: proto::CommandCloseConsumer { consumer_id: id, request_id });
        let asked = connection.ask(request_id, &request, &what).await;
        let outcome = async {
            asked?;
            match last {
                None => {
                    let request_id = connection.next_id();
                    let request = command!(GetLastMessageId, get_last_message_id: proto::CommandGetLastMessageId {
                        consumer_id: id,
                        request_id,
                    });
                    let answer = connection.ask(request_id, &request, &what).await?;
                    let answer = answer.get_last_message_id_response.unwrap_or_default();
                    last = EntryId::of(&answer.last_message_id);
                    Ok(None)
                }
                Some(wanted) => {
                    let flow = proto::CommandFlow { consumer_id: id, message_permits: 1 };
                    connection.tell(&command!(Flow, flow: flow));
                    loop {
                        let heard = tokio::time::timeout(PATIENCE, heard.next()).await;
                        let Ok(Heard::Frame(frame)) = heard else {
                            return Err(Error::new(Kind::Unavailable, format!("{what}: the last entry did not come")));
                        };
                        let Some(message) = frame.command.message else { continue };
                        if let Some(id) = EntryId::of(&message.message_id).filter(|id| *id >= wanted) {
                            return Ok(Some((id, frame.rest)));
                        }
                    }
                }
            }
        }
        .await;
        let closing = connection.next_id();
        let _ = connection.ask(closing, &close(closing), &what).await;
        connection.forget(id);
        match (outcome?, last) {
            (Some((at, entry)), _) => {
                let (metadata, _) = frame::message(entry).map_err(|error| {
                    Error::new(Kind::Unavailable, format!("{what}: unreadable ({error})"))
                })?;
                let highest_sequence_id = metadata.highest_sequence_id.unwrap_or(metadata.sequence_id);
                if let Some(time) = batch::marked(&metadata) {
                    return Ok(Some(Tail { time, count: u64::MAX, highest_sequence_id, at }));
                }
                let property = |key: &str| {
                    metadata
                        .properties
                        .iter()
                        .find(|p| p.key == key)
                        .and_then(|p| p.value.parse::<u64>().ok())
                };
                let Some((time, index)) = property("nekton.time").zip(property("nekton.index")) else {
                    return Ok(None);
                };
                let count = index + u64::try_from(metadata.num_messages_in_batch.unwrap_or(1)).unwrap_or(1);
                return Ok(Some(Tail { time, count, highest_sequence_id, at }));
            }
            (None, None) => return Ok(None),
            (None, Some(id)) => {
                at = proto::MessageIdData {
                    ledger_id: id.ledger,
                    entry_id: id.entry as u64,
                    ..Default::default()
                };
            }
        }
    }
}
