//! A job as its server shows it: what it answers over HTTP, and what it tells as it happens.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nekton::{Error, Kind, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// How long a job may take to accept a connection, to answer, and to say the next thing: it says something every second.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(10);
/// The most bytes of an answer, and of one thing that is told.
const MOST_BYTES: u64 = 256 << 20;

/// The variable with the token itself.
const TOKEN: &str = "NEKTON_LISTEN_TOKEN";

/// What stands in an address as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A part of an address.
pub(crate) fn part(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// Where a job shows itself, and with which token.
#[derive(Args)]
pub(crate) struct At {
    /// Where the job shows itself, as it said when it started
    #[arg(long, env = "NEKTON_JOB", value_name = "URL", default_value = "http://127.0.0.1:9090")]
    listen: String,
    #[command(flatten)]
    token: Token,
}

impl At {
    pub(crate) fn job(&self) -> Result<Job> {
        Job::at(&self.listen, self.token.read()?)
    }
}

/// What whoever looks must know.
#[derive(Args)]
pub(crate) struct Token {
    /// A file with the job's token, if it has one; or NEKTON_LISTEN_TOKEN with the token itself
    #[arg(long, env = "NEKTON_LISTEN_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Token {
    pub(crate) fn read(&self) -> Result<Option<String>> {
        let token = match &self.token_file {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .map_err(|error| Error::io(format!("--token-file {}", path.display()), &error))?,
            ),
            None => std::env::var(TOKEN).ok(),
        };
        Ok(token.map(|token| token.trim().to_owned()))
    }
}

/// A job that runs, or what listens where it should.
pub(crate) struct Job {
    pub(crate) url: String,
    agent: ureq::Agent,
    token: Option<String>,
}

impl Job {
    /// `at` is an address with or without `http://` or `https://` before it, or a port of this machine.
    pub(crate) fn at(at: &str, token: Option<String>) -> Result<Self> {
        let url = address(at);
        let host = ureq::http::Uri::try_from(&url).ok().and_then(|uri| uri.host().map(str::to_owned));
        let Some(host) = host else {
            return Err(Error::config(format!("{at:?} is no address: write http://127.0.0.1:9090")));
        };
        let mut config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(SILENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false);
        let name = host.trim_start_matches('[').trim_end_matches(']');
        // No proxy is asked for what is on this machine.
        if name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
            config = config.proxy(None);
        }
        Ok(Job { url, agent: config.build().new_agent(), token })
    }

    fn ask(&self, path: &str) -> Result<ureq::Body> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.call().map_err(|error| {
            let why = match &error {
                ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    "nothing listens there".to_owned()
                }
                other => other.to_string(),
            };
            let hint = "start the job, or say where it is with --listen: it says so when it starts";
            Error::new(Kind::Unavailable, format!("no job at {}: {why}; {hint}", self.url))
        })?;
        let status = answer.status().as_u16();
        let body = answer.into_body();
        if status == 200 {
            return Ok(body);
        }
        let said: Option<Value> = serde_json::from_reader(body.into_reader().take(MOST_BYTES)).ok();
        let said = said.as_ref().and_then(|said| said["error"].as_str());
        Err(match (status, said) {
            (401, Some(_)) if self.token.is_none() => {
                let hint = format!("give it with --token-file FILE or {TOKEN}");
                Error::new(Kind::Config, format!("the job at {} wants a token: {hint}", self.url))
            }
            (401, Some(said)) => Error::new(Kind::Config, format!("the job at {}: {said}", self.url)),
            (503, Some(said)) => Error::new(Kind::Unavailable, format!("the job at {}: {said}", self.url)),
            (_, Some(said)) => Error::new(Kind::Missing, said.to_owned()),
            (_, None) => Error::new(
                Kind::Missing,
                format!("what listens at {} is no nekton job: say where it is with --listen", self.url),
            ),
        })
    }

    /// What it answers as text.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        let mut text = String::new();
        let read = self.ask(path)?.into_reader().take(MOST_BYTES).read_to_string(&mut text);
        read.map_err(|error| Error::io(format!("reading from {}", self.url), &error))?;
        Ok(text)
    }

    /// What it answers.
    pub(crate) fn json(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.text(path)?).map_err(|_| {
            let why = "is no nekton job, or of another version: say where it is with --listen";
            Error::new(Kind::Missing, format!("what listens at {} {why}", self.url))
        })
    }

    /// What it tells as it happens.
    pub(crate) fn events(&self, path: &str) -> Result<Events> {
        let body = self.ask(path)?;
        Ok(Events { url: self.url.clone(), lines: BufReader::new(Box::new(body.into_reader())) })
    }
}

/// An address as people write it, without the slash at its end.
fn address(at: &str) -> String {
    let at = at.trim().trim_end_matches('/');
    if at.contains("://") {
        at.to_owned()
    } else if at.parse::<u16>().is_ok() {
        format!("http://127.0.0.1:{at}")
    } else {
        format!("http://{at}")
    }
}

/// Server-sent events, each of which is JSON.
pub(crate) struct Events {
    url: String,
    lines: BufReader<Box<dyn Read>>,
}

impl Events {
    /// The next one; `None` when the job has ended.
    pub(crate) fn next(&mut self) -> Result<Option<Value>> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = (&mut self.lines).take(MOST_BYTES).read_line(&mut line);
            match read {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // It has gone in the middle of something.
                Err(error) if error.kind() != ErrorKind::TimedOut => return Ok(None),
                Err(_) => {
                    let why = format!("has said nothing for {} seconds", SILENCE.as_secs());
                    return Err(Error::new(Kind::Unavailable, format!("the job at {} {why}", self.url)));
                }
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).map(Some).map_err(|error| {
                    let why = format!("the job at {} tells what cannot be read: {error}", self.url);
                    Error::new(Kind::Internal, why)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_people_write_them() {
        assert_eq!(address("9091"), "http://127.0.0.1:9091");
        assert_eq!(address("localhost:9091/"), "http://localhost:9091");
        assert_eq!(address("https://fleet.example/"), "https://fleet.example");
        assert!(Job::at("not an address", None).is_err());
        assert_eq!(part("a b/ü?"), "a%20b%2F%C3%BC%3F");
    }
}
