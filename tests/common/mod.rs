//! What tests share.
#![allow(dead_code)]

pub mod broker;
pub mod example;
pub mod fed;
pub mod files;
pub mod job;
pub mod lines;
pub mod processes;
pub mod program;
pub mod s3;
pub mod sums;
pub mod topics;
