//! Several processes: finding one another, and agreeing that they are parts of the same job.
//!
//! Process `i` listens on `hosts[i]` and connects to all before it. Both ends first say who they are
//! ([`Hello`]); afterwards the sockets belong to timely's own network.
#![expect(clippy::disallowed_methods, reason = "a simulated job has one process, and none of this")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::allocator::TcpBuilder;
use timely::communication::allocator::zero_copy::initialize::{
    CommsGuard, initialize_networking_from_sockets,
};
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};

use crate::error::{Error, Kind, Result};
use crate::hash::fixed_hash;
use crate::job::JobConfig;

/// How long processes wait for one another at the start.
const PATIENCE: Duration = Duration::from_secs(60);
const MAGIC: &[u8; 8] = b"nekton\x00\x01";

/// What one process says to another when they meet: 32 bytes, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hello {
    process: u32,
    processes: u32,
    workers: u32,
    /// The [`fixed_hash`] of the job's name.
    job: u64,
}

impl Hello {
    fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.process.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.processes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.workers.to_le_bytes());
        bytes[24..].copy_from_slice(&self.job.to_le_bytes());
        bytes
    }
    fn decode(bytes: [u8; 32]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let job = u64::from_le_bytes(bytes[24..].try_into().ok()?);
        let hello = Hello { process: word(8), processes: word(12), workers: word(16), job };
        (&bytes[..8] == MAGIC).then_some(hello)
    }
    /// Why the process that said `other` is not a part of the same job.
    fn mismatch(self, other: Hello) -> Option<String> {
        let differing = |what: &str, ours: u64, theirs: u64| {
            format!("it has {theirs} {what}, this one {ours}: start all processes with the same flags")
        };
        if other.job != self.job {
            Some("it runs a job of another name".to_owned())
        } else if other.processes != self.processes {
            Some(differing("processes", self.processes.into(), other.processes.into()))
        } else if other.workers != self.workers {
            Some(differing("workers", self.workers.into(), other.workers.into()))
        } else {
            None
        }
    }
}

/// Connects this process with all others of its job. What process 0 says first, all others get.
pub(crate) fn connect(
    config: &JobConfig,
    said: Option<Vec<u8>>,
) -> Result<(Vec<AllocatorBuilder>, CommsGuard, Option<Vec<u8>>)> {
    let mut sockets = meet(config)?;
    let said = tell(&mut sockets, config, said)?;
    let hooks = Hooks::default();
    let process = ProcessBuilder::new_typed_vector(config.workers, hooks.refill.clone(), hooks.spill.clone());
    let (builders, guard) =
        initialize_networking_from_sockets(process, sockets, config.process, config.workers, hooks)
            .map_err(|error| Error::io("setting up the connections between processes", &error))?;
    let tcp = |builder: TcpBuilder| AllocatorBuilder::Tcp(builder);
    Ok((builders.into_iter().map(tcp).collect(), guard, said))
}

/// Process 0 says something to all others: a length (all ones for nothing), and so many bytes.
fn tell(
    sockets: &mut [Option<TcpStream>],
    config: &JobConfig,
    said: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    let broke = |error: std::io::Error| Error::io("the connection to another process of this job", &error);
    if config.process == 0 {
        for socket in sockets.iter_mut().flatten() {
            let length = said.as_ref().map_or(u64::MAX, |said| said.len() as u64);
            socket.write_all(&length.to_le_bytes()).map_err(broke)?;
            socket.write_all(said.as_deref().unwrap_or_default()).map_err(broke)?;
        }
        return Ok(said);
    }
    let Some(Some(first)) = sockets.first_mut() else { return Ok(None) };
    first.set_read_timeout(Some(PATIENCE)).map_err(broke)?;
    let mut length = [0; 8];
    first.read_exact(&mut length).map_err(broke)?;
    let length = u64::from_le_bytes(length);
    let mut said = Vec::new();
    if length != u64::MAX {
        first.take(length).read_to_end(&mut said).map_err(broke)?;
        if said.len() as u64 != length {
            return Err(broke(ErrorKind::UnexpectedEof.into()));
        }
    }
    first.set_read_timeout(None).map_err(broke)?;
    Ok((length != u64::MAX).then_some(said))
}

fn meet(config: &JobConfig) -> Result<Vec<Option<TcpStream>>> {
    let JobConfig { hosts, process, .. } = config;
    let own = hosts.get(*process).ok_or_else(|| {
        Error::config(format!("process {process} has no address: --hosts names only {}", hosts.len()))
    })?;
    let hello = Hello {
        process: *process as u32,
        processes: hosts.len() as u32,
        workers: config.workers as u32,
        job: fixed_hash(&config.name),
    };
    let listener = TcpListener::bind(own).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Error::new(
            Kind::Conflict,
            format!("the address {own} of process {process} is in use: end what uses it, or name another in --hosts"),
        ),
        _ => Error::io(format!("process {process} cannot listen on {own}"), &error),
    })?;
    let deadline = Instant::now() + PATIENCE;
    let mut sockets: Vec<Option<TcpStream>> = hosts.iter().map(|_| None).collect();
    for (other, host) in hosts.iter().enumerate().take(*process) {
        sockets[other] = Some(dial(hello, other, host, config, deadline)?);
    }
    listener.set_nonblocking(true).map_err(|error| Error::io(format!("listening on {own}"), &error))?;
    while let Some(missing) = (process + 1..hosts.len()).find(|&other| sockets[other].is_none()) {
        match listener.accept() {
            Ok((mut socket, from)) => {
                socket
                    .set_nonblocking(false)
                    .map_err(|error| Error::io(format!("a connection from {from}"), &error))?;
                // Whoever is no process of this job is turned away, and does not end it.
                match greet(&mut socket, hello) {
                    Ok(Some(other)) => match hello.mismatch(other) {
                        Some(why) => {
                            return Err(Error::config(format!(
                                "process {} cannot take part: {why}",
                                other.process
                            )));
                        }
                        None => {
                            if let Some(place @ None) = sockets.get_mut(other.process as usize) {
                                *place = Some(socket);
                            }
                        }
                    },
                    Ok(None) => {
                        tracing::warn!(%from, "a connection that is no nekton process was turned away")
                    }
                    Err(error) => tracing::warn!(%from, %error, "a connection broke while it was greeted"),
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait(missing, &hosts[missing], config, deadline)?
            }
            Err(error) => return Err(Error::io(format!("listening on {own}"), &error)),
        }
    }
    Ok(sockets)
}

fn dial(hello: Hello, other: usize, host: &str, config: &JobConfig, deadline: Instant) -> Result<TcpStream> {
    loop {
        if let Ok(mut socket) = TcpStream::connect(host) {
            match greet(&mut socket, hello) {
                Ok(Some(peer)) => {
                    if peer.process as usize != other {
                        return Err(Error::config(format!(
                            "{host} is process {} and not {other}: give all processes the same --hosts",
                            peer.process
                        )));
                    }
                    return match hello.mismatch(peer) {
                        Some(why) => {
                            Err(Error::config(format!("process {other} ({host}) does not fit: {why}")))
                        }
                        None => Ok(socket),
                    };
                }
                Ok(None) => {
                    return Err(Error::new(
                        Kind::Conflict,
                        format!("what listens on {host} is no nekton process of this version: check --hosts"),
                    ));
                }
                Err(error) => tracing::debug!(%error, host, "the connection broke while it was greeted"),
            }
        }
        wait(other, host, config, deadline)?;
    }
}

/// Says who we are and hears who the other is; `None` if it is no nekton process.
fn greet(socket: &mut TcpStream, hello: Hello) -> std::io::Result<Option<Hello>> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(&hello.encode())?;
    let mut bytes = [0; 32];
    socket.read_exact(&mut bytes)?;
    socket.set_read_timeout(None)?;
    Ok(Hello::decode(bytes))
}

fn wait(other: usize, host: &str, config: &JobConfig, deadline: Instant) -> Result<()> {
    if config.stop.requested() {
        return Err(Error::new(Kind::Unavailable, "stopped before all processes had come together"));
    }
    if Instant::now() >= deadline {
        return Err(Error::new(
            Kind::Unavailable,
            format!(
                "process {other} ({host}) did not come within {} seconds: start it, or correct --hosts",
                PATIENCE.as_secs()
            ),
        ));
    }
    std::thread::sleep(Duration::from_millis(20));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Hello = Hello { process: 1, processes: 3, workers: 2, job: 7 };

    #[test]
    fn a_hello_is_read_as_it_was_written() {
        assert_eq!(Hello::decode(HELLO.encode()), Some(HELLO));
        let mut other = HELLO.encode();
        other[7] += 1;
        assert_eq!(Hello::decode(other), None);
    }

    #[test]
    fn another_job_or_shape_does_not_fit() {
        assert_eq!(HELLO.mismatch(Hello { process: 2, ..HELLO }), None);
        for other in
            [Hello { job: 8, ..HELLO }, Hello { workers: 1, ..HELLO }, Hello { processes: 2, ..HELLO }]
        {
            assert!(HELLO.mismatch(other).is_some());
        }
    }
}
