//! The engine in a simulated world: whatever a seed lets happen (crashes at any moment, slow and failing writes,
//! deliveries that are repeated, runs that stand still and go on when another has taken over, other numbers of
//! workers, a clock that is set back), every output holds each change once, in order, and is at every time what a
//! naive model says.
//!
//! `NEKTON_SEEDS=100000 cargo test --release -p nekton-engine --test simulation` runs so many, `NEKTON_SEED=17` one alone.

#[path = "common/gossip.rs"]
mod cells;
#[path = "world/gossip.rs"]
mod gossip;
#[path = "world/job.rs"]
mod job;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use nekton_engine::{Error, Kind, Result, Simulator, Summary};

use job::Reading;
use world::{HANGS, Lie, MARK, World, print_of};

/// How many seeds are run, unless the environment says otherwise.
const SEEDS: u64 = 1_000;

/// A program, and what checks all that it has written.
#[derive(Clone, Copy)]
struct Program {
    job: fn(&World, usize) -> Result<Summary>,
    check: fn(&World),
}

/// All that a root, a table and a sink can do.
const ALL: Program = Program { job: job::job, check: job::check };
/// Agents that read what is linked to them, and one another.
const GOSSIP: Program = Program { job: gossip::job, check: gossip::check };

/// Publishes some more.
fn publish(world: &World, random: &Simulator) {
    let mut kept = world.kept();
    for partition in 0..kept.inputs.len() as u64 {
        for _ in 0..random.below(40) {
            let input = &mut kept.inputs[partition as usize];
            // A sensor's readings are in one partition, and so in order.
            let sensor = random.below(8) * 4 + partition;
            let (depot, value) = (random.below(3), random.below(20) as i64);
            let reading = Reading { number: input.len() as u64, sensor, depot, value };
            input.push(serde_json::to_vec(&reading).unwrap().into());
        }
    }
}

/// What a run may end with.
fn expected(error: &Error) -> bool {
    matches!(error.kind(), Kind::Io | Kind::Unavailable | Kind::Conflict)
}

/// A run that ends, or crashes at a step.
fn crashing(program: Program, world: &World, workers: usize, at: u64) {
    world.crash_at(at);
    if let Err(error) = (program.job)(world, workers) {
        assert!(expected(&error), "{error}");
    }
}

/// A run that stands still at a step, until `meanwhile` is over, and then goes on.
fn zombie(program: Program, world: &World, workers: usize, at: u64, meanwhile: impl FnOnce()) {
    let (stands, standing) = channel();
    let (go, goes) = channel::<()>();
    let (goes, crashed) = (Mutex::new(goes), world.clone());
    world.simulator.at_each_step(move |step| {
        if step == at {
            let _ = stands.send(());
            // Whoever it is that ends first.
            let _ = goes.lock().unwrap().recv();
        }
        if step > at + 20_000 {
            crashed.crash();
        }
        assert!(step < HANGS, "the run hangs");
    });
    let of_old = world.clone();
    #[expect(clippy::disallowed_methods, reason = "it stands still while the other runs")]
    let old = std::thread::spawn(move || {
        let ended = (program.job)(&of_old, workers);
        of_old.simulator.at_each_step(|_| {});
        ended
    });
    // An error: it has ended before.
    let _ = standing.recv();
    meanwhile();
    drop(go);
    match old.join() {
        Ok(Ok(_)) => {}
        // What only it would have read again may be gone.
        Ok(Err(error)) => assert!(expected(&error) || error.kind() == Kind::Lost, "{error}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// One history. Panics if anything is not as it must be; returns a print of all that was written.
fn one(program: Program, seed: u64, lie: Option<Lie>) -> u64 {
    let random = Simulator::new(seed ^ 0xA5A5);
    let mut world = World::new(seed, lie).with_inputs(1 + random.below(4) as usize);
    let mut number = 0;
    let mut next = |world: &mut World| {
        number += 1;
        // The clock of the next machine may be ahead, or behind.
        let ahead = if random.below(3) == 0 { random.below(200) as i64 - 100 } else { 0 };
        world.next_run(seed * 1_000 + number, ahead)
    };
    for _ in 0..2 + random.below(6) {
        publish(&world, &random);
        let workers = 1 + random.below(5) as usize;
        let run = next(&mut world);
        let at = 1 + random.below(2_500);
        if random.below(4) == 0 {
            let newer = next(&mut world);
            zombie(program, &run, workers, at, || {
                publish(&newer, &random);
                crashing(program, &newer, 1 + random.below(5) as usize, 1 + random.below(4_000));
            });
        } else {
            crashing(program, &run, workers, at);
        }
    }
    loop {
        let last = next(&mut world);
        last.simulator.at_each_step(|step| assert!(step < HANGS, "the last run hangs"));
        match (program.job)(&last, 1 + random.below(5) as usize) {
            Ok(_) => break,
            // The store was out of reach for a moment.
            Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
        }
    }
    (program.check)(&world);
    let count = |world: &World| {
        world
            .kept()
            .outputs
            .values()
            .flatten()
            .map(|of| of.messages.iter().filter(|(_, message)| message != MARK).count())
            .sum::<usize>()
    };
    let before = count(&world);
    let again = next(&mut world);
    if (program.job)(&again, 1 + random.below(5) as usize).is_ok() {
        assert_eq!(before, count(&world), "there was nothing left to do");
    }
    // Old checkpoints go, and what crashed runs have left.
    let objects = world.kept().objects.keys().filter(|name| name.contains("/manifests/")).count();
    assert!(objects <= 5, "{objects} manifests are kept");
    print_of(&world.kept())
}

/// Runs seeds side by side until all have succeeded, or one has not.
fn all(program: Program, seeds: impl Iterator<Item = u64> + Send, lie: Option<Lie>) -> Option<(u64, String)> {
    let seeds = Mutex::new(seeds);
    let failed = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let Some(seed) = seeds.lock().unwrap().next() else { return };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| one(program, seed, lie))) {
                        let said = panic.downcast_ref::<String>().cloned();
                        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&said| said.to_owned()));
                        failed.lock().unwrap().get_or_insert((seed, said.unwrap_or_default()));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// So many seeds, or what the environment says.
fn is_right(program: Program, seeds: u64) {
    if let Some(seed) = from_environment("NEKTON_SEED") {
        one(program, seed, None);
        return;
    }
    let seeds = from_environment("NEKTON_SEEDS").unwrap_or(seeds);
    if let Some((seed, said)) = all(program, 0..seeds, None) {
        panic!("NEKTON_SEED={seed} fails: {said}");
    }
}

#[test]
fn whatever_happens_the_outputs_are_right_at_every_time() {
    is_right(ALL, SEEDS);
}

#[test]
fn whatever_happens_agents_read_each_change_of_what_is_linked_once() {
    is_right(GOSSIP, SEEDS / 40);
}

#[test]
fn a_seed_does_the_same_again() {
    for seed in [3, 17, 40] {
        assert_eq!(one(ALL, seed, None), one(ALL, seed, None), "seed {seed}");
    }
    assert_eq!(one(GOSSIP, 17, None), one(GOSSIP, 17, None));
}

/// A root that is changed to read, and back, goes on with its agents.
#[test]
fn a_root_can_begin_to_read_and_cease_to() {
    let random = Simulator::new(5);
    let mut world = World::new(5, None).with_inputs(4);
    publish(&world, &random);
    let mut shown = Vec::new();
    for (number, job) in
        [gossip::without_reading, gossip::job, gossip::without_reading].into_iter().enumerate()
    {
        let run = world.next_run(number as u64, 0);
        job(&run, 1 + number).unwrap();
        shown.push(gossip::shown(&run));
    }
    let [before, reading, after] = &shown[..] else { panic!("three runs") };
    assert!(before.len() > 5 && before.values().all(|(_, told, _)| *told == 0));
    assert!(reading.values().filter(|(_, told, _)| *told > 0).count() > 5, "{reading:?}");
    assert!(reading.keys().all(|cell| before.contains_key(cell)));
    assert_eq!(after, reading, "what was read is part of the state");
}

/// What the oracle says.
const SIGNS: [&str; 10] = [
    "times go back",
    "was closed before",
    "after number",
    "two times",
    "every event once",
    "is lost",
    "the chain is broken",
    "changes twice",
    "told at",
    " should be ",
];

/// The oracle must notice what a broken engine would do, or the engine itself, with one of these errors.
fn is_noticed(lie: Lie, errors: &[&str]) {
    let seeds = 0..300;
    let Some((seed, said)) = all(ALL, seeds.clone(), Some(lie)) else {
        panic!("{lie:?} is not noticed with the seeds {seeds:?}");
    };
    println!("{lie:?} is noticed with seed {seed}: {said}");
    let noticed = SIGNS.iter().chain(errors).any(|sign| said.contains(sign));
    assert!(noticed, "{lie:?} is noticed by something else: {said}");
}

#[test]
fn bindings_that_are_skipped_are_noticed() {
    // Where none is left at all, the engine itself finds that its topics know nothing of the job.
    is_noticed(Lie::BindingsAreLost, &["nothing is known of it where its topics are"]);
}
#[test]
fn input_that_is_acknowledged_early_is_noticed() {
    is_noticed(Lie::InputIsLetGoEarly, &["does not have the record", "are gone"]);
}
#[test]
fn a_segment_that_is_forgotten_is_noticed() {
    is_noticed(Lie::ASegmentIsForgotten, &[]);
}
#[test]
fn outputs_that_are_written_again_are_noticed() {
    is_noticed(Lie::OutputsForget, &[]);
}
#[test]
fn runs_that_are_not_fenced_are_noticed() {
    // An older run that is not fenced also deletes, and lets go of, what the newer one still needs.
    is_noticed(Lie::NobodyIsFenced, &["does not have the record", "are gone", "is gone"]);
}
#[test]
fn input_that_comes_in_another_order_is_noticed() {
    is_noticed(Lie::InputIsReordered, &[]);
}
