//! Views without their types, for whoever shows them to others.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::Ordering;

use differential_dataflow::consolidation::consolidate;

use crate::agents::Record;
use crate::error::{Error, Kind, Result};
use crate::look::Look;
use crate::time::Time;
use crate::view::{Log, View};

/// A view without its type: its records as JSON, and its changes. For whoever shows views to others.
///
/// One watcher at a time: [`watch`](Watched::watch) makes the view keep the changes of closed times, at most 262,144 of
/// them, until they are asked for. That costs a copy of each record that is new or has changed; nothing while nobody watches. What is read is
/// written as JSON on the reader's thread. Workers never wait for a reader; what closes meanwhile is put aside, and
/// taken in when it is done.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # use std::sync::Arc;
/// # let topics = Memory::default();
/// # topics.publish("readings", &["[7,64]", "[8,12]"]);
/// let config = JobConfig { until_end: true, ..JobConfig::new("house") };
/// let live = config.live.clone();
/// run(config, Arc::new(topics), |flow| {
///     let readings = flow.events::<(u64, i64)>("readings"); // [7,64]  [8,12]
///     let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor);
///     flow.view("sensors", &sensors);
/// })?;
/// let mut records = Vec::new();
/// let view = &live.views()[0];
/// view.read(None, None, &mut |record, _count| {
///     records.push(String::from_utf8_lossy(record).into_owned());
///     true
/// })?;
/// assert_eq!((view.name(), view.size(), records), ("sensors", 2, vec!["[7,64]".to_owned(), "[8,12]".to_owned()]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Watched: Send + Sync {
    /// What the program calls it.
    fn name(&self) -> &str;

    /// How many different records there are. Waits for nobody.
    fn size(&self) -> usize;

    /// How the program wants it shown.
    fn look(&self) -> Look;

    /// All changes below this time are in it. Waits for who reads.
    fn before(&self) -> Time;

    /// Whether changes are kept for [`Watched::changes`]. Again: as if for the first time.
    fn watch(&self, on: bool);

    /// Calls `each` with what has changed since this was asked last, or since the view is watched, at times below `before`:
    /// each record as JSON, and how many there are more or less of it. `false`: that is not known, because they were too
    /// many, or because that time has not come; [`read`](Watched::read) everything anew.
    ///
    /// # Errors
    /// A record that cannot be written as JSON; a view that is not kept any longer.
    fn changes(&self, before: Time, each: &mut dyn FnMut(&[u8], isize)) -> Result<bool>;

    /// Calls `each` with every record, in their order, and its count, until it gives `false`; returns the time below which
    /// all is in what was read. `after` begins behind a record, given as JSON. `at` asks for an earlier time than the newest
    /// one, from that of the last [`changes`](Watched::changes) on; the answer is `None` if the view does not know that time
    /// any more, or not yet.
    ///
    /// # Errors
    /// A record that cannot be written as JSON, or `after` read; a view that is not kept any longer.
    fn read(
        &self,
        at: Option<Time>,
        after: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], isize) -> bool,
    ) -> Result<Option<Time>>;
}

impl<D: Record> Watched for View<D> {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn size(&self) -> usize {
        self.0.size.load(Ordering::Relaxed)
    }

    fn look(&self) -> Look {
        View::look(self)
    }

    fn before(&self) -> Time {
        self.0.read().before
    }

    fn watch(&self, on: bool) {
        let mut contents = self.0.read();
        contents.log = on.then(|| Log { since: contents.before, updates: VecDeque::new() });
    }

    fn changes(&self, before: Time, each: &mut dyn FnMut(&[u8], isize)) -> Result<bool> {
        let mut contents = self.0.read();
        if contents.overflowed {
            return Err(self.0.overflow());
        }
        let closed = contents.before;
        let known = |log: &&mut Log<D>| log.since <= before && before <= closed;
        let Some(log) = contents.log.as_mut().filter(known) else { return Ok(false) };
        log.since = before;
        let closed = log.updates.partition_point(|&(_, time, _)| time < before);
        let mut changes: Vec<(D, isize)> =
            log.updates.drain(..closed).map(|(data, _, diff)| (data, diff)).collect();
        // What follows is of this thread alone.
        drop(contents);
        consolidate(&mut changes);
        let mut json = Vec::new();
        for (data, diff) in &changes {
            self.0.write(data, &mut json)?;
            each(&json, *diff);
        }
        Ok(true)
    }

    fn read(
        &self,
        at: Option<Time>,
        after: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], isize) -> bool,
    ) -> Result<Option<Time>> {
        let after: Option<D> = after.map(serde_json::from_slice).transpose().map_err(|error| {
            Error::new(Kind::BadInput, format!("that is no record of view {:?}: {error}", self.0.name))
        })?;
        let begin = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut contents = self.0.read();
        if contents.overflowed {
            return Err(self.0.overflow());
        }
        let at = at.unwrap_or(contents.before);
        // What has changed since that time is taken back.
        let mut since: BTreeMap<&D, isize> = BTreeMap::new();
        if at != contents.before {
            let Some(log) = contents.log.as_ref().filter(|log| log.since <= at && at < contents.before)
            else {
                return Ok(None);
            };
            for (data, _, diff) in log.updates.iter().filter(|&&(_, time, _)| time >= at) {
                *since.entry(data).or_default() += diff;
            }
        }
        let mut json = Vec::new();
        let mut tell = |data: &D, count: isize| -> Result<bool> {
            if count == 0 {
                return Ok(true);
            }
            self.0.write(data, &mut json)?;
            Ok(each(&json, count))
        };
        // Both are in order.
        let mut gone = since.range::<D, _>((begin, Bound::Unbounded)).peekable();
        for (data, count) in contents.records.range::<D, _>((begin, Bound::Unbounded)) {
            while let Some((&other, diff)) = gone.next_if(|(other, _)| **other < data) {
                if !tell(other, -diff)? {
                    return Ok(Some(at));
                }
            }
            let later = gone.next_if(|(other, _)| **other == data).map_or(0, |(_, diff)| *diff);
            if !tell(data, count - later)? {
                return Ok(Some(at));
            }
        }
        for (&other, diff) in gone {
            if !tell(other, -diff)? {
                break;
            }
        }
        drop(since);
        self.0.fold(&mut contents);
        Ok(Some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::LOG;

    type Contents = BTreeMap<String, isize>;

    fn read(view: &View<u64>, at: Option<Time>) -> Option<Contents> {
        let mut contents = Contents::new();
        let read = view.read(at, None, &mut |json, count| {
            contents.insert(String::from_utf8_lossy(json).into_owned(), count);
            true
        });
        read.unwrap().map(|_| contents)
    }

    fn add(contents: &mut Contents, record: &str, diff: isize) {
        let count = contents.entry(record.to_owned()).or_default();
        *count += diff;
        if *count == 0 {
            contents.remove(record);
        }
    }

    #[test]
    fn what_is_read_at_a_time_and_what_has_changed_since_agree() {
        let view = View::<u64>::new("v", 2, 1_000);
        view.watch(true);
        let mut random = 9_u64;
        let mut below = |bound| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let (mut truth, mut seen) = (BTreeMap::from([(0, Contents::new())]), Contents::new());
        let mut last = 0;
        for time in 1..300 {
            let mut now: Contents = truth[&(time - 1)].clone();
            let mut told = [Vec::new(), Vec::new()];
            for _ in 0..below(5) {
                let (record, diff) = (below(8), if below(2) == 0 { 1 } else { -1 });
                add(&mut now, &record.to_string(), diff);
                told[(record % 2) as usize].push((record, time - 1, diff));
            }
            truth.insert(time, now);
            for (worker, told) in told.into_iter().enumerate() {
                view.0.tell(worker, told.into_iter(), time);
            }
            assert_eq!(view.before(), time);
            if below(3) == 0 {
                // Any time from the last one on is known, and no other.
                let at = last + below(time - last + 1);
                assert_eq!(read(&view, Some(at)).as_ref(), truth.get(&at));
                assert!(
                    read(&view, Some(time + 1)).is_none()
                        && (last == 0 || read(&view, Some(last - 1)).is_none())
                );
                let known =
                    view.changes(at, &mut |json, diff| add(&mut seen, &String::from_utf8_lossy(json), diff));
                assert!(known.unwrap());
                assert_eq!(&seen, &truth[&at]);
                last = at;
            }
        }
        assert_eq!(read(&view, None).as_ref(), truth.get(&299));
        // From behind a record on.
        let mut rest = Vec::new();
        let each = &mut |json: &[u8], _| {
            rest.push(String::from_utf8_lossy(json).into_owned());
            rest.len() < 2
        };
        view.read(None, Some(b"3"), each).unwrap();
        let expected = truth[&299].keys().filter(|key| key.as_str() > "3").take(2).cloned();
        assert_eq!(rest, expected.collect::<Vec<_>>());
        assert!(view.read(None, Some(b"{"), &mut |_, _| true).is_err());
    }

    #[test]
    fn too_many_changes_are_not_kept() {
        let view = View::<u64>::new("v", 1, usize::MAX);
        view.watch(true);
        view.0.tell(0, (0..LOG as u64 + 1).map(|record| (record, 0, 1)), 1);
        assert!(!view.changes(0, &mut |_, _| {}).unwrap(), "it is known no more");
        assert_eq!(view.size(), LOG + 1);
        view.0.tell(0, [(0, 1, -1)].into_iter(), 2);
        let mut changes = Vec::new();
        assert!(view.changes(2, &mut |json, diff| changes.push((json.to_owned(), diff))).unwrap());
        assert_eq!(changes, [(b"0".to_vec(), -1)]);
    }

    #[test]
    fn workers_do_not_wait_for_readers() {
        let view = View::<u64>::new("v", 1, 10);
        view.0.tell(0, [(7, 0, 1)].into_iter(), 1);
        let mut seen = 0;
        view.read(None, None, &mut |_, _| {
            // On a worker this would be another thread; here a lock that waits would never end.
            view.0.tell(0, [(8, 1, 1)].into_iter(), 2);
            seen += 1;
            true
        })
        .unwrap();
        assert_eq!((seen, view.before(), view.size()), (1, 2, 2));
    }
}
