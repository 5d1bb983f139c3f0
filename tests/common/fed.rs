//! A namespace on a real broker, and an input topic in it that is written while a job reads it.

use std::time::{Duration, Instant};

use nekton::connect::Start;
use nekton_connectors::pulsar::{Pulsar, PulsarSettings};
use serde_json::Value;

use super::broker::{broker, fresh};
use super::sums::{Random, Reading, readings};
use super::topics::{Reading as Topic, Writer, message};

/// The policy of a namespace that deletes nothing.
pub const KEEPS_ALL: (&str, &str) = ("retention", "{\"retentionTimeInMinutes\":-1,\"retentionSizeInMB\":-1}");

/// Makes a namespace of these policies that no other test has: `tenant/namespace`, and its URL.
pub fn fresh_namespace(name: &str, policies: &[(&str, &str)]) -> (String, String) {
    let name = fresh(name);
    let namespace = format!("public/{name}");
    broker().admin("PUT", &format!("namespaces/{namespace}"), "");
    for (policy, value) in policies {
        broker().admin("POST", &format!("namespaces/{namespace}/{policy}"), value);
    }
    (namespace, broker().base().replace("/default", &format!("/{name}")))
}

pub struct Fed {
    /// `tenant/namespace`.
    pub namespace: String,
    /// The URL of it.
    pub topics: String,
    pub pulsar: Pulsar,
    writers: Vec<Writer>,
    pub written: [Vec<Reading>; 2],
}

impl Fed {
    /// A namespace of these policies, and its topic `readings` with a few readings.
    pub fn new(name: &str, policies: &[(&str, &str)], random: &mut Random) -> Self {
        let (namespace, topics) = fresh_namespace(name, policies);
        let pulsar =
            Pulsar::new(PulsarSettings { until_end: true, ..broker().settings("publisher") }).unwrap();
        let input = format!("{topics}/readings");
        let writers = (0..2).map(|p| Writer::open(&pulsar, &input, p, 2).unwrap()).collect();
        let mut fed = Fed { namespace, topics, pulsar, writers, written: [Vec::new(), Vec::new()] };
        fed.publish(random);
        fed
    }

    /// Publishes some readings to one of the partitions.
    pub fn publish(&mut self, random: &mut Random) {
        let partition = random.below(2);
        let readings = readings(partition, random);
        let lines = readings.iter().map(|reading| message(serde_json::to_string(reading).unwrap()));
        self.writers[partition as usize].write(lines.collect()).unwrap();
        self.written[partition as usize].extend(readings);
    }

    /// Publishes for so many milliseconds.
    pub fn publish_for(&mut self, milliseconds: u64, random: &mut Random) {
        let until = Instant::now() + Duration::from_millis(milliseconds);
        while Instant::now() < until {
            self.publish(random);
            std::thread::sleep(Duration::from_millis(random.below(8)));
        }
    }

    /// Waits until the broker has got all that was published.
    pub fn wait(&mut self) {
        for writer in &mut self.writers {
            writer.wait(0).unwrap();
        }
    }

    pub fn count(&self) -> usize {
        self.written.iter().map(Vec::len).sum()
    }

    /// All messages of a topic.
    pub fn messages(&self, topic: &str) -> Vec<Value> {
        let url = format!("{}/{topic}", self.topics);
        let records = Topic::open(&self.pulsar, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
        records.iter().map(|(_, record)| serde_json::from_slice(&record.payload).unwrap()).collect()
    }

    /// Asks the administration about a topic.
    pub fn about(&self, topic: &str, what: &str) -> Value {
        let answer = broker().admin("GET", &format!("persistent/{}/{topic}/{what}", self.namespace), "");
        serde_json::from_str(&answer).unwrap()
    }

    /// The same; `None` if there is no such topic.
    pub fn try_about(&self, topic: &str, what: &str) -> Option<Value> {
        let path = format!("/admin/v2/persistent/{}/{topic}/{what}", self.namespace);
        let (status, answer) = broker().sandbox().admin("GET", &path, "").unwrap();
        (status == 200).then(|| serde_json::from_str(&answer).unwrap())
    }

    /// Closes a topic, and with it the file that it is stored in.
    pub fn unload(&self, topic: &str) {
        broker().admin("PUT", &format!("persistent/{}/{topic}/unload", self.namespace), "");
    }

    /// Has the broker delete now what it would delete at some time.
    pub fn trim(&self, topic: &str) {
        broker().admin("POST", &format!("persistent/{}/{topic}/trim", self.namespace), "");
    }
}
