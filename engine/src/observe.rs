//! Looking on: each closed time's changes of a collection.

use std::collections::BTreeMap;

use differential_dataflow::VecCollection;
use differential_dataflow::consolidation::consolidate;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::agents::Record;
use crate::pace::first;
use crate::time::Time;

/// Calls `logic` once for each time that had changes, when it is closed. Returns a stream that
/// carries its progress.
pub(crate) fn each_time<'s, D: Record>(
    collection: &VecCollection<'s, Time, D, isize>,
    mut logic: impl FnMut(Time, Vec<(D, isize)>) + 'static,
) -> StreamVec<'s, Time, ()> {
    let updates = collection.inner.clone();
    let mut builder = OperatorBuilder::new("EachTime".to_owned(), updates.scope());
    let mut input = builder.new_input(updates, Pipeline);
    let (progress_output, progress) = builder.new_output::<Vec<()>>();
    builder.build(move |_capabilities| {
        let mut pending: BTreeMap<Time, Vec<(D, isize)>> = BTreeMap::new();
        // Keeps the port, which never carries data.
        let _progress_output = progress_output;
        move |frontiers| {
            input.for_each(|_, updates| {
                for (data, time, diff) in updates.drain(..) {
                    pending.entry(time).or_default().push((data, diff));
                }
            });
            let frontier = first(&frontiers[0]);
            while let Some(entry) = pending.first_entry() {
                if frontier.is_some_and(|frontier| frontier <= *entry.key()) {
                    break;
                }
                let (time, mut changes) = entry.remove_entry();
                consolidate(&mut changes);
                if !changes.is_empty() {
                    logic(time, changes);
                }
            }
        }
    });
    progress
}
