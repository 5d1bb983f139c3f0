//! One partition's file being read, on a thread of its own: bytes into records, records into a bounded queue.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nekton_engine::connect::{PartitionReader, Polled, Position, RawRecord, Start, Waker};
use nekton_engine::{Error, Kind, Result, Time};

use super::input::{Found, Input};
use super::lines::{Lines, marked};
use super::rows::Rows;
use super::{FileSettings, Format};

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

/// Records, and the progress marks among them.
type Chunk = (Vec<RawRecord>, Vec<(Position, Time)>);

pub(super) struct FileReader {
    queue: Receiver<Chunk>,
    state: Arc<State>,
    /// Records taken from the queue and not handed over yet.
    rest: std::vec::IntoIter<RawRecord>,
    /// Marks taken from the queue and not handed over yet; and those handed over last.
    marks: VecDeque<(Position, Time)>,
    handed_over: Vec<(Position, Time)>,
}

impl FileReader {
    pub(super) fn open(path: PathBuf, start: Start, settings: &FileSettings, waker: Waker) -> Result<Self> {
        let (sender, queue) = sync_channel(WAITING);
        let state = Arc::new(State::default());
        let thread = Thread {
            input: Input::open(&path, settings.until_end)?,
            cutter: Cutter::new(&path, settings.max_record_bytes),
            skip: start,
            sender,
            waker,
            state: state.clone(),
            path,
        };
        std::thread::Builder::new()
            .name("files:read".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| Error::io("starting a thread", &error))?;
        let (marks, handed_over) = (VecDeque::new(), Vec::new());
        Ok(FileReader { queue, state, rest: Vec::new().into_iter(), marks, handed_over })
    }
}

impl PartitionReader for FileReader {
    fn poll(&mut self, budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled> {
        self.handed_over.clear();
        let polled = self.records(budget, out);
        // Marks behind the next record have time until that is handed over.
        let next = self.rest.as_slice().first().map(|record| record.position);
        let before = |mark: &&(Position, Time)| next.is_none_or(|next| mark.0 < next);
        let count = self.marks.iter().take_while(before).count();
        self.handed_over.extend(self.marks.drain(..count));
        polled
    }

    fn marks(&self) -> &[(Position, Time)] {
        &self.handed_over
    }
}

impl FileReader {
    fn records(&mut self, budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled> {
        let mut left = budget as isize;
        // Asked before the queue is found empty: what comes in between is seen next time.
        let at_end = self.state.at_end.load(Ordering::Acquire);
        while left > 0 {
            let Some(record) = self.rest.next() else {
                match self.queue.try_recv() {
                    Ok((records, marks)) => {
                        self.rest = records.into_iter();
                        left -= marks.len() as isize;
                        self.marks.extend(marks);
                    }
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

/// Cuts bytes into records.
enum Cutter {
    Lines(Lines),
    Rows(Box<Rows>),
}

impl Cutter {
    fn new(path: &Path, limit: usize) -> Self {
        match Format::of(path) {
            Some(Format::Csv) => Cutter::Rows(Box::new(Rows::new(limit))),
            Some(Format::Json) | None => Cutter::Lines(Lines::new(limit)),
        }
    }

    fn offset(&self) -> u64 {
        match self {
            Cutter::Lines(lines) => lines.offset,
            Cutter::Rows(rows) => rows.offset,
        }
    }

    /// Takes bytes and says how many. An error says why the rows cannot be read.
    fn take(&mut self, bytes: &[u8], records: &mut Vec<RawRecord>) -> Result<usize, String> {
        match self {
            Cutter::Lines(lines) => {
                lines.take(bytes, records);
                Ok(bytes.len())
            }
            Cutter::Rows(rows) => rows.take(bytes, records),
        }
    }

    /// Takes the unfinished record as a whole one.
    fn finish(&mut self, records: &mut Vec<RawRecord>) -> Result<(), String> {
        match self {
            Cutter::Lines(lines) => {
                lines.finish(records);
                Ok(())
            }
            Cutter::Rows(rows) => rows.finish(records),
        }
    }
}

struct Thread {
    path: PathBuf,
    input: Input,
    cutter: Cutter,
    skip: Start,
    sender: SyncSender<Chunk>,
    waker: Waker,
    state: Arc<State>,
}

/// Whoever wanted the records has gone.
struct Gone;

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
            match self.input.read(&mut buffer, self.cutter.offset())? {
                Found::Bytes(count) => {
                    self.state.at_end.store(false, Ordering::Release);
                    if self.hand_over(&buffer[..count])?.is_err() {
                        return Ok(());
                    }
                    nap = NAPS.0;
                    continue;
                }
                Found::End => {
                    // The last record of a finished file may lack its line end.
                    let mut records = Vec::new();
                    self.cutter.finish(&mut records).map_err(|reason| self.no_header(&reason))?;
                    if self.send(records).is_err() || !self.input.goes_on() {
                        return Ok(());
                    }
                    if !self.state.at_end.swap(true, Ordering::AcqRel) {
                        (self.waker)();
                    }
                }
                Found::NotYet => {}
            }
            if self.state.gone.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(NAPS.1);
        }
    }

    fn hand_over(&mut self, bytes: &[u8]) -> Result<Result<(), Gone>> {
        let mut at = 0;
        while at < bytes.len() {
            let mut records = Vec::new();
            at += self.cutter.take(&bytes[at..], &mut records).map_err(|reason| self.no_header(&reason))?;
            if self.send(records).is_err() {
                return Ok(Err(Gone));
            }
        }
        Ok(Ok(()))
    }

    fn send(&self, mut records: Vec<RawRecord>) -> Result<(), Gone> {
        if let Start::After(position) = self.skip {
            records.retain(|record| record.position > position);
        }
        let mut marks = Vec::new();
        if matches!(self.cutter, Cutter::Lines(_)) {
            records.retain(|record| {
                let marked = marked(&record.payload);
                marks.extend(marked.map(|time| (record.position, time)));
                marked.is_none()
            });
        }
        if !(records.is_empty() && marks.is_empty()) {
            self.sender.send((records, marks)).map_err(|_| Gone)?;
            (self.waker)();
        }
        Ok(())
    }

    fn go_to_the_end(&mut self, buffer: &mut [u8]) -> Result<()> {
        while let Found::Bytes(count) = self.input.read(buffer, self.cutter.offset())? {
            let mut at = 0;
            while at < count {
                let taken = self.cutter.take(&buffer[at..count], &mut Vec::new());
                at += taken.map_err(|reason| self.no_header(&reason))?;
            }
        }
        Ok(())
    }

    fn no_header(&self, reason: &str) -> Error {
        Error::new(
            Kind::BadInput,
            format!(
                "{} cannot be read as CSV: its first line must name the columns, but {reason}. Correct the file",
                self.path.display()
            ),
        )
    }
}
