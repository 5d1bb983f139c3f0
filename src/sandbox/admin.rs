//! The broker's HTTP interface, as far as a sandbox needs it: one request a connection, on the loopback only.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use nekton_engine::{Error, Kind, Result};

const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(30);
/// The most bytes of an answer that are read.
const LONGEST: u64 = 16 << 20;

/// The status and body of the answer to a request.
pub(super) fn request(
    port: u16,
    token: Option<&str>,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String)> {
    request_within(ANSWER, port, token, method, path, body)
}

/// As [`request`], with an answer that may take this long.
pub(super) fn request_within(
    patience: Duration,
    port: u16,
    token: Option<&str>,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String)> {
    let failed = |what: &dyn std::fmt::Display| {
        Error::new(Kind::Unavailable, format!("{method} http://127.0.0.1:{port}{path}: {what}"))
    };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT)
        .map_err(|error| failed(&error))?;
    let mut answer = Vec::new();
    stream
        .set_read_timeout(Some(patience))
        .and_then(|()| stream.set_write_timeout(Some(patience)))
        .and_then(|()| stream.write_all(head(port, token, method, path, body).as_bytes()))
        .and_then(|()| stream.write_all(body.as_bytes()))
        .and_then(|()| (&mut stream).take(LONGEST).read_to_end(&mut answer))
        .map_err(|error| failed(&error))?;
    parse(&answer).ok_or_else(|| failed(&"the answer is no HTTP"))
}

/// HTTP/1.0, so that the body comes in one piece and ends with the connection.
fn head(port: u16, token: Option<&str>, method: &str, path: &str, body: &str) -> String {
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n");
    if let Some(token) = token {
        head.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    // An empty body still needs its length: Pulsar answers 411 or waits otherwise.
    if !body.is_empty() || method != "GET" {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    head
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, String::from_utf8_lossy(&answer[end + 4..]).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_body_or_nothing() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nok"), Some((200, "ok".to_owned())));
        assert_eq!(parse(b"HTTP/1.0 204 No Content\r\n\r\n"), Some((204, String::new())));
        for torn in [&b""[..], b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\n\r", b"SSH-2.0\r\n\r\n", b"\xff\r\n\r\n"]
        {
            assert_eq!(parse(torn), None);
        }
    }
}
