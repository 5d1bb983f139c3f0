//! Where the messages of a time begin in an output partition: beside the partition's file, so that any lines can be
//! counted, whatever is in them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use nekton_engine::{Error, Result, Time};

/// The file is begun anew after so many records, of which only the last matter.
const MOST: u64 = 4_096;
const RECORD: u64 = 16;

/// Records of a time and the offset of its first message, written before the messages are.
pub(super) struct Times {
    path: PathBuf,
    file: File,
    records: u64,
    /// The time that began last, if it has messages.
    last: Option<Time>,
}

impl Times {
    /// Opens the times of the partition at `path`, whose whole lines are in `lines`, the last of them `marked` if it is a
    /// progress mark. Says what the last time is that has lines, and how many.
    pub(super) fn open(path: &Path, lines: &mut File, marked: bool) -> Result<(Self, Option<(Time, u64)>)> {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let path = path.with_file_name(format!(".{name}.times"));
        let failed = |error: std::io::Error| Error::io(format!("reading {}", path.display()), &error);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(failed)?;
        let whole = content.len() as u64 / RECORD;
        file.set_len(whole * RECORD).map_err(failed)?;
        let size = lines.metadata().map_err(failed)?.len();
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        let records = content.chunks_exact(RECORD as usize).map(|r| (word(&r[..8]), word(&r[8..])));
        // The messages of the last records may not have been written, or were torn and cut off.
        let last = records.rev().find(|(_, offset)| *offset < size);
        let held = match last {
            None => None,
            Some((time, offset)) => {
                let mut count = 0;
                let mut buffer = vec![0; 64 << 10];
                lines.seek(SeekFrom::Start(offset)).map_err(failed)?;
                loop {
                    let read = lines.read(&mut buffer).map_err(failed)?;
                    if read == 0 {
                        break;
                    }
                    count += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
                }
                Some((time, count))
            }
        };
        // Behind a mark, every time begins anew; a record of a time that was not written may have found its place taken.
        let last = held.map(|(time, _)| time).filter(|_| !marked);
        Ok((Times { path, file, records: whole, last }, held))
    }

    /// The messages of `time` will begin at `offset`.
    pub(super) fn begin(&mut self, time: Time, offset: u64) -> Result<()> {
        // The rest of a time whose first messages are there.
        if self.last.replace(time) == Some(time) {
            return Ok(());
        }
        let mut record = [0; RECORD as usize];
        record[..8].copy_from_slice(&time.to_le_bytes());
        record[8..].copy_from_slice(&offset.to_le_bytes());
        let mut write = || {
            if self.records >= MOST {
                // The last messages are still at the old records while the new file comes to be.
                let mut tail = vec![0; RECORD as usize];
                let mut old = File::open(&self.path)?;
                old.seek(SeekFrom::Start((self.records - 1) * RECORD))?;
                old.read_exact(&mut tail)?;
                let beside = self.path.with_extension("part");
                std::fs::write(&beside, &tail)?;
                std::fs::rename(&beside, &self.path)?;
                self.file = OpenOptions::new().append(true).open(&self.path)?;
                self.records = 1;
            }
            self.file.write_all(&record)?;
            self.records += 1;
            Ok(())
        };
        write().map_err(|error: std::io::Error| Error::io(format!("writing {}", self.path.display()), &error))
    }
}
