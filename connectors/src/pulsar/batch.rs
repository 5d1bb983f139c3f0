//! Entries: many messages in one, compressed.

use std::io::Read;

use bytes::{Buf, Bytes, BytesMut};
use nekton_engine::connect::{Message, Position, RawRecord};
use prost::Message as _;
use pulsar::message::proto::{CompressionType, KeyValue, MessageMetadata, SingleMessageMetadata};

/// The most messages of an entry; a record costs memory even if it is empty.
const MOST_MESSAGES: u32 = 200_000;
/// An entry may have so many bytes when it is unpacked, or twice those of the longest record.
const MOST_UNPACKED: usize = 32 << 20;

/// How entries are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4 blocks: fast, halves JSON.
    #[default]
    Lz4,
    /// zlib: slow, small.
    Zlib,
    /// Zstandard: small, rather fast.
    Zstd,
    /// Snappy.
    Snappy,
}

impl Compression {
    fn id(self) -> CompressionType {
        match self {
            Compression::None => CompressionType::None,
            Compression::Lz4 => CompressionType::Lz4,
            Compression::Zlib => CompressionType::Zlib,
            Compression::Zstd => CompressionType::Zstd,
            Compression::Snappy => CompressionType::Snappy,
        }
    }

    fn compress(self, bytes: Bytes) -> std::io::Result<Bytes> {
        Ok(match self {
            Compression::None => bytes,
            Compression::Lz4 => lz4_flex::block::compress(&bytes).into(),
            Compression::Zlib => {
                let mut packed = Vec::new();
                flate2::read::ZlibEncoder::new(&bytes[..], flate2::Compression::default())
                    .read_to_end(&mut packed)?;
                packed.into()
            }
            Compression::Zstd => zstd::bulk::compress(&bytes, 1)?.into(),
            Compression::Snappy => {
                snap::raw::Encoder::new().compress_vec(&bytes).map_err(std::io::Error::other)?.into()
            }
        })
    }
}

/// Undoes the compression of an entry of `size` bytes, at most `limit`.
fn decompress(metadata: &MessageMetadata, payload: Bytes, limit: usize) -> Result<Bytes, String> {
    let kind = CompressionType::try_from(metadata.compression.unwrap_or(0))
        .map_err(|_| "a compression that is not known".to_owned())?;
    if kind == CompressionType::None {
        return Ok(payload);
    }
    let size = metadata.uncompressed_size.unwrap_or(0) as usize;
    if size > limit {
        return Err(format!("an entry of {size} bytes, more than {limit}"));
    }
    let unpacked = match kind {
        CompressionType::Lz4 => {
            lz4_flex::block::decompress(&payload, size).map_err(|error| error.to_string())?
        }
        CompressionType::Zstd => zstd::bulk::decompress(&payload, size).map_err(|error| error.to_string())?,
        CompressionType::Snappy => {
            let said = snap::raw::decompress_len(&payload).map_err(|error| error.to_string())?;
            if said > limit {
                return Err(format!("an entry of {said} bytes, more than {limit}"));
            }
            snap::raw::Decoder::new().decompress_vec(&payload).map_err(|error| error.to_string())?
        }
        _ => {
            let mut unpacked = Vec::with_capacity(size);
            flate2::read::ZlibDecoder::new(&payload[..])
                .take(size as u64 + 1)
                .read_to_end(&mut unpacked)
                .map_err(|error| error.to_string())?;
            unpacked
        }
    };
    if unpacked.len() != size {
        return Err(format!("{} bytes unpacked where {size} were announced", unpacked.len()));
    }
    Ok(unpacked.into())
}

/// What the fields of a [`SingleMessageMetadata`] say that matter, read without copying.
#[derive(Debug, Default, PartialEq, Eq)]
struct Single {
    key: Option<Bytes>,
    key_is_base64: bool,
    size: usize,
    null: bool,
    compacted_out: bool,
}

/// Reads a message's metadata by hand: with generated code, its strings and lists would be allocated
/// for each message. Field numbers as in PulsarApi.proto.
fn single(mut bytes: Bytes) -> Result<Single, String> {
    use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
    let unreadable = |error: prost::DecodeError| format!("unreadable message metadata: {error}");
    let mut single = Single::default();
    while bytes.has_remaining() {
        let (tag, wire) = decode_key(&mut bytes).map_err(unreadable)?;
        match (tag, wire) {
            (2, WireType::LengthDelimited) => {
                let size = decode_varint(&mut bytes).map_err(unreadable)? as usize;
                if size > bytes.len() {
                    return Err("a key that ends too early".to_owned());
                }
                single.key = Some(bytes.split_to(size));
            }
            (3, WireType::Varint) => {
                let size = decode_varint(&mut bytes).map_err(unreadable)?;
                single.size = usize::try_from(size).map_err(|_| "a negative size".to_owned())?;
            }
            (4, WireType::Varint) => {
                single.compacted_out = decode_varint(&mut bytes).map_err(unreadable)? != 0
            }
            (6, WireType::Varint) => {
                single.key_is_base64 = decode_varint(&mut bytes).map_err(unreadable)? != 0
            }
            (9, WireType::Varint) => single.null = decode_varint(&mut bytes).map_err(unreadable)? != 0,
            _ => skip_field(wire, tag, &mut bytes, DecodeContext::default()).map_err(unreadable)?,
        }
    }
    Ok(single)
}

/// What an entry holds for who reads it.
pub(super) enum Content {
    Records(Vec<RawRecord>),
    /// Nothing: it marks this time as closed.
    Mark(u64),
}

impl Content {
    /// What cannot be read is one record, with the reason.
    pub(super) fn unreadable(position: Position, payload: &Bytes, reason: String) -> Self {
        Content::Records(vec![defective(position, beginning(payload), reason)])
    }
}

/// What is in an entry, whose records may have `most` bytes each; `at` is the position of the first.
pub(super) fn content(at: Position, metadata: &MessageMetadata, payload: Bytes, most: usize) -> Content {
    if !metadata.encryption_keys.is_empty() {
        let reason = "it is encrypted, which is not supported".to_owned();
        return Content::unreadable(at, &payload, reason);
    }
    if metadata.num_chunks_from_msg() > 1 {
        let reason = "it is a chunk of a larger message, which is not supported".to_owned();
        return Content::unreadable(at, &payload, reason);
    }
    if let Some(time) = marked(metadata) {
        return Content::Mark(time);
    }
    let mut all = Vec::new();
    records((at.ledger, at.entry), metadata, payload, (2 * most).max(MOST_UNPACKED), &mut all);
    for record in all.iter_mut().filter(|record| record.payload.len() > most) {
        record.defect = Some(format!("a record of {} bytes, more than {most}", record.payload.len()));
        record.payload = beginning(&record.payload);
    }
    Content::Records(all)
}

/// Cuts an entry into its records. What is wrong with it as a whole makes one record with a defect.
fn records(
    at: (u64, u64),
    metadata: &MessageMetadata,
    payload: Bytes,
    limit: usize,
    out: &mut Vec<RawRecord>,
) {
    let position = |index: u32| Position { ledger: at.0, entry: at.1, index };
    let before = out.len();
    let cut = || -> Result<(), String> {
        let mut payload = decompress(metadata, payload.clone(), limit)?;
        let Some(count) = metadata.num_messages_in_batch else {
            let null = metadata.null_value.unwrap_or(false);
            out.push(RawRecord {
                position: position(0),
                key: metadata.partition_key.clone().map(Bytes::from),
                payload: if null { Bytes::new() } else { payload },
                published: metadata.publish_time,
                defect: None,
            });
            return Ok(());
        };
        let count = u32::try_from(count).map_err(|_| "a negative count".to_owned())?;
        if count > MOST_MESSAGES {
            return Err(format!("it has {count} messages, more than {MOST_MESSAGES}"));
        }
        for index in 0..count {
            if payload.len() < 4 {
                return Err(format!("it ends before message {index} of {count}"));
            }
            let size = payload.get_u32() as usize;
            if size > payload.len() {
                return Err(format!("it ends in message {index} of {count}"));
            }
            let single = single(payload.split_to(size))?;
            if single.size > payload.len() {
                return Err(format!("it ends in message {index} of {count}"));
            }
            let content = payload.split_to(single.size);
            if single.compacted_out {
                continue;
            }
            let _ = single.key_is_base64;
            out.push(RawRecord {
                position: position(index),
                key: single.key,
                payload: if single.null { Bytes::new() } else { content },
                published: metadata.publish_time,
                defect: None,
            });
        }
        Ok(())
    };
    let mut cut = cut;
    if let Err(reason) = cut() {
        // All of the entry is set aside: what was cut off before the defect may be wrong as well.
        out.truncate(before);
        out.push(defective(position(0), beginning(&payload), reason));
    }
}

/// The beginning of what is too long, or cannot be read: a copy, which does not keep the rest in memory.
fn beginning(payload: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&payload[..payload.len().min(1 << 10)])
}

/// A record for what cannot be read.
fn defective(position: Position, payload: Bytes, reason: String) -> RawRecord {
    RawRecord {
        position,
        key: None,
        payload,
        published: 0,
        defect: Some(format!("unreadable entry: {reason}")),
    }
}

/// The metadata and payload of an entry of these messages; `first` is the sequence id of the first.
pub(super) fn entry(
    producer: &str,
    time: u64,
    index: u64,
    first: u64,
    messages: &[Message],
    compression: Compression,
) -> std::io::Result<(MessageMetadata, Bytes)> {
    let mut payload = BytesMut::new();
    for (number, message) in messages.iter().enumerate() {
        let value = message.value.as_deref().unwrap_or_default();
        let single = SingleMessageMetadata {
            partition_key: message.key.as_deref().map(key_text),
            payload_size: value.len() as i32,
            event_time: Some(time),
            sequence_id: Some(first + number as u64),
            null_value: message.value.is_none().then_some(true),
            ..Default::default()
        };
        payload.extend_from_slice(&(single.encoded_len() as u32).to_be_bytes());
        single.encode(&mut payload).map_err(std::io::Error::other)?;
        payload.extend_from_slice(value);
    }
    let size = payload.len();
    let payload = compression.compress(payload.freeze())?;
    let property = |key: &str, value: u64| KeyValue { key: key.to_owned(), value: value.to_string() };
    let metadata = MessageMetadata {
        producer_name: producer.to_owned(),
        sequence_id: first,
        highest_sequence_id: Some(first + messages.len() as u64 - 1),
        publish_time: super::now(),
        event_time: Some(time),
        num_messages_in_batch: Some(messages.len() as i32),
        compression: (compression != Compression::None).then_some(compression.id() as i32),
        uncompressed_size: (compression != Compression::None).then_some(size as u32),
        properties: vec![property("nekton.time", time), property("nekton.index", index)],
        ..Default::default()
    };
    Ok((metadata, payload))
}

/// The property that makes an entry a progress mark: all of this time and before stands before it.
const CLOSED: &str = "nekton.closed";

/// The metadata of a progress mark: one message without a value, whose properties any client can see.
pub(super) fn mark(producer: &str, time: u64, id: u64) -> MessageMetadata {
    MessageMetadata {
        producer_name: producer.to_owned(),
        sequence_id: id,
        highest_sequence_id: Some(id),
        publish_time: super::now(),
        event_time: Some(time),
        null_value: Some(true),
        properties: vec![KeyValue { key: CLOSED.to_owned(), value: time.to_string() }],
        ..Default::default()
    }
}

/// The time that an entry marks as closed, if it is a mark.
pub(super) fn marked(metadata: &MessageMetadata) -> Option<u64> {
    if metadata.num_messages_in_batch.is_some() {
        return None;
    }
    metadata.properties.iter().find(|property| property.key == CLOSED)?.value.parse().ok()
}

/// A key as others see it: the text of a JSON string, any other JSON as it is.
fn key_text(json: &[u8]) -> String {
    serde_json::from_slice::<String>(json).unwrap_or_else(|_| String::from_utf8_lossy(json).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages() -> impl Strategy<Value = Vec<Message>> {
        let key = prop::option::of("[a-z]{0,9}");
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 1..60));
        prop::collection::vec((key, value), 1..40).prop_map(|all| {
            all.into_iter()
                .map(|(key, value)| Message {
                    key: key.map(|key| serde_json::to_vec(&key).expect("text is JSON").into()),
                    value: value.map(Bytes::from),
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_written(messages in messages(), kind in 0..5_usize) {
            let kinds =
                [Compression::None, Compression::Lz4, Compression::Zlib, Compression::Zstd, Compression::Snappy];
            let (metadata, payload) = entry("p", 5, 0, 100, &messages, kinds[kind]).unwrap();
            let mut read = Vec::new();
            records((1, 2), &metadata, payload, 1 << 20, &mut read);
            prop_assert_eq!(read.len(), messages.len());
            for (index, (record, message)) in read.iter().zip(&messages).enumerate() {
                prop_assert_eq!(&record.defect, &None);
                prop_assert_eq!(record.position, Position { ledger: 1, entry: 2, index: index as u32 });
                prop_assert_eq!(&record.payload[..], message.value.as_deref().unwrap_or_default());
                let key = message.key.as_deref().map(key_text);
                prop_assert_eq!(record.key.as_deref(), key.as_deref().map(str::as_bytes));
            }
        }

        #[test]
        fn arbitrary_entries_are_defects(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..5_i32, count in 0..9_i32, size in 0..500_u32) {
            let metadata = MessageMetadata {
                compression: Some(kind),
                uncompressed_size: Some(size),
                num_messages_in_batch: Some(count),
                ..Default::default()
            };
            records((1, 2), &metadata, bytes.into(), 1 << 20, &mut Vec::new());
        }
    }

    #[test]
    fn a_mark_is_known_as_one() {
        assert_eq!(marked(&mark("p", 17, 100)), Some(17));
        let message = Message { key: None, value: Some("{}".into()) };
        assert_eq!(marked(&entry("p", 5, 0, 100, &[message], Compression::None).unwrap().0), None);
    }

    #[test]
    fn an_entry_that_would_grow_too_large_is_a_defect() {
        let message = Message { key: None, value: Some(vec![0; 100_000].into()) };
        let (metadata, payload) = entry("p", 5, 0, 100, &[message], Compression::Lz4).unwrap();
        let mut read = Vec::new();
        records((1, 2), &metadata, payload, 10_000, &mut read);
        assert!(read[0].defect.as_ref().unwrap().contains("more than 10000"));
    }
}
