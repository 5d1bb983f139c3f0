//! A job of several processes on this machine.

use std::net::TcpListener;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::sums::start;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

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

/// A job's processes, which end with the test.
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
    pub fn start(flags: &str, processes: usize) -> Self {
        let hosts = free_hosts(processes).join(",");
        let start =
            |process| start(&format!("{flags} --processes {processes} --hosts {hosts} --process {process}"));
        Job((0..processes).map(start).collect())
    }

    pub fn running(&mut self) -> bool {
        self.0.iter_mut().all(|process| process.try_wait().unwrap().is_none())
    }

    /// How each process ended.
    pub fn wait(mut self) -> Vec<ExitStatus> {
        self.0.iter_mut().map(ended).collect()
    }
}

/// How a process ends by itself.
pub fn ended(process: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "process {} does not end", process.id());
        std::thread::sleep(Duration::from_millis(5));
    }
}
