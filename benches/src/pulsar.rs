//! The whole way on a real Apache Pulsar on this machine: a backlog through agents and back to topics, against
//! `pulsar-perf consume` of the same backlog, which does nothing with what it gets; and from the moment an
//! event is due to be published to the moment its change has been received from the output topic.
//!
//! The broker is on the same cores, as is everything else here: what it takes is missing to both sides.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nekton::connect::{
    Envelope, Message, PartitionReader, PartitionWriter, Sink, SinkSettings, Source, Start, Topics, Waker,
    WriteBatch,
};
use nekton::sandbox::{Life, Options as SandboxOptions, Sandbox};
use nekton::{Agent, Context, Flow, JobConfig, Result, changes, engine::run as run_job, upsert};
use nekton_connectors::pulsar::{Pulsar, PulsarSettings};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use crate::random::Random;
use crate::report::Report;

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Messages of 100 bytes in the backlog.
    #[arg(long, default_value_t = 5_000_000)]
    messages: u64,
    /// Agents that they are for.
    #[arg(long, default_value_t = 100_000)]
    agents: u64,
    /// Partitions of the topics.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Workers of the job.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Rounds, pulsar-perf and job in turn; the median of their ratios counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events a second for the latency.
    #[arg(long, value_delimiter = ',', default_value = "1000,50000")]
    rates: Vec<u64>,
    /// How long a rate is kept up, in seconds; the first two do not count.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
}

const MESSAGE_BYTES: usize = 100;
/// Groups whose counts are the output when latency is measured.
const GROUPS: u64 = 100;
/// What has become due in this time is published at once.
const HAND_OVER: Duration = Duration::from_millis(1);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// What comes before, in nanoseconds, is not measured: everything is still getting warm.
const WARM: u64 = 2_000_000_000;

/// Topics of a namespace on a broker.
struct OnPulsar {
    pulsar: Pulsar,
    base: String,
}

impl OnPulsar {
    fn new(base: &str, settings: PulsarSettings) -> Result<Self> {
        Ok(OnPulsar { pulsar: Pulsar::new(settings)?, base: base.to_owned() })
    }
}

impl Topics for OnPulsar {
    fn source(&self, name: &str) -> Result<Arc<dyn Source>> {
        self.pulsar.source(&format!("{}/{name}", self.base))
    }
    fn sink(&self, name: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        self.pulsar.sink(&format!("{}/{name}", self.base), settings)
    }
}

/// A waker, and what it wakes.
fn waker() -> (Waker, Receiver<()>) {
    let (sender, woken) = channel();
    let sender = Mutex::new(sender);
    let waker = move || {
        let _ = sender.lock().expect("nobody panicked").send(());
    };
    (Arc::new(waker), woken)
}

/// Writers of all partitions.
fn writers(
    topics: &OnPulsar,
    topic: &str,
    partitions: u32,
) -> Result<Vec<(Box<dyn PartitionWriter>, Receiver<()>)>> {
    let settings = SinkSettings { envelope: Envelope::Events, schema: None, partitions };
    let sink = topics.sink(topic, &settings)?;
    let open = |partition| {
        let (waker, woken) = waker();
        Ok((sink.open(partition, waker)?, woken))
    };
    (0..sink.partitions()).map(open).collect()
}

#[derive(Clone, Serialize, Deserialize)]
struct Reading {
    id: u64,
    value: u32,
}

/// The agent: a lamp that is red from 80, amber from 50.
#[derive(Default, Serialize, Deserialize)]
struct Lamp {
    value: u32,
}

impl Agent for Lamp {
    type Key = u64;
    type Event = Reading;
    type View = u8;
    type Emit = ();
    fn create(_key: &u64) -> Self {
        Lamp::default()
    }
    fn on_event(&mut self, reading: &Reading, _context: &mut Context<'_, Self>) {
        self.value = reading.value;
    }
    fn view(&self) -> Option<u8> {
        Some(u8::from(self.value >= 50) + u8::from(self.value >= 80))
    }
}

/// Each lamp's status, and how many are red in each thousand.
fn lamps(flow: &mut Flow<'_>) {
    let lamps = flow.events::<Reading>("backlog").agents::<Lamp>("lamps", |reading| reading.id);
    let reds = lamps.filter(|&(_, status)| status == 2).map(|(id, _)| id / 1_000).count();
    flow.sink("reds", changes(&reds));
    flow.sink("statuses", upsert(&lamps.views()));
}

/// Fills the backlog. Returns messages a second.
fn fill(base: &str, options: &Options) -> Result<f64> {
    let topics = OnPulsar::new(base, PulsarSettings::new("fill"))?;
    let mut writers = writers(&topics, "backlog", options.partitions)?;
    let mut random = Random(3);
    let begun = Instant::now();
    let mut times = 0;
    let mut written = 0;
    while written < options.messages {
        times += 1;
        for (writer, woken) in &mut writers {
            let count = (options.messages - written).min(2_000);
            written += count;
            let messages = (0..count).map(|_| {
                let start = format!(
                    "{{\"id\":{},\"value\":{},\"pad\":\"",
                    random.next() % options.agents,
                    random.next() % 100
                );
                let pad = MESSAGE_BYTES - start.len() - 2;
                Message { key: None, value: Some(format!("{start}{:x<pad$}\"}}", "").into()) }
            });
            writer.write(WriteBatch { time: times, first: 0, messages: messages.collect() })?;
            while writer.written()?.unwrap_or(0) + 8 < times {
                let _ = woken.recv_timeout(Duration::from_millis(100));
            }
        }
    }
    for (writer, _) in writers {
        writer.close()?;
    }
    Ok(written as f64 / begun.elapsed().as_secs_f64())
}

/// User and system time.
fn cpu(who: UsageWho) -> f64 {
    let usage = getrusage(who).expect("it is always known");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Messages a second of `pulsar-perf consume`, by its own account and so without the start of its Java, and its
/// processor time.
fn pulsar_perf(sandbox: &Sandbox, options: &Options, round: usize) -> (f64, f64) {
    let before = cpu(UsageWho::RUSAGE_CHILDREN);
    let output = Command::new(sandbox.pulsar().join("bin/pulsar-perf"))
        .args(["consume", "--service-url", &sandbox.url(), "--subscription-position", "Earliest"])
        .args(["--subscriptions", &format!("perf-{round}"), "--num-messages", &options.messages.to_string()])
        .arg("persistent://public/default/backlog")
        .env("PULSAR_MEM", "-Xms256m -Xmx1g -XX:MaxDirectMemorySize=1g")
        .current_dir(sandbox.folder())
        .stdin(Stdio::null())
        .output()
        .expect("pulsar-perf starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // "Aggregated throughput stats --- 5000000 records received --- 512345.678 msg/s --- 390.123 Mbit/s"
    let rate = said.lines().rev().find_map(|line| {
        let rest = line.split("records received ---").nth(1)?;
        rest.split("msg/s").next()?.trim().replace(',', "").parse::<f64>().ok()
    });
    let rate = rate.unwrap_or_else(|| panic!("pulsar-perf tells its throughput, but said:\n{said}"));
    (rate, cpu(UsageWho::RUSAGE_CHILDREN) - before)
}

/// Messages a second of the job, from its start to its end, and its processor time.
fn job(base: &str, options: &Options, round: usize) -> Result<(f64, f64)> {
    let name = format!("lamps-{round}");
    let topics = OnPulsar::new(base, PulsarSettings { until_end: true, ..PulsarSettings::new(&name) })?;
    let config = JobConfig { workers: options.workers, until_end: true, ..JobConfig::new(name) };
    let (begun, before) = (Instant::now(), cpu(UsageWho::RUSAGE_SELF));
    let summary = run_job(config, Arc::new(topics), lamps)?;
    assert_eq!(summary.events, options.messages, "the job has read the whole backlog");
    Ok((options.messages as f64 / begun.elapsed().as_secs_f64(), cpu(UsageWho::RUSAGE_SELF) - before))
}

#[derive(Clone, Serialize, Deserialize)]
struct Call {
    agent: u64,
}

/// How often an agent was called.
#[derive(Serialize, Deserialize)]
struct Called(u64);

impl Agent for Called {
    type Key = u64;
    type Event = Call;
    type View = u64;
    type Emit = ();
    fn create(_agent: &u64) -> Self {
        Called(0)
    }
    fn on_event(&mut self, _call: &Call, _context: &mut Context<'_, Self>) {
        self.0 += 1;
    }
    fn view(&self) -> Option<u64> {
        Some(self.0)
    }
}

#[derive(Deserialize)]
struct Change {
    key: u64,
    after: Option<usize>,
}

/// Latencies in nanoseconds, rising: from when an event is due to when the change that it caused was received. A
/// group's n-th event has arrived when the count of the group is at least n.
fn latencies(base: &str, rate: u64, options: &Options) -> Result<Vec<u64>> {
    let (input, output) = (format!("calls-{rate}"), format!("calls-by-group-{rate}"));
    let name = format!("latency-{rate}");
    let publishing = OnPulsar::new(base, PulsarSettings::new("publisher"))?;
    let (mut writer, _woken) = writers(&publishing, &input, 1)?.remove(0);
    let topics = OnPulsar::new(base, PulsarSettings::new(&name))?;
    let config = JobConfig { workers: options.workers, ..JobConfig::new(name) };
    let stop = config.stop.clone();
    let (from, to) = (input.clone(), output.clone());
    let job = spawn(move || {
        run_job(config, Arc::new(topics), move |flow| {
            let called = flow.events::<Call>(&from).agents::<Called>("called", |call| call.agent);
            let calls =
                called.views().explode(|(agent, calls)| Some((agent % GROUPS, calls as isize))).count();
            flow.sink(&to, changes(&calls));
        })
    });

    let receiving =
        OnPulsar::new(base, PulsarSettings { durable: false, ..PulsarSettings::new("receiver") })?;
    let deadline = Instant::now() + PATIENCE;
    let source = loop {
        match receiving.source(&output) {
            Ok(source) => break source,
            Err(error) => assert!(Instant::now() < deadline && !job.is_finished(), "{error}"),
        }
        sleep(Duration::from_millis(100));
    };
    let (waker, woken) = waker();
    let mut reader = source.open(0, Start::Earliest, waker)?;
    let count = rate * options.seconds;
    let begun = Instant::now();
    let received = spawn(move || receive(&mut *reader, &woken, begun, count));

    let agents = publish(&mut *writer, rate, begun, options)?;
    let received = received.join().expect("the receiver does not panic")?;
    stop.request();
    writer.close()?;
    job.join().expect("the job does not panic")?;

    let mut due_by_group: Vec<Vec<u64>> = vec![Vec::new(); GROUPS as usize];
    for (agent, n) in agents.into_iter().zip(0..) {
        due_by_group[(agent % GROUPS) as usize].push(due(n, rate));
    }
    let mut arrived = vec![0; GROUPS as usize];
    let mut latencies = Vec::new();
    for (at, group, after) in received {
        for &due in &due_by_group[group][arrived[group]..after] {
            assert!(due < at, "nothing arrives before it is due");
            if due >= WARM {
                latencies.push(at - due);
            }
        }
        arrived[group] = after;
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// When the `n`-th event is due, in nanoseconds.
fn due(n: u64, rate: u64) -> u64 {
    n * 1_000_000_000 / rate
}

/// Publishes events when they are due; their agents.
fn publish(
    writer: &mut dyn PartitionWriter,
    rate: u64,
    begun: Instant,
    options: &Options,
) -> Result<Vec<u64>> {
    let count = rate * options.seconds;
    let mut random = Random(11);
    let mut agents = Vec::new();
    let (mut next, mut time) = (0, 0);
    while next < count {
        let now = begun.elapsed().as_nanos() as u64;
        let mut messages = Vec::new();
        while next < count && due(next, rate) <= now {
            let agent = random.next() % options.agents;
            agents.push(agent);
            messages.push(Message { key: None, value: Some(format!("{{\"agent\":{agent}}}").into()) });
            next += 1;
        }
        if !messages.is_empty() {
            time += 1;
            writer.write(WriteBatch { time, first: 0, messages })?;
        }
        let until_due = Duration::from_nanos(due(next, rate)).saturating_sub(begun.elapsed());
        sleep(until_due.max(HAND_OVER));
    }
    Ok(agents)
}

/// The same events without a job, once through the broker: from when an event is due to when it was received. What
/// a job's output adds to twice this is the job's.
fn latencies_of_one_hop(base: &str, rate: u64, options: &Options) -> Result<Vec<u64>> {
    let topic = format!("calls-alone-{rate}");
    let publishing = OnPulsar::new(base, PulsarSettings::new("publisher"))?;
    let (mut writer, _woken) = writers(&publishing, &topic, 1)?.remove(0);
    let receiving =
        OnPulsar::new(base, PulsarSettings { durable: false, ..PulsarSettings::new("receiver") })?;
    let (waker, woken) = waker();
    let mut reader = receiving.source(&topic)?.open(0, Start::Earliest, waker)?;
    let count = rate * options.seconds;
    let begun = Instant::now();
    let received = spawn(move || {
        let (mut arrived, mut latencies) = (0, Vec::new());
        let mut records = Vec::new();
        while arrived < count {
            assert!(Instant::now() < begun + PATIENCE, "not all events are received");
            reader.poll(1 << 20, &mut records)?;
            let at = begun.elapsed().as_nanos() as u64;
            for _ in records.drain(..) {
                if due(arrived, rate) >= WARM {
                    latencies.push(at - due(arrived, rate));
                }
                arrived += 1;
            }
            let _ = woken.recv_timeout(Duration::from_millis(100));
            while woken.try_recv().is_ok() {}
        }
        latencies.sort_unstable();
        Ok(latencies)
    });
    publish(&mut *writer, rate, begun, options)?;
    writer.close()?;
    received.join().expect("the receiver does not panic")
}

/// Receives changes until all events are counted: when (nanoseconds since `begun`), group, count.
fn receive(
    reader: &mut dyn PartitionReader,
    woken: &Receiver<()>,
    begun: Instant,
    count: u64,
) -> Result<Vec<(u64, usize, usize)>> {
    let mut received = Vec::new();
    let mut counted = vec![0; GROUPS as usize];
    let mut records = Vec::new();
    let deadline = begun + PATIENCE;
    while counted.iter().sum::<usize>() < count as usize {
        assert!(Instant::now() < deadline, "not all events are counted");
        reader.poll(1 << 20, &mut records)?;
        let at = begun.elapsed().as_nanos() as u64;
        for record in records.drain(..) {
            let change: Change = serde_json::from_slice(&record.payload).expect("a change of a count");
            if let Some(after) = change.after {
                counted[change.key as usize] = after;
                received.push((at, change.key as usize, after));
            }
        }
        let _ = woken.recv_timeout(Duration::from_millis(100));
        while woken.try_recv().is_ok() {}
    }
    Ok(received)
}

fn quantile(rising: &[u64], quantile: f64) -> f64 {
    let last = rising.len().saturating_sub(1);
    rising.get(((rising.len() as f64 * quantile) as usize).min(last)).map_or(0.0, |&ns| ns as f64 / 1e6)
}

/// Runs the measurement.
///
/// # Errors
/// If no broker can be started, or it goes away.
pub fn run(options: &Options) -> Result<Report> {
    let folder = tempfile::tempdir().map_err(|error| nekton::Error::io("a folder for the broker", &error))?;
    let mut settings = SandboxOptions::new(Path::new(folder.path()));
    settings.life = Life::ThisProcess;
    eprintln!("starting Apache Pulsar {}", nekton::sandbox::PULSAR_VERSION);
    let sandbox = Sandbox::up(&settings, &mut |_| {})?;
    let base = sandbox.topics_url();
    let (status, answer) = sandbox.admin(
        "PUT",
        "/admin/v2/persistent/public/default/backlog/partitions",
        &options.partitions.to_string(),
    )?;
    assert!(status < 300, "{status} {answer}");
    let mut report = Report::new("pulsar");

    if options.rounds > 0 {
        // The backlog is kept for a subscription that nobody reads.
        keep(&sandbox, options.partitions)?;
        report.figure("backlog written", fill(&base, options)? / 1e6, "M messages/s");
        let (mut ratios, mut perf, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..options.rounds {
            let theirs = pulsar_perf(&sandbox, options, round);
            let us = job(&base, options, round)?;
            ratios.push(us.0 / theirs.0);
            perf.push(theirs);
            ours.push(us);
        }
        let of = |all: &[(f64, f64)], part: fn(&(f64, f64)) -> f64| median(all.iter().map(part).collect());
        report.figure("pulsar-perf consume", of(&perf, |p| p.0) / 1e6, "M messages/s");
        report.figure("pulsar-perf consume, processor time", of(&perf, |p| p.1), "s");
        report.figure("job: through agents, back to topics", of(&ours, |p| p.0) / 1e6, "M messages/s");
        report.figure("job, processor time", of(&ours, |p| p.1), "s");
        report.at_least("job / pulsar-perf", 2.0, median(ratios));
    }
    for &rate in &options.rates {
        let one_hop = latencies_of_one_hop(&base, rate, options)?;
        let latencies = latencies(&base, rate, options)?;
        for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let of = |latencies| quantile(latencies, q);
            report.figure(format!("{rate}/s, once through the broker, no job, {name}"), of(&one_hop), "ms");
            report.figure(format!("{rate}/s, published to received, {name}"), of(&latencies), "ms");
        }
        report.at_most(format!("{rate}/s, p99 in ms"), 10.0, quantile(&latencies, 0.99));
    }
    sandbox.down()?;
    Ok(report)
}

fn keep(sandbox: &Sandbox, partitions: u32) -> Result<()> {
    for partition in 0..partitions {
        let path =
            format!("/admin/v2/persistent/public/default/backlog-partition-{partition}/subscription/kept");
        let (status, answer) = sandbox.admin("PUT", &path, "")?;
        assert!(status < 300, "{status} {answer}");
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
