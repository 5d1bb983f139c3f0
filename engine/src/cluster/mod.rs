//! Several processes: finding one another, making sure that they are parts of the same job, and what timely's
//! connections between them run on.
//!
//! * `meet.rs` opens the sockets; `hello.rs` is what both ends then say, `tls.rs` the encryption around it.
//! * `link.rs` is what timely takes for a socket afterwards: `frame.rs` checks that what comes is what was sent, a
//!   heartbeat that the other process still works.
//!
//! A process that is lost ends all others, with a sentence that says which one. No worker panics for it.
#![expect(clippy::disallowed_methods, reason = "a simulated job has one process, and none of this")]

mod frame;
mod hello;
mod link;
mod meet;
mod tls;
mod wire;

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::allocator::TcpBuilder;
use timely::communication::allocator::zero_copy::initialize::{
    CommsGuard, initialize_networking_from_sockets,
};
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};

use crate::error::{Error, Kind, Result};
use crate::job::JobConfig;

pub use tls::ClusterTls;

use link::{Fate, Link};

/// The most bytes of a plan.
const PLAN: u64 = 1 << 30;

/// How the processes of a job trust and watch one another.
///
/// ```
/// use nekton_engine::{Cluster, Secret};
///
/// let secret = Secret::new(b"3f8a..: 16 bytes or more")?;
/// let cluster = Cluster { secret: Some(secret), ..Cluster::default() };
/// assert_eq!(cluster.silence.as_secs(), 5);
/// # Ok::<(), nekton_engine::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cluster {
    /// What all processes know, and nobody else.
    pub secret: Option<Secret>,
    /// Certificates, for connections that are encrypted.
    pub tls: Option<ClusterTls>,
    /// A process of which nothing is heard for so long is lost.
    pub silence: Duration,
    /// A hash of the program, which must be the same in all processes; 0: they do not ask.
    pub program: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster { secret: None, tls: None, silence: Duration::from_secs(5), program: 0 }
    }
}

/// What the processes of a job know, and nobody else. It never goes over a connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// At least 16 bytes; they should be random.
    ///
    /// # Errors
    /// If there are fewer.
    ///
    /// ```
    /// use nekton_engine::Secret;
    ///
    /// assert!(Secret::new(b"swordfish").is_err());
    /// assert_eq!(format!("{:?}", Secret::new(b"0123456789abcdef")?), "Secret");
    /// # Ok::<(), nekton_engine::Error>(())
    /// ```
    pub fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < 16 {
            return Err(Error::config(format!(
                "the secret of the job's processes has {} bytes: give at least 16, such as those of openssl rand -hex 32",
                bytes.len()
            )));
        }
        Ok(Secret(bytes.into()))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The connections of this process to all others.
#[derive(Clone)]
pub(crate) struct Links {
    links: Vec<Link>,
    fate: Arc<Fate>,
}

impl Links {
    /// Calls `with` when another process is lost.
    pub(crate) fn watch(&self, with: impl Fn(Error) + Send + Sync + 'static) {
        self.fate.tell(with);
    }
    /// Tells all others why this process ends. To be called before its workers have gone: afterwards, they would take
    /// it for a clean end.
    pub(crate) fn farewell(&self, why: &str) {
        self.links.iter().for_each(|link| link.farewell(why));
    }
    /// The workers have gone: timely's threads are to end as well, at once if the job has failed.
    pub(crate) fn release(&self, failed: bool) {
        self.fate.release();
        if failed {
            self.links.iter().for_each(Link::close);
        }
    }
}

/// What [`connect`] gives: connections, and what process 0 said.
pub(crate) struct Connected {
    sockets: Vec<Option<Link>>,
    pub(crate) links: Links,
    pub(crate) said: Option<Vec<u8>>,
}

/// Connects this process with all others of its job. What process 0 says first, all others get.
pub(crate) fn connect(config: &JobConfig, said: Option<Vec<u8>>) -> Result<Connected> {
    let fate = Arc::new(Fate::default());
    let mut sockets = Vec::new();
    for (process, wire) in meet::meet(config)?.into_iter().enumerate() {
        let link = wire.map(|wire| {
            let name = format!("process {process} ({})", config.hosts[process]);
            Link::new(wire, name, config.cluster.silence, fate.clone())
        });
        sockets.push(link.transpose().map_err(|error| Error::io("a connection between processes", &error))?);
    }
    let links = Links { links: sockets.iter().flatten().cloned().collect(), fate };
    let said = tell(&mut sockets, config, said)?;
    Ok(Connected { sockets, links, said })
}

/// Waits until timely's threads have ended: whether all others have ended well. If one was lost, timely's guard panics,
/// in a thread of which nothing is shown.
pub(crate) fn ended(guard: CommsGuard) -> bool {
    let thread = std::thread::Builder::new().name("timely:network".to_owned()).spawn(move || drop(guard));
    thread.is_ok_and(|thread| thread.join().is_ok())
}

impl Connected {
    /// Starts timely's threads. What its workers are built from must be used: the threads wait for it.
    pub(crate) fn network(self, config: &JobConfig) -> Result<(Vec<AllocatorBuilder>, CommsGuard)> {
        let hooks = Hooks::default();
        let process =
            ProcessBuilder::new_typed_vector(config.workers, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guard) =
            initialize_networking_from_sockets(process, self.sockets, config.process, config.workers, hooks)
                .map_err(|error| Error::io("setting up the connections between processes", &error))?;
        let tcp = |builder: TcpBuilder| AllocatorBuilder::Tcp(builder);
        Ok((builders.into_iter().map(tcp).collect(), guard))
    }
}

/// Process 0 says something to all others: a length (all ones for nothing), and so many bytes.
fn tell(sockets: &mut [Option<Link>], config: &JobConfig, said: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    let broke = |error: std::io::Error| Error::new(Kind::Unavailable, error.to_string());
    if config.process == 0 {
        for socket in sockets.iter_mut().flatten() {
            let length = said.as_ref().map_or(u64::MAX, |said| said.len() as u64);
            socket.write_all(&length.to_le_bytes()).map_err(broke)?;
            socket.write_all(said.as_deref().unwrap_or_default()).map_err(broke)?;
        }
        return Ok(said);
    }
    let Some(Some(first)) = sockets.first_mut() else { return Ok(None) };
    // There is no worker yet to whom an end would be a surprise.
    let mut length = [0; 8];
    first.read_early(&mut length).map_err(broke)?;
    let length = u64::from_le_bytes(length);
    if length == u64::MAX {
        return Ok(None);
    }
    if length > PLAN {
        return Err(Error::new(Kind::Internal, format!("process 0 has sent a plan of {length} bytes")));
    }
    let mut said = vec![0; length as usize];
    first.read_early(&mut said).map_err(broke)?;
    Ok(Some(said))
}
