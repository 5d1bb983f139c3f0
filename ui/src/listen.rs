//! Where the server listens.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::str::FromStr;

use nekton_engine::{Error, Kind, Result};

/// The port where nobody says another, and how many after it are tried.
const PORT: u16 = 9090;
const PORTS: u16 = 100;

/// Where to listen.
///
/// ```
/// use nekton_ui::Listen;
///
/// assert_eq!("none".parse(), Ok(Listen::Nowhere));
/// assert_eq!("localhost:8080".parse(), Ok(Listen::At("127.0.0.1:8080".parse().unwrap())));
/// assert!("8080".parse::<Listen>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// 127.0.0.1:9090, or the next port there that is free.
    #[default]
    Default,
    /// This address; if it is taken, that is an error. The port 0 is any that is free.
    At(SocketAddr),
    /// No server.
    Nowhere,
}

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Listen::Nowhere);
        }
        let hint = "write ADDRESS:PORT, such as 127.0.0.1:9090 or [::1]:9090, or none";
        if let Ok(address) = text.parse() {
            return Ok(Listen::At(address));
        }
        match text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
            Some(port) => Ok(Listen::At((Ipv4Addr::LOCALHOST, port).into())),
            None if text.to_socket_addrs().is_ok() => Err(format!("{text} is a name: {hint}")),
            None => Err(hint.to_owned()),
        }
    }
}

/// The least of a token.
const TOKEN: usize = 16;

/// What a token may be, so that it fits in headers, addresses and cookies.
pub(crate) fn check_token(token: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if token.len() < TOKEN || token.len() > 512 || !token.bytes().all(plain) {
        return Err(Error::config(format!(
            "the token of --listen must have {TOKEN} to 512 letters, digits, or any of - . _ ~: make one with \
             `openssl rand -hex 32`"
        )));
    }
    Ok(())
}

/// Listens; `None` where there is to be no server.
pub(crate) fn bind(listen: Listen, token: bool) -> Result<Option<TcpListener>> {
    match listen {
        Listen::Nowhere => Ok(None),
        Listen::Default => {
            let bound = (PORT..PORT + PORTS).chain([0]).find_map(|port| {
                let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
                bound.inspect_err(|error| tracing::debug!(port, %error, "not this port")).ok()
            });
            if bound.is_none() {
                tracing::warn!("no port of 127.0.0.1 can be listened on: the job runs without screens");
            }
            Ok(bound)
        }
        Listen::At(address) if !address.ip().is_loopback() && !token => Err(Error::config(format!(
            "--listen {address} can be reached from other machines: give a token that they must know, with \
             --listen-token-file FILE or NEKTON_LISTEN_TOKEN, or listen on 127.0.0.1"
        ))),
        Listen::At(address) => TcpListener::bind(address).map(Some).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::AddrInUse => ": give another port, or 0 for any",
                _ => "",
            };
            Error::new(Kind::Config, format!("--listen {address}: {error}{hint}"))
        }),
    }
}
