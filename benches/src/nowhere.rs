//! No topics at all.

use std::sync::Arc;

use nekton::connect::{Sink, SinkSettings, Source, Topics};
use nekton::{Error, Result};

/// No topics: the input is a feed, and the output stays in memory.
pub struct Nowhere;

impl Topics for Nowhere {
    fn source(&self, name: &str) -> Result<Arc<dyn Source>> {
        Err(Error::config(format!("no topic {name}")))
    }
    fn sink(&self, name: &str, _settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        Err(Error::config(format!("no topic {name}")))
    }
}
