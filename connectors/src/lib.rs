//! Topics for nekton: [files](mod@file) and [Apache Pulsar](pulsar).
#![forbid(unsafe_code)]

pub mod file;
#[cfg(feature = "object")]
pub mod object;
#[cfg(feature = "pulsar")]
pub mod pulsar;
