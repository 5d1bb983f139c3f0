//! nekton turns event streams into a living graph: a stateful agent for every source in the data, collections
//! over the agents that are maintained incrementally and are right at every time, and changes that leave on topics.
//!
//! A program is an ordinary binary:
//!
//! ```no_run
//! use nekton::prelude::*;
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Reading { vehicle: u64, depot: String, engine_temp: i64 }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Vehicle { depot: String, engine_temp: i64 }
//!
//! impl Agent for Vehicle {
//!     type Key = u64;
//!     type Event = Reading;
//!     type View = (String, i64);
//!     type Emit = ();
//!     fn create(_vehicle: &u64) -> Self { Vehicle::default() }
//!     fn on_event(&mut self, reading: &Reading, _context: &mut Context<'_, Self>) {
//!         self.depot = reading.depot.clone();
//!         self.engine_temp = reading.engine_temp;
//!     }
//!     fn view(&self) -> Option<(String, i64)> { Some((self.depot.clone(), self.engine_temp)) }
//! }
//!
//! fn main() -> nekton::Result<()> {
//!     nekton::run("fleet", |flow| {
//!         let telemetry = flow.events::<Reading>("telemetry");
//!         let vehicles = telemetry.agents::<Vehicle>("vehicles", |reading| reading.vehicle);
//!         let hot = vehicles.filter(|(_, (_, temp))| *temp > 110);
//!         let by_depot = hot.map(|(_, (depot, _))| depot).count();
//!         flow.sink("hot-by-depot", &by_depot);
//!         flow.view("vehicles", &vehicles);
//!     })
//! }
//! ```
#![forbid(unsafe_code)]

mod access;
mod cluster;
mod commands;
mod config;
mod pseudonyms;
mod publish;
pub mod read;
mod runner;
pub mod sandbox;
mod screens;
mod secret;
pub mod topics;

pub use config::parse;
pub use nekton_engine::*;
pub use pseudonyms::pseudonyms;
pub use publish::Publisher;
pub use runner::{Runner, run, say};
pub use {differential_dataflow, nekton_engine as engine, nekton_operators as operators, timely};

/// The README and the book: their programs are compiled and run with the examples of the documentation.
#[cfg(doctest)]
mod pages {
    macro_rules! pages {
        ($($name:ident: $page:literal),* $(,)?) => {
            $(#[doc = include_str!(concat!("../", $page))] mod $name {})*
        };
    }
    pages! {
        readme: "README.md",
        introduction: "docs/introduction.md",
        first_program: "docs/first-program.md",
        topics: "docs/topics.md",
        files: "docs/topics/files.md",
        envelopes: "docs/topics/envelopes.md",
        formats: "docs/topics/formats.md",
        bad_input: "docs/topics/bad-input.md",
        events: "docs/events.md",
        agents: "docs/agents.md",
        collections: "docs/collections.md",
        operators: "docs/operators.md",
        learning: "docs/learning.md",
        time: "docs/time.md",
        running: "docs/running.md",
        screens: "docs/screens.md",
        warp: "docs/warp.md",
        consistent_reading: "docs/consistent-reading.md",
        pulsar: "docs/pulsar.md",
        sandbox: "docs/sandbox.md",
        thinking: "docs/thinking.md",
        flights: "docs/flights.md",
        payments: "docs/payments.md",
        flights_prediction: "docs/flights-prediction.md",
    }
}

/// What most programs need.
pub mod prelude {
    pub use crate::{
        Agent, Agents, Chart, Context, Events, Flow, Map, Reads, Runner, Time, View, changes, diffs, keyed,
        upsert,
    };
    pub use nekton_operators::learn::{
        Learner, LeastSquares, Logistic, Outcome, Predictions, Rules, Scaled, Scoreboards, Scored,
    };
    pub use nekton_operators::{
        AggregateAll, AggregateKeys, BottomK, Bounds, Capture, Correlation, Count, Decimal, Deduplicate,
        Deduplicated, Distinct, EventTime, Graph, Histogram, Lengths, Links, Lookup, Max, Mean, Min,
        OrderedFloat, PageRank, Position, Proximity, Quantiles, Retain, Retention, Routing, Sessions, Split,
        Sum, TopK, Variance, Watermark, Window, Windows, correlated, mask, of, sharing, sharing_at_least,
    };
    pub use serde::{Deserialize, Serialize};
}
