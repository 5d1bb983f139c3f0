//! The Java that runs the broker.

use std::path::PathBuf;
use std::process::Command;

use nekton_engine::{Error, Kind, Result};

/// The oldest Java that Pulsar 4 runs on.
const OLDEST: u32 = 17;

#[derive(Clone, Debug)]
pub(super) struct Java {
    pub(super) path: PathBuf,
    pub(super) major: u32,
}

/// Java as `JAVA_HOME` or else `PATH` has it.
pub(super) fn find() -> Result<Java> {
    let path = match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home).join("bin/java"),
        None => "java".into(),
    };
    let get = format!(
        "Install Java {OLDEST} or newer (Debian: apt install openjdk-{OLDEST}-jre-headless; macOS: brew install \
         openjdk) or set JAVA_HOME"
    );
    let answer = Command::new(&path).arg("-version").output().map_err(|error| {
        Error::new(
            Kind::Missing,
            format!("Apache Pulsar needs Java, and {} cannot be run: {error}. {get}", path.display()),
        )
    })?;
    let said = String::from_utf8_lossy(&answer.stderr);
    let major = major(&said).ok_or_else(|| {
        Error::new(
            Kind::Missing,
            format!(
                "Apache Pulsar needs Java, and {} -version says {:?}. {get}",
                path.display(),
                said.trim()
            ),
        )
    })?;
    if major < OLDEST {
        return Err(Error::new(
            Kind::Missing,
            format!(
                "Apache Pulsar needs Java {OLDEST} or newer, and {} is Java {major}. {get}",
                path.display()
            ),
        ));
    }
    Ok(Java { path, major })
}

/// The major version from `openjdk version "17.0.15" 2025-04-15`; `1.8.0_392` is 8.
fn major(said: &str) -> Option<u32> {
    let version = said.split_once("version \"")?.1;
    let version = version.strip_prefix("1.").unwrap_or(version);
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_as_every_java_writes_it() {
        for (said, number) in [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK ...", Some(17)),
            ("Picked up JAVA_TOOL_OPTIONS: -Dx\nopenjdk version \"21-internal\" 2023-09-19", Some(21)),
            ("java version \"1.8.0_392\"", Some(8)),
            ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
            ("version \"", None),
        ] {
            assert_eq!(major(said), number, "{said}");
        }
    }
}
