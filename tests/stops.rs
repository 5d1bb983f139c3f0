//! A stop by a signal: a last checkpoint, the end within seconds, and nothing to be read again afterwards.

mod common;

use std::time::{Duration, Instant};

use common::files::Files;
use common::job::{Job, eventually, signal};
use common::processes::{finish, flags, start_heard};
use common::program::command;
use common::sums::Reading;
use nix::sys::signal::Signal;

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

/// Starts the processes of a job that says how it goes on.
fn start(files: &Files, workers: u64, processes: usize) -> Job {
    start_heard(&format!("{} --log warn,nekton_engine=info", flags(files, workers)), processes)
}

fn nothing_is_read_again(processes: usize, seed: u64) {
    let mut files = Files::new(0x8EBC_6AF0_9C88_C6E3 ^ seed);
    for run in 0..6 {
        let workers = 1 + files.random.below(2);
        let mut job = start(&files, workers, processes);
        files.append_until_written(&mut job);
        let milliseconds = files.random.below(300);
        files.append_for(milliseconds);
        // A signal to one of them is enough.
        let signalled = &job.0[files.random.below(processes as u64) as usize];
        signal(signalled, if run % 2 == 0 { Signal::SIGTERM } else { Signal::SIGINT });
        let stopping = Instant::now();
        files.append_for(20);
        let all = job.ends(&[0]);
        assert!(stopping.elapsed() < Duration::from_secs(20), "it leaves within seconds");
        if run > 0 {
            let goes_on = all[0].lines().find(|line| line.contains("goes on from checkpoint"));
            let goes_on = goes_on.unwrap_or_else(|| panic!("run {run} goes on: {}", all[0]));
            assert!(!goes_on.contains("replaying"), "nothing is read again, in run {run}: {goes_on}");
        }
    }
    finish(&files);
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
    let files = Files::empty(1);
    let three = "{\"sensor\":4,\"depot\":1,\"value\":5}\n".repeat(3);
    std::fs::write(files.topic("readings").join("0.jsonl"), three).unwrap();
    // An hour: not in this test, but at the end of the input.
    let run = |more: &str| {
        let flags = format!("{} {more}", flags(&files, 2));
        Job::of(command(&flags).env("NEKTON_TEST_TIMER", "3600000"))
    };
    let last = || files.messages("sums").last().map(|line| line["after"].clone());
    let mut job = run("");
    eventually("the sum", || {
        job.still_runs();
        last() == Some(serde_json::json!([1, 3, 15]))
    });
    job.signal(Signal::SIGTERM);
    job.ends(&[0]);
    assert_eq!(last(), Some(serde_json::json!([1, 3, 15])), "it is not due at the stop");
    run("--until-end").ends(&[0]);
    assert_eq!(last(), Some(serde_json::json!([1, 3, 1_015])));
}

#[test]
fn a_job_that_nobody_listens_to_any_more_ends_at_a_signal() {
    let mut files = Files::empty(2);
    let reading = Reading { sensor: 4, depot: 1, value: 5 };
    std::fs::write(files.topic("readings").join("0.jsonl"), format!("{}\n", serde_json::json!(reading)))
        .unwrap();
    files.written[0].push(reading);
    let mut job = start(&files, 1, 1);
    eventually("an output", || {
        job.still_runs();
        files.size() > 0
    });
    // Whatever it says from now on cannot be written.
    drop(job.0[0].stderr.take().unwrap());
    job.signal(Signal::SIGTERM);
    job.ends(&[0]);
    finish(&files);
}
