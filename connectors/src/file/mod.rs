//! Files as topics: a topic is a folder, a partition a file `<topic>/<partition>.jsonl`, a record a line.
//!
//! Reading takes a folder of partitions or a single file, JSON Lines or CSV (`.csv`), plain, gzip (`.gz`) or
//! zstd (`.zst`). A line is a record once its newline is there. Writing appends, under an exclusive lock on the partition's file: a topic has
//! one writer. That lock is also how a reader that reads "until the end" knows the end: the
//! file has none while somebody holds it for writing.

mod input;
mod lines;
mod log;
mod reader;
mod rows;
mod sink;
mod source;
mod store;
mod times;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nekton_engine::connect::{Log, Sink, SinkSettings, Source, Store, Waker};
use nekton_engine::{Error, Kind, Result};

/// How files are read and written.
///
/// ```
/// use nekton_connectors::file::FileSettings;
///
/// let settings = FileSettings { max_record_bytes: 64 << 10, ..FileSettings::default() };
/// assert!(!settings.until_end); // files are followed, unless one says otherwise
/// ```
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
///
/// ```
/// use nekton_connectors::file::{FileSettings, open_source};
/// use nekton_engine::connect::{Polled, Start, Waker};
/// use std::sync::{Arc, mpsc};
///
/// # let folder = tempfile::tempdir()?;
/// # let topic = folder.path().join("readings");
/// # std::fs::create_dir(&topic)?;
/// std::fs::write(topic.join("0.csv"), "sensor,celsius\nk1,21\nk2,64\n")?;
///
/// let source = open_source(&topic, &FileSettings { until_end: true, ..FileSettings::default() })?;
/// assert_eq!(source.partitions(), 1);
///
/// let (sender, woken) = mpsc::channel();
/// let waker: Waker = Arc::new(move || { let _ = sender.send(()); });
/// let mut partition = source.open(0, Start::Earliest, waker)?;
/// let mut records = Vec::new();
/// loop {
///     match partition.poll(1 << 20, &mut records)? {
///         Polled::More => {}
///         Polled::Idle => woken.recv()?,
///         Polled::End => break,
///     }
/// }
/// assert_eq!(records[0].payload, r#"{"sensor":"k1","celsius":21}"#);
/// assert_eq!(records[1].position.entry, 21); // the byte at which it begins
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_source(path: &Path, settings: &FileSettings) -> Result<Arc<dyn Source>> {
    Ok(Arc::new(source::FileSource::open(path, settings)?))
}

/// Opens a topic for writing, creating its folder and partitions where they do not exist.
///
/// # Errors
/// [`Kind::Denied`] or [`Kind::Io`] if that fails.
///
/// ```
/// use nekton_connectors::file::{FileSettings, open_sink};
/// use nekton_engine::connect::{Envelope, Message, SinkSettings, WriteBatch};
/// use std::sync::Arc;
///
/// # let folder = tempfile::tempdir()?;
/// # let topic = folder.path().join("hot-by-room");
/// let settings = SinkSettings { envelope: Envelope::Upsert, schema: None, partitions: 1 };
/// let sink = open_sink(&topic, &FileSettings::default(), &settings)?;
/// let mut partition = sink.open(0, Arc::new(|| {}))?;
/// let two = Message { key: Some("\"kitchen\"".into()), value: Some("2".into()) };
/// let none = Message { value: None, ..two.clone() };
/// partition.write(WriteBatch { time: 5, first: 0, messages: vec![two] })?;
/// partition.write(WriteBatch { time: 9, first: 0, messages: vec![none] })?;
/// partition.close()?;
///
/// let lines = std::fs::read_to_string(topic.join("0.jsonl"))?;
/// assert_eq!(lines, "{\"key\":\"kitchen\",\"value\":2,\"time\":5}\n{\"key\":\"kitchen\",\"value\":null,\"time\":9}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_sink(path: &Path, settings: &FileSettings, sink: &SinkSettings) -> Result<Arc<dyn Sink>> {
    Ok(Arc::new(sink::FileSink::open(path, settings, sink)?))
}

/// How a file's bytes are records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// A JSON value a line.
    Json,
    /// A header, then a record a row.
    Csv,
}

impl Format {
    /// The format that a file's name says, `None` if none.
    fn of(path: &Path) -> Option<Self> {
        named(path.file_name()?.to_str()?).map(|(_, format)| format)
    }
}

/// A file's name without its endings, and the format that these say.
fn named(name: &str) -> Option<(&str, Format)> {
    let bare = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(name);
    let json = bare.strip_suffix(".jsonl").or(bare.strip_suffix(".json")).map(|stem| (stem, Format::Json));
    json.or(bare.strip_suffix(".csv").map(|stem| (stem, Format::Csv)))
}

/// Opens a log in a folder, creating it where there is none.
///
/// # Errors
/// [`Kind::Conflict`] if another program has it open.
pub fn open_log(folder: &Path, waker: Waker) -> Result<Box<dyn Log>> {
    Ok(Box::new(log::FileLog::open(folder, waker)?))
}

/// Reads the log in a folder, which another program may be writing.
///
/// # Errors
/// [`Kind::Io`] or [`Kind::Missing`] if there is none, or it cannot be read.
pub fn read_log(folder: &Path) -> Result<Vec<bytes::Bytes>> {
    log::read(folder)
}

/// A folder as a store of objects. It is created when the first object is written.
pub fn open_store(folder: &Path) -> Arc<dyn Store> {
    Arc::new(store::FileStore::new(folder))
}

/// The first partition of a topic that is written: created after all others.
const FIRST: &str = "0.jsonl";
/// What a writer locks while it creates partitions, and creates before them.
const WRITER: &str = ".lock";

/// The partitions of a folder, in order: files with a number for a name by their number, then all others by name.
fn partitions(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable =
        |error: &std::io::Error| Error::io(format!("reading the topic folder {}", folder.display()), error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(&error))? {
        let path = entry.map_err(|error| unreadable(&error))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some((stem, _)) = named(&name) {
            let number = stem.parse::<u32>().map_or((1, 0), |number| (0, number));
            found.push((number, name, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, _, path)| path).collect())
}

/// The partitions of a folder for whoever reads them: none as long as a writer is still creating them, of which the first
/// comes last. Otherwise a part of them would be taken for all, and for others after a restart.
fn whole_partitions(folder: &Path) -> Result<Vec<PathBuf>> {
    // Asked before the folder is listed: what was there by then is in the list.
    let created = folder.join(FIRST).exists();
    let found = partitions(folder)?;
    // Asked after that: whoever created one of those had this before.
    let writer = folder.join(WRITER).exists();
    Ok(if writer && !created { Vec::new() } else { found })
}

fn missing(path: &Path) -> Error {
    Error::new(
        Kind::Missing,
        format!("there is no topic at {}: create it, or correct --topics or --topic", path.display()),
    )
}
