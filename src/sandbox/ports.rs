//! Where a sandbox listens.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use nekton_engine::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// Below the ports that operating systems give to outgoing connections: one of those could take a broker's port while
/// the broker is being started again.
const FREE: std::ops::Range<u16> = 20_000..32_000;

/// The ports of a sandbox on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// For clients: Pulsar's protocol, under TLS where that is asked for.
    pub broker: u16,
    /// For administration: HTTP, under TLS as well.
    pub admin: u16,
    /// With TLS, the same without it: for the broker's connection to itself, and for [`super::Sandbox::admin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) plain: Option<Plain>,
}

/// Ports without TLS beside those with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plain {
    pub(super) broker: u16,
    pub(super) admin: u16,
}

impl Ports {
    /// These ports.
    pub fn new(broker: u16, admin: u16) -> Self {
        Ports { broker, admin, plain: None }
    }

    pub(super) fn same(&self, other: &Ports) -> bool {
        (self.broker, self.admin) == (other.broker, other.admin)
    }

    /// Ports that nobody listens on.
    pub(super) fn free(tls: bool) -> Result<Self> {
        let mut free = free_ports();
        let mut next = || free.next().ok_or_else(no_port);
        let ports = Ports::new(next()?, next()?);
        Ok(Ports { plain: if tls { Some(Plain { broker: next()?, admin: next()? }) } else { None }, ..ports })
    }

    /// These ports, if nobody listens on them.
    pub(super) fn checked(self, tls: bool) -> Result<Self> {
        for (port, flag) in [(self.broker, "--port"), (self.admin, "--admin-port")] {
            if !is_free(port) {
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "port {port} of 127.0.0.1 is in use, so the sandbox cannot listen there. End the program \
                         that uses it, or choose another port with {flag}"
                    ),
                ));
            }
        }
        let plain = match self.plain.filter(|plain| is_free(plain.broker) && is_free(plain.admin)) {
            None if tls => Self::free(true)?.plain,
            plain => plain,
        };
        Ok(Ports { plain, ..self })
    }

    /// Where the administration is without TLS.
    pub(super) fn plain_admin(&self) -> u16 {
        self.plain.map_or(self.admin, |plain| plain.admin)
    }

    pub(super) fn taken(&self) -> Error {
        Error::new(
            Kind::Conflict,
            format!(
                "another program took port {} or {} of 127.0.0.1 while the sandbox started. Choose others with \
                 --port and --admin-port",
                self.broker, self.admin
            ),
        )
    }
}

fn no_port() -> Error {
    Error::new(
        Kind::Unavailable,
        format!("no free port from {} to {} was found on 127.0.0.1", FREE.start, FREE.end),
    )
}

/// Free ports, each once. Where they begin differs between processes and between calls, so that sandboxes that start
/// at the same moment hardly choose the same.
fn free_ports() -> impl Iterator<Item = u16> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    let count = u32::from(FREE.end - FREE.start);
    let begin = std::process::id().wrapping_mul(7_919).wrapping_add(calls.wrapping_mul(101)) % count;
    (0..count).map(move |step| FREE.start + ((begin + step) % count) as u16).filter(|port| is_free(*port))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_port_in_use_is_neither_given_nor_accepted() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        let refused = Ports::new(port, 1).checked(false).unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict);
        assert!(refused.to_string().contains(&format!("port {port} of 127.0.0.1 is in use")), "{refused}");

        // None of them listens yet.
        let given = [Ports::free(true).unwrap(), Ports::free(true).unwrap()];
        let plain = given.map(|ports| ports.plain.unwrap());
        let all: BTreeSet<u16> = given
            .iter()
            .zip(plain)
            .flat_map(|(ports, plain)| [ports.broker, ports.admin, plain.broker, plain.admin])
            .collect();
        assert_eq!(all.len(), 8, "{all:?}");
    }
}
