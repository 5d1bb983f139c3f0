//! WARP, the protocol of SwimOS: its clients see views as lanes of nodes, and send commands.
//!
//! `envelope`, `place`: what clients say, and of which lanes. `kept`, `lanes`: what these show, for the hub. `meta`: what a job says of
//! itself. `commands`: what agents are told, on its way to a topic. `session`: one client, as a state machine without
//! a socket; `serve`: the socket.

mod commands;
mod envelope;
mod kept;
mod lanes;
mod meta;
mod place;
mod serve;
mod session;

pub use commands::{Commands, Told};
pub(crate) use commands::{Teller, commands};
pub(crate) use kept::Kept;
pub(crate) use lanes::{Ask, Lanes, Parcel};
pub(crate) use meta::Job;
pub(crate) use serve::{Shared, asked, protocol, serve};
