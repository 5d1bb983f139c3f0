//! Readers of several topics of a job, which is killed again and again, see at every time what fits together, in any
//! number of partitions: the reader of the library, and those in Python that the book shows.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use common::broker::broker;
use common::fed::{Fed, KEEPS_ALL};
use common::files::Files;
use common::job::{Job, PATIENCE};
use common::processes::start;
use common::sums::Random;
use nekton::Kind;
use nekton::read::ConsistentReader;
use nekton::topics::Access;
use serde_json::Value;

/// The job, in a process of its own: this test program calls itself. Its flags are in the environment.
#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

/// What the two topics say together.
#[derive(Default)]
struct Both {
    time: u64,
    sums: BTreeMap<u64, (u64, i64, i64)>,
    by_depot: BTreeMap<u64, i64>,
}

impl Both {
    /// Applies what came with a closed time; then both topics fit.
    fn apply(&mut self, time: u64, sums: &[Value], by_depot: &[Value]) {
        assert!(time > self.time, "closed times rise");
        for change in sums.iter().chain(by_depot) {
            let of = change["time"].as_u64().unwrap();
            assert!(of > self.time && of <= time, "of {} to {time}: {change}", self.time);
        }
        self.time = time;
        for change in sums {
            let view = |of: &Value| Some((of[0].as_u64()?, of[1].as_i64()?, of[2].as_i64()?));
            let before = self.sums.insert(change["key"].as_u64().unwrap(), view(&change["after"]).unwrap());
            assert_eq!(before, view(&change["before"]), "chains are unbroken: {change}");
        }
        for change in by_depot {
            let key = change["key"].as_u64().unwrap();
            assert_eq!(
                self.by_depot.remove(&key),
                change["before"].as_i64(),
                "chains are unbroken: {change}"
            );
            self.by_depot.extend(change["after"].as_i64().map(|after| (key, after)));
        }
        let mut expected: BTreeMap<u64, i64> = BTreeMap::new();
        for (depot, _, sum) in self.sums.values() {
            *expected.entry(*depot).or_default() += sum;
        }
        expected.retain(|_, sum| *sum != 0);
        assert_eq!(self.by_depot, expected, "the topics fit at time {time}");
    }

    /// How many readings are in the sums.
    fn count(&self) -> usize {
        self.sums.values().map(|(_, count, _)| *count as usize).sum()
    }
}

fn access() -> Access {
    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        access: Access,
    }
    Flags::parse_from(["reader"]).access
}

/// Reads the topics under a URL, on a thread, until all that is told by `total` is in them.
fn reader(topics: &str, total: std::sync::mpsc::Receiver<usize>) -> std::thread::JoinHandle<usize> {
    let urls = ["sums", "by-depot"].map(|topic| format!("{topics}/{topic}"));
    std::thread::spawn(move || {
        let begun = Instant::now();
        let mut reader = loop {
            match ConsistentReader::open(&urls, false, &access()) {
                // The job has not made them yet.
                Err(error) if error.kind() == Kind::Missing && begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                reader => break reader.unwrap(),
            }
        };
        let (mut both, mut yields) = (Both::default(), 0);
        let mut wanted = None;
        let mut deadline = Instant::now() + PATIENCE;
        while wanted != Some(both.count()) {
            if let Some(closed) = reader.next_within(Duration::from_millis(50)).unwrap() {
                let values = |topic: usize| -> Vec<Value> {
                    let of = closed.changes[topic].iter();
                    of.map(|change| serde_json::from_slice(&change.value).unwrap()).collect()
                };
                both.apply(closed.time, &values(0), &values(1));
                yields += 1;
                deadline = Instant::now() + PATIENCE;
            }
            wanted = wanted.or(total.try_recv().ok());
            assert!(Instant::now() < deadline, "{} of {wanted:?} readings were closed", both.count());
        }
        yields
    })
}

#[test]
fn on_files_what_is_read_fits_at_every_time_while_the_job_is_killed() {
    let mut files = Files::new(0x9E37_79B9_7F4A_7C15);
    let (tell, total) = std::sync::mpsc::channel();
    let reader = reader(&format!("file:{}", files.path("topics").display()), total);
    let mut python = None;
    let mut job = None::<Job>;
    for _ in 0..6 {
        job.take().into_iter().for_each(Job::kill);
        let workers = 1 + files.random.below(3);
        let more =
            format!("--checkpoint-every 60ms --workers {workers} --partitions 3 --progress-marks 20ms");
        job = Some(start(&files.flags(&more), 1));
        let milliseconds = 100 + files.random.below(500);
        files.append_for(milliseconds);
        let outputs = ["sums", "by-depot"].map(|topic| files.topic(topic));
        if python.is_none() && outputs.iter().all(|output| output.is_dir()) {
            let run = |python| {
                let mut command = Command::new(python);
                Job::of(command.args(["-c", page(0).as_str()]).args(&outputs).stdout(Stdio::piped()))
            };
            python = std::env::var("NEKTON_TEST_PYTHON").ok().map(run);
        }
    }
    // The job goes on, idle: what it wrote last must become readable.
    let count = files.count();
    tell.send(count).unwrap();
    assert!(reader.join().unwrap() > 5, "it was read while it was written");
    if let Some(python) = python {
        follow(python, count);
    }
    job.unwrap().kill();
}

/// One of the programs in Python that the book shows.
fn page(number: usize) -> String {
    let page = include_str!("../docs/consistent-reading.md");
    let program = page.split("```python\n").nth(number + 1).expect("the page has this program");
    program.split("```").next().unwrap_or_default().to_owned()
}

/// Reads what a program in Python says until it has all readings.
fn follow(mut python: Job, count: usize) {
    let mut both = Both::default();
    for line in BufReader::new(python.0[0].stdout.take().unwrap()).lines() {
        let (time, changes): (u64, Vec<(String, Value)>) = serde_json::from_str(&line.unwrap()).unwrap();
        let of = |topic: &str| -> Vec<Value> {
            let of = changes.iter().filter(|(of, _)| of == topic);
            of.map(|(_, change)| change.clone()).collect()
        };
        both.apply(time, &of("sums"), &of("by-depot"));
        if both.count() == count {
            break;
        }
    }
    assert_eq!(both.count(), count, "it has read everything");
}

#[test]
fn on_pulsar_what_is_read_fits_at_every_time_while_the_job_is_killed() {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let folder = tempfile::tempdir().unwrap();
    // Outputs that nobody reads are deleted otherwise.
    let mut fed = Fed::new("consistent", &[KEEPS_ALL], &mut random);
    let (tell, total) = std::sync::mpsc::channel();
    let reader = reader(&fed.topics, total);
    let mut job = None::<Job>;
    for _ in 0..4 {
        job.take().into_iter().for_each(Job::kill);
        let flags = format!(
            "--topics {} --checkpoints file:{} --checkpoint-every 100ms --workers {} --partitions 3 \
             --progress-marks 20ms --pulsar-admin {}",
            fed.topics,
            folder.path().display(),
            1 + random.below(3),
            broker().settings("sums").admin_url.unwrap()
        );
        job = Some(start(&flags, 1));
        fed.publish_for(700 + random.below(1_500), &mut random);
    }
    fed.wait();
    let count = fed.count();
    tell.send(count).unwrap();
    reader.join().unwrap();
    if let Ok(python) = std::env::var("NEKTON_TEST_PYTHON") {
        // The partition that the book shows, with the rest of the program for files.
        let (files, pulsar) = (page(0), page(1));
        let consistent = files.split("def consistent").nth(1).unwrap().split("\n\n\n").next().unwrap();
        let main = r#"
client = pulsar.Client(sys.argv[1], logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error))
partitions = [
    Partition(client, topic.rsplit("/", 1)[1], partition)
    for topic in sys.argv[2:]
    for partition in client.get_topic_partitions(topic)
]
for closed, changes in consistent(partitions):
    print(json.dumps([closed, changes]), flush=True)
"#;
        let service = fed.topics.split("/public").next().unwrap();
        let mut command = Command::new(python);
        let program = format!("import time\n{pulsar}\n\ndef consistent{consistent}\n{main}");
        command.args(["-c", &program, service]);
        command.args(["sums", "by-depot"].map(|topic| format!("persistent://{}/{topic}", fed.namespace)));
        follow(Job::of(command.stdout(Stdio::piped())), count);
    }
    job.unwrap().kill();
}
