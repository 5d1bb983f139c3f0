//! Where the segments of a root are stored, on one worker, and which objects are worth being left behind.
//!
//! A checkpoint writes the segments that have changed into one new object; all others stay where they were. So an object
//! is needed as long as one of its segments is, and most of it may be of segments that are stored elsewhere by now.
//! Before each checkpoint, objects of which little is needed are emptied: what is left of them is written again, with what has changed. So
//! what is stored is at most about twice what is needed, in a bounded number of objects, and at most as much again
//! is written for that as for changes.

use std::collections::BTreeMap;

use crate::hash::SEGMENTS;

/// The most objects that the segments of a root on one worker are in.
const MOST_OBJECTS: usize = 16;
/// Less than this is not worth being tidied up, in bytes.
const SMALL: u64 = 64 << 10;

/// By segment: the object that it is in, and its size there.
pub(crate) struct Places {
    of: Vec<Option<(u64, u64)>>,
    objects: BTreeMap<u64, Object>,
    next: u64,
}

/// What is in an object, in bytes.
#[derive(Default)]
struct Object {
    all: u64,
    needed: u64,
}

impl Places {
    pub(crate) fn new() -> Self {
        Places { of: vec![None; SEGMENTS], objects: BTreeMap::new(), next: 0 }
    }

    /// There is one more object, which segments are put into.
    pub(crate) fn object(&mut self) -> u64 {
        self.next += 1;
        self.objects.insert(self.next, Object::default());
        self.next
    }

    /// An object has a segment in it that is stored elsewhere by now.
    pub(crate) fn outdated(&mut self, object: u64, size: u64) {
        self.objects.entry(object).or_default().all += size;
    }

    /// A segment is in this object now.
    pub(crate) fn put(&mut self, segment: usize, object: u64, size: u64) {
        self.forget(segment);
        self.of[segment] = Some((object, size));
        let object = self.objects.entry(object).or_default();
        object.all += size;
        object.needed += size;
    }

    fn forget(&mut self, segment: usize) {
        let Some((object, size)) = self.of[segment].take() else { return };
        if let Some(known) = self.objects.get_mut(&object) {
            known.needed -= size;
            if known.needed == 0 {
                self.objects.remove(&object);
            }
        }
    }

    /// Adds to the segments that are to be stored those which empty an object of which little is needed.
    pub(crate) fn tidy(&mut self, dirty: &mut [bool]) {
        self.objects.retain(|_, object| object.needed > 0);
        for segment in (0..SEGMENTS).filter(|&segment| dirty[segment]) {
            self.forget(segment);
        }
        loop {
            let sum = |of: fn(&Object) -> u64| self.objects.values().map(of).sum::<u64>();
            let wasted = sum(|object| object.all) > 2 * sum(|object| object.needed) + SMALL;
            if !wasted && self.objects.len() < MOST_OBJECTS {
                return;
            }
            let share = |object: &Object| object.needed as f64 / object.all.max(1) as f64;
            let least = self.objects.iter().min_by(|(_, a), (_, b)| share(a).total_cmp(&share(b)));
            let Some(least) = least.map(|(&number, _)| number) else { return };
            for (segment, dirty) in dirty.iter_mut().enumerate() {
                if self.of[segment].is_some_and(|(object, _)| object == least) {
                    *dirty = true;
                    self.forget(segment);
                }
            }
            self.objects.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores a hundred times what changes, and returns the bytes written, and the most that was stored at once.
    fn store(changed: impl Fn(usize, usize) -> bool) -> (u64, u64, usize) {
        let mut places = Places::new();
        let (mut written, mut stored, mut objects) = (0, 0, 0);
        for round in 0..100 {
            let mut dirty: Vec<bool> =
                (0..SEGMENTS).map(|segment| round == 0 || changed(round, segment)).collect();
            places.tidy(&mut dirty);
            let object = places.object();
            for segment in (0..SEGMENTS).filter(|&segment| dirty[segment]) {
                places.put(segment, object, 1_000);
                written += 1_000;
            }
            assert!(places.of.iter().all(Option::is_some), "every segment is somewhere");
            stored = stored.max(places.objects.values().map(|object| object.all).sum());
            objects = objects.max(places.objects.len());
        }
        (written, stored, objects)
    }

    const STATE: u64 = 1_000 * SEGMENTS as u64;

    #[test]
    fn what_is_stored_stays_within_bounds_and_so_does_what_is_written() {
        // A tenth changes, another one each time: what changes a little stays longest.
        let (written, stored, objects) = store(|round, segment| (segment + round * 97) % 10 == 0);
        assert!(stored <= 2 * STATE + SMALL + STATE / 10, "{stored}");
        assert!(objects <= MOST_OBJECTS, "{objects}");
        assert!(written <= STATE + 100 * STATE / 10 * 2, "{written}");
        // Always the same few: nothing else is ever written again, but for the number of objects.
        let (written, stored, objects) = store(|_, segment| segment < 10);
        assert!(stored <= 2 * STATE && objects <= MOST_OBJECTS, "{stored} {objects}");
        assert!(written <= STATE + 100 * 2 * 10_000, "{written}");
    }

    #[test]
    fn objects_that_are_empty_are_forgotten() {
        let (_, _, objects) = store(|_, _| true);
        assert_eq!(objects, 1);
    }
}
