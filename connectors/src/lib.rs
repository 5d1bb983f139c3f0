//! Topics for nekton: [files](mod@file).
#![forbid(unsafe_code)]

pub mod file;
