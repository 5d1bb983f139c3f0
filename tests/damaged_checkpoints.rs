//! Checkpoints that are damaged, or that there is no room for: a job ends with a sentence that names the object and says
//! what to do; it loses nothing, and is never wrong.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::job::{Job, eventually};
use common::program::command;
use common::sums::{Random, Reading, append, check, lines};
use serde_json::Value;

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

struct World {
    folder: tempfile::TempDir,
    random: Random,
    written: [Vec<Reading>; 2],
}

impl World {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("topics/readings")).unwrap();
        let mut world = World { folder, random: Random(seed), written: [Vec::new(), Vec::new()] };
        (0..10).for_each(|_| world.publish());
        world
    }
    fn topics(&self) -> PathBuf {
        self.folder.path().join("topics")
    }
    fn publish(&mut self) {
        for partition in 0..2 {
            let input = self.topics().join("readings");
            append(&input, partition, &mut self.random, &mut self.written[partition as usize]);
        }
    }
    fn job(&self, flags: &str) -> Command {
        let mut command =
            command(&format!("--topics file:{} --checkpoint-every 20ms {flags}", self.topics().display()));
        command.stderr(Stdio::piped()).env_remove("RUST_BACKTRACE");
        command
    }
    fn ended(&self, flags: &str) -> Output {
        self.job(&format!("--until-end {flags}")).output().unwrap()
    }
    fn ran(&self, flags: &str) {
        let output = self.ended(flags);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    fn check(&self) {
        check(|topic| lines(&self.topics().join(topic).join("0.jsonl")), &self.written);
    }
    fn outputs(&self) -> [Vec<Value>; 3] {
        ["echo", "sums", "by-depot"].map(|topic| lines(&self.topics().join(topic).join("0.jsonl")))
    }
}

/// What is said on standard error, with the code that says whether starting it again may help.
fn refused(output: Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// `nekton checkpoint`: whether it succeeded, and all that it said.
fn nekton(arguments: &[&str], url: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nekton"));
    let output = command.arg("checkpoint").args(arguments).arg(url).output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    (output.status.success(), said)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_damaged_checkpoint_is_named_and_nothing_is_made_of_it() {
    let mut world = World::new(0x51CE_B00D_1234_5677);
    world.ran("");
    world.publish();
    let checkpoints = world.folder.path().join("checkpoints");
    let url = format!("file:{}", checkpoints.display());
    let (whole, said) = nekton(&["verify"], &url);
    assert!(whole && said.contains("are whole"), "{said}");
    let (_, listed) = nekton(&["ls"], &url);
    assert!(listed.contains("sums") && !listed.contains("DAMAGED"), "{listed}");
    let (_, shown) = nekton(&["show", "--json"], &url);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let object = shown["contents"]["roots"][0]["objects"][0]["name"].as_str().unwrap();
    let newest = || files(&checkpoints.join("sums/manifests")).pop().unwrap();
    let flip = |at: usize| move |content: &mut Vec<u8>| content[at] ^= 16;
    let damages: [(&str, Box<dyn Fn(&mut Vec<u8>)>); 5] = [
        ("checksum", Box::new(flip(3))),
        ("checksum", Box::new(flip(40))),
        ("checksum", Box::new(|content| content.truncate(content.len() / 2))),
        ("checksum", Box::new(|content| content.truncate(5))),
        ("it is gone", Box::new(Vec::clear)),
    ];
    let before = world.outputs();
    for manifest in [false, true] {
        for (why, damage) in &damages {
            let path = if manifest { newest() } else { checkpoints.join(object) };
            let named = path.strip_prefix(&checkpoints).unwrap().display().to_string();
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            damage(&mut bad);
            let gone = *why == "it is gone";
            if gone && manifest {
                continue;
            }
            if gone {
                fs::remove_file(&path).unwrap()
            } else {
                fs::write(&path, &bad).unwrap()
            }
            for workers in 1..=2 {
                let said = refused(world.ended(&format!("--workers {workers}")), 2);
                for part in [&named[..], why, "restore it from a copy", "nekton checkpoint verify"] {
                    assert!(said.contains(part), "{said}");
                }
                assert_eq!(world.outputs(), before, "no output is made of it");
            }
            let (whole, said) = nekton(&["verify"], &url);
            assert!(!whole && said.contains(&named) && said.contains(why), "{said}");
            fs::write(&path, good).unwrap();
        }
    }
    world.ran("--workers 2");
    world.check();
}

#[test]
fn an_older_checkpoint_is_not_taken_for_the_newest() {
    let mut world = World::new(0x01DE_4C8E_1234_5677);
    world.ran("");
    let manifests = world.folder.path().join("checkpoints/sums/manifests");
    let old: Vec<_> = files(&manifests).iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    world.publish();
    (0..2).for_each(|_| world.ran(""));
    let new: Vec<_> = files(&manifests).iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files(&manifests).iter().for_each(|path| fs::remove_file(path).unwrap());
    old.iter().for_each(|(path, content)| fs::write(path, content).unwrap());
    world.publish();
    let before = world.outputs();
    let said = refused(world.ended(""), 2);
    assert!(said.contains("it has gone") && said.contains("the newest checkpoint"), "{said}");
    assert_eq!(world.outputs(), before);
    new.iter().for_each(|(path, content)| fs::write(path, content).unwrap());
    files(&manifests)
        .iter()
        .filter(|path| new.iter().all(|(new, _)| new != *path))
        .for_each(|path| fs::remove_file(path).unwrap());
    world.ran("--workers 2");
    world.check();
}

#[test]
fn checkpoints_of_topics_that_are_made_anew_are_refused() {
    let mut world = World::new(0x0FE5_4709_1234_5677);
    world.ran("");
    fs::remove_dir_all(world.topics()).unwrap();
    fs::create_dir_all(world.topics().join("readings")).unwrap();
    (0..100).for_each(|_| world.publish());
    let said = refused(world.ended(""), 2);
    assert!(said.contains("made anew") && said.contains("Delete its checkpoints"), "{said}");
}

/// A folder with little room; none where this user may not make one.
struct Small(PathBuf);

impl Small {
    fn new(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let small = Small(folder.to_owned());
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=32k", "tmpfs"]).arg(folder).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(small);
        }
        std::mem::forget(small);
        eprintln!("SKIPPED: this user may not mount a small file system");
        None
    }
    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=32m"]).arg(&self.0).status().unwrap();
        assert!(grown.success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn where_there_is_no_room_for_checkpoints_a_job_ends_and_goes_on_when_there_is() {
    let mut world = World::new(0x0DD5_EED5_1234_5677);
    let Some(small) = Small::new(&world.folder.path().join("checkpoints")) else { return };
    fs::File::create(small.0.join("full")).unwrap().write_all(&[1; 20 << 10]).unwrap();
    for _ in 0..3 {
        let mut job = Job::of(&mut world.job(""));
        eventually("the end of a job without room", || {
            world.publish();
            !job.running()
        });
        let said = job.ends(&[1]).concat();
        assert!(!said.contains("panicked"), "{said}");
        assert!(said.contains("No space left") && said.contains("checkpoints/sums"), "{said}");
        assert!(said.contains("make room"), "{said}");
    }
    small.grow();
    world.ran("--workers 2");
    world.check();
}

#[test]
fn at_least_once_repeats_but_loses_nothing_and_binds_nothing() {
    let mut world = World::new(0x0A70_1EA5_7123_4567);
    let bindings = |world: &World| -> u64 {
        let folder = world.topics().join(".nekton/sums/bindings");
        files(&folder).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
    };
    let kill = |world: &mut World, flags: &str| {
        let job = Job::of(world.job(flags).stderr(Stdio::null()));
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            world.publish();
            std::thread::sleep(Duration::from_millis(5));
        }
        job.kill();
    };
    // What an earlier run has bound counts no more.
    kill(&mut world, "");
    let bound = bindings(&world);
    for _ in 0..3 {
        kill(&mut world, "--delivery at-least-once --workers 2");
    }
    assert!(bindings(&world) < bound + 1_000, "a record or so a start, and none an epoch");
    // And nothing is lost between the two.
    world.ran("--delivery exactly-once");
    let echo = lines(&world.topics().join("echo/0.jsonl"));
    let key = |value: &Value| (value["sensor"].as_u64().unwrap(), value["value"].as_i64().unwrap());
    for (partition, written) in world.written.iter().enumerate() {
        let mut read = echo.iter().map(key).filter(|(sensor, _)| sensor % 2 == partition as u64);
        for reading in written {
            let found = read.any(|read| read == (reading.sensor, reading.value));
            assert!(found, "partition {partition}: every event, in order");
        }
    }
    // State is exact all the same.
    let mut last: std::collections::BTreeMap<u64, (i64, i64)> = Default::default();
    let mut time = 0;
    for line in lines(&world.topics().join("sums/0.jsonl")) {
        assert!(line["time"].as_u64().unwrap() >= time, "times never go back");
        time = line["time"].as_u64().unwrap();
        let seen = |at: usize| line["after"][at].as_i64().unwrap();
        last.insert(line["key"].as_u64().unwrap(), (seen(1), seen(2) % 1_000));
    }
    for (sensor, (count, sum)) in last {
        let of: Vec<_> = world.written.iter().flatten().filter(|reading| reading.sensor == sensor).collect();
        let naive = (of.len() as i64, of.iter().map(|reading| reading.value).sum::<i64>() % 1_000);
        assert_eq!((count, sum), naive, "sensor {sensor}");
    }
}
