//! One partition's file being read, on a thread of its own: bytes into lines, lines into a bounded queue.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nekton_engine::connect::{PartitionReader, Polled, Position, RawRecord, Start, Waker};
use nekton_engine::{Error, Kind, Result};

use super::FileSettings;

/// How much is read at a time.
const CHUNK: usize = 128 << 10;
/// How many chunks' records wait in the queue at most.
const WAITING: usize = 16;
/// How long a thread at the end of its file sleeps: from the first to the last, doubled each time.
const NAPS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// What the thread has found out besides records.
#[derive(Default)]
struct State {
    at_end: AtomicBool,
    gone: AtomicBool,
    error: Mutex<Option<Error>>,
}

pub(super) struct FileReader {
    queue: Receiver<Vec<RawRecord>>,
    state: Arc<State>,
    /// Records taken from the queue and not handed over yet.
    rest: std::vec::IntoIter<RawRecord>,
}

impl FileReader {
    pub(super) fn open(path: PathBuf, start: Start, settings: &FileSettings, waker: Waker) -> Result<Self> {
        let file =
            File::open(&path).map_err(|error| Error::io(format!("reading {}", path.display()), &error))?;
        let (sender, queue) = sync_channel(WAITING);
        let state = Arc::new(State::default());
        let thread = Thread {
            input: Input::open(&path, file)?,
            lines: Lines::new(settings.max_record_bytes),
            skip: start,
            sender,
            waker,
            state: state.clone(),
            until_end: settings.until_end,
            path,
        };
        std::thread::Builder::new()
            .name("files:read".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| Error::io("starting a thread", &error))?;
        Ok(FileReader { queue, state, rest: Vec::new().into_iter() })
    }
}

impl PartitionReader for FileReader {
    fn poll(&mut self, budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled> {
        let mut left = budget as isize;
        // Asked before the queue is found empty: what comes in between is seen next time.
        let at_end = self.state.at_end.load(Ordering::Acquire);
        while left > 0 {
            let Some(record) = self.rest.next() else {
                match self.queue.try_recv() {
                    Ok(records) => self.rest = records.into_iter(),
                    Err(TryRecvError::Empty) => return Ok(if at_end { Polled::End } else { Polled::Idle }),
                    Err(TryRecvError::Disconnected) => {
                        let error = self.state.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
                        return error.map_or(Ok(Polled::End), Err);
                    }
                }
                continue;
            };
            left -= record.payload.len() as isize + 1;
            out.push(record);
        }
        Ok(Polled::More)
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        self.state.gone.store(true, Ordering::Relaxed);
    }
}

/// The bytes of a partition, decompressed.
enum Input {
    Plain(File),
    Packed { bytes: Box<dyn Read + Send>, lock: File },
}

impl Input {
    fn open(path: &Path, file: File) -> Result<Self> {
        let failed = |error: &std::io::Error| Error::io(format!("reading {}", path.display()), error);
        let lock = || file.try_clone().map_err(|error| failed(&error));
        Ok(match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => {
                let lock = lock()?;
                Input::Packed {
                    bytes: Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))),
                    lock,
                }
            }
            Some("zst") => {
                let lock = lock()?;
                let bytes = zstd::Decoder::new(file).map_err(|error| failed(&error))?;
                Input::Packed { bytes: Box::new(bytes), lock }
            }
            _ => Input::Plain(file),
        })
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = match self {
                Input::Plain(file) => file.read(into),
                Input::Packed { bytes, .. } => bytes.read(into),
            };
            match read {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn file(&self) -> &File {
        match self {
            Input::Plain(file) | Input::Packed { lock: file, .. } => file,
        }
    }

    /// Whether nobody holds the file for writing.
    fn unwritten(&self) -> bool {
        let free = self.file().try_lock_shared().is_ok();
        if free {
            // The lock was only to ask; it goes with the file at the latest.
            let _ = self.file().unlock();
        }
        free
    }
}

struct Thread {
    path: PathBuf,
    input: Input,
    lines: Lines,
    skip: Start,
    sender: SyncSender<Vec<RawRecord>>,
    waker: Waker,
    state: Arc<State>,
    until_end: bool,
}

impl Thread {
    fn run(mut self) {
        if let Err(error) = self.follow() {
            *self.state.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        // The queue's end is seen by whoever polls.
        let waker = self.waker.clone();
        drop(self);
        waker();
    }

    fn follow(&mut self) -> Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut nap = NAPS.0;
        if self.skip == Start::Latest {
            self.go_to_the_end(&mut buffer)?;
        }
        loop {
            // Asked before the end is found: whoever writes now has written by then, or is seen next time.
            let unwritten = self.until_end && self.input.unwritten();
            let count = self.read(&mut buffer)?;
            let mut records = Vec::new();
            if count > 0 {
                self.state.at_end.store(false, Ordering::Release);
                self.lines.take(&buffer[..count], &mut records);
                nap = NAPS.0;
            } else if unwritten {
                // The last line of a finished file may lack its newline.
                self.lines.finish(&mut records);
            }
            if let Start::After(position) = self.skip {
                records.retain(|record| record.position > position);
            }
            if !records.is_empty() {
                if self.sender.send(records).is_err() {
                    return Ok(());
                }
                (self.waker)();
            }
            if count == 0 {
                self.check_size()?;
                if unwritten && !self.state.at_end.swap(true, Ordering::AcqRel) {
                    (self.waker)();
                }
                if self.state.gone.load(Ordering::Relaxed) {
                    return Ok(());
                }
                std::thread::sleep(nap);
                nap = (nap * 2).min(NAPS.1);
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let at = self.lines.offset;
        self.input.read(buffer).map_err(|error| {
            Error::io(format!("reading {} at byte {at} of its contents", self.path.display()), &error)
        })
    }

    fn go_to_the_end(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            let count = self.read(buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.lines.take(&buffer[..count], &mut Vec::new());
        }
    }

    /// A file that became shorter than what was read of it has lost records or is another one.
    fn check_size(&self) -> Result<()> {
        let Input::Plain(file) = &self.input else { return Ok(()) };
        let size = file
            .metadata()
            .map_err(|error| Error::io(format!("reading {}", self.path.display()), &error))?
            .len();
        let read = self.lines.offset;
        if size >= read {
            return Ok(());
        }
        Err(Error::new(
            Kind::Lost,
            format!(
                "{} was cut: {read} bytes of it were read and it has only {size} now. Topics may only grow",
                self.path.display()
            ),
        ))
    }
}

/// Cuts bytes into lines.
struct Lines {
    limit: usize,
    /// Bytes taken so far.
    offset: u64,
    /// Where the unfinished line begins.
    begun: u64,
    /// The unfinished line, as far as the limit allows.
    torn: BytesMut,
    /// Whether the unfinished line has passed the limit.
    too_long: bool,
}

/// How much of a line that is too long is kept for its dead letter.
const KEPT: usize = 1 << 10;

impl Lines {
    fn new(limit: usize) -> Self {
        Lines { limit, offset: 0, begun: 0, torn: BytesMut::new(), too_long: false }
    }

    fn take(&mut self, bytes: &[u8], records: &mut Vec<RawRecord>) {
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
    fn finish(&mut self, records: &mut Vec<RawRecord>) {
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
    fn blank_lines_are_no_records() {
        assert_eq!(cut(100, &["\n\r\n  \na\r\n"]), vec![(6, "a".to_owned(), false)]);
    }
}
