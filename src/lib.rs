//! nekton turns event streams into a living graph of agents.

pub use nekton_engine::*;
pub use {differential_dataflow, nekton_engine as engine, timely};
