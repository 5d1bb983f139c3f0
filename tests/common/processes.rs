//! The job of `sums` in several processes on this machine.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};

use super::files::Files;
use super::job::Job;
use super::program::command;

/// So many addresses on which nobody listens: below those that the system gives to outgoing connections.
pub fn free_hosts(count: usize) -> Vec<String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let mut hosts = Vec::new();
    while hosts.len() < count {
        let begin = std::process::id() as u16 % 700 * 10;
        let port = 12_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 8_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            hosts.push(format!("127.0.0.1:{port}"));
        }
    }
    hosts
}

/// Starts the job in so many processes.
pub fn start(flags: &str, processes: usize) -> Job {
    spawn(flags, processes, Stdio::inherit)
}

/// The same; what they say is kept.
pub fn start_heard(flags: &str, processes: usize) -> Job {
    spawn(flags, processes, Stdio::piped)
}

fn spawn(flags: &str, processes: usize, stderr: fn() -> Stdio) -> Job {
    let hosts = free_hosts(processes).join(",");
    let start = |process| {
        let of = match processes {
            1 => String::new(),
            _ => format!(" --processes {processes} --hosts {hosts} --process {process}"),
        };
        command(&format!("{flags}{of}")).stderr(stderr()).spawn().unwrap()
    };
    Job((0..processes).map(start).collect())
}

/// Of a job with checkpoints and outputs of two partitions.
pub fn flags(files: &Files, workers: u64) -> String {
    files.flags(&format!("--checkpoint-every 60ms --partitions 2 --workers {workers}"))
}

/// Lets the job run to its end, and checks what it has written.
pub fn finish(files: &Files) {
    start(&format!("{} --until-end", flags(files, 2)), 2).ends(&[0]);
    files.check();
    // And once more, in one process: there is nothing left to do.
    let before = files.size();
    start(&format!("{} --until-end", flags(files, 1)), 1).ends(&[0]);
    assert_eq!(files.size(), before);
}
