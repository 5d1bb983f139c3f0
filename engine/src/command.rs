//! Commands: what people and programs tell agents while a job runs.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cells::cell;
use crate::connect::RawRecord;
use crate::fields::Fields;

/// What somebody tells an agent, as [`Flow::commands`](crate::Flow::commands) reads it: a JSON object with these fields.
///
/// The key is read as what the program wants: `"7"` is a number for a number, and text for a text, since it comes from
/// an address, which is text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command<K, B> {
    /// The view that the agent was seen in.
    pub view: String,
    /// The agent's key.
    pub key: K,
    /// Which of the things that can be said to it this is.
    pub lane: String,
    /// What is said.
    pub body: B,
}

/// Reads a command from its record.
pub(crate) fn decode<K: DeserializeOwned, B: DeserializeOwned>(
    record: &RawRecord,
) -> Result<Command<K, B>, String> {
    let Fields(fields) = serde_json::from_slice(&record.payload).map_err(|error| error.to_string())?;
    let field =
        |name: &str| fields.iter().find(|(field, _)| field == name).map_or("null", |(_, value)| value.get());
    let text = |name: &str| {
        serde_json::from_str::<Option<String>>(field(name))
            .map_err(|error| format!("field {name:?}: {error}"))
    };
    Ok(Command {
        view: text("view")?.unwrap_or_default(),
        key: cell(field("key")).map_err(|error| format!("the key {}: {error}", field("key")))?,
        lane: text("lane")?.unwrap_or_default(),
        body: serde_json::from_str(field("body")).map_err(|error| format!("the body: {error}"))?,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::connect::Position;

    fn read<K: DeserializeOwned, B: DeserializeOwned>(json: &str) -> Result<Command<K, B>, String> {
        let payload = Bytes::copy_from_slice(json.as_bytes());
        decode(&RawRecord { position: Position::default(), key: None, payload, published: 0, defect: None })
    }

    fn command<K, B>(key: K, body: B) -> Result<Command<K, B>, String> {
        Ok(Command { view: "rooms".to_owned(), key, lane: "heat".to_owned(), body })
    }

    #[test]
    fn a_key_is_what_the_program_wants() {
        let with = |key: &str| format!(r#"{{"view":"rooms","key":{key},"lane":"heat","body":21}}"#);
        assert_eq!(read(&with("\"7\"")), command(7_u64, 21));
        assert_eq!(read(&with("7")), command(7_u64, 21));
        assert_eq!(read(&with("\"7\"")), command("7".to_owned(), 21));
        assert_eq!(read(&with(r#""[1,\"a\"]""#)), command((1_u8, "a".to_owned()), 21));
        assert_eq!(read(&with("null")), command(None::<u64>, 21));
        assert!(
            read::<u64, i64>(&with("\"kitchen\"")).unwrap_err().starts_with("the key \"kitchen\": expected")
        );
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        assert_eq!(read(r#"{"key":7,"lane":"heat","view":"rooms"}"#), command(7_u64, ()));
        assert!(read::<u64, i64>(r#"{"key":7}"#).unwrap_err().starts_with("the body:"));
        assert!(read::<u64, ()>(r#"{"lane":7}"#).is_err() && read::<u64, ()>("[]").is_err());
    }
}
