//! What a server's answers mean, in words for people.

use std::error::Error as _;

use nekton_engine::{Error, Kind};

use super::place::Cloud;

/// An error of an operation (`"writing"`) on an object (or a bucket) whose URL is `what`.
pub(super) fn error(doing: &str, what: &str, kind: Cloud, error: &object_store::Error) -> Error {
    use object_store::Error as E;
    let because = cause(error);
    let (credentials, endpoint) = (kind.credentials(), kind.endpoint());
    let missing = || (Kind::Missing, "create the bucket, or correct --checkpoints".to_owned());
    let unable = matches!(error, E::NotImplemented { .. } | E::NotSupported { .. })
        || because.contains("501 Not Implemented")
        || because.contains("NotImplemented");
    let (kind, hint) = match error {
        _ if unable => (
            Kind::Config,
            "the server cannot do that, which checkpoints need (creating an object needs If-None-Match): use another one"
                .to_owned(),
        ),
        E::NotFound { .. } => missing(),
        _ if because.contains("404 Not Found") => missing(),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => (
            Kind::Denied,
            format!("check {credentials}, and that they may read, write, list and delete there"),
        ),
        E::NotImplemented { .. } | E::NotSupported { .. } => (
            Kind::Config,
            "the server cannot create objects conditionally, which checkpoints need: use another one"
                .to_owned(),
        ),
        E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => {
            (Kind::Config, "correct --checkpoints".to_owned())
        }
        // Where a machine in a cloud asks for credentials if it has been given none.
        _ if because.contains("169.254.") || because.contains("metadata.google.internal") => {
            (Kind::Denied, format!("no credentials were found: set {credentials}"))
        }
        _ => (
            Kind::Unavailable,
            format!("check that the server can be reached ({endpoint}), then start again"),
        ),
    };
    Error::new(kind, format!("{doing} {what}: {because}; {hint}"))
}

/// The chain of causes from the first that is not only a frame around the next, in one line.
fn cause(error: &object_store::Error) -> String {
    let mut said = error.to_string();
    let mut deeper = error.source();
    while let Some(next) = deeper {
        let text = next.to_string();
        // An outer error that does not repeat the inner one says less without it.
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        deeper = next.source();
    }
    // Servers answer in XML, of which people want the message.
    if let Some((head, rest)) = said.split_once("<?xml").or_else(|| said.split_once("<Error>"))
        && let Some((_, message)) = rest.split_once("<Message>")
        && let Some((message, _)) = message.split_once("</Message>")
    {
        said = format!("{head}{message}");
    }
    let line: Vec<&str> = said.split_whitespace().collect();
    let mut line = line.join(" ").trim_end_matches(['.', ' ']).to_owned();
    if line.len() > LONGEST {
        let mut end = LONGEST;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push_str("..");
    }
    line
}

/// Some servers answer with pages.
const LONGEST: usize = 600;
