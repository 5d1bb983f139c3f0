//! Meeting: process `i` listens on `hosts[i]` and dials all before it, until all have found one another.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use super::hello::{Handshake, Party, Refusal, Role};
use super::wire::Wire;
use crate::error::{Error, Kind, Result};
use crate::hash::fixed_hash;
use crate::job::JobConfig;

/// How long processes wait for one another at the start.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);
/// How often it is looked whether somebody has come.
const LOOK: Duration = Duration::from_millis(10);
/// How many that have not said who they are are listened to at once.
const STRANGERS: usize = 32;

/// What came of a conversation with somebody.
enum Met {
    Peer(Party, Wire),
    Refused(Refusal),
    /// The connection broke, or nothing was said in time.
    Broke(std::io::Error),
}

/// Everything that a conversation needs.
#[derive(Clone)]
struct Us {
    party: Party,
    config: Arc<JobConfig>,
}

/// The connections to all other processes, in their order; none to this one.
pub(super) fn meet(config: &JobConfig) -> Result<Vec<Option<Wire>>> {
    let JobConfig { hosts, process, .. } = config;
    let own = hosts.get(*process).ok_or_else(|| {
        Error::config(format!("process {process} has no address: --hosts names only {}", hosts.len()))
    })?;
    let us = Us {
        party: Party {
            process: *process as u32,
            processes: hosts.len() as u32,
            workers: config.workers as u32,
            job: fixed_hash(&config.name),
            program: config.cluster.program,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        config: Arc::new(config.clone()),
    };
    let listener = listen(config, own)?;
    let mut meeting = Meeting {
        deadline: Instant::now() + PATIENCE,
        wires: hosts.iter().map(|_| None).collect(),
        last: String::new(),
        us,
    };
    for other in 0..*process {
        meeting.dial(other)?;
    }
    meeting.accept(&listener, own)?;
    Ok(meeting.wires)
}

fn listen(config: &JobConfig, own: &str) -> Result<TcpListener> {
    let process = config.process;
    let unusable = |error: &std::io::Error| match error.kind() {
        ErrorKind::AddrInUse => Error::new(
            Kind::Conflict,
            format!(
                "the address {own} of process {process} is in use: end what uses it, or name another in --hosts"
            ),
        ),
        _ => Error::io(format!("process {process} cannot listen on {own}"), error),
    };
    let addresses: Vec<_> = own.to_socket_addrs().map_err(|error| unusable(&error))?.collect();
    let protected = config.cluster.secret.is_some() || config.cluster.tls.is_some();
    if !protected && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(Error::config(format!(
            "process {process} would listen on {own}, where anybody who reaches it could take part in the job: give \
             all processes the same --secret-file (or NEKTON_SECRET), or --cluster-tls-cert, -key and -ca"
        )));
    }
    let listener = TcpListener::bind(&addresses[..]).map_err(|error| unusable(&error))?;
    listener.set_nonblocking(true).map_err(|error| unusable(&error))?;
    Ok(listener)
}

struct Meeting {
    us: Us,
    deadline: Instant,
    wires: Vec<Option<Wire>>,
    /// The last thing that went wrong, for the case that nothing better comes.
    last: String,
}

impl Meeting {
    fn dial(&mut self, other: usize) -> Result<()> {
        let host = self.us.config.hosts[other].clone();
        loop {
            match self.us.dial(&host)? {
                Met::Peer(peer, wire) if peer.process as usize == other => {
                    self.wires[other] = Some(wire);
                    return Ok(());
                }
                Met::Peer(peer, _) => {
                    return Err(Error::config(format!(
                        "{host} is process {} and not {other}: give all processes the same --hosts",
                        peer.process
                    )));
                }
                Met::Refused(refusal @ (Refusal::Stranger | Refusal::Protocol(_))) => {
                    return Err(Error::new(
                        Kind::Conflict,
                        format!(
                            "what listens on {host} is not process {other} of this job: {refusal}. Check --hosts"
                        ),
                    ));
                }
                Met::Refused(refusal) => {
                    return Err(Error::config(format!("process {other} ({host}) does not fit: {refusal}")));
                }
                Met::Broke(error) if error.kind() == ErrorKind::InvalidData => {
                    return Err(Error::config(format!(
                        "TLS with process {other} ({host}) fails: {error}. Give all processes certificates of the same \
                         authority that name their hosts, with --cluster-tls-cert, -key and -ca"
                    )));
                }
                Met::Broke(error) => {
                    // That nobody listens yet is as it should be.
                    if error.kind() != ErrorKind::ConnectionRefused {
                        tracing::debug!(%error, host, "dialing");
                        self.last = format!(" (last, the connection broke: {error})");
                    }
                }
            }
            self.wait(other)?;
        }
    }

    fn accept(&mut self, listener: &TcpListener, own: &str) -> Result<()> {
        let (sender, met) = channel();
        let talking = Arc::new(AtomicUsize::new(0));
        while let Some(missing) = (0..self.wires.len())
            .find(|&other| self.wires[other].is_none() && other != self.us.party.process as usize)
        {
            self.come(&met)?;
            let accepted =
                if talking.load(Ordering::Relaxed) < STRANGERS { Some(listener.accept()) } else { None };
            match accepted {
                Some(Ok((socket, from))) => {
                    let (us, sender, talking) = (self.us.clone(), sender.clone(), talking.clone());
                    talking.fetch_add(1, Ordering::Relaxed);
                    let answer = move || {
                        us.answer(socket, &from.to_string(), &sender);
                        talking.fetch_sub(1, Ordering::Relaxed);
                    };
                    std::thread::Builder::new()
                        .name("greeting".to_owned())
                        .spawn(answer)
                        .map_err(|error| Error::io("starting a thread", &error))?;
                }
                Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                    // A connection that broke before it was taken is nothing to end for.
                    tracing::debug!(%error, own, "accepting a connection");
                    self.wait(missing)?;
                }
                _ => self.wait(missing)?,
            }
        }
        Ok(())
    }

    /// Takes in those that have said who they are.
    fn come(&mut self, met: &Receiver<(String, Met)>) -> Result<()> {
        while let Ok((from, met)) = met.try_recv() {
            match met {
                Met::Peer(peer, wire) => match self.wires.get_mut(peer.process as usize) {
                    Some(place @ None) if peer.process != self.us.party.process => *place = Some(wire),
                    _ => {
                        return Err(Error::config(format!(
                            "two processes say that they are process {}: give each its own --process",
                            peer.process
                        )));
                    }
                },
                // One that knows the secret, but is no part of this job: all are to be started anew.
                Met::Refused(Refusal::Mismatch(peer, why)) => {
                    return Err(Error::config(format!(
                        "process {} ({from}) cannot take part: {why}",
                        peer.process
                    )));
                }
                // Whoever is no process of this job is turned away, and does not end it.
                Met::Refused(refusal) => {
                    tracing::warn!(from, %refusal, "turned away");
                    self.last = format!(" (last, {from} was turned away: {refusal})");
                }
                Met::Broke(error) => {
                    tracing::warn!(from, %error, "turned away");
                    self.last = format!(" (last, {from} was turned away: {error})");
                }
            }
        }
        Ok(())
    }

    fn wait(&self, other: usize) -> Result<()> {
        if self.us.config.stop.requested() {
            return Err(Error::new(Kind::Unavailable, "stopped before all processes had come together"));
        }
        if Instant::now() >= self.deadline {
            return Err(Error::new(
                Kind::Unavailable,
                format!(
                    "process {other} ({}) did not come within {} seconds: start it, or correct --hosts{}",
                    self.us.config.hosts[other],
                    PATIENCE.as_secs(),
                    self.last
                ),
            ));
        }
        std::thread::sleep(LOOK);
        Ok(())
    }
}

impl Us {
    fn dial(&self, host: &str) -> Result<Met> {
        let addresses = host.to_socket_addrs();
        // A name that is not known yet may become known: a machine that starts.
        let socket = addresses.and_then(|addresses| {
            let mut last = ErrorKind::ConnectionRefused.into();
            for address in addresses {
                match TcpStream::connect_timeout(&address, GREETING) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last = error,
                }
            }
            Err(last)
        });
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => return Ok(Met::Broke(error)),
        };
        // Where nobody listens on a port of this machine, a connection may be one with itself.
        if socket.local_addr().ok() == socket.peer_addr().ok() {
            return Ok(Met::Broke(ErrorKind::ConnectionRefused.into()));
        }
        let tls = self.config.cluster.tls.as_ref().map(|tls| tls.dial(host)).transpose()?;
        Ok(self.talk(socket, tls, Role::Dials))
    }

    /// Hears who has come, and says so.
    fn answer(&self, socket: TcpStream, from: &str, met: &Sender<(String, Met)>) {
        let tls = self.config.cluster.tls.as_ref().map(|tls| tls.accept()).transpose();
        let outcome = match (socket.set_nonblocking(false), tls) {
            (Ok(()), Ok(tls)) => self.talk(socket, tls, Role::Accepts),
            (Err(error), _) => Met::Broke(error),
            (_, Err(error)) => Met::Broke(std::io::Error::other(error)),
        };
        let _ = met.send((from.to_owned(), outcome));
    }

    fn talk(&self, socket: TcpStream, tls: Option<rustls::Connection>, role: Role) -> Met {
        let deadline = Instant::now() + GREETING;
        let talk = || -> std::io::Result<Result<(Party, Wire), Refusal>> {
            let wire = Wire::open(socket, tls, deadline)?;
            let mut nonce = [0; 32];
            let random = SystemRandom::new().fill(&mut nonce);
            random.map_err(|_| std::io::Error::other("the system gave no random bytes"))?;
            let secret = self.config.cluster.secret.clone();
            let (mut handshake, hello) = Handshake::new(self.party.clone(), role, secret, nonce);
            wire.patience(GREETING, Some(GREETING))?;
            wire.write(&hello)?;
            loop {
                let mut bytes = vec![0; handshake.needs()];
                wire.read_until(&mut bytes, deadline)?;
                let step = handshake.receive(&bytes);
                let sent = if step.send.is_empty() { Ok(()) } else { wire.write(&step.send) };
                match step.outcome {
                    None => sent?,
                    Some(Ok(peer)) => return sent.map(|()| Ok((peer, wire))),
                    Some(Err(refusal)) => {
                        wire.finish();
                        return Ok(Err(refusal));
                    }
                }
            }
        };
        match talk() {
            Ok(Ok((party, wire))) => Met::Peer(party, wire),
            Ok(Err(refusal)) => Met::Refused(refusal),
            Err(error) => Met::Broke(error),
        }
    }
}
