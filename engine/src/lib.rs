//! The engine of nekton: events from topics, stateful agents, collections over them, changes to topics.
//!
//! The way of the data is the order of the modules: a connector ([`connect`]) is read by a source at
//! the worker's pace, as [events]; roots ([agents], tables) turn events into differential collections;
//! sinks and views take what changed. Everything here runs in ordinary timely dataflows; see
//! [`Flow`] for what a program builds and [`run`](fn@run) for how it is run.
//!
//! ```
//! # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
//! /// A sensor; its events are its room and a temperature.
//! #[derive(Default, Serialize, Deserialize)]
//! struct Sensor { room: String, hot: bool }
//!
//! impl Agent for Sensor {
//!     type Key = u64;
//!     type Event = (u64, String, i64);
//!     type View = (String, bool);
//!     type Emit = ();
//!     fn create(_sensor: &u64) -> Self { Sensor::default() }
//!     fn on_event(&mut self, (_, room, celsius): &Self::Event, _context: &mut Context<'_, Self>) {
//!         (self.room, self.hot) = (room.clone(), *celsius > 60);
//!     }
//!     fn view(&self) -> Option<(String, bool)> { Some((self.room.clone(), self.hot)) }
//! }
//!
//! # let reading = |sensor, celsius| (sensor, "kitchen".to_owned(), celsius);
//! # let topics = job(&[], move |flow| {
//! # let times = [(1, vec![reading(7, 21), reading(8, 64)]), (2, vec![reading(7, 64)]), (3, vec![reading(7, 65)])];
//! # let readings = at(flow, times);
//! // In the kitchen: sensors 7 and 8 send 21 and 64 at the time 1; 7 sends 64 at 2, and 65 at 3.
//! let sensors = readings.agents::<Sensor>("sensors", |(sensor, ..)| *sensor);
//! let hot_by_room = sensors.filter(|(_, (_, hot))| *hot).map(|(_, (room, _))| room).count();
//! flow.sink("hot-by-room", &hot_by_room);
//! # });
//! assert_eq!(topics.lines("hot-by-room"), [
//!     r#"{"key":"kitchen","before":null,"after":1,"time":1}"#,
//!     r#"{"key":"kitchen","before":1,"after":2,"time":2}"#, // and nothing at 3
//! ]);
//! ```
#![forbid(unsafe_code)]

pub mod agents;
mod cells;
pub mod checkpoints;
mod cluster;
mod command;
pub mod connect;
pub mod dataflow;
mod dead_letter;
mod durable;
mod error;
pub mod events;
mod fields;
mod flow;
mod gauges;
pub mod hash;
pub mod histogram;
mod job;
mod live;
mod look;
mod machine;
mod observe;
mod pace;
mod run;
mod script;
mod simulator;
mod sink;
mod source;
mod table;
mod time;
mod topic;
mod view;
mod watched;

pub use agents::{Agent, Agents, Context, Reads};
pub use cluster::{Cluster, ClusterTls, Secret};
pub use command::Command;
pub use dataflow::{Dataflow, Part};
pub use dead_letter::DeadLetter;
pub use durable::Checkpoints;
pub use durable::check::{Checked, Outlook};
pub use durable::replay::Checkpoint;
pub use error::{Error, Kind, Result};
pub use events::{Block, Event, Events, Order};
pub use fields::Fields;
pub use flow::{Collect, Flow, json};
pub use job::{Counters, Delivery, JobConfig, Notes, OnBadInput, Stop, Summary};
pub use live::{Counted, Figures, Live};
pub use look::{Chart, Look, MOST_CHARTS, Map};
pub use pace::MAX_IN_FLIGHT;
pub use run::{check, run};
pub use script::Script;
pub use simulator::Simulator;
pub use sink::{Changes, Diffs, Keyed, Output, Upsert, changes, diffs, keyed, upsert};
pub use source::{Feed, Reading};
pub use table::Row;
pub use time::Time;
pub use view::{Snapshot, View};
pub use watched::Watched;
