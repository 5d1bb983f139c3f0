//! A link: what timely takes for a socket to another process. It frames and checks what goes over the connection, keeps
//! it alive, and notices when the other process is gone or hangs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use timely::communication::allocator::zero_copy::stream::Stream;

use super::frame::{Frames, Kind, LARGEST, encode};
use super::wire::Wire;
use crate::error::{self, Error};

/// How long the last words to another process may take.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What all links of a process share.
#[derive(Default)]
pub(super) struct Fate {
    /// Called once, at the first loss.
    told: OnceLock<Box<dyn Fn(Error) + Send + Sync>>,
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    lost: Option<Error>,
    /// The job's own end has come: nothing is kept waiting any more.
    released: bool,
}

impl Fate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `with` at the first loss, or now if it has been.
    pub(super) fn tell(&self, with: impl Fn(Error) + Send + Sync + 'static) {
        let lost = self.state().lost.clone();
        if let Some(error) = lost {
            with(error);
        }
        let _ = self.told.set(Box::new(with));
        // One that came in between.
        if let (Some(error), Some(told)) = (self.state().lost.clone(), self.told.get()) {
            told(error);
        }
    }

    fn lost(&self, error: Error) {
        let first = self.state().lost.is_none();
        if first {
            self.state().lost = Some(error.clone());
            if let Some(told) = self.told.get() {
                told(error);
            }
        }
    }

    pub(super) fn release(&self) {
        self.state().released = true;
        self.released.notify_all();
    }

    /// Waits until the job has ended: timely's threads must not, before, or its workers panic.
    fn hold(&self) {
        let mut state = self.state();
        while !state.released {
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Writer {
    number: u64,
    /// Nothing is written any more.
    ended: bool,
    last: Instant,
    buffer: Vec<u8>,
}

struct Reader {
    frames: Frames,
    /// Of a frame of data, what was not read yet.
    rest: std::ops::Range<usize>,
    ended: bool,
    heard: Instant,
}

struct Ends {
    wire: Wire,
    /// The other process, as people know it.
    name: String,
    silence: Duration,
    writer: Mutex<Writer>,
    reader: Mutex<Reader>,
    fate: Arc<Fate>,
}

/// A connection to another process of the job.
#[derive(Clone)]
pub(super) struct Link(Arc<Ends>);

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Puts a link on a connection to the process called `name`. When nothing is heard for `silence`, it is lost.
    pub(super) fn new(wire: Wire, name: String, silence: Duration, fate: Arc<Fate>) -> io::Result<Self> {
        wire.patience((silence / 10).max(Duration::from_millis(10)), None)?;
        let now = Instant::now();
        let writer = Writer { number: 0, ended: false, last: now, buffer: Vec::new() };
        let reader = Reader { frames: Frames::new(), rest: 0..0, ended: false, heard: now };
        let (writer, reader) = (Mutex::new(writer), Mutex::new(reader));
        let link = Link(Arc::new(Ends { wire, name, silence, writer, reader, fate }));
        let beating = Arc::downgrade(&link.0);
        let every = silence / 5;
        std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
            loop {
                std::thread::sleep(every);
                let Some(ends) = beating.upgrade() else { return };
                // Whoever writes at this moment is a sign of life enough.
                let mut writer = match ends.writer.try_lock() {
                    Ok(writer) => writer,
                    Err(TryLockError::WouldBlock) => continue,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                };
                if writer.ended {
                    return;
                }
                if writer.last.elapsed() >= every / 2 {
                    let _ = ends.send(&mut writer, Kind::Beat, &[]);
                }
            }
        })?;
        Ok(link)
    }

    /// Reads so many bytes, before there are workers: it fails at once.
    pub(super) fn read_early(&self, into: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            match self.0.read(&mut into[filled..])? {
                0 => return Err(self.0.lost("it has ended")),
                count => filled += count,
            }
        }
        Ok(())
    }

    /// Tells the other process why this one ends with an error, if that can be said at once.
    pub(super) fn farewell(&self, why: &str) {
        let deadline = Instant::now() + LAST_WORDS;
        let _ = self.0.wire.patience(LAST_WORDS, Some(LAST_WORDS));
        let mut writer = loop {
            match self.0.writer.try_lock() {
                Ok(writer) => break writer,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => return,
            }
        };
        let mut size = why.len().min(4_096);
        while !why.is_char_boundary(size) {
            size -= 1;
        }
        let _ = self.0.send(&mut writer, Kind::Farewell, &why.as_bytes()[..size]);
        writer.ended = true;
    }

    /// Ends the connection, whoever waits for it.
    pub(super) fn close(&self) {
        self.0.wire.finish();
        self.0.wire.close();
    }
}

impl Ends {
    fn send(&self, writer: &mut Writer, kind: Kind, payload: &[u8]) -> io::Result<()> {
        if writer.ended {
            return Ok(());
        }
        writer.buffer.clear();
        encode(writer.number, kind, payload, &mut writer.buffer);
        writer.number += 1;
        let sent = self.wire.write(&writer.buffer);
        writer.last = Instant::now();
        if let Err(error) = &sent {
            // Its last words may still be there to be read; if not, the reader sees the end.
            tracing::debug!(%error, peer = self.name, "writing to a process");
            writer.ended = true;
        }
        sent
    }

    /// The other process is lost.
    fn lost(&self, why: &str) -> io::Error {
        let said =
            format!("the connection to {} of this job was lost: {why}. Start all processes again", self.name);
        self.ended(Error::new(error::Kind::Unavailable, said))
    }

    fn ended(&self, error: Error) -> io::Error {
        let said = error.to_string();
        self.fate.lost(error);
        self.wire.close();
        io::Error::new(ErrorKind::ConnectionAborted, said)
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *held(&self.reader);
        loop {
            if !reader.rest.is_empty() {
                let count = into.len().min(reader.rest.len());
                let from = reader.rest.start..reader.rest.start + count;
                into[..count].copy_from_slice(reader.frames.payload(from));
                reader.rest.start += count;
                return Ok(count);
            }
            if reader.ended {
                return Ok(0);
            }
            match reader.frames.next() {
                Ok(None) => {}
                Ok(Some((Kind::Data, payload))) => {
                    reader.rest = payload;
                    continue;
                }
                Ok(Some((Kind::Beat, _))) => continue,
                Ok(Some((Kind::End, _))) => {
                    reader.ended = true;
                    continue;
                }
                Ok(Some((Kind::Farewell, words))) => {
                    let words = String::from_utf8_lossy(reader.frames.payload(words)).into_owned();
                    let words: String = words.chars().filter(|c| !c.is_control()).collect();
                    let said = format!("{} of this job has ended with an error: {words}", self.name);
                    return Err(self.ended(Error::new(error::Kind::Unavailable, said)));
                }
                Err(_) => return Err(self.lost("what came was damaged on its way")),
            }
            match self.wire.read(reader.frames.space()) {
                Ok(0) => return Err(self.lost("it has ended")),
                Ok(count) => {
                    reader.frames.filled(count);
                    reader.heard = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if reader.heard.elapsed() >= self.silence {
                        let seconds = self.silence.as_secs_f64();
                        return Err(self.lost(&format!(
                            "nothing was heard of it for {seconds} seconds. It hangs or is stopped, its machine is \
                             overloaded, or the network is cut"
                        )));
                    }
                }
                Err(error) => {
                    let ended = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
                    let why = if ended { "it has ended".to_owned() } else { error.to_string() };
                    return Err(self.lost(&why));
                }
            }
        }
    }
}

impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(into);
        if read.is_err() {
            self.0.fate.hold();
        }
        read
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(LARGEST)];
        // That it cannot be written is the reader's to notice: a panic of timely's thread would be no sentence.
        let _ = self.0.send(&mut held(&self.0.writer), Kind::Data, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(self.clone())
    }

    fn set_nonblocking(&self, _nonblocking: bool) -> io::Result<()> {
        Ok(())
    }

    /// Timely ends its stream, and waits for the other's end.
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Read {
            let mut writer = held(&self.0.writer);
            let _ = self.0.send(&mut writer, Kind::End, &[]);
            writer.ended = true;
        }
        Ok(())
    }
}
