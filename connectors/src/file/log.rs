//! A log in files: records with checksums, in segments that are deleted as a whole.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nekton_engine::connect::{Log, Waker};
use nekton_engine::hash::fixed_hash;
use nekton_engine::{Error, Kind, Result};

/// A segment is followed by the next one at this size.
const SEGMENT: u64 = 4 << 20;

pub(super) struct FileLog {
    folder: PathBuf,
    /// Held as long as the log is open.
    _lock: File,
    /// The records of each segment, oldest first; the last segment is being written.
    segments: VecDeque<(u64, u64)>,
    current: File,
    size: u64,
    appended: u64,
    /// Records that are not needed any more, in segments that are.
    obsolete: u64,
    waker: Waker,
}

fn segment(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.log"))
}

impl FileLog {
    pub(super) fn open(folder: &Path, waker: Waker) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"));
        let lock = lock.map_err(failed(folder))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::new(
                Kind::Conflict,
                format!(
                    "the log in {} is in use: this job is running already. End it first",
                    folder.display()
                ),
            ),
            TryLockError::Error(error) => failed(folder)(error),
        })?;
        let numbers = numbers(folder)?;
        let next = numbers.last().map_or(0, |last| last + 1);
        let current = new_segment(folder, next)?;
        let segments = numbers.into_iter().chain([next]).map(|number| (number, 0)).collect();
        let (folder, _lock) = (folder.to_owned(), lock);
        Ok(FileLog { folder, _lock, segments, current, size: 0, appended: 0, obsolete: 0, waker })
    }
}

/// The error of what failed on a log's file or folder.
fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::io(format!("the log in {}", path.display()), &error)
}

fn new_segment(folder: &Path, number: u64) -> Result<File> {
    let path = segment(folder, number);
    OpenOptions::new().create_new(true).append(true).open(&path).map_err(failed(&path))
}

/// The whole records of a segment.
fn read_segment(folder: &Path, number: u64) -> Result<Vec<Bytes>> {
    let path = segment(folder, number);
    let mut content = Bytes::from(std::fs::read(&path).map_err(failed(&path))?);
    let mut records = Vec::new();
    // A record that is torn was not durable, and nothing follows it in its segment.
    while content.len() >= 8 {
        let head = content.split_to(8);
        let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let said = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if size > content.len() || said != fixed_hash(&content[..size]) as u32 {
            tracing::warn!(path = %path.display(), "a torn record at the end of a log was left out");
            break;
        }
        records.push(content.split_to(size));
    }
    Ok(records)
}

/// The numbers of a log's segments, in order.
fn numbers(folder: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let name = entry.map_err(failed(folder))?.file_name();
        numbers.extend(name.to_string_lossy().strip_suffix(".log").and_then(|n| n.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What a log holds that another program may be writing.
pub(super) fn read(folder: &Path) -> Result<Vec<Bytes>> {
    let mut records = Vec::new();
    for number in numbers(folder)? {
        match read_segment(folder, number) {
            Ok(of_segment) => records.extend(of_segment),
            // Nothing in it was needed any more.
            Err(error) if error.kind() == Kind::Missing => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

impl Log for FileLog {
    fn read(&mut self) -> Result<Vec<Bytes>> {
        let mut records = Vec::new();
        for (number, count) in &mut self.segments {
            let of_segment = read_segment(&self.folder, *number)?;
            *count += of_segment.len() as u64;
            records.extend(of_segment);
        }
        Ok(records)
    }

    fn append(&mut self, record: Bytes) -> Result<()> {
        if self.size > SEGMENT {
            let next = self.segments.back().map_or(0, |(number, _)| number + 1);
            self.current = new_segment(&self.folder, next)?;
            self.segments.push_back((next, 0));
            self.size = 0;
        }
        let mut bytes = Vec::with_capacity(record.len() + 8);
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(fixed_hash(&record[..]) as u32).to_le_bytes());
        bytes.extend_from_slice(&record);
        self.current.write_all(&bytes).map_err(failed(&self.folder))?;
        self.size += bytes.len() as u64;
        self.appended += 1;
        if let Some((_, count)) = self.segments.back_mut() {
            *count += 1;
        }
        (self.waker)();
        Ok(())
    }

    fn durable(&mut self) -> Result<u64> {
        Ok(self.appended)
    }

    fn trim(&mut self, count: u64) -> Result<()> {
        self.obsolete += count;
        while self.segments.len() > 1
            && let Some(&(number, records)) = self.segments.front()
            && records <= self.obsolete
        {
            self.obsolete -= records;
            self.segments.pop_front();
            std::fs::remove_file(segment(&self.folder, number)).map_err(failed(&self.folder))?;
        }
        Ok(())
    }
}
