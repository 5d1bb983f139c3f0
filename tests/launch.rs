//! `nekton launch`, as a user runs it: it watches a job, and starts it again when that helps.

mod common;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::processes::{Job, PATIENCE, ended, finish, flags, size, write_for};
use common::sums::{Random, append};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

/// Launches a program; what it says is kept.
fn launch(arguments: &[&str], program: &[&str], flags: &str) -> Job {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nekton"));
    command.arg("launch").args(arguments).arg("--").args(program).env("NEKTON_TEST_FLAGS", flags);
    Job(vec![command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()])
}

fn this() -> Vec<String> {
    let this = std::env::current_exe().unwrap().display().to_string();
    [&this, "--exact", "program", "--ignored", "--nocapture"].map(str::to_owned).to_vec()
}

fn launch_sums(arguments: &[&str], flags: &str) -> Job {
    launch(arguments, &this().iter().map(String::as_str).collect::<Vec<_>>(), flags)
}

fn said(job: &mut Job, code: i32) -> String {
    let status = ended(&mut job.0[0]);
    let mut said = String::new();
    job.0[0].stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(code), "{said}");
    said
}

/// The processes that a process has started, by their numbers.
fn children(of: &Child) -> Vec<i32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
        let Ok(stat) = stat else { continue };
        // Behind the name, which is in parentheses: the state, and the parent.
        let mut rest = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        if rest.next() != Some("Z") && rest.next() == Some(&of.id().to_string()) {
            children.push(pid);
        }
    }
    children.sort_unstable();
    children
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_job_whose_processes_are_killed_is_started_again_and_ends_on_a_signal() {
    let mut random = Random(0xA076_1D64_78BD_642F);
    let folder = tempfile::tempdir().unwrap();
    let (topics, input) = (folder.path().join("topics"), folder.path().join("topics/readings"));
    std::fs::create_dir_all(&input).unwrap();
    let mut written = [Vec::new(), Vec::new()];
    for partition in 0..2 {
        append(&input, partition, &mut random, &mut written[partition as usize]);
    }
    let mut job = launch_sums(&["--processes", "2"], &flags(folder.path(), 1));
    let mut works = |job: &mut Job, random: &mut Random| {
        let (begun, before) = (Instant::now(), size(&topics));
        while size(&topics) == before {
            assert!(begun.elapsed() < PATIENCE && job.running(), "it writes something");
            write_for(20, &input, random, &mut written);
        }
    };
    for killed in [1, 0] {
        works(&mut job, &mut random);
        let processes = children(&job.0[0]);
        assert_eq!(processes.len(), 2);
        kill(Pid::from_raw(processes[killed]), Signal::SIGKILL).unwrap();
        eventually("a new start", || {
            let now = children(&job.0[0]);
            now.len() == 2 && now.iter().all(|process| !processes.contains(process))
        });
    }
    works(&mut job, &mut random);
    kill(Pid::from_raw(job.0[0].id() as i32), Signal::SIGTERM).unwrap();
    let said = said(&mut job, 0);
    assert!(said.contains("process 1 was ended by signal 9") && said.contains("(1 of 10 times)"), "{said}");
    assert!(
        said.contains("0: the connection to process 1"),
        "lines have the number of their process: {said}"
    );
    finish(folder.path(), &written);
}

#[test]
fn what_a_new_start_does_not_mend_is_not_started_again() {
    let mut job = launch_sums(&["--processes", "2"], "--topics kafka://nowhere");
    let said = said(&mut job, 2);
    assert!(said.contains("kafka is not supported") && said.contains("would not help"), "{said}");
    assert!(!said.contains("started again in"), "{said}");
}

#[test]
fn a_program_that_always_dies_is_started_again_so_many_times_and_its_code_is_given() {
    let mut job = launch(&["--restarts", "1"], &["sh", "-c", "kill -9 $$"], "");
    let died = said(&mut job, 137);
    assert!(died.contains("(1 of 1 times)") && died.contains("is not any more"), "{died}");
    let mut job = launch(&["--restarts", "0", "--processes", "2"], &["sh", "-c", "exit 7"], "");
    said(&mut job, 7);
    let mut job = launch(&[], &["/no/such/program"], "");
    assert!(said(&mut job, 1).contains("/no/such/program"));
}

#[test]
fn processes_end_when_the_launcher_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("topics/readings")).unwrap();
    let mut job = launch_sums(&["--processes", "2"], &flags(folder.path(), 1));
    let outputs = folder.path().join("topics/echo/1.jsonl");
    eventually("the job's start", || outputs.exists());
    let processes = children(&job.0[0]);
    assert_eq!(processes.len(), 2);
    job.0[0].kill().unwrap();
    job.0[0].wait().unwrap();
    eventually("the processes' end", || {
        processes.iter().all(|process| !Path::new("/proc").join(process.to_string()).exists())
    });
}
