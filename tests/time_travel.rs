//! A stretch of a job's past is replayed to other topics: with the same outputs at the same times, on any number of
//! workers, also while the job goes on, and without anything being taken from it.

mod common;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use common::fed::{Fed, KEEPS_ALL, fresh_namespace};
use common::files::Files;
use common::job::{Job, said};
use common::processes::start;
use common::sums::{Random, ended};
use common::topics::Reading as Topic;
use nekton::connect::Start;
use serde_json::Value;

/// The job, in a process of its own: this test program calls itself. Its flags are in the environment.
#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

/// Of all inputs in files.
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// The numbers and times of a job's checkpoints, as they are in its store.
fn checkpoints(store: &Path) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(store.join("sums/manifests")).into_iter().flatten() {
        let path = entry.unwrap().path();
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        // One that is deleted just now is not looked at.
        let Some((number, content)) = number.zip(std::fs::read(&path).ok()) else { continue };
        let manifest: Value = serde_json::from_slice(&content[8..]).unwrap();
        found.extend(manifest["time"].as_u64().map(|time| (number, time)));
    }
    found.sort_unstable();
    found
}

/// Of lines with a time, those in a stretch.
fn stretch<'l>(lines: impl Iterator<Item = &'l str>, from: u64, until: u64) -> Vec<&'l str> {
    let time = |line: &str| serde_json::from_str::<Value>(line).unwrap()["time"].as_u64().unwrap();
    lines.filter(|line| (from..=until).contains(&time(line))).collect()
}

fn flags(files: &Files, more: &str) -> String {
    files.flags(&format!("--partitions 2 {more}"))
}

fn job(files: &Files, more: &str) -> Job {
    let kept = "--checkpoint-every 60ms --checkpoints-kept 1000";
    start(&flags(files, &format!("{kept} {more}")), 1)
}

fn replay(files: &Files, into: &str, more: &str) -> String {
    flags(files, &format!("--outputs file:{} {more}", files.path(into).display()))
}

/// What was replayed is what the job has written, byte for byte.
fn check(files: &Files, into: &str, from: u64, until: u64) -> usize {
    let read = |under: &str, topic: &str, partition: u32| {
        let path = files.path(under).join(topic).join(format!("{partition}.jsonl"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        // What is just being written has no line end.
        text[..text.rfind('\n').map_or(0, |end| end + 1)].to_owned()
    };
    let mut count = 0;
    for partition in 0..2 {
        for topic in ["sums", "by-depot"] {
            let (original, replayed) = (read("topics", topic, partition), read(into, topic, partition));
            let expected = stretch(original.lines(), from, until);
            let replayed: Vec<_> = replayed.lines().collect();
            same(&expected, &replayed, &format!("{topic} {partition} from {from} until {until}"));
            count += expected.len();
        }
        let (original, replayed) = (read("topics", "echo", partition), read(into, "echo", partition));
        assert!(original.contains(&replayed), "echo {partition} from {from} until {until}");
    }
    count
}

fn same(expected: &[&str], replayed: &[impl AsRef<str>], what: &str) {
    let differs =
        expected.iter().zip(replayed).position(|(expected, replayed)| *expected != replayed.as_ref());
    assert_eq!((differs, replayed.len()), (None, expected.len()), "{what}");
}

fn succeeded(output: Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn fails(flags: &str, words: &[&str]) {
    let output = ended(flags);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{flags} should fail");
    words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
}

#[test]
fn on_files_a_stretch_of_the_past_is_replayed_byte_for_byte_while_the_job_goes_on() {
    let mut files = Files::new(SEED);
    let store = files.path("checkpoints");
    let mut running = None::<Job>;
    for _ in 0..4 {
        running.take().into_iter().for_each(Job::kill);
        let workers = 1 + files.random.below(3);
        let before = checkpoints(&store).len();
        running = Some(job(&files, &format!("--workers {workers}")));
        files.append_for(400);
        files.append_until("two checkpoints", |_| checkpoints(&store).len() >= before + 2);
    }
    let running = running.unwrap();
    let all = checkpoints(&store);
    assert!(all.len() > 5, "{all:?}");
    let (first, last) = (all[0], all[all.len() - 1]);
    let middle = all[all.len() / 2];
    let mut count = 0;
    // Short and long stretches, from and to anywhere.
    let stretches = [
        ("earliest".to_owned(), first.1, last.1),
        (middle.0.to_string(), middle.1, middle.1 + 150),
        (first.0.to_string(), first.1, middle.1),
        ((middle.1 + 1).to_string(), middle.1, last.1 + 20),
        (middle.0.to_string(), middle.1, middle.1),
    ];
    for (number, (from, begins, until)) in stretches.iter().enumerate() {
        for workers in [1, 3] {
            let into = format!("replay-{number}-{workers}");
            let more = format!("--from {from} --until {until} --workers {workers}");
            succeeded(ended(&replay(&files, &into, &more)));
            count += check(&files, &into, *begins, *until);
        }
        files.append_for(30);
    }
    assert!(count > 1_000, "{count} lines were compared");

    // A replay that is killed, and begun again, has each change once.
    let mut kills = 0;
    for millis in [5, 20, 35, 50, 65, 80, 100] {
        let more = format!("--from earliest --until {}", last.1);
        let mut replaying = start(&replay(&files, "killed", &more), 1);
        std::thread::sleep(Duration::from_millis(millis));
        kills += usize::from(replaying.running());
    }
    assert!(kills > 0, "a replay takes longer than nothing");
    succeeded(ended(&replay(&files, "killed", &format!("--from earliest --until {} --workers 2", last.1))));
    check(&files, "killed", first.1, last.1);

    // As far as the job has gone, without a time.
    succeeded(ended(&replay(&files, "open", &format!("--from {}", middle.0))));
    assert!(files.path("open/sums/0.jsonl").metadata().unwrap().len() > 0);

    // All of that has not disturbed the job.
    running.kill();
    succeeded(ended(&flags(&files, "--until-end --checkpoints-kept 1000")));
    let mut lines = 0;
    for partition in 0..2 {
        let path = files.topic("echo").join(format!("{partition}.jsonl"));
        lines += std::fs::read_to_string(path).unwrap().lines().count();
    }
    assert_eq!(lines, files.count(), "every event once");
}

#[test]
fn what_cannot_be_replayed_is_refused_in_words() {
    let mut files = Files::new(SEED);
    let running = job(&files, "");
    files.append_for(400);
    running.kill();
    let all = checkpoints(&files.path("checkpoints"));
    let (first, last) = (all[0], all[all.len() - 1]);

    fails(
        &replay(&files, "x", "--from 99999"),
        &["no checkpoint 99999", &format!("{} (as of {})", first.0, first.1)],
    );
    fails(&replay(&files, "x", "--from 1999-01-01T00:00:00Z"), &["of time 915148800000 or before"]);
    let before = format!("--from {} --until {}", last.0, last.1 - 1);
    fails(&replay(&files, "x", &before), &["is before the checkpoint"]);
    fails(&flags(&files, "--from earliest"), &["is an output of the job", "--outputs"]);
    // However it is named.
    let moved = format!("--from earliest --outputs file:{}/../topics", files.path("topics").display());
    fails(&flags(&files, &moved), &["is an output of the job"]);
    let nowhere =
        format!("--topics file:{} --checkpoints none --from earliest", files.path("topics").display());
    fails(&nowhere, &["--from needs --checkpoints"]);
    fails(&flags(&files, &format!("--until {}", first.1)), &["has gone on to", "--from"]);

    // The input is another one.
    let input = files.path("topics/readings/0.jsonl");
    let text = std::fs::read_to_string(&input).unwrap();
    std::fs::write(&input, format!("\n{}", &text[..text.len() - 1])).unwrap();
    fails(&replay(&files, "y", "--from earliest"), &["does not have the record at"]);
}

#[test]
fn a_job_that_is_to_end_at_a_time_ends_then_and_another_run_goes_on_from_there() {
    let mut files = Files::new(SEED);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let until = now + 1_500;
    let mut running = job(&files, &format!("--until {until} --workers 2"));
    files.append_for(2_000);
    // It ends by itself.
    said(&mut running.0[0], &[0]);
    let times = |files: &Files| -> Vec<u64> {
        let read = |partition| {
            std::fs::read_to_string(files.path(&format!("topics/sums/{partition}.jsonl"))).unwrap()
        };
        let lines = [read(0), read(1)].concat();
        let time = |line: &str| serde_json::from_str::<Value>(line).unwrap()["time"].as_u64().unwrap();
        lines.lines().map(time).collect()
    };
    let first = times(&files);
    assert!(!first.is_empty() && first.iter().all(|time| *time <= until), "nothing is later than {until}");
    let last = checkpoints(&files.path("checkpoints")).pop().unwrap();
    assert_eq!(last.1, until + 1, "what is contained is all of that time and before");
    succeeded(ended(&flags(&files, "--until-end --checkpoints-kept 1000")));
    assert!(times(&files).len() > first.len());
    // Both runs are one past.
    let end = times(&files).into_iter().max().unwrap();
    let from = checkpoints(&files.path("checkpoints"))[0].1;
    succeeded(ended(&replay(&files, "both", &format!("--from earliest --until {}", end.min(until + 200)))));
    check(&files, "both", from, end.min(until + 200));
}

#[test]
fn on_pulsar_a_stretch_of_the_past_is_replayed_while_the_job_goes_on() {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let folder = tempfile::tempdir().unwrap();
    // Outputs that nobody reads are deleted otherwise.
    let mut fed = Fed::new("travel", &[KEEPS_ALL], &mut random);
    let (_, outputs) = fresh_namespace("elsewhere", &[KEEPS_ALL]);
    let topics = fed.topics.clone();
    let flags =
        |more: &str| format!("--topics {topics} --checkpoints file:{} {more}", folder.path().display());
    let mut job = None::<Job>;
    for _ in 0..3 {
        job.take().into_iter().for_each(Job::kill);
        let more = "--checkpoint-every 100ms --checkpoints-kept 1000 --progress-marks 50ms";
        job = Some(start(&flags(more), 1));
        fed.publish_for(1_500, &mut random);
    }
    let all = checkpoints(folder.path());
    let (from, until) = (all[all.len() / 4].1, all[all.len() - 1].1);
    let replay = format!("--from {} --until {until} --outputs {outputs} --workers 2", all[all.len() / 4].0);
    succeeded(ended(&flags(&replay)));
    let mut job = job.unwrap();
    job.still_runs();
    for topic in ["sums", "by-depot"] {
        let read = |under: &str| -> Vec<String> {
            let url = format!("{under}/{topic}");
            let records = Topic::open(&fed.pulsar, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
            records.iter().map(|(_, record)| String::from_utf8(record.payload.to_vec()).unwrap()).collect()
        };
        let (original, replayed) = (read(&topics), read(&outputs));
        let expected = stretch(original.iter().map(String::as_str), from, until);
        assert!(expected.len() > 100, "{} lines", expected.len());
        same(&expected, &replayed, &format!("{topic} from {from} until {until}"));
    }
    job.kill();
}
