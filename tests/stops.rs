//! A stop by a signal: a last checkpoint, the end within seconds, and nothing to be read again afterwards.

mod common;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::processes::{Job, PATIENCE, ended, finish, flags, free_hosts, messages, size, write_for};
use common::sums::{Random, Reading, append, command};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

/// Starts the processes of a job that says how it goes on.
fn start(folder: &Path, workers: u64, processes: usize) -> Job {
    let hosts = free_hosts(processes).join(",");
    let start = |process| {
        let mut flags = format!("{} --log warn,nekton_engine=info", flags(folder, workers));
        if processes > 1 {
            flags.push_str(&format!(" --processes {processes} --hosts {hosts} --process {process}"));
        }
        command(&flags).stderr(Stdio::piped()).spawn().unwrap()
    };
    Job((0..processes).map(start).collect())
}

fn said(process: &mut Child) -> String {
    let status = ended(process);
    let mut said = String::new();
    process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.success(), "{said}");
    said
}

fn nothing_is_read_again(processes: usize, seed: u64) {
    let mut random = Random(0x8EBC_6AF0_9C88_C6E3 ^ seed);
    let folder = tempfile::tempdir().unwrap();
    let (topics, input) = (folder.path().join("topics"), folder.path().join("topics/readings"));
    std::fs::create_dir_all(&input).unwrap();
    let mut written = [Vec::new(), Vec::new()];
    for partition in 0..2 {
        append(&input, partition, &mut random, &mut written[partition as usize]);
    }
    for run in 0..6 {
        let mut job = start(folder.path(), 1 + random.below(2), processes);
        let (begun, before) = (Instant::now(), size(&topics));
        while size(&topics) == before {
            assert!(begun.elapsed() < PATIENCE && job.running(), "it writes something");
            write_for(20, &input, &mut random, &mut written);
        }
        write_for(random.below(300), &input, &mut random, &mut written);
        // A signal to one of them is enough.
        let signalled = &job.0[random.below(processes as u64) as usize];
        let signal = if run % 2 == 0 { Signal::SIGTERM } else { Signal::SIGINT };
        kill(Pid::from_raw(signalled.id() as i32), signal).unwrap();
        let stopping = Instant::now();
        write_for(20, &input, &mut random, &mut written);
        let all: Vec<String> = job.0.iter_mut().map(said).collect();
        assert!(stopping.elapsed() < Duration::from_secs(20), "it leaves within seconds");
        if run > 0 {
            let goes_on = all[0].lines().find(|line| line.contains("goes on from checkpoint"));
            let goes_on = goes_on.unwrap_or_else(|| panic!("run {run} goes on: {}", all[0]));
            assert!(!goes_on.contains("replaying"), "nothing is read again, in run {run}: {goes_on}");
        }
    }
    finish(folder.path(), &written);
}

#[test]
fn after_a_signal_nothing_is_read_again_in_one_process() {
    nothing_is_read_again(1, 1);
}

#[test]
fn after_a_signal_to_one_of_two_processes_nothing_is_read_again() {
    nothing_is_read_again(2, 2);
}

#[test]
fn a_timer_that_is_not_due_at_a_stop_fires_in_a_later_run() {
    let folder = tempfile::tempdir().unwrap();
    let topics = folder.path().join("topics");
    std::fs::create_dir_all(topics.join("readings")).unwrap();
    let three = "{\"sensor\":4,\"depot\":1,\"value\":5}\n".repeat(3);
    std::fs::write(topics.join("readings/0.jsonl"), three).unwrap();
    // An hour: not in this test, but at the end of the input.
    let run = |more: &str| {
        let flags = format!("{} {more}", flags(folder.path(), 2));
        Job(vec![command(&flags).env("NEKTON_TEST_TIMER", "3600000").spawn().unwrap()])
    };
    let last = || messages(&topics.join("sums")).last().map(|line| line["after"].clone());
    let mut job = run("");
    let begun = Instant::now();
    while last() != Some(serde_json::json!([1, 3, 15])) {
        assert!(begun.elapsed() < PATIENCE && job.running(), "it writes the sum: {:?}", last());
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(job.0[0].id() as i32), Signal::SIGTERM).unwrap();
    assert!(ended(&mut job.0[0]).success());
    assert_eq!(last(), Some(serde_json::json!([1, 3, 15])), "it is not due at the stop");
    assert!(ended(&mut run("--until-end").0[0]).success());
    assert_eq!(last(), Some(serde_json::json!([1, 3, 1_015])));
}

#[test]
fn a_job_that_nobody_listens_to_any_more_ends_at_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let topics = folder.path().join("topics");
    std::fs::create_dir_all(topics.join("readings")).unwrap();
    std::fs::write(topics.join("readings/0.jsonl"), "{\"sensor\":4,\"depot\":1,\"value\":5}\n").unwrap();
    let mut job = start(folder.path(), 1, 1);
    let begun = Instant::now();
    while size(&topics) == 0 {
        assert!(begun.elapsed() < PATIENCE && job.running(), "it writes something");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Whatever it says from now on cannot be written.
    drop(job.0[0].stderr.take().unwrap());
    kill(Pid::from_raw(job.0[0].id() as i32), Signal::SIGTERM).unwrap();
    assert!(ended(&mut job.0[0]).success());
    finish(folder.path(), &[vec![Reading { sensor: 4, depot: 1, value: 5 }], Vec::new()]);
}
