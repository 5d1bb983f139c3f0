// What stands behind the examples in the documentation, in their hidden lines: topics in memory, a
// job that runs until its inputs end, and events at given times.

mod memory {
    include!("memory.rs");
}
pub use memory::Memory;
pub use nekton_engine::connect;
pub use nekton_engine::connect::Position;
pub use nekton_engine::*;
pub use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Runs a job over topics with these lines; gives back all topics as they are at its end.
pub fn job<F>(inputs: &[(&str, &[&str])], program: F) -> Memory
where
    F: for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
{
    let topics = Memory::default();
    for (name, lines) in inputs {
        topics.publish(name, lines);
    }
    let config = JobConfig { until_end: true, ..JobConfig::new("example") };
    // One type for all examples (and for their feeds, below): a job is compiled once for all of them.
    let program: Box<dyn for<'s> Fn(&mut Flow<'s>) + Send + Sync> = Box::new(program);
    run(config, Arc::new(topics.clone()), program).expect("the job runs to its end");
    topics
}

/// The events of each time, of one partition.
pub fn at<'s, E: Event, const N: usize>(flow: &mut Flow<'s>, times: [(Time, Vec<E>); N]) -> Events<'s, E> {
    let mut entry = 0;
    let times = times.map(|(time, events)| {
        let order = Order { source: 0, partition: 0, position: Position { entry, ..Position::default() } };
        entry += events.len() as u64;
        (time, vec![Block { order, events }])
    });
    let script = Script::new(times);
    let feed: Box<dyn FnOnce(usize, usize, connect::Waker) -> Script<E>> = Box::new(|_, _, _| script);
    flow.feed("events", feed)
}

/// A sensor that remembers the last temperature; its events are (sensor, celsius).
#[derive(Serialize, Deserialize)]
pub struct Sensor {
    celsius: i64,
}

impl Agent for Sensor {
    type Key = u64;
    type Event = (u64, i64);
    type View = i64;
    type Emit = String;
    fn create(_sensor: &u64) -> Self {
        Sensor { celsius: 0 }
    }
    fn on_event(&mut self, &(sensor, celsius): &(u64, i64), context: &mut Context<'_, Self>) {
        if celsius > 100 {
            context.emit(format!("{sensor} boils"));
        }
        self.celsius = celsius;
    }
    fn view(&self) -> Option<i64> {
        Some(self.celsius)
    }
}
