//! Commands over WARP to agents in a topic of files, and what comes of them to 1,000 links, against a publisher that
//! writes the same commands without a server.

use std::collections::HashMap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Args, Parser};
use nekton::prelude::*;
use nekton::{Publisher, Stop};

use crate::report::{Report, median};

/// What is measured.
#[derive(Args)]
pub struct Options {
    /// How many commands.
    #[arg(long, default_value_t = 1_000_000)]
    commands: u64,
    /// How many agents, each with a link.
    #[arg(long, default_value_t = 1_000)]
    links: u64,
    /// How often each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    runner: Runner,
}

/// How many commands it has got.
#[derive(Default, Serialize, Deserialize)]
struct Counter(u64);

impl Agent for Counter {
    type Key = u64;
    type Event = u64;
    type View = u64;
    type Emit = ();
    fn create(_key: &u64) -> Self {
        Counter(0)
    }
    fn on_event(&mut self, _key: &u64, _context: &mut Context<'_, Self>) {
        self.0 += 1;
    }
    fn view(&self) -> Option<u64> {
        Some(self.0)
    }
}

/// A job that counts commands, and shows itself.
struct Job {
    address: SocketAddr,
    folder: tempfile::TempDir,
    stop: Stop,
    thread: std::thread::JoinHandle<()>,
}

fn runner(folder: &Path, address: SocketAddr) -> Runner {
    let topics = format!("file:{}", folder.join("topics").display());
    let listen = address.to_string();
    Flags::parse_from(["warp", "--topics", &topics, "--checkpoints", "none", "--listen", &listen]).runner
}

impl Job {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let runner = runner(folder.path(), address);
        let stop = runner.stop_handle();
        let run = move || {
            let done = runner.run("warp", |flow| {
                let commands = flow.commands::<u64, u64>("commands");
                let agents = commands.map(|command| command.key).agents::<Counter>("agents", |key| *key);
                flow.view("agents", &agents);
            });
            done.expect("the job runs");
        };
        Job { address, folder, stop, thread: std::thread::spawn(run) }
    }

    fn end(self) {
        self.stop.request();
        self.thread.join().expect("the job ends");
    }
}

/// The least that can be called a client.
struct Client {
    out: BufWriter<TcpStream>,
    from: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let deadline = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "the job does not listen: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.set_nodelay(true).expect("a socket");
        let mut out = BufWriter::with_capacity(64 << 10, stream.try_clone().expect("a socket"));
        write!(
            out,
            "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .and_then(|()| out.flush())
        .expect("the job takes a request");
        let mut from = BufReader::with_capacity(64 << 10, stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            from.read_exact(&mut byte).expect("the job answers");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Client { out, from }
    }
}

/// Writes a message, with a mask of zeros.
fn say(out: &mut impl Write, text: &str) {
    let length = match text.len() {
        short @ 0..126 => vec![0x80 | short as u8],
        long => [&[0x80 | 126][..], &(long as u16).to_be_bytes()[..]].concat(),
    };
    let written =
        out.write_all(&[0x81]).and_then(|()| out.write_all(&length)).and_then(|()| out.write_all(&[0; 4]));
    written.and_then(|()| out.write_all(text.as_bytes())).expect("the job takes it");
}

/// Reads a message into `text`; whether it is one.
fn hear(from: &mut impl Read, text: &mut Vec<u8>) -> bool {
    let mut head = [0; 2];
    from.read_exact(&mut head).expect("the job says something");
    let length: usize = match head[1] & 0x7f {
        126 => {
            let mut long = [0; 2];
            from.read_exact(&mut long).expect("a length");
            u16::from_be_bytes(long).into()
        }
        127 => {
            let mut long = [0; 8];
            from.read_exact(&mut long).expect("a length");
            u64::from_be_bytes(long) as usize
        }
        short => short.into(),
    };
    text.resize(length, 0);
    from.read_exact(text).expect("a message");
    assert_ne!(head[0] & 0xf, 8, "it is closed: {}", String::from_utf8_lossy(text));
    head[0] & 0xf == 1
}

/// Commands a second until the last has come to its agent and from there to its link, and updates a second meanwhile.
fn over_warp(options: &Options) -> (f64, f64) {
    let job = Job::start();
    let mut client = Client::connect(job.address);
    let node = |key: u64| format!("/agents/{key}");
    let mut text = Vec::new();
    for key in 0..options.links {
        say(&mut client.out, &format!("@link(node:\"{}\",lane:state)", node(key)));
    }
    client.out.flush().expect("the job takes it");
    let mut linked = 0;
    while linked < options.links {
        linked += u64::from(hear(&mut client.from, &mut text) && text.starts_with(b"@linked"));
    }
    let begun = Instant::now();
    let (links, commands) = (options.links, options.commands);
    let mut out = client.out;
    let sending = std::thread::spawn(move || {
        for number in 0..commands {
            say(&mut out, &format!("@command(node:\"/agents/{}\",lane:count){number}", number % links));
        }
        out.flush().expect("the job takes it");
        out
    });
    let last: u64 = options.commands;
    let (mut counts, mut sum, mut updates) = (HashMap::new(), 0, 0_u64);
    while sum < last {
        if !hear(&mut client.from, &mut text) {
            continue;
        }
        let said = std::str::from_utf8(&text).expect("text");
        let (address, count) = said.rsplit_once(')').expect("an event");
        let count: u64 = count.parse().expect("a number");
        sum = sum + count - counts.insert(address.to_owned(), count).unwrap_or(0);
        updates += 1;
    }
    let took = begun.elapsed().as_secs_f64();
    drop(sending.join().expect("all is sent"));
    job.end();
    (commands as f64 / took, updates as f64 / took)
}

/// Commands a second into the topic by a publisher, while the job reads them.
fn published(options: &Options) -> f64 {
    let job = Job::start();
    drop(Client::connect(job.address));
    let mut publisher =
        Publisher::open(&runner(job.folder.path(), job.address), "commands", 1).expect("the topic is free");
    let begun = Instant::now();
    for number in 0..options.commands {
        let key = (number % options.links).to_string();
        let command =
            nekton::Command { view: "agents".to_owned(), key: &key, lane: "count".to_owned(), body: number };
        publisher.publish(&key, &command).expect("the topic takes it");
    }
    publisher.close().expect("the topic takes it");
    let took = begun.elapsed().as_secs_f64();
    job.end();
    options.commands as f64 / took
}

/// Measures.
pub fn run(options: &Options) -> Report {
    let (mut commands, mut updates, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        bare.push(published(options) / 1e6);
        let (told, seen) = over_warp(options);
        commands.push(told / 1e6);
        updates.push(seen);
    }
    let (commands, bare) = (median(&mut commands), median(&mut bare));
    let mut report = Report::new("warp");
    report.figure("a publisher, without a server", bare, "M commands/s");
    report.figure("one client, to agents and back", commands, "M commands/s");
    report.figure("client / publisher", commands / bare, "");
    report.figure(format!("updates to {} links", options.links), median(&mut updates), "updates/s");
    report.at_least("commands, M/s", 1.0, commands);
    report
}
