//! Checkpoints seen from outside of any job: which there are, what is in them, and whether they are whole. Changes
//! nothing, and may look on while a job runs.
//!
//! ```
//! # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
//! # struct Nothing;
//! # impl connect::Store for Nothing {
//! #     fn put(&self, _: &str, _: bytes::Bytes) -> Result<()> { Ok(()) }
//! #     fn create(&self, _: &str, _: bytes::Bytes) -> Result<bool> { Ok(true) }
//! #     fn get(&self, _: &str) -> Result<Option<bytes::Bytes>> { Ok(None) }
//! #     fn list(&self, _: &str) -> Result<Vec<String>> { Ok(Vec::new()) }
//! #     fn delete(&self, _: &str) -> Result<()> { Ok(()) }
//! #     fn describe(&self) -> String { "nothing".to_owned() }
//! # }
//! # let store = Nothing;
//! use nekton_engine::checkpoints;
//!
//! // `store` is empty:
//! assert!(checkpoints::jobs(&store)?.is_empty());
//! assert!(checkpoints::list(&store, "house")?.is_empty());
//! # Ok::<(), Error>(())
//! ```

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::IgnoredAny;

use crate::connect::{PartitionId, Position, Store};
use crate::durable::snapshot::{each_segment, one};
use crate::durable::{Manifest, Part, damaged, numbers, read_manifest};
use crate::error::{Kind, Result};
use crate::time::Time;

/// A checkpoint of a job.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its number; a restart goes on from the greatest.
    pub number: u64,
    /// What is in it: `None` if a job that had none has been started then. An error if its manifest is damaged.
    pub contents: Result<Option<Contents>>,
}

/// What is in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// All times before it are contained.
    pub time: Time,
    /// Its roots, by name.
    pub roots: Vec<Root>,
    /// The last record that was read of each partition of each source.
    pub positions: Vec<Read>,
    /// The topics that are written.
    pub sinks: Vec<String>,
}

impl Contents {
    /// The bytes of all objects that it needs; some may be shared with other checkpoints.
    pub fn bytes(&self) -> u64 {
        self.roots.iter().flat_map(|root| &root.objects).map(|object| object.bytes).sum()
    }
}

/// A root in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Root {
    /// Its name.
    pub name: String,
    /// The objects that hold its segments.
    pub objects: Vec<Object>,
}

/// An object of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Its name in the store.
    pub name: String,
    /// How many segments are used of it.
    pub segments: usize,
    /// Its size.
    pub bytes: u64,
}

/// How far a partition has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Read {
    /// The source's name.
    pub topic: String,
    /// The partition's number.
    pub partition: PartitionId,
    /// The last record that was read.
    pub position: Position,
}

impl From<Manifest> for Contents {
    fn from(manifest: Manifest) -> Self {
        let object =
            |part: Part| Object { name: part.object, segments: part.segments.len(), bytes: part.bytes };
        let root =
            |(name, parts): (_, Vec<_>)| Root { name, objects: parts.into_iter().map(object).collect() };
        let read = |(topic, partition, position)| Read { topic, partition, position };
        Contents {
            time: manifest.time,
            roots: manifest.roots.into_iter().map(root).collect(),
            positions: manifest.positions.into_iter().map(read).collect(),
            sinks: manifest.sinks,
        }
    }
}

/// The jobs that have checkpoints in a store.
///
/// # Errors
/// If the store cannot be read.
pub fn jobs(store: &dyn Store) -> Result<Vec<String>> {
    let names = store.list("")?;
    let first = names.iter().filter_map(|name| name.split('/').next()).filter(|name| !name.starts_with('.'));
    Ok(first.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect())
}

/// The checkpoints of a job, oldest first; a damaged one is among them, with its error.
///
/// # Errors
/// If the store cannot be read.
pub fn list(store: &dyn Store, job: &str) -> Result<Vec<Checkpoint>> {
    let read = |number| Checkpoint {
        number,
        contents: read_manifest(job, number, store).map(|manifest| manifest.map(Contents::from)),
    };
    Ok(numbers(job, store)?.into_iter().map(read).collect())
}

/// What reading everything has shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Objects that are whole, manifests included.
    pub objects: u64,
    /// The agents in them, each as often as it is stored.
    pub agents: u64,
    /// What is damaged, a sentence each.
    pub damaged: Vec<String>,
}

/// Reads all that a job's checkpoints need, and checks checksums and frames. Whether agents fit a program's
/// types, only the program knows.
///
/// # Errors
/// If the store cannot be read; damage is no error here.
pub fn verify(store: &dyn Store, job: &str) -> Result<Verified> {
    let mut verified = Verified::default();
    let mut objects = BTreeSet::new();
    for checkpoint in list(store, job)? {
        match checkpoint.contents {
            Ok(contents) => {
                verified.objects += 1;
                let of = contents.into_iter().flat_map(|contents| contents.roots);
                objects.extend(of.flat_map(|root| root.objects).map(|object| object.name));
            }
            Err(error) if error.kind() == Kind::Lost => verified.damaged.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    for object in objects {
        let mut agents = 0;
        let read = each_segment(store, &object, |_, mut bytes| {
            while !bytes.is_empty() {
                one::<IgnoredAny>(&mut bytes).map_err(|error| damaged(store, &object, &error.to_string()))?;
                agents += 1;
            }
            Ok(())
        });
        match read {
            Ok(()) => (verified.objects, verified.agents) = (verified.objects + 1, verified.agents + agents),
            Err(error) if error.kind() == Kind::Lost => verified.damaged.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(verified)
}
