//! Pulsar itself: fetched by Maven, unpacked once into the user's cache.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nekton_engine::{Error, Kind, Result};

use super::{PULSAR_VERSION, Progress};

/// The size of what Maven fetches, for the display only.
const SIZE: u64 = 245_494_718;

/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The folder of an unpacked Pulsar that the user has.
pub(super) fn given(folder: &Path) -> Result<PathBuf> {
    if !is_pulsar(folder) {
        return Err(Error::new(
            Kind::Missing,
            format!(
                "{} is no unpacked Apache Pulsar: it has no conf/standalone.conf and lib. Name the folder that its \
                 tarball unpacks to",
                folder.display()
            ),
        ));
    }
    super::state::absolute(folder)
}

fn is_pulsar(folder: &Path) -> bool {
    folder.join("conf/standalone.conf").is_file() && folder.join("lib").is_dir()
}

/// The folder of the Pulsar in the cache. It is fetched and unpacked if it is not there; what is there is whole, since
/// it gets its name at the end.
pub(super) fn fetched(progress: &mut dyn FnMut(&Progress)) -> Result<PathBuf> {
    let cache = cache()?;
    let folder = cache.join(format!("apache-pulsar-{PULSAR_VERSION}"));
    if is_pulsar(&folder) {
        return Ok(folder);
    }
    std::fs::create_dir_all(&cache)
        .map_err(|error| Error::io(format!("making the folder {}", cache.display()), &error))?;
    let lock = cache.join(".lock");
    let _held = File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| Error::io(format!("locking {}", lock.display()), &error))?;
    // Another process may have been faster.
    if !is_pulsar(&folder) {
        let tarball = tarball(progress)?;
        unpack(&tarball, &cache, &folder, progress)?;
    }
    Ok(folder)
}

fn cache() -> Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| Some(home()?.join(".cache"))).map(|cache| cache.join("nekton")).ok_or_else(|| {
        Error::config("there is no home folder to keep Apache Pulsar in: set HOME or XDG_CACHE_HOME")
    })
}

fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

/// The tarball in Maven's own repository, where Maven puts it if it is not there yet.
fn tarball(progress: &mut dyn FnMut(&Progress)) -> Result<PathBuf> {
    let name = "pulsar-server-distribution";
    let folder = home()
        .ok_or_else(|| Error::config("there is no home folder with Maven's repository: set HOME"))?
        .join(".m2/repository/org/apache/pulsar")
        .join(name)
        .join(PULSAR_VERSION);
    let tarball = folder.join(format!("{name}-{PULSAR_VERSION}-bin.tar.gz"));
    if tarball.is_file() {
        return Ok(tarball);
    }
    let artifact = format!("org.apache.pulsar:{name}:{PULSAR_VERSION}:tar.gz:bin");
    let mut maven = Command::new("mvn");
    maven.args(["-B", "dependency:get", "-Dtransitive=false"]).arg(format!("-Dartifact={artifact}"));
    let (ended, said) = watched(&mut maven, "Maven (mvn)", &mut || {
        progress(&Progress::Fetching(largest_file(&folder), SIZE));
    })?;
    if !ended.success() {
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("[ERROR]")).take(3).collect();
        return Err(Error::new(
            Kind::Unavailable,
            format!(
                "Maven could not fetch {artifact}. Check the network and try again. It said:\n{}",
                if errors.is_empty() { tail(&said, 5) } else { errors.join("\n") }
            ),
        ));
    }
    if !tarball.is_file() {
        return Err(Error::new(
            Kind::Missing,
            format!(
                "Maven fetched {artifact}, but not to {}: its settings name another repository. Unpack it from there \
                 and name the folder with --pulsar",
                tarball.display()
            ),
        ));
    }
    Ok(tarball)
}

/// The size of the largest file in a folder: the one being fetched, whatever Maven calls it by then.
fn largest_file(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).max().unwrap_or(0)
}

fn unpack(tarball: &Path, cache: &Path, folder: &Path, progress: &mut dyn FnMut(&Progress)) -> Result<()> {
    let failed =
        |what: &Path, error: &std::io::Error| Error::io(format!("unpacking to {}", what.display()), error);
    // Nobody else unpacks now, so what is there was left by one who was interrupted.
    let new = cache.join(".unpacking");
    if new.exists() {
        std::fs::remove_dir_all(&new).map_err(|error| failed(&new, &error))?;
    }
    std::fs::create_dir(&new).map_err(|error| failed(&new, &error))?;
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(tarball).arg("-C").arg(&new);
    let (ended, said) = watched(&mut tar, "tar", &mut || progress(&Progress::Unpacking(folder.to_owned())))?;
    let unpacked = new.join(format!("apache-pulsar-{PULSAR_VERSION}"));
    if !ended.success() || !is_pulsar(&unpacked) {
        return Err(Error::new(
            Kind::Io,
            format!(
                "{} could not be unpacked to {}: if there is room on the disk, the file may be damaged, so delete it \
                 and try again. tar said:\n{}",
                tarball.display(),
                new.display(),
                tail(&said, 5)
            ),
        ));
    }
    // An older, incomplete folder would be in the way.
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(|error| failed(folder, &error))?;
    }
    std::fs::rename(&unpacked, folder).map_err(|error| failed(folder, &error))?;
    std::fs::remove_dir_all(&new).map_err(|error| failed(&new, &error))
}

/// Runs a command to its end, and calls `look` from time to time. Gives what it said, at most its last 64 KiB.
fn watched(command: &mut Command, name: &str, look: &mut dyn FnMut()) -> Result<(ExitStatus, String)> {
    let (mut reader, writer) = std::io::pipe().map_err(|error| Error::io("making a pipe", &error))?;
    let second = writer.try_clone().map_err(|error| Error::io("making a pipe", &error))?;
    let spawned = command.stdin(Stdio::null()).stdout(writer).stderr(second).spawn();
    // The command holds the ends to write to; what was said ends when these are closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawned.map_err(|error| {
        Error::new(
            Kind::Missing,
            format!(
                "{name} is needed to get Apache Pulsar {PULSAR_VERSION} from Maven Central, and cannot be run: \
                 {error}. Install it (Debian: apt install maven tar; macOS: brew install maven)"
            ),
        )
    })?;
    let said = std::thread::spawn(move || {
        let (mut kept, mut piece) = (Vec::new(), [0; 8_192]);
        while let Ok(read @ 1..) = reader.read(&mut piece) {
            kept.extend_from_slice(&piece[..read]);
            if kept.len() > 128 << 10 {
                kept.drain(..64 << 10);
            }
        }
        String::from_utf8_lossy(&kept).into_owned()
    });
    let ended = loop {
        match child.try_wait().map_err(|error| Error::io(format!("waiting for {name}"), &error))? {
            Some(ended) => break ended,
            None => {
                look();
                std::thread::sleep(LOOK);
            }
        }
    };
    Ok((ended, said.join().unwrap_or_default()))
}

fn tail(said: &str, lines: usize) -> String {
    let all: Vec<&str> = said.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_said_is_kept_and_a_missing_one_is_named() {
        let mut looks = 0;
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; sleep 0.5; exit 3"]);
        let (ended, said) = watched(&mut command, "sh", &mut || looks += 1).unwrap();
        assert_eq!((ended.code(), said.as_str()), (Some(3), "out\nerr\n"));
        assert!(looks > 0, "a display is kept moving");
        let missing = watched(&mut Command::new("no-such-command"), "Maven (mvn)", &mut || {}).unwrap_err();
        assert_eq!(missing.kind(), Kind::Missing);
        assert!(missing.to_string().starts_with("Maven (mvn) is needed"), "{missing}");
    }

    #[test]
    fn a_folder_without_pulsar_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(given(folder.path()).unwrap_err().to_string().contains("is no unpacked Apache Pulsar"));
    }
}
