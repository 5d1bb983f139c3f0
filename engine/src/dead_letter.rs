//! What could not be read, with where it stood and why.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::connect::{PartitionId, RawRecord};

/// The most bytes of a record that a dead letter carries.
pub const MOST_BYTES: usize = 64 << 10;

/// A record that could not be read as an event, as it is written to `<topic>.dead-letter`.
///
/// The dead letters of a topic are a topic as any other:
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// // `readings` has two lines: 12, hot
/// # let topics = job(&[("readings", &["12", "hot"])], |flow| {
/// flow.events::<i64>("readings");
/// # });
/// # let letters = topics.lines("readings.dead-letter");
/// # let letters: &[&str] = &[letters[0].as_str()];
/// # let topics = job(&[("readings.dead-letter", letters)], |flow| {
/// // And in another program:
/// let letters = flow.events::<DeadLetter>("readings.dead-letter");
/// flow.sink("to-look-at", &letters.map(|letter| (letter.position, letter.text)));
/// # });
/// assert_eq!(topics.lines("to-look-at"), [r#"["0:1:0","hot"]"#]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The topic it was read from, as a URL.
    pub source: String,
    /// Its partition.
    pub partition: PartitionId,
    /// Its position in the partition: `ledger:entry:index`; for files, `entry` is the byte offset.
    pub position: String,
    /// Why it could not be read.
    pub reason: String,
    /// Its key, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its bytes, if they are UTF-8; at most 64 KiB of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its bytes in hexadecimal, if they are not UTF-8; at most 64 KiB of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// How many bytes it had as they were handed over by the connector.
    pub length: usize,
}

impl DeadLetter {
    /// The dead letter of a record.
    pub fn new(source: &str, partition: PartitionId, record: &RawRecord, reason: String) -> Self {
        let (text, hex) = shown(&record.payload);
        DeadLetter {
            source: source.to_owned(),
            partition,
            position: record.position.to_string(),
            reason,
            key: record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()),
            text,
            hex,
            length: record.payload.len(),
        }
    }
}

fn shown(bytes: &Bytes) -> (Option<String>, Option<String>) {
    let cut = &bytes[..bytes.len().min(MOST_BYTES)];
    match std::str::from_utf8(cut) {
        Ok(text) => (Some(text.to_owned()), None),
        // A cut may go through a character.
        Err(error) if error.error_len().is_none() && cut.len() < bytes.len() => {
            (Some(String::from_utf8_lossy(&cut[..error.valid_up_to()]).into_owned()), None)
        }
        Err(_) => (None, Some(cut.iter().map(|byte| format!("{byte:02x}")).collect())),
    }
}
