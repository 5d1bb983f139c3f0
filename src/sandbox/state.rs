//! What is written down about a running sandbox, so that another process finds it.

use std::fs::File;
use std::path::{Path, PathBuf};

use nekton_engine::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::ports::Ports;

/// The file `sandbox.json` in a sandbox's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) pid: u32,
    pub(super) ports: Ports,
    pub(super) tls: bool,
    pub(super) token: bool,
    pub(super) heap: u32,
    pub(super) pulsar: PathBuf,
    /// For people and scripts; made from the rest.
    pub(super) url: String,
    /// As `url`.
    pub(super) admin_url: String,
}

fn path(folder: &Path) -> PathBuf {
    folder.join("sandbox.json")
}

impl State {
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = path(folder);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("reading {}", path.display()), &error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            Error::new(
                Kind::BadInput,
                format!(
                    "{} does not describe a sandbox: {error}. End its broker, if it runs, and delete the file",
                    path.display()
                ),
            )
        })
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = path(folder);
        let new = path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(Kind::Internal, format!("the sandbox's state: {error}")))?;
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|error| Error::io(format!("writing {}", path.display()), &error))
    }

    pub(super) fn forget(folder: &Path) -> Result<()> {
        let path = path(folder);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("deleting {}", path.display()), &error))
            }
            _ => Ok(()),
        }
    }
}

/// Holds a sandbox's folder, so that it is not started and ended at the same time; waits for others that do.
pub(super) fn hold(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::io(format!("making the folder {}", folder.display()), &error))?;
    let path = folder.join(".lock");
    File::create(&path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| Error::io(format!("locking {}", path.display()), &error))
}

/// The broker has a working folder of its own, so what it is told must be absolute.
pub(super) fn absolute(folder: &Path) -> Result<PathBuf> {
    folder.canonicalize().map_err(|error| Error::io(format!("the folder {}", folder.display()), &error))
}
