//! Tables: the newest value of each key, as a root.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::agents::{Agent, Context, Key, Record};
use crate::connect::RawRecord;

/// A row of a table: its key and new value, or none to delete it.
pub type Row<K, V> = (K, Option<V>);

/// The agent behind a row: its state is replaced.
#[derive(Serialize, Deserialize)]
#[serde(bound = "V: Serialize + DeserializeOwned")]
pub(crate) struct TableRow<K, V> {
    value: Option<V>,
    #[serde(skip)]
    key: PhantomData<K>,
}

impl<K: Key, V: Record> Agent for TableRow<K, V> {
    type Key = K;
    type Event = Row<K, V>;
    type View = V;
    type Emit = ();

    fn create(_key: &K) -> Self {
        TableRow { value: None, key: PhantomData }
    }
    fn on_event(&mut self, (_, value): &Row<K, V>, context: &mut Context<'_, Self>) {
        self.value.clone_from(value);
        if value.is_none() {
            context.leave();
        }
    }
    fn view(&self) -> Option<V> {
        self.value.clone()
    }
}

/// A line of a topic of `upsert` or `changes`.
#[derive(Deserialize)]
#[serde(bound = "K: DeserializeOwned, V: DeserializeOwned")]
struct Line<K, V> {
    key: K,
    #[serde(default, deserialize_with = "present")]
    value: Option<Option<V>>,
    #[serde(default, deserialize_with = "present")]
    after: Option<Option<V>>,
}

/// Tells a field that is `null` from one that is missing.
fn present<'de, D: serde::Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<V>>, D::Error> {
    Option::<V>::deserialize(deserializer).map(Some)
}

/// Reads a row from a record: a message with a key and a value (none deletes), or a line in the
/// `upsert` or `changes` envelope.
pub(crate) fn decode_row<K: DeserializeOwned, V: DeserializeOwned>(
    record: &RawRecord,
) -> Result<Row<K, V>, String> {
    if let Ok(line) = serde_json::from_slice::<Line<K, V>>(&record.payload)
        && let Some(value) = line.value.or(line.after)
    {
        return Ok((line.key, value));
    }
    let Some(key) = &record.key else {
        return Err(match serde_json::from_slice::<Line<K, V>>(&record.payload) {
            Err(error) => error.to_string(),
            Ok(_) => "neither a field `value` nor a field `after`".to_owned(),
        });
    };
    let value = match &record.payload[..] {
        [] => None,
        payload => Some(serde_json::from_slice(payload).map_err(|error| error.to_string())?),
    };
    // A key stands as JSON text, or as bare text where it is a string.
    let bare =
        || serde_json::from_value(serde_json::Value::String(String::from_utf8_lossy(key).into_owned()));
    let key = serde_json::from_slice(key)
        .or_else(|error| bare().map_err(|_| error))
        .map_err(|error| error.to_string())?;
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn row(key: Option<&'static str>, payload: &'static str) -> Result<Row<String, u64>, String> {
        decode_row(&RawRecord {
            position: Default::default(),
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            payload: Bytes::from_static(payload.as_bytes()),
            published: 0,
            defect: None,
        })
    }

    #[test]
    fn every_envelope_with_a_key_is_a_row() {
        assert_eq!(row(None, r#"{"key":"a","value":1,"time":9}"#), Ok(("a".into(), Some(1))));
        assert_eq!(row(None, r#"{"key":"a","value":null,"time":9}"#), Ok(("a".into(), None)));
        assert_eq!(row(None, r#"{"key":"a","before":1,"after":2,"time":9}"#), Ok(("a".into(), Some(2))));
        assert_eq!(row(None, r#"{"key":"a","before":1,"after":null,"time":9}"#), Ok(("a".into(), None)));
        assert_eq!(row(Some("a"), "7"), Ok(("a".into(), Some(7))));
        assert_eq!(row(Some("\"a\""), "7"), Ok(("a".into(), Some(7))));
        assert_eq!(row(Some("a"), ""), Ok(("a".into(), None)));
    }

    #[test]
    fn what_is_no_row_says_why() {
        assert!(row(None, r#"{"key":"a"}"#).unwrap_err().contains("neither"));
        assert!(row(None, r#"{"value":1}"#).unwrap_err().contains("key"));
        assert!(row(Some("a"), "x").is_err());
    }
}
