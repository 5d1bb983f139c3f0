//! Whether a program can go on from a checkpoint: found out before anything is opened for writing or taken over.

use std::fmt;

use super::compact::Places;
use super::shape::Shape;
use super::snapshot::restore;
use super::{Manifest, manifest_name, newest};
use crate::agents::Agent;
use crate::connect::Store;
use crate::error::{Error, Kind, Result};
use crate::time::Time;

/// A root of a program: its name, and how its state is read.
pub(crate) struct Root {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    /// Reads all of its agents, and counts them.
    read: fn(&str, &Manifest, &dyn Store) -> Result<u64>,
}

impl Root {
    pub(crate) fn of<A: Agent>(name: &str) -> Self {
        let read = |name: &str, manifest: &Manifest, store: &dyn Store| {
            let mut count = 0;
            restore::<A>(name, manifest, store, (0, 1), &mut Places::new(), |_, _| count += 1)?;
            Ok(count)
        };
        Root { name: name.to_owned(), shape: Shape::of::<A::Key, A>(), read }
    }
}

/// What a program has: found out by building it once, without running it.
#[derive(Default)]
pub(crate) struct Built {
    pub(crate) roots: Vec<Root>,
    pub(crate) sinks: Vec<String>,
}

/// What would happen to a root or a sink of a job that is started now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outlook {
    /// A root takes its state over; `agents` where they have been counted.
    GoesOn {
        /// The root's name.
        root: String,
        /// How many agents it has in the checkpoint.
        agents: Option<u64>,
        /// What has changed in its types, in words.
        changes: Vec<String>,
    },
    /// A root is not in the checkpoint, and begins without agents.
    NewRoot(String),
    /// The checkpoint has a root that the program has not: its state is left out.
    GoneRoot(String),
    /// A topic was not written before: it begins with a complete snapshot.
    NewSink(String),
    /// A topic is not written any more.
    GoneSink(String),
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outlook::GoesOn { root, agents, changes } => {
                write!(f, "root {root:?} goes on")?;
                if let Some(agents) = agents {
                    write!(f, " with {agents} agents")?;
                }
                if !changes.is_empty() {
                    write!(f, "; {}", changes.join(", "))?;
                }
                Ok(())
            }
            Outlook::NewRoot(root) => write!(f, "root {root:?} is new and begins without agents"),
            Outlook::GoneRoot(root) => {
                write!(
                    f,
                    "root {root:?} is not in the program any more: its state is left out of the next checkpoint"
                )
            }
            Outlook::NewSink(topic) => {
                write!(f, "topic {topic:?} was not written before and begins with a complete snapshot")
            }
            Outlook::GoneSink(topic) => write!(f, "topic {topic:?} is not written any more"),
        }
    }
}

/// What `nekton check` finds out of a job that would be started now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The number and time of the checkpoint that it would go on from; `None` if it would begin anew.
    pub checkpoint: Option<(u64, Time)>,
    /// What would happen to its roots and sinks.
    pub outlook: Vec<Outlook>,
}

/// Checks a program against the newest checkpoint. Roots whose types are as they were are read only if `all`.
///
/// # Errors
/// If a root's state cannot be read as what it is now, or is damaged.
pub(crate) fn check(job: &str, store: &dyn Store, built: &Built, all: bool) -> Result<Checked> {
    let mut outlook = Vec::new();
    let Some((number, manifest)) = newest(job, store)? else {
        return Ok(Checked { checkpoint: None, outlook });
    };
    for root in &built.roots {
        let name = root.name.clone();
        if !manifest.roots.contains_key(&name) {
            outlook.push(Outlook::NewRoot(name));
            continue;
        }
        let was = manifest.shapes.get(&name);
        let same = was.is_some_and(|was| root.shape.is(was));
        let changes = was.map(|was| root.shape.changes_since(was)).unwrap_or_default();
        let agents = match same && !all {
            true => None,
            false => Some((root.read)(&name, &manifest, store).map_err(|error| match error.kind() {
                Kind::Config => refused(job, number, &name, &changes, &error, store),
                _ => error,
            })?),
        };
        outlook.push(Outlook::GoesOn { root: name, agents, changes });
    }
    let gone = manifest.roots.keys().filter(|name| built.roots.iter().all(|root| root.name != **name));
    outlook.extend(gone.map(|name| Outlook::GoneRoot(name.clone())));
    let new = built.sinks.iter().filter(|topic| !manifest.sinks.contains(topic));
    outlook.extend(new.map(|topic| Outlook::NewSink(topic.clone())));
    let gone = manifest.sinks.iter().filter(|topic| !built.sinks.contains(topic));
    outlook.extend(gone.map(|topic| Outlook::GoneSink(topic.clone())));
    Ok(Checked { checkpoint: Some((number, manifest.time)), outlook })
}

fn refused(
    job: &str,
    number: u64,
    root: &str,
    changes: &[String],
    error: &Error,
    store: &dyn Store,
) -> Error {
    let changes = if changes.is_empty() { String::new() } else { format!(" ({})", changes.join(", ")) };
    let place = format!("{}/{}", store.describe(), manifest_name(job, number));
    let hint = "Nothing has been started. Give a new field #[serde(default)], give the root another name to begin \
                anew with it, or go back to the program as it was";
    Error::config(format!(
        "the root {root:?} has changed and cannot take over its state from checkpoint {number} ({place}): {error}{changes}. {hint}"
    ))
}
