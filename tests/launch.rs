//! `nekton launch`, as a user runs it: it watches a job, and starts it again when that helps.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::files::Files;
use common::job::{Job, eventually};
use common::processes::{finish, flags};
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
    command.arg("launch").args(arguments).arg("--").args(program).env(common::program::FLAGS, flags);
    Job::of(command.stdout(Stdio::null()).stderr(Stdio::piped()))
}

fn this() -> Vec<String> {
    let this = std::env::current_exe().unwrap().display().to_string();
    std::iter::once(this).chain(common::program::ARGUMENTS.map(str::to_owned)).collect()
}

fn launch_sums(arguments: &[&str], flags: &str) -> Job {
    launch(arguments, &this().iter().map(String::as_str).collect::<Vec<_>>(), flags)
}

fn said(job: Job, code: i32) -> String {
    job.ends(&[code]).concat()
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

#[test]
fn a_job_whose_processes_are_killed_is_started_again_and_ends_on_a_signal() {
    let mut files = Files::new(0xA076_1D64_78BD_642F);
    let mut job = launch_sums(&["--processes", "2"], &flags(&files, 1));
    for killed in [1, 0] {
        files.append_until_written(&mut job);
        let processes = children(&job.0[0]);
        assert_eq!(processes.len(), 2);
        kill(Pid::from_raw(processes[killed]), Signal::SIGKILL).unwrap();
        eventually("a new start", || {
            let now = children(&job.0[0]);
            now.len() == 2 && now.iter().all(|process| !processes.contains(process))
        });
    }
    files.append_until_written(&mut job);
    job.signal(Signal::SIGTERM);
    let said = said(job, 0);
    assert!(said.contains("process 1 was ended by signal 9") && said.contains("(1 of 10 times)"), "{said}");
    assert!(
        said.contains("0: the connection to process 1"),
        "lines have the number of their process: {said}"
    );
    finish(&files);
}

#[test]
fn what_a_new_start_does_not_mend_is_not_started_again() {
    let job = launch_sums(&["--processes", "2"], "--topics kafka://nowhere");
    let said = said(job, 2);
    assert!(said.contains("kafka is not supported") && said.contains("would not help"), "{said}");
    assert!(!said.contains("started again in"), "{said}");
}

#[test]
fn a_program_that_always_dies_is_started_again_so_many_times_and_its_code_is_given() {
    let job = launch(&["--restarts", "1"], &["sh", "-c", "kill -9 $$"], "");
    let died = said(job, 137);
    assert!(died.contains("(1 of 1 times)") && died.contains("is not any more"), "{died}");
    let job = launch(&["--restarts", "0", "--processes", "2"], &["sh", "-c", "exit 7"], "");
    said(job, 7);
    let job = launch(&[], &["/no/such/program"], "");
    assert!(said(job, 1).contains("/no/such/program"));
}

#[test]
fn processes_end_when_the_launcher_is_killed() {
    let files = Files::empty(1);
    let job = launch_sums(&["--processes", "2"], &flags(&files, 1));
    let outputs = files.topic("echo").join("1.jsonl");
    eventually("the job's start", || outputs.exists());
    let processes = children(&job.0[0]);
    assert_eq!(processes.len(), 2);
    job.kill();
    eventually("the processes' end", || {
        processes.iter().all(|process| !Path::new("/proc").join(process.to_string()).exists())
    });
}
