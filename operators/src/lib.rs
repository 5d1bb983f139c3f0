//! nekton-operators
