//! A program on a real Apache Pulsar, as a user runs it, and its output as others read it.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use common::broker::{broker, fresh};
use common::topics::{PATIENCE, Reading, Writer, message, publish, text};
use nekton::connect::{Message, Start};
use nekton_connectors::pulsar::{Pulsar, PulsarSettings};

/// The example program, beside this test. Cargo has built it, unless only this test was asked for.
fn program() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().unwrap().parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--example", "hot_depots"]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the example builds");
        profile.join("examples/hot_depots")
    });
    let mut command = Command::new(path);
    // What Pulsar remembers is looked at here.
    command
        .env_clear()
        .envs([("NEKTON_CHECKPOINTS", "none"), ("NEKTON_LISTEN", "none")])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// A namespace of this test's own, since the program names its topics.
fn namespace(name: &str) -> String {
    let name = fresh(name);
    broker().admin("PUT", &format!("namespaces/public/{name}"), "");
    broker().base().replace("/default", &format!("/{name}"))
}

fn to_the_end(job: &str) -> Pulsar {
    Pulsar::new(PulsarSettings { until_end: true, ..broker().settings(job) }).unwrap()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn reading(vehicle: usize, depot: &str, temp: i64) -> String {
    format!("{{\"vehicle\":{vehicle},\"depot\":\"{depot}\",\"engine_temp\":{temp}}}")
}

/// Folds changes into what they leave; checks that each starts where the last one ended.
fn fold(changes: impl IntoIterator<Item = serde_json::Value>) -> BTreeMap<String, i64> {
    let mut shown = BTreeMap::new();
    for change in changes {
        let key = change["key"].as_str().unwrap().to_owned();
        assert_eq!(shown.remove(&key), change["before"].as_i64(), "chains are unbroken");
        if let Some(after) = change["after"].as_i64() {
            shown.insert(key, after);
        }
    }
    shown
}

fn changes(url: &str) -> Vec<serde_json::Value> {
    let records =
        Reading::open(&to_the_end("look"), url, Start::Earliest).unwrap().read_to_the_end().unwrap();
    records.iter().map(|(_, record)| serde_json::from_str(text(record)).unwrap()).collect()
}

#[test]
fn the_counts_are_right_on_any_number_of_workers() {
    for workers in ["1", "2", "3"] {
        let topics = namespace("counts");
        let pulsar = to_the_end("publisher");
        let mut depots = BTreeMap::new();
        let mut writers: Vec<_> =
            (0..3).map(|p| Writer::open(&pulsar, &format!("{topics}/telemetry"), p, 3).unwrap()).collect();
        for vehicle in 0..300 {
            let (depot, temp) = (["north", "south", "west"][vehicle % 3], (vehicle * 7 % 40 + 90) as i64);
            let writer = &mut writers[vehicle % 3];
            writer
                .write(vec![
                    message(reading(vehicle, "elsewhere", 200)),
                    message(reading(vehicle, depot, temp)),
                ])
                .unwrap();
            if temp > 110 {
                *depots.entry(depot.to_owned()).or_insert(0) += 1;
            }
        }
        writers.into_iter().for_each(|writer| writer.inner.close().unwrap());
        run(program()
            .args(["--until-end", "--workers", workers, "--partitions", "2", "--topics", &topics])
            .args(admin()));
        assert_eq!(fold(changes(&format!("{topics}/hot-by-depot"))), depots, "{workers} workers");
        // It has acknowledged all of that: a second run has nothing to do.
        run(program().args(["--until-end", "--workers", workers, "--topics", &topics]).args(admin()));
        assert_eq!(fold(changes(&format!("{topics}/hot-by-depot"))), depots, "{workers} workers, again");
    }
}

fn admin() -> [String; 2] {
    ["--pulsar-admin".into(), broker().settings("x").admin_url.unwrap()]
}

/// Ends a program with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn checkpoints_of_topics_on_a_broker_are_on_this_machine_unless_one_says_otherwise() {
    let topics = namespace("beside");
    let mut writer = Writer::open(&to_the_end("publisher"), &format!("{topics}/telemetry"), 0, 1).unwrap();
    writer.write(vec![message(reading(1, "north", 120))]).unwrap();
    writer.inner.close().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let house = || {
        let mut program = program();
        program.env_remove("NEKTON_CHECKPOINTS").current_dir(folder.path());
        let said = run(program.args(["--until-end", "--topics", &topics]).args(admin())).stderr;
        String::from_utf8(said).unwrap()
    };
    assert_eq!(house(), "");
    let said = house();
    assert!(said.starts_with("fleet goes on from checkpoint "), "{said}");
    assert!(folder.path().join("nekton-data/checkpoints").is_dir());
    assert_eq!(changes(&format!("{topics}/hot-by-depot")).len(), 1);
}

#[test]
fn changes_leave_while_the_topic_is_followed_and_ctrl_c_ends_cleanly() {
    let topics = namespace("followed");
    let pulsar = to_the_end("publisher");
    let mut writer = Writer::open(&pulsar, &format!("{topics}/telemetry"), 0, 1).unwrap();
    writer.write(vec![message(reading(1, "north", 120))]).unwrap();
    writer.wait(0).unwrap();
    let mut running = Running(program().args(["--topics", &topics]).spawn().unwrap());
    let following = Pulsar::new(broker().settings("follow")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut output = loop {
        match Reading::open(&following, &format!("{topics}/hot-by-depot"), Start::Earliest) {
            Ok(reading) => break reading,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    let mut last = output.count(1).unwrap();
    for count in 2..10_i64 {
        writer.write(vec![message(reading(count as usize, "north", 120))]).unwrap();
        last = output.count(1).unwrap();
        let change: serde_json::Value = serde_json::from_str(text(&last[0].1)).unwrap();
        assert_eq!((change["before"].as_i64(), change["after"].as_i64()), (Some(count - 1), Some(count)));
    }
    assert_eq!(last.len(), 1);
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let status = running.0.wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn what_cannot_be_read_goes_to_the_dead_letter_topic_with_where_it_was() {
    let topics = namespace("letters");
    let url = format!("{topics}/telemetry");
    let pulsar = to_the_end("publisher");
    let mut writer = Writer::open(&pulsar, &url, 0, 1).unwrap();
    let bytes = |bytes: &'static [u8]| Message { key: None, value: Some(bytes.into()) };
    writer
        .write(vec![
            message(reading(1, "north", 120)),
            message("{\"vehicle\":2,\"depot\":\"north\"}"),
            bytes(b"{\"vehicle\":3,\"depot\":\"\xff\xfe\",\"engine_temp\":200}"),
            message("no JSON"),
            message(reading(4, "north", 130)),
        ])
        .unwrap();
    writer.inner.close().unwrap();
    run(program().args(["--until-end", "--topics", &topics]));
    let letters = changes(&format!("{url}.dead-letter"));
    assert_eq!(letters.len(), 3, "{letters:?}");
    assert!(letters.iter().all(|letter| letter["source"] == url.as_str() && letter["partition"] == 0));
    assert!(letters[0]["reason"].as_str().unwrap().contains("missing field `engine_temp`"), "{letters:?}");
    assert!(letters[0]["position"].as_str().unwrap().ends_with(":1"), "{letters:?}");
    assert_eq!(fold(changes(&format!("{topics}/hot-by-depot"))), BTreeMap::from([("north".to_owned(), 2)]));

    publish(&pulsar, &url, ["bad".to_owned()]);
    let output =
        program().args(["--until-end", "--on-bad-input", "fail", "--topics", &topics]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("--on-bad-input dead-letter") && said.contains(&url),
        "{said}"
    );
}

#[test]
fn what_is_wrong_is_told_in_a_sentence_and_the_exit_code_is_not_0() {
    let empty = namespace("empty");
    for (topics, said) in [
        (empty.as_str(), "there is no topic pulsar://"),
        ("pulsar://127.0.0.1:1/public/default", "127.0.0.1:1 cannot be reached"),
        ("pulsar://127.0.0.1:1/public", "needs tenant, namespace and topic"),
        ("pulsar://127.0.0.1:one/public/default", "\"one\" is no port"),
    ] {
        let output = program().args(["--until-end", "--topics", topics]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(said), "{topics}: {stderr}");
        assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
    }
}

/// Reads a topic of changes with Pulsar's own client for Python and a schema that it declares itself: the broker
/// lets it in only if that fits the one that is registered.
const READER: &str = r#"
import json, sys, pulsar
from pulsar.schema import JsonSchema, Long, Record, String

class Change(Record):
    key = String(required=True)
    before = Long()
    after = Long()
    time = Long(required=True)

service, topic = sys.argv[1:]
client = pulsar.Client(service, logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error))
reader = client.create_reader(topic, pulsar.MessageId.earliest, schema=JsonSchema(Change))
while reader.has_message_available():
    message = reader.read_next(10000)
    change = message.value()
    print(json.dumps({"key": change.key, "before": change.before, "after": change.after, "message_key": message.partition_key()}))
client.close()
"#;

#[test]
fn a_reader_in_python_reads_the_output_with_its_schema() {
    let python = std::env::var("NEKTON_TEST_PYTHON").expect(
        "NEKTON_TEST_PYTHON names no Python with pulsar-client: run tools/test, or set it to one that has it",
    );
    let topics = namespace("python");
    let lines = (0..50).map(|n| reading(n, ["north", "south"][n % 2], if n < 30 { 120 } else { 80 }));
    publish(&to_the_end("publisher"), &format!("{topics}/telemetry"), lines);
    run(program().args(["--until-end", "--topics", &topics]));
    let (service, namespace) = topics.split_at(topics.find("/public").unwrap());
    let topic = format!("persistent:/{namespace}/hot-by-depot");
    let output = run(Command::new(python).args(["-c", READER, service, &topic]));
    let changes: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(changes.iter().all(|change| change["message_key"] == change["key"]));
    assert_eq!(fold(changes), BTreeMap::from([("north".to_owned(), 15), ("south".to_owned(), 15)]));
}
