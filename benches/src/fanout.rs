//! One view to many clients: what a job loses by them, and what one of them costs. The job counts the red lamps of W1 by
//! hundreds of parents, as fast as it can; the clients are WebSockets of another process, each of which gets every change of all
//! rows, twenty times a second. With and without them in turn, in the same job.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use nekton::connect::{Polled, Position};
use nekton::differential_dataflow::operators::CountTotal;
use nekton::{Block, Feed, JobConfig, Order, Reading, Result, engine::run as run_job};
use nekton_ui::{About, Listen, Screens};

use crate::again::Sample;
use crate::nowhere::Nowhere;
use crate::process::cpu_of;
use crate::report::{Report, median};
use crate::w1::{Lamp, samples};

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Clients.
    #[arg(long, default_value_t = 1_000)]
    clients: usize,
    /// Records of the view, each of which changes all the time.
    #[arg(long, default_value_t = 100)]
    records: u64,
    /// Seconds with clients and without, in each round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; the median of their ratios counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Be the clients of this address: a process of its own.
    #[arg(long, hide = true)]
    at: Option<SocketAddr>,
}

const AGENTS: u64 = 100_000;

/// The same samples again and again, until it is told to end.
struct Endless {
    samples: Arc<Vec<Sample>>,
    ended: Arc<AtomicBool>,
    at: usize,
}

impl Feed<Sample> for Endless {
    fn poll(&mut self, budget: usize, into: &mut Reading<Sample>) -> Result<Polled> {
        if self.ended.load(Ordering::Relaxed) {
            return Ok(Polled::End);
        }
        let mut left = (budget / size_of::<Sample>()).max(1);
        while left > 0 {
            let begin = self.at % self.samples.len();
            let size = left.min(10_000).min(self.samples.len() - begin);
            let position = Position { entry: self.at as u64, ..Position::default() };
            let order = Order { source: 0, partition: 0, position };
            into.blocks.push(Block { order, events: self.samples[begin..begin + size].to_vec() });
            (self.at, left) = (self.at + size, left - size);
        }
        Ok(Polled::More)
    }
}

/// Runs the measurement; nothing where this process is the clients.
pub fn run(options: &Options) -> Option<Report> {
    if let Some(at) = options.at {
        clients(at, options.clients);
        return None;
    }
    let (samples, ended) = (Arc::new(samples(2_000_000, AGENTS)), Arc::new(AtomicBool::new(false)));
    let per_record = AGENTS / options.records.clamp(1, AGENTS);
    let config = JobConfig { until_end: true, ..JobConfig::new("fanout") };
    let live = config.live.clone();
    let screens =
        Screens::open(Listen::At(([127, 0, 0, 1], 0).into()), None, About::job("fanout"), live.clone());
    let screens = screens.expect("the server starts").expect("it listens");
    let end = ended.clone();
    let job = std::thread::spawn(move || {
        run_job(config, Arc::new(Nowhere), move |flow| {
            let (samples, ended) = (samples.clone(), ended.clone());
            let events = flow.feed("samples", |_, _, _| Endless { samples, ended, at: 0 });
            let lamps = events.agents::<Lamp>("lamps", |&(agent, _)| agent);
            flow.view("reds", &lamps.map(move |(agent, ())| agent / per_record).count_total());
        })
    });
    let window = Duration::from_secs(options.seconds);
    // Its tables are built in this time.
    std::thread::sleep(window);
    let rate = || {
        let (begun, before) = (Instant::now(), live.figures().events);
        std::thread::sleep(window);
        (live.figures().events - before) as f64 / begun.elapsed().as_secs_f64() / 1e6
    };
    let (mut alone, mut shown, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut spent, mut got, mut taken) = (Duration::ZERO, (0, 0), Duration::ZERO);
    for _ in 0..options.rounds {
        let without = rate();
        let clients = Clients::start(screens.address(), options.clients);
        let (before, begun) = (cpu_of("screens"), Instant::now());
        let with = rate();
        spent += cpu_of("screens").saturating_sub(before);
        taken += begun.elapsed();
        let (bytes, frames) = clients.end();
        got = (got.0 + bytes, got.1 + frames);
        alone.push(without);
        shown.push(with);
        ratios.push(with / without);
    }
    end.store(true, Ordering::Relaxed);
    job.join().expect("the job does not panic").expect("the job runs");
    let mut report = Report::new("fanout");
    let each = options.clients as f64 * taken.as_secs_f64();
    report.figure("no client", median(&mut alone), "M events/s");
    report.figure(format!("{} clients", options.clients), median(&mut shown), "M events/s");
    report.figure("frames a client and second", got.1 as f64 / each, "");
    report.figure("bytes a client and second", got.0 as f64 / each, "");
    report.figure("processor time a client and second", spent.as_secs_f64() * 1e6 / each, "us");
    report.at_least("with clients / without", 0.95, median(&mut ratios));
    Some(report)
}

/// The process of the clients.
struct Clients {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Clients {
    /// Waits until each has its snapshot.
    fn start(at: SocketAddr, count: usize) -> Self {
        // They give way: clients are elsewhere, mostly.
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe().expect("this program has a path"));
        command.args(["fanout", "--clients", &count.to_string(), "--at", &at.to_string()]);
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the clients start");
        let (input, output) = (process.stdin.take(), process.stdout.take().expect("it is piped"));
        let mut clients = Clients { process, input, output: BufReader::new(output) };
        assert_eq!(clients.line(), "ready", "the clients have connected");
        clients
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the clients tell");
        line.trim_end().to_owned()
    }

    /// Bytes and frames that they have got since they were ready.
    fn end(mut self) -> (u64, u64) {
        drop(self.input.take());
        let told = self.line();
        let mut numbers = told.split(' ').map(|number| number.parse().expect("they tell numbers"));
        let got = (numbers.next().expect("bytes"), numbers.next().expect("frames"));
        self.process.wait().expect("the clients end");
        got
    }
}

fn clients(at: SocketAddr, count: usize) {
    let (bytes, frames) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let ready = Arc::new(Barrier::new(count + 1));
    for _ in 0..count {
        let (bytes, frames, ready) = (bytes.clone(), frames.clone(), ready.clone());
        let client = move || {
            let mut stream = connect(at);
            frame(&mut stream).expect("a snapshot");
            ready.wait();
            while let Some(length) = frame(&mut stream) {
                bytes.fetch_add(length, Ordering::Relaxed);
                frames.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().stack_size(128 << 10).spawn(client).expect("a thread");
    }
    ready.wait();
    [&bytes, &frames].into_iter().for_each(|count| count.store(0, Ordering::Relaxed));
    println!("ready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    println!("{} {}", bytes.load(Ordering::Relaxed), frames.load(Ordering::Relaxed));
}

/// A WebSocket that watches the view.
fn connect(at: SocketAddr) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(at).expect("the server listens");
    let request = format!(
        "GET /api/live HTTP/1.1\r\nHost: {at}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut stream = BufReader::with_capacity(16 << 10, stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).expect("the server answers") > 0, "it upgrades");
    }
    let watch = br#"{"watch":1,"views":[{"view":"reds"}]}"#;
    let mut message = vec![0x81, 0x80 | watch.len() as u8, 0, 0, 0, 0];
    message.extend_from_slice(watch);
    stream.get_mut().write_all(&message).expect("the server reads");
    stream
}

/// The length of the next frame, which is read.
fn frame(stream: &mut BufReader<TcpStream>) -> Option<u64> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut long = [0; 8];
    let length = match head[1] & 0x7f {
        126 => {
            stream.read_exact(&mut long[6..]).ok()?;
            u64::from_be_bytes(long)
        }
        127 => {
            stream.read_exact(&mut long).ok()?;
            u64::from_be_bytes(long)
        }
        short => short.into(),
    };
    let read = std::io::copy(&mut stream.take(length), &mut std::io::sink()).ok()?;
    (read == length).then_some(length)
}
