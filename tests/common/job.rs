//! Processes that a test starts. They end with the test, whatever becomes of it.
#![allow(dead_code)] // not every test uses all of it

use std::io::Read;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A job's processes.
pub struct Job(pub Vec<Child>);

impl Drop for Job {
    fn drop(&mut self) {
        for process in &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Job {
    /// One process.
    pub fn of(command: &mut Command) -> Self {
        Job(vec![command.spawn().unwrap()])
    }

    /// Whether none has ended.
    pub fn running(&mut self) -> bool {
        self.0.iter_mut().all(|process| process.try_wait().unwrap().is_none())
    }

    /// Panics if one has ended, with what it said.
    pub fn still_runs(&mut self) {
        for process in &mut self.0 {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("it runs until it is killed, but it ended with {status}: {}", heard(process));
            }
        }
    }

    /// Kills all, which must be running until then.
    pub fn kill(mut self) {
        self.still_runs();
    }

    /// Sends a signal to each.
    pub fn signal(&self, to_send: Signal) {
        self.0.iter().for_each(|process| signal(process, to_send));
    }

    /// Each ends by itself, with one of these codes. What they said, where that is kept.
    pub fn ends(mut self, codes: &[i32]) -> Vec<String> {
        self.0.iter_mut().map(|process| said(process, codes)).collect()
    }
}

pub fn signal(process: &Child, signal: Signal) {
    kill(Pid::from_raw(process.id() as i32), signal).unwrap();
}

/// How a process ends by itself.
pub fn ended(process: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the end of a process", || {
        status = process.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// What a process has said on standard error that ends by itself with one of these codes.
pub fn said(process: &mut Child, codes: &[i32]) -> String {
    let status = ended(process);
    let said = heard(process);
    assert!(status.code().is_some_and(|code| codes.contains(&code)), "{status}: {said}");
    said
}

/// What a process that has ended said on standard error, if that is kept.
fn heard(process: &mut Child) -> String {
    let mut said = String::new();
    if let Some(mut stderr) = process.stderr.take() {
        stderr.read_to_string(&mut said).unwrap();
    }
    said
}

/// Waits until something is so.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}
