//! Who may ask: the token, and where the page is from that asks. Pure.

use std::net::{IpAddr, SocketAddr};

/// The cookie that keeps the token for the page.
pub(crate) const COOKIE: &str = "nekton_token";

/// Checks requests.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    token: Option<String>,
    /// Whether only this machine can ask at all.
    loopback: bool,
}

/// What a request says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said<'r> {
    pub(crate) host: Option<&'r str>,
    pub(crate) origin: Option<&'r str>,
    pub(crate) authorization: Option<&'r str>,
    pub(crate) cookies: Option<&'r str>,
    /// The token in the address.
    pub(crate) token: Option<&'r str>,
}

/// Why a request is refused: a status, and a sentence.
pub(crate) type Refused = (u16, &'static str);

impl Guard {
    pub(crate) fn new(address: SocketAddr, token: Option<String>) -> Self {
        Guard { token, loopback: address.ip().is_loopback() }
    }

    /// Whether the request is from a page of ours, or from no page.
    ///
    /// A page of somebody else's could give its own name this machine's address, and ask as if it were from here; then
    /// its name is in `Host`. Outside of loopback a name may be anything, and the token protects: such a page has none.
    pub(crate) fn same_site(&self, said: &Said<'_>) -> Result<(), Refused> {
        let host = said.host.ok_or((400, "the request names no host"))?;
        if self.loopback && !names_this_machine(host) {
            return Err((
                403,
                "this name is not this machine's: ask for http://localhost or http://127.0.0.1",
            ));
        }
        let of_ours = |origin: &str| {
            let page = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            page.is_some_and(|page| page.eq_ignore_ascii_case(host))
        };
        match said.origin {
            Some(origin) if !of_ours(origin) => Err((403, "the request comes from a page of another origin")),
            _ => Ok(()),
        }
    }

    /// Whether the request has the token.
    pub(crate) fn knows_token(&self, said: &Said<'_>) -> Result<(), Refused> {
        let Some(token) = &self.token else { return Ok(()) };
        let bearer = said.authorization.and_then(|value| value.strip_prefix("Bearer "));
        let cookies = said.cookies.unwrap_or_default().split(';');
        let cookie =
            cookies.filter_map(|cookie| cookie.trim().split_once('=')).find(|(name, _)| *name == COOKIE);
        let given = bearer.or(said.token).or(cookie.map(|(_, value)| value));
        match given {
            Some(given) if same(given.trim().as_bytes(), token.as_bytes()) => Ok(()),
            Some(_) => Err((401, "the token is wrong")),
            None => Err((
                401,
                "a token is needed: open the page with ?token=.., or send Authorization: Bearer ..",
            )),
        }
    }

    /// Whether the token is asked for.
    pub(crate) fn asks_token(&self) -> bool {
        self.token.is_some()
    }
}

/// Compares in a time that does not tell where the first difference is.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differs = given.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b));
    given.len() == token.len() && std::hint::black_box(differs) == 0
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(address: &str, token: Option<&str>) -> Guard {
        Guard::new(address.parse().unwrap(), token.map(str::to_owned))
    }

    #[test]
    fn pages_of_others_are_refused() {
        let guard = guard("127.0.0.1:9090", None);
        let from = |host, origin| guard.same_site(&Said { host, origin, ..Said::default() }).is_ok();
        for host in ["localhost:9090", "127.0.0.1:9090", "127.0.0.2", "[::1]:9090", "LOCALHOST"] {
            assert!(from(Some(host), None), "{host}");
        }
        for host in
            ["evil.example:9090", "127.0.0.1.evil.example", "10.0.0.1:9090", "", "localhost.evil.example"]
        {
            assert!(!from(Some(host), None), "{host}");
        }
        assert!(!from(None, None));
        assert!(from(Some("localhost:9090"), Some("http://localhost:9090")));
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:8080",
            "http://127.0.0.1:9090",
            "localhost:9090",
        ] {
            assert!(!from(Some("localhost:9090"), Some(origin)), "{origin}");
        }
    }

    #[test]
    fn a_token_is_in_the_header_the_address_or_the_cookie() {
        let guard = guard("10.0.0.1:9090", Some("secret"));
        let knows = |said| guard.knows_token(&said).is_ok();
        assert!(knows(Said { authorization: Some("Bearer secret"), ..Said::default() }));
        assert!(knows(Said { token: Some("secret"), ..Said::default() }));
        assert!(knows(Said { cookies: Some("a=b; nekton_token=secret"), ..Said::default() }));
        assert!(!knows(Said::default()));
        for wrong in ["", "secre", "secrets", "Secret"] {
            assert!(!knows(Said { token: Some(wrong), ..Said::default() }), "{wrong}");
        }
        assert!(!knows(Said { cookies: Some("xnekton_token=secret"), ..Said::default() }));
        let open = Guard::new("127.0.0.1:1".parse().unwrap(), None);
        assert!(open.knows_token(&Said::default()).is_ok());
        assert!(guard.same_site(&Said { host: Some("nekton.example"), ..Said::default() }).is_ok());
    }
}
