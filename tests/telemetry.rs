//! The telemetry example as a user runs it: whatever its topics say of a pod was so, in this order, and pods and clusters
//! agree at every time.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::example::example;
use common::lines::{by_time, lines};
use serde_json::Value;

const POD: u64 = 20;
const CLUSTER: u64 = 50;

#[derive(Clone, Default)]
struct Vehicle {
    coolant: i64,
    filled: i64,
    engine: i64,
    trailer: bool,
}

/// What each pod was after each of its events: coolant, missing coolant, hot vehicles, trailers.
fn plain_pass(telemetry: &Path) -> BTreeMap<u64, Vec<[i64; 4]>> {
    let mut vehicles: BTreeMap<u64, Vehicle> = BTreeMap::new();
    let mut pods: BTreeMap<u64, Vec<[i64; 4]>> = BTreeMap::new();
    for event in lines(telemetry).into_iter().flatten() {
        let number = |name: &str| event[name].as_u64().unwrap();
        let vol = event["coolant_vol"].as_i64();
        let mut add = |vehicle, coolant, filled| {
            let vehicle: &mut Vehicle = vehicles.entry(vehicle).or_default();
            (vehicle.coolant, vehicle.filled) = (vehicle.coolant + coolant, vehicle.filled + filled);
        };
        let first = match event["event"].as_str().unwrap() {
            "filled" => {
                add(number("vehicle"), vol.unwrap(), vol.unwrap());
                number("vehicle")
            }
            "leaked" => {
                add(number("vehicle"), -vol.unwrap(), 0);
                number("vehicle")
            }
            "moved" => {
                add(number("from"), -vol.unwrap(), 0);
                add(number("to"), vol.unwrap(), 0);
                number("from")
            }
            "trailer" => {
                vehicles.entry(number("from")).or_default().trailer = false;
                vehicles.entry(number("to")).or_default().trailer = true;
                number("from")
            }
            "reading" => {
                vehicles.entry(number("vehicle")).or_default().engine =
                    event["engine_temp"].as_i64().unwrap();
                number("vehicle")
            }
            other => panic!("an event {other}"),
        };
        let pod = first / POD;
        let mut sum = [0; 4];
        for (_, of) in vehicles.range(pod * POD..(pod + 1) * POD) {
            let hot = of.engine + if of.trailer { 35 } else { 0 } > 110;
            let share = [of.coolant, of.filled - of.coolant, hot.into(), of.trailer.into()];
            sum.iter_mut().zip(share).for_each(|(sum, share)| *sum += share);
        }
        pods.entry(pod).or_default().push(sum);
    }
    pods
}

fn every_answer_was_so(workers: &str, vehicles: &str, events: &str, rate: &str, seed: &str) {
    let folder = tempfile::tempdir().unwrap();
    let flags =
        ["--vehicles", vehicles, "--events", events, "--rate", rate, "--seed", seed, "--workers", workers];
    let topics = format!("file:{}", folder.path().display());
    let output =
        example("telemetry").args(flags).args(["--topics", &topics, "--partitions", "2"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let truth = plain_pass(&folder.path().join("telemetry"));

    let (mut pods, mut alerts) =
        (by_time(&folder.path().join("pods")), by_time(&folder.path().join("alerts")));
    let mut clusters = by_time(&folder.path().join("clusters"));
    let times: Vec<u64> = pods.keys().chain(clusters.keys()).copied().collect();
    let (mut answers, mut at) = (0, BTreeMap::<u64, usize>::new());
    let (mut now, mut alarmed) = (BTreeMap::<u64, [i64; 4]>::new(), BTreeMap::<u64, [i64; 4]>::new());
    let mut of_clusters = BTreeMap::<u64, i64>::new();
    let figures = |value: &Value| {
        ["coolant_vol", "missing", "hot", "trailers"].map(|name| value[name].as_i64().unwrap())
    };
    for time in std::collections::BTreeSet::from_iter(times) {
        for (key, value) in pods.remove(&time).unwrap_or_default() {
            let (pod, is) = (key.as_u64().unwrap(), figures(&value));
            // After a later event than the last answer.
            let from = at.get(&pod).map_or(0, |at| at + 1);
            let found = truth[&pod][from..].iter().position(|was| *was == is);
            let found = found.unwrap_or_else(|| panic!("pod {pod} was never {is:?} after its event {from}"));
            at.insert(pod, from + found);
            now.insert(pod, is);
            answers += 1;
        }
        for (key, value) in alerts.remove(&time).unwrap_or_default() {
            let pod = key.as_u64().unwrap();
            if value.is_null() {
                alarmed.remove(&pod)
            } else {
                alarmed.insert(pod, figures(&value))
            };
        }
        for (key, value) in clusters.remove(&time).unwrap_or_default() {
            of_clusters.insert(key["cluster"].as_u64().unwrap(), value.as_i64().unwrap());
        }
        let mut expected = now.clone();
        expected.retain(|_, [_, missing, hot, trailers]| *missing > 0 || *hot > 1 || *trailers != 1);
        assert_eq!(alarmed, expected, "alerts are what the pods say, at {time}");
        let mut sums = BTreeMap::<u64, i64>::new();
        for (pod, [coolant, ..]) in &now {
            *sums.entry(pod / CLUSTER).or_default() += coolant;
        }
        assert_eq!(of_clusters, sums, "clusters are what their pods are, at {time}");
    }
    assert!(alerts.is_empty(), "alerts come with what they are about");
    for (pod, states) in &truth {
        assert_eq!(now[pod], *states.last().unwrap(), "pod {pod} in the end");
    }
    let with = said.lines().find(|line| line.starts_with("with nekton")).unwrap();
    let with: Vec<&str> = with.split_whitespace().collect();
    assert_eq!(with, ["with", "nekton", &answers.to_string(), "0", "0", "0"], "{said}");
}

#[test]
fn every_answer_was_so_on_any_number_of_workers() {
    every_answer_was_so("1", "2500", "6000", "0", "1");
    every_answer_was_so("2", "1100", "6000", "4000", "2");
    every_answer_was_so("3", "90", "6000", "6000", "3");
}
