//! What tests on a real broker share.
#![allow(dead_code)]

pub mod broker;
pub mod s3;
pub mod sums;
pub mod topics;
