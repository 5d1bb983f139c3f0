//! Bytes into lines, however they come: the records of JSON Lines.

use bytes::{Bytes, BytesMut};
use nekton_engine::Time;
use nekton_engine::connect::{Position, RawRecord};

/// How a line begins that is a progress mark, and no record.
const MARK: &[u8] = b"{\"nekton.closed\":";

/// The line of a progress mark.
pub(super) fn mark_line(time: Time) -> String {
    format!("{{\"nekton.closed\":{time}}}\n")
}

/// The time that a line marks as closed, if it is a mark.
pub(super) fn marked(line: &[u8]) -> Option<Time> {
    let time = line.strip_prefix(MARK)?.trim_ascii_end().strip_suffix(b"}")?;
    std::str::from_utf8(time).ok()?.trim().parse().ok()
}

/// Cuts bytes into lines.
pub(super) struct Lines {
    limit: usize,
    /// Bytes taken so far.
    pub(super) offset: u64,
    /// Where the unfinished line begins.
    begun: u64,
    /// The unfinished line, as far as the limit allows.
    torn: BytesMut,
    /// Whether the unfinished line has passed the limit.
    too_long: bool,
}

/// How much of a line that is too long is kept for its dead letter.
pub(super) const KEPT: usize = 1 << 10;

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Lines { limit, offset: 0, begun: 0, torn: BytesMut::new(), too_long: false }
    }

    pub(super) fn take(&mut self, bytes: &[u8], records: &mut Vec<RawRecord>) {
        let shared = Bytes::copy_from_slice(bytes);
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = shared.slice(from..end);
            let begun = self.begun;
            self.begun = self.offset + end as u64 + 1;
            from = end + 1;
            if self.torn.is_empty() && !self.too_long && line.len() <= self.limit {
                push(begun, line, None, records);
            } else {
                self.keep(&line);
                self.end_torn(begun, records);
            }
        }
        self.keep(&bytes[from..]);
        self.offset += bytes.len() as u64;
    }

    /// Takes the unfinished line as a whole one.
    pub(super) fn finish(&mut self, records: &mut Vec<RawRecord>) {
        if !self.torn.is_empty() {
            let begun = std::mem::replace(&mut self.begun, self.offset);
            self.end_torn(begun, records);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.torn.extend_from_slice(bytes);
        if self.torn.len() > self.limit {
            self.too_long = true;
        }
        if self.too_long {
            self.torn.truncate(KEPT);
        }
    }

    fn end_torn(&mut self, begun: u64, records: &mut Vec<RawRecord>) {
        let line = self.torn.split().freeze();
        let defect = std::mem::take(&mut self.too_long).then(|| format!("longer than {} bytes", self.limit));
        push(begun, line, defect, records);
    }
}

fn push(begun: u64, mut line: Bytes, defect: Option<String>, records: &mut Vec<RawRecord>) {
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    if line.iter().all(u8::is_ascii_whitespace) && defect.is_none() {
        return;
    }
    let position = Position { entry: begun, ..Position::default() };
    records.push(RawRecord { position, key: None, payload: line, published: 0, defect });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(limit: usize, chunks: &[&str]) -> Vec<(u64, String, bool)> {
        let mut lines = Lines::new(limit);
        let mut records = Vec::new();
        for chunk in chunks {
            lines.take(chunk.as_bytes(), &mut records);
        }
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        records.iter().map(|r| (r.position.entry, text(&r.payload), r.defect.is_some())).collect()
    }

    #[test]
    fn a_line_is_a_record_once_its_newline_is_there() {
        let expected = vec![(0, "one".to_owned(), false), (4, "two".to_owned(), false)];
        assert_eq!(cut(100, &["one\ntwo\nthr"]), expected);
        assert_eq!(cut(100, &["o", "ne", "\nt", "wo\n", "thr"]), expected);
    }

    #[test]
    fn a_line_that_is_too_long_is_set_aside_and_the_next_is_read() {
        let expected = vec![(0, "abcdefgh".to_owned(), true), (9, "ok".to_owned(), false)];
        assert_eq!(cut(4, &["abcdefgh\nok\n"]), expected);
        assert_eq!(cut(4, &["abc", "def", "gh\no", "k\n"]), expected);
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_other_lines_are_none() {
        assert_eq!(marked(mark_line(17).as_bytes()), Some(17));
        assert_eq!(marked(b"{\"nekton.closed\":17}"), Some(17));
        for line in ["{\"closed\":17}", "{\"nekton.closed\":17,\"a\":1}", "{\"nekton.closed\":\"x\"}", ""] {
            assert_eq!(marked(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn blank_lines_are_no_records() {
        assert_eq!(cut(100, &["\n\r\n  \na\r\n"]), vec![(6, "a".to_owned(), false)]);
    }
}
