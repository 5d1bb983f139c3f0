//! Files as topics: a topic is a folder, a partition a file `<topic>/<partition>.jsonl`, a record a line.
//!
//! Reading takes a folder of partitions or a single file, plain, gzip (`.gz`) or zstd (`.zst`). A line is
//! a record once its newline is there. Writing appends, under an exclusive lock on the partition's file: a topic has
//! one writer. That lock is also how a reader that reads "until the end" knows the end: the
//! file has none while somebody holds it for writing.

mod reader;
mod sink;
mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nekton_engine::connect::{Sink, SinkSettings, Source};
use nekton_engine::{Error, Kind, Result};

/// How files are read and written.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// Report the end of a partition instead of following it for ever.
    pub until_end: bool,
    /// The most bytes of a record; a longer one is handed on as unreadable.
    pub max_record_bytes: usize,
}

impl Default for FileSettings {
    fn default() -> Self {
        FileSettings { until_end: false, max_record_bytes: 5 << 20 }
    }
}

/// Opens a topic for reading: a folder of partitions, or one file.
///
/// # Errors
/// [`Kind::Missing`] if there is nothing at `path`, [`Kind::Denied`] if it may not be read.
pub fn open_source(path: &Path, settings: &FileSettings) -> Result<Arc<dyn Source>> {
    Ok(Arc::new(source::FileSource::open(path, settings)?))
}

/// Opens a topic for writing, creating its folder and partitions where they do not exist.
///
/// # Errors
/// [`Kind::Denied`] or [`Kind::Io`] if that fails.
pub fn open_sink(path: &Path, settings: &FileSettings, sink: &SinkSettings) -> Result<Arc<dyn Sink>> {
    Ok(Arc::new(sink::FileSink::open(path, settings, sink)?))
}

/// The partitions of a folder, in order: files with a number for a name by their number, then all others by name.
fn partitions(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable =
        |error: &std::io::Error| Error::io(format!("reading the topic folder {}", folder.display()), error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(&error))? {
        let path = entry.map_err(|error| unreadable(&error))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let bare = name.trim_end_matches(".gz").trim_end_matches(".zst");
        if let Some(stem) = bare.strip_suffix(".jsonl").or_else(|| bare.strip_suffix(".json")) {
            let number = stem.parse::<u32>().map_or((1, 0), |number| (0, number));
            found.push((number, name, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, _, path)| path).collect())
}

fn missing(path: &Path) -> Error {
    Error::new(
        Kind::Missing,
        format!("there is no topic at {}: create it, or correct --topics or --topic", path.display()),
    )
}
