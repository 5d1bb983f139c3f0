//! The example payments as a user runs it, against a plain pass over what it read.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use common::example::example;
use common::job::{Job, ended, eventually};
use serde_json::{Value, json};

fn program() -> Command {
    let mut command = example("payments");
    command.env("PAYMENTS_SECRET", SECRET);
    command
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The example on topics in a folder.
fn on(folder: &Path, flags: &[&str]) -> Command {
    let topics = format!("file:{}", folder.join("topics").display());
    // However slow the machine is, nothing is taken to be silent; at the end, nobody waits.
    let mut command = program();
    command.args(flags).args(["--until-end", "--silence", "600", "--topics", &topics]);
    command
}

/// Runs the example to its end; returns what it printed.
fn run(folder: &Path, flags: &[&str]) -> String {
    let output = on(folder, flags).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains(SECRET), "{flags:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// All lines of a topic, by partition.
fn lines(folder: &Path, topic: &str) -> Vec<Vec<String>> {
    let mut partitions = Vec::new();
    while let Ok(text) =
        std::fs::read_to_string(folder.join("topics").join(topic).join(format!("{}.jsonl", partitions.len())))
    {
        partitions
            .push(text.lines().filter(|line| !line.contains("nekton.closed")).map(str::to_owned).collect());
    }
    assert!(!partitions.is_empty(), "there is a topic {topic}");
    partitions
}

fn values(folder: &Path, topic: &str) -> Vec<Value> {
    lines(folder, topic).iter().flatten().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Each account's rows, by the places of their changes: from when each holds, and what it is.
fn accounts(folder: &Path) -> BTreeMap<u64, BTreeMap<u64, (u64, Option<Value>)>> {
    let mut accounts: BTreeMap<u64, BTreeMap<u64, (u64, Option<Value>)>> = BTreeMap::new();
    for change in values(folder, "bank.public.accounts").iter().filter(|change| !change.is_null()) {
        let row = if change["after"].is_null() { &change["before"] } else { &change["after"] };
        let at = if change["op"] == "r" { 0 } else { change["source"]["ts_ms"].as_u64().unwrap() };
        let row = (row["id"].as_u64().unwrap(), (change["op"] != "d").then(|| row.clone()));
        accounts.entry(row.0).or_default().insert(change["source"]["lsn"].as_u64().unwrap(), (at, row.1));
    }
    accounts
}

/// What becomes of each record of `payments`, in a plain pass: outcome, route, number and amount.
fn plain_pass(folder: &Path) -> Vec<(String, String, Option<String>, u64)> {
    let accounts = accounts(folder);
    let mut seen = BTreeSet::new();
    let judge = |line: &String| {
        let refused = |outcome: &str, id, cents| (outcome.to_owned(), "refused".to_owned(), id, cents);
        let payment: Value = serde_json::from_str(line).unwrap();
        let (Some(cents), Some(at)) = (payment["cents"].as_u64(), payment["at"].as_u64()) else {
            return refused("unreadable", None, 0);
        };
        let id = payment["id"].as_str().unwrap().to_owned();
        if !seen.insert(id.clone()) {
            return refused("duplicate", Some(id), cents);
        }
        let rows = accounts.get(&payment["from"].as_u64().unwrap());
        let held = rows.and_then(|rows| rows.values().rev().find(|(from, _)| *from <= at));
        match held.and_then(|(_, row)| row.as_ref()) {
            Some(row) if row["blocked"] == false && cents <= row["limit_cents"].as_u64().unwrap() => {
                let route = match row["country"].as_str().unwrap() {
                    "DE" | "FR" => "eu",
                    "US" => "us",
                    _ => "elsewhere",
                };
                ("accepted".to_owned(), route.to_owned(), Some(id), cents)
            }
            _ => refused("rejected", Some(id), cents),
        }
    };
    lines(folder, "payments").iter().flatten().map(judge).collect()
}

/// Every record of `payments` has one entry in the audit, which is the one that a plain pass finds, and one in the topic of its route.
fn every_payment_is_accounted_for(folder: &Path) {
    let mut expected = plain_pass(folder);
    expected.sort();
    for outcome in ["accepted", "rejected", "duplicate", "unreadable"] {
        assert!(expected.iter().any(|(found, ..)| found == outcome), "there are some {outcome}");
    }
    let entry = |entry: Value, route: &str| {
        let payment = &entry["payment"];
        let id = payment["id"].as_str().map(str::to_owned);
        (
            entry["outcome"].as_str().unwrap().to_owned(),
            route.to_owned(),
            id,
            payment["cents"].as_u64().unwrap_or(0),
        )
    };
    let routed = ["refused", "eu", "us", "elsewhere"].iter().flat_map(|route| {
        values(folder, &format!("payments-{route}")).into_iter().map(move |value| entry(value, route))
    });
    let mut routed: Vec<_> = routed.collect();
    routed.sort();
    assert!(routed == expected, "{:?}", difference(&routed, &expected));

    let of_audit = |(outcome, _, id, cents)| (outcome, id, cents);
    let mut audit: Vec<_> =
        values(folder, "audit").into_iter().map(|value| of_audit(entry(value, ""))).collect();
    let mut expected: Vec<_> = expected.into_iter().map(of_audit).collect();
    audit.sort();
    expected.sort();
    assert!(audit == expected, "{:?}", difference(&audit, &expected));
}

/// The first that one of two sorted lists has and the other does not.
fn difference<T: Ord + Clone + std::fmt::Debug>(
    found: &[T],
    expected: &[T],
) -> Option<(Option<T>, Option<T>)> {
    let at = (0..found.len().max(expected.len())).find(|at| found.get(*at) != expected.get(*at))?;
    Some((found.get(at).cloned(), expected.get(at).cloned()))
}

/// At every time: what was received is somewhere, and what was accepted is booked, to the cent. Returns how many times there were.
fn the_books_agree_at_every_time(folder: &Path) -> usize {
    let mut times: BTreeMap<u64, Vec<(usize, Value)>> = BTreeMap::new();
    for (topic, name) in ["totals", "books"].into_iter().enumerate() {
        for change in values(folder, name) {
            times.entry(change["time"].as_u64().unwrap()).or_default().push((topic, change));
        }
    }
    let mut now = [BTreeMap::<String, Value>::new(), BTreeMap::new()];
    let count = times.len();
    for (time, changes) in times {
        for (topic, change) in changes {
            let key = change["key"].to_string();
            let before = now[topic].remove(&key).unwrap_or(Value::Null);
            assert_eq!(before, change["before"], "the chain is broken by {change}");
            if !change["after"].is_null() {
                now[topic].insert(key, change["after"].clone());
            }
        }
        let [totals, books] = &now;
        let total = |name: &str, field: &str| {
            totals.get(&json!(name).to_string()).map_or(0, |of| of[field].as_u64().unwrap())
        };
        for field in ["count", "cents"] {
            let somewhere = ["waiting", "accepted", "rejected", "duplicate", "late", "unreadable"];
            let somewhere: u64 = somewhere.iter().map(|name| total(name, field)).sum();
            assert_eq!(total("received", field), somewhere, "{field} at {time}: {totals:?}");
        }
        for field in ["paid", "got"] {
            let booked: u64 = books.values().map(|book| book[field].as_u64().unwrap()).sum();
            assert_eq!(total("accepted", "cents"), booked, "{field} at {time}");
        }
    }
    assert_eq!(now[0].get("\"waiting\""), None, "nothing waits in the end");
    count
}

/// The rings in the end are those that a search finds in the accepted large payments of every hour that begins every half hour.
fn rings_are_those_of_a_search(folder: &Path) {
    const HALF: u64 = 1_800_000;
    let mut links: BTreeMap<u64, BTreeSet<(u64, u64)>> = BTreeMap::new();
    for entry in values(folder, "audit").iter().filter(|entry| entry["outcome"] == "accepted") {
        let of = |field: &str| entry["payment"][field].as_u64().unwrap();
        if of("cents") >= 900_000 {
            let begin = of("at") / HALF * HALF;
            for begin in [begin, begin - HALF] {
                links.entry(begin).or_default().insert((of("from"), of("to")));
            }
        }
    }
    let mut expected = BTreeSet::new();
    for (begin, links) in links {
        let reached = |from: u64| {
            let mut reached = BTreeSet::from([from]);
            while let Some((_, to)) = links.iter().find(|(a, b)| reached.contains(a) && !reached.contains(b))
            {
                reached.insert(*to);
            }
            reached
        };
        for &(account, _) in &links {
            let ring: Vec<u64> =
                reached(account).into_iter().filter(|other| reached(*other).contains(&account)).collect();
            if ring.len() > 1 {
                expected.insert((begin, ring));
            }
        }
    }
    let mut now: BTreeMap<String, (u64, Vec<u64>)> = BTreeMap::new();
    for change in values(folder, "rings") {
        now.remove(&change["key"].to_string());
        if let Ok(ring) = serde_json::from_value(change["after"].clone()) {
            now.insert(change["key"].to_string(), (change["key"][0].as_u64().unwrap(), ring));
        }
    }
    let now: BTreeSet<(u64, Vec<u64>)> = now.into_values().collect();
    assert!(expected.len() > 2, "there are rings: {expected:?}");
    assert_eq!(now, expected);
}

/// No number of a card is in anything that the program wrote: topics, checkpoints, logs.
fn no_card_is_seen(folder: &Path) {
    let card = |line: &String| {
        let at = line
            .find("\"card\":\"4")
            .map(|at| at + 8)
            .or_else(|| line.find("pay with \\\"4").map(|at| at + 11))?;
        line.get(at..at + 16).map(|number| number.as_bytes().to_vec())
    };
    let cards: BTreeSet<Vec<u8>> = lines(folder, "payments").iter().flatten().filter_map(card).collect();
    assert!(cards.len() > 1_000, "{} cards", cards.len());
    let mut folders = vec![folder.to_owned()];
    let mut files = 0;
    while let Some(next) = folders.pop() {
        for file in std::fs::read_dir(next).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "payments") {
                folders.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                let seen = bytes.windows(16).find(|window| window[0] == b'4' && cards.contains(*window));
                assert!(seen.is_none(), "{} has the number of a card", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 10, "{files} files");
}

#[test]
fn every_payment_is_accounted_for_at_every_time_and_no_card_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let said =
        run(folder.path(), &["--payments", "6000", "--seed", "7", "--workers", "2", "--partitions", "2"]);
    every_payment_is_accounted_for(folder.path());
    rings_are_those_of_a_search(folder.path());
    no_card_is_seen(folder.path());
    let times = the_books_agree_at_every_time(folder.path());
    assert!(times > 3, "{times} times");
    let accepted =
        values(folder.path(), "audit").iter().filter(|entry| entry["outcome"] == "accepted").count();
    let line = said.lines().find(|line| line.starts_with("accepted")).unwrap();
    assert!(line.contains(&accepted.to_string()), "{said}");
}

#[test]
fn a_run_that_is_killed_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--payments", "6000", "--seed", "8", "--checkpoint-every", "20ms"];
    let mut job = Job::of(&mut on(folder.path(), &flags));
    let audit = folder.path().join("topics/audit/0.jsonl");
    eventually("an output", || {
        let written = std::fs::metadata(&audit).is_ok_and(|file| file.len() > 0);
        assert!(job.running() || ended(&mut job.0[0]).success(), "the first run failed");
        written || !job.running()
    });
    drop(job);
    run(folder.path(), &["--payments", "0", "--workers", "3"]);
    every_payment_is_accounted_for(folder.path());
    rings_are_those_of_a_search(folder.path());
    the_books_agree_at_every_time(folder.path());
}

#[test]
fn without_a_key_nothing_begins() {
    let folder = tempfile::tempdir().unwrap();
    let output = program().env_remove("PAYMENTS_SECRET").current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("PAYMENTS_SECRET_FILE"), "{said}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is written");
}
