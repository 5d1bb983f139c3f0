//! Frames of Pulsar's binary protocol: bytes in, commands out, and back.
//!
//! A frame is `[total size u32][command size u32][command]`, and for messages
//! `[magic 0x0e01][crc32c u32][metadata size u32][metadata][payload]` behind it (Pulsar documentation,
//! "Pulsar binary protocol specification", "Framing"). A message to a consumer may have a broker entry metadata
//! (`[magic 0x0e02][size u32][..]`) in front of that.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;

use pulsar::message::proto::{BaseCommand, MessageMetadata};

/// The largest frame that is accepted: the broker's default message limit of 5 MiB, raised at most to
/// this by those who configure it so, and room for metadata.
pub(super) const MOST: usize = 128 << 20;

const MAGIC_CHECKSUM: u16 = 0x0e01;
const MAGIC_BROKER_ENTRY: u16 = 0x0e02;

/// A frame from the broker.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) command: BaseCommand,
    /// What stands behind the command: a message, not looked into yet.
    pub(super) rest: Bytes,
}

/// Takes the next whole frame off the front of `buffer`; `None` when it is not whole yet.
pub(super) fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, String> {
    if buffer.len() < 4 {
        return Ok(None);
    }
    let total = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
    if !(4..=MOST).contains(&total) {
        return Err(format!("a frame of {total} bytes"));
    }
    if buffer.len() < total + 4 {
        buffer.reserve(total + 4 - buffer.len());
        return Ok(None);
    }
    let mut frame = buffer.split_to(total + 4).freeze();
    frame.advance(4);
    let size = frame.get_u32() as usize;
    if size > frame.len() {
        return Err(format!("a command of {size} bytes in a frame of {total}"));
    }
    let command = BaseCommand::decode(frame.split_to(size))
        .map_err(|error| format!("an unreadable command: {error}"))?;
    Ok(Some(Frame { command, rest: frame }))
}

/// The metadata and payload of a message frame's rest, its checksum verified.
pub(super) fn message(mut rest: Bytes) -> Result<(MessageMetadata, Bytes), String> {
    let short = || "a message that ends too early".to_owned();
    if rest.len() >= 6 && rest[..2] == MAGIC_BROKER_ENTRY.to_be_bytes() {
        rest.advance(2);
        let size = rest.get_u32() as usize;
        if size > rest.len() {
            return Err(short());
        }
        rest.advance(size);
    }
    if rest.len() >= 6 && rest[..2] == MAGIC_CHECKSUM.to_be_bytes() {
        rest.advance(2);
        let said = rest.get_u32();
        let is = crc32c::crc32c(&rest);
        if said != is {
            return Err(format!("checksum {is:08x} where {said:08x} was sent"));
        }
    }
    if rest.len() < 4 {
        return Err(short());
    }
    let size = rest.get_u32() as usize;
    if size > rest.len() {
        return Err(short());
    }
    let metadata = MessageMetadata::decode(rest.split_to(size))
        .map_err(|error| format!("unreadable metadata: {error}"))?;
    Ok((metadata, rest))
}

/// A frame of a command alone.
pub(super) fn encode(command: &BaseCommand) -> Bytes {
    let size = command.encoded_len();
    let mut frame = BytesMut::with_capacity(size + 8);
    frame.put_u32(size as u32 + 4);
    frame.put_u32(size as u32);
    command.encode(&mut frame).expect("the buffer has room");
    frame.freeze()
}

/// A frame of a command and a message.
pub(super) fn encode_message(command: &BaseCommand, metadata: &MessageMetadata, payload: &[u8]) -> Bytes {
    let (command_size, metadata_size) = (command.encoded_len(), metadata.encoded_len());
    let total = 4 + command_size + 2 + 4 + 4 + metadata_size + payload.len();
    let mut frame = BytesMut::with_capacity(total + 4);
    frame.put_u32(total as u32);
    frame.put_u32(command_size as u32);
    command.encode(&mut frame).expect("the buffer has room");
    frame.put_u16(MAGIC_CHECKSUM);
    let checksum_at = frame.len();
    frame.put_u32(0);
    frame.put_u32(metadata_size as u32);
    metadata.encode(&mut frame).expect("the buffer has room");
    frame.put_slice(payload);
    let checksum = crc32c::crc32c(&frame[checksum_at + 4..]);
    frame[checksum_at..checksum_at + 4].copy_from_slice(&checksum.to_be_bytes());
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulsar::message::proto::{CommandPing, base_command};

    use super::*;

    fn ping() -> BaseCommand {
        BaseCommand {
            r#type: base_command::Type::Ping as i32,
            ping: Some(CommandPing {}),
            ..Default::default()
        }
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written(payload in prop::collection::vec(any::<u8>(), 0..2_000), cut in 0..2_000_usize) {
            let metadata = MessageMetadata { producer_name: "p".into(), sequence_id: 7, ..Default::default() };
            let bytes = encode_message(&ping(), &metadata, &payload);
            let cut = cut.min(bytes.len());
            let mut buffer = BytesMut::from(&bytes[..cut]);
            if cut < bytes.len() {
                prop_assert!(decode(&mut buffer).unwrap().is_none());
            }
            buffer.extend_from_slice(&bytes[cut..]);
            let frame = decode(&mut buffer).unwrap().unwrap();
            prop_assert_eq!(frame.command, ping());
            let (read, content) = message(frame.rest).unwrap();
            prop_assert_eq!(read, metadata);
            prop_assert_eq!(&content[..], &payload[..]);
        }

        #[test]
        fn arbitrary_bytes_are_an_error_or_wait_for_more(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = decode(&mut buffer) {
                let _ = message(frame.rest);
            }
        }

        #[test]
        fn a_flipped_bit_is_noticed(payload in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>()) {
            let bytes = encode_message(&ping(), &MessageMetadata::default(), &payload);
            let mut buffer = BytesMut::from(&bytes[..]);
            let frame = decode(&mut buffer).unwrap().unwrap();
            let mut rest = frame.rest.to_vec();
            // Behind the checksum itself.
            let at = 6 + at.index(rest.len() - 6);
            rest[at] ^= 1;
            prop_assert!(message(rest.into()).is_err());
        }
    }
}
