//! A job with checkpoints is killed again and again, and goes on each time where it was: every output holds each
//! change once, in order, and agrees with the others at every time.

mod common;

use common::broker::broker;
use common::fed::{Fed, KEEPS_ALL};
use common::files::Files;
use common::job::eventually;
use common::processes::start;
use common::sums::{Random, check, mark, marked_lines};
use common::topics::{Reading as Topic, publish};
use nekton::connect::Start;
use nekton_connectors::pulsar::{Pulsar, PulsarSettings};
use serde_json::Value;

/// The job, in a process of its own: this test program calls itself. Its flags are in the environment.
#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

#[test]
fn a_job_that_is_killed_goes_on_and_every_output_has_each_change_once() {
    killed_on_files("");
}

#[test]
fn with_progress_marks_too_a_killed_job_has_each_change_once_and_no_mark_lies() {
    let files = killed_on_files("--progress-marks 15ms");
    let mut last = 0;
    let mut closed = u64::MAX;
    for topic in ["sums", "by-depot"] {
        let mut marked = 0;
        for line in marked_lines(&files.topic(topic).join("0.jsonl")) {
            let time = mark(&line).or(line["time"].as_u64()).unwrap();
            assert!(time > marked, "{topic}: {marked} was closed before {line}");
            last = last.max(time);
            marked = mark(&line).unwrap_or(marked);
        }
        closed = closed.min(marked);
    }
    assert_eq!(closed, last, "in the end, all is closed");
}

/// Kills a job on files again and again, and checks what it has written.
fn killed_on_files(more: &str) -> Files {
    let seed = std::env::var("NEKTON_SEED").map_or(1, |seed| seed.parse().unwrap());
    let kills = std::env::var("NEKTON_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let mut files = Files::new(0x9E37_79B9_7F4A_7C15 ^ seed);
    for _ in 0..kills {
        let workers = 1 + files.random.below(3);
        let job = start(&files.flags(&format!("--checkpoint-every 60ms --workers {workers} {more}")), 1);
        let milliseconds = 100 + files.random.below(600);
        files.append_for(milliseconds);
        job.kill();
    }
    let to_the_end = |workers: u64| {
        let more = format!("--checkpoint-every 60ms --workers {workers} {more} --until-end");
        start(&files.flags(&more), 1).ends(&[0]);
    };
    to_the_end(2);
    files.check();
    // And once more: there is nothing left to do.
    let before = files.size();
    to_the_end(1);
    assert_eq!(files.size(), before);
    files
}

#[test]
fn on_pulsar_too_a_job_that_is_killed_has_each_change_once() {
    let seed = std::env::var("NEKTON_SEED").map_or(1, |seed| seed.parse().unwrap());
    let kills = std::env::var("NEKTON_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut random = Random(0x2545_F491_4F6C_DD1D ^ seed);
    let folder = tempfile::tempdir().unwrap();
    let mut fed = Fed::new("exactly", &[KEEPS_ALL], &mut random);
    let topics = fed.topics.clone();
    let flags = |workers: u64| {
        let folder = folder.path().display();
        format!(
            "--topics {topics} --checkpoints file:{folder} --checkpoint-every 100ms --workers {workers} \
             --progress-marks 50ms"
        )
    };
    for _ in 0..kills {
        let job = start(&flags(1 + random.below(3)), 1);
        fed.publish_for(500 + random.below(1_500), &mut random);
        job.kill();
    }
    fed.wait();
    start(&format!("{} --until-end", flags(2)), 1).ends(&[0]);
    check(|topic| fed.messages(topic), &fed.written);
}

#[test]
fn what_pulsar_deletes_because_all_have_read_it_is_not_written_again() {
    deleted_when_read("");
}

#[test]
fn with_progress_marks_too_what_pulsar_deletes_is_not_written_again() {
    deleted_when_read("--progress-marks 50ms");
}

/// A job is killed whose outputs are deleted as soon as their only reader has them.
fn deleted_when_read(more: &str) {
    const OUTPUTS: [&str; 3] = ["echo", "sums", "by-depot"];
    let mut random = Random(0x853C_49E6_748F_EA9B);
    let folder = tempfile::tempdir().unwrap();
    let keeps_nothing = ("retention", "{\"retentionTimeInMinutes\":0,\"retentionSizeInMB\":0}");
    // Nor does the broker remember what it got from a producer.
    let mut fed = Fed::new("deleted", &[keeps_nothing, ("deduplication", "false")], &mut random);
    // All is made again at each start.
    let flags = format!(
        "--topics {} --checkpoints file:{} --checkpoint-every 1h {more}",
        fed.topics,
        folder.path().display()
    );
    let settings = PulsarSettings { until_end: true, ..broker().settings("downstream") };
    let downstream = Pulsar::new(settings).unwrap();
    let mut readers: Vec<Topic> = Vec::new();
    let mut read = [Vec::new(), Vec::new(), Vec::new()];
    let mut drain = |readers: &mut Vec<Topic>| -> usize {
        for (reader, read) in readers.iter_mut().zip(&mut read) {
            reader.partitions.iter_mut().for_each(|partition| partition.recheck());
            let records = reader.read_to_the_end().unwrap();
            reader.release();
            read.extend(records.iter().map(|(_, r)| serde_json::from_slice::<Value>(&r.payload).unwrap()));
        }
        read[0].len()
    };
    for round in 0..3 {
        let job = start(&flags, 1);
        for topic in OUTPUTS.iter().skip(readers.len()) {
            let url = format!("{}/{topic}", fed.topics);
            eventually("the job makes its outputs", || downstream.source(&url).is_ok());
            readers.push(Topic::open(&downstream, &url, Start::Earliest).unwrap());
        }
        fed.publish_for(300, &mut random);
        fed.wait();
        eventually("the job writes all", || drain(&mut readers) >= fed.count());
        let backlog = |topic: &str, of: &str| {
            fed.about(topic, "stats")["subscriptions"][of]["msgBacklog"].as_u64().unwrap()
        };
        eventually("what is kept is no backlog", || {
            OUTPUTS.iter().all(|topic| backlog(topic, "nekton-sums:last") <= 2)
        });
        job.kill();
        drain(&mut readers);
        eventually("all is read", || OUTPUTS.iter().all(|topic| backlog(topic, "nekton-downstream") == 0));
        let other = format!("other-{round}");
        publish(&fed.pulsar, &format!("{}/{other}", fed.topics), ["1".to_owned()]);
        for topic in [&OUTPUTS[..], &[&other]].concat() {
            fed.unload(topic);
            fed.trim(topic);
        }
        eventually("the broker deletes what nobody needs", || {
            fed.about(&other, "internalStats")["numberOfEntries"] == 0
        });
    }
    start(&format!("{flags} --until-end"), 1).ends(&[0]);
    drain(&mut readers);
    check(|topic| read[OUTPUTS.iter().position(|of| *of == topic).unwrap()].clone(), &fed.written);
}
