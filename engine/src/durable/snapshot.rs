//! The snapshot of a root on one worker: its state before a time, copied segment by segment while the root
//! goes on. A segment that is about to change is copied first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use timely::dataflow::operators::Capability;

use super::commit::Report;
use super::{Durable, Manifest, Part, damaged, part_name, sealed, unsealed};
use crate::agents::Agent;
use crate::connect::{Store, Waker};
use crate::error::{Error, Kind, Result};
use crate::hash::{SEGMENTS, Segment, fixed_hash};
use crate::time::Time;

/// What is being copied.
pub(crate) struct Snapshot {
    pub(crate) time: Time,
    /// For the report.
    capability: Capability<Time>,
    /// By segment: still to be copied.
    todo: Vec<bool>,
    left: usize,
    next: usize,
    segments: Vec<u16>,
    content: Vec<u8>,
}

impl Snapshot {
    /// Copies what is `dirty`, and makes it clean.
    pub(crate) fn new(time: Time, capability: Capability<Time>, dirty: &mut [bool]) -> Self {
        let todo = dirty.to_vec();
        dirty.fill(false);
        let left = todo.iter().filter(|dirty| **dirty).count();
        Snapshot { time, capability, todo, left, next: 0, segments: Vec::new(), content: Vec::new() }
    }

    pub(crate) fn wants(&self, segment: usize) -> bool {
        self.todo[segment]
    }

    /// The next segment that is to be copied.
    pub(crate) fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        while !self.todo[self.next] {
            self.next += 1;
        }
        Some(self.next)
    }

    /// Copies a segment, as `encode` writes it.
    pub(crate) fn copy(&mut self, segment: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        self.todo[segment] = false;
        self.left -= 1;
        self.segments.push(segment as u16);
        let at = self.content.len();
        self.content.extend_from_slice(&[0; 10]);
        encode(&mut self.content);
        let size = (self.content.len() - at - 10) as u64;
        self.content[at..at + 2].copy_from_slice(&(segment as u16).to_le_bytes());
        self.content[at + 2..at + 10].copy_from_slice(&size.to_le_bytes());
    }
}

/// Snapshots that are on their way to the store.
#[derive(Default)]
pub(crate) struct Storing(VecDeque<(Capability<Time>, Report, Arc<Mutex<Option<Result<()>>>>)>);

impl Storing {
    /// Stores a snapshot that is complete; calls `waker` when it is there.
    pub(crate) fn store(
        &mut self,
        snapshot: Snapshot,
        root: &str,
        worker: usize,
        durable: &Arc<Durable>,
        waker: Waker,
    ) {
        let Snapshot { time, capability, segments, content, .. } = snapshot;
        let outcome = Arc::new(Mutex::new(None));
        let mut part = None;
        if segments.is_empty() {
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(Ok(()));
        } else {
            let object = part_name(&durable.job, time, durable.plan.number, worker, root);
            let bytes = content.len() as u64 + 8;
            part = Some(Part { object: object.clone(), segments, bytes });
            let (outcome, of) = (outcome.clone(), durable.clone());
            durable.io.run(move || {
                let stored = of.store.put(&object, sealed(content));
                *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(stored);
                waker();
            });
        }
        self.0.push_back((capability, Report { time, root: root.to_owned(), part }, outcome));
    }

    /// The next report of one that is stored.
    pub(crate) fn next(&mut self) -> Option<Result<(Capability<Time>, Report)>> {
        let outcome = self.0.front()?.2.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (capability, report, _) = self.0.pop_front()?;
        Some(outcome.map(|()| (capability, report)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An agent as it is stored: its key, state and timer, with the names of fields.
pub(crate) fn encode<A: Agent>(key: &A::Key, state: &A, timer: Option<Time>, into: &mut Vec<u8>) {
    // Nothing but a program's own Serialize can fail here; its agents cannot be kept then.
    if let Err(error) = rmp_serde::encode::write_named(into, &(key, state, timer)) {
        panic!("the agent {key:?} cannot be written into a checkpoint: {error}");
    }
}

/// The agents of a root in the segments of one worker, from a checkpoint.
///
/// # Errors
/// [`Kind::Lost`] if an object is damaged, [`Kind::Config`] if the agents do not fit their types any more.
pub(crate) fn restore<A: Agent>(
    root: &str,
    manifest: &Manifest,
    store: &dyn Store,
    (worker, peers): (usize, usize),
    mut agent: impl FnMut(usize, A::Key, A, Option<Time>),
) -> Result<()> {
    for part in manifest.roots.get(root).into_iter().flatten() {
        let mine = |segment: &u16| Segment::number(*segment).worker(peers) == worker;
        if !part.segments.iter().any(mine) {
            continue;
        }
        let misfit = |why: &str| {
            let hint = "give new fields #[serde(default)], or give the root a new name to begin anew";
            let why = format!("an agent of {root:?} does not fit its type any more: {why}; {hint}");
            Error::new(Kind::Config, why)
        };
        each_segment(store, &part.object, |segment, mut agents| {
            // A newer part may hold this segment.
            if !(part.segments.contains(&segment) && mine(&segment)) {
                return Ok(());
            }
            while !agents.is_empty() {
                let (key, state, timer) = one::<(A::Key, A, Option<Time>)>(&mut agents)
                    .map_err(|error| misfit(&error.to_string()))?;
                // Another type may be read from the same bytes, and then belong elsewhere.
                if Segment::of(fixed_hash(&key)).index() != usize::from(segment) {
                    return Err(misfit("the type of its key was another one"));
                }
                agent(usize::from(segment), key, state, timer);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Reads an object that holds segments, and hands over each with its agents as bytes.
pub(crate) fn each_segment(
    store: &dyn Store,
    object: &str,
    mut each: impl FnMut(u16, &[u8]) -> Result<()>,
) -> Result<()> {
    let lost = |why: &str| damaged(store, object, why);
    let bytes = store.get(object)?.ok_or_else(|| lost("it is gone"))?;
    let mut content = unsealed(&bytes).ok_or_else(|| lost("its checksum is wrong"))?;
    while !content.is_empty() {
        let (head, rest) = content.split_first_chunk::<10>().ok_or_else(|| lost("it is too short"))?;
        let segment = u16::from_le_bytes([head[0], head[1]]);
        let size = u64::from_le_bytes(head[2..].try_into().map_err(|_| lost("it is too short"))?);
        if size > rest.len() as u64 || usize::from(segment) >= SEGMENTS {
            return Err(lost("it is too short"));
        }
        let (agents, rest) = rest.split_at(size as usize);
        content = rest;
        each(segment, agents)?;
    }
    Ok(())
}

/// Takes one value off the front of bytes.
pub(crate) fn one<T: DeserializeOwned>(from: &mut &[u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::decode::from_read(from)
}
