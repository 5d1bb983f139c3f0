//! nekton
