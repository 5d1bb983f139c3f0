//! Topics on a real Apache Pulsar, as the engine uses them.

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::broker::{broker, fresh};
use common::topics::{Reading, Writer, message, publish, settings, text};
use nekton::Kind;
use nekton::connect::{Message, Start};
use nekton_connectors::pulsar::{Compression, Pulsar, PulsarSettings};

fn to_the_end(job: &str) -> PulsarSettings {
    PulsarSettings { until_end: true, ..broker().settings(job) }
}

fn pulsar(settings: PulsarSettings) -> Pulsar {
    Pulsar::new(settings).unwrap()
}

#[test]
fn a_million_events_in_four_partitions_come_back_once_each_and_in_order() {
    let url = broker().url(&fresh("million"));
    let writing = pulsar(broker().settings("million"));
    let reading = pulsar(broker().settings("million"));
    let mut writers: Vec<_> = (0..4).map(|p| Writer::open(&writing, &url, p, 4).unwrap()).collect();
    let mut topic = Reading::open(&reading, &url, Start::Earliest).unwrap();
    let reader = std::thread::spawn(move || topic.count(1_000_000));
    let mut next = 0_u64;
    while next < 1_000_000 {
        for (partition, writer) in writers.iter_mut().enumerate() {
            let batch = (next..next + 2_500).map(|n| message(format!("{partition} {n}"))).collect();
            next += 2_500;
            writer.write(batch).unwrap();
            writer.wait(8).unwrap();
        }
    }
    for writer in writers {
        writer.inner.close().unwrap();
    }
    let mut last = [None; 4];
    let mut all = BTreeSet::new();
    for (partition, record) in reader.join().unwrap().unwrap() {
        let (of, number) = text(&record).split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        assert_eq!(of, partition.to_string());
        assert!(last[partition as usize] < Some(number), "in the order of its partition");
        last[partition as usize] = Some(number);
        assert!(all.insert(number), "once");
    }
    assert_eq!(all.len(), 1_000_000);
}

#[test]
fn every_compression_is_read_with_keys_and_tombstones() {
    for (compression, name) in [
        (Compression::None, "none"),
        (Compression::Lz4, "lz4"),
        (Compression::Zlib, "zlib"),
        (Compression::Zstd, "zstd"),
        (Compression::Snappy, "snappy"),
    ] {
        let url = broker().url(&fresh(name));
        let pulsar = pulsar(PulsarSettings { compression, ..to_the_end(name) });
        let mut writer = Writer::open(&pulsar, &url, 0, 1).unwrap();
        let keyed = |key: &str, value: Option<&str>| Message {
            key: Some(serde_json::to_vec(key).unwrap().into()),
            value: value.map(|value| value.as_bytes().to_vec().into()),
        };
        writer.write(vec![keyed("a", Some("{\"n\":1}")), keyed("b", None), message("17")]).unwrap();
        writer.write((0..3_000).map(|n| message(format!("{n}"))).collect()).unwrap();
        writer.inner.close().unwrap();
        let records = Reading::open(&pulsar, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
        assert_eq!(records.len(), 3_003, "{name}");
        let (_, first) = &records[0];
        assert_eq!((first.key.as_deref(), &first.payload[..]), (Some(&b"a"[..]), &b"{\"n\":1}"[..]));
        assert!(records[1].1.payload.is_empty() && records[1].1.key.as_deref() == Some(b"b"));
        assert_eq!(records[2].1.key, None);
        assert!(records[3..].iter().enumerate().all(|(n, (_, record))| text(record) == n.to_string()));
    }
}

#[test]
fn a_job_goes_on_behind_what_it_was_done_with() {
    let url = broker().url(&fresh("goes-on"));
    let pulsar = pulsar(to_the_end("goes-on"));
    publish(&pulsar, &url, (0..500).map(|n| n.to_string()));
    let mut first = Reading::open(&pulsar, &url, Start::Earliest).unwrap();
    assert_eq!(first.read_to_the_end().unwrap().len(), 500);
    first.release();
    drop(first);
    publish(&pulsar, &url, (500..600).map(|n| n.to_string()));
    let mut second = Reading::open(&pulsar, &url, Start::Earliest).unwrap();
    let records = second.read_to_the_end().unwrap();
    assert_eq!((records.len(), text(&records[0].1)), (100, "500"));
    // It was not done with any of that.
    drop(second);
    assert_eq!(Reading::open(&pulsar, &url, Start::Earliest).unwrap().read_to_the_end().unwrap().len(), 100);
}

#[test]
fn reading_behind_a_record_starts_inside_its_batch() {
    let url = broker().url(&fresh("behind"));
    let writing = pulsar(to_the_end("behind"));
    publish(&writing, &url, (0..1_500).map(|n| n.to_string()));
    let records = Reading::open(&writing, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
    for at in [0, 5, 999, 1_000, 1_499] {
        let start = Start::After(records[at].1.position);
        let rest = Reading::open(&writing, &url, start).unwrap().read_to_the_end().unwrap();
        assert_eq!(rest.len(), 1_499 - at);
        assert!(rest.first().is_none_or(|(_, record)| text(record) == (at + 1).to_string()));
    }
}

#[test]
fn a_new_job_starts_where_it_is_told() {
    let url = broker().url(&fresh("starts"));
    let writing = pulsar(broker().settings("starts"));
    publish(&writing, &url, (0..10).map(|n| format!("early {n}")));
    // Publish times are milliseconds, and the next message must have a later one.
    std::thread::sleep(Duration::from_millis(20));
    let between =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    std::thread::sleep(Duration::from_millis(20));
    publish(&writing, &url, (0..10).map(|n| format!("late {n}")));
    let read = |job: &str, start| {
        let mut reading = Reading::open(&pulsar(to_the_end(job)), &url, start).unwrap();
        let records = reading.read_to_the_end().unwrap();
        reading.release();
        records.iter().map(|(_, record)| text(record).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(read("starts-earliest", Start::Earliest).len(), 20);
    assert_eq!(read("starts-latest", Start::Latest).len(), 0);
    let late = read("starts-at", Start::PublishedAt(between));
    assert_eq!((late.len(), late[0].as_str()), (10, "late 0"));
    // It is not new any more.
    assert_eq!(read("starts-at", Start::PublishedAt(between)).len(), 0);
}

#[test]
fn partitions_that_are_added_are_read_from_their_beginning() {
    let name = fresh("grows");
    let url = broker().url(&name);
    let writing = pulsar(broker().settings("grows"));
    Writer::open(&writing, &url, 0, 2).unwrap();
    let reading =
        pulsar(PulsarSettings { look_every: Duration::from_millis(100), ..broker().settings("grows") });
    let mut topic = Reading::open(&reading, &url, Start::Latest).unwrap();
    assert_eq!(topic.partitions.len(), 2);
    broker().admin("POST", &format!("persistent/public/default/{name}/partitions"), "3");
    let mut writer = Writer::open(&writing, &url, 2, 2).unwrap();
    writer.write(vec![message("new")]).unwrap();
    let records = topic.count(1).unwrap();
    assert_eq!((records[0].0, text(&records[0].1)), (2, "new"));
}

#[test]
fn a_topic_that_moves_loses_and_doubles_nothing() {
    let name = fresh("moves");
    let url = broker().url(&name);
    let pulsar = pulsar(broker().settings("moves"));
    let mut writer = Writer::open(&pulsar, &url, 0, 1).unwrap();
    let mut topic = Reading::open(&pulsar, &url, Start::Earliest).unwrap();
    let reader = std::thread::spawn(move || topic.count(40_000));
    for round in 0..400 {
        writer.write((0..100).map(|n| message((round * 100 + n).to_string())).collect()).unwrap();
        writer.wait(6).unwrap();
        if round % 100 == 50 {
            broker().admin("PUT", &format!("persistent/public/default/{name}/unload"), "");
        }
    }
    writer.inner.close().unwrap();
    let records = reader.join().unwrap().unwrap();
    assert_eq!(records.len(), 40_000);
    assert!(records.iter().enumerate().all(|(n, (_, record))| text(record) == n.to_string()));
}

#[test]
fn what_was_deleted_before_it_was_read_is_an_error_that_names_it() {
    let name = fresh("lost");
    let url = broker().url(&name);
    // Small queues: most is still at the broker when it is deleted.
    let pulsar = pulsar(PulsarSettings { queue_bytes: 2_000, ..broker().settings("lost") });
    let mut writer = Writer::open(&pulsar, &url, 0, 1).unwrap();
    for n in 0..2_000 {
        writer.write(vec![message(n.to_string())]).unwrap();
    }
    writer.wait(0).unwrap();
    let mut topic = Reading::open(&pulsar, &url, Start::Earliest).unwrap();
    topic.count(1).unwrap();
    broker().admin(
        "POST",
        &format!("persistent/public/default/{name}/subscription/nekton-lost/skip_all"),
        "",
    );
    writer.write(vec![message("behind the gap")]).unwrap();
    let error = topic.until(|_, _| false).unwrap_err();
    assert_eq!(error.kind(), Kind::Lost, "{error}");
    assert!(error.to_string().contains("nekton-lost") && error.to_string().contains(&name), "{error}");
}

#[test]
fn what_a_later_run_was_done_with_cannot_be_read_again() {
    let url = broker().url(&fresh("acknowledged"));
    let pulsar = pulsar(to_the_end("acknowledged"));
    publish(&pulsar, &url, (0..3).map(|n| n.to_string()));
    publish(&pulsar, &url, (3..6).map(|n| n.to_string()));
    let mut topic = Reading::open(&pulsar, &url, Start::Earliest).unwrap();
    let records = topic.read_to_the_end().unwrap();
    topic.release();
    drop(topic);
    let mut again = Reading::open(&pulsar, &url, Start::After(records[1].1.position)).unwrap();
    let error = again.read_to_the_end().unwrap_err();
    assert_eq!(error.kind(), Kind::Lost, "{error}");
}

#[test]
fn a_newer_run_takes_over_an_output_and_the_older_one_is_told() {
    let url = broker().url(&fresh("takes-over"));
    let pulsar = pulsar(broker().settings("takes-over"));
    let mut older = Writer::open(&pulsar, &url, 0, 1).unwrap();
    older.write(vec![message("older")]).unwrap();
    older.wait(0).unwrap();
    let mut newer = Writer::open(&pulsar, &url, 0, 1).unwrap();
    assert_eq!(newer.time, 1, "it sees what the older one has written");
    let told = (0..1_000).find_map(|_| {
        let told = older.write(vec![message("zombie")]).and_then(|()| older.wait(0));
        told.err()
    });
    let told = told.unwrap();
    assert_eq!(told.kind(), Kind::Conflict, "{told}");
    newer.write(vec![message("newer")]).unwrap();
    newer.inner.close().unwrap();
    let reading = Pulsar::new(to_the_end("takes-over")).unwrap();
    let records = Reading::open(&reading, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
    assert_eq!(records.iter().map(|(_, record)| text(record)).collect::<Vec<_>>(), ["older", "newer"]);
}

#[test]
fn two_jobs_of_one_name_do_not_read_the_same_partition() {
    let url = broker().url(&fresh("shared"));
    let pulsar = pulsar(broker().settings("shared"));
    publish(&pulsar, &url, ["1".to_owned()]);
    let mut first = Reading::open(&pulsar, &url, Start::Earliest).unwrap();
    first.count(1).unwrap();
    let mut second = Reading::open(&pulsar, &url, Start::Earliest).unwrap();
    let error = second.until(|_, _| false).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(error.to_string().contains("another job named \"shared\""), "{error}");
}

#[test]
fn a_slow_reader_holds_no_more_than_its_room() {
    let url = broker().url(&fresh("slow"));
    let writing = pulsar(broker().settings("slow"));
    let mut writer = Writer::open(&writing, &url, 0, 1).unwrap();
    for n in 0..200 {
        writer.write((0..100).map(|_| message(format!("{n:0>1000}"))).collect()).unwrap();
        writer.wait(8).unwrap();
    }
    writer.inner.close().unwrap();
    let reading = pulsar(PulsarSettings { queue_bytes: 1 << 20, ..to_the_end("slow") });
    let mut topic = Reading::open(&reading, &url, Start::Earliest).unwrap();
    let first = topic.count(1).unwrap().len();
    // Nobody takes anything for as long as all of it would need to come.
    std::thread::sleep(Duration::from_secs(2));
    let mut queued = Vec::new();
    while topic.poll_one(0, &mut queued) {}
    let bytes: usize = queued.iter().map(|(_, record)| record.payload.len()).sum();
    assert!(bytes > 200_000 && bytes < 3 << 20, "{bytes} bytes waited");
    let rest = topic.read_to_the_end().unwrap();
    assert_eq!(first + queued.len() + rest.len(), 20_000);
}

#[test]
fn missing_topics_wrong_urls_and_dead_brokers_are_told_in_a_sentence() {
    let pulsar = pulsar(broker().settings("wrong"));
    let url = broker().url("there-is-none");
    let error = pulsar.source(&url).err().unwrap();
    assert_eq!(error.kind(), Kind::Missing);
    assert!(error.to_string().starts_with("there is no topic pulsar://"), "{error}");
    // Looking must not have made it.
    assert_eq!(pulsar.source(&url).err().unwrap().kind(), Kind::Missing);
    let error = pulsar.source("pulsar://127.0.0.1:1/public/default/x").err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("127.0.0.1:1 cannot be reached"), "{error}");
    let error = pulsar.source(&broker().url("x").replace("/public/", "/nobody/")).err().unwrap();
    assert_eq!(error.kind(), Kind::Missing, "{error}");
    // Something listens, but no broker.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 512]);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let error = pulsar.source(&format!("pulsar://127.0.0.1:{port}/public/default/x")).err().unwrap();
    assert!(error.to_string().contains("is no Pulsar broker"), "{error}");
    answer.join().unwrap();
}

#[test]
fn a_message_that_the_broker_does_not_take_is_an_error_with_its_key() {
    let url = broker().url(&fresh("oversize"));
    let pulsar = pulsar(PulsarSettings { compression: Compression::None, ..broker().settings("oversize") });
    let mut writer = Writer::open(&pulsar, &url, 0, 1).unwrap();
    let large = Message { key: Some(b"\"big\""[..].into()), value: Some(vec![b'1'; 6 << 20].into()) };
    let error = writer.write(vec![large]).and_then(|()| writer.wait(0)).unwrap_err();
    assert!(
        error.to_string().contains("(key \"big\")") && error.to_string().contains("maxMessageSize"),
        "{error}"
    );
}

#[test]
fn a_record_of_too_many_bytes_is_handed_on_as_unreadable() {
    let url = broker().url(&fresh("too-long"));
    let pulsar = pulsar(PulsarSettings { max_record_bytes: 2_000, ..to_the_end("too-long") });
    publish(&pulsar, &url, ["1".to_owned(), "2".repeat(3_000), "3".to_owned()]);
    let records = Reading::open(&pulsar, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
    assert_eq!(records.len(), 3);
    assert!(records[1].1.defect.as_deref().unwrap().contains("3000 bytes, more than 2000"));
    assert!(records[0].1.defect.is_none() && records[2].1.defect.is_none());
}

#[test]
fn a_topic_is_created_with_the_partitions_asked_for() {
    let url = broker().url(&fresh("created"));
    let pulsar = pulsar(broker().settings("created"));
    assert_eq!(pulsar.sink(&url, &settings(5)).unwrap().partitions(), 5);
    // What exists keeps its partitions.
    assert_eq!(pulsar.sink(&url, &settings(2)).unwrap().partitions(), 5);
    let hidden = Pulsar::new(PulsarSettings {
        admin_url: Some("http://127.0.0.1:1".into()),
        ..broker().settings("created")
    });
    let error = hidden.unwrap().sink(&broker().url(&fresh("created")), &settings(2)).err().unwrap();
    assert!(error.to_string().contains("--pulsar-admin"), "{error}");
}

/// Stands between clients and a broker, and swallows permits (FLOW) until a client has subscribed twice.
fn relay(broker_port: u16, subscribed: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // In a broker's answers, its address is replaced by this one's, which must be as long.
    assert_eq!(port.to_string().len(), broker_port.to_string().len());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let broker = TcpStream::connect(("127.0.0.1", broker_port)).unwrap();
            let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
            let (mut to_broker, mut from_broker) = (broker.try_clone().unwrap(), broker);
            let subscribed = subscribed.clone();
            std::thread::spawn(move || {
                let mut frame = vec![0; 4];
                while from_client.read_exact(&mut frame[..4]).is_ok() {
                    let size = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
                    frame.resize(4 + size, 0);
                    from_client.read_exact(&mut frame[4..]).unwrap();
                    // The command's first field is its type: 4 is SUBSCRIBE, 11 is FLOW.
                    let subscribed = match frame[9] {
                        4 => subscribed.fetch_add(1, Ordering::Relaxed) + 1,
                        _ => subscribed.load(Ordering::Relaxed),
                    };
                    if (frame[9] != 11 || subscribed > 1) && to_broker.write_all(&frame).is_err() {
                        break;
                    }
                }
                let _ = to_broker.shutdown(std::net::Shutdown::Both);
            });
            std::thread::spawn(move || {
                let (real, ours) = (format!("127.0.0.1:{broker_port}"), format!("127.0.0.1:{port}"));
                let mut buffer = [0; 64 << 10];
                while let Ok(count @ 1..) = from_broker.read(&mut buffer) {
                    let bytes = &mut buffer[..count];
                    if let Some(at) = bytes.windows(real.len()).position(|window| window == real.as_bytes()) {
                        bytes[at..at + real.len()].copy_from_slice(ours.as_bytes());
                    }
                    if to_client.write_all(bytes).is_err() {
                        break;
                    }
                }
                let _ = to_client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn a_partition_that_is_silent_although_there_is_more_is_subscribed_again() {
    let name = fresh("silent");
    let direct = Pulsar::new(broker().settings("silent")).unwrap();
    publish(&direct, &broker().url(&name), (0..100).map(|n| n.to_string()));
    let subscribed = Arc::new(AtomicUsize::new(0));
    let broker_port = broker().sandbox().ports().broker;
    let port = relay(broker_port, subscribed.clone());
    let url = broker().url(&name).replace(&broker_port.to_string(), &port.to_string());
    let settings = PulsarSettings { silence: Duration::from_millis(500), ..broker().settings("silent") };
    let pulsar = Pulsar::new(settings).unwrap();
    let records = Reading::open(&pulsar, &url, Start::Earliest).unwrap().count(100).unwrap();
    assert_eq!(records.len(), 100);
    assert_eq!(subscribed.load(Ordering::Relaxed), 2);
}
