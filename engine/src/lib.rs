//! The engine of nekton: events from topics, stateful agents, collections over them, changes to topics.
//!
//! The way of the data is the order of the modules: a connector ([`connect`]) is read by a source at
//! the worker's pace, as [events]; roots ([agents], tables) turn events into differential collections;
//! sinks and views take what changed. Everything here runs in ordinary timely dataflows; see
//! [`Flow`] for what a program builds and [`run`](fn@run) for how it is run.
#![forbid(unsafe_code)]

pub mod agents;
mod cells;
mod cluster;
pub mod connect;
mod dead_letter;
mod error;
pub mod events;
mod flow;
pub mod hash;
mod job;
mod observe;
mod pace;
mod run;
mod script;
mod sink;
mod source;
mod table;
mod time;
mod topic;
mod view;

pub use agents::{Agent, Agents, Context};
pub use dead_letter::DeadLetter;
pub use error::{Error, Kind, Result};
pub use events::{Block, Event, Events, Order};
pub use flow::{Collect, Flow, json};
pub use job::{Counters, JobConfig, OnBadInput, Stop, Summary};
pub use pace::MAX_IN_FLIGHT;
pub use run::run;
pub use script::Script;
pub use sink::{Changes, Diffs, Keyed, Output, Upsert, changes, diffs, keyed, upsert};
pub use source::{Feed, Reading};
pub use table::Row;
pub use time::Time;
pub use view::{Snapshot, View};
