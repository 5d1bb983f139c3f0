//! The broker's process: started, recognized, ended.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nekton_engine::{Error, Kind, Result};

use super::conf::{self, Conf};
use super::java::Java;
use super::{Life, Options};

/// How long a broker may take to end when it is asked to; it takes about a second.
const END: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// A broker's process, a child of this one or of one before.
#[derive(Debug)]
pub(super) struct Broker {
    folder: PathBuf,
    pulsar: PathBuf,
    pid: u32,
    child: Option<Child>,
    watcher: Option<Child>,
    /// Whether the folder goes with it.
    temporary: bool,
    /// Where in the log this process began.
    log_from: u64,
}

/// The broker's log.
pub(super) fn log_of(folder: &Path) -> PathBuf {
    folder.join("logs/broker.log")
}

/// What Java itself says, which is little.
fn out_of(folder: &Path) -> PathBuf {
    folder.join("logs/java.log")
}

impl Broker {
    /// Starts a broker and does not wait for it.
    pub(super) fn start(java: &Java, pulsar: &Path, options: &Options, conf: &Conf) -> Result<Self> {
        let folder = &options.folder;
        let failed =
            |what: &Path, error: &std::io::Error| Error::io(format!("preparing {}", what.display()), error);
        // Native libraries are unpacked there; a broker that was killed leaves them behind.
        let scratch = folder.join("tmp");
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch).map_err(|error| failed(&scratch, &error))?;
        }
        for made in [&scratch, &folder.join("logs"), &folder.join("data")] {
            std::fs::create_dir_all(made).map_err(|error| failed(made, &error))?;
        }
        let out_path = out_of(folder);
        let out = File::create(&out_path).map_err(|error| failed(&out_path, &error))?;
        let err = out.try_clone().map_err(|error| failed(&out_path, &error))?;
        let log_from = std::fs::metadata(log_of(folder)).map_or(0, |meta| meta.len());

        let mut command = Command::new(&java.path);
        command.args(arguments(java, pulsar, options, conf));
        command.current_dir(folder).stdin(Stdio::null()).stdout(out).stderr(err);
        // Ctrl-C at the terminal is not for the broker.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|error| Error::io("starting Java", &error))?;
        let pid = child.id();
        let watcher = match options.life {
            Life::UntilDown => None,
            Life::ThisProcess => Some(watcher(pid, options.temporary.then_some(folder))?),
        };
        let temporary = options.temporary;
        let (folder, pulsar) = (folder.clone(), pulsar.to_owned());
        Ok(Broker { folder, pulsar, pid, child: Some(child), watcher, temporary, log_from })
    }

    /// The broker with this process number, if it is running and is this folder's.
    pub(super) fn running(folder: &Path, pid: u32) -> Option<Self> {
        let log_from = std::fs::metadata(log_of(folder)).map_or(0, |meta| meta.len());
        let (folder, pulsar) = (folder.to_owned(), PathBuf::new());
        let mut found =
            Broker { folder, pulsar, pid, child: None, watcher: None, temporary: false, log_from };
        found.alive().then_some(found)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether this process started it.
    pub(super) fn is_ours(&self) -> bool {
        self.child.is_some()
    }

    pub(super) fn pulsar(&self) -> &Path {
        &self.pulsar
    }

    /// Whether it runs.
    pub(super) fn alive(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => command_line(self.pid).contains(&recognized(&self.folder)),
        }
    }

    /// Ends it, at once or as an operator would, and waits until it is gone. Nothing to do if it is gone.
    pub(super) fn end(&mut self, gently: bool) -> Result<()> {
        if gently && self.alive() {
            self.signal(true)?;
            self.gone_within(END);
        }
        if self.alive() {
            self.signal(false)?;
            if !self.gone_within(END) {
                return Err(Error::new(
                    Kind::Unavailable,
                    format!("the broker with process number {} does not end. End it by hand", self.pid),
                ));
            }
        }
        // Only now: as long as the watcher lives, the broker cannot outlive this process.
        if let Some(mut watcher) = self.watcher.take() {
            let _ = watcher.kill();
            let _ = watcher.wait();
        }
        Ok(())
    }

    fn gone_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.alive() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    fn signal(&self, gently: bool) -> Result<()> {
        send_end(self.pid, gently).map_err(|error| {
            Error::new(Kind::Denied, format!("ending the broker with process number {}: {error}", self.pid))
        })
    }

    /// What this process wrote to its log, at most the last `most` bytes of it.
    pub(super) fn log(&self, most: u64) -> String {
        let path = log_of(&self.folder);
        let size = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        // A log that was rolled has begun anew.
        let from = if size < self.log_from { 0 } else { self.log_from };
        read_from(&path, from.max(size.saturating_sub(most)))
    }

    /// The lines at its end that tell most about why it ended.
    pub(super) fn last_words(&self) -> String {
        let said = read_from(&out_of(&self.folder), 0) + &self.log(64 << 10);
        let tells =
            |line: &&str| ["ERROR", "Exception", "Error:", "error:"].iter().any(|word| line.contains(word));
        let mut lines: Vec<&str> = said.lines().filter(tells).collect();
        if lines.is_empty() {
            lines = said.lines().collect();
        }
        let last = &lines[lines.len().saturating_sub(6)..];
        last.iter().map(|line| line.chars().take(300).collect()).collect::<Vec<String>>().join("\n")
    }
}

/// Asks a process to end, or ends it. It may have been faster.
#[cfg(unix)]
fn send_end(pid: u32, gently: bool) -> std::io::Result<()> {
    use nix::sys::signal::{Signal, kill};
    let pid = i32::try_from(pid).map_err(std::io::Error::other)?;
    let signal = if gently { Signal::SIGTERM } else { Signal::SIGKILL };
    match kill(nix::unistd::Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Windows knows no gentle end of a process without a window.
#[cfg(not(unix))]
fn send_end(pid: u32, _gently: bool) -> std::io::Result<()> {
    Command::new("taskkill").args(["/F", "/PID", &pid.to_string()]).output().map(drop)
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.watcher.is_some() {
            // Nobody is left to be told of a failure.
            let _ = self.end(false);
            if self.temporary {
                let _ = std::fs::remove_dir_all(&self.folder);
            }
        }
    }
}

fn read_from(path: &Path, from: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.take(64 << 20).read_to_end(&mut bytes)
    });
    // A log that is not there says nothing.
    let _ = read;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Kills the broker when this process has ended, however it did: its end of the pipe is closed then. Deletes a folder
/// that is temporary.
fn watcher(pid: u32, temporary: Option<&Path>) -> Result<Child> {
    const SCRIPT: &str = r#"
        cat >/dev/null
        kill -9 "$1"
        if [ -n "$2" ]; then
            # Until it is gone, files come up; a zombie that nobody reaps looks as if it never went.
            tries=50
            while kill -0 "$1" 2>/dev/null && [ "$tries" -gt 0 ]; do sleep 0.1; tries=$((tries - 1)); done
            rm -rf "$2"
        fi"#;
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "nekton-sandbox-watcher", &pid.to_string()]);
    command.arg(temporary.unwrap_or(Path::new("")));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map_err(|error| Error::io("starting sh", &error))
}

/// The argument by which a broker is known to be this folder's: the number of a process that has ended is given to
/// another one some day.
fn recognized(folder: &Path) -> String {
    format!("-Dpulsar.config.file={}", conf::standalone(folder).display())
}

/// The command line of a process; empty if it has ended, or waits for its parent to notice.
fn command_line(pid: u32) -> String {
    if cfg!(target_os = "linux") {
        return std::fs::read(format!("/proc/{pid}/cmdline"))
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .unwrap_or_default();
    }
    Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
        .output()
        .map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned())
        .unwrap_or_default()
}

/// What `bin/pulsar standalone` gives Java. No shell is between, and what becomes a part of a URL in Pulsar is relative
/// to the working folder, the sandbox's own: so its path may have spaces and any letters.
fn arguments(java: &Java, pulsar: &Path, options: &Options, conf: &Conf) -> Vec<String> {
    let folder = &options.folder;
    let heap = options.heap.max(128);
    let mut all: Vec<String> = Vec::new();
    if java.major >= 23 {
        all.push("--sun-misc-unsafe-memory-access=allow".to_owned());
    }
    if options.quick_start {
        // Compiling to fast code is most of what a start costs.
        all.push("-XX:TieredStopAtLevel=1".to_owned());
    }
    all.extend([
        format!("-Xms{}m", heap.min(256)),
        format!("-Xmx{heap}m"),
        format!("-XX:MaxDirectMemorySize={heap}m"),
    ]);
    all.extend(
        [
            "-XX:+UseZGC",
            "-XX:+PerfDisableSharedMem",
            "-XX:+ExitOnOutOfMemoryError",
            "-Dpulsar.allocator.exit_on_oom=true",
            "-Dio.netty.recycler.maxCapacityPerThread=4096",
            "-Djava.net.preferIPv4Stack=true",
            "-Djute.maxbuffer=10485760",
            "-Dio.netty.tryReflectionSetAccessible=true",
            "-Dorg.apache.pulsar.shade.io.netty.tryReflectionSetAccessible=true",
            "-Dlog4j.shutdownHookEnabled=false",
            "-Dlog4j2.is.webapp=false",
            "-Dbookkeeper.metadata.bookie.drivers=org.apache.pulsar.metadata.bookkeeper.PulsarMetadataBookieDriver",
            "-Dbookkeeper.metadata.client.drivers=org.apache.pulsar.metadata.bookkeeper.PulsarMetadataClientDriver",
        ]
        .map(str::to_owned),
    );
    for opened in [
        "java.base/java.io",
        "java.base/java.nio",
        "java.base/java.util.zip",
        "java.base/jdk.internal.misc",
        "java.base/jdk.internal.platform",
        "java.management/sun.management",
        "jdk.management/com.sun.management.internal",
    ] {
        all.extend(["--add-opens".to_owned(), format!("{opened}=ALL-UNNAMED")]);
    }
    all.extend([
        "--enable-native-access=ALL-UNNAMED".to_owned(),
        format!("-Djava.io.tmpdir={}", folder.join("tmp").display()),
        format!("-XX:ErrorFile={}", folder.join("logs/java-crash-%p.log").display()),
        format!("-Dlog4j.configurationFile={}", conf.log.display()),
        format!("-Dpulsar.log.dir={}", folder.join("logs").display()),
        recognized(folder),
        "-cp".to_owned(),
        format!("{}/*", pulsar.join("lib").display()),
        "org.apache.pulsar.PulsarStandaloneStarter".to_owned(),
        "--no-functions-worker".to_owned(),
        "--no-stream-storage".to_owned(),
        format!("--config={}", conf.standalone.display()),
        "--metadata-url=rocksdb:data/metadata".to_owned(),
        "--bookkeeper-dir=data/bookkeeper".to_owned(),
    ]);
    all
}
