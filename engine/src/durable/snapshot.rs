//! The snapshot of a root on one worker: its state before a time, copied piece by piece while the root
//! goes on. Agents that are about to change are copied first.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use rmp_serde::decode::Error as DecodeError;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use timely::dataflow::operators::Capability;

use super::commit::Report;
use super::compact::Places;
use super::{CHECKSUM, Durable, Manifest, Part, damaged, part_name, sealed, unsealed};
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
    /// Segments that are still to be copied.
    todo: VecDeque<usize>,
    /// Segments with their agents.
    copies: Vec<(u16, Vec<u8>)>,
}

impl Snapshot {
    /// Of these segments.
    pub(crate) fn new(time: Time, capability: Capability<Time>, todo: VecDeque<usize>) -> Self {
        Snapshot { time, capability, todo, copies: Vec::new() }
    }

    /// The next segment that is to be copied.
    pub(crate) fn next(&self) -> Option<usize> {
        self.todo.front().copied()
    }

    /// Puts the copy of that segment in.
    pub(crate) fn put(&mut self, copy: Vec<u8>) {
        let segment = self.todo.pop_front();
        self.copies.extend(segment.map(|segment| (segment as u16, copy)));
    }
}

/// In front of a stored segment: its number and the size of its agents.
const HEAD: usize = 2 + 8;

/// The size of segments as they are stored.
fn size(copies: &[(u16, Vec<u8>)]) -> u64 {
    copies.iter().map(|(_, copy)| (HEAD + copy.len()) as u64).sum()
}

/// Segments as they are stored, one behind the other.
fn content(copies: Vec<(u16, Vec<u8>)>) -> Vec<u8> {
    let mut content = Vec::with_capacity(size(&copies) as usize + CHECKSUM);
    for (segment, copy) in copies {
        content.extend_from_slice(&segment.to_le_bytes());
        content.extend_from_slice(&(copy.len() as u64).to_le_bytes());
        content.extend_from_slice(&copy);
    }
    content
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
        places: &mut Places,
        waker: Waker,
    ) {
        let Snapshot { time, capability, copies, .. } = snapshot;
        let outcome = Arc::new(Mutex::new(None));
        let mut part = None;
        if copies.is_empty() {
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(Ok(()));
        } else {
            let object = part_name(&durable.job, time, durable.plan.number, worker, root);
            let segments = copies.iter().map(|(segment, _)| *segment).collect();
            let number = places.object();
            for (segment, copy) in &copies {
                places.put(usize::from(*segment), number, copy.len() as u64);
            }
            part = Some(Part { object: object.clone(), segments, bytes: size(&copies) + CHECKSUM as u64 });
            let (outcome, of) = (outcome.clone(), durable.clone());
            durable.io.run(move || {
                let stored = of.store.put(&object, sealed(content(copies)));
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

/// An agent as it is stored: its key, state and timer, with the names of fields; and where it has read a collection, the
/// digest of that, which is 0 otherwise.
pub(crate) fn encode<A: Agent>(
    key: &A::Key,
    state: &A,
    timer: Option<Time>,
    digest: u64,
    into: &mut Vec<u8>,
) {
    // Nothing but a program's own Serialize can fail here; its agents cannot be kept then.
    let written = match digest {
        0 => rmp_serde::encode::write_named(into, &(key, state, timer)),
        _ => rmp_serde::encode::write_named(into, &(key, state, timer, digest)),
    };
    if let Err(error) = written {
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
    places: &mut Places,
    mut agent: impl FnMut(usize, Stored<A::Key, A>),
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
        let number = places.object();
        each_segment(store, &part.object, |segment, agents| {
            if !mine(&segment) {
                return Ok(());
            }
            // A newer part may hold this segment.
            if !part.segments.contains(&segment) {
                places.outdated(number, agents.len() as u64);
                return Ok(());
            }
            places.put(usize::from(segment), number, agents.len() as u64);
            for read in agents_in::<A::Key, A>(agents) {
                let stored = read.map_err(|error| misfit(&error.to_string()))?;
                // Another type may be read from the same bytes, and then belong elsewhere.
                if Segment::of(fixed_hash(&stored.key)).index() != usize::from(segment) {
                    return Err(misfit("the type of its key was another one"));
                }
                agent(usize::from(segment), stored);
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
        let (head, rest) = content.split_first_chunk::<HEAD>().ok_or_else(|| lost("it is too short"))?;
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

/// An agent of a checkpoint.
#[derive(Debug, PartialEq)]
pub(crate) struct Stored<K, A> {
    pub(crate) key: K,
    pub(crate) state: A,
    pub(crate) timer: Option<Time>,
    /// Of what it has read last; 0 for nothing.
    pub(crate) digest: u64,
}

/// The agents that stand one behind the other in bytes.
///
/// They are read where they stand. From a reader, the name of every field would be copied before it is looked at, which
/// takes longer than all the rest.
pub(crate) fn agents_in<K: DeserializeOwned, A: DeserializeOwned>(
    bytes: &[u8],
) -> impl Iterator<Item = Result<Stored<K, A>, DecodeError>> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    std::iter::from_fn(move || {
        let mut begun = false;
        match decoder.deserialize_tuple(4, Whole { begun: &mut begun, of: PhantomData }) {
            Err(DecodeError::InvalidMarkerRead(error))
                if !begun && error.kind() == ErrorKind::UnexpectedEof =>
            {
                None
            }
            read => Some(read),
        }
    })
}

/// Reads an agent, and notes that it has begun: where the bytes end within one, that is an error.
struct Whole<'b, K, A> {
    begun: &'b mut bool,
    of: PhantomData<(K, A)>,
}

impl<'de, K: Deserialize<'de>, A: Deserialize<'de>> Visitor<'de> for Whole<'_, K, A> {
    type Value = Stored<K, A>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an agent: its key, state and timer")
    }
    fn visit_seq<S: SeqAccess<'de>>(self, mut values: S) -> Result<Stored<K, A>, S::Error> {
        *self.begun = true;
        let key = values.next_element()?.ok_or_else(|| S::Error::invalid_length(0, &"a key"))?;
        let state = values.next_element()?.ok_or_else(|| S::Error::invalid_length(1, &"a state"))?;
        let timer = values.next_element()?.ok_or_else(|| S::Error::invalid_length(2, &"a timer"))?;
        let digest = values.next_element()?.unwrap_or(0);
        Ok(Stored { key, state, timer, digest })
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Meter {
        value: u32,
        note: Option<String>,
    }

    type Meters = Vec<Stored<String, Meter>>;

    fn written() -> (Meters, Vec<usize>, Vec<u8>) {
        let (mut meters, mut ends, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for value in 0..3_u32 {
            let note = (value > 0).then(|| "n".repeat(40 * value as usize));
            let (key, state) = (format!("meter {value}"), Meter { value, note });
            let (timer, digest) = ((value > 1).then_some(7), u64::from(value == 1) * 17);
            match digest {
                0 => rmp_serde::encode::write_named(&mut bytes, &(&key, &state, timer)).unwrap(),
                _ => rmp_serde::encode::write_named(&mut bytes, &(&key, &state, timer, digest)).unwrap(),
            }
            meters.push(Stored { key, state, timer, digest });
            ends.push(bytes.len());
        }
        (meters, ends, bytes)
    }

    #[test]
    fn agents_are_read_as_they_were_written() {
        let (meters, _, bytes) = written();
        let read: Result<Vec<_>, _> = agents_in::<String, Meter>(&bytes).collect();
        assert_eq!(read.unwrap(), meters);
        assert!(agents_in::<String, Meter>(&[]).next().is_none());
    }

    #[test]
    fn bytes_that_end_within_an_agent_are_an_error() {
        let (_, ends, bytes) = written();
        for end in 0..=bytes.len() {
            let whole = end == 0 || ends.contains(&end);
            let first_error = agents_in::<String, Meter>(&bytes[..end]).find_map(Result::err);
            assert_eq!(first_error.is_none(), whole, "cut at {end} of {}: {first_error:?}", bytes.len());
        }
    }
}
