//! What topics in files promise: every whole record once and in order, however its bytes come, and one
//! writer a topic.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nekton_connectors::file::{FileSettings, open_sink, open_source};
use nekton_engine::connect::{
    Envelope, Message, PartitionReader, Polled, Position, RawRecord, Sink, SinkSettings, Source, Start,
    Topics, Waker, WriteBatch,
};
use nekton_engine::{Agent, Context, JobConfig, Kind, Result, upsert};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

// --- Reading, without sleeping -------------------------------------------------------------------

/// A bell that a waker rings.
#[derive(Clone, Default)]
struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn waker(&self) -> Waker {
        let bell = self.clone();
        Arc::new(move || {
            *bell.0.0.lock().unwrap() = true;
            bell.0.1.notify_all();
        })
    }
    fn wait(&self, until: Instant) {
        let rung = self.0.0.lock().unwrap();
        let left = until.saturating_duration_since(Instant::now());
        let (mut rung, _) = self.0.1.wait_timeout_while(rung, left, |rung| !*rung).unwrap();
        *rung = false;
    }
}

struct Reading {
    reader: Box<dyn PartitionReader>,
    bell: Bell,
    records: Vec<RawRecord>,
}

impl Reading {
    fn of(source: &Arc<dyn Source>, partition: u32, start: Start) -> Self {
        let bell = Bell::default();
        let reader = source.open(partition, start, bell.waker()).unwrap();
        Reading { reader, bell, records: Vec::new() }
    }

    fn of_file(path: &Path, start: Start, settings: &FileSettings) -> Self {
        Self::of(&open_source(path, settings).unwrap(), 0, start)
    }

    /// Polls until `enough` says so, or there is an error; no longer than half a minute.
    fn until(&mut self, enough: impl Fn(&[RawRecord], Polled) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let polled = self.reader.poll(1 << 10, &mut self.records)?;
            if enough(&self.records, polled) {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "{polled:?} for long, with {} records", self.records.len());
            if polled != Polled::More {
                self.bell.wait(deadline);
            }
        }
    }

    fn count(&mut self, count: usize) -> &[RawRecord] {
        self.until(|records, _| records.len() >= count).unwrap();
        &self.records
    }

    fn end(&mut self) -> &[RawRecord] {
        self.until(|_, polled| polled == Polled::End).unwrap();
        &self.records
    }
}

fn to_the_end() -> FileSettings {
    FileSettings { until_end: true, ..FileSettings::default() }
}

fn after(entry: u64) -> Start {
    Start::After(Position { entry, ..Position::default() })
}

fn values(records: &[RawRecord]) -> Vec<(u64, Value)> {
    let value = |record: &RawRecord| {
        assert_eq!(record.defect, None);
        serde_json::from_slice(&record.payload).unwrap()
    };
    records.iter().map(|record| (record.position.entry, value(record))).collect()
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn writing(folder: &Path) -> Arc<dyn Sink> {
    let settings = SinkSettings { envelope: Envelope::Events, schema: None, partitions: 1 };
    open_sink(folder, &FileSettings::default(), &settings).unwrap()
}

// --- Files of all kinds --------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}
use Packing::{Gzip, Plain, Zstd};

impl Packing {
    fn ending(self) -> &'static str {
        match self {
            Plain => "",
            Gzip => ".gz",
            Zstd => ".zst",
        }
    }
    /// The bytes as one gzip member or zstd frame.
    fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Plain => bytes.to_vec(),
            Gzip => {
                let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(bytes).unwrap();
                packed.finish().unwrap()
            }
            Zstd => zstd::encode_all(bytes, 1).unwrap(),
        }
    }
}

/// A file's text, and its records: where each begins, where it is whole, and what it is.
#[derive(Clone, Debug)]
struct Written {
    ending: &'static str,
    text: Vec<u8>,
    records: Vec<(u64, usize, Value)>,
}

impl Written {
    /// The records that are whole in the first bytes: the naive answer to what must have been read.
    fn whole(&self, bytes: usize) -> Vec<(u64, Value)> {
        let whole = self.records.iter().filter(|(_, end, _)| *end <= bytes);
        whole.map(|(begin, _, value)| (*begin, value.clone())).collect()
    }
}

fn lines() -> impl Strategy<Value = Written> {
    let line = ("[a-z\"\\\\\u{e9}\n ]{0,12}", any::<i32>(), prop::bool::ANY, 0..4_usize);
    prop::collection::vec(line, 1..12).prop_map(|lines| {
        let (mut text, mut records) = (Vec::new(), Vec::new());
        for (name, number, windows, blank) in lines {
            let value = json!({"name": name, "number": number});
            let begin = text.len() as u64;
            text.extend_from_slice(value.to_string().as_bytes());
            text.extend_from_slice(if windows { b"\r\n" } else { b"\n" });
            records.push((begin, text.len(), value));
            text.extend_from_slice(if blank == 0 { b" \n" } else { b"" });
        }
        Written { ending: ".jsonl", text, records }
    })
}

/// A cell as it is written, and as it is read.
fn cell() -> impl Strategy<Value = (String, Value)> {
    prop_oneof![
        Just((String::new(), Value::Null)),
        prop::bool::ANY.prop_map(|bool| (bool.to_string(), bool.into())),
        any::<i32>().prop_map(|number| (number.to_string(), number.into())),
        "0[0-9]{1,4}".prop_map(|zip| (zip.clone(), zip.into())),
        "[g-s][a-z0-9\u{e9} \"]{0,6}".prop_map(|text| (text.clone(), text.into())),
        "[a-z0-9,\"\r\n\u{e9}]{0,8}"
            .prop_map(|text| (format!("\"{}\"", text.replace('"', "\"\"")), text.into())),
    ]
}

fn rows() -> impl Strategy<Value = Written> {
    let row = (prop::collection::vec(cell(), 3), prop::bool::ANY, 0..4_usize);
    (prop::bool::ANY, prop::collection::vec(row, 1..12)).prop_map(|(mark, rows)| {
        let mut text = if mark { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
        text.extend_from_slice(b"a,\"b\nc\",d\n");
        let mut records = Vec::new();
        for (cells, windows, blank) in rows {
            let begin = text.len() as u64;
            let written: Vec<_> = cells.iter().map(|(written, _)| written.as_str()).collect();
            text.extend_from_slice(written.join(",").as_bytes());
            // A carriage return by itself ends a row too.
            let end = text.len() + 1;
            text.extend_from_slice(if windows { b"\r\n" } else { b"\n" });
            let value = json!({"a": cells[0].1, "b\nc": cells[1].1, "d": cells[2].1});
            records.push((begin, end, value));
            text.extend_from_slice(if blank == 0 { b"\r\n" } else { b"" });
        }
        Written { ending: ".csv", text, records }
    })
}

fn packing() -> impl Strategy<Value = Packing> {
    prop_oneof![Just(Plain), Just(Gzip), Just(Zstd)]
}

fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let begins = std::iter::once(0).chain(ends.clone());
    begins.zip(ends).map(|(begin, end)| &bytes[begin..end]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each piece is appended (as a member or frame of its own, where the file is compressed) once all
    /// that was whole before has been read.
    #[test]
    fn a_growing_file_is_followed_record_by_record(
        written in prop_oneof![lines(), rows()],
        packing in packing(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("0{}{}", written.ending, packing.ending()));
        File::create(&path).unwrap();
        let mut reading = Reading::of_file(&path, Start::Earliest, &FileSettings::default());
        let mut bytes = 0;
        for piece in cut(&written.text, &places) {
            append(&path, &packing.pack(piece));
            bytes += piece.len();
            let expected = written.whole(bytes);
            prop_assert_eq!(values(reading.count(expected.len())), expected);
        }
    }

    /// The pieces are of the compressed bytes, so that they end anywhere.
    #[test]
    fn a_file_that_is_written_in_pieces_is_read_as_a_whole(
        written in prop_oneof![lines(), rows()],
        packing in packing(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        start in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("0{}{}", written.ending, packing.ending()));
        File::create(&path).unwrap();
        let mut following = Reading::of_file(&path, Start::Earliest, &FileSettings::default());
        for piece in cut(&packing.pack(&written.text), &places) {
            append(&path, piece);
            following.until(|_, polled| polled != Polled::More).unwrap();
        }
        let all = written.whole(written.text.len());
        prop_assert_eq!(values(following.count(all.len())), all.clone());
        let mut finished = Reading::of_file(&path, Start::Earliest, &to_the_end());
        prop_assert_eq!(values(finished.end()), all.clone());
        // A restart behind any of them.
        let from = start.index(all.len());
        let mut rest = Reading::of_file(&path, after(all[from].0), &to_the_end());
        prop_assert_eq!(values(rest.end()), all[from + 1..].to_vec());
    }
}

// --- One promise each ----------------------------------------------------------------------------

#[test]
fn a_torn_last_line_is_no_record_until_it_is_whole() {
    for (name, begin, torn, rest, second) in [
        ("0.jsonl", "{\"a\":1}\n", "{\"a\":", "2}\n", json!(2)),
        ("0.csv", "a\n1\n", "2", "2\n", json!(22)),
        ("0.csv", "a\n1\n", "\"2\n", "\"\n", json!("2\n")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        append(&path, (begin.to_owned() + torn).as_bytes());
        let mut reading = Reading::of_file(&path, Start::Earliest, &FileSettings::default());
        assert_eq!(
            values(reading.count(1)),
            [(begin.len() as u64 - if name == "0.csv" { 2 } else { 8 }, json!({"a": 1}))]
        );
        append(&path, rest.as_bytes());
        assert_eq!(values(reading.count(2))[1], (begin.len() as u64, json!({"a": second})), "{name}");
    }
}

#[test]
fn reading_to_the_end_takes_a_last_line_without_its_line_end() {
    let files = [("0.jsonl", "{\"a\":1}\n{\"a\":2}"), ("0.csv", "a\n1\n2"), ("0.csv", "a\r\n1\r\n\"2\"")];
    for (name, text) in files {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        append(&path, text.as_bytes());
        assert_eq!(Reading::of_file(&path, Start::Earliest, &to_the_end()).end().len(), 2, "{text}");
    }
}

#[test]
fn there_is_no_end_while_somebody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writing(folder.path()).open(0, Bell::default().waker()).unwrap();
    let mut reading = Reading::of_file(folder.path(), Start::Earliest, &to_the_end());
    let numbers: Vec<u64> = (1..=30).collect();
    for &number in &numbers {
        // The reader has come to the end meanwhile, again and again.
        let value = Some(Bytes::from(number.to_string()));
        writer
            .write(WriteBatch { time: number, first: 0, messages: vec![Message { key: None, value }] })
            .unwrap();
        let read = |records: &[RawRecord], polled| {
            assert_ne!(polled, Polled::End);
            records.len() as u64 == number
        };
        reading.until(read).unwrap();
    }
    writer.close().unwrap();
    let read: Vec<_> = values(reading.end()).into_iter().map(|(_, value)| value).collect();
    assert_eq!(read, numbers);
}

#[test]
fn a_topic_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let first = writing(folder.path()).open(0, Bell::default().waker()).unwrap();
    let second = writing(folder.path()).open(0, Bell::default().waker()).err().expect("it is refused");
    assert_eq!(second.kind(), Kind::Conflict);
    assert!(second.to_string().contains("0.jsonl is being written by another program"), "{second}");
    first.close().unwrap();
    writing(folder.path()).open(0, Bell::default().waker()).unwrap();
}

#[test]
fn a_topic_that_was_being_created_when_its_program_was_killed_gets_all_its_partitions() {
    let settings = |partitions| SinkSettings { envelope: Envelope::Events, schema: None, partitions };
    let open = |folder: &Path, partitions| {
        let sink = open_sink(folder, &FileSettings::default(), &settings(partitions)).unwrap();
        sink.partitions()
    };
    for there in [&[2][..], &[2, 1], &[7, 6, 5, 4, 3]] {
        let folder = tempfile::tempdir().unwrap();
        there.iter().for_each(|partition| append(&folder.path().join(format!("{partition}.jsonl")), b""));
        assert_eq!(open(folder.path(), 3), 3, "{there:?} were there");
        assert_eq!(open(folder.path(), 5), 3, "a topic keeps its partitions");
    }
}

#[test]
fn a_topic_that_is_being_created_has_no_partitions_or_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    for topic in 0..100 {
        let path = folder.path().join(topic.to_string());
        let settings = SinkSettings { envelope: Envelope::Events, schema: None, partitions: 20 };
        let writer = std::thread::spawn({
            let path = path.clone();
            move || open_sink(&path, &FileSettings::default(), &settings).unwrap().partitions()
        });
        let found = loop {
            match open_source(&path, &FileSettings::default()) {
                Ok(source) if source.partitions() > 0 => break source.partitions(),
                Err(error) => assert_eq!(error.kind(), Kind::Missing),
                Ok(_) => {}
            }
        };
        assert_eq!((found, writer.join().unwrap()), (20, 20));
    }
}

#[test]
fn partitions_are_read_under_their_numbers_when_the_last_one_is_created() {
    let folder = tempfile::tempdir().unwrap();
    for name in [".lock", "2.jsonl", "1.jsonl"] {
        append(&folder.path().join(name), b"");
    }
    let source = open_source(folder.path(), &FileSettings::default()).unwrap();
    assert_eq!(source.partitions(), 0);
    let bell = Bell::default();
    source.watch(bell.waker());
    append(&folder.path().join("0.jsonl"), b"0\n");
    append(&folder.path().join("1.jsonl"), b"1\n");
    let deadline = Instant::now() + Duration::from_secs(30);
    while source.partitions() < 3 {
        assert!(Instant::now() < deadline, "they are not seen");
        bell.wait(deadline);
    }
    for number in [0, 1] {
        assert_eq!(values(Reading::of(&source, number, Start::Earliest).count(1))[0].1, json!(number));
    }
}

#[test]
fn a_writer_mends_a_torn_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.jsonl");
    fs::write(&path, "{\"key\":1,\"value\":2,\"time\":41}\n{\"key\":1,\"va").unwrap();
    let writer = writing(folder.path()).open(0, Bell::default().waker()).unwrap();
    assert_eq!(writer.last_time(), Some(41));
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"key\":1,\"value\":2,\"time\":41}\n");
}

#[test]
fn reading_begins_where_it_is_told() {
    let files = [(".jsonl", "{\"a\":1}\n{\"a\":2}\n", "{\"a\":3}\n"), (".csv", "a\n1\n2\n", "3\n")];
    for packing in [Plain, Gzip, Zstd] {
        for (ending, text, more) in files {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(format!("0{ending}{}", packing.ending()));
            append(&path, &packing.pack(text.as_bytes()));
            let mut all = Reading::of_file(&path, Start::Earliest, &FileSettings::default());
            let first = values(all.count(2))[0].0;
            let mut behind = Reading::of_file(&path, after(first), &FileSettings::default());
            assert_eq!(values(behind.count(1))[0].1, json!({"a": 2}));
            let mut latest = Reading::of_file(&path, Start::Latest, &to_the_end());
            assert_eq!(latest.end().len(), 0);
            append(&path, &packing.pack(more.as_bytes()));
            assert_eq!(values(behind.count(2))[1].1, json!({"a": 3}));
        }
    }
}

#[test]
fn reading_from_the_latest_gets_what_comes_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.csv");
    append(&path, b"a\n1\n2\n");
    let mut reading = Reading::of_file(&path, Start::Latest, &FileSettings::default());
    // More comes until some of it is read: opening does not wait until the end is found.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut next = 3;
    while reading.records.is_empty() {
        assert!(Instant::now() < deadline);
        append(&path, format!("{next}\n").as_bytes());
        next += 1;
        reading.reader.poll(1 << 10, &mut reading.records).unwrap();
    }
    assert!(values(&reading.records)[0].1["a"].as_u64().unwrap() >= 3);
}

#[test]
fn a_partition_that_comes_up_is_read_from_its_beginning_and_files_know_no_times() {
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("0.jsonl"), b"1\n");
    let source = open_source(folder.path(), &FileSettings::default()).unwrap();
    append(&folder.path().join("1.jsonl"), b"2\n3\n");
    let deadline = Instant::now() + Duration::from_secs(30);
    while source.partitions() < 2 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(Reading::of(&source, 1, Start::Latest).count(2).len(), 2);
    let error = source.open(0, Start::PublishedAt(1), Bell::default().waker()).err().unwrap();
    assert!(error.to_string().contains("on Pulsar only"), "{error}");
}

#[test]
fn two_gzip_members_are_one_file() {
    let folder = tempfile::tempdir().unwrap();
    for (name, first, second) in [
        ("0.jsonl.gz", "{\"a\":1}\n{\"a\"", ":2}\n"),
        ("0.csv.gz", "a\n1\n\"", "2\"\n"),
        ("1.csv.gz", "a", "\n1\n2\n"),
    ] {
        let path = folder.path().join(name);
        append(&path, &Gzip.pack(first.as_bytes()));
        append(&path, &Gzip.pack(second.as_bytes()));
        assert_eq!(Reading::of_file(&path, Start::Earliest, &to_the_end()).end().len(), 2, "{name}");
    }
}

#[test]
fn partitions_are_numbered_by_name_and_new_ones_are_picked_up() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("2.csv.zst"), Zstd.pack(b"a\n1\n")).unwrap();
    fs::write(folder.path().join("10.jsonl"), "{\"a\":10}\n").unwrap();
    fs::write(folder.path().join("notes.txt"), "no partition").unwrap();
    let source = open_source(folder.path(), &FileSettings::default()).unwrap();
    assert_eq!(source.partitions(), 2);
    assert_eq!(values(Reading::of(&source, 0, Start::Earliest).count(1))[0].1, json!({"a": 1}));
    assert_eq!(values(Reading::of(&source, 1, Start::Earliest).count(1))[0].1, json!({"a": 10}));
    let bell = Bell::default();
    source.watch(bell.waker());
    fs::write(folder.path().join("0.jsonl"), "{\"a\":0}\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while source.partitions() < 3 {
        assert!(Instant::now() < deadline, "the new partition is not seen");
        bell.wait(deadline);
    }
    assert_eq!(values(Reading::of(&source, 2, Start::Earliest).count(1))[0].1, json!({"a": 0}));
}

#[test]
fn what_is_too_long_is_set_aside_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let settings = FileSettings { max_record_bytes: 100, ..to_the_end() };
    let long = "x".repeat(3 << 20);
    for (name, text) in [
        ("0.jsonl", format!("{{\"a\":1}}\n{{\"a\":\"{long}\"}}\n{{\"a\":3}}\n")),
        ("0.csv", format!("a,b\n1,1\n\"{long}\n\",2\n3,3\n")),
        ("1.csv", format!("a,b\n1,1\n{}\n3,3\n", ",".repeat(3 << 20))),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let mut reading = Reading::of_file(&path, Start::Earliest, &settings);
        let records = reading.end();
        assert_eq!(records.len(), 3, "{name}");
        assert_eq!(records[1].defect.as_deref(), Some("longer than 100 bytes"), "{name}");
        assert!(records[1].payload.len() <= 1 << 10, "{name}");
        assert_eq!((&records[0].defect, &records[2].defect), (&None, &None), "{name}");
    }
}

#[test]
fn a_row_that_cannot_be_read_is_set_aside_with_its_bytes_and_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.csv");
    fs::write(&path, b"a,b\n1,2\n1,2,3\n1\n1,\xff\n4,5\n").unwrap();
    let mut reading = Reading::of_file(&path, Start::Earliest, &to_the_end());
    let defects: Vec<_> = reading
        .end()
        .iter()
        .filter_map(|record| Some((record.position.entry, record.payload.to_vec(), record.defect.clone()?)))
        .collect();
    let defect = |at: u64, bytes: &[u8], reason: &str| (at, bytes.to_vec(), reason.to_owned());
    assert_eq!(
        defects,
        [
            defect(8, b"1,2,3", "3 columns, and the header has 2"),
            defect(14, b"1", "1 columns, and the header has 2"),
            defect(16, b"1,\xff", "the value of \"b\" is not UTF-8"),
        ]
    );
    assert_eq!(reading.records.len(), 5);
}

#[test]
fn a_header_that_cannot_be_used_is_an_error_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.csv");
    fs::write(&path, b"a,b,a\n1,2,3\n").unwrap();
    let mut reading = Reading::of_file(&path, Start::Earliest, &FileSettings::default());
    let error = reading.until(|_, _| false).unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput);
    assert!(error.to_string().contains("0.csv") && error.to_string().contains("named \"a\""), "{error}");
}

#[test]
fn a_file_that_was_cut_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.jsonl");
    fs::write(&path, "{\"a\":1}\n{\"a\":2}\n").unwrap();
    let mut reading = Reading::of_file(&path, Start::Earliest, &FileSettings::default());
    reading.count(2);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(8).unwrap();
    let error = reading.until(|_, _| false).unwrap_err();
    assert_eq!(error.kind(), Kind::Lost);
    assert!(error.to_string().contains("16 bytes of it were read and it has only 8 now"), "{error}");
}

#[test]
fn a_compressed_file_that_ends_in_the_middle_is_an_error_once_nobody_writes_it() {
    for packing in [Gzip, Zstd] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("0.csv{}", packing.ending()));
        let packed = packing.pack(b"a\n1\n2\n");
        let (begin, rest) = packed.split_at(packed.len() - 3);
        let mut file = File::create(&path).unwrap();
        file.lock().unwrap();
        file.write_all(begin).unwrap();
        let mut reading = Reading::of_file(&path, Start::Earliest, &to_the_end());
        for _ in 0..100 {
            assert_ne!(reading.reader.poll(1, &mut reading.records).unwrap(), Polled::End);
        }
        file.write_all(rest).unwrap();
        drop(file);
        assert_eq!(reading.end().len(), 2);
        let torn = folder.path().join(format!("1.csv{}", packing.ending()));
        fs::write(&torn, begin).unwrap();
        let error = Reading::of_file(&torn, Start::Earliest, &to_the_end()).until(|_, _| false).unwrap_err();
        assert_eq!(error.kind(), Kind::Lost, "{error}");
        assert!(error.to_string().contains("ends in the middle"), "{error}");
    }
}

#[test]
fn an_empty_file_of_any_kind_has_no_records() {
    for name in ["0.jsonl", "0.csv", "0.csv.gz", "0.jsonl.zst"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        File::create(&path).unwrap();
        assert_eq!(Reading::of_file(&path, Start::Earliest, &to_the_end()).end().len(), 0, "{name}");
    }
}

#[test]
fn a_topic_that_is_not_there_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let error = open_source(&folder.path().join("none"), &FileSettings::default()).err().unwrap();
    assert_eq!(error.kind(), Kind::Missing);
}

// --- Rows in a program ---------------------------------------------------------------------------

/// Topics in a folder.
struct Folder(PathBuf);

impl Topics for Folder {
    fn source(&self, name: &str) -> Result<Arc<dyn Source>> {
        open_source(&self.0.join(name), &to_the_end())
    }
    fn sink(&self, name: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        open_sink(&self.0.join(name), &to_the_end(), settings)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Flight {
    carrier: String,
    number: String,
    zip: String,
    delay: Option<i64>,
    miles: f64,
    late: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Carrier {
    numbers: Vec<String>,
    zips: Vec<String>,
    delay: i64,
    without_delay: u64,
    late: u64,
    tenths_of_miles: i64,
}

impl Agent for Carrier {
    type Key = String;
    type Event = Flight;
    type View = Carrier;
    type Emit = ();
    fn create(_carrier: &String) -> Self {
        Carrier::default()
    }
    fn on_event(&mut self, flight: &Flight, _context: &mut Context<'_, Self>) {
        self.numbers.push(flight.number.clone());
        self.zips.push(flight.zip.clone());
        self.delay += flight.delay.unwrap_or_default();
        self.without_delay += u64::from(flight.delay.is_none());
        self.late += u64::from(flight.late);
        self.tenths_of_miles += (flight.miles * 10.0) as i64;
    }
    fn view(&self) -> Option<Carrier> {
        Some(self.clone())
    }
}

#[test]
fn cells_are_read_as_what_the_program_wants_and_what_cannot_be_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let flights = folder.path().join("flights");
    fs::create_dir(&flights).unwrap();
    let rows = "carrier,number,zip,delay,miles,late,unused\n\
                UA,1545,00501,-3,200.5,false,\n\
                UA,\"1545\",\"501\",,\"10\",true,x\n\
                UA,N14,1.50,soon,1,true,x\n\
                UA,1,2\n";
    fs::write(flights.join("0.csv.gz"), Gzip.pack(rows.as_bytes())).unwrap();
    let mut config = JobConfig::new("flights");
    config.until_end = true;
    let topics = Arc::new(Folder(folder.path().to_owned()));
    let summary = nekton_engine::run(config, topics, |flow| {
        let carriers = flow.events::<Flight>("flights").agents::<Carrier>("carriers", |f| f.carrier.clone());
        flow.sink("carriers", upsert(&carriers.views()));
    })
    .unwrap();
    assert_eq!((summary.events, summary.dead_letters), (2, 2));
    let read = |topic: &str| -> Vec<Value> {
        let text = fs::read_to_string(folder.path().join(topic).join("0.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let expected = json!({"numbers": ["1545", "1545"], "zips": ["00501", "501"], "delay": -3,
        "without_delay": 1, "late": 1, "tenths_of_miles": 2105});
    assert_eq!(read("carriers").last().unwrap()["value"], expected);
    let letters = read("flights.dead-letter");
    let reasons: Vec<_> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(
        reasons,
        ["column \"delay\": expected a whole number, not \"soon\"", "3 columns, and the header has 7"]
    );
    assert_eq!(letters[1]["text"], "UA,1,2");
    assert_eq!(letters[1]["position"], format!("0:{}:0", rows.find("UA,1,2").unwrap()));
}
