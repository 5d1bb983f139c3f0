//! Debezium's change events: what a database says of its rows, read from a record.
//!
//! The shape is that of "Data change events" in the documentation of Debezium's connectors (2.x and 3.x) for PostgreSQL, MySQL, MariaDB,
//! and SQL Server: `op`, `before`, `after`, `source`, bare or within `schema` and `payload`.

use std::borrow::Cow;

use nekton_engine::agents::Key;
use nekton_engine::connect::RawRecord;
use nekton_engine::hash::fixed_hash;
use nekton_engine::{Fields, Time};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// What Debezium writes in place of a large value that did not change (`unavailable.value.placeholder`).
const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// A change of a row, as it stands in a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change<K, V> {
    /// The row is this now: `c`, `u`, or `r`.
    Row {
        /// Its key.
        key: K,
        /// What it is now.
        row: V,
        /// Where the change stands in the database's log.
        stamp: Stamp,
        /// Whether it was read in a snapshot: it may have been so for long.
        snapshot: bool,
    },
    /// The row is gone: `d`.
    Gone {
        /// Its key.
        key: K,
        /// Where the change stands in the database's log.
        stamp: Stamp,
    },
    /// A message of this key without a value. It follows a `d`, and is what compaction leaves of it.
    Tombstone {
        /// The key.
        key: K,
    },
    /// All rows are gone: `t`.
    Truncated {
        /// Where the change stands in the database's log.
        stamp: Stamp,
    },
    /// Nothing happened to any row: `m`, or a tombstone without a key.
    Nothing,
}

/// When a change was made, and where it stands in the log of its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// When the database says it was made, in milliseconds since 1970.
    pub at: Time,
    /// The log, and the place in it, where that is known.
    place: Option<(u64, [u64; 4])>,
}

impl Stamp {
    /// Whether it stands before `other` in the same log, and is not newer by the database's clock (then the log
    /// began anew: another server took over, or a backup was restored).
    pub(super) fn is_before(&self, other: &Stamp) -> bool {
        match (self.place, other.place) {
            (Some((log, place)), Some((same, known))) => log == same && place < known && self.at <= other.at,
            _ => false,
        }
    }
    /// This one, but not earlier than another by the clock.
    pub(super) fn not_before(self, other: Time) -> Self {
        Stamp { at: self.at.max(other), ..self }
    }
}

/// Reads a change from a record. Its key is that of the message; where messages have none, as in files, that of `columns` of
/// the row: the value of one, or a list of those of several.
///
/// Rows are read from `after` alone, as `before` may lack most columns (PostgreSQL's `REPLICA IDENTITY DEFAULT`). Metadata of
/// transactions are ignored: a transaction's changes count one by one, as they stand in the topic.
///
/// # Errors
/// Why it is none, in a sentence, for a dead letter.
///
/// ```
/// use nekton_engine::connect::RawRecord;
/// use nekton_operators::{Change, debezium};
///
/// let record = |payload: &'static str| RawRecord { payload: payload.into(), position: Default::default(), key: None, published: 0, defect: None };
/// let created = record(r#"{"before":null,"after":{"id":7,"city":"Bern"},"source":{"connector":"postgresql","name":"shop","ts_ms":90,"lsn":24023128},"op":"c","ts_ms":95}"#);
/// # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)] struct Customer { city: String }
/// match debezium::<u64, Customer>(&created, &["id"])? {
///     Change::Row { key, row, stamp, .. } => assert_eq!((key, row.city.as_str(), stamp.at), (7, "Bern", 90)),
///     other => panic!("{other:?}"),
/// }
/// assert!(debezium::<u64, Customer>(&record(r#"{"id":7}"#), &["id"]).unwrap_err().contains("no field `op`"));
/// # Ok::<(), String>(())
/// ```
pub fn debezium<K: Key, V: DeserializeOwned>(
    record: &RawRecord,
    columns: &[&str],
) -> Result<Change<K, V>, String> {
    let said = |error: serde_json::Error| error.to_string();
    let key = |row: Option<&RawValue>| match (&record.key, columns, row) {
        (_, [_, ..], Some(row)) => key_of_columns(row.get(), columns),
        (Some(key), [], _) => key_of_message(key),
        (None, [], _) => {
            Err("the message has no key: say which columns are the key (debezium_by)".to_owned())
        }
        (_, [_, ..], None) => {
            Err("there is no row to read the key from: neither `before` nor `after`".to_owned())
        }
    };
    // What has its key in its columns says nothing without them, and the `d` before it has said all.
    let tombstone = || match &record.key {
        Some(bytes) if columns.is_empty() => Ok(Change::Tombstone { key: key_of_message(bytes)? }),
        _ => Ok(Change::Nothing),
    };
    let payload = record.payload.trim_ascii();
    if payload.is_empty() || payload == b"null" {
        return tombstone();
    }
    let mut envelope: Envelope<'_> = serde_json::from_slice(payload).map_err(said)?;
    if let (None, Some(wrapped)) = (&envelope.op, envelope.payload) {
        if wrapped.get() == "null" {
            return tombstone();
        }
        envelope = serde_json::from_str(wrapped.get()).map_err(said)?;
    }
    let Envelope { op, before, after, source, ts_ms, .. } = envelope;
    let Some(op) = op else {
        return Err("no change event of Debezium: it has no field `op`".to_owned());
    };
    if op == "m" {
        return Ok(Change::Nothing);
    }
    let Some(source) = source else {
        return Err("no change event of Debezium: it has no field `source`".to_owned());
    };
    let snapshot = op == "r";
    let Some(at) = source.ts_ms.or(ts_ms) else {
        return Err("it does not say when it happened: neither `source.ts_ms` nor `ts_ms`".to_owned());
    };
    let stamp = Stamp { at, place: source.place(snapshot)? };
    match &*op {
        "c" | "u" | "r" => {
            let after =
                after.ok_or_else(|| format!("`after` is missing or null in a change of kind {op:?}"))?;
            if after.get().contains(UNAVAILABLE) {
                return Err(format!(
                    "a column is {UNAVAILABLE:?}: it did not change, and the database did not tell it. For PostgreSQL, set the \
                     table's REPLICA IDENTITY to FULL"
                ));
            }
            let row = serde_json::from_str(after.get()).map_err(|error| format!("`after`: {error}"))?;
            Ok(Change::Row { key: key(Some(after))?, row, stamp, snapshot })
        }
        "d" => Ok(Change::Gone { key: key(before)?, stamp }),
        "t" => Ok(Change::Truncated { stamp }),
        _ => Err(format!("`op` is {op:?}, which is none of c, u, d, r, t and m")),
    }
}

/// A change event, or what it is wrapped in.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Option<Cow<'a, str>>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<Source<'a>>,
    ts_ms: Option<Time>,
    #[serde(rename = "schema")]
    _schema: Option<IgnoredAny>,
}

/// Tells a field that is `null` from one that is missing.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// What of `source` says where a change stands.
#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow)]
    connector: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    db: Option<Cow<'a, str>>,
    ts_ms: Option<Time>,
    // PostgreSQL
    lsn: Option<u64>,
    // MySQL, MariaDB
    #[serde(borrow)]
    file: Option<Cow<'a, str>>,
    pos: Option<u64>,
    row: Option<u64>,
    // SQL Server
    #[serde(borrow)]
    commit_lsn: Option<Cow<'a, str>>,
    #[serde(borrow)]
    change_lsn: Option<Cow<'a, str>>,
    event_serial_no: Option<u64>,
}

impl Source<'_> {
    /// The log, and the place in it; `None` for databases whose places do not order the changes of a row.
    fn place(&self, snapshot: bool) -> Result<Option<(u64, [u64; 4])>, String> {
        let text = |field: &Option<Cow<'_, str>>| field.as_deref().unwrap_or_default().to_owned();
        let streamed = u64::from(!snapshot);
        let (log, place) = match self.connector.as_deref() {
            // Changes of a row come in the order of their places, though those of two transactions do not.
            Some("postgresql") => {
                let Some(lsn) = self.lsn else { return Ok(None) };
                // A snapshot stands before the change that begins where it ended.
                (text(&self.db), [lsn, streamed, 0, 0])
            }
            Some("mysql" | "mariadb") => {
                let (Some(file), Some(pos)) = (&self.file, self.pos) else { return Ok(None) };
                let (log, number) = file.rsplit_once('.').unwrap_or(("", file));
                let number =
                    number.parse().map_err(|_| format!("`source.file` is {file:?}, which has no number"))?;
                (log.to_owned(), [number, pos, streamed, self.row.unwrap_or(0)])
            }
            Some("sqlserver") => {
                let Some(commit) = &self.commit_lsn else { return Ok(None) };
                let (commit, rest) = lsn(commit)?;
                let (change, part) = self.change_lsn.as_deref().map_or(Ok((0, 0)), lsn)?;
                let serial = self.event_serial_no.unwrap_or(0) & 0xFFFF_FFFF;
                (text(&self.db), [commit, rest, change, part << 32 | serial])
            }
            _ => return Ok(None),
        };
        let log = fixed_hash(&(self.connector.as_deref(), text(&self.name), log));
        Ok(Some((log, place)))
    }
}

/// A place in SQL Server's log: `00000027:00000ac0:0002`.
fn lsn(text: &str) -> Result<(u64, u64), String> {
    let mut parts = text.split(':').map(|part| u64::from_str_radix(part, 16));
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(file)), Some(Ok(block)), Some(Ok(slot)), None)
            if file < 1 << 32 && block < 1 << 32 && slot < 1 << 16 =>
        {
            Ok((file << 32 | block, slot))
        }
        // So it is said of a change that is in no transaction.
        _ if text == "NULL" => Ok((0, 0)),
        _ => Err(format!("{text:?} is no place in a log of SQL Server")),
    }
}

/// The key that some columns of a row make.
fn key_of_columns<K: DeserializeOwned>(row: &str, columns: &[&str]) -> Result<K, String> {
    let said = |error: serde_json::Error| format!("the key {}: {error}", columns.join(", "));
    let Fields(fields) = serde_json::from_str(row).map_err(said)?;
    let value = |column: &&str| {
        let named = fields.iter().find(|(name, _)| name == column);
        named
            .map(|(_, value)| value.get())
            .ok_or_else(|| format!("the row has no column {column:?}, which is its key"))
    };
    let values = columns.iter().map(value).collect::<Result<Vec<_>, _>>()?;
    match &values[..] {
        [one] => serde_json::from_str(one).map_err(said),
        several => serde_json::from_str(&format!("[{}]", several.join(","))).map_err(said),
    }
}

/// The key of a message: a value; an object that `K` is; an object with the values that `K` has; each of them bare, or within `schema`
/// and `payload`.
fn key_of_message<K: DeserializeOwned>(key: &[u8]) -> Result<K, String> {
    let text = std::str::from_utf8(key).map_err(|error| format!("the message's key: {error}"))?;
    let mut text = text.trim();
    let fields = |text: &str| -> Option<Vec<String>> {
        let Fields(fields) = serde_json::from_str(text).ok()?;
        Some(fields.iter().map(|(_, value)| value.get().to_owned()).collect())
    };
    if let Ok(Fields(wrapper)) = serde_json::from_str::<Fields<'_>>(text)
        && wrapper.iter().any(|(name, _)| name == "schema")
        && let Some((_, payload)) = wrapper.iter().find(|(name, _)| name == "payload")
    {
        text = payload.get();
    }
    let why = match serde_json::from_str(text) {
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    let of_values = match &fields(text).unwrap_or_default()[..] {
        [] => None,
        [one] => serde_json::from_str(one).ok(),
        several => serde_json::from_str(&format!("[{}]", several.join(","))).ok(),
    };
    // Bare text is a key where that is text.
    let bare = || serde_json::from_value(serde_json::Value::String(text.to_owned())).ok();
    of_values.or_else(bare).ok_or_else(|| format!("the message's key: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(key: Option<&str>, payload: &str, columns: &[&str]) -> Result<Change<u64, Value>, String> {
        debezium(
            &RawRecord {
                position: Default::default(),
                key: key.map(|key| key.to_owned().into()),
                payload: payload.to_owned().into(),
                published: 0,
                defect: None,
            },
            columns,
        )
    }

    fn postgres(op: &str, lsn: u64, row: Value) -> String {
        let (before, after) = if op == "d" { (row, Value::Null) } else { (Value::Null, row) };
        let source = json!({"version": "3.1.0.Final", "connector": "postgresql", "name": "shop", "ts_ms": 100, "ts_us": 100_000,
            "snapshot": if op == "r" { json!("first") } else { json!(false) }, "db": "postgres", "schema": "public", "table": "customers",
            "txId": 555, "lsn": lsn, "sequence": "[\"1\",\"2\"]", "xmin": null});
        json!({"before": before, "after": after, "source": source, "op": op, "ts_ms": 105, "transaction": {"id": "555:1", "total_order": 1}})
            .to_string()
    }

    fn stamp(change: &Change<u64, Value>) -> Stamp {
        match change {
            Change::Row { stamp, .. } | Change::Gone { stamp, .. } | Change::Truncated { stamp } => *stamp,
            other => panic!("{other:?} has no stamp"),
        }
    }

    #[test]
    fn each_kind_of_change_is_read_bare_and_wrapped() {
        for op in ["c", "u", "r"] {
            let bare = postgres(op, 7, json!({"id": 1001, "name": "Anne"}));
            let wrapped = format!(r#"{{"schema":{{"type":"struct"}},"payload":{bare}}}"#);
            let change = read(Some(r#"{"id":1001}"#), &bare, &[]).unwrap();
            assert_eq!(
                read(Some(r#"{"schema":{},"payload":{"id":1001}}"#), &wrapped, &[]),
                Ok(change.clone())
            );
            assert_eq!(read(None, &wrapped, &["id"]), Ok(change.clone()));
            let Change::Row { key: 1001, row, stamp: Stamp { at: 100, .. }, snapshot } = change else {
                panic!("{change:?}")
            };
            assert_eq!((row["name"].as_str(), snapshot), (Some("Anne"), op == "r"));
        }
        let gone = postgres("d", 8, json!({"id": 1001}));
        for (key, columns) in [(Some("1001"), &[][..]), (None, &["id"])] {
            assert!(matches!(read(key, &gone, columns), Ok(Change::Gone { key: 1001, .. })), "{key:?}");
        }
        let all = r#"{"source":{"connector":"postgresql","name":"shop","db":"postgres","ts_ms":9,"lsn":46523128},"op":"t","ts_ms":10}"#;
        assert!(matches!(read(None, all, &["id"]), Ok(Change::Truncated { .. })));
        assert_eq!(
            read(Some(r#"{"prefix":"foo"}"#), r#"{"op":"m","source":{},"message":{}}"#, &[]),
            Ok(Change::Nothing)
        );
    }

    #[test]
    fn a_message_without_a_value_is_a_tombstone() {
        for nothing in ["", "null", r#"{"schema":null,"payload":null}"#] {
            assert_eq!(
                read(Some(r#"{"id":7}"#), nothing, &[]),
                Ok(Change::Tombstone { key: 7 }),
                "{nothing}"
            );
            assert_eq!(read(None, nothing, &["id"]), Ok(Change::Nothing), "{nothing}");
        }
    }

    #[test]
    fn keys_of_several_columns_are_lists() {
        let payload = postgres("c", 7, json!({"b": 2, "a": "x", "name": "Anne"}));
        let record = |key: Option<&'static str>| RawRecord {
            position: Default::default(),
            key: key.map(Into::into),
            payload: payload.clone().into(),
            published: 0,
            defect: None,
        };
        let key = |key, columns: &[&str]| match debezium::<(String, u64), Value>(&record(key), columns) {
            Ok(Change::Row { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        assert_eq!(key(None, &["a", "b"]), ("x".to_owned(), 2));
        assert_eq!(key(Some(r#"{"z":"x","b":2}"#), &[]), ("x".to_owned(), 2));
    }

    #[test]
    fn places_order_the_changes_of_a_log() {
        let of = |source: Value| {
            let op = if source["snapshot"] == json!("true") { "r" } else { "u" };
            let payload = json!({"after": {"id": 1}, "source": source, "op": op}).to_string();
            stamp(&read(None, &payload, &["id"]).unwrap())
        };
        let rising = [
            vec![
                json!({"connector": "postgresql", "name": "s", "ts_ms": 1, "lsn": 9, "snapshot": "true"}),
                json!({"connector": "postgresql", "name": "s", "ts_ms": 1, "lsn": 9}),
                json!({"connector": "postgresql", "name": "s", "ts_ms": 1, "lsn": 10}),
            ],
            vec![
                json!({"connector": "mysql", "name": "s", "ts_ms": 1, "file": "binlog.000009", "pos": 154, "row": 0, "snapshot": "true", "server_id": 0}),
                json!({"connector": "mysql", "name": "s", "ts_ms": 1, "file": "binlog.000009", "pos": 154, "row": 0, "server_id": 7}),
                json!({"connector": "mysql", "name": "s", "ts_ms": 1, "file": "binlog.000009", "pos": 154, "row": 1, "server_id": 7}),
                json!({"connector": "mysql", "name": "s", "ts_ms": 1, "file": "binlog.1000000", "pos": 4, "row": 0, "server_id": 7}),
            ],
            vec![
                json!({"connector": "sqlserver", "name": "s", "ts_ms": 1, "commit_lsn": "00000027:00000ac0:0002", "change_lsn": null, "snapshot": "true"}),
                json!({"connector": "sqlserver", "name": "s", "ts_ms": 1, "commit_lsn": "00000027:00000ac0:0002", "change_lsn": "00000027:00000758:0003", "event_serial_no": 1}),
                json!({"connector": "sqlserver", "name": "s", "ts_ms": 1, "commit_lsn": "00000027:00000ac0:0002", "change_lsn": "00000027:00000758:0003", "event_serial_no": 2}),
                json!({"connector": "sqlserver", "name": "s", "ts_ms": 1, "commit_lsn": "00000028:00000001:0001", "change_lsn": "00000027:00000758:0001", "event_serial_no": 1}),
            ],
        ];
        for log in rising {
            let stamps: Vec<Stamp> = log.into_iter().map(of).collect();
            for (early, late) in stamps.iter().zip(&stamps[1..]) {
                assert!(early.is_before(late) && !late.is_before(early) && !early.is_before(early));
                // A log that began anew: the place is before, but the clock says that it came after.
                assert!(!Stamp { at: 2, ..*early }.is_before(late));
            }
        }
        let unknown = of(json!({"connector": "oracle", "name": "s", "ts_ms": 1, "scn": "1"}));
        assert!(!unknown.is_before(&of(json!({"connector": "oracle", "name": "s", "ts_ms": 1, "scn": "2"}))));
    }

    #[test]
    fn what_is_no_change_says_why() {
        let row = |row: Value| postgres("u", 7, row);
        for (key, payload, why) in [
            (Some("1"), "{".to_owned(), "EOF"),
            (Some("1"), r#"{"id":1}"#.to_owned(), "no field `op`"),
            (Some("1"), r#"{"payload":{"id":1},"schema":{}}"#.to_owned(), "no field `op`"),
            (Some("1"), r#"{"op":"c","after":{}}"#.to_owned(), "no field `source`"),
            (Some("1"), r#"{"op":"c","after":{},"source":{}}"#.to_owned(), "when it happened"),
            (Some("1"), r#"{"op":"x","source":{"ts_ms":1}}"#.to_owned(), "none of c, u, d, r, t and m"),
            (
                Some("1"),
                r#"{"op":"u","after":null,"source":{"ts_ms":1}}"#.to_owned(),
                "`after` is missing or null",
            ),
            (Some("1"), row(json!({"id": 1, "text": UNAVAILABLE})), "REPLICA IDENTITY"),
            (None, row(json!({"id": 1})), "no key"),
            (Some(r#"{"id":"x"}"#), row(json!({"id": 1})), "the message's key"),
            (
                Some("1"),
                r#"{"op":"u","after":{},"source":{"ts_ms":1,"connector":"mysql","file":"x","pos":1}}"#
                    .to_owned(),
                "no number",
            ),
            (
                Some("1"),
                r#"{"op":"u","after":{},"source":{"ts_ms":1,"connector":"sqlserver","commit_lsn":"1:2"}}"#
                    .to_owned(),
                "no place",
            ),
        ] {
            let said = read(key, &payload, &[]).unwrap_err();
            assert!(said.contains(why), "{payload}: {said}");
        }
        let said = read(None, &row(json!({"name": "x"})), &["id"]).unwrap_err();
        assert!(said.contains("no column \"id\""), "{said}");
    }
}
