//! The program as its users run it: a topic goes in, a topic comes out.

use std::collections::BTreeMap;
use std::process::Command;

/// What the changes of a topic add up to.
fn folded(topic: &str) -> BTreeMap<String, i64> {
    let mut values = BTreeMap::new();
    for line in topic.lines() {
        let change: serde_json::Value = serde_json::from_str(line).unwrap();
        let key = change["key"].as_str().unwrap().to_owned();
        assert_eq!(values.remove(&key), change["before"].as_i64(), "a change starts where the last one ended");
        if let Some(after) = change["after"].as_i64() {
            values.insert(key, after);
        }
    }
    values
}

#[test]
fn hot_sensors_are_counted_by_room() {
    let topics = tempfile::tempdir().unwrap();
    std::fs::create_dir(topics.path().join("readings")).unwrap();
    let readings = include_str!("../data/topics/readings/0.jsonl");
    std::fs::write(topics.path().join("readings/0.jsonl"), readings).unwrap();

    let ended = Command::new(env!("CARGO_BIN_EXE_{{name}}"))
        .args(["--until-end", "--topics", &format!("file:{}", topics.path().display())])
        .status()
        .unwrap();
    assert!(ended.success());

    let changes = std::fs::read_to_string(topics.path().join("hot-by-room/0.jsonl")).unwrap();
    assert_eq!(folded(&changes), BTreeMap::from([("kitchen".to_owned(), 2)]));
}
