//! The last entry of a partition: what an earlier run wrote last.

use std::time::Duration;

use bytes::Bytes;
use nekton_engine::{Error, Kind, Result, Time};
use pulsar::message::proto::{self, command_subscribe as subscribe};

use super::batch;
use super::client::{Client, Purpose};
use super::connection::Heard;
use super::frame;
use super::progress::EntryId;
use super::subscription::Subscription;

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
    let from = |ledger_id: u64, entry_id: u64| {
        let start = proto::MessageIdData { ledger_id, entry_id, ..Default::default() };
        let request = proto::CommandSubscribe {
            topic: topic.to_owned(),
            subscription: name.clone(),
            sub_type: subscribe::SubType::Exclusive as i32,
            durable: Some(false),
            start_message_id: Some(start),
            ..Default::default()
        };
        Subscription::open(connection.clone(), request, &what)
    };
    let mut end = from(i64::MAX as u64, i64::MAX as u64).await?;
    let last = end.last(topic).await;
    end.close().await;
    let Some(last) = last?.0 else { return Ok(None) };
    let mut there = from(last.ledger, last.entry as u64).await?;
    let entry = entry(&mut there, last, &what).await;
    there.close().await;
    let (at, entry) = entry?;
    let (metadata, _) = frame::message(entry)
        .map_err(|error| Error::new(Kind::Unavailable, format!("{what}: unreadable ({error})")))?;
    let highest_sequence_id = metadata.highest_sequence_id.unwrap_or(metadata.sequence_id);
    if let Some(time) = batch::marked(&metadata) {
        return Ok(Some(Tail { time, count: u64::MAX, highest_sequence_id, at }));
    }
    let property = |key: &str| {
        metadata.properties.iter().find(|p| p.key == key).and_then(|p| p.value.parse::<u64>().ok())
    };
    let Some((time, index)) = property("nekton.time").zip(property("nekton.index")) else {
        return Ok(None);
    };
    let count = index + u64::try_from(metadata.num_messages_in_batch.unwrap_or(1)).unwrap_or(1);
    Ok(Some(Tail { time, count, highest_sequence_id, at }))
}

/// The first entry that comes from `wanted` on.
async fn entry(from: &mut Subscription, wanted: EntryId, what: &str) -> Result<(EntryId, Bytes)> {
    from.permit(1);
    loop {
        let heard = tokio::time::timeout(PATIENCE, from.heard.next()).await;
        let Ok(Heard::Frame(frame)) = heard else {
            return Err(Error::new(Kind::Unavailable, format!("{what}: the last entry did not come")));
        };
        let Some(message) = frame.command.message else { continue };
        if let Some(id) = EntryId::of(&message.message_id).filter(|id| *id >= wanted) {
            return Ok((id, frame.rest));
        }
    }
}
