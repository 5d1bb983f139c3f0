//! Topics in a folder: an input that is written while jobs read it, and what they make of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::job::{Job, PATIENCE};
use super::sums::{Random, Reading, append, check, lines};

pub struct Files {
    folder: tempfile::TempDir,
    pub random: Random,
    /// What is in the topic `readings`, by partition.
    pub written: [Vec<Reading>; 2],
}

impl Files {
    /// With an input of two partitions, which have some readings.
    pub fn new(seed: u64) -> Self {
        let mut files = Files::empty(seed);
        (0..2).for_each(|partition| files.append_to(partition));
        files
    }

    /// With an input that nothing is in.
    pub fn empty(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("topics/readings")).unwrap();
        Files { folder, random: Random(seed), written: [Vec::new(), Vec::new()] }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn topic(&self, name: &str) -> PathBuf {
        self.path("topics").join(name)
    }

    /// Where topics and checkpoints are.
    pub fn flags(&self, more: &str) -> String {
        format!(
            "--topics file:{0}/topics --checkpoints file:{0}/checkpoints {more}",
            self.folder.path().display()
        )
    }

    pub fn append_to(&mut self, partition: usize) {
        append(&self.topic("readings"), partition as u64, &mut self.random, &mut self.written[partition]);
    }

    /// Appends some readings to one of the partitions.
    pub fn append(&mut self) {
        let partition = self.random.below(2);
        self.append_to(partition as usize);
    }

    /// Appends for so many milliseconds.
    pub fn append_for(&mut self, milliseconds: u64) {
        let until = Instant::now() + Duration::from_millis(milliseconds);
        while Instant::now() < until {
            self.append();
            std::thread::sleep(Duration::from_millis(self.random.below(8)));
        }
    }

    pub fn append_until(&mut self, what: &str, mut is: impl FnMut(&Files) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is(self) {
            assert!(Instant::now() < deadline, "{what} did not come about");
            self.append_for(20);
        }
    }

    /// Appends until a job that is running has written something.
    pub fn append_until_written(&mut self, job: &mut Job) {
        let before = self.size();
        self.append_until("an output", |files| {
            job.still_runs();
            files.size() != before
        });
    }

    pub fn count(&self) -> usize {
        self.written.iter().map(Vec::len).sum()
    }

    /// How much there is of all outputs.
    pub fn size(&self) -> u64 {
        let partitions = ["echo", "sums", "by-depot"].into_iter().flat_map(|topic| [(topic, 0), (topic, 1)]);
        let size =
            |(topic, partition)| std::fs::metadata(self.topic(topic).join(format!("{partition}.jsonl")));
        partitions.filter_map(|of| size(of).ok()).map(|file| file.len()).sum()
    }

    /// The messages of a topic of up to two partitions.
    pub fn messages(&self, topic: &str) -> Vec<Value> {
        messages(&self.topic(topic))
    }

    /// Checks what has been made of all readings.
    pub fn check(&self) {
        check(|topic| self.messages(topic), &self.written);
    }
}

/// The messages of a topic's partitions: each must be in order by itself; together, in the order of their times.
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
