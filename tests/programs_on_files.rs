//! A program on files, as a user runs it: one process and two, followed and to the end, stopped, and started wrongly.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

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
    command.env_clear().env("NEKTON_LISTEN", "none").stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn topics(folder: &Path) -> String {
    format!("file:{}", folder.display())
}

fn write(folder: &Path, partition: usize, text: &str) -> PathBuf {
    let topic = folder.join("telemetry");
    std::fs::create_dir_all(&topic).unwrap();
    let path = topic.join(format!("{partition}.jsonl"));
    OpenOptions::new().create(true).append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
    path
}

fn reading(vehicle: usize, depot: &str, temp: i64) -> String {
    format!("{{\"vehicle\":{vehicle},\"depot\":\"{depot}\",\"engine_temp\":{temp}}}\n")
}

/// The counts by depot, from the changes written; checks that each change starts where the last one ended.
fn counts(folder: &Path) -> BTreeMap<String, i64> {
    let mut shown: BTreeMap<String, i64> = BTreeMap::new();
    let mut last_time = 0;
    // Each (depot, count) is a record: the key is the depot, the value its count.
    for line in std::fs::read_to_string(folder.join("hot-by-depot/0.jsonl")).unwrap_or_default().lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { break };
        let depot = line["key"].as_str().unwrap().to_owned();
        let time = line["time"].as_u64().unwrap();
        assert!(time >= last_time, "times never go back");
        last_time = time;
        assert_eq!(shown.remove(&depot), line["before"].as_i64(), "chains are unbroken");
        if let Some(count) = line["after"].as_i64() {
            shown.insert(depot, count);
        }
    }
    shown
}

fn expected(vehicles: usize) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for vehicle in 0..vehicles {
        if vehicle % 3 == 0 {
            *counts.entry(format!("depot{}", vehicle % 5)).or_insert(0) += 1;
        }
    }
    counts
}

fn fleet(folder: &Path, vehicles: usize) {
    for vehicle in 0..vehicles {
        let depot = format!("depot{}", vehicle % 5);
        let path = folder.join("telemetry");
        std::fs::create_dir_all(&path).unwrap();
        let lines = reading(vehicle, "elsewhere", 200)
            + &reading(vehicle, &depot, if vehicle % 3 == 0 { 120 } else { 80 });
        write(folder, vehicle % 4, &lines);
    }
}

fn ended(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// One line on standard error and code 2.
fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "one sentence: {said}");
    said
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends a process that a failed test leaves behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn interrupt(child: &Child) {
    let done = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

#[test]
fn one_process_counts_right_on_any_number_of_workers() {
    for workers in ["1", "2", "3"] {
        let folder = tempfile::tempdir().unwrap();
        fleet(folder.path(), 200);
        let mut command = program();
        ended(
            command
                .args(["--until-end", "--workers", workers, "--topics", &topics(folder.path())])
                .output()
                .unwrap(),
        );
        assert_eq!(counts(folder.path()), expected(200), "on {workers} workers");
    }
}

fn free_addresses() -> String {
    let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    listeners.map(|listener| listener.local_addr().unwrap().to_string()).join(",")
}

#[test]
fn two_processes_count_what_one_does() {
    let folder = tempfile::tempdir().unwrap();
    fleet(folder.path(), 200);
    let hosts = free_addresses();
    let start = |process: &str| {
        let mut command = program();
        command.args(["--until-end", "--workers", "2", "--processes", "2", "--process", process]);
        Running(command.args(["--hosts", &hosts, "--topics", &topics(folder.path())]).spawn().unwrap())
    };
    let mut both = [start("0"), start("1")];
    for running in &mut both {
        assert!(running.0.wait().unwrap().success());
    }
    assert_eq!(counts(folder.path()), expected(200));
}

#[test]
fn a_lost_process_ends_the_others_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    fleet(folder.path(), 20);
    let hosts = free_addresses();
    let start = |process: &str| {
        let mut command = program();
        command.args(["--processes", "2", "--process", process, "--hosts", &hosts]);
        Running(command.args(["--topics", &topics(folder.path())]).spawn().unwrap())
    };
    let (mut survivor, mut lost) = (start("0"), start("1"));
    eventually("counts", || counts(folder.path()) == expected(20));
    lost.0.kill().unwrap();
    lost.0.wait().unwrap();
    let mut code = None;
    eventually("the survivor's end", || {
        code = survivor.0.try_wait().unwrap();
        code.is_some()
    });
    let mut said = String::new();
    std::io::Read::read_to_string(survivor.0.stderr.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(code.unwrap().code(), Some(1), "{said}");
    assert!(said.contains("the connection to") && said.trim_end().lines().count() == 1, "{said}");
}

#[test]
fn a_topic_is_followed_and_a_torn_line_waits_until_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0, &reading(1, "a", 200));
    let mut running =
        Running(program().args(["--workers", "2", "--topics", &topics(folder.path())]).spawn().unwrap());
    eventually("the first", || counts(folder.path()) == [("a".to_owned(), 1)].into());
    let line = reading(2, "a", 200);
    let (torn, rest) = line.split_at(10);
    write(folder.path(), 0, torn);
    write(folder.path(), 1, &reading(3, "b", 200));
    eventually("the new partition", || counts(folder.path()).contains_key("b"));
    assert_eq!(counts(folder.path())["a"], 1);
    write(folder.path(), 0, rest);
    eventually("the whole line", || counts(folder.path())["a"] == 2);
    interrupt(&running.0);
    assert!(running.0.wait().unwrap().success(), "a stop is a clean end");
}

#[test]
fn an_input_ends_when_its_writer_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), 0, &reading(1, "a", 200));
    let writer = File::open(&path).unwrap();
    writer.lock().unwrap();
    let mut command = program();
    let mut running =
        Running(command.args(["--until-end", "--topics", &topics(folder.path())]).spawn().unwrap());
    eventually("the first", || counts(folder.path()) == [("a".to_owned(), 1)].into());
    write(folder.path(), 0, &reading(2, "a", 200));
    eventually("the second", || counts(folder.path())["a"] == 2);
    assert_eq!(running.0.try_wait().unwrap(), None, "the writer is still there");
    drop(writer);
    assert!(running.0.wait().unwrap().success());
}

#[test]
fn bad_lines_are_set_aside_or_stop_the_job() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0, &format!("{}oops\n{}", reading(1, "a", 200), reading(2, "a", 200)));
    ended(program().args(["--until-end", "--topics", &topics(folder.path())]).output().unwrap());
    assert_eq!(counts(folder.path())["a"], 2);
    let letters = std::fs::read_to_string(folder.path().join("telemetry.dead-letter/0.jsonl")).unwrap();
    assert!(letters.contains("\"text\":\"oops\"") && letters.lines().count() == 1, "{letters}");
    let anew = ["--checkpoints", "none", "--until-end"];
    let mut command = program();
    let said =
        refused(command.args(anew).args(["--on-bad-input", "fail", "--topics", &topics(folder.path())]));
    assert!(said.contains("telemetry partition 0") && said.contains("expected value"), "{said}");
}

#[test]
fn wrong_settings_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let url = topics(folder.path());
    let said = refused(program().args(["--topics", &url]));
    assert!(said.contains("there is no topic at"), "{said}");
    write(folder.path(), 0, &reading(1, "a", 200));
    let said = refused(program().args(["--topics", &url, "--topic", "telemetri=file:x"]));
    assert!(said.contains("telemetri") && said.contains("telemetry"), "{said}");
    let said = refused(program().args(["--topics", "kafka://host/x"]));
    assert!(said.contains("kafka is not supported"), "{said}");
    let said = refused(program().args(["--topics", &url, "--processes", "2"]));
    assert!(said.contains("--hosts"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _held = TcpListener::bind(taken).unwrap();
    let hosts = format!("{taken},127.0.0.1:1");
    let said = refused(program().args(["--topics", &url, "--processes", "2", "--hosts", &hosts]));
    assert!(said.contains("is in use"), "{said}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0, &reading(1, "a", 200));
    let file = folder.path().join("nekton.toml");
    std::fs::write(&file, "topics = \"file:/nowhere/file\"\nuntil-end = true\n").unwrap();
    let with_file = || {
        let mut command = program();
        command.arg("--config").arg(&file);
        command
    };
    assert!(refused(&mut with_file()).contains("/nowhere/file"));
    assert!(refused(with_file().env("NEKTON_TOPICS", "file:/nowhere/env")).contains("/nowhere/env"));
    ended(
        with_file()
            .env("NEKTON_TOPICS", "file:/nowhere/env")
            .args(["--topics", &topics(folder.path())])
            .output()
            .unwrap(),
    );
    assert_eq!(counts(folder.path())["a"], 1);
    std::fs::write(&file, "topisc = \"x\"\n").unwrap();
    assert!(refused(&mut with_file()).contains("topisc"));
}

#[test]
fn a_topic_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0, &reading(1, "a", 200));
    let first = Running(program().args(["--topics", &topics(folder.path())]).spawn().unwrap());
    eventually("counts", || counts(folder.path()).contains_key("a"));
    let said = refused(program().args(["--topics", &topics(folder.path())]));
    assert!(said.contains("this job is running already"), "{said}");
    let said = refused(program().args(["--checkpoints", "none", "--topics", &topics(folder.path())]));
    assert!(said.contains("is being written by another program"), "{said}");
    drop(first);
}
