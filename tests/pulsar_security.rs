//! Topics on a real Apache Pulsar with TLS and tokens.

mod common;

use std::sync::OnceLock;

use common::broker::{Broker, fresh};
use common::topics::{Reading, publish, settings, text};
use nekton::Kind;
use nekton::connect::Start;
use nekton_connectors::pulsar::{Pulsar, PulsarSettings};

fn secured() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| Broker::up(true))
}

fn to_the_end(job: &str) -> PulsarSettings {
    PulsarSettings { until_end: true, ..secured().settings(job) }
}

#[test]
fn a_job_with_a_token_reads_and_writes_through_tls() {
    let url = secured().url(&fresh("tls"));
    assert!(url.starts_with("pulsar+ssl://"));
    let pulsar = Pulsar::new(to_the_end("tls")).unwrap();
    assert_eq!(pulsar.sink(&url, &settings(2)).unwrap().partitions(), 2);
    publish(&pulsar, &url, (0..2_000).map(|n| n.to_string()));
    let records = Reading::open(&pulsar, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
    assert!(records.iter().enumerate().all(|(n, (_, record))| text(record) == n.to_string()));
    assert_eq!(records.len(), 2_000);
}

#[test]
fn who_shows_no_token_or_a_wrong_one_is_told_which_flag_to_check() {
    let url = secured().url(&fresh("denied"));
    for token in [None, Some("nonsense".to_owned())] {
        let pulsar = Pulsar::new(PulsarSettings { token, ..to_the_end("denied") }).unwrap();
        let error = pulsar.source(&url).err().unwrap();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert!(error.to_string().contains("--pulsar-token"), "{error}");
    }
}

#[test]
fn who_may_not_use_a_topic_is_told_so_for_reading_and_writing() {
    let url = secured().url(&fresh("ungranted"));
    publish(&Pulsar::new(to_the_end("granted")).unwrap(), &url, ["1".to_owned()]);
    let token = secured().sandbox().token_for("stranger");
    let stranger = Pulsar::new(PulsarSettings { token, ..to_the_end("ungranted") }).unwrap();
    let error = stranger.source(&url).err().unwrap();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    let error = stranger.sink(&url, &settings(1)).err().unwrap();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    // One who may only read.
    secured().admin("POST", "namespaces/public/default/permissions/reader", "[\"consume\"]");
    let token = secured().sandbox().token_for("reader");
    let reader = Pulsar::new(PulsarSettings { token, ..to_the_end("reader") }).unwrap();
    let records = Reading::open(&reader, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
    assert_eq!(records.len(), 1);
    let (waker, _) = common::topics::waker();
    let error = reader.sink(&url, &settings(1)).and_then(|sink| sink.open(0, waker)).err().unwrap();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
}

#[test]
fn a_certificate_of_an_unknown_authority_is_not_trusted() {
    let url = secured().url(&fresh("untrusted"));
    let pulsar = Pulsar::new(PulsarSettings { ca_file: None, ..to_the_end("untrusted") }).unwrap();
    let error = pulsar.source(&url).err().unwrap();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(error.to_string().contains("--pulsar-ca"), "{error}");
    let missing = PulsarSettings { ca_file: Some("no/such.pem".into()), ..to_the_end("untrusted") };
    let error = Pulsar::new(missing).unwrap().source(&url).err().unwrap();
    assert!(error.to_string().contains("no/such.pem"), "{error}");
}
