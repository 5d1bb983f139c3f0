//! A program that has changed goes on from its checkpoints where that is right, and is refused in words before
//! anything starts where it is not. `nekton check` says the same, and touches nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser;
use nekton::changes;
use nekton::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Clone, Serialize, Deserialize)]
struct Reading {
    sensor: u64,
    value: i64,
}

/// The state as it was at first, and as other versions of the program have it.
#[derive(Default, Serialize, Deserialize)]
struct First {
    count: i64,
    sum: i64,
}
#[derive(Default, Serialize, Deserialize)]
struct Defaulted {
    count: i64,
    sum: i64,
    #[serde(default)]
    last: i64,
}
#[derive(Default, Serialize, Deserialize)]
struct Missing {
    count: i64,
    sum: i64,
    last: i64,
}
#[derive(Default, Serialize, Deserialize)]
struct Retyped {
    count: String,
    sum: i64,
}

/// What is common to all of them: how an event is added, and what is seen.
trait State: Default + Serialize + DeserializeOwned + 'static {
    fn add(&mut self, value: i64);
    fn seen(&self) -> (i64, i64);
}
macro_rules! state {
    ($state:ty, $self:ident, $value:ident, $add:expr, $seen:expr) => {
        impl State for $state {
            fn add(&mut $self, $value: i64) { $add; }
            fn seen(&$self) -> (i64, i64) { $seen }
        }
    };
}
state!(
    First,
    self,
    value,
    (self.count, self.sum) = (self.count + 1, self.sum + value),
    (self.count, self.sum)
);
state!(
    Defaulted,
    self,
    value,
    (self.count, self.sum, self.last) = (self.count + 1, self.sum + value, value),
    (self.count, self.sum)
);
state!(
    Missing,
    self,
    value,
    (self.count, self.sum, self.last) = (self.count + 1, self.sum + value, value),
    (self.count, self.sum)
);
state!(Retyped, self, value, self.sum += value, (0, self.sum));

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Of<K, S> {
    state: S,
    #[serde(skip)]
    key: std::marker::PhantomData<K>,
}

impl<K: nekton::agents::Key, S: State> Agent for Of<K, S> {
    type Key = K;
    type Event = Reading;
    type View = (i64, i64);
    type Emit = ();
    fn create(_key: &K) -> Self {
        Of { state: S::default(), key: std::marker::PhantomData }
    }
    fn on_event(&mut self, reading: &Reading, _context: &mut Context<'_, Self>) {
        self.state.add(reading.value);
    }
    fn view(&self) -> Option<(i64, i64)> {
        Some(self.state.seen())
    }
}

fn sums<K: nekton::agents::Key, S: State>(flow: &mut Flow<'_>, key: impl Fn(&Reading) -> K + 'static) {
    let readings = flow.events::<Reading>("readings");
    let sensors = readings.agents::<Of<K, S>>("sensors", key);
    flow.sink("sums", changes(&sensors.views()));
}

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        runner: Runner,
    }
    let (version, flags) = (std::env::var("VERSION").unwrap(), std::env::var("FLAGS").unwrap());
    let Flags { runner } = Flags::parse_from(std::iter::once("sums").chain(flags.split_whitespace()));
    let outcome = runner.run("sums", move |flow| {
        let sensor = |reading: &Reading| reading.sensor;
        match &version[..] {
            "first" => sums::<u64, First>(flow, sensor),
            "defaulted" => sums::<u64, Defaulted>(flow, sensor),
            "missing" => sums::<u64, Missing>(flow, sensor),
            "retyped" => sums::<u64, Retyped>(flow, sensor),
            "text key" => sums::<String, First>(flow, |reading| reading.sensor.to_string()),
            "pair key" => sums::<(u64, u64), First>(flow, |reading| (reading.sensor, 0)),
            "array key" => sums::<[u64; 2], First>(flow, |reading| [reading.sensor, 0]),
            "narrow key" => sums::<u16, First>(flow, |reading| reading.sensor as u16),
            "renamed" => {
                let readings = flow.events::<Reading>("readings");
                let sensors = readings.agents::<Of<u64, First>>("instruments", |reading| reading.sensor);
                flow.sink("sums", changes(&sensors.views()));
            }
            "more" => {
                let readings = flow.events::<Reading>("readings");
                let sensors = readings.agents::<Of<u64, First>>("sensors", |reading| reading.sensor);
                flow.sink("sums", changes(&sensors.views()));
                flow.sink("counts", changes(&sensors.views().map(|(sensor, (count, _))| (sensor, count))));
            }
            "fed" => {
                flow.feed::<u64, _>("numbers", |_, _, _| nekton::Script::new(std::iter::empty()));
            }
            other => panic!("{other}"),
        }
    });
    if let Err(error) = outcome {
        eprintln!("sums: {error}");
        std::process::exit(1);
    }
}

struct Job(tempfile::TempDir);

impl Job {
    /// With some readings, and nothing run yet.
    fn new() -> Self {
        let job = Job(tempfile::tempdir().unwrap());
        fs::create_dir_all(job.topics().join("readings")).unwrap();
        job.publish(0..20);
        job
    }
    fn topics(&self) -> PathBuf {
        self.0.path().join("topics")
    }
    fn publish(&self, values: std::ops::Range<i64>) {
        let path = self.topics().join("readings/0.jsonl");
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        values.for_each(|n| text += &format!("{{\"sensor\":{},\"value\":{n}}}\n", n % 4));
        fs::write(path, text).unwrap();
    }
    fn command(&self, mut command: Command, version: &str) -> Output {
        command.env("VERSION", version).env("NEKTON_LISTEN", "none").env_remove("RUST_BACKTRACE");
        command.env(
            "FLAGS",
            format!("--until-end --checkpoint-every 20ms --topics file:{}", self.topics().display()),
        );
        command.output().unwrap()
    }
    fn output(&self, version: &str) -> Output {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "program", "--ignored", "--nocapture"]);
        self.command(command, version)
    }
    /// Runs a version to its end; what it said on standard error.
    fn ran(&self, version: &str) -> String {
        let output = self.output(version);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }
    /// Runs a version that is refused and changes nothing: in one line on standard error.
    fn refused(&self, version: &str) -> String {
        let before = self.files();
        let output = self.output(version);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "one sentence: {said}");
        assert_eq!(self.files(), before, "nothing is touched");
        said
    }
    fn check(&self, version: &str) -> (bool, String) {
        let before = self.files();
        let mut nekton = Command::new(env!("CARGO_BIN_EXE_nekton"));
        nekton.args(["check", "--"]).arg(std::env::current_exe().unwrap());
        nekton.args(["--exact", "program", "--ignored", "--nocapture"]);
        let output = self.command(nekton, version);
        assert_eq!(self.files(), before, "nothing is touched");
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
        (output.status.success(), said)
    }
    /// All files there are, with what they hold.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(self.0.path(), &mut files);
        files
    }
    fn lines(&self, topic: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.topics().join(topic).join("0.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
    /// The count of each sensor, at the end of unbroken chains.
    fn counts(&self) -> BTreeMap<u64, i64> {
        let mut last: BTreeMap<u64, Value> = BTreeMap::new();
        for line in self.lines("sums") {
            let key = line["key"].as_u64().unwrap();
            assert_eq!(last.insert(key, line["after"].clone()).unwrap_or_default(), line["before"], "{line}");
        }
        last.into_iter().map(|(sensor, seen)| (sensor, seen[0].as_i64().unwrap())).collect()
    }
}

fn each(count: i64) -> BTreeMap<u64, i64> {
    (0..4).map(|sensor| (sensor, count)).collect()
}

#[test]
fn a_first_start_says_nothing_and_a_restart_from_where_it_goes_on() {
    let job = Job::new();
    assert_eq!(job.ran("first"), "");
    assert_eq!(job.counts(), each(5));
    let said = job.ran("first");
    assert!(said.starts_with("sums goes on from checkpoint ") && said.contains(" s old)"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(job.lines("sums").len(), job.counts().len(), "there was nothing left to do");
    let (fits, said) = job.check("first");
    assert!(
        fits && said.contains("would go on from checkpoint") && said.contains("goes on with 4 agents"),
        "{said}"
    );
}

#[test]
fn a_new_field_with_a_default_takes_the_old_state_over() {
    let job = Job::new();
    job.ran("first");
    job.publish(20..40);
    let (fits, said) = job.check("defaulted");
    assert!(fits && said.contains("goes on with 4 agents"), "{said}");
    job.ran("defaulted");
    assert_eq!(job.counts(), each(10));
    // And back again: a field that nobody knows is left out.
    job.publish(40..60);
    job.ran("first");
    assert_eq!(job.counts(), each(15));
}

#[test]
fn state_that_cannot_be_read_any_more_is_refused_before_anything_starts() {
    let job = Job::new();
    job.ran("first");
    for (version, why) in
        [("missing", "missing field `last`"), ("retyped", "invalid type"), ("text key", "invalid type")]
    {
        let said = job.refused(version);
        for part in [why, "\"sensors\"", "#[serde(default)]", "Nothing has been started", "checkpoint "] {
            assert!(said.contains(part), "{version}: {said}");
        }
        let (fits, checked) = job.check(version);
        assert!(!fits && checked.contains(why), "{checked}");
    }
    assert!(job.refused("text key").contains("its key was u64, and is text now"));
    job.publish(20..40);
    job.ran("first");
    assert_eq!(job.counts(), each(10), "the program as it was goes on");
}

#[test]
fn a_key_of_another_type_is_refused_unless_agents_stay_where_they_are() {
    let job = Job::new();
    job.ran("first");
    job.publish(20..40);
    job.ran("narrow key");
    assert_eq!(job.counts(), each(10));
    // These are read from the same bytes, but hashed in another way.
    let job = Job::new();
    job.ran("pair key");
    let (fits, said) = job.check("array key");
    assert!(!fits && said.contains("the type of its key"), "{said}");
    let output = job.output("array key");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the type of its key"));
    assert_eq!(job.lines("sums").len(), 4, "nothing is made of it");
}

#[test]
fn a_root_that_is_gone_is_reported_and_one_that_is_new_begins_anew() {
    let job = Job::new();
    job.ran("first");
    let (fits, said) = job.check("renamed");
    assert!(
        fits && said.contains("\"instruments\" is new") && said.contains("\"sensors\" is not in the program"),
        "{said}"
    );
    job.publish(20..40);
    let said = job.ran("renamed");
    assert!(said.contains("\"sensors\" is not in the program any more"), "{said}");
    assert!(!job.ran("renamed").contains("sensors"), "the next checkpoint is without it");
}

#[test]
fn a_new_output_begins_with_a_complete_snapshot() {
    let job = Job::new();
    job.ran("first");
    let (fits, said) = job.check("more");
    assert!(fits && said.contains("topic \"counts\" was not written before"), "{said}");
    job.ran("more");
    let counts: Vec<_> = job.lines("counts").iter().map(|line| line["after"].as_i64().unwrap()).collect();
    assert_eq!(counts, [5; 4]);
}

#[test]
fn what_cannot_have_checkpoints_says_so_and_absent_topics_leave_no_trace() {
    let job = Job::new();
    assert!(job.refused("fed").contains("--checkpoints none"));
    fs::remove_dir_all(job.topics().join("readings")).unwrap();
    assert!(job.refused("first").contains("there is no topic at"));
    let (fits, said) = job.check("first");
    assert!(!fits && said.contains("there is no topic at"), "{said}");
}
