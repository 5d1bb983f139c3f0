//! Marks: when a checkpoint is taken. Worker 0 tells all roots: as of this time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};

use super::commit::Asked;
use crate::job::Shared;
use crate::pace::Pace;
use crate::time::Time;

/// How soon it is looked again whether a checkpoint can be asked for that is due.
const LOOK: Duration = Duration::from_millis(5);

/// "Take a snapshot of what was before `time`", for one worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) worker: u32,
    pub(crate) time: Time,
}

/// Builds the operator that sends marks. Its stream has no marks, and no times to wait for, without checkpoints.
pub(crate) fn marks<'s>(
    scope: Scope<'s, Time>,
    pace: &Rc<Pace>,
    shared: &Arc<Shared>,
    asked: &Rc<RefCell<Asked>>,
) -> StreamVec<'s, Time, Mark> {
    let peers = scope.peers() as u32;
    let every = shared.keeps().map(|durable| durable.every);
    let mut builder = OperatorBuilder::new("Marks".to_owned(), scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(address.clone());
    pace.add_source(scope.activator_for(address));
    let (output, marks) = builder.new_output::<Vec<Mark>>();
    let mut output = OutputBuilder::from(output);
    let (pace, shared, first_worker) = (pace.clone(), shared.clone(), scope.index() == 0);
    let asked = asked.clone();
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop().filter(|_| first_worker);
        let keeps = every.is_some();
        let every = every.unwrap_or(Duration::MAX);
        let mut last = shared.machine.instant();
        // The open time at the last mark: nothing has happened while it stays.
        let mut marked = pace.open();
        let mut begun = false;
        move |_frontiers| {
            let Some(held) = capability.as_mut() else { return };
            if !keeps {
                // Agents in a loop are to go on for as long as there is any input, theirs or another.
                match pace.held().filter(|_| pace.loops() && !shared.failed()) {
                    Some(time) if *held.time() < time => held.downgrade(&time),
                    Some(_) => {}
                    None => capability = None,
                }
                return;
            }
            if *held.time() < pace.open() {
                held.downgrade(&pace.open());
            }
            if !begun {
                // Sinks may have moved the first time on while the dataflow was built.
                (begun, marked) = (true, pace.open());
            }
            if shared.failed() {
                capability = None;
                return;
            }
            // When all sources of all workers have ended, and what they read is bound, the last one contains it all.
            let ending = pace.unbound().is_none();
            if pace.filling() {
                // The step's end wakes this again.
                return;
            }
            let happened = pace.open() > marked;
            let elapsed = shared.machine.instant().saturating_duration_since(last);
            // Where roots or stores are slower than asked for, checkpoints are taken less often, and the last one later: a
            // root that had to be done with one at once, to begin the next, would stand still meanwhile.
            let ready = (ending || elapsed >= every) && asked.borrow().is_empty();
            if happened && ready {
                let time = pace.open();
                (marked, last) = (time, shared.machine.instant());
                let mut handle = output.activate();
                let mut session = handle.session(&*held);
                (0..peers).for_each(|worker| session.give(Mark { worker, time }));
                drop(session);
                asked.borrow_mut().add(time);
                pace.tell(time);
            }
            if ending && (ready || !happened) {
                capability = None;
            } else if happened {
                let elapsed = shared.machine.instant().saturating_duration_since(last);
                let rest = if ending { Duration::ZERO } else { every.saturating_sub(elapsed) };
                pace.wake_after(&activator, rest.max(LOOK));
            }
        }
    });
    marks
}
