//! The engine of nekton.
#![forbid(unsafe_code)]

pub mod connect;
mod error;
pub mod time;

pub use error::{Error, Kind, Result};
