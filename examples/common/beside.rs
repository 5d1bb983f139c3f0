//! Programs that make up what they consume: the job runs, and beside it a thread publishes.
#![allow(dead_code)] // not every program uses all of it

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nekton::{Error, Flow, Kind, Publisher, Result, Runner, Summary, Time};
use serde::Serialize;

/// A number that tells the runs of a program apart.
pub fn run_number() -> Time {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Time)
}

/// Runs a job until all is read that `publish` has published, which is told when the job is over. It begins at nothing:
/// each run has made up its own.
pub fn run_beside<P: Send>(
    runner: Runner,
    name: &str,
    publish: impl FnOnce(&AtomicBool) -> Result<P> + Send,
    program: impl for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
) -> Result<(Summary, P)> {
    let (publishing, over) = (Arc::new(AtomicBool::new(true)), AtomicBool::new(false));
    let runner = runner.default_checkpoints("none").end_after(publishing.clone());
    std::thread::scope(|scope| {
        let published = scope.spawn(|| {
            let published = publish(&over);
            publishing.store(false, Ordering::SeqCst);
            published
        });
        let done = runner.run(name, program);
        over.store(true, Ordering::SeqCst);
        match published.join() {
            Ok(published) => published.and_then(|published| Ok((done?, published))),
            Err(_) => Err(Error::new(Kind::Internal, "the thread that publishes panicked")),
        }
    })
}

/// Publishes records under their keys, so many a second (0 for as fast as it can), or until the job is over.
pub fn publish_all<K: Serialize + Hash, E: Serialize>(
    records: &[E],
    key: impl Fn(&E) -> K,
    rate: u64,
    mut publisher: Publisher,
    over: &AtomicBool,
) -> Result<()> {
    let begun = Instant::now();
    for (number, record) in records.iter().enumerate() {
        if rate > 0 {
            let due = Duration::from_secs_f64(number as f64 / rate as f64);
            while let Some(early) = due.checked_sub(begun.elapsed()).filter(|early| !early.is_zero()) {
                publisher.send()?;
                std::thread::sleep(early.min(Duration::from_millis(50)));
                if over.load(Ordering::SeqCst) {
                    return publisher.close();
                }
            }
        }
        if number % 1_024 == 0 && over.load(Ordering::SeqCst) {
            break;
        }
        publisher.publish(&key(record), record)?;
    }
    publisher.close()
}
