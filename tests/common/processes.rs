//! A job of several processes on this machine.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::sums::{Random, Reading, append, check, lines, start};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

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

/// How much there is of all outputs.
pub fn size(topics: &Path) -> u64 {
    let partitions = ["echo", "sums", "by-depot"].into_iter().flat_map(|topic| [(topic, 0), (topic, 1)]);
    let size = |(topic, partition)| std::fs::metadata(topics.join(topic).join(format!("{partition}.jsonl")));
    partitions.filter_map(|of| size(of).ok()).map(|file| file.len()).sum()
}

/// Lets the job run to its end, and checks what it has written.
pub fn finish(folder: &Path, written: &[Vec<Reading>; 2]) {
    let topics = folder.join("topics");
    for status in Job::start(&format!("{} --until-end", flags(folder, 2)), 2).wait() {
        assert!(status.success());
    }
    check(|topic| messages(&topics.join(topic)), written);
    // And once more, in one process: there is nothing left to do.
    let before = size(&topics);
    assert!(start(&format!("{} --until-end", flags(folder, 1))).wait().unwrap().success());
    assert_eq!(size(&topics), before);
}

/// The messages of a topic's two partitions: each must be in order by itself; together, in the order of their times.
pub fn messages(topic: &Path) -> Vec<Value> {
    let time = |line: &Value| line["time"].as_u64().unwrap_or(0);
    let mut all = Vec::new();
    for partition in 0..2 {
        let lines = lines(&topic.join(format!("{partition}.jsonl")));
        assert!(lines.is_sorted_by_key(time), "times never go back: {}", topic.display());
        all.extend(lines);
    }
    all.sort_by_key(time);
    all
}

pub fn flags(folder: &Path, workers: u64) -> String {
    format!(
        "--topics file:{0}/topics --checkpoints file:{0}/checkpoints --checkpoint-every 60ms --partitions 2 \
         --workers {workers}",
        folder.display()
    )
}

/// Appends readings for so many milliseconds.
pub fn write_for(milliseconds: u64, input: &Path, random: &mut Random, written: &mut [Vec<Reading>; 2]) {
    let until = Instant::now() + Duration::from_millis(milliseconds);
    while Instant::now() < until {
        let partition = random.below(2);
        append(input, partition, random, &mut written[partition as usize]);
        std::thread::sleep(Duration::from_millis(random.below(8)));
    }
}
