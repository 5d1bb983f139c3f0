//! Topics on a real Apache Pulsar that is killed, restarted and silenced while they are read and written.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::broker::{broker, fresh};
use common::topics::{Reading, Writer, message, text};
use nekton::connect::Start;
use nekton_connectors::pulsar::Pulsar;

#[test]
fn a_broker_that_is_killed_and_comes_back_loses_and_doubles_nothing() {
    let url = broker().url(&fresh("killed"));
    let pulsar = Pulsar::new(broker().settings("killed")).unwrap();
    let mut writer = Writer::open(&pulsar, &url, 0, 1).unwrap();
    let mut topic = Reading::open(&pulsar, &url, Start::Earliest).unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let writing = {
        let (written, over) = (written.clone(), over.clone());
        std::thread::spawn(move || {
            let mut next = 0;
            while !over.load(Ordering::Relaxed) {
                writer.write((next..next + 20).map(|n| message(n.to_string())).collect()).unwrap();
                next += 20;
                writer.wait(6).unwrap();
                written.store(next, Ordering::Relaxed);
            }
            writer.inner.close().unwrap();
            next
        })
    };
    let mut records = topic.count(2_000).unwrap();
    for _ in 0..2 {
        broker().sandbox().kill().unwrap();
        broker().sandbox().restart(&mut |_| {}).unwrap();
        let more = written.load(Ordering::Relaxed) + 2_000;
        let have = records.len();
        records.extend(topic.count(more.saturating_sub(have)).unwrap());
    }
    over.store(true, Ordering::Relaxed);
    let all = writing.join().unwrap();
    let have = records.len();
    records.extend(topic.count(all - have).unwrap());
    assert_eq!(records.len(), all);
    assert!(records.iter().enumerate().all(|(n, (_, record))| text(record) == n.to_string()));
}
