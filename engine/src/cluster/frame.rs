//! Frames: what goes over a connection once two processes have met. Pure: bytes in, frames out.
//!
//! A frame is its payload's length (4 bytes), its kind (1), a checksum (4), and the payload, little endian. The
//! checksum covers the frame's number as well, so that none can be lost, doubled or exchanged without notice:
//! what is not exactly what was sent never reaches timely, which trusts what it reads.

/// The most bytes of a payload: as many as timely's writers collect.
pub(super) const LARGEST: usize = 64 << 10;
const HEAD: usize = 9;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of the stream.
    Data = 1,
    /// "I am still here."
    Beat = 2,
    /// The stream has ended cleanly. Nothing follows.
    End = 3,
    /// The sender ends with an error: what it was, as text. Nothing follows.
    Farewell = 4,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Kind::Data, Kind::Beat, Kind::End, Kind::Farewell].into_iter().find(|kind| *kind as u8 == byte)
    }
}

fn checksum(number: u64, kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

/// Appends the frame of this number; `payload` has at most [`LARGEST`] bytes.
pub(super) fn encode(number: u64, kind: Kind, payload: &[u8], into: &mut Vec<u8>) {
    debug_assert!(payload.len() <= LARGEST);
    into.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    into.push(kind as u8);
    into.extend_from_slice(&checksum(number, kind as u8, payload).to_le_bytes());
    into.extend_from_slice(payload);
}

/// Something has come that was not sent so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrupt;

/// Takes a stream of bytes apart into frames.
pub(super) struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    number: u64,
}

impl Frames {
    pub(super) fn new() -> Self {
        Frames { buffer: vec![0; 2 * (HEAD + LARGEST)], start: 0, end: 0, number: 0 }
    }

    /// Where bytes may be put; not empty after [`Frames::next`] has found no frame.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.start < HEAD + LARGEST {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were put there.
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// The next whole frame: its kind, and where its payload is until [`Frames::space`] is called.
    pub(super) fn next(&mut self) -> Result<Option<(Kind, std::ops::Range<usize>)>, Corrupt> {
        let Some((head, rest)) = self.buffer[self.start..self.end].split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let said = u32::from_le_bytes([head[5], head[6], head[7], head[8]]);
        let kind = Kind::of(head[4]).filter(|_| size <= LARGEST).ok_or(Corrupt)?;
        let Some(payload) = rest.get(..size) else { return Ok(None) };
        if checksum(self.number, head[4], payload) != said {
            return Err(Corrupt);
        }
        let at = self.start + HEAD;
        self.start = at + size;
        self.number += 1;
        Ok(Some((kind, at..at + size)))
    }

    pub(super) fn payload(&self, at: std::ops::Range<usize>) -> &[u8] {
        &self.buffer[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8], pieces: &[usize]) -> (Vec<(Kind, Vec<u8>)>, Result<(), Corrupt>) {
        let (mut frames, mut found) = (Frames::new(), Vec::new());
        let (mut rest, mut pieces) = (bytes, pieces.iter().cycle());
        loop {
            match frames.next() {
                Err(corrupt) => return (found, Err(corrupt)),
                Ok(Some((kind, at))) => found.push((kind, frames.payload(at).to_vec())),
                Ok(None) if rest.is_empty() => return (found, Ok(())),
                Ok(None) => {
                    let space = frames.space();
                    assert!(!space.is_empty());
                    let count = rest.len().min(space.len()).min((*pieces.next().unwrap_or(&1)).max(1));
                    space[..count].copy_from_slice(&rest[..count]);
                    frames.filled(count);
                    rest = &rest[count..];
                }
            }
        }
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let small = prop::collection::vec(any::<u8>(), 0..300);
        let large = (LARGEST - 3..=LARGEST).prop_map(|size| vec![7; size]);
        prop::collection::vec(prop_oneof![4 => small, 1 => large], 1..6)
    }

    proptest! {
        #[test]
        fn frames_come_as_they_were_sent_in_whatever_pieces(
            payloads in payloads(), pieces in prop::collection::vec(1_usize..100_000, 1..5)
        ) {
            let mut bytes = Vec::new();
            for (number, payload) in payloads.iter().enumerate() {
                encode(number as u64, Kind::Data, payload, &mut bytes);
            }
            let (found, outcome) = decode(&bytes, &pieces);
            prop_assert_eq!(outcome, Ok(()));
            prop_assert_eq!(found, payloads.into_iter().map(|payload| (Kind::Data, payload)).collect::<Vec<_>>());
        }

        #[test]
        fn a_changed_byte_is_noticed_before_anything_of_its_frame_is_given(
            payloads in payloads(), at in any::<prop::sample::Index>(), flip in 1_u8..
        ) {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for (number, payload) in payloads.iter().enumerate() {
                encode(number as u64, Kind::Data, payload, &mut bytes);
                ends.push(bytes.len());
            }
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let whole = ends.iter().filter(|end| **end <= at).count();
            let (found, _) = decode(&bytes, &[100_000]);
            prop_assert!(found.len() <= whole, "{} of {} frames", found.len(), whole);
            for ((_, found), sent) in found.iter().zip(&payloads) {
                prop_assert_eq!(found, sent);
            }
        }

        #[test]
        fn arbitrary_bytes_are_no_frames(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert!(decode(&bytes, &[77]).0.is_empty());
        }
    }

    #[test]
    fn a_frame_that_is_missing_or_comes_twice_is_noticed() {
        let frame = |number, into: &mut Vec<u8>| encode(number, Kind::Data, b"x", into);
        let mut missing = Vec::new();
        frame(0, &mut missing);
        frame(2, &mut missing);
        assert_eq!(decode(&missing, &[9]), (vec![(Kind::Data, b"x".to_vec())], Err(Corrupt)));
        let mut twice = Vec::new();
        frame(0, &mut twice);
        frame(0, &mut twice);
        assert_eq!(decode(&twice, &[9]), (vec![(Kind::Data, b"x".to_vec())], Err(Corrupt)));
    }
}
