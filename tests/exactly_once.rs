//! A job with checkpoints is killed again and again, and goes on each time where it was: every output holds each
//! change once, in order, and agrees with the others at every time.

mod common;

use std::time::{Duration, Instant};

use common::broker::{broker, fresh};
use common::sums::{Random, append, check, lines, readings, start};
use common::topics::{Reading as Topic, Writer, message};
use nekton::connect::Start;
use nekton_connectors::pulsar::{Pulsar, PulsarSettings};

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

#[test]
fn a_job_that_is_killed_goes_on_and_every_output_has_each_change_once() {
    let seed = std::env::var("NEKTON_SEED").map_or(1, |seed| seed.parse().unwrap());
    let kills = std::env::var("NEKTON_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ seed);
    let folder = tempfile::tempdir().unwrap();
    let (topics, checkpoints) = (folder.path().join("topics"), folder.path().join("checkpoints"));
    let input = topics.join("readings");
    std::fs::create_dir_all(&input).unwrap();
    let mut written = [Vec::new(), Vec::new()];
    for partition in 0..2 {
        append(&input, partition, &mut random, &mut written[partition as usize]);
    }
    let flags = |workers: u64| {
        format!(
            "--topics file:{} --checkpoints file:{} --checkpoint-every 60ms --workers {workers}",
            topics.display(),
            checkpoints.display()
        )
    };
    for _ in 0..kills {
        let mut job = start(&flags(1 + random.below(3))).spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(100 + random.below(600));
        while Instant::now() < until {
            let partition = random.below(2);
            append(&input, partition, &mut random, &mut written[partition as usize]);
            std::thread::sleep(Duration::from_millis(random.below(8)));
        }
        assert!(job.try_wait().unwrap().is_none(), "it runs until it is killed");
        job.kill().unwrap();
        job.wait().unwrap();
    }
    let mut job = start(&format!("{} --until-end", flags(2))).spawn().unwrap();
    assert!(job.wait().unwrap().success());
    check(|topic| lines(&topics.join(topic).join("0.jsonl")), &written);
    // And once more: there is nothing left to do.
    let size = |topic: &str| std::fs::metadata(topics.join(topic).join("0.jsonl")).unwrap().len();
    let before = ["echo", "sums", "by-depot"].map(size);
    assert!(start(&format!("{} --until-end", flags(1))).status().unwrap().success());
    assert_eq!(["echo", "sums", "by-depot"].map(size), before);
}

#[test]
fn on_pulsar_too_a_job_that_is_killed_has_each_change_once() {
    let seed = std::env::var("NEKTON_SEED").map_or(1, |seed| seed.parse().unwrap());
    let kills = std::env::var("NEKTON_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut random = Random(0x2545_F491_4F6C_DD1D ^ seed);
    let folder = tempfile::tempdir().unwrap();
    let name = fresh("exactly");
    broker().admin("PUT", &format!("namespaces/public/{name}"), "");
    // Outputs that nobody reads are deleted otherwise.
    let kept = "{\"retentionTimeInMinutes\":-1,\"retentionSizeInMB\":-1}";
    broker().admin("POST", &format!("namespaces/public/{name}/retention"), kept);
    let topics = broker().base().replace("/default", &format!("/{name}"));
    let pulsar = Pulsar::new(PulsarSettings { until_end: true, ..broker().settings("publisher") }).unwrap();
    let input = format!("{topics}/readings");
    let mut writers: Vec<_> = (0..2).map(|p| Writer::open(&pulsar, &input, p, 2).unwrap()).collect();
    let mut written = [Vec::new(), Vec::new()];
    let mut publish = |random: &mut Random| {
        let partition = random.below(2);
        let readings = readings(partition, random);
        let lines = readings.iter().map(|reading| message(serde_json::to_string(reading).unwrap()));
        writers[partition as usize].write(lines.collect()).unwrap();
        written[partition as usize].extend(readings);
    };
    publish(&mut random);
    let flags = |workers: u64| {
        let folder = folder.path().display();
        format!("--topics {topics} --checkpoints file:{folder} --checkpoint-every 100ms --workers {workers}")
    };
    for _ in 0..kills {
        let mut job = start(&flags(1 + random.below(3))).spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(500 + random.below(1_500));
        while Instant::now() < until {
            publish(&mut random);
            std::thread::sleep(Duration::from_millis(random.below(8)));
        }
        assert!(job.try_wait().unwrap().is_none(), "it runs until it is killed");
        job.kill().unwrap();
        job.wait().unwrap();
    }
    for writer in &mut writers {
        writer.wait(0).unwrap();
    }
    let mut job = start(&format!("{} --until-end", flags(2))).spawn().unwrap();
    assert!(job.wait().unwrap().success());
    let messages = |topic: &str| {
        let url = format!("{topics}/{topic}");
        let records = Topic::open(&pulsar, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
        records.iter().map(|(_, record)| serde_json::from_slice(&record.payload).unwrap()).collect()
    };
    check(messages, &written);
}
