//! What a job says of itself on the lanes `swim:meta:..`, as records of views are. Pure.

use nekton_engine::Figures;
use serde::Serialize;

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
        match self {
            Meta::Nodes => job
                .views
                .iter()
                .map(|(name, size)| {
                    let uri = format!("/{}", percent_encoding::utf8_percent_encode(name, PATH));
                    record(&uri, &Node { node_uri: &uri, child_count: *size })
                })
                .collect(),
            Meta::Count => vec![record("", &job.views.len())],
            Meta::Pulse => {
                let figures = &job.figures;
                vec![record(
                    "",
                    &Pulse {
                        events: figures.events,
                        messages: figures.messages,
                        dead_letters: figures.dead_letters,
                        epochs: figures.epochs,
                        in_flight: figures.in_flight,
                        checkpoints: figures.checkpoints,
                        ready: figures.ready,
                    },
                )]
            }
            Meta::ViewLanes => vec![record(RECORDS, &Lane { lane_uri: RECORDS, lane_type: "map" })],
            Meta::RecordLanes => vec![record(STATE, &Lane { lane_uri: STATE, lane_type: "value" })],
        }
    }
}

fn record(key: &str, value: &impl Serialize) -> Record {
    // Texts and numbers: they can be written.
    Record::new(&serde_json::to_vec(&(key, value)).unwrap_or_default(), 1)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node<'n> {
    node_uri: &'n str,
    child_count: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lane {
    lane_uri: &'static str,
    lane_type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pulse {
    events: u64,
    messages: u64,
    dead_letters: u64,
    epochs: u64,
    in_flight: u64,
    checkpoints: u64,
    ready: bool,
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
