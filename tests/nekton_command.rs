//! The command `nekton`, as a user runs it.

#[path = "common/job.rs"]
mod job;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use job::{Job, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

fn nekton(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nekton"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that succeeds prints.
fn prints(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn ran(arguments: &[&str]) -> String {
    prints(&nekton(arguments).output().unwrap())
}

/// What a command that fails says, in one sentence.
fn refused(arguments: &[&str]) -> String {
    let output = nekton(arguments).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("nekton: ") && said.trim_end().lines().count() == 1, "{said}");
    said
}

/// Gives lines to a command's standard input and waits for its end.
fn given(arguments: &[&str], lines: &str) -> Output {
    let mut child = nekton(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn url(folder: &Path) -> String {
    format!("file:{}", folder.display())
}

#[test]
fn lines_that_are_published_are_the_records_of_the_topic() {
    let folder = tempfile::tempdir().unwrap();
    let topic = url(&folder.path().join("readings"));
    let lines = "{\"a\":1}\n\nno JSON\n{\"a\":\"ä\"}";
    prints(&given(&["topics", "publish", &topic], lines));
    assert_eq!(ran(&["topics", "tail", &topic, "--until-end"]), "{\"a\":1}\nno JSON\n{\"a\":\"ä\"}\n");
    assert_eq!(ran(&["topics", "tail", &topic, "--count", "2"]), "{\"a\":1}\nno JSON\n");
    assert_eq!(ran(&["topics", "tail", &topic, "--until-end", "--from", "latest"]), "");
    // More comes behind what is there.
    prints(&given(&["topics", "publish", &topic], "{\"a\":2}\n"));
    let json = ran(&["topics", "tail", &topic, "--until-end", "--json"]);
    let records: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 4);
    assert_eq!((&records[3]["value"]["a"], &records[3]["partition"]), (&Value::from(2), &Value::from(0)));
    assert_eq!(records[1]["value"], "no JSON");
}

#[test]
fn lines_of_one_key_go_to_one_partition_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let topic = url(&folder.path().join("keyed"));
    let lines: String = (0..600).map(|n| format!("{{\"key\":\"k{}\",\"n\":{n}}}\n", n % 20)).collect();
    prints(&given(&["topics", "publish", &topic, "--key-field", "key", "--partitions", "4"], &lines));
    let json = ran(&["topics", "tail", &topic, "--until-end", "--json"]);
    let mut last = std::collections::BTreeMap::new();
    let mut partitions = std::collections::BTreeSet::new();
    for line in json.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let (key, n) = (record["value"]["key"].to_string(), record["value"]["n"].as_u64().unwrap());
        let partition = record["partition"].as_u64().unwrap();
        partitions.insert(partition);
        if let Some((at, before)) = last.insert(key, (partition, n)) {
            assert_eq!((at, before + 20), (partition, n), "one partition, in order");
        }
    }
    assert_eq!((last.len(), partitions.len()), (20, 4));

    let output =
        given(&["topics", "publish", &topic, "--key-field", "key"], "{\"key\":\"k1\"}\n{\"kex\":1}\n{}\n");
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(
        said.contains("line 2") && said.contains("no field \"key\"") && said.contains("published 1 "),
        "{said}"
    );
}

#[test]
fn a_tail_follows_what_is_published_and_ends_quietly_when_nobody_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let topic = url(&folder.path().join("live"));
    prints(&given(&["topics", "publish", &topic], "first\n"));
    let mut tail = Job::of(&mut nekton(&["topics", "tail", &topic]));
    let mut lines = BufReader::new(tail.0[0].stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    let mut publish = Job::of(nekton(&["topics", "publish", &topic]).stdin(Stdio::piped()));
    let mut input = publish.0[0].stdin.take().unwrap();
    // The line arrives although the input has not ended.
    input.write_all(b"second\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    drop(lines);
    input.write_all(b"third\n").unwrap();
    drop(input);
    publish.ends(&[0]);
    // It ends now that its pipe is gone.
    tail.ends(&[0]);
}

#[test]
fn ctrl_c_ends_a_publisher_as_the_end_of_its_input_does() {
    let folder = tempfile::tempdir().unwrap();
    let topic = url(&folder.path().join("typed"));
    let mut publish = Job::of(nekton(&["topics", "publish", &topic]).stdin(Stdio::piped()));
    let mut input = publish.0[0].stdin.take().unwrap();
    input.write_all(b"typed\nhalf a li").unwrap();
    // The line is there, so the signal is handled by now.
    assert_eq!(tail_when_there(&topic), "typed\n");
    publish.signal(Signal::SIGINT);
    let said = publish.ends(&[0]).concat();
    assert!(said.contains("published 1 records"), "{said}");
    assert_eq!(ran(&["topics", "tail", &topic, "--count", "1"]), "typed\n");
}

/// The first record of a topic that is being made.
fn tail_when_there(topic: &str) -> String {
    let mut first = None;
    eventually("the topic", || {
        let output = nekton(&["topics", "tail", topic, "--count", "1"]).output().unwrap();
        first = output.status.success().then(|| text(&output.stdout));
        first.is_some()
    });
    first.unwrap()
}

#[test]
fn wrong_commands_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let said = refused(&["topics", "tail", &url(&nowhere)]);
    assert!(said.contains("there is no topic at"), "{said}");
    assert!(refused(&["topics", "tail", "kafka://host/x"]).contains("kafka is not supported"));
    assert!(refused(&["topics", "publish", "file:"]).contains("names no path"));
    assert!(refused(&["new", "9lives"]).contains("cannot be a program's name"));
    let there = folder.path().join("there");
    std::fs::create_dir(&there).unwrap();
    assert!(refused(&["new", there.to_str().unwrap()]).contains("is there already"));
    let sandbox = nowhere.to_str().unwrap();
    for command in ["status", "down", "token"] {
        let said = refused(&["sandbox", command, "--folder", sandbox]);
        assert!(said.contains("no sandbox is running in") && said.contains("nekton sandbox up"), "{said}");
    }
    assert!(!nowhere.exists(), "asking makes no folder");
}

#[test]
fn a_sandbox_goes_up_and_down_by_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("sandbox");
    let place = place.to_str().unwrap();
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = held.local_addr().unwrap().port().to_string();
    let [port, admin] = [free_port(), free_port()].map(|port| port.to_string());
    let said = refused(&["sandbox", "up", "--folder", place, "--port", &taken, "--admin-port", &admin]);
    assert!(said.contains(&format!("port {taken} of 127.0.0.1 is in use")), "{said}");

    let _down = Down(place);
    let up =
        ["sandbox", "up", "--folder", place, "--tls", "--token", "--port", &port, "--admin-port", &admin];
    let up = nekton(&up).output().unwrap();
    assert!(text(&up.stderr).contains("starting Apache Pulsar"), "{}", text(&up.stderr));
    let said = prints(&up);
    let url = format!("pulsar+ssl://127.0.0.1:{port}/public/default");
    assert!(said.contains("is up,") && said.contains(&format!("--topics {url} --pulsar-ca ")), "{said}");
    let again = ran(&["sandbox", "up", "--folder", place, "--tls", "--token"]);
    assert!(again.contains("is up already") && again.contains(&url), "{again}");
    let status: Value =
        serde_json::from_str(&ran(&["sandbox", "status", "--folder", place, "--json"])).unwrap();
    assert_eq!((&status["healthy"], &status["topics"]), (&Value::from(true), &Value::from(url)));
    let other = refused(&["sandbox", "up", "--folder", place]);
    assert!(other.contains("a sandbox with other TLS runs"), "{other}");
    assert_eq!(ran(&["sandbox", "token", "--folder", place, "guest"]).matches('.').count(), 2, "a JWT");

    // The flags that it prints are those that work.
    let tail =
        said.lines().find_map(|line| line.trim().strip_prefix("look into a topic     nekton ")).unwrap();
    let with = |verb: &str, more: &[&str]| -> Vec<String> {
        let flags = tail.replacen("tail", verb, 1).replace("/NAME ", "/readings ");
        flags.split(' ').chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let lines: String = (0..100).map(|n| format!("{{\"k\":{},\"n\":{n}}}\n", n % 7)).collect();
    let publish = with("publish", &["--partitions", "3", "--key-field", "k"]);
    prints(&given(&publish.iter().map(String::as_str).collect::<Vec<_>>(), &lines));
    let tail = with("tail", &["--until-end", "--json"]);
    let records = ran(&tail.iter().map(String::as_str).collect::<Vec<_>>());
    let mut seen: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    seen.sort_by_key(|record| record["value"]["n"].as_u64());
    assert_eq!(seen.len(), 100);
    for (n, record) in (0..).zip(&seen) {
        let key = (n % 7).to_string();
        assert!(record["value"]["n"] == n && record["key"] == key.as_str(), "{record}");
    }

    assert!(ran(&["sandbox", "down", "--folder", place]).contains("is down"));
    assert!(refused(&["sandbox", "down", "--folder", place]).contains("no sandbox is running"));
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Ends a sandbox that a failed test left.
struct Down<'a>(&'a str);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _ = nekton(&["sandbox", "down", "--folder", self.0]).output();
    }
}

#[test]
fn a_new_program_in_a_workspace_is_not_taken_for_a_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Cargo.toml"), "[workspace]\nmembers = []\n").unwrap();
    let program = folder.path().join("house");
    ran(&["new", program.to_str().unwrap()]);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(&program);
    let metadata: Value = serde_json::from_str(&prints(&cargo.output().unwrap())).unwrap();
    assert_eq!(metadata["packages"][0]["name"], "house");
    let manifest = std::fs::read_to_string(program.join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("{{"), "every blank is filled: {manifest}");
}

/// The program is built with what this test was built with, so that little has to be compiled anew.
#[test]
fn a_new_program_compiles_runs_and_passes_its_test() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("my-house");
    let said = ran(&["new", program.to_str().unwrap()]);
    assert!(said.contains("cargo run -- --topics file:data/topics --until-end"), "{said}");

    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(repository.join("Cargo.lock"), program.join("Cargo.lock")).unwrap();
    let manifest = std::fs::read_to_string(repository.join("Cargo.toml")).unwrap();
    let profiles = &manifest[manifest.find("[profile.").unwrap()..];
    let config = program.join(".cargo/config.toml");
    let own = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{own}\n{profiles}")).unwrap();

    // A feature that csv, with which this test was built, turns on. Without it, all that serde is in would be compiled
    // anew: timely, differential, and the clients of Pulsar and of object stores.
    let manifest = program.join("Cargo.toml");
    let own = std::fs::read_to_string(&manifest).unwrap();
    assert!(own.contains("[dependencies]\n"), "{own}");
    std::fs::write(&manifest, own.replacen("[dependencies]\n", "[dependencies]\nserde_core = \"1\"\n", 1))
        .unwrap();

    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(arguments).current_dir(&program).env("CARGO_TARGET_DIR", &target);
        // This test's own build must not leak into it.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let leaks = name.starts_with("CARGO_PKG") || name.starts_with("CARGO_BIN");
            if leaks || name == "CARGO_MANIFEST_DIR" || name == "PROTOC" {
                cargo.env_remove(name);
            }
        }
        prints(&cargo.output().unwrap())
    };
    cargo(&["run", "--quiet", "--", "--topics", "file:data/topics", "--until-end"]);
    let changes = std::fs::read_to_string(program.join("data/topics/hot-by-room/0.jsonl")).unwrap();
    assert!(changes.contains("\"key\":\"kitchen\"") && changes.contains("\"after\":2"), "{changes}");
    let tested = cargo(&["test", "--quiet"]);
    assert!(tested.contains("test result: ok. 1 passed"), "{tested}");
}
