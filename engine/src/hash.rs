//! The fixed hash that places keys: which segment an agent lives in, which partition a message goes to.
//!
//! It must give the same value in every build, on every machine and for every number of workers,
//! because segments outlive a process. It is a folded 64 x 64 -> 128 bit multiplication per word, as
//! in wyhash (Wang Yi, "wyhash", final version 4, function `wymix`), without a random seed: it does not defend against
//! keys chosen to collide.

use std::hash::{BuildHasher, Hash, Hasher};

/// How many segments the agents of a root are divided into: the unit of routing, of checkpoints and
/// of rescaling.
pub const SEGMENTS: usize = 1024;

const MULTIPLIER: u64 = 0xa076_1d64_78bd_642f;
const SEED: u64 = 0xe703_7ed1_a0b4_28db;

/// The number of a segment, below [`SEGMENTS`].
///
/// ```
/// use nekton_engine::hash::{SEGMENTS, Segment, fixed_hash};
///
/// let segment = Segment::of(fixed_hash("N14228"));
/// assert!(segment.index() < SEGMENTS);
/// // With two workers, the first one owns the lower half of the segments.
/// assert_eq!(segment.worker(2), usize::from(segment.index() >= SEGMENTS / 2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(u16);

impl Segment {
    /// The segment of a key with this [`fixed_hash`]. Taken from the middle bits: a hash table
    /// inside the segment uses the lowest and the highest ones.
    #[inline]
    pub fn of(hash: u64) -> Self {
        Segment(((hash >> 32) as usize % SEGMENTS) as u16)
    }
    /// The worker of `peers` that owns this segment. Workers own contiguous ranges.
    #[inline]
    pub fn worker(self, peers: usize) -> usize {
        (self.0 as usize * peers) / SEGMENTS
    }
    /// The segment of this number.
    pub(crate) fn number(number: u16) -> Self {
        Segment(number)
    }
    /// Its number.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The fixed hash of a key. Costs about a nanosecond for an integer, one per eight bytes for text.
///
/// ```
/// use nekton_engine::hash::fixed_hash;
///
/// // The same in every build and on every machine.
/// assert_eq!(fixed_hash("UA"), 10900372699348903207);
/// assert_eq!(fixed_hash(&17_u64), 6877820946081822952);
/// ```
#[inline]
pub fn fixed_hash<K: Hash + ?Sized>(key: &K) -> u64 {
    let mut hasher = FixedHasher(SEED);
    key.hash(&mut hasher);
    hasher.finish()
}

/// The [`Hasher`] behind [`fixed_hash`].
#[derive(Clone, Copy, Debug)]
pub struct FixedHasher(u64);

/// Makes [`FixedHasher`]s, for maps that should not depend on a random seed.
///
/// ```
/// use nekton_engine::hash::FixedState;
/// use std::collections::HashMap;
///
/// let mut seats: HashMap<&str, u32, FixedState> = HashMap::default();
/// seats.insert("N14228", 149);
/// assert_eq!(seats["N14228"], 149);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedState;

impl BuildHasher for FixedState {
    type Hasher = FixedHasher;
    #[inline]
    fn build_hasher(&self) -> FixedHasher {
        FixedHasher(SEED)
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Hasher for FixedHasher {
    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, MULTIPLIER);
    }
    #[inline]
    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }
    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }
    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    #[inline]
    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }
    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.write_u64(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut word = [0_u8; 8];
            word[..rest.len()].copy_from_slice(rest);
            // The length keeps "a" and "a\0" apart.
            self.write_u64(u64::from_le_bytes(word) ^ ((rest.len() as u64) << 56));
        }
    }
    #[inline]
    fn finish(&self) -> u64 {
        fold(self.0, SEED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// State that was written by one build must be found by the next.
    #[test]
    fn the_hash_never_changes() {
        assert_eq!(fixed_hash(&7_u64), FIXED_7);
        assert_eq!(fixed_hash("N14228"), FIXED_TAIL);
    }
    const FIXED_7: u64 = 1_407_214_155_182_171_231;
    const FIXED_TAIL: u64 = 3_677_026_313_125_546_463;

    #[test]
    fn segments_are_filled_evenly_by_consecutive_keys() {
        let mut filled = vec![0_u32; SEGMENTS];
        for key in 0..1_024_000_u64 {
            filled[Segment::of(fixed_hash(&key)).index()] += 1;
        }
        assert!(filled.iter().all(|&n| (850..1150).contains(&n)), "{filled:?}");
    }

    #[test]
    fn every_worker_owns_a_contiguous_share() {
        for peers in 1..=7 {
            let owners: Vec<_> = (0..SEGMENTS).map(|s| Segment(s as u16).worker(peers)).collect();
            assert!(owners.is_sorted() && owners[0] == 0 && owners[SEGMENTS - 1] == peers - 1);
        }
    }
}
