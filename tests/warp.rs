//! SwimOS's own clients see a job's views as lanes, and tell its agents something: the programs of `docs/warp.md`, as they
//! stand there. And who speaks the protocol badly.

mod common;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use common::job::{Job, PATIENCE};
use nekton::prelude::*;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

const FLEET: u64 = 10_000;

#[derive(Clone, Serialize, Deserialize)]
enum Heard {
    Temperature(i64),
    Note(String),
}

#[derive(Clone, Serialize, Deserialize)]
struct Reading {
    vehicle: u64,
    engine_temp: i64,
}

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
struct Vehicle {
    engine_temp: i64,
    note: String,
}

impl Agent for Vehicle {
    type Key = u64;
    type Event = (u64, Heard);
    type View = Vehicle;
    type Emit = ();
    fn create(_vehicle: &u64) -> Self {
        Vehicle::default()
    }
    fn on_event(&mut self, (_, heard): &(u64, Heard), _context: &mut Context<'_, Self>) {
        match heard {
            Heard::Temperature(celsius) => self.engine_temp = *celsius,
            Heard::Note(note) => self.note.clone_from(note),
        }
    }
    fn view(&self) -> Option<Vehicle> {
        // One that is scrapped is there no more.
        (self.note != "scrap").then(|| self.clone())
    }
}

/// The job, in a process of its own.
#[test]
#[ignore = "started by the others"]
fn program() {
    common::program::run("fleet", |flow| {
        let readings = flow.events::<Reading>("telemetry");
        let readings = readings.map(|reading| (reading.vehicle, Heard::Temperature(reading.engine_temp)));
        let commands = flow.commands::<u64, String>("commands");
        let notes = commands.filter(|command| command.lane == "note");
        let notes = notes.map(|command| (command.key, Heard::Note(command.body)));
        let vehicles = readings.concat(&notes).agents::<Vehicle>("vehicles", |(vehicle, _)| *vehicle);
        flow.view("vehicles", &vehicles);
        flow.view("by-temperature", &vehicles.map(|(_, vehicle)| vehicle.engine_temp).count());
    });
}

/// A job that shows itself.
struct Fleet {
    /// Ends with this.
    job: Job,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Fleet {
    fn start(vehicles: u64, token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("topics/telemetry")).unwrap();
        std::fs::write(folder.path().join("topics/telemetry/0.jsonl"), "").unwrap();
        let (job, address) = run(folder.path(), "127.0.0.1:0", token);
        let fleet = Fleet { job, address, folder };
        fleet.publish((0..vehicles).map(|vehicle| (vehicle, 50 + vehicle as i64 % 60)));
        fleet
    }

    fn again(mut self) -> Self {
        self.job.still_runs();
        self.job = Job(Vec::new());
        // Where clients know it to be.
        self.job = run(self.folder.path(), &self.address.to_string(), None).0;
        self
    }

    fn publish(&self, readings: impl IntoIterator<Item = (u64, i64)>) {
        let line = |(vehicle, celsius)| format!("{{\"vehicle\":{vehicle},\"engine_temp\":{celsius}}}\n");
        let lines: String = readings.into_iter().map(line).collect();
        let path = self.folder.path().join("topics/telemetry/0.jsonl");
        OpenOptions::new().append(true).open(path).unwrap().write_all(lines.as_bytes()).unwrap();
    }

    /// The topic of commands.
    fn told(&self) -> Vec<String> {
        let lines = std::fs::read_to_string(self.folder.path().join("topics/commands/0.jsonl")).unwrap();
        lines.lines().map(str::to_owned).collect()
    }

    fn client(&self) -> Raw {
        self.client_on(TcpStream::connect(self.address).unwrap(), "")
    }

    fn client_on(&self, stream: TcpStream, query: &str) -> Raw {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw(tungstenite::client(format!("ws://{}/{query}", self.address), stream).unwrap().0)
    }
}

fn run(folder: &Path, address: &str, token: Option<&str>) -> (Job, SocketAddr) {
    let flags = format!(
        "--topics file:{} --checkpoint-every 100ms --workers 2 --listen {address} --log error",
        folder.join("topics").display()
    );
    let mut command = common::program::command(&flags);
    command.env_remove("NEKTON_LISTEN").stderr(Stdio::piped());
    if let Some(token) = token {
        command.env("NEKTON_LISTEN_TOKEN", token);
    }
    let mut job = Job::of(&mut command);
    let mut said = BufReader::new(job.0[0].stderr.take().unwrap());
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it says where it shows itself");
        if let Some((_, url)) = line.split_once("shows itself at http://") {
            break url.split('/').next().unwrap().parse().unwrap();
        }
    };
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::stderr()));
    (job, address)
}

/// A client, down to the protocol.
struct Raw(WebSocket<TcpStream>);

impl Raw {
    fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    fn hear(&mut self) -> String {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return text.to_string(),
                Message::Close(close) => panic!("it is closed: {close:?}"),
                _ => {}
            }
        }
    }

    fn hears(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.hear(), *expected);
        }
    }

    /// What it hears before it is closed, and why it is.
    fn closed(&mut self) -> (Vec<String>, String) {
        let mut heard = Vec::new();
        loop {
            match self.0.read().expect("a close frame comes") {
                Message::Text(text) => heard.push(text.to_string()),
                Message::Close(Some(CloseFrame { reason, .. })) => return (heard, reason.to_string()),
                Message::Close(None) => return (heard, String::new()),
                _ => {}
            }
        }
    }
}

/// A program of `docs/warp.md` that runs.
struct Client {
    /// Ends with this.
    _process: Job,
    input: ChildStdin,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Client {
    fn start(mut command: Command, block: &str, file: &Path, host: &str) -> Self {
        let page = include_str!("../docs/warp.md");
        let program = page.split(&format!("```{block}\n")).nth(1).and_then(|rest| rest.split("```").next());
        std::fs::write(file, program.expect("the page has the program")).unwrap();
        let command = command.arg(file).arg(host).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process: Child = command.spawn().unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let (heard, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.map(|line| heard.send(line)).take_while(Result::is_ok).for_each(drop);
        });
        Client { _process: Job(vec![process]), input, lines, said: Vec::new() }
    }

    /// Waits for a line. Others may have come before, or come before it.
    fn says(&mut self, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said.iter().any(|line| line == expected) {
            let said = &self.said;
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("{expected:?} is not said: {said:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ends before it says {expected:?}: {said:?}")
                }
            }
        }
    }

    fn note(&mut self, note: &str) {
        writeln!(self.input, "{note}").unwrap();
    }
}

/// A client that shows this vehicle's temperature and all notes, and writes notes for it, through a crash of the job.
fn sees_and_tells(vehicle: u64, vehicles: u64, start: impl FnOnce(SocketAddr, &Path) -> Client) {
    let fleet = Fleet::start(vehicles, None);
    // Everything is there, so that what is heard first is everything.
    let mut raw = fleet.client();
    raw.say(r#"@sync(node:"swim:meta:mesh",lane:nodes)"#);
    let all = format!(r#"@update(key:"/vehicles"){{nodeUri:"/vehicles",childCount:{vehicles}}}"#);
    while !raw.hear().ends_with(&all) {}
    let programs = tempfile::tempdir().unwrap();
    let mut client = start(fleet.address, programs.path());
    client.says(&format!("engine_temp {}", 50 + vehicle));
    client.says(&format!("vehicles {vehicles}"));
    fleet.publish([(vehicle, 112)]);
    client.says("engine_temp 112");
    client.note("stop at caf\u{e9} 1, then go");
    client.says(&format!("{vehicle} stop at caf\u{e9} 1, then go"));
    let told =
        format!(r#"{{"body":"stop at café 1, then go","key":"{vehicle}","lane":"note","view":"vehicles"}}"#);
    assert_eq!(fleet.told(), [told]);

    // The job crashes, and the client comes back by itself.
    let fleet = fleet.again();
    fleet.publish([(vehicle, 90)]);
    client.says("engine_temp 90");
    // What was told before the crash has come about again.
    let mut raw = fleet.client();
    let state = |note: &str| {
        format!(r#"@event(node:"/vehicles/{vehicle}",lane:state){{engine_temp:90,note:{note}}}"#)
    };
    raw.say(&format!(r#"@sync(node:"/vehicles/{vehicle}",lane:state)"#));
    while raw.hear() != state("\"stop at café 1, then go\"") {}
    client.note("go");
    while raw.hear() != state("go") {}
    assert_eq!(fleet.told().len(), 2);
}

/// 0.5 ms of processor for each message that it reads: that is why there are fewer.
#[test]
fn swims_python_client_sees_agents_and_tells_them_something() {
    let python = std::env::var("NEKTON_TEST_PYTHON").expect(
        "NEKTON_TEST_PYTHON names no Python with swimos: run tools/test, or set it to one that has it",
    );
    sees_and_tells(7, FLEET / 10, |address, folder| {
        let host = format!("ws://{address}");
        Client::start(Command::new(python), "python", &folder.join("seven.py"), &host)
    });
}

#[test]
fn swims_javascript_client_sees_agents_and_tells_them_something() {
    let Some(swim) = std::env::var("NEKTON_TEST_SWIM").ok().filter(|folder| folder != "none") else {
        eprintln!("NEKTON_TEST_SWIM names no folder with node and @swim/client: SKIPPED");
        return;
    };
    let swim = PathBuf::from(swim);
    sees_and_tells(8, FLEET, |address, folder| {
        std::os::unix::fs::symlink(swim.join("node_modules"), folder.join("node_modules")).unwrap();
        let host = format!("warp://{address}");
        Client::start(Command::new(swim.join("node")), "javascript", &folder.join("eight.mjs"), &host)
    });
}

#[test]
fn lanes_are_linked_synced_and_unlinked() {
    let fleet = Fleet::start(3, None);
    let mut client = fleet.client();
    client.say(r#"@sync(node:"/vehicles/2",lane:state)"#);
    while client.hear() != r#"@event(node:"/vehicles/2",lane:state){engine_temp:52,note:""}"# {}
    let mut client = fleet.client();
    client.say(r#"@sync(node:"/vehicles",lane:records)"#);
    client.hears(&[
        r#"@linked(node:"/vehicles",lane:records)"#,
        r#"@event(node:"/vehicles",lane:records)@update(key:0){engine_temp:50,note:""}"#,
        r#"@event(node:"/vehicles",lane:records)@update(key:1){engine_temp:51,note:""}"#,
        r#"@event(node:"/vehicles",lane:records)@update(key:2){engine_temp:52,note:""}"#,
        r#"@synced(node:"/vehicles",lane:records)"#,
    ]);
    // A link alone hears only of what changes; of a key that is not there, there is nothing.
    client.say(r#"@link(node:"/vehicles/1",lane:engine_temp)"#);
    client.hears(&[r#"@linked(node:"/vehicles/1",lane:engine_temp)"#]);
    client.say(r#"@sync(node:"/vehicles/9",lane:state)"#);
    client.hears(&[
        r#"@linked(node:"/vehicles/9",lane:state)"#,
        r#"@event(node:"/vehicles/9",lane:state)"#,
        r#"@synced(node:"/vehicles/9",lane:state)"#,
    ]);
    // A derived view is a lane as well.
    client.say(r#"@sync(node:"/by-temperature",lane:records)"#);
    client.hears(&[
        r#"@linked(node:"/by-temperature",lane:records)"#,
        r#"@event(node:"/by-temperature",lane:records)@update(key:50)1"#,
        r#"@event(node:"/by-temperature",lane:records)@update(key:51)1"#,
        r#"@event(node:"/by-temperature",lane:records)@update(key:52)1"#,
        r#"@synced(node:"/by-temperature",lane:records)"#,
    ]);
    client.say(r#"@unlink(node:"/by-temperature",lane:records)"#);
    client.hears(&[r#"@unlinked(node:"/by-temperature",lane:records)"#]);
    client.say(r#"@command(node:"/vehicles/1",lane:note)hot"#);
    client.hears(&[r#"@event(node:"/vehicles",lane:records)@update(key:1){engine_temp:51,note:hot}"#]);
    fleet.publish([(1, 99)]);
    client.hears(&[
        r#"@event(node:"/vehicles",lane:records)@update(key:1){engine_temp:99,note:hot}"#,
        r#"@event(node:"/vehicles/1",lane:engine_temp)99"#,
    ]);
    // As a map downlink puts it.
    client.say(r#"@command(node:"/vehicles",lane:note)@update(key:0)scrap"#);
    client.hears(&[r#"@event(node:"/vehicles",lane:records)@remove(key:0)"#]);
    client.say(r#"@unlink(node:"/vehicles",lane:records)"#);
    client.hears(&[r#"@unlinked(node:"/vehicles",lane:records)"#]);
    fleet.publish([(1, 98), (2, 98)]);
    client.hears(&[r#"@event(node:"/vehicles/1",lane:engine_temp)98"#]);
    for (nowhere, why) in [
        (r#"(node:"/ships",lane:records)"#, "@nodeNotFound"),
        (r#"(node:"/vehicles",lane:state)"#, "@laneNotFound"),
        (r#"(node:"swim:meta:host",lane:traceLog)"#, "@laneNotFound"),
    ] {
        client.say(&format!("@sync{nowhere}"));
        client.hears(&[&format!("@unlinked{nowhere}{why}")]);
    }
    client.say(r#"@sync(node:"swim:meta:node/%2Fvehicles",lane:lanes)"#);
    client.hears(&[
        r#"@linked(node:"swim:meta:node/%2Fvehicles",lane:lanes)"#,
        r#"@event(node:"swim:meta:node/%2Fvehicles",lane:lanes)@update(key:records){laneUri:records,laneType:map}"#,
        r#"@synced(node:"swim:meta:node/%2Fvehicles",lane:lanes)"#,
    ]);
    // Commands to nobody are dropped, and nothing comes of that.
    client.say(r#"@command(node:"/ships/1",lane:note)x"#);
    client.say("@auth{token:none}");
    client.hears(&["@authed"]);
    assert!(!fleet.told().iter().any(|line| line.contains("ships")));
}

#[test]
fn a_slow_client_gets_what_there_is_and_no_backlog() {
    let fleet = Fleet::start(FLEET, None);
    let sync = r#"@sync(node:"/vehicles",lane:records)"#;
    let scrapped = r#"@event(node:"/vehicles",lane:records)@remove(key:3)"#;
    // With little room in its socket, as far away as can be.
    let stream = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    stream.set_recv_buffer_size(4_096).unwrap();
    stream.connect(&fleet.address.into()).unwrap();
    let mut slow = fleet.client_on(stream.into(), "");
    slow.say(sync);
    while !slow.hear().starts_with("@synced") {}
    let mut quick = fleet.client();
    quick.say(r#"@link(node:"/vehicles/0",lane:engine_temp)"#);
    quick.hear();
    let skipped = || {
        let mut stream = TcpStream::connect(fleet.address).unwrap();
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", fleet.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let line = answer.lines().find(|line| line.starts_with("nekton_screens_skipped_total")).unwrap();
        line.split(' ').next_back().unwrap().parse::<u64>().unwrap()
    };
    // It reads nothing; the quick one sees every round.
    let deadline = Instant::now() + PATIENCE;
    let mut rounds = 0;
    while skipped() == 0 {
        assert!(Instant::now() < deadline, "the slow client is not noticed");
        rounds += 1;
        fleet.publish((0..FLEET).map(|vehicle| (vehicle, 1_000 + rounds)));
        let seen = format!(r#"@event(node:"/vehicles/0",lane:engine_temp){}"#, 1_000 + rounds);
        while quick.hear() != seen {}
    }
    // Then some goes that it does not hear of at once.
    quick.say(r#"@command(node:"/vehicles/3",lane:note)scrap"#);
    let last = format!("{{engine_temp:{},note:\"\"}}", 1_000 + rounds);
    let (mut newest, mut heard, mut removed) = (0, 0_i64, false);
    while newest < FLEET - 1 || !removed {
        let said = slow.hear();
        heard += 1;
        removed |= said == scrapped;
        newest += u64::from(said.ends_with(&last) && !said.contains("(key:3)"));
    }
    assert!(heard <= (rounds + 3) * FLEET as i64, "{heard} messages after {rounds} rounds");
}

#[test]
fn who_speaks_badly_is_told_why_and_others_are_served() {
    let fleet = Fleet::start(1, None);
    let long = format!(r#"@command(node:"/vehicles/0",lane:note)"{}""#, "x".repeat(70_000));
    let deep = format!(r#"@command(node:"/vehicles/0",lane:note){}"#, "{".repeat(1_000));
    for (message, why) in [
        (Message::text("hello"), "no envelope"),
        (Message::text("@link(node:\"/vehicles"), "no Recon"),
        (Message::text(r#"@event(node:"/vehicles",lane:records)1"#), "for servers"),
        (Message::text(deep), "nested too deep"),
        (Message::text(long), "at most 65536 bytes"),
        (Message::binary(vec![0xff; 10]), "messages are text"),
    ] {
        let mut client = fleet.client();
        client.0.send(message).unwrap();
        let (heard, reason) = client.closed();
        assert!(heard.is_empty() && reason.contains(why), "{why}: {reason} {heard:?}");
    }
    // A subprotocol is warp0 or none, and pages are ours.
    let answered = |more: &str| {
        let mut stream = TcpStream::connect(fleet.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n{upgrade}{more}\r\n", fleet.address);
        stream.write_all(request.as_bytes()).unwrap();
        let head = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        head.collect::<Vec<_>>()
    };
    let accepted = answered("Sec-WebSocket-Protocol: warp1, warp0\r\n");
    assert!(
        accepted[0].contains(" 101 ") && accepted.iter().any(|line| line == "sec-websocket-protocol: warp0")
    );
    assert!(answered("Sec-WebSocket-Protocol: chat\r\n")[0].contains(" 400 "));
    assert!(answered("Origin: http://evil.example\r\n")[0].contains(" 403 "));
    // Half open, and wanting what it never takes.
    let mut idle = fleet.client();
    for key in 0..5_000 {
        idle.say(&format!(r#"@link(node:"/vehicles/{key}",lane:state)"#));
    }
    let mut client = fleet.client();
    client.say(r#"@sync(node:"/vehicles/0",lane:state)"#);
    while client.hear() != r#"@event(node:"/vehicles/0",lane:state){engine_temp:50,note:""}"# {}
    let mut refused = 0;
    for _ in 0..5_000 {
        refused += usize::from(idle.hear().ends_with("@tooManyLinks"));
    }
    assert_eq!(refused, 5_000 - 4_096);
}

#[test]
fn a_token_is_said_first() {
    let token = "a-token-for-this-test";
    let fleet = Fleet::start(1, Some(token));
    let sync = r#"@sync(node:"/vehicles/0",lane:state)"#;
    for (said, why) in [(sync, "a token is needed"), ("@auth{token:wrong}", "has not the token")] {
        let mut client = fleet.client();
        client.say(said);
        let (heard, reason) = client.closed();
        assert!(heard == ["@deauthed"] && reason.contains(why), "{reason} {heard:?}");
    }
    let mut client = fleet.client();
    client.say(&format!("@auth{{token:{token}}}"));
    client.hears(&["@authed"]);
    for mut client in
        [client, fleet.client_on(TcpStream::connect(fleet.address).unwrap(), &format!("?token={token}"))]
    {
        client.say(sync);
        client.hears(&[r#"@linked(node:"/vehicles/0",lane:state)"#]);
        client.say("@deauth");
        let (heard, _) = client.closed();
        assert_eq!(heard.last().map(String::as_str), Some("@deauthed"));
    }
    let stream = TcpStream::connect(fleet.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert!(tungstenite::client(format!("ws://{}/?token=wrong", fleet.address), stream).is_err());
}
