//! Streaming ETL says at every time what a naive computation from all that came says.

mod streams;

use std::collections::{BTreeMap, BTreeSet};

use nekton_engine::connect::RawRecord;
use nekton_engine::{Events, Time};
use nekton_operators::{Captured, Change, EventTime, Lookup, Split, debezium};
use proptest::prelude::*;
use serde_json::{Value, json};
use streams::{
    END, LAST, Mark, Out, PARTITIONS, Sent, cases, feed, job, marks, settings, stream, watermark_at,
};

/// Keys of rows. Each has its partition.
const KEYS: u8 = 4;

/// What happens to a row, and whether the connector is restarted after it and goes back so far in the log.
#[derive(Clone, Debug)]
enum Step {
    Set(u8, i64),
    Delete(u8),
    Truncate,
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..KEYS, 0..9_i64).prop_map(|(key, value)| Step::Set(key, value)),
        3 => (0..KEYS).prop_map(Step::Delete),
        1 => Just(Step::Truncate),
        2 => (1..12_usize).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 0..30)
}

/// A record of a topic: its partition, key and payload, and where it stands in the log.
#[derive(Clone, Debug)]
struct Delivered {
    partition: u32,
    key: Option<u8>,
    payload: String,
    place: usize,
    /// The row after it; `None` for all rows: gone.
    row: Option<i64>,
}

fn partition(key: u8) -> u32 {
    u32::from(key) % PARTITIONS
}

/// What a connector delivers of these steps: from time to time it is restarted, and delivers some again.
fn delivered(steps: &[Step], snapshot: bool) -> Vec<Delivered> {
    let mut log: Vec<Vec<Delivered>> = Vec::new();
    let mut delivered = Vec::new();
    let mut rows: BTreeSet<u8> = BTreeSet::new();
    for step in steps {
        let place = log.len() + 1;
        let event = |op: &str, key: Option<u8>, row: Option<i64>| {
            let source = json!({"connector": "postgresql", "name": "s", "db": "d", "ts_ms": 1_000 + place / 3, "lsn": 100 + place});
            let after = row.zip(key).map(|(value, key)| json!({"id": key, "value": value}));
            let payload = json!({"op": op, "before": null, "after": after, "source": source}).to_string();
            Delivered { partition: key.map_or(0, partition), key, payload, place, row }
        };
        let events = match step {
            Step::Set(key, value) => {
                let op = if rows.insert(*key) { if snapshot { "r" } else { "c" } } else { "u" };
                vec![event(op, Some(*key), Some(*value))]
            }
            Step::Delete(key) if rows.remove(key) => {
                let gone = event("d", Some(*key), None);
                vec![gone.clone(), Delivered { payload: String::new(), ..gone }]
            }
            Step::Truncate => {
                rows.clear();
                vec![event("t", None, None)]
            }
            Step::Delete(_) => vec![],
            Step::Restart(back) => {
                let from = log.len().saturating_sub(*back);
                delivered.extend(log[from..].iter().flatten().cloned());
                continue;
            }
        };
        delivered.extend(events.iter().cloned());
        log.push(events);
    }
    delivered
}

/// The table when these were delivered: of each row, the newest change by its place counts.
fn rows<'a>(delivered: impl Iterator<Item = &'a Delivered>) -> BTreeMap<(u64, Row), isize> {
    let mut newest: BTreeMap<u8, (usize, Option<i64>)> = BTreeMap::new();
    let mut truncated = 0;
    for record in delivered {
        match record.key {
            None => truncated = truncated.max(record.place),
            Some(key) => {
                let known = newest.entry(key).or_default();
                if record.place >= known.0 {
                    *known = (record.place, record.row);
                }
            }
        }
    }
    let rows = newest.into_iter().filter(|(_, (place, _))| *place > truncated);
    rows.filter_map(|(id, (_, value))| Some(((u64::from(id), Row { value: value? }), 1))).collect()
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
struct Row {
    value: i64,
}

fn decoded(record: &Delivered) -> Change<u64, Row> {
    let record = RawRecord {
        position: Default::default(),
        key: record.key.map(|key| json!({"id": key}).to_string().into()),
        payload: record.payload.clone().into(),
        published: 0,
        defect: None,
    };
    debezium(&record, &[]).unwrap()
}

proptest! {
    #![proptest_config(cases(25))]

    #[test]
    fn a_captured_table_is_never_behind_what_it_was(
        steps in steps(), snapshot in any::<bool>(), pace in 1..6_usize, batch in 1..6_usize,
    ) {
        let delivered = delivered(&steps, snapshot);
        let time = |index: usize| 1 + (index / pace) as Time;
        let sent: Vec<Sent<Change<u64, Row>>> = delivered
            .iter()
            .enumerate()
            .map(|(index, record)| Sent { time: time(index), partition: record.partition, at: 0, event: decoded(record) })
            .collect();
        for workers in 1..=3 {
            let table = Out::<((u64, Row), isize)>::default();
            let (into, sent) = (table.clone(), sent.clone());
            job(workers, move |flow| {
                let changes = feed(flow, "changes", &sent, batch).map(|(change, _)| change);
                into.changes(flow, &Captured::new("rows", &changes).table());
            });
            for now in 0..=time(delivered.len()) {
                let came = delivered.iter().enumerate().filter(|(index, _)| time(*index) <= now);
                assert_eq!(table.there(now), rows(came.map(|(_, record)| record)), "at {now} on {workers} workers");
            }
        }
    }

    #[test]
    fn a_lookup_finds_what_the_table_is_at_the_same_time(
        asked in stream((0..3_u8, 0..20_i64), 25), written in stream((0..3_u8, 0..20_i64), 25), batch in 1..6_usize,
    ) {
        let value = |value: i64| (value % 4 > 0).then_some(value);
        for workers in 1..=3 {
            let out = Out::<((u8, i64), Option<i64>)>::default();
            let (into, streams) = (out.clone(), (asked.clone(), written.clone()));
            job(workers, move |flow| {
                let rows = feed(flow, "rows", &streams.1, batch).map(move |((key, row), _)| (key, value(row)));
                let table = rows.table("table");
                let questions: Events<'_, (u8, i64)> = feed(flow, "questions", &streams.0, batch).map(|(event, _)| event);
                into.events(&questions.lookup(&table, |(key, _)| *key));
            });
            for time in 0..=END {
                // Rows of one time come in the order of their partitions.
                let mut table: BTreeMap<u8, Option<i64>> = BTreeMap::new();
                for row in written.iter().filter(|row| row.time <= time) {
                    table.insert(row.event.0, value(row.event.1));
                }
                let asked = asked.iter().filter(|sent| sent.time == time);
                let mut expected: Vec<((u8, i64), Option<i64>)> =
                    asked.map(|sent| (sent.event, table.get(&sent.event.0).copied().flatten())).collect();
                expected.sort();
                assert_eq!(out.at(time), expected, "at {time} on {workers} workers");
            }
        }
    }

    #[test]
    fn what_is_deduplicated_has_come_as_far_as_what_it_was_made_of(
        left in stream((0..3_u8, 0..6_i64), 25), right in stream((0..3_u8, 0..20_i64), 25),
        of in [settings(), settings()], batch in 1..6_usize,
    ) {
        let seen: Vec<Mark> = marks(0, &left).into_iter().chain(marks(1, &right)).collect();
        let ends: Vec<Time> = (0..=END).map(|time| watermark_at(&seen, &of, time)).collect();
        let before = |time: Time| if time == 0 { 0 } else { ends[time as usize - 1] };
        for workers in 1..=3 {
            let out = Out::<((u8, i64), Option<i64>)>::default();
            let (into, streams) = (out.clone(), (left.clone(), right.clone()));
            job(workers, move |flow| {
                let left = feed(flow, "left", &streams.0, batch).event_time(|(_, at)| *at, of[0].watermark());
                let right = feed(flow, "right", &streams.1, batch).event_time(|(_, at)| *at, of[1].watermark());
                let rows = right.map(|((key, value), _)| (key, Some(value)));
                let once = left.map(|(event, _)| event).deduplicate("once", 1_000, |event| *event);
                into.events(&once.as_of("enriched", &rows, |(key, _)| *key).enriched);
            });
            let mut known = BTreeSet::new();
            let firsts: Vec<&Sent<(u8, i64)>> = left.iter().filter(|sent| known.insert(sent.event)).collect();
            for time in 0..=END {
                let due = |sent: &&&Sent<(u8, i64)>| {
                    sent.time <= time && sent.at >= before(sent.time) && before(time) <= sent.at && sent.at < ends[time as usize]
                };
                let enriched = firsts.iter().filter(due).map(|sent| {
                    let held = right.iter().filter(|row| row.event.0 == sent.event.0 && row.time <= time && row.at <= sent.at);
                    (sent.event, held.max_by_key(|row| row.at).map(|row| row.event.1))
                });
                let mut enriched: Vec<_> = enriched.collect();
                enriched.sort();
                assert_eq!(out.at(time), enriched, "at {time} on {workers} workers");
            }
        }
    }

    #[test]
    fn what_is_split_is_all_there_in_order(sent in stream(0..20_i64, 40), batch in 1..6_usize, workers in 1..=3_usize) {
        let (even, odd) = (Out::<i64>::default(), Out::<String>::default());
        let (into, stream) = ((even.clone(), odd.clone()), sent.clone());
        job(workers, move |flow| {
            let numbers = feed(flow, "numbers", &stream, batch).map(|(number, _)| number);
            let (even, odd) = numbers.try_map(|number| if number % 2 == 0 { Ok(number) } else { Err(number.to_string()) });
            into.0.events(&even);
            into.1.events(&odd);
        });
        for time in 0..=LAST {
            let now = || sent.iter().filter(|sent| sent.time == time).map(|sent| sent.event);
            let mut evens: Vec<i64> = now().filter(|number| number % 2 == 0).collect();
            let mut odds: Vec<String> = now().filter(|number| number % 2 != 0).map(|number| number.to_string()).collect();
            evens.sort();
            odds.sort();
            assert_eq!((even.at(time), odd.at(time)), (evens, odds), "at {time}");
        }
    }
}

#[test]
fn what_is_read_is_what_debezium_documents() {
    // "Data change events" of the PostgreSQL connector: an update, as it stands there, without the schema.
    let update = r#"{"schema":{"type":"struct","fields":[]},"payload":{"before":{"id":1},"after":{"id":1,"first_name":"Anne Marie",
        "last_name":"Kretchmar","email":"annek@noanswer.org"},"source":{"version":"3.1.0.Final","connector":"postgresql","name":"PostgreSQL_server",
        "ts_ms":1559033904863,"ts_us":1559033904863769,"ts_ns":1559033904863769000,"snapshot":false,"db":"postgres","schema":"public",
        "table":"customers","txId":556,"lsn":24023128,"xmin":null},"op":"u","ts_ms":1465584025523}}"#;
    let record = RawRecord {
        position: Default::default(),
        key: Some(r#"{"schema":{"type":"struct"},"payload":{"id":"1"}}"#.into()),
        payload: update.into(),
        published: 0,
        defect: None,
    };
    let Ok(Change::Row { key, row, stamp, snapshot }) = debezium::<String, Value>(&record, &[]) else {
        panic!("it is a row")
    };
    assert_eq!((key.as_str(), &row["first_name"], snapshot), ("1", &json!("Anne Marie"), false));
    assert_eq!(stamp.at, 1_559_033_904_863);
}
