//! A job of two processes with checkpoints loses one of them, or both, again and again, and goes on each time where it
//! was, also with another number of workers.

mod common;

use std::time::Instant;

use common::processes::{Job, PATIENCE, ended, finish, flags, size, write_for};
use common::sums::{Random, append};

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
    let folder = tempfile::tempdir().unwrap();
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
