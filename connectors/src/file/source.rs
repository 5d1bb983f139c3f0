//! A topic of files being read: which partitions there are, and which come up while it is read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nekton_engine::connect::{PartitionId, PartitionReader, Source, Start, Waker};
use nekton_engine::{Error, Kind, Result};

use super::reader::FileReader;
use super::{FileSettings, Format, missing, whole_partitions};

/// How often a followed folder is looked at for new partitions.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) struct FileSource {
    path: PathBuf,
    settings: FileSettings,
    /// How many partitions there were when the topic was opened.
    at_first: PartitionId,
    known: Arc<Mutex<Known>>,
    /// Ends the thread that looks for new partitions.
    gone: Arc<AtomicBool>,
}

struct Known {
    files: Vec<PathBuf>,
    wakers: Vec<Waker>,
}

impl FileSource {
    pub(super) fn open(path: &Path, settings: &FileSettings) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(path),
            _ => Error::io(format!("reading the topic {}", path.display()), &error),
        })?;
        let files = if meta.is_dir() { whole_partitions(path)? } else { vec![path.to_owned()] };
        let at_first = files.len() as PartitionId;
        let known = Arc::new(Mutex::new(Known { files, wakers: Vec::new() }));
        let gone = Arc::new(AtomicBool::new(false));
        if meta.is_dir() {
            let (folder, known, gone) = (path.to_owned(), known.clone(), gone.clone());
            std::thread::Builder::new()
                .name("files:look".to_owned())
                .spawn(move || {
                    while !gone.load(Ordering::Relaxed) {
                        std::thread::sleep(LOOK_EVERY);
                        look(&folder, &known);
                    }
                })
                .map_err(|error| Error::io("starting a thread", &error))?;
        }
        Ok(FileSource { path: path.to_owned(), settings: settings.clone(), at_first, known, gone })
    }
}

/// Adds partitions that have come up. Those that are known keep their numbers.
fn look(folder: &Path, known: &Mutex<Known>) {
    let Ok(found) = whole_partitions(folder) else { return };
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let new: Vec<_> = found.into_iter().filter(|file| !known.files.contains(file)).collect();
    if !new.is_empty() {
        known.files.extend(new);
        known.wakers.iter().for_each(|waker| waker());
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl Source for FileSource {
    fn partitions(&self) -> PartitionId {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).files.len() as PartitionId
    }

    fn watch(&self, waker: Waker) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).wakers.push(waker);
    }

    fn open(&self, partition: PartitionId, start: Start, waker: Waker) -> Result<Box<dyn PartitionReader>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let file = known.files.get(partition as usize).cloned().ok_or_else(|| {
            Error::new(Kind::Missing, format!("{} has no partition {partition}", self.describe()))
        })?;
        let start = match start {
            // What stands in a file that came up later was written after this job's start.
            Start::Latest if partition >= self.at_first => Start::Earliest,
            Start::PublishedAt(_) => {
                let why = "files do not say when a record was written";
                return Err(Error::config(format!(
                    "{}: --start with a time works on Pulsar only: {why}",
                    self.describe()
                )));
            }
            start => start,
        };
        Ok(Box::new(FileReader::open(file, start, &self.settings, waker)?))
    }

    /// A folder that is still empty may get files of either kind; JSON can be read in both ways.
    fn untyped(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let csv = |file: &PathBuf| Format::of(file) == Some(Format::Csv);
        known.files.is_empty() || known.files.iter().any(csv)
    }

    fn describe(&self) -> String {
        format!("file:{}", self.path.display())
    }
}
