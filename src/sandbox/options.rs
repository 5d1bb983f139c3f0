//! What is asked of a sandbox, and what is told while it comes up.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nekton_engine::{Error, Result};

use super::{PULSAR_VERSION, Ports};

/// What a sandbox is to be like.
///
/// ```
/// use nekton::sandbox::{Options, Ports};
///
/// let mut options = Options::new("nekton-data/sandbox");
/// options.ports = Some(Ports::new(6650, 8080));
/// options.token = true;
/// assert!(!options.tls && options.heap == 512);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where its data, settings, keys and logs are. One folder is one sandbox.
    pub folder: PathBuf,
    /// Where it listens on 127.0.0.1; free ports if `None`.
    pub ports: Option<Ports>,
    /// Whether clients connect through TLS, with a certificate that is made for it: see [`super::Sandbox::ca`].
    pub tls: bool,
    /// Whether clients need a token: see [`super::Sandbox::token`].
    pub token: bool,
    /// The most memory of its heap in MiB; it may use as much again outside of its heap, and about 150 MiB for itself.
    pub heap: u32,
    /// Start with half the work, at the price of a lower speed once it runs: for tests.
    pub quick_start: bool,
    /// When it ends by itself.
    pub life: Life,
    /// An unpacked Apache Pulsar to run instead of fetching one.
    pub pulsar: Option<PathBuf>,
    /// Whether the folder goes with the broker.
    pub(super) temporary: bool,
}

impl Options {
    /// A sandbox in `folder` on free ports, without TLS and tokens, with a heap of 512 MiB.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Options {
            folder: folder.into(),
            ports: None,
            tls: false,
            token: false,
            heap: 512,
            quick_start: false,
            life: Life::UntilDown,
            pulsar: None,
            temporary: false,
        }
    }

    /// A sandbox for a test: it starts quickly, ends with this process, and its folder is a new one that is deleted then.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn temporary() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let folder =
            std::env::temp_dir().join(format!("nekton-sandbox-{}-{number}-{since:x}", std::process::id()));
        std::fs::create_dir(&folder)
            .map_err(|error| Error::io(format!("making the folder {}", folder.display()), &error))?;
        Ok(Options { quick_start: true, life: Life::ThisProcess, temporary: true, ..Self::new(folder) })
    }
}

/// When a sandbox ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// When [`super::Sandbox::down`] is called, by this process or another.
    UntilDown,
    /// At the latest when the [`super::Sandbox`] is dropped or this process ends, even by `kill -9`: for tests.
    ThisProcess,
}

/// What [`super::Sandbox::up`] is doing. It is told again and again, so that a display can move.
///
/// ```
/// use nekton::sandbox::Progress;
/// use std::time::Duration;
///
/// let step = Progress::Starting(Duration::from_secs(3));
/// assert_eq!(step.to_string(), "starting Apache Pulsar 4.0.8: 3 s");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Maven fetches Pulsar: bytes so far, and of how many.
    Fetching(u64, u64),
    /// What was fetched is being unpacked into this folder.
    Unpacking(PathBuf),
    /// The broker is starting, for this long by now.
    Starting(Duration),
    /// The broker is being started again, for this reason.
    StartingAgain(String),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Fetching(done, of) => write!(
                f,
                "fetching Apache Pulsar {PULSAR_VERSION} from Maven Central: {} of {} MB",
                done / 1_000_000,
                of / 1_000_000
            ),
            Progress::Unpacking(folder) => write!(f, "unpacking it into {}", folder.display()),
            Progress::Starting(elapsed) => {
                write!(f, "starting Apache Pulsar {PULSAR_VERSION}: {} s", elapsed.as_secs())
            }
            Progress::StartingAgain(reason) => write!(f, "starting it again: {reason}"),
        }
    }
}
