//! The oracle: an operator on random changes, on several workers, against a naive computation from scratch at
//! every time.
#![allow(dead_code)] // not every test uses all of it

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use differential_dataflow::input::InputSession;
use differential_dataflow::{ExchangeData, VecCollection};
use nekton_engine::Time;
use proptest::prelude::*;
use timely::dataflow::ProbeHandle;

pub type Collection<'s, D> = VecCollection<'s, Time, D, isize>;

/// A record that comes or goes.
pub type Change<D> = (D, Time, isize);

/// How often each record is there.
pub type Bag<D> = BTreeMap<D, isize>;

/// What an input of no interest has.
pub const NONE: &[Change<()>] = &[];

/// The latest time at which something changes.
pub const LAST: Time = 12;

/// So many random inputs for each promise; a seed that failed is printed, not kept.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// Up to `most` records that come at some time, most of which go at another, or at the same one.
pub fn changes<D: Debug + Clone>(
    record: impl Strategy<Value = D>,
    most: usize,
) -> impl Strategy<Value = Vec<Change<D>>> {
    let stay = prop_oneof![1 => Just(None), 3 => (0..LAST).prop_map(Some)];
    prop::collection::vec((record, 0..LAST, stay), 0..most).prop_map(|stays| {
        let mut changes = Vec::new();
        for (record, from, stay) in stays {
            if let Some(stay) = stay {
                changes.push((record.clone(), (from + stay).min(LAST), -1));
            }
            changes.push((record, from, 1));
        }
        changes.sort_by_key(|(_, time, _)| *time);
        changes
    })
}

/// Everything that is there at `time`.
pub fn at<D: Ord + Clone>(changes: &[Change<D>], time: Time) -> Bag<D> {
    let mut bag = Bag::new();
    for (record, _, diff) in changes.iter().filter(|(_, changed, _)| *changed <= time) {
        *bag.entry(record.clone()).or_default() += diff;
    }
    bag.retain(|_, count| *count != 0);
    bag
}

/// Each record as often as it is there.
pub fn each<D: Clone>(bag: &Bag<D>) -> impl Iterator<Item = D> {
    bag.iter().flat_map(|(record, count)| std::iter::repeat_n(record, *count as usize).cloned())
}

/// The values of each key, in order.
pub fn by_key<K: Ord + Clone, V: Ord + Clone>(bag: &Bag<(K, V)>) -> BTreeMap<K, Vec<V>> {
    let mut groups: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for (key, value) in each(bag) {
        groups.entry(key).or_default().push(value);
    }
    groups
}

/// Each once.
pub fn once<D: Ord>(records: impl IntoIterator<Item = D>) -> Bag<D> {
    records.into_iter().map(|record| (record, 1)).collect()
}

/// Checks what `build` makes of two inputs against `model` at every time, on 1, 2 and 3 workers; a worker hands
/// over `batch` changes at once.
pub fn check<A, B, O>(
    left: &[Change<A>],
    right: &[Change<B>],
    batch: usize,
    build: impl for<'s> Fn(Collection<'s, A>, Collection<'s, B>) -> Collection<'s, O> + Send + Sync + 'static,
    model: impl Fn(&Bag<A>, &Bag<B>) -> Bag<O>,
) where
    A: ExchangeData + Hash + Sync,
    B: ExchangeData + Hash + Sync,
    O: ExchangeData + Hash,
{
    let build = Arc::new(build);
    for workers in 1..=3 {
        let build = build.clone();
        let changes = run(left, right, batch, workers, move |left, right| build(left, right));
        for time in 0..=LAST {
            let expected = model(&at(left, time), &at(right, time));
            assert_eq!(at(&changes, time), expected, "at {time} on {workers} workers, in batches of {batch}");
        }
    }
}

/// All changes of what `build` makes, in order of time.
pub fn run<A, B, O>(
    left: &[Change<A>],
    right: &[Change<B>],
    batch: usize,
    workers: usize,
    build: impl for<'s> Fn(Collection<'s, A>, Collection<'s, B>) -> Collection<'s, O> + Send + Sync + 'static,
) -> Vec<Change<O>>
where
    A: ExchangeData + Hash + Sync,
    B: ExchangeData + Hash + Sync,
    O: ExchangeData + Hash,
{
    let seen: Arc<Mutex<Vec<Change<O>>>> = Arc::default();
    let (left, right, sink) = (Arc::new(left.to_vec()), Arc::new(right.to_vec()), seen.clone());
    let ran = timely::execute(timely::Config::process(workers), move |worker| {
        let (mut lefts, mut rights) = (InputSession::new(), InputSession::new());
        let probe = ProbeHandle::new();
        let sink = sink.clone();
        worker.dataflow(|scope| {
            let output = build(lefts.to_collection(scope), rights.to_collection(scope));
            output.inspect(move |change| sink.lock().unwrap().push(change.clone())).probe_with(&probe);
        });
        let (index, peers) = (worker.index(), worker.peers());
        let mut of_left = left.iter().skip(index).step_by(peers).peekable();
        let mut of_right = right.iter().skip(index).step_by(peers).peekable();
        let mut held = 0_usize;
        for time in 0..=LAST {
            lefts.advance_to(time);
            rights.advance_to(time);
            while let Some((record, _, diff)) = of_left.next_if(|change| change.1 == time) {
                lefts.update(record.clone(), *diff);
                held += 1;
                if held.is_multiple_of(batch) {
                    lefts.flush();
                    worker.step();
                }
            }
            while let Some((record, _, diff)) = of_right.next_if(|change| change.1 == time) {
                rights.update(record.clone(), *diff);
                held += 1;
                if held.is_multiple_of(batch) {
                    rights.flush();
                    worker.step();
                }
            }
            // Every other time, the workers wait for one another.
            if (time as usize + batch).is_multiple_of(2) {
                lefts.advance_to(time + 1);
                rights.advance_to(time + 1);
                lefts.flush();
                rights.flush();
                while probe.less_than(&(time + 1)) {
                    worker.step_or_park(None);
                }
            }
        }
    });
    drop(ran.expect("workers start"));
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort_by_key(|(_, time, _)| *time);
    seen
}
