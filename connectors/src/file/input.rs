//! The bytes of a partition's file, decompressed, as far as they are there.

use std::fs::File;
use std::io::{BufReader, Error as IoError, ErrorKind, Read};
use std::path::{Path, PathBuf};

use nekton_engine::{Error, Kind, Result};

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now; somebody may be writing more.
    NotYet,
    /// The end: nobody holds the file for writing.
    End,
}

/// An open file.
pub(super) struct Input {
    path: PathBuf,
    bytes: Bytes,
    /// The same file, to ask about it.
    file: File,
}

enum Bytes {
    Plain(Growing),
    Packed(Box<dyn Read + Send>),
}

impl Input {
    /// Opens a file. Its end is told only if it is asked for with `until_end`.
    pub(super) fn open(path: &Path, until_end: bool) -> Result<Self> {
        let failed = |error: IoError| Error::io(format!("reading {}", path.display()), &error);
        let file = File::open(path).map_err(failed)?;
        let growing = Growing { file: file.try_clone().map_err(failed)?, taken: 0, until_end };
        let bytes = match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => {
                Bytes::Packed(Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(growing))))
            }
            Some("zst") => Bytes::Packed(Box::new(zstd::Decoder::new(growing).map_err(failed)?)),
            _ => Bytes::Plain(growing),
        };
        Ok(Input { path: path.to_owned(), bytes, file })
    }

    /// Reads what is there. `at` is how far the (decompressed) contents were read, for messages.
    pub(super) fn read(&mut self, into: &mut [u8], at: u64) -> Result<Found> {
        let read = match &mut self.bytes {
            Bytes::Plain(growing) => growing.read(into),
            Bytes::Packed(bytes) => bytes.read(into),
        };
        match read {
            Ok(0) => Ok(Found::End),
            Ok(count) => Ok(Found::Bytes(count)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Found::NotYet)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                if self.file.metadata().is_ok_and(|meta| meta.len() == 0) {
                    return Ok(Found::End);
                }
                Err(self.cut(&format!("what is compressed in it ends in the middle, at byte {at}")))
            }
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Shrunk>()) => {
                Err(self.cut(&error.to_string()))
            }
            Err(error) => {
                let what = format!("reading {} at byte {at} of its contents", self.path.display());
                Err(Error::io(what, &error))
            }
        }
    }

    /// Whether something may follow an end: compressed contents are over then.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.bytes, Bytes::Plain(_))
    }

    fn cut(&self, how: &str) -> Error {
        Error::new(
            Kind::Lost,
            format!("{} was cut: {how}. Topics may only grow: put the whole file there", self.path.display()),
        )
    }
}

/// A file whose end is an end only when nobody writes to it. Until then, a read there would block.
struct Growing {
    file: File,
    taken: u64,
    until_end: bool,
}

impl Read for Growing {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let mut count = self.file.read(into)?;
        if count == 0 {
            // Asked before the end is found again: whoever writes now has written by then, or is seen next time.
            let ended = self.until_end && self.unwritten();
            count = self.file.read(into)?;
            if count == 0 {
                self.check_size()?;
                return if ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
            }
        }
        self.taken += count as u64;
        Ok(count)
    }
}

impl Growing {
    /// Whether nobody holds the file for writing.
    fn unwritten(&self) -> bool {
        let free = self.file.try_lock_shared().is_ok();
        if free {
            // The lock was only to ask; it goes with the file at the latest.
            let _ = self.file.unlock();
        }
        free
    }

    /// A file that became shorter than what was read of it has lost records or is another one.
    fn check_size(&self) -> std::io::Result<()> {
        let size = self.file.metadata()?.len();
        if size >= self.taken {
            return Ok(());
        }
        Err(IoError::other(Shrunk { taken: self.taken, size }))
    }
}

/// A file was read further than it is long now.
#[derive(Debug)]
struct Shrunk {
    taken: u64,
    size: u64,
}

impl std::fmt::Display for Shrunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of it were read and it has only {} now", self.taken, self.size)
    }
}

impl std::error::Error for Shrunk {}
