//! Checkpoints in a bucket, on a real S3 server: jobs go on from it, and of two that race exactly one wins.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;

use common::files::Files;
use common::job::{Job, eventually};
use common::program::command;
use common::s3::S3;
use nekton::Kind;
use nekton_connectors::object::open_store;

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

#[test]
fn a_bucket_keeps_objects_whole_under_their_names() {
    let Some(s3) = S3::up() else { return };
    let store = s3.store("s3://bucket/some/where/");
    assert_eq!(store.describe(), "s3://bucket/some/where");
    let big: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    for (name, content) in [("job/parts/1", &b"one"[..]), ("job/parts/a ~ä%2", b"two"), ("job/big", &big)] {
        assert!(store.get(name).unwrap().is_none());
        store.put(name, content.to_vec().into()).unwrap();
        assert!(store.get(name).unwrap().unwrap() == content, "{name} comes back as it was");
    }
    store.put("job/parts/1", "another".into()).unwrap();
    assert_eq!(store.get("job/parts/1").unwrap().unwrap(), "another");
    let mut names = store.list("job/parts/").unwrap();
    names.sort();
    assert_eq!(names, ["job/parts/1", "job/parts/a ~ä%2"]);
    assert_eq!(s3.store("s3://bucket").list("some/where/job/b").unwrap(), ["some/where/job/big"]);
    for _ in 0..2 {
        store.delete("job/parts/1").unwrap();
    }
    assert!(store.get("job/parts/1").unwrap().is_none());
    assert_eq!(store.list("nothing/").unwrap(), [""; 0]);
}

#[test]
fn of_many_who_create_an_object_exactly_one_does() {
    let Some(s3) = S3::up() else { return };
    for round in 0..10 {
        let name = &format!("job/manifests/{round}");
        let stores: Vec<_> = (0..4).map(|_| s3.store("s3://bucket/races")).collect();
        let created: Vec<bool> = std::thread::scope(|scope| {
            let racing = stores.iter().enumerate().map(|(number, store)| {
                scope.spawn(move || store.create(name, format!("of {number}").into()).unwrap())
            });
            racing.collect::<Vec<_>>().into_iter().map(|race| race.join().unwrap()).collect()
        });
        assert_eq!(created.iter().filter(|created| **created).count(), 1, "{created:?}");
        let winner = created.iter().position(|created| *created).unwrap();
        assert_eq!(stores[0].get(name).unwrap().unwrap(), format!("of {winner}"));
    }
}

#[test]
fn what_is_wrong_with_a_bucket_is_said_in_words() {
    let Some(s3) = S3::up() else { return };
    let missing = s3.store("s3://nowhere/x").get("job/y").unwrap_err();
    assert_eq!(missing.kind(), Kind::Missing, "{missing}");
    assert!(
        missing.to_string().contains("s3://nowhere/x/job/y")
            && missing.to_string().contains("create the bucket")
    );
    let settings =
        s3.settings().map(|(name, value)| (name, if name.contains("SECRET") { "wrong" } else { value }));
    let denied = open_store("s3://bucket/x", settings).unwrap().put("job/y", "1".into()).unwrap_err();
    assert_eq!(denied.kind(), Kind::Denied, "{denied}");
    assert!(denied.to_string().contains("AWS_SECRET_ACCESS_KEY"), "{denied}");
}

/// A server that keeps one object, and answers a conditional creation with `status` as if there were no condition.
fn careless(status: &'static str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut object = Vec::new();
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let (mut size, mut header) = (0, String::new());
            while stream.read_line(&mut header).unwrap() > 2 {
                let lower = header.to_ascii_lowercase();
                size =
                    lower.strip_prefix("content-length:").map_or(size, |size| size.trim().parse().unwrap());
                header.clear();
            }
            let mut body = vec![0; size];
            stream.read_exact(&mut body).unwrap();
            let (status, answer) = match line.split(' ').next() {
                Some("PUT") => (status, Vec::new()),
                _ => ("200 OK", object.clone()),
            };
            if line.starts_with("PUT") {
                object = body;
            }
            let (dated, length) = ("Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT", answer.len());
            let head = format!(
                "HTTP/1.1 {status}\r\nETag: \"1\"\r\n{dated}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            stream.get_mut().write_all(head.as_bytes()).unwrap();
            if !line.starts_with("HEAD") {
                stream.get_mut().write_all(&answer).unwrap();
            }
        }
    });
    endpoint
}

#[test]
fn a_server_that_does_not_honour_conditions_is_refused() {
    for (status, why) in [("200 OK", "ignores the condition"), ("501 Not Implemented", "If-None-Match")] {
        let endpoint = careless(status);
        let settings =
            [("AWS_ENDPOINT", &endpoint[..]), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        let refused = open_store("s3://bucket/x", settings).unwrap().create("job/y", "1".into()).unwrap_err();
        assert_eq!(refused.kind(), Kind::Config, "{refused}");
        assert!(
            refused.to_string().contains(why) && refused.to_string().contains("s3://bucket/x"),
            "{refused}"
        );
    }
}

#[test]
fn a_job_with_its_checkpoints_in_a_bucket_is_killed_and_goes_on() {
    let Some(s3) = S3::up() else { return };
    let mut files = Files::new(0x1234_5678_9ABC_DEF1);
    let job = |files: &Files, workers: u64, more: &str| {
        let (topics, every) = (files.path("topics"), "--checkpoint-every 100ms");
        let mut command = command(&format!(
            "--topics file:{} --checkpoints s3://bucket/jobs {every} --workers {workers} {more}",
            topics.display()
        ));
        Job::of(command.envs(s3.settings()))
    };
    for _ in 0..4 {
        let workers = 1 + files.random.below(3);
        let running = job(&files, workers, "");
        let milliseconds = 300 + files.random.below(900);
        files.append_for(milliseconds);
        running.kill();
    }
    job(&files, 2, "--until-end").ends(&[0]);
    files.check();
    let manifests = s3.store("s3://bucket/jobs").list("sums/manifests/").unwrap();
    assert!((1..=4).contains(&manifests.len()), "the last ones are kept: {manifests:?}");
}

#[test]
fn checkpoints_of_other_topics_are_not_gone_on_with_and_their_job_does_not_notice() {
    let Some(s3) = S3::up() else { return };
    let job = |files: &Files| {
        let topics = files.path("topics");
        let topics = topics.display();
        let flags = format!("--topics file:{topics} --checkpoints s3://bucket/same --checkpoint-every 50ms");
        Job::of(command(&flags).envs(s3.settings()).stderr(Stdio::piped()))
    };
    let newest = || {
        let manifests = s3.store("s3://bucket/same").list("sums/manifests/").unwrap();
        manifests.iter().filter_map(|name| name.rsplit('/').next()?.parse().ok()).max().unwrap_or(0_u64)
    };
    let mut of_first = Files::new(0xFEED_BEEF_1234_5677);
    let first = job(&of_first);
    eventually("a checkpoint", || newest() >= 1);
    let said = job(&Files::new(0xBEEF_FEED_1234_5677)).ends(&[2]).concat();
    assert!(said.contains("nothing is known of it where its topics are"), "{said}");
    // Something more to checkpoint for the first one.
    let before = newest();
    of_first.append();
    eventually("another checkpoint", || newest() > before);
    // It has gone on.
    first.kill();
}
