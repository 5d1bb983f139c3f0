//! A job with checkpoints on a real Apache Pulsar, at which everything fails that can, in an order that a seed
//! decides: the job or one of its processes is killed, the job hangs until another run has taken its place, the broker is
//! killed, topics move. Each output then holds each change once, as Pulsar's own client for Python reads it.
//!
//! `NEKTON_SEED=7 NEKTON_KILLS=50 cargo test --test any_fault` makes it another order, and longer.

mod common;

use std::process::Command;

use common::broker::broker;
use common::fed::{Fed, KEEPS_ALL};
use common::job::{Job, eventually};
use common::processes::start_heard;
use common::sums::{Random, check};
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    JobKilled,
    OneProcessOfTwoKilled,
    JobHangsAndIsReplaced,
    BrokerKilled,
    TopicsMove,
}

const FAULTS: [Fault; 5] = [
    Fault::JobKilled,
    Fault::OneProcessOfTwoKilled,
    Fault::JobHangsAndIsReplaced,
    Fault::BrokerKilled,
    Fault::TopicsMove,
];

#[test]
fn whatever_fails_every_output_has_each_change_once() {
    let seed = std::env::var("NEKTON_SEED").map_or(1, |seed| seed.parse().unwrap());
    let kills: usize = std::env::var("NEKTON_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut random = Random(0x9FB2_1C65_1E98_DF25 ^ seed);
    let mut world = World::new(&mut random);
    let mut run = world.start(1 + random.below(2) as usize, &mut random);
    let mut faults = Vec::new();
    for number in 1..=kills {
        if faults.is_empty() {
            // Each once, in any order, then all over again.
            faults = FAULTS.to_vec();
            (1..FAULTS.len()).for_each(|n| faults.swap(n, random.below(n as u64 + 1) as usize));
        }
        let fault = faults.pop().unwrap();
        eprintln!("seed {seed}, fault {number} of {kills}: {fault:?}, processes {}", run.0.len());
        world.goes_on(&mut run, &mut random);
        world.fed.publish_for(random.below(1_000), &mut random);
        run = world.fail(fault, run, &mut random);
    }
    world.goes_on(&mut run, &mut random);
    world.fed.wait();
    run.signal(Signal::SIGTERM);
    run.ends(&[0]);
    world.end(2, &mut random);
    let before = world.ends_of_outputs();
    check(|topic| world.messages(topic), &world.fed.written);
    // And once more: there is nothing left to do.
    world.end(1, &mut random);
    assert_eq!(world.ends_of_outputs(), before);
}

/// Each process ends by itself, and says why in a line.
fn gives_up(run: Job) {
    for said in run.ends(&[1, 2]) {
        // At its start it may have said where it goes on.
        let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("sums goes on from")).collect();
        eprintln!("it gave up: {said}");
        assert!(lines.len() == 1 && !said.contains("panicked"), "one sentence: {said}");
    }
}

struct World {
    fed: Fed,
    /// One that has Pulsar's client.
    python: String,
    checkpoints: tempfile::TempDir,
}

impl World {
    fn new(random: &mut Random) -> Self {
        let python = std::env::var("NEKTON_TEST_PYTHON").expect(
            "NEKTON_TEST_PYTHON names no Python with pulsar-client: run tools/test, or set it to one that has it",
        );
        // What the outputs hold is read when all is over.
        let fed = Fed::new("any-fault", &[KEEPS_ALL], random);
        World { fed, python, checkpoints: tempfile::tempdir().unwrap() }
    }

    fn start_with(&self, processes: usize, random: &mut Random, more: &str) -> Job {
        let flags = format!(
            "--topics {} --checkpoints file:{} --checkpoint-every 150ms --workers {} --partitions 2 \
             --progress-marks 50ms --log error --pulsar-admin {} {more}",
            self.fed.topics,
            self.checkpoints.path().display(),
            1 + random.below(2),
            broker().settings("sums").admin_url.unwrap()
        );
        start_heard(&flags, processes)
    }

    fn start(&self, processes: usize, random: &mut Random) -> Job {
        self.start_with(processes, random, "")
    }

    /// Runs the job to the end of what there is.
    fn end(&self, processes: usize, random: &mut Random) {
        self.start_with(processes, random, "--until-end").ends(&[0]);
    }

    fn ends_of_outputs(&self) -> Vec<String> {
        let partitions = ["echo", "sums", "by-depot"].into_iter().flat_map(|topic| [(topic, 0), (topic, 1)]);
        let end = |(topic, partition)| {
            let stats = self.fed.try_about(&format!("{topic}-partition-{partition}"), "internalStats");
            stats.map_or(String::new(), |stats| stats["lastConfirmedEntry"].to_string())
        };
        partitions.map(end).collect()
    }

    /// The job writes outputs, of what is published now as well.
    fn goes_on(&mut self, run: &mut Job, random: &mut Random) {
        for _ in 0..2 {
            let before = self.ends_of_outputs();
            eventually("the job goes on", || {
                run.still_runs();
                self.fed.publish_for(20, random);
                self.ends_of_outputs() != before
            });
        }
    }

    /// Lets it happen; what runs afterwards.
    fn fail(&mut self, fault: Fault, mut run: Job, random: &mut Random) -> Job {
        match fault {
            Fault::JobKilled => {
                run.signal(Signal::SIGKILL);
                self.start(1 + random.below(2) as usize, random)
            }
            Fault::OneProcessOfTwoKilled => {
                if run.0.len() == 1 {
                    run.signal(Signal::SIGTERM);
                    run.ends(&[0]);
                    run = self.start(2, random);
                    self.goes_on(&mut run, random);
                }
                drop(Job(vec![run.0.remove(random.below(2) as usize)]));
                gives_up(run);
                self.start(1 + random.below(2) as usize, random)
            }
            Fault::JobHangsAndIsReplaced => {
                // Where nobody takes its place, it goes on.
                run.signal(Signal::SIGSTOP);
                self.fed.publish_for(1_000 + random.below(2_000), random);
                run.signal(Signal::SIGCONT);
                self.goes_on(&mut run, random);
                run.signal(Signal::SIGSTOP);
                let mut next = self.start(1 + random.below(2) as usize, random);
                self.goes_on(&mut next, random);
                run.signal(Signal::SIGCONT);
                gives_up(run);
                next
            }
            Fault::BrokerKilled => {
                broker().sandbox().kill().unwrap();
                self.fed.publish_for(random.below(1_000), random);
                broker().sandbox().restart(&mut |_| {}).unwrap();
                run
            }
            Fault::TopicsMove => {
                let of = |topic: &str| [0, 1].map(|partition| format!("{topic}-partition-{partition}"));
                let mut topics = ["echo", "sums", "by-depot"].map(of).concat();
                topics.extend(["readings".to_owned(), "nekton-sums-bindings".to_owned()]);
                topics.retain(|_| random.below(2) == 0);
                for topic in topics {
                    self.fed.unload(&topic);
                    self.fed.publish_for(random.below(100), random);
                }
                run
            }
        }
    }

    /// The messages of a topic, as Pulsar's own client reads them: each partition must be in order by itself; together,
    /// in the order of their times.
    fn messages(&self, topic: &str) -> Vec<Value> {
        let service = self.fed.topics.split("/public").next().unwrap();
        let name = format!("persistent://{}/{topic}", self.fed.namespace);
        let read = Command::new(&self.python).args(["-c", READER, service, &name]).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        let mut all: Vec<(u64, Value)> = Vec::new();
        let mut last = (0, 0);
        for line in String::from_utf8(read.stdout).unwrap().lines() {
            let (partition, time, value): (u64, u64, Value) = serde_json::from_str(line).unwrap();
            assert!((partition, time) >= last, "{topic}: times never go back: {line}");
            last = (partition, time);
            all.push((time, value));
        }
        all.sort_by_key(|(time, _)| *time);
        all.into_iter().map(|(_, value)| value).collect()
    }
}

/// Prints partition, time and value of each message of a topic, partition by partition.
const READER: &str = r#"
import json, sys, pulsar

service, topic = sys.argv[1:]
client = pulsar.Client(service, logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error))
for number, partition in enumerate(client.get_topic_partitions(topic)):
    reader = client.create_reader(partition, pulsar.MessageId.earliest)
    while reader.has_message_available():
        message = reader.read_next(30000)
        if "nekton.closed" not in message.properties():
            print(json.dumps([number, message.event_timestamp(), json.loads(message.data())]))
client.close()
"#;
