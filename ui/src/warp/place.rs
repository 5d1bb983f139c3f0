//! Which lane of which node shows what of a job. Pure.

use percent_encoding::percent_decode_str;

use super::envelope::Address;

/// The lane of a view that has all its records, and that of a record which has all its value.
pub(crate) const RECORDS: &str = "records";
pub(crate) const STATE: &str = "state";

/// What a lane shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `/VIEW`, lane `records`: a map lane of all records of a view.
    Records { view: String },
    /// `/VIEW/KEY`, lane `state`: a value lane of what a view says of a key. Any other lane is the field of that name.
    Record { view: String, key: String, field: Option<String> },
    /// `swim:meta:..`: what there is.
    Meta(Meta),
}

/// What a job says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Meta {
    /// A map lane: the nodes of all views.
    Nodes,
    /// A value lane: how many these are.
    Count,
    /// A value lane: what the job has done so far.
    Pulse,
    /// A map lane: the lanes of a view's node, and of a record's.
    ViewLanes,
    RecordLanes,
}

/// What there is not, in the words of Swim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nowhere {
    Node,
    Lane,
}

impl Nowhere {
    /// The body of `@unlinked`.
    pub(crate) fn body(self) -> &'static str {
        match self {
            Nowhere::Node => "@nodeNotFound",
            Nowhere::Lane => "@laneNotFound",
        }
    }
}

/// The view and the key that a node's address names: `/VIEW` or `/VIEW/KEY`, percent-encoded where they have odd characters.
/// A key may have slashes.
pub(crate) fn node(address: &str) -> Option<(String, Option<String>)> {
    let path = address.strip_prefix('/').unwrap_or(address);
    let decoded = |part: &str| percent_decode_str(part).decode_utf8().ok().map(|part| part.into_owned());
    let (view, key) = match path.split_once('/') {
        Some((view, key)) => (view, Some(decoded(key)?)),
        None => (path, None),
    };
    let view = decoded(view).filter(|view| !view.is_empty())?;
    Some((view, key.filter(|key| !key.is_empty())))
}

pub(crate) fn place(address: &Address) -> Result<Place, Nowhere> {
    let lane = address.lane.as_str();
    if let Some(about) = address.node.strip_prefix("swim:meta:") {
        return meta(about.trim_end_matches('/'), lane).map(Place::Meta);
    }
    match node(&address.node).ok_or(Nowhere::Node)? {
        (view, None) if lane == RECORDS => Ok(Place::Records { view }),
        (_, None) => Err(Nowhere::Lane),
        (view, Some(key)) => {
            let field = (lane != STATE).then(|| lane.to_owned());
            Ok(Place::Record { view, key, field })
        }
    }
}

fn meta(about: &str, lane: &str) -> Result<Meta, Nowhere> {
    match about.split_once('/') {
        None if matches!(about, "mesh" | "edge" | "host") => match lane {
            "nodes" | "nodes#/" => Ok(Meta::Nodes),
            "nodesCount" => Ok(Meta::Count),
            "pulse" => Ok(Meta::Pulse),
            _ => Err(Nowhere::Lane),
        },
        Some(("node", encoded)) => {
            let address = percent_decode_str(encoded).decode_utf8().map_err(|_| Nowhere::Node)?;
            let (_, key) = node(&address).ok_or(Nowhere::Node)?;
            match (lane, key) {
                ("lanes", None) => Ok(Meta::ViewLanes),
                ("lanes", Some(_)) => Ok(Meta::RecordLanes),
                ("pulse", _) => Ok(Meta::Pulse),
                _ => Err(Nowhere::Lane),
            }
        }
        _ => Err(Nowhere::Node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(node: &str, lane: &str) -> Result<Place, Nowhere> {
        place(&Address { node: node.to_owned(), lane: lane.to_owned() })
    }

    #[test]
    fn nodes_are_views_and_their_keys() {
        let record = |view: &str, key: &str, field: Option<&str>| {
            Ok(Place::Record { view: view.into(), key: key.into(), field: field.map(str::to_owned) })
        };
        let all = |view: &str| Ok(Place::Records { view: view.into() });
        assert_eq!(of("/vehicles", "records"), all("vehicles"));
        assert_eq!(of("vehicles/", "records"), all("vehicles"));
        assert_eq!(of("/by%20depot", "records"), all("by depot"));
        assert_eq!(of("/vehicles/7", "state"), record("vehicles", "7", None));
        assert_eq!(of("/vehicles/7", "engine_temp"), record("vehicles", "7", Some("engine_temp")));
        assert_eq!(of("/legs/BOS/LAX", "state"), record("legs", "BOS/LAX", None));
        assert_eq!(of("/legs/BOS%2FLAX", "state"), record("legs", "BOS/LAX", None));
        assert_eq!(of("/legs/%5B1%2C%22a%22%5D", "state"), record("legs", "[1,\"a\"]", None));
        assert_eq!(of("/vehicles", "state"), Err(Nowhere::Lane));
        for nowhere in ["", "/", "//7", "/%ff", "/a/%ff"] {
            assert_eq!(of(nowhere, "state"), Err(Nowhere::Node), "{nowhere}");
        }
    }

    #[test]
    fn what_tools_ask_for_is_found() {
        for (node, lane, expected) in [
            ("swim:meta:mesh", "nodes", Ok(Meta::Nodes)),
            ("swim:meta:host", "nodes#/", Ok(Meta::Nodes)),
            ("swim:meta:host", "pulse", Ok(Meta::Pulse)),
            ("swim:meta:mesh", "nodesCount", Ok(Meta::Count)),
            ("swim:meta:node/%2Fvehicles", "lanes", Ok(Meta::ViewLanes)),
            ("swim:meta:node/%2Fvehicles%2F7/", "lanes", Ok(Meta::RecordLanes)),
            ("swim:meta:node/%2Fvehicles/lane/records", "traceLog", Err(Nowhere::Lane)),
            ("swim:meta:host", "debugLog", Err(Nowhere::Lane)),
            ("swim:meta:router", "nodes", Err(Nowhere::Node)),
        ] {
            assert_eq!(of(node, lane), expected.map(Place::Meta), "{node} {lane}");
        }
    }
}
