//! Secrets, from where they are given to programs: the environment or a file, and never a flag, which other users of a machine see.

use std::path::Path;

use nekton_engine::{Error, Result};

/// The secret in a file, or else in an environment variable, without the white space around it; `None` if there is neither.
/// `flag` says in errors whence the path is.
pub(crate) fn secret(flag: &str, file: Option<&Path>, variable: &str) -> Result<Option<Vec<u8>>> {
    let secret = match file {
        Some(path) => Some(read(flag, path)?),
        None => std::env::var_os(variable).map(|text| text.into_encoded_bytes()),
    };
    Ok(secret.map(|bytes| bytes.trim_ascii().to_vec()))
}

/// What is in a file that a flag names.
pub(crate) fn read(flag: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::io(format!("{flag} {}", path.display()), &error))
}
