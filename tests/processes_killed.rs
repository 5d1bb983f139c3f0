//! A job of two processes with checkpoints loses one of them, or both, again and again, and goes on each time where it
//! was, also with another number of workers.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::processes::{Job, PATIENCE, ended};
use common::sums::{Random, Reading, append, check, lines, start};
use serde_json::Value;

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

#[test]
fn a_job_that_loses_processes_goes_on_and_every_output_has_each_change_once() {
    let seed = std::env::var("NEKTON_SEED").map_or(1, |seed| seed.parse().unwrap());
    let kills = std::env::var("NEKTON_KILLS").map_or(9, |kills| kills.parse().unwrap());
    let mut random = Random(0xD1B5_4A32_D192_ED03 ^ seed);
    let folder = tempfile::Builder::new()
        .disable_cleanup(std::env::var_os("NEKTON_KEEP").is_some())
        .tempdir()
        .unwrap();
    let topics = folder.path().join("topics");
    let input = topics.join("readings");
    std::fs::create_dir_all(&input).unwrap();
    let mut written = [Vec::new(), Vec::new()];
    for partition in 0..2 {
        append(&input, partition, &mut random, &mut written[partition as usize]);
    }
    for kill in 0..kills {
        let before = size(&topics);
        let mut job = Job::start(&flags(folder.path(), 1 + random.below(2)), 2);
        if kill % 4 == 3 {
            // Sometimes all at once, also while it begins.
            write_for(random.below(500), &input, &mut random, &mut written);
            assert!(job.running(), "it runs until it is killed");
            job.0.iter_mut().for_each(|process| process.kill().unwrap());
            continue;
        }
        let begun = Instant::now();
        while size(&topics) == before {
            assert!(begun.elapsed() < PATIENCE && job.running(), "it writes something");
            write_for(20, &input, &mut random, &mut written);
        }
        write_for(random.below(600), &input, &mut random, &mut written);
        assert!(job.running(), "it runs until it is killed");
        let mut survivor = job.0.remove(random.below(2) as usize);
        job.0[0].kill().unwrap();
        assert_eq!(ended(&mut survivor).code(), Some(1), "it ends by itself");
    }
    finish(folder.path(), &written);
}

/// How much there is of all outputs.
fn size(topics: &Path) -> u64 {
    let partitions = ["echo", "sums", "by-depot"].into_iter().flat_map(|topic| [(topic, 0), (topic, 1)]);
    let size = |(topic, partition)| std::fs::metadata(topics.join(topic).join(format!("{partition}.jsonl")));
    partitions.filter_map(|of| size(of).ok()).map(|file| file.len()).sum()
}

/// Lets the job run to its end, and checks what it has written.
fn finish(folder: &Path, written: &[Vec<Reading>; 2]) {
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
fn messages(topic: &Path) -> Vec<Value> {
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

fn flags(folder: &Path, workers: u64) -> String {
    format!(
        "--topics file:{0}/topics --checkpoints file:{0}/checkpoints --checkpoint-every 60ms --partitions 2 \
         --workers {workers}",
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
