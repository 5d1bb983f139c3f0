//! Progress marks: "everything of this time and before stands before this mark", between the messages of an output
//! partition. They tell a reader of several partitions, of one topic or more, up to which time all of them are whole.
//!
//! A mark is not part of what a job computes: when one is written depends on the clock, and on a replay others are
//! written than before. What it says is always true, and stays true: new times start behind every mark.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::scheduling::Activator;

use crate::pace::Pace;
use crate::time::Time;

/// When a sink writes marks: after something was closed, but not more often than at an interval.
pub(super) struct Marks {
    every: Duration,
    /// Not before this.
    next: Option<Instant>,
    activator: Activator,
}

impl Marks {
    pub(super) fn new(every: Duration, activator: Activator) -> Self {
        Marks { every, next: None, activator }
    }

    /// Whether marks that say something new may be written now; otherwise the sink is called again when they may.
    pub(super) fn due(&mut self, pace: &Pace, now: Instant) -> bool {
        let wait = self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
        if !wait.is_zero() {
            pace.wake_after(&self.activator, wait);
            return false;
        }
        self.next = Some(now + self.every);
        true
    }
}

/// The last time of one worker, for another one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct LastTime {
    worker: usize,
    time: Time,
}

/// Builds the operators that tell every worker, when all is written, which the last time of all workers was: up to
/// there, the last marks close every partition.
pub(crate) fn last_times<'s>(scope: Scope<'s, Time>, pace: &Rc<Pace>) {
    let peers = scope.peers();
    let mut builder = OperatorBuilder::new("Last time".to_owned(), scope);
    pace.add_source(scope.activator_for(builder.operator_info().address));
    let (output, times) = builder.new_output::<Vec<LastTime>>();
    let mut output = OutputBuilder::from(output);
    let pace_ = pace.clone();
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        move |_frontiers| {
            // Only now has every sink written all it will.
            if pace_.arrived().is_none()
                && let Some(capability) = capability.take()
            {
                let time = pace_.wrote().max(pace_.open().saturating_sub(1));
                let mut handle = output.activate();
                let mut session = handle.session(&capability);
                (0..peers).for_each(|worker| session.give(LastTime { worker, time }));
            }
        }
    });

    let mut builder = OperatorBuilder::new("Last times".to_owned(), scope);
    let mut input = builder.new_input(times, Exchange::new(|last: &LastTime| last.worker as u64));
    let pace = pace.clone();
    builder.build(move |_capabilities| {
        let mut last = 0;
        move |frontiers| {
            input.for_each(|_, times| times.drain(..).for_each(|of| last = last.max(of.time)));
            if frontiers[0].is_empty() {
                pace.end_at(last);
            }
        }
    });
}
