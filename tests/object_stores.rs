//! Checkpoints in a bucket, on a real S3 server: jobs go on from it, and of two that race exactly one wins.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::s3::S3;
use common::sums::{Random, append, check, command, lines};
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
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("readings");
    std::fs::create_dir_all(&input).unwrap();
    let mut written = [Vec::new(), Vec::new()];
    let mut publish = |random: &mut Random| {
        let partition = random.below(2);
        append(&input, partition, random, &mut written[partition as usize]);
    };
    publish(&mut random);
    let job = |workers: u64, more: &str| {
        let topics = folder.path().display();
        let every = "--checkpoint-every 100ms";
        let mut command = command(&format!(
            "--topics file:{topics} --checkpoints s3://bucket/jobs {every} --workers {workers} {more}"
        ));
        command.envs(s3.settings());
        command
    };
    for _ in 0..4 {
        let mut running = job(1 + random.below(3), "").spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(300 + random.below(900));
        while Instant::now() < until {
            publish(&mut random);
            std::thread::sleep(Duration::from_millis(random.below(8)));
        }
        assert!(running.try_wait().unwrap().is_none(), "it runs until it is killed");
        running.kill().unwrap();
        running.wait().unwrap();
    }
    assert!(job(2, "--until-end").status().unwrap().success());
    check(|topic| lines(&folder.path().join(topic).join("0.jsonl")), &written);
    let manifests = s3.store("s3://bucket/jobs").list("sums/manifests/").unwrap();
    assert!((1..=4).contains(&manifests.len()), "the last ones are kept: {manifests:?}");
}

#[test]
fn checkpoints_of_other_topics_are_not_gone_on_with_and_their_job_does_not_notice() {
    let Some(s3) = S3::up() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(0xFEED_BEEF_1234_5677);
    let mut job = |name: &str, stderr: Stdio| {
        let input = folder.path().join(name).join("readings");
        std::fs::create_dir_all(&input).unwrap();
        append(&input, 0, &mut random, &mut Vec::new());
        let topics = folder.path().join(name);
        let topics = topics.display();
        let flags = format!("--topics file:{topics} --checkpoints s3://bucket/same --checkpoint-every 50ms");
        let mut command: Command = command(&flags);
        command.envs(s3.settings()).stderr(stderr).spawn().unwrap()
    };
    let newest = || {
        let manifests = s3.store("s3://bucket/same").list("sums/manifests/").unwrap();
        manifests.iter().filter_map(|name| name.rsplit('/').next()?.parse().ok()).max().unwrap_or(0_u64)
    };
    let wait = |what: &str, enough: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !enough() {
            assert!(Instant::now() < deadline, "{what} did not come about");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut first = job("first", Stdio::inherit());
    wait("a checkpoint", &|| newest() >= 1);
    let refused = job("second", Stdio::piped()).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("nothing is known of it where its topics are"), "{said}");
    // Something more to checkpoint for the first one.
    let before = newest();
    append(&folder.path().join("first/readings"), 0, &mut Random(7), &mut Vec::new());
    wait("another checkpoint", &|| newest() > before);
    assert!(first.try_wait().unwrap().is_none(), "the first one goes on");
    first.kill().unwrap();
    first.wait().unwrap();
}
