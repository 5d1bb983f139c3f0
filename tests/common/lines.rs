//! What is in topics of files.
#![allow(dead_code)] // not every test uses all of it

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// All lines of a topic, by partition.
pub fn lines(topic: &Path) -> Vec<Vec<Value>> {
    let read = |number: usize| std::fs::read_to_string(topic.join(format!("{number}.jsonl"))).ok();
    let parse = |line: &str| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    (0..).map_while(read).map(|text| text.lines().map(parse).collect()).collect()
}

/// The messages of a topic by time, each a key with what it is from then on.
pub fn by_time(topic: &Path) -> BTreeMap<u64, Vec<(Value, Value)>> {
    let mut all: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for line in lines(topic).into_iter().flatten() {
        let change = (line["key"].clone(), line["value"].clone());
        all.entry(line["time"].as_u64().unwrap()).or_default().push(change);
    }
    all
}
