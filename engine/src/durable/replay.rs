//! A stretch of the past that is to be replayed: from a checkpoint on, with the bindings that a job has kept, and
//! without taking anything from the job, which may be running.

use crate::connect::{Store, Topics};
use crate::error::{Error, Kind, Result};
use crate::time::Time;

use super::{Manifest, Plan, damaged, manifest_name, numbers, parse, read_manifest};

/// The checkpoint with which a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// The oldest one that is kept.
    Earliest,
    /// The newest one.
    Latest,
    /// The one of this number.
    Number(u64),
    /// The newest one that contains nothing from this time on.
    Time(Time),
}

/// Finds out what there is to replay. `now` is the present time.
pub(crate) fn plan(
    job: &str,
    store: &dyn Store,
    topics: &dyn Topics,
    from: Checkpoint,
    until: Option<Time>,
    now: Time,
) -> Result<Plan> {
    let (number, manifest) = find(job, store, from)?;
    let begins = manifest.time;
    if let Some(until) = until.filter(|until| *until < begins) {
        return Err(Error::config(format!(
            "--until {until} is before the checkpoint {number}, which is as of {begins}: begin with an older one, or end later"
        )));
    }
    let mut bindings = parse(job, &topics.read_log(job)?)?;
    if bindings.iter().any(|binding| binding.void && binding.time >= begins) {
        return Err(Error::new(
            Kind::Lost,
            format!(
                "job {job:?} has run with --delivery at-least-once since checkpoint {number}: which records had which time is not known. \
                 Begin with a newer checkpoint"
            ),
        ));
    }
    bindings.retain(|binding| !binding.bounds.is_empty());
    // A job lets go of bindings after it has deleted the checkpoint that needs them.
    let name = manifest_name(job, number);
    if store.get(&name)?.is_none() {
        return Err(damaged(store, &name, "the job has just deleted it, as newer ones have come"));
    }
    let last = bindings.iter().map(|binding| binding.time).max();
    // What timers would do in the future, nobody has done yet.
    let until = until.map_or(last, |until| Some(until.min(now))).unwrap_or(begins).max(begins);
    bindings.retain(|binding| (begins..=until).contains(&binding.time));
    Ok(Plan { number, manifest: Some(manifest), bindings, replay_until: Some(until), ..Plan::default() })
}

/// The checkpoint that is meant.
fn find(job: &str, store: &dyn Store, from: Checkpoint) -> Result<(u64, Manifest)> {
    let mut found = Vec::new();
    for number in numbers(job, store)? {
        // One that is deleted meanwhile, or damaged, may be none that is meant.
        match read_manifest(job, number, store) {
            Ok(manifest) => found.extend(manifest.map(|manifest| (number, manifest))),
            Err(error) if from == Checkpoint::Number(number) => return Err(error),
            Err(error) => tracing::warn!(%error, "a checkpoint"),
        }
    }
    let known: Vec<_> = found.iter().map(|(number, of)| format!("{number} (as of {})", of.time)).collect();
    let meant = match from {
        Checkpoint::Earliest => found.into_iter().next(),
        Checkpoint::Latest => found.into_iter().next_back(),
        Checkpoint::Number(number) => found.into_iter().find(|(of, _)| *of == number),
        Checkpoint::Time(time) => found.into_iter().rfind(|(_, manifest)| manifest.time <= time),
    };
    meant.ok_or_else(|| {
        let what = match from {
            Checkpoint::Earliest | Checkpoint::Latest => "no checkpoint".to_owned(),
            Checkpoint::Number(number) => format!("no checkpoint {number}"),
            Checkpoint::Time(time) => format!("no checkpoint of time {time} or before"),
        };
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let hint = "Choose one of these, or keep more with --checkpoints-kept";
        let store = store.describe();
        Error::new(Kind::Missing, format!("job {job:?} has {what} in {store}. There are: {known}. {hint}"))
    })
}
