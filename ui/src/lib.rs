//! Live screens of a job: a page, its views over HTTP and WebSocket, metrics. The only crate that knows HTTP.
//!
//! The way of a change: a [view](nekton_engine::Watched) closes a time, and keeps what changed while somebody watches it.
//! The `hub`, a thread, takes that from all watched views as of one time, into `feed`s: what one view shows through
//! one filter. What changed in a feed is written once, and given to all clients of it as a frame; a slow client gets a
//! snapshot instead of what it has missed. The `server`, another thread, speaks with them: `socket` (WebSocket), `stream`
//! (server-sent events), `routes` (everything else).
//!
//! The dataflow gives a copy of each changed record of the views that are watched, and takes nothing in. Its workers never
//! wait for these threads.
//!
//! ```
//! use nekton_engine::JobConfig;
//! use nekton_ui::{About, Listen, Screens};
//!
//! let config = JobConfig::new("house");
//! let screens = Screens::open(Listen::Default, None, About::job("house"), config.live.clone())?;
//! println!("look at {}", screens.as_ref().map_or("nothing", Screens::url));
//! // run(config, ..) runs; the page goes with `screens`.
//! # Ok::<(), nekton_engine::Error>(())
//! ```
#![forbid(unsafe_code)]
// Of this crate's modules, `changes`, `drawing`, `feed`, `filter`, `guard` and `record` are pure: they know no socket, thread or clock.

mod assets;
mod changes;
mod drawing;
mod feed;
mod filter;
mod graph;
mod guard;
mod hub;
mod listen;
mod metrics;
mod query;
mod recon;
mod record;
mod routes;
mod server;
mod socket;
mod stall;
mod stream;
mod table;
mod warp;

pub use listen::Listen;
pub use server::{About, Screens};
pub use warp::{Commands, Told};
