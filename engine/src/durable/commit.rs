//! Committing checkpoints, on worker 0: when every root has stored its part and every sink is past the time, the
//! manifest is stored; then the sources of all workers may let go of what is before the oldest checkpoint that is kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};

use super::ledger::Reads;
use super::shape::Shape;
use super::{
    Durable, Kept, Manifest, Part, VERSION, drop_old, manifest_name, numbers, oldest, sealed, taken_over,
};
use crate::error::{Error, Kind, Result};
use crate::hash::SEGMENTS;
use crate::job::Shared;
use crate::pace::Pace;
use crate::time::Time;

/// A worker's part of a root is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) time: Time,
    pub(crate) root: String,
    /// `None` if nothing has changed since the last checkpoint.
    pub(crate) part: Option<Part>,
}

/// "Nothing before this time is needed any more", for one worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Committed {
    worker: u32,
    time: Time,
}

/// A checkpoint on its way.
struct Pending {
    time: Time,
    reports: Vec<Report>,
}

/// Checkpoints on their way, on worker 0.
#[derive(Default)]
pub(crate) struct Asked(VecDeque<Pending>);

impl Asked {
    pub(crate) fn add(&mut self, time: Time) {
        self.0.push_back(Pending { time, reports: Vec::new() });
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A program's roots with their shapes, and the topics that it writes, and where these are.
pub(crate) struct Program {
    pub(crate) roots: BTreeMap<String, Shape>,
    pub(crate) sinks: Vec<String>,
    pub(crate) places: Vec<String>,
}

/// Builds the operators that commit checkpoints and tell of them. `roots` are the reports of each root.
pub(crate) fn commit<'s>(
    scope: Scope<'s, Time>,
    roots: Vec<StreamVec<'s, Time, Report>>,
    pace: &Rc<Pace>,
    shared: &Arc<Shared>,
    program: Program,
    asked: &Rc<RefCell<Asked>>,
    reads: &Rc<RefCell<Reads>>,
) -> Result<()> {
    let durable = shared.durable().ok_or_else(|| Error::new(Kind::Internal, "no durability"))?.clone();
    let (peers, first_worker) = (scope.peers(), scope.index() == 0);
    let expected = roots.len() * peers;
    let mut builder = OperatorBuilder::new("Commit".to_owned(), scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(address.clone());
    let sync = scope.worker().sync_activator_for(address.to_vec());
    pace.add_source(scope.activator_for(address));
    let mut inputs: Vec<_> =
        roots.into_iter().map(|reports| builder.new_input(reports, Exchange::new(|_: &Report| 0))).collect();
    let (output, committed) = builder.new_output::<Vec<Committed>>();
    let mut output = OutputBuilder::from(output);
    let (pace_, shared_, asked, reads) = (pace.clone(), shared.clone(), asked.clone(), reads.clone());
    builder.build_reschedule(move |mut capabilities| {
        let mut capability = capabilities.pop().filter(|_| first_worker);
        let mut book = Book::new(&durable, program);
        let stored: Arc<Mutex<VecDeque<Result<(Time, Time)>>>> = Arc::default();
        let (mut storing, mut bytes) = (false, 0);
        move |_frontiers| {
            for input in &mut inputs {
                input.for_each(|_, reports| {
                    let mut asked = asked.borrow_mut();
                    for report in reports.drain(..) {
                        if let Some(pending) = asked.0.iter_mut().find(|pending| pending.time == report.time)
                        {
                            pending.reports.push(report);
                        }
                    }
                });
            }
            let Some(held) = capability.as_mut() else { return false };
            if *held.time() < pace_.open() {
                held.downgrade(&pace_.open());
            }
            while let Some(outcome) = stored.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                storing = false;
                match outcome {
                    Err(error) => shared_.fail(error),
                    Ok((time, oldest)) => {
                        tracing::info!(time, "checkpoint");
                        let counters = &shared_.counters;
                        let took = shared_.machine.now().saturating_sub(time);
                        counters.committed.store(time, Ordering::Relaxed);
                        counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                        counters.checkpoint_took.store(took, Ordering::Relaxed);
                        counters.checkpoint_bytes.store(bytes, Ordering::Relaxed);
                        reads.borrow_mut().committed(time, oldest);
                        let mut handle = output.activate();
                        let mut session = handle.session(&*held);
                        (0..peers as u32).for_each(|worker| session.give(Committed { worker, time: oldest }));
                    }
                }
                // The ledger lets go as well.
                pace_.wake();
            }
            if shared_.failed() {
                capability = None;
                return false;
            }
            let mut asked = asked.borrow_mut();
            let ready = asked.0.front().is_some_and(|pending| {
                let through = pace_.arrived().is_none_or(|arrived| arrived >= pending.time);
                // Where nothing came out, times pass before the ledger knows what was read at them.
                let known = pace_.unbound().is_none_or(|unbound| unbound >= pending.time);
                pending.reports.len() == expected && through && known && !storing
            });
            if ready && let Some(pending) = asked.0.pop_front() {
                storing = true;
                let work = book.enter(pending, &reads.borrow());
                bytes = book.bytes();
                let (stored, sync, durable) = (stored.clone(), sync.clone(), durable.clone());
                durable.clone().io.run(move || {
                    let outcome = work(&durable);
                    stored.lock().unwrap_or_else(PoisonError::into_inner).push_back(outcome);
                    let _ = sync.activate();
                });
            }
            // At the end, all that was asked for is waited for.
            let ended = pace_.arrived().is_none();
            if ended && asked.0.is_empty() && !storing {
                capability = None;
                return false;
            }
            if ended {
                pace_.wake_after(&activator, std::time::Duration::from_millis(20));
            }
            true
        }
    });

    let mut builder = OperatorBuilder::new("Committed".to_owned(), scope);
    let mut input =
        builder.new_input(committed, Exchange::new(|committed: &Committed| u64::from(committed.worker)));
    let pace = pace.clone();
    builder.build(move |_capabilities| {
        move |frontiers| {
            input.for_each(|_, all| all.drain(..).for_each(|committed| pace.commit(committed.time)));
            if frontiers[0].is_empty() {
                pace.commits_end();
            }
        }
    });
    Ok(())
}

/// What is in the store.
struct Book {
    job: String,
    number: u64,
    sinks: Vec<String>,
    shapes: BTreeMap<String, Shape>,
    /// The sizes of the objects that hold segments.
    sizes: BTreeMap<Arc<str>, u64>,
    /// By root and segment: the object that holds it.
    segments: BTreeMap<String, Vec<Option<Arc<str>>>>,
    places: Vec<String>,
    kept: Vec<Kept>,
    /// How many checkpoints are kept.
    checkpoints: usize,
}

impl Book {
    fn new(durable: &Durable, program: Program) -> Self {
        let (mut segments, mut sizes) = (BTreeMap::new(), BTreeMap::new());
        if let Some(manifest) = &durable.plan.manifest {
            for (root, parts) in &manifest.roots {
                if !program.roots.contains_key(root) {
                    continue;
                }
                let of: &mut Vec<Option<Arc<str>>> =
                    segments.entry(root.clone()).or_insert_with(|| vec![None; SEGMENTS]);
                for part in parts {
                    let object: Arc<str> = part.object.as_str().into();
                    sizes.insert(object.clone(), part.bytes);
                    part.segments.iter().for_each(|&segment| of[segment as usize] = Some(object.clone()));
                }
            }
        }
        let plan = &durable.plan;
        let kept = plan.kept.clone();
        let (job, number, checkpoints) = (durable.job.clone(), plan.number, durable.kept);
        let Program { roots: shapes, sinks, places } = program;
        Book { job, number, sinks, shapes, sizes, segments, places, kept, checkpoints }
    }

    /// How large the objects are that the newest checkpoint refers to.
    fn bytes(&self) -> u64 {
        let objects: BTreeSet<&Arc<str>> = self.segments.values().flatten().flatten().collect();
        objects.iter().filter_map(|object| self.sizes.get(*object)).sum()
    }

    /// Takes a checkpoint in. Returns what is to be done in the store for it, which gives its time, and that of the oldest
    /// one that is kept.
    fn enter(
        &mut self,
        pending: Pending,
        reads: &Reads,
    ) -> impl FnOnce(&Durable) -> Result<(Time, Time)> + Send + 'static {
        for report in pending.reports {
            let of = self.segments.entry(report.root).or_insert_with(|| vec![None; SEGMENTS]);
            if let Some(part) = report.part {
                let object: Arc<str> = part.object.as_str().into();
                self.sizes.insert(object.clone(), part.bytes);
                part.segments.iter().for_each(|&segment| of[segment as usize] = Some(object.clone()));
            }
        }
        let roots: BTreeMap<_, _> = self
            .segments
            .iter()
            .map(|(root, segments)| {
                let mut parts: BTreeMap<Arc<str>, Vec<u16>> = BTreeMap::new();
                for (segment, object) in segments.iter().enumerate() {
                    if let Some(object) = object {
                        parts.entry(object.clone()).or_default().push(segment as u16);
                    }
                }
                let part = |(object, segments): (Arc<str>, _)| Part {
                    object: object.to_string(),
                    segments,
                    bytes: self.sizes.get(&object).copied().unwrap_or_default(),
                };
                (root.clone(), parts.into_iter().map(part).collect::<Vec<_>>())
            })
            .collect();
        let used: BTreeSet<&Arc<str>> = self.segments.values().flatten().flatten().collect();
        self.sizes.retain(|object, _| used.contains(object));
        let time = pending.time;
        let positions =
            reads.before(time).into_iter().map(|((source, partition), at)| (source, partition, at));
        let manifest = Manifest {
            version: VERSION,
            job: self.job.clone(),
            time,
            roots,
            positions: positions.collect(),
            sinks: self.sinks.clone(),
            places: self.places.clone(),
            shapes: self.shapes.clone(),
        };
        self.number += 1;
        let number = self.number;
        self.kept.push(Kept::new(number, Some(&manifest)));
        let dropped = drop_old(&mut self.kept, self.checkpoints);
        let oldest = oldest(&self.kept).unwrap_or(time);
        let needed: std::collections::BTreeSet<String> =
            self.kept.iter().flat_map(|kept| kept.objects.iter().cloned()).collect();
        let job = self.job.clone();
        move |durable: &Durable| {
            let content = serde_json::to_vec(&Some(manifest))
                .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
            let created = durable.store.create(&manifest_name(&job, number), sealed(content))?;
            // The manifest of this number by which another run took over may be deleted by now: that run goes on
            // with higher ones. Then nothing here is current, least of all what this run takes for obsolete.
            if !created || numbers(&job, &*durable.store)?.last() != Some(&number) {
                return Err(taken_over(&job));
            }
            // What no kept manifest names goes; if that fails, it only takes space.
            for Kept { number: old, objects, .. } in dropped {
                let objects = objects.into_iter().filter(|object| !needed.contains(object));
                for name in objects.chain([manifest_name(&job, old)]) {
                    if let Err(error) = durable.store.delete(&name) {
                        tracing::warn!(%error, name, "an old checkpoint object was not deleted");
                    }
                }
            }
            Ok((time, oldest))
        }
    }
}
