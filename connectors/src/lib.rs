//! Topics for nekton: [files](file).
#![forbid(unsafe_code)]

pub mod file;
