//! What a job shows of itself: as of one time, to whoever may look, and at no cost to the job.

mod common;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::job::{Job, PATIENCE};
use nekton::changes;
use nekton::prelude::*;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Money goes from one account to another: two events, at one time.
#[derive(Clone, Serialize, Deserialize)]
struct Transfer {
    from: u64,
    to: u64,
    amount: i64,
    memo: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Account(i64, String);

impl Agent for Account {
    type Key = u64;
    type Event = (u64, i64, String);
    type View = (i64, String);
    type Emit = ();
    fn create(_account: &u64) -> Self {
        Account::default()
    }
    fn on_event(&mut self, (_, amount, memo): &Self::Event, _context: &mut Context<'_, Self>) {
        self.0 += amount;
        self.1.clone_from(memo);
    }
    fn view(&self) -> Option<(i64, String)> {
        Some((self.0, self.1.clone()))
    }
}

const BRANCHES: u64 = 5;

/// The job, in a process of its own.
#[test]
#[ignore = "started by the others"]
fn program() {
    common::program::run("bank", |flow| {
        let sides = flow
            .events::<Transfer>("transfers")
            .flat_map(|t| [(t.from, -t.amount, t.memo.clone()), (t.to, t.amount, t.memo)]);
        let accounts = sides.agents::<Account>("accounts", |(account, ..)| *account);
        let branches = accounts.views().explode(|(id, (balance, _))| Some((id % BRANCHES, balance as isize)));
        flow.sink("accounts", changes(&accounts.views()));
        flow.view("accounts", &accounts)
            .map(Map::plane("0", "key").colour("nothing"))
            .chart(Chart::histogram("0").unit("cents"))
            .chart(Chart::count());
        flow.view("branches", &branches.count());
    });
}

fn command(folder: &Path, flags: &str) -> Command {
    std::fs::create_dir_all(folder.join("topics/transfers")).unwrap();
    let topics = folder.join("topics");
    let flags = format!("--topics file:{} --checkpoints none --workers 2 {flags}", topics.display());
    let mut command = common::program::command(&flags);
    command.env_remove("NEKTON_LISTEN").stderr(Stdio::piped());
    command
}

/// A job that shows itself.
struct Bank {
    /// Ends with this.
    _job: Job,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Bank {
    fn start(flags: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(folder.path(), flags);
        let mut job = Job::of(command.envs(environment.iter().copied()));
        let mut said = BufReader::new(job.0[0].stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let url = line.split("http://").nth(1).unwrap_or_else(|| panic!("it says where: {line}"));
        let address = url.split('/').next().unwrap().parse().unwrap();
        // What it says later must have somewhere to go.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Bank { _job: job, address, folder }
    }

    /// Publishes transfers.
    fn publish(&self, transfers: &[Transfer]) {
        let path = self.folder.path().join("topics/transfers/0.jsonl");
        let lines = transfers.iter().map(|transfer| serde_json::to_string(transfer).unwrap() + "\n");
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(lines.collect::<String>().as_bytes()).unwrap();
    }

    /// Asks; gives the status and the body.
    fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let host = format!("Host: {}\r\n", self.address);
        let host = if headers.contains("Host:") { "" } else { &host };
        let (head, body) = self
            .exchange(format!("GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n").as_bytes());
        let status = head.split(' ').nth(1).unwrap_or_else(|| panic!("an answer: {head}"));
        (status.parse().unwrap(), body)
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path, "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Sends bytes and reads until the server closes; gives head and body.
    fn exchange(&self, bytes: &[u8]) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may close before all is sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.to_owned(), body.to_owned())
    }

    fn socket(&self, stream: TcpStream) -> Socket {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{}/api/live", self.address), stream).unwrap();
        Socket { socket, deadline: Instant::now() + PATIENCE, rows: Vec::new() }
    }

    fn watch(&self, message: &str) -> Socket {
        let mut socket = self.socket(TcpStream::connect(self.address).unwrap());
        socket.watch(message);
        socket
    }
}

/// A client as the page is one: the rows of each view that it watches, by their numbers.
struct Socket {
    socket: WebSocket<TcpStream>,
    deadline: Instant,
    rows: Vec<BTreeMap<u64, (Value, Value)>>,
}

impl Socket {
    fn watch(&mut self, message: &str) {
        self.socket.send(Message::text(message)).unwrap();
        let watched: Value = serde_json::from_str(message).unwrap();
        self.rows = vec![BTreeMap::new(); watched["views"].as_array().unwrap().len()];
    }

    fn read(&mut self) -> Result<Value, tungstenite::Error> {
        loop {
            // There is a frame a second even where nothing changes.
            assert!(Instant::now() < self.deadline, "what is waited for does not come");
            if let Message::Text(text) = self.socket.read()? {
                return Ok(serde_json::from_str(&text).unwrap());
            }
        }
    }

    /// Takes the next frame of what is watched, and puts it into the rows.
    fn frame(&mut self) -> Value {
        loop {
            let frame = self.read().unwrap();
            if frame["watch"] == 0 {
                continue;
            }
            for (rows, part) in self.rows.iter_mut().zip(frame["parts"].as_array().unwrap()) {
                if part["snapshot"] == true {
                    rows.clear();
                }
                for gone in part["gone"].as_array().into_iter().flatten() {
                    assert!(rows.remove(&gone.as_u64().unwrap()).is_some(), "it was there: {part}");
                }
                let whole = part["columns"].is_null();
                for row in part["rows"].as_array().into_iter().flatten().filter(|_| whole) {
                    rows.insert(row[0].as_u64().unwrap(), (row[1].clone(), row[2].clone()));
                }
            }
            return frame;
        }
    }

    /// What is shown of a view, by key.
    fn shown(&self, part: usize) -> BTreeMap<u64, Value> {
        let rows = self.rows[part].values();
        let shown: BTreeMap<_, _> = rows.map(|(key, value)| (key.as_u64().unwrap(), value.clone())).collect();
        assert_eq!(shown.len(), self.rows[part].len(), "each key once");
        shown
    }
}

fn transfer(from: u64, to: u64, amount: i64) -> Transfer {
    Transfer { from, to, amount, memo: format!("for {to}") }
}

#[test]
fn all_views_are_of_one_time_and_say_what_the_topic_says() {
    let bank = Bank::start("--listen 127.0.0.1:0", &[]);
    let mut page = bank.watch(r#"{"watch":1,"views":[{"view":"accounts"},{"view":"branches"}]}"#);
    let (mut random, mut expected) = (7_u64, BTreeMap::<u64, i64>::new());
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let (mut times, mut frames) = (0, 0);
    for round in 0.. {
        if round < 120 {
            let transfers: Vec<_> =
                (0..below(30)).map(|_| transfer(below(200), below(200), below(50) as i64)).collect();
            for transfer in &transfers {
                *expected.entry(transfer.from).or_default() -= transfer.amount;
                *expected.entry(transfer.to).or_default() += transfer.amount;
            }
            bank.publish(&transfers);
            std::thread::sleep(Duration::from_millis(10));
        }
        if round % 4 != 0 && round < 120 {
            continue;
        }
        let frame = page.frame();
        frames += 1;
        let time = frame["time"].as_u64().unwrap();
        assert!(time >= times, "times never go back");
        times = time;
        let (accounts, branches) = (page.shown(0), page.shown(1));
        let mut sums: BTreeMap<u64, i64> = BTreeMap::new();
        for (account, view) in &accounts {
            *sums.entry(account % BRANCHES).or_default() += view[0].as_i64().unwrap();
        }
        assert_eq!(sums.values().sum::<i64>(), 0, "no transfer is shown by half");
        sums.retain(|_, sum| *sum != 0);
        let branches: BTreeMap<_, _> =
            branches.iter().map(|(id, sum)| (*id, sum.as_i64().unwrap())).collect();
        assert_eq!(branches, sums, "both views are of the time {time}");
        let balances: BTreeMap<_, _> =
            accounts.iter().map(|(id, view)| (*id, view[0].as_i64().unwrap())).collect();
        if round > 120 && balances == expected {
            break;
        }
        assert!(round < 2_000, "all transfers are shown at last");
    }
    assert!(frames > 20, "it moves: {frames} frames");
    // The topic says the same, and so do all other ways to ask.
    let topic = std::fs::read_to_string(bank.folder.path().join("topics/accounts/0.jsonl")).unwrap();
    let mut said = BTreeMap::new();
    for line in topic.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        said.insert(line["key"].as_u64().unwrap(), line["after"].clone());
    }
    assert_eq!(page.shown(0), said);
    let of = |answer: &Value| -> Vec<(u64, Value)> {
        let records = answer["records"].as_array().unwrap().iter();
        records.map(|record| (record["key"].as_u64().unwrap(), record["value"].clone())).collect()
    };
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let answer = bank.json(&format!("/api/views/accounts?limit=70{after}"));
        paged.extend(of(&answer));
        let Some(next) = answer["next"].as_str() else { break };
        after = format!("&after={}", next.replace(' ', "%20").replace('"', "%22"));
    }
    assert_eq!(paged, said.clone().into_iter().collect::<Vec<_>>());
    let rich: Vec<_> = said.clone().into_iter().filter(|(_, view)| view[0].as_i64() > Some(20)).collect();
    assert_eq!(of(&bank.json("/api/views/accounts?filter=value.0%3E20")), rich);
    let (first, view) = said.first_key_value().unwrap();
    assert_eq!(of(&bank.json(&format!("/api/views/accounts/records/{first}"))), [(*first, view.clone())]);
    assert_eq!(bank.get("/api/views/accounts/records/777", "").0, 404);
    let (_, csv) = bank.get("/api/views/branches?format=csv", "");
    assert!(
        csv.starts_with("key,value,count\r\n") && csv.lines().count() == 1 + page.shown(1).len(),
        "{csv}"
    );
    let (_, metrics) = bank.get("/metrics", "");
    let events = topic_lines(&bank);
    assert!(metrics.contains(&format!("\nnekton_events_total {events}\n")), "{metrics}");
    assert!(
        metrics.contains(&format!("\nnekton_view_records{{view=\"accounts\"}} {}\n", said.len())),
        "{metrics}"
    );
    assert_eq!((bank.get("/ready", "").0, bank.get("/health", "").0), (200, 200));
    let api = bank.json("/api/openapi.json");
    assert!(api["paths"]["/api/views/{view}/changes"]["get"].is_object());
    // A filter shows what comes to it and leaves it, from now on.
    page.watch(r#"{"watch":2,"views":[{"view":"accounts","key":"900"},{"view":"accounts","filter":"value.0>1000000"},{"view":"none"}]}"#);
    while page.frame()["watch"] != 2 {}
    bank.publish(&[transfer(900, 901, 2_000_000)]);
    while page.rows[0].len() + page.rows[1].len() < 2 {
        page.frame();
    }
    let keys = |part: usize| page.shown(part).into_keys().collect::<Vec<_>>();
    assert_eq!((keys(0), keys(1)), (vec![900], vec![901]));
    bank.publish(&[transfer(901, 900, 2_000_000)]);
    while !page.rows[1].is_empty() {
        page.frame();
    }
}

#[test]
fn views_say_how_they_are_shown_and_give_the_fields_for_it() {
    let bank = Bank::start("--listen 127.0.0.1:0", &[]);
    // Both workers have said it, once.
    let accounts = json!({
        "view": "accounts", "size": 0,
        "map": { "x": "0", "y": "key", "earth": false, "colour": "nothing" },
        "charts": [{ "kind": "histogram", "field": "0", "unit": "cents" }, { "kind": "count" }],
    });
    let branches = json!({ "view": "branches", "size": 0, "map": null, "charts": [] });
    assert_eq!(bank.json("/api/views"), json!([accounts, branches]));
    let mut page = bank.watch(
        r#"{"watch":1,"views":[{"view":"accounts","fields":["0","key","nothing"],"limit":150000},{"view":"accounts"}]}"#,
    );
    // More of them than a table has, all of one time.
    let many: Vec<_> = (0..6_000).map(|id| transfer(id, id + 6_000, 1)).collect();
    bank.publish(&many);
    let mut columns: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
    loop {
        let frame = page.frame();
        let part = &frame["parts"][0];
        if part["snapshot"] == true {
            columns.clear();
        }
        for (index, row) in part["rows"].as_array().into_iter().flatten().enumerate() {
            let column = |column: usize| &part["columns"][column][index];
            assert_eq!((&part["keys"][index], column(2)), (column(1), &Value::Null));
            let key = column(1).as_u64().unwrap();
            columns.insert(row.as_u64().unwrap(), (key, column(0).as_i64().unwrap()));
        }
        assert_eq!(columns.values().map(|(_, balance)| balance).sum::<i64>(), 0);
        if columns.len() == 12_000 {
            break;
        }
    }
    let expected = (0..12_000).map(|id| (id, if id < 6_000 { -1 } else { 1 }));
    assert_eq!(columns.into_values().collect::<BTreeMap<_, _>>(), expected.collect::<BTreeMap<_, _>>());
}

fn topic_lines(bank: &Bank) -> usize {
    std::fs::read_to_string(bank.folder.path().join("topics/transfers/0.jsonl")).unwrap().lines().count()
}

#[test]
fn a_slow_client_gets_a_snapshot_and_keeps_nobody_waiting() {
    let bank = Bank::start("--listen 127.0.0.1:0", &[]);
    let memo = |round: usize| format!("{round} {}", "x".repeat(2_000));
    let round = |round: usize| -> Vec<_> {
        (0..500).map(|id| Transfer { from: id, to: id + 500, amount: 1, memo: memo(round) }).collect()
    };
    bank.publish(&round(0));
    let watched = r#"{"watch":1,"views":[{"view":"accounts","limit":10000}]}"#;
    let mut quick = bank.watch(watched);
    // With little room in its socket, as far away as can be.
    let stream = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    stream.set_recv_buffer_size(4_096).unwrap();
    stream.connect(&bank.address.into()).unwrap();
    let mut slow = bank.socket(stream.into());
    slow.watch(watched);
    while slow.rows[0].len() < 1_000 {
        slow.frame();
    }
    // The slow one reads nothing; the quick one sees every round.
    let deadline = Instant::now() + PATIENCE;
    let skipped = |bank: &Bank| {
        let metrics = bank.get("/metrics", "").1;
        let line = metrics.lines().find(|line| line.starts_with("nekton_screens_skipped_total")).unwrap();
        line.split(' ').next_back().unwrap().parse::<u64>().unwrap()
    };
    let mut last = 0;
    while skipped(&bank) == 0 {
        assert!(Instant::now() < deadline, "the slow client is not noticed");
        last += 1;
        bank.publish(&round(last));
        let newest = memo(last);
        while quick.shown(0).values().filter(|view| view[1] == newest.as_str()).count() < 1_000 {
            quick.frame();
        }
    }
    let newest = memo(last);
    let mut snapshots = 0;
    while slow.shown(0).values().filter(|view| view[1] == newest.as_str()).count() < 1_000 {
        snapshots += usize::from(slow.frame()["parts"][0]["snapshot"] == true);
    }
    assert!(snapshots > 0, "what it has missed comes as a snapshot");
    assert_eq!(slow.shown(0), quick.shown(0));
}

#[test]
fn hostile_clients_are_turned_away_and_others_are_served() {
    let bank = Bank::start("--listen 127.0.0.1:0", &[]);
    bank.publish(&[transfer(1, 2, 5)]);
    // Pages of others, under their own name or under ours.
    assert_eq!(bank.get("/api/job", "Host: evil.example\r\n").0, 403);
    assert_eq!(bank.get("/api/job", "Origin: http://evil.example\r\n").0, 403);
    assert_eq!(bank.get("/api/job", "Origin: null\r\n").0, 403);
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let from = |origin: &str| {
        let request =
            format!("GET /api/live HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\n{upgrade}\r\n", bank.address);
        let mut stream = TcpStream::connect(bank.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8(answer[9..].to_vec()).unwrap()
    };
    assert_eq!(from("http://evil.example"), "403");
    assert_eq!(from(&format!("http://{}", bank.address)), "101");
    // Requests that are none, or too long.
    let said = |bytes: &[u8]| bank.exchange(bytes).0.get(9..12).unwrap_or_default().to_owned();
    assert_eq!(said(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 what?\r\n\r\n"), "400");
    let long = format!("GET / HTTP/1.1\r\nHost: {}\r\nX: {}\r\n\r\n", bank.address, "x".repeat(40_000));
    assert_eq!(said(long.as_bytes()), "431");
    assert_eq!(
        said(format!("POST / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", bank.address).as_bytes()),
        "405"
    );
    assert_eq!(bank.get(&format!("/api/views/accounts?filter={}", "x".repeat(600)), "").0, 400);
    assert_eq!(bank.get("/api/views/accounts?after=%5B%5B%5B", "").0, 400);
    assert_eq!(bank.get("/api/views/accounts/%FF", "").0, 400);
    assert_eq!(bank.get("/../../etc/passwd", "").0, 404);
    // Half a request, many times, and connections that say nothing.
    let half: Vec<_> = (0..200)
        .map(|index| {
            let mut stream = TcpStream::connect(bank.address).unwrap();
            stream.write_all(if index % 2 == 0 { b"GET / HT" } else { b"" }).unwrap();
            stream
        })
        .collect();
    // Frames that say that they are very long, messages that are deep, or no JSON, or not text.
    let ended = |message: &[u8]| {
        let mut socket = bank.socket(TcpStream::connect(bank.address).unwrap());
        socket.socket.get_mut().write_all(message).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while socket.read().is_ok() {
            assert!(Instant::now() < deadline, "the connection is ended");
        }
    };
    ended(b"\x81\xff\x00\x00\x00\x00\x40\x00\x00\x00mask");
    ended(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xffmask");
    let masked = |opcode: u8, text: &str| {
        let length = (text.len() as u16).to_be_bytes();
        [&[opcode, 0xfe], &length[..], &[0; 4], text.as_bytes()].concat()
    };
    ended(&masked(0x81, &"[".repeat(60_000)));
    ended(&masked(0x82, &" ".repeat(200)));
    let many = vec![r#"{"view":"accounts"}"#; 33].join(",");
    ended(&masked(0x81, &format!(r#"{{"watch":1,"views":[{many}]}}"#)));
    // Clients that vanish in the middle of a frame.
    for _ in 0..50 {
        drop(bank.watch(r#"{"watch":1,"views":[{"view":"accounts"}]}"#));
    }
    let mut page = bank.watch(r#"{"watch":1,"views":[{"view":"accounts"},{"view":"nothing"}]}"#);
    let frame = page.frame();
    assert!(frame["parts"][1]["error"].as_str().unwrap().contains("there are accounts, branches"), "{frame}");
    bank.publish(&[transfer(1, 2, 5)]);
    while page.shown(0).get(&2).is_none_or(|view| view[0] != 10) {
        page.frame();
    }
    drop(half);
}

#[test]
fn outside_of_this_machine_a_token_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |flags: &str, token: Option<&str>| {
        let mut command = command(folder.path(), flags);
        let ended = command.envs(token.map(|token| ("NEKTON_LISTEN_TOKEN", token))).output().unwrap();
        assert_eq!(ended.status.code(), Some(2));
        String::from_utf8(ended.stderr).unwrap()
    };
    assert!(refused("--listen 0.0.0.0:0", None).contains("give a token"));
    assert!(refused("--listen 0.0.0.0:0", Some("short")).contains("16 to 512 letters"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let said = refused(&format!("--listen {}", taken.local_addr().unwrap()), None);
    assert!(said.contains("give another port"), "{said}");

    let token = "0123456789abcdef";
    let bank = Bank::start("--listen 127.0.0.1:0", &[("NEKTON_LISTEN_TOKEN", token)]);
    for path in [
        "/",
        "/page.js",
        "/api/job",
        "/metrics",
        "/api/views/accounts",
        "/api/live",
        "/?token=0123456789abcdee",
    ] {
        assert_eq!(bank.get(path, "").0, 401, "{path}");
    }
    assert_eq!(bank.get("/health", "").0, 200);
    assert_eq!(bank.get("/api/job", &format!("Authorization: Bearer {token}\r\n")).0, 200);
    let request =
        format!("GET /?token={token} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", bank.address);
    let (head, _) = bank.exchange(request.as_bytes());
    assert!(head.starts_with("HTTP/1.1 303") && head.contains("HttpOnly; SameSite=Strict"), "{head}");
    let (status, page) = bank.get("/", &format!("Cookie: nekton_token={token}\r\n"));
    assert!(status == 200 && page.contains("<title>nekton</title>"));
}

#[test]
fn jobs_beside_one_another_find_free_ports_and_may_be_silent() {
    let (one, other) = (Bank::start("", &[]), Bank::start("", &[]));
    assert_ne!(one.address, other.address);
    assert_eq!((one.get("/health", "").0, other.get("/health", "").0), (200, 200));
    let folder = tempfile::tempdir().unwrap();
    let ended = command(folder.path(), "--listen none --until-end").output().unwrap();
    assert!(ended.status.success() && !String::from_utf8_lossy(&ended.stderr).contains("http://"));
}
