//! A job of two processes with checkpoints loses one of them, or both, again and again, and goes on each time where it
//! was, also with another number of workers.

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use common::sums::{Random, Reading, append, check, lines, start};

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A job's processes, which end with the test.
struct Job(Vec<Child>);

impl Drop for Job {
    fn drop(&mut self) {
        for process in &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Job {
    fn start(flags: &str, processes: usize) -> Self {
        let hosts: Vec<_> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let hosts: Vec<_> = hosts.iter().map(|host| host.local_addr().unwrap().to_string()).collect();
        let hosts = hosts.join(",");
        let start =
            |process| start(&format!("{flags} --processes {processes} --hosts {hosts} --process {process}"));
        Job((0..processes).map(start).collect())
    }

    /// How each process ended.
    fn wait(mut self) -> Vec<ExitStatus> {
        self.0.iter_mut().map(|process| ended(process)).collect()
    }
}

fn ended(process: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "process {} does not end", process.id());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_job_that_loses_processes_goes_on_and_every_output_has_each_change_once() {
    let seed = std::env::var("NEKTON_SEED").map_or(1, |seed| seed.parse().unwrap());
    let kills = std::env::var("NEKTON_KILLS").map_or(9, |kills| kills.parse().unwrap());
    let mut random = Random(0xD1B5_4A32_D192_ED03 ^ seed);
    let folder = tempfile::tempdir().unwrap();
    let topics = folder.path().join("topics");
    let input = topics.join("readings");
    std::fs::create_dir_all(&input).unwrap();
    let mut written = [Vec::new(), Vec::new()];
    for partition in 0..2 {
        append(&input, partition, &mut random, &mut written[partition as usize]);
    }
    for kill in 0..kills {
        let mut job = Job::start(&flags(folder.path(), 1 + random.below(2)), 2);
        // So that also the beginning is hit: not until all have come together.
        write_for(50 + random.below(900), &input, &mut random, &mut written);
        for process in &mut job.0 {
            assert!(process.try_wait().unwrap().is_none(), "it runs until it is killed");
        }
        match kill % 3 {
            2 => job.0.iter_mut().for_each(|process| process.kill().unwrap()),
            lost => {
                let mut survivor = job.0.remove(1 - lost as usize);
                job.0[0].kill().unwrap();
                assert_eq!(ended(&mut survivor).code(), Some(1), "it ends by itself");
            }
        }
    }
    let (sizes, ended) = (|| ["echo", "sums", "by-depot"].map(|topic| size(&topics, topic)), "--until-end");
    for status in Job::start(&format!("{} {ended}", flags(folder.path(), 2)), 2).wait() {
        assert!(status.success());
    }
    check(|topic| lines(&topics.join(topic).join("0.jsonl")), &written);
    // And once more, in one process: there is nothing left to do.
    let before = sizes();
    assert!(start(&format!("{} {ended}", flags(folder.path(), 1))).wait().unwrap().success());
    assert_eq!(sizes(), before);
}

fn size(topics: &Path, topic: &str) -> u64 {
    std::fs::metadata(topics.join(topic).join("0.jsonl")).unwrap().len()
}

fn flags(folder: &Path, workers: u64) -> String {
    format!(
        "--topics file:{0}/topics --checkpoints file:{0}/checkpoints --checkpoint-every 60ms --workers {workers}",
        folder.display()
    )
}

/// Appends readings for so many milliseconds.
fn write_for(milliseconds: u64, input: &Path, random: &mut Random, written: &mut [Vec<Reading>; 2]) {
    let until = Instant::now() + Duration::from_millis(milliseconds);
    while Instant::now() < until {
        let partition = random.below(2);
        append(input, partition, random, &mut written[partition as usize]);
        std::thread::sleep(Duration::from_millis(random.below(8)));
    }
}
