//! A folder as a store of objects.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use nekton_engine::connect::Store;
use nekton_engine::{Error, Result};

/// Objects are files; a name's slashes are folders.
pub(super) struct FileStore {
    folder: PathBuf,
}

impl FileStore {
    pub(super) fn new(folder: &Path) -> Self {
        FileStore { folder: folder.to_owned() }
    }

    /// Writes a file beside where it is to be, and says how it is called.
    fn beside(&self, name: &str, content: &[u8]) -> Result<(PathBuf, PathBuf)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = self.folder.join(name);
        let parent = path.parent().unwrap_or(&self.folder);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = parent.join(format!(".{}-{number}.part", std::process::id()));
        let write = || {
            std::fs::create_dir_all(parent)?;
            let mut file = File::create(&beside)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(|error| {
            let _ = std::fs::remove_file(&beside);
            let failed = Error::io(format!("writing {}", path.display()), &error);
            match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::new(
                    failed.kind(),
                    format!("{failed}; make room, then start again: nothing is lost"),
                ),
                _ => failed,
            }
        })?;
        Ok((path, beside))
    }
}

impl Store for FileStore {
    fn put(&self, name: &str, content: Bytes) -> Result<()> {
        let (path, beside) = self.beside(name, &content)?;
        std::fs::rename(beside, &path)
            .map_err(|error| Error::io(format!("writing {}", path.display()), &error))
    }

    fn create(&self, name: &str, content: Bytes) -> Result<bool> {
        let (path, beside) = self.beside(name, &content)?;
        // Unlike a rename, a link does not replace what is there.
        let linked = std::fs::hard_link(&beside, &path);
        let _ = std::fs::remove_file(&beside);
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::io(format!("writing {}", path.display()), &error)),
        }
    }

    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let path = self.folder.join(name);
        match std::fs::read(&path) {
            Ok(content) => Ok(Some(content.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("reading {}", path.display()), &error)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = self.folder.join(folder);
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| Error::io(format!("reading {}", path.display()), &error))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::io(format!("reading {}", path.display()), &error))?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            let name = name.trim_start_matches('/');
            if name.starts_with(prefix) && !name.ends_with(".part") {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("deleting {}", path.display()), &error))
            }
            _ => Ok(()),
        }
    }

    fn describe(&self) -> String {
        format!("file:{}", self.folder.display())
    }
}
