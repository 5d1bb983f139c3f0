//! The messages of WARP: an attribute that says what it is about, and a body. Pure.
//!
//! Client to server: `@link(node:..,lane:..,prio:..,rate:..)`, `@sync(..)`, `@unlink(..)`, `@command(node:..,lane:..)body`,
//! `@auth body`, `@deauth`. Server to client: `@linked(..)`, `@event(..)body`, `@synced(..)`, `@unlinked(..)body`, `@authed`,
//! `@deauthed`.

use std::fmt::Write;

use crate::recon::{self, Item, Value, gathered};

/// The most bytes of a node's and of a lane's address.
const NODE: usize = 1_024;
const LANE: usize = 256;

/// A lane, as the client writes it: answers must write it the same way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) node: String,
    pub(crate) lane: String,
}

impl Address {
    /// `(node:..,lane:..)`
    pub(crate) fn written(&self) -> String {
        let mut text = "(node:".to_owned();
        recon::write(&Value::Text(self.node.clone()), &mut text);
        text.push_str(",lane:");
        recon::write(&Value::Text(self.lane.clone()), &mut text);
        text.push(')');
        text
    }
}

/// What a client says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// It wants what changes from now on, and with `sync` what there is as well.
    Link {
        to: Address,
        sync: bool,
    },
    Unlink(Address),
    Command(Address, Value),
    Auth(Value),
    Deauth,
}

/// Understands a message of a client.
pub(crate) fn understand(text: &str) -> Result<Said, String> {
    let value = recon::read(text).map_err(|trouble| format!("this is no Recon: {trouble}"))?;
    let Value::Record(mut items) = value else {
        return Err("this is no envelope: @link, @sync, ..".to_owned());
    };
    if !matches!(items.first(), Some(Item::Attr(..))) {
        return Err("this is no envelope: @link, @sync, ..".to_owned());
    }
    let Item::Attr(tag, headers) = items.remove(0) else { return Err(String::new()) };
    Ok(match &tag[..] {
        "link" => Said::Link { to: address(&headers)?, sync: false },
        "sync" => Said::Link { to: address(&headers)?, sync: true },
        "unlink" => Said::Unlink(address(&headers)?),
        "command" => Said::Command(address(&headers)?, gathered(items)),
        "auth" => Said::Auth(gathered(items)),
        "deauth" => Said::Deauth,
        "event" | "linked" | "synced" | "unlinked" | "authed" | "deauthed" => {
            return Err(format!("@{tag} is for servers to say"));
        }
        _ => {
            return Err(
                "there is no such envelope: @link, @sync, @unlink, @command, @auth, @deauth".to_owned()
            );
        }
    })
}

/// By name, or by place: the node, then the lane.
fn address(headers: &Value) -> Result<Address, String> {
    let placed = |place: usize| match headers {
        Value::Record(items) => match items.get(place) {
            Some(Item::Value(value)) => Some(value),
            _ => None,
        },
        _ => None,
    };
    let named = |name: &str, place: usize| {
        headers.slot(name).or_else(|| placed(place)).and_then(Value::text).map(str::to_owned)
    };
    let (Some(node), Some(lane)) = (named("node", 0), named("lane", 1)) else {
        return Err("an envelope names a node and a lane: (node:\"/view/key\",lane:state)".to_owned());
    };
    match node.len() <= NODE && lane.len() <= LANE {
        true => Ok(Address { node, lane }),
        false => Err(format!("a node's address has at most {NODE} bytes, a lane's {LANE}")),
    }
}

/// `@update(key:..)` and the value, as a map lane says it.
pub(crate) fn update(key: &Value, value: &Value) -> String {
    let mut text = keyed("update", key);
    recon::body(value, &mut text);
    text
}

/// `@remove(key:..)`
pub(crate) fn remove(key: &Value) -> String {
    keyed("remove", key)
}

fn keyed(what: &str, key: &Value) -> String {
    let mut text = String::new();
    let _ = write!(text, "@{what}(key:");
    recon::write(key, &mut text);
    text.push(')');
    text
}

/// A command to a map lane: what is to become of which key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Update(Value, Value),
    Remove(Value),
}

impl Change {
    pub(crate) fn of(body: &Value) -> Option<Self> {
        let Value::Record(items) = body else { return None };
        let [Item::Attr(tag, headers), rest @ ..] = &items[..] else { return None };
        let key = headers.slot("key")?.clone();
        match &tag[..] {
            "update" => Some(Change::Update(key, gathered(rest.to_vec()))),
            "remove" if rest.is_empty() => Some(Change::Remove(key)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(node: &str, lane: &str) -> Address {
        Address { node: node.to_owned(), lane: lane.to_owned() }
    }

    #[test]
    fn envelopes_are_understood_as_clients_write_them() {
        let state = || to("/v/7", "state");
        for (text, expected) in [
            (r#"@link(node:"/v/7",lane:state)"#, Said::Link { to: state(), sync: false }),
            (r#"@sync(node:"/v/7",lane:state,prio:0.5,rate:1)"#, Said::Link { to: state(), sync: true }),
            (r#"@sync("/v/7",state)"#, Said::Link { to: state(), sync: true }),
            (r#"@unlink(node:"/v/7",lane:state)"#, Said::Unlink(state())),
            (r#"@command(node:"/v/7",lane:state)"#, Said::Command(state(), Value::Extant)),
            (
                r#"@command(node:"/v/7",lane:state)"off""#,
                Said::Command(state(), Value::Text("off".to_owned())),
            ),
            ("@auth", Said::Auth(Value::Extant)),
            ("@deauth", Said::Deauth),
        ] {
            assert_eq!(understand(text), Ok(expected), "{text}");
        }
        let body = |text: &str| match understand(&format!("@command(node:a,lane:b){text}")) {
            Ok(Said::Command(_, body)) => body,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(body("{a:1,b:{c:2}}").json().to_string(), r#"{"a":1,"b":{"c":2}}"#);
        assert_eq!(body("@set{a:1}").json().to_string(), r#"{"@set":null,"a":1}"#);
        let number = |number: u32| Value::Number(number.into());
        assert_eq!(Change::of(&body("@update(key:7)5")), Some(Change::Update(number(7), number(5))));
        assert_eq!(Change::of(&body("@remove(key:7)")), Some(Change::Remove(number(7))));
        assert_eq!(Change::of(&body("@clear")), None);
        assert_eq!(Change::of(&body("@update")), None);
    }

    #[test]
    fn what_is_no_envelope_is_refused_in_words() {
        for (text, why) in [
            ("", "no envelope"),
            ("{a:1}", "no envelope"),
            ("@link", "names a node"),
            ("@link(node:1,lane:b)", "names a node"),
            ("@event(node:a,lane:b)", "for servers"),
            ("@dance", "no such envelope"),
            ("@link(", "no Recon"),
        ] {
            assert!(understand(text).unwrap_err().contains(why), "{text}: {:?}", understand(text));
        }
        assert!(understand(&format!("@link(node:\"{}\",lane:b)", "a".repeat(1_025))).is_err());
    }

    #[test]
    fn addresses_are_written_as_they_were_read() {
        assert_eq!(to("/v/a b", "state").written(), r#"(node:"/v/a b",lane:state)"#);
    }
}
