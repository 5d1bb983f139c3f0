//! What clients tell agents, on its way to the topic of commands.

use serde_json::json;
use tokio::sync::mpsc;

use super::envelope::{Address, Change};
use super::place::node;
use crate::recon::Value;

/// How many commands may wait. Each has at most about the bytes of a message.
const QUEUE: usize = 256;
/// The most that are handed over at once.
const BATCH: usize = 1_024;

/// A command that a client has sent, as it goes to the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The key of whom it is for, as it is in the node's address: what commands are kept in order by.
    pub key: String,
    /// `{"view":..,"key":..,"lane":..,"body":..}`, as JSON.
    pub record: String,
}

/// The commands that clients send, for whoever writes them to the topic. When this is dropped, further ones are refused.
///
/// WARP has no receipts: what is taken from here has to be written, or it is lost. While nobody takes them, 256 commands
/// wait; then the clients do, with all that they send.
#[derive(Debug)]
pub struct Commands(mpsc::Receiver<Told>);

impl Commands {
    /// Waits for commands, and appends some, in the order of each client. `false`: there will be no more, because the server
    /// has ended.
    pub fn take(&mut self, into: &mut Vec<Told>) -> bool {
        self.0.blocking_recv_many(into, BATCH) > 0
    }
}

/// The clients' side.
pub(crate) type Teller = mpsc::Sender<Told>;

pub(crate) fn commands() -> (Teller, Commands) {
    let (teller, taken) = mpsc::channel(QUEUE);
    (teller, Commands(taken))
}

impl Told {
    /// A command, and the view that it is for. A change that is sent to a map lane is for its key.
    pub(super) fn of(to: &Address, body: Value) -> Option<(String, Self)> {
        let (view, key) = node(&to.node)?;
        let (key, body) = match (key, Change::of(&body)) {
            (Some(key), _) => (Some(key), body),
            (None, Some(Change::Update(key, value))) => (Some(name(key)), value),
            (None, Some(Change::Remove(key))) => (Some(name(key)), Value::Extant),
            (None, None) => (None, body),
        };
        let record = json!({ "view": view, "key": key, "lane": to.lane, "body": body.json() }).to_string();
        Some((view, Told { key: key.unwrap_or_default(), record }))
    }
}

/// A key as it is in the address of a node.
fn name(key: Value) -> String {
    match key {
        Value::Text(text) => text,
        key => key.json().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_record() {
        let told = |node: &str, body: &str| {
            let to = Address { node: node.to_owned(), lane: "heat".to_owned() };
            let body = crate::recon::read(body).unwrap();
            Told::of(&to, body).map(|(view, told)| (view, told.key, told.record))
        };
        let expected =
            |key: &str, record: &str| Some(("rooms".to_owned(), key.to_owned(), record.to_owned()));
        assert_eq!(
            told("/rooms/7", "{to:21}"),
            expected("7", r#"{"body":{"to":21},"key":"7","lane":"heat","view":"rooms"}"#)
        );
        assert_eq!(
            told("/rooms", "@update(key:7){to:21}"),
            expected("7", r#"{"body":{"to":21},"key":"7","lane":"heat","view":"rooms"}"#)
        );
        assert_eq!(
            told("/rooms", "@remove(key:kitchen)"),
            expected("kitchen", r#"{"body":null,"key":"kitchen","lane":"heat","view":"rooms"}"#)
        );
        assert_eq!(
            told("/rooms", "all"),
            expected("", r#"{"body":"all","key":null,"lane":"heat","view":"rooms"}"#)
        );
        assert_eq!(told("/", "1"), None);
    }
}
