//! A job of two processes with checkpoints loses one of them, or both, again and again, and goes on each time where it
//! was, also with another number of workers.

mod common;

use common::files::Files;
use common::job::Job;
use common::processes::{finish, flags, start};

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

#[test]
fn a_job_that_loses_processes_goes_on_and_every_output_has_each_change_once() {
    let seed = std::env::var("NEKTON_SEED").map_or(1, |seed| seed.parse().unwrap());
    let kills = std::env::var("NEKTON_KILLS").map_or(9, |kills| kills.parse().unwrap());
    let mut files = Files::new(0xD1B5_4A32_D192_ED03 ^ seed);
    for kill in 0..kills {
        let workers = 1 + files.random.below(2);
        let mut job = start(&flags(&files, workers), 2);
        if kill % 4 == 3 {
            // Sometimes all at once, also while it begins.
            let milliseconds = files.random.below(500);
            files.append_for(milliseconds);
            job.kill();
            continue;
        }
        files.append_until_written(&mut job);
        let milliseconds = files.random.below(600);
        files.append_for(milliseconds);
        let survivor = Job(vec![job.0.remove(files.random.below(2) as usize)]);
        job.kill();
        survivor.ends(&[1]);
    }
    finish(&files);
}
