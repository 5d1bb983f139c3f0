//! What a job says of itself on the lanes `swim:meta:..`, as records of views are. Pure.

use nekton_engine::Figures;
use serde_json::{Value, json};

use crate::record::Record;

use super::place::{Meta, RECORDS, STATE};

/// What there is to say: the views with the numbers of their records, and figures.
pub(crate) struct Job {
    pub(crate) views: Vec<(String, usize)>,
    pub(crate) figures: Figures,
}

impl Meta {
    /// The key of the only record of a value lane.
    pub(super) fn key(self) -> Option<&'static str> {
        match self {
            Meta::Count | Meta::Pulse => Some(""),
            Meta::Nodes | Meta::ViewLanes | Meta::RecordLanes => None,
        }
    }

    pub(super) fn records(self, job: &Job) -> Vec<Record> {
        let record = |key: &str, value: Value| Record::new(json!([key, value]).to_string().as_bytes(), 1);
        let lane = |name: &str, kind: &str| vec![record(name, json!({ "laneUri": name, "laneType": kind }))];
        match self {
            Meta::Nodes => job
                .views
                .iter()
                .map(|(name, size)| {
                    let node = format!("/{}", percent_encoding::utf8_percent_encode(name, PATH));
                    record(&node, json!({ "nodeUri": node, "childCount": size }))
                })
                .collect(),
            Meta::Count => vec![record("", job.views.len().into())],
            Meta::Pulse => {
                let figures = &job.figures;
                vec![record(
                    "",
                    json!({
                        "events": figures.events,
                        "messages": figures.messages,
                        "deadLetters": figures.dead_letters,
                        "epochs": figures.epochs,
                        "inFlight": figures.in_flight,
                        "checkpoints": figures.checkpoints,
                        "ready": figures.ready,
                    }),
                )]
            }
            Meta::ViewLanes => lane(RECORDS, "map"),
            Meta::RecordLanes => lane(STATE, "value"),
        }
    }
}

/// What cannot stand in a node's address as it is.
const PATH: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'?')
    .add(b'<')
    .add(b'>');
