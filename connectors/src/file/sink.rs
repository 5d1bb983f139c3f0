//! A topic of files being written.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use nekton_engine::connect::{
    Envelope, Message, PartitionId, PartitionWriter, Sink, SinkSettings, Waker, WriteBatch,
};
use nekton_engine::{Error, Kind, Result, Time};

use super::lines::{mark_line, marked};
use super::times::Times;
use super::{FIRST, FileSettings, WRITER, partitions};

pub(super) struct FileSink {
    folder: PathBuf,
    envelope: Envelope,
    partitions: PartitionId,
}

impl FileSink {
    pub(super) fn open(folder: &Path, _settings: &FileSettings, sink: &SinkSettings) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::io(format!("creating the topic folder {}", folder.display()), &error))?;
        let partitions = settle(folder, sink.partitions.max(1))
            .map_err(|error| error.context(format!("the topic {}", folder.display())))?;
        Ok(FileSink { folder: folder.to_owned(), envelope: sink.envelope, partitions })
    }
}

/// How many partitions a topic has: all processes of a job must see the same number, so a new one gets `wanted` of them
/// at once. The first one is created last: where it is missing, whoever created the others did not get to the end.
fn settle(folder: &Path, wanted: PartitionId) -> Result<PartitionId> {
    let failed = |what: &'static str| move |error: std::io::Error| Error::io(what, &error);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(WRITER));
    let lock = lock.map_err(failed("creating its lock"))?;
    lock.lock().map_err(failed("taking its lock"))?;
    let path = |partition: PartitionId| folder.join(format!("{partition}.jsonl"));
    // Those that a sink writes: what else is there may be read, and is nobody's to append to.
    let written = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jsonl");
    let existing = partitions(folder)?.into_iter().filter(written);
    if folder.join(FIRST).exists() {
        return Ok(existing.count() as PartitionId);
    }
    // They may have wanted more of them.
    let unused = |path: &PathBuf| {
        let numbered = path.file_stem().is_some_and(|stem| stem.to_string_lossy().parse::<u32>().is_ok());
        numbered && path.metadata().is_ok_and(|of| of.len() == 0)
    };
    existing
        .filter(unused)
        .try_for_each(std::fs::remove_file)
        .map_err(failed("removing unused partitions"))?;
    for partition in (0..wanted).rev() {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path(partition))
            .map_err(failed("creating a partition"))?;
    }
    Ok(partitions(folder)?.iter().filter(|path| written(path)).count() as PartitionId)
}

impl Sink for FileSink {
    fn partitions(&self) -> PartitionId {
        self.partitions
    }

    fn open(&self, partition: PartitionId, _waker: Waker) -> Result<Box<dyn PartitionWriter>> {
        let path = self.folder.join(format!("{partition}.jsonl"));
        let failed = |error: &std::io::Error| Error::io(format!("writing {}", path.display()), error);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|error| failed(&error))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::new(
                Kind::Conflict,
                format!(
                    "{} is being written by another program: a topic has one writer. End the other one, or write elsewhere with --topic",
                    path.display()
                ),
            ),
            TryLockError::Error(error) => failed(&error),
        })?;
        let last = mend(&mut file, &path)?;
        let (times, held) = Times::open(&path, &mut file, matches!(last, Some(Last::Mark(_))))?;
        let size = file.metadata().map_err(|error| failed(&error))?.len();
        let held = match (held, last) {
            (_, Some(Last::Mark(time))) => Some((time, u64::MAX)),
            // Lines of older times than are known were written by others; all of theirs is held.
            (None, Some(Last::Line(time))) => Some((time, u64::MAX)),
            (held, _) => held,
        };
        Ok(Box::new(FileWriter {
            file,
            path,
            envelope: self.envelope,
            held,
            times,
            size,
            written: None,
            buffer: Vec::new(),
        }))
    }

    fn describe(&self) -> String {
        format!("file:{}", self.folder.display())
    }

    fn identity(&self) -> String {
        let folder = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        format!("file:{}", folder.display())
    }
}

/// The last line of a file, if it has a time.
#[derive(Clone, Copy)]
enum Last {
    Line(Time),
    Mark(Time),
}

/// Cuts a torn last line off, and finds the time of the last whole one where it has one.
fn mend(file: &mut File, path: &Path) -> Result<Option<Last>> {
    let failed = |error: std::io::Error| Error::io(format!("reading the end of {}", path.display()), &error);
    let size = file.metadata().map_err(failed)?.len();
    // From the back, in steps that double, until the tail holds a whole last line.
    let mut step = 4_096;
    loop {
        let from = size.saturating_sub(step);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        file.take(size - from).read_to_end(&mut tail).map_err(failed)?;
        let whole = memchr::memrchr(b'\n', &tail).map(|end| end + 1);
        let line = whole.and_then(|end| match memchr::memrchr(b'\n', &tail[..end - 1]) {
            Some(before) => Some(&tail[before + 1..end]),
            None => (from == 0).then_some(&tail[..end]),
        });
        if line.is_none() && from > 0 {
            step *= 2;
            continue;
        }
        let end = from + whole.unwrap_or(0) as u64;
        if end < size {
            tracing::warn!(path = %path.display(), bytes = size - end, "a torn last line was cut off");
            file.set_len(end).map_err(failed)?;
        }
        let time =
            |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).ok()?.get("time")?.as_u64();
        return Ok(line.and_then(|line| marked(line).map(Last::Mark).or(time(line).map(Last::Line))));
    }
}

struct FileWriter {
    file: File,
    path: PathBuf,
    envelope: Envelope,
    /// The last time that the file held when it was opened, and how many lines of it.
    held: Option<(Time, u64)>,
    times: Times,
    size: u64,
    written: Option<Time>,
    buffer: Vec<u8>,
}

impl FileWriter {
    fn line(&mut self, time: Time, message: &Message) {
        let value = message.value.as_deref();
        if self.envelope == Envelope::Upsert {
            self.buffer.extend_from_slice(b"{\"key\":");
            self.buffer.extend_from_slice(message.key.as_deref().unwrap_or(b"null"));
            self.buffer.extend_from_slice(b",\"value\":");
            self.buffer.extend_from_slice(value.unwrap_or(b"null"));
            self.buffer.extend_from_slice(format!(",\"time\":{time}}}\n").as_bytes());
        } else {
            self.buffer.extend_from_slice(value.unwrap_or(b"null"));
            self.buffer.push(b'\n');
        }
    }
}

impl PartitionWriter for FileWriter {
    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        self.buffer.clear();
        for message in &batch.messages {
            self.line(batch.time, message);
        }
        self.times.begin(batch.time, self.size)?;
        self.file
            .write_all(&self.buffer)
            .map_err(|error| Error::io(format!("writing {}", self.path.display()), &error))?;
        self.size += self.buffer.len() as u64;
        self.written = Some(batch.time);
        Ok(())
    }

    fn mark(&mut self, time: Time) -> Result<()> {
        let line = mark_line(time);
        self.file
            .write_all(line.as_bytes())
            .map_err(|error| Error::io(format!("writing {}", self.path.display()), &error))?;
        self.size += line.len() as u64;
        Ok(())
    }

    fn written(&mut self) -> Result<Option<Time>> {
        Ok(self.written)
    }

    fn last_time(&self) -> Option<Time> {
        self.held.map(|(time, _)| time)
    }

    fn last_count(&self) -> u64 {
        self.held.map_or(0, |(_, count)| count)
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        self.file.flush().map_err(|error| Error::io(format!("writing {}", self.path.display()), &error))
    }
}
