//! nekton-connectors
