//! A stretch of a job's past is replayed to other topics: with the same outputs at the same times, on any number of
//! workers, also while the job goes on, and without anything being taken from it.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use common::broker::{broker, fresh};
use common::sums::{Random, Reading, append, ended, readings, start};
use common::topics::{Reading as Topic, Writer, message};
use nekton::connect::Start;
use nekton_connectors::pulsar::{Pulsar, PulsarSettings};
use serde_json::Value;

/// The job, in a process of its own: this test program calls itself. Its flags are in the environment.
#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

/// The numbers and times of a job's checkpoints, as they are in its store.
fn checkpoints(store: &Path) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(store.join("sums/manifests")).unwrap() {
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

/// A job on files.
struct Files {
    folder: tempfile::TempDir,
    random: Random,
    written: [Vec<Reading>; 2],
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("topics/readings")).unwrap();
        let random = Random(0x9E37_79B9_7F4A_7C15);
        let mut files = Files { folder, random, written: [Vec::new(), Vec::new()] };
        files.publish(0);
        files.publish(1);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn publish(&mut self, partition: u64) {
        let input = self.path("topics/readings");
        append(&input, partition, &mut self.random, &mut self.written[partition as usize]);
    }

    /// Publishes for a while.
    fn go_on(&mut self, millis: u64) {
        let until = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < until {
            let partition = self.random.below(2);
            self.publish(partition);
            std::thread::sleep(Duration::from_millis(self.random.below(8)));
        }
    }

    fn flags(&self, more: &str) -> String {
        let (topics, checkpoints) = (self.path("topics"), self.path("checkpoints"));
        format!(
            "--topics file:{} --checkpoints file:{} --partitions 2 {more}",
            topics.display(),
            checkpoints.display()
        )
    }

    fn job(&self, more: &str) -> Child {
        let kept = "--checkpoint-every 60ms --checkpoints-kept 1000";
        start(&self.flags(&format!("{kept} {more}")))
    }

    fn replay(&self, into: &str, more: &str) -> String {
        self.flags(&format!("--outputs file:{} {more}", self.path(into).display()))
    }

    /// What was replayed is what the job has written, byte for byte.
    fn check(&self, into: &str, from: u64, until: u64) -> usize {
        let read = |under: &str, topic: &str, partition: u32| {
            let path = self.path(under).join(topic).join(format!("{partition}.jsonl"));
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
                let differs =
                    expected.iter().zip(&replayed).position(|(expected, replayed)| expected != replayed);
                let counts = (expected.len(), replayed.len());
                assert_eq!(differs, None, "{topic} {partition} from {from} until {until}: {counts:?}");
                assert_eq!(replayed.len(), expected.len(), "{topic} {partition} from {from} until {until}");
                count += expected.len();
            }
            let (original, replayed) = (read("topics", "echo", partition), read(into, "echo", partition));
            assert!(original.contains(&replayed), "echo {partition} from {from} until {until}");
        }
        count
    }
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
    let mut files = Files::new();
    let mut job = None::<Child>;
    for _ in 0..4 {
        if let Some(mut job) = job.take() {
            job.kill().unwrap();
            job.wait().unwrap();
        }
        let workers = 1 + files.random.below(3);
        job = Some(files.job(&format!("--workers {workers}")));
        files.go_on(400);
    }
    let mut job = job.unwrap();
    let all = checkpoints(&files.path("checkpoints"));
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
            succeeded(ended(&files.replay(&into, &more)));
            count += files.check(&into, *begins, *until);
        }
        files.go_on(30);
    }
    assert!(count > 1_000, "{count} lines were compared");

    // A replay that is killed, and begun again, has each change once.
    let mut kills = 0;
    for millis in [5, 20, 35, 50, 65, 80, 100] {
        let mut replay = start(&files.replay("killed", &format!("--from earliest --until {}", last.1)));
        std::thread::sleep(Duration::from_millis(millis));
        kills += usize::from(replay.try_wait().unwrap().is_none());
        replay.kill().unwrap();
        replay.wait().unwrap();
    }
    assert!(kills > 0, "a replay takes longer than nothing");
    succeeded(ended(&files.replay("killed", &format!("--from earliest --until {} --workers 2", last.1))));
    files.check("killed", first.1, last.1);

    // As far as the job has gone, without a time.
    succeeded(ended(&files.replay("open", &format!("--from {}", middle.0))));
    assert!(files.path("open/sums/0.jsonl").metadata().unwrap().len() > 0);

    // All of that has not disturbed the job.
    assert!(job.try_wait().unwrap().is_none(), "the job runs");
    job.kill().unwrap();
    job.wait().unwrap();
    succeeded(ended(&files.flags("--until-end --checkpoints-kept 1000")));
    let mut lines = 0;
    for partition in 0..2 {
        let path = files.path("topics/echo").join(format!("{partition}.jsonl"));
        lines += std::fs::read_to_string(path).unwrap().lines().count();
    }
    assert_eq!(lines, files.written.iter().map(Vec::len).sum::<usize>(), "every event once");
}

#[test]
fn what_cannot_be_replayed_is_refused_in_words() {
    let mut files = Files::new();
    let mut job = files.job("");
    files.go_on(400);
    job.kill().unwrap();
    job.wait().unwrap();
    let all = checkpoints(&files.path("checkpoints"));
    let (first, last) = (all[0], all[all.len() - 1]);

    fails(
        &files.replay("x", "--from 99999"),
        &["no checkpoint 99999", &format!("{} (as of {})", first.0, first.1)],
    );
    fails(&files.replay("x", "--from 1999-01-01T00:00:00Z"), &["of time 915148800000 or before"]);
    let before = format!("--from {} --until {}", last.0, last.1 - 1);
    fails(&files.replay("x", &before), &["is before the checkpoint"]);
    fails(&files.flags("--from earliest"), &["is an output of the job", "--outputs"]);
    // However it is named.
    let moved = format!("--from earliest --outputs file:{}/../topics", files.path("topics").display());
    fails(&files.flags(&moved), &["is an output of the job"]);
    let nowhere =
        format!("--topics file:{} --checkpoints none --from earliest", files.path("topics").display());
    fails(&nowhere, &["--from needs --checkpoints"]);
    fails(&files.flags(&format!("--until {}", first.1)), &["has gone on to", "--from"]);

    // The input is another one.
    let input = files.path("topics/readings/0.jsonl");
    let text = std::fs::read_to_string(&input).unwrap();
    std::fs::write(&input, format!("\n{}", &text[..text.len() - 1])).unwrap();
    fails(&files.replay("y", "--from earliest"), &["does not have the record at"]);
}

#[test]
fn a_job_that_is_to_end_at_a_time_ends_then_and_another_run_goes_on_from_there() {
    let mut files = Files::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let until = now + 1_500;
    let mut job = files.job(&format!("--until {until} --workers 2"));
    files.go_on(2_000);
    let begun = Instant::now();
    while job.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it ends by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(job.wait().unwrap().success());
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
    succeeded(ended(&files.flags("--until-end --checkpoints-kept 1000")));
    assert!(times(&files).len() > first.len());
    // Both runs are one past.
    let end = times(&files).into_iter().max().unwrap();
    let from = checkpoints(&files.path("checkpoints"))[0].1;
    succeeded(ended(&files.replay("both", &format!("--from earliest --until {}", end.min(until + 200)))));
    files.check("both", from, end.min(until + 200));
}

#[test]
fn on_pulsar_a_stretch_of_the_past_is_replayed_while_the_job_goes_on() {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let folder = tempfile::tempdir().unwrap();
    let [name, elsewhere] = ["travel", "elsewhere"].map(fresh);
    for name in [&name, &elsewhere] {
        broker().admin("PUT", &format!("namespaces/public/{name}"), "");
        // Outputs that nobody reads are deleted otherwise.
        let kept = "{\"retentionTimeInMinutes\":-1,\"retentionSizeInMB\":-1}";
        broker().admin("POST", &format!("namespaces/public/{name}/retention"), kept);
    }
    let [topics, outputs] =
        [name, elsewhere].map(|name| broker().base().replace("/default", &format!("/{name}")));
    let pulsar = Pulsar::new(PulsarSettings { until_end: true, ..broker().settings("publisher") }).unwrap();
    let input = format!("{topics}/readings");
    let mut writers: Vec<_> = (0..2).map(|p| Writer::open(&pulsar, &input, p, 2).unwrap()).collect();
    let mut publish = |random: &mut Random| {
        let partition = random.below(2);
        let lines = readings(partition, random);
        let lines = lines.iter().map(|reading| message(serde_json::to_string(reading).unwrap()));
        writers[partition as usize].write(lines.collect()).unwrap();
    };
    let flags =
        |more: &str| format!("--topics {topics} --checkpoints file:{} {more}", folder.path().display());
    publish(&mut random);
    let mut job = None::<Child>;
    for _ in 0..3 {
        if let Some(mut job) = job.take() {
            job.kill().unwrap();
            job.wait().unwrap();
        }
        job = Some(start(&flags("--checkpoint-every 100ms --checkpoints-kept 1000 --progress-marks 50ms")));
        let until = Instant::now() + Duration::from_millis(1_500);
        while Instant::now() < until {
            publish(&mut random);
            std::thread::sleep(Duration::from_millis(random.below(8)));
        }
    }
    let all = checkpoints(folder.path());
    let (from, until) = (all[all.len() / 4].1, all[all.len() - 1].1);
    let replay = format!("--from {} --until {until} --outputs {outputs} --workers 2", all[all.len() / 4].0);
    succeeded(ended(&flags(&replay)));
    let mut job = job.unwrap();
    assert!(job.try_wait().unwrap().is_none(), "the job runs");
    for topic in ["sums", "by-depot"] {
        let read = |under: &str| -> Vec<String> {
            let url = format!("{under}/{topic}");
            let records = Topic::open(&pulsar, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
            records.iter().map(|(_, record)| String::from_utf8(record.payload.to_vec()).unwrap()).collect()
        };
        let (original, replayed) = (read(&topics), read(&outputs));
        let expected = stretch(original.iter().map(String::as_str), from, until);
        assert!(expected.len() > 100, "{} lines", expected.len());
        let differs = expected.iter().zip(&replayed).position(|(expected, replayed)| expected != replayed);
        assert_eq!((differs, replayed.len()), (None, expected.len()), "{topic} from {from} until {until}");
    }
    job.kill().unwrap();
    job.wait().unwrap();
}
