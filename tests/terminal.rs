//! What is shown of jobs that run, beside the page: `nekton tap`, `inspect`, `top` and `explain` in a terminal, metrics, and
//! a view to a thousand clients.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use common::job::{Job, PATIENCE, eventually};
use nekton::prelude::*;
use serde_json::{Value, json};

#[derive(Clone, Serialize, Deserialize)]
struct Telemetry {
    vehicle: String,
    depot: u64,
    temp: i64,
}

#[derive(Default, Serialize, Deserialize)]
struct Vehicle {
    depot: u64,
    temp: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct State {
    depot: u64,
    temp: i64,
}

impl Agent for Vehicle {
    type Key = String;
    type Event = Telemetry;
    type View = State;
    type Emit = ();
    fn create(_vehicle: &String) -> Self {
        Vehicle::default()
    }
    fn on_event(&mut self, event: &Telemetry, _context: &mut Context<'_, Self>) {
        (self.depot, self.temp) = (event.depot, event.temp);
    }
    fn view(&self) -> Option<State> {
        Some(State { depot: self.depot, temp: self.temp })
    }
}

/// The job, in a process of its own.
#[test]
#[ignore = "started by the others"]
fn program() {
    common::program::run("fleet", |flow| {
        let telemetry = flow.events::<Telemetry>("telemetry");
        let vehicles = telemetry.agents::<Vehicle>("vehicles", |t| t.vehicle.clone());
        let hottest =
            vehicles.views().map(|(id, state)| (state.depot, (state.temp, id))).reduce(|_, temps, out| {
                out.extend(temps.last().map(|(hottest, _)| ((*hottest).clone(), 1)));
            });
        flow.sink("hottest", &hottest);
        flow.view("vehicles", &vehicles);
        flow.view("hottest", &hottest);
    });
}

/// A job that shows itself.
struct Fleet {
    job: Job,
    url: String,
    folder: tempfile::TempDir,
}

impl Fleet {
    fn start(token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("topics/telemetry")).unwrap();
        let topics = folder.path().join("topics");
        let flags = "--checkpoint-every 200ms --workers 2 --listen 127.0.0.1:0";
        let mut command = common::program::command(&format!("--topics file:{} {flags}", topics.display()));
        command.env_remove("NEKTON_LISTEN").stderr(Stdio::piped());
        command.envs(token.map(|token| ("NEKTON_LISTEN_TOKEN", token)));
        let mut job = Job::of(&mut command);
        let mut said = BufReader::new(job.0[0].stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let url = line.split("http://").nth(1).unwrap_or_else(|| panic!("it says where: {line}"));
        let url = format!("http://{}", url.split('/').next().unwrap());
        // What it says later must have somewhere to go.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Fleet { job, url, folder }
    }

    /// Publishes what vehicles say, of (vehicle, depot, temperature).
    fn publish(&self, said: &[(&str, u64, i64)]) {
        let path = self.folder.path().join("topics/telemetry/0.jsonl");
        let event = |(vehicle, depot, temp): &(&str, u64, i64)| {
            format!("{}\n", json!({"vehicle": vehicle, "depot": depot, "temp": temp}))
        };
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(said.iter().map(event).collect::<String>().as_bytes()).unwrap();
    }

    /// Publishes, and waits until it shows.
    fn shows(&self, vehicle: &str, depot: u64, temp: i64) {
        self.publish(&[(vehicle, depot, temp)]);
        eventually("what a vehicle says", || {
            let said =
                nekton(&["inspect", "vehicles", vehicle, "--json", "--listen", &self.url]).output().unwrap();
            let is = |said: Value| said["views"]["vehicles"][0]["value"]["temp"] == temp;
            serde_json::from_slice(&said.stdout).is_ok_and(is)
        });
    }
}

fn nekton(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nekton"));
    command.args(arguments).env_remove("NEKTON_LISTEN_TOKEN").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that succeeds prints.
fn prints(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn ran(arguments: &[&str]) -> String {
    prints(&nekton(arguments).output().unwrap())
}

/// What a command that fails says, in one sentence.
fn refused(arguments: &[&str]) -> String {
    let output = nekton(arguments).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("nekton: ") && said.trim_end().lines().count() == 1, "{said}");
    said
}

/// A command that goes on until it is killed or ends.
struct Running {
    process: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Waits until it says `ready` on standard error.
    fn start(arguments: &[&str], ready: &str) -> Self {
        let mut process = nekton(arguments).spawn().unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), ready);
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let lines = lines(process.stdout.take().unwrap());
        Running { process, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lines(from: ChildStdout) -> Receiver<String> {
    let (told, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| told.send(line))
    });
    lines
}

#[test]
fn what_changes_is_tapped_with_what_was_before() {
    let fleet = Fleet::start(None);
    fleet.shows("V1", 7, 90);
    let watched = "nekton: watching vehicles";
    let hot = ["tap", "vehicles", "--where", "temp>110", "--json", "--listen", &fleet.url];
    let hot = Running::start(&hot, watched);
    let told = Running::start(&["tap", "vehicles", "--listen", &fleet.url], watched);
    let (v1, v2) = (|temp: i64| json!({"depot": 7, "temp": temp}), json!({"depot": 8, "temp": 112}));
    // Into what is asked for, within it, and out of it again; each is shown before the next is said.
    for temp in [100, 111, 115, 90] {
        fleet.shows("V1", 7, temp);
        let line = told.line();
        assert!(line.contains("Z  V1  temp ") && line.ends_with(&format!(" -> {temp}")), "{line}");
    }
    fleet.shows("V2", 8, 112);
    assert!(told.line().ends_with("Z  V2  + {\"depot\":8,\"temp\":112}"));
    let expected = [
        json!({"key": "V1", "before": v1(100), "after": v1(111)}),
        json!({"key": "V1", "before": v1(111), "after": v1(115)}),
        json!({"key": "V1", "before": v1(115), "after": v1(90)}),
        json!({"key": "V2", "after": v2}),
    ];
    let mut last = 0;
    for expected in expected {
        let mut change = hot.json();
        let time = change.as_object_mut().unwrap().remove("time").unwrap().as_u64().unwrap();
        assert!(time > last, "times go on");
        last = time;
        assert_eq!(change, expected);
    }
    // When the job is gone, so is what watches it.
    let Fleet { job, .. } = fleet;
    job.kill();
    let mut told = told;
    assert!(told.process.wait().unwrap().success());
}

#[test]
fn an_agent_is_inspected_in_all_views_with_its_links() {
    let fleet = Fleet::start(None);
    fleet.publish(&[("V1", 7, 90), ("V3", 8, 95)]);
    fleet.shows("V2", 7, 95);
    let told = ran(&["inspect", "vehicles", "V2", "--listen", &fleet.url]);
    let (head, rest) = told.split_once('\n').unwrap();
    assert!(head.starts_with("V2, as of "), "{head}");
    assert_eq!(rest, "\nvehicles\n  depot  7\n  temp   95\n\nlinks in hottest\n  7  [95,\"V2\"]\n");
    // A key that is a number, and one that is text and looks like JSON.
    let depot: Value =
        serde_json::from_str(&ran(&["inspect", "hottest", "8", "--json", "--listen", &fleet.url])).unwrap();
    assert_eq!(depot["views"], json!({"hottest": [{"key": 8, "value": [95, "V3"]}]}));
    assert_eq!(depot["links"], json!({}));
    let quoted = ran(&["inspect", "vehicles", "\"V1\"", "--json", "--listen", &fleet.url]);
    assert!(quoted.contains("\"temp\":90"), "{quoted}");
    // What follows.
    let mut follow = nekton(&["inspect", "vehicles", "V1", "--follow", "--json", "--listen", &fleet.url]);
    let mut process = follow.spawn().unwrap();
    let follow = Running { lines: lines(process.stdout.take().unwrap()), process };
    assert_eq!(follow.json()["views"]["vehicles"][0]["value"]["temp"], 90);
    fleet.shows("V1", 7, 99);
    let mut change = follow.json();
    assert!(change["time"].take().is_u64());
    let (before, after) = (json!({"depot": 7, "temp": 90}), json!({"depot": 7, "temp": 99}));
    let expected = json!({"time": null, "view": "vehicles", "key": "V1", "before": before, "after": after});
    assert_eq!(change, expected);

    let nobody = refused(&["inspect", "vehicles", "V9", "--listen", &fleet.url]);
    assert!(nobody.contains("no view has a record with the key V9 now"), "{nobody}");
}

#[test]
fn top_says_how_jobs_do() {
    let (one, other) = (Fleet::start(None), Fleet::start(None));
    one.shows("V1", 7, 90);
    eventually("a checkpoint", || {
        let job: Value = serde_json::from_str(&ran(&["top", &one.url, "--json"])).unwrap();
        assert_eq!((&job["job"], &job["about"]["workers"]), (&json!("fleet"), &json!(2)));
        assert_eq!((&job["figures"]["events"], &job["figures"]["views"]["vehicles"]), (&json!(1), &json!(1)));
        assert!(job["events_per_second"].is_number(), "{job}");
        job["figures"]["committed"].as_u64().unwrap() > 0
    });
    let table = ran(&["top", &one.url, &other.url]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("2 jobs   ") && lines[2].starts_with("JOB "), "{table}");
    let cells: Vec<_> = lines[3].split_whitespace().collect();
    assert_eq!((cells[0], cells[1], *cells.last().unwrap()), ("fleet", "2", &one.url[..]), "{table}");
    assert!(table.ends_with("fleet   hottest 0   vehicles 0\n"), "{table}");
    // One of them has gone.
    drop(other);
    let table = ran(&["top", &one.url, "127.0.0.1:1"]);
    assert!(table.contains("\nno job at http://127.0.0.1:1: nothing listens there"), "{table}");
}

#[test]
fn who_cannot_look_is_told_what_to_do() {
    let fleet = Fleet::start(None);
    let nothing = refused(&["tap", "planes", "--listen", &fleet.url]);
    assert!(nothing.contains("there is no view \"planes\": there are vehicles, hottest"), "{nothing}");
    let nothing = refused(&["inspect", "planes", "1", "--listen", &fleet.url]);
    assert!(nothing.contains("there is no view \"planes\": there are vehicles, hottest"), "{nothing}");
    let long = refused(&["tap", "vehicles", "--where", &"x".repeat(600), "--listen", &fleet.url]);
    assert!(long.contains("a filter has at most 500 bytes"), "{long}");

    // A port on which nobody listens, and one where somebody else does.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for command in [&["tap", "vehicles", "--listen"][..], &["inspect", "vehicles", "1", "--listen"], &["top"]]
    {
        let nobody = refused(&[command, &[&free.to_string()]].concat());
        assert!(nobody.contains("nothing listens there; start the job"), "{nobody}");
    }
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = other.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in other.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let _ = stream.get_mut().write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nwhat");
        }
    });
    assert!(refused(&["top", &at]).contains("is no nekton job"));

    let token = "0123456789abcdef";
    let fleet = Fleet::start(Some(token));
    let unknown = refused(&["tap", "vehicles", "--listen", &fleet.url]);
    assert!(unknown.contains("wants a token: give it with --token-file FILE"), "{unknown}");
    let file = fleet.folder.path().join("token");
    std::fs::write(&file, "fedcba9876543210\n").unwrap();
    let with = ["top", &fleet.url, "--token-file", file.to_str().unwrap()];
    assert!(refused(&with).contains("the token is wrong"));
    std::fs::write(&file, format!("{token}\n")).unwrap();
    assert!(ran(&with).contains("fleet"));
    let known = nekton(&["top", &fleet.url, "--json"]).env("NEKTON_LISTEN_TOKEN", token).output().unwrap();
    assert!(prints(&known).contains("\"job\":\"fleet\""));
}

#[test]
fn the_dataflow_is_explained_from_its_sources_to_its_views() {
    let fleet = Fleet::start(None);
    fleet.shows("V1", 7, 90);
    let graph: Value = serde_json::from_str(&ran(&["explain", &fleet.url, "--json"])).unwrap();
    let nodes = graph["nodes"].as_array().unwrap();
    let id = |kind: &str, name: &str| {
        let node = nodes.iter().find(|node| node["kind"] == kind && node["name"] == name);
        node.unwrap_or_else(|| panic!("{kind} {name} in {graph}"))["id"].clone()
    };
    let edges = graph["edges"].as_array().unwrap();
    let leads =
        |from: &Value, to: &Value| edges.iter().any(|edge| edge["from"] == *from && edge["to"] == *to);
    let root = id("root", "vehicles");
    assert!(leads(&root, &id("view", "vehicles")), "{graph}");
    // What lies between the agents and both of the others is derived from them, and holds what it needs.
    let hottest = nodes.iter().find(|node| leads(&node["id"], &id("view", "hottest"))).unwrap();
    assert_eq!(hottest["kind"], "derived");
    assert!(leads(&root, &hottest["id"]) && leads(&hottest["id"], &id("sink", "hottest")), "{graph}");
    assert!(hottest["arranged"].as_u64().unwrap() > 0, "{hottest}");
    assert!(!nodes.iter().any(|node| node["name"] == "Pace"), "nekton's own operators are not told");
    // While it works, it is seen at work.
    let at_work = |graph: &Value| {
        let busy: f64 =
            graph["nodes"].as_array().unwrap().iter().filter_map(|node| node["busy"].as_f64()).sum();
        let into = graph["edges"].as_array().unwrap().iter().find(|edge| edge["from"] == root).unwrap();
        busy > 0. && into["per_second"].as_f64().unwrap() > 0.
    };
    let mut temp = 0;
    eventually("work that is seen", || {
        let events: Vec<_> = (0..200).map(|vehicle| format!("W{vehicle}")).collect();
        temp += 1;
        fleet.publish(&events.iter().map(|vehicle| (&vehicle[..], 3, temp)).collect::<Vec<_>>());
        at_work(&serde_json::from_str(&ran(&["explain", &fleet.url, "--json"])).unwrap())
    });
    let tree = ran(&["explain", &fleet.url]);
    assert!(tree.starts_with("2 workers, over ") && tree.contains("\nsource telemetry  ["), "{tree}");
    let drawing = fleet.folder.path().join("fleet.svg");
    assert_eq!(ran(&["explain", &fleet.url, "--svg", drawing.to_str().unwrap()]), "");
    let drawing = std::fs::read_to_string(drawing).unwrap();
    assert!(drawing.starts_with("<svg ") && drawing.ends_with("</svg>\n"), "{drawing}");
    assert_eq!(drawing.matches("<rect").count(), nodes.len());
}

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let named = text.match_indices("nekton_").map(|(at, _)| &text[at..]);
    let name = |text: &str| {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap().to_owned()
    };
    named.map(name).collect()
}

#[test]
fn the_dashboard_and_the_documentation_name_the_metrics_that_a_job_serves() {
    let fleet = Fleet::start(None);
    fleet.shows("V1", 7, 90);
    fleet.shows("V2", 7, 95);
    let address = fleet.url.trim_start_matches("http://").to_owned();
    let mut served = String::new();
    eventually("a checkpoint", || {
        let mut stream = TcpStream::connect(&address).unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        served = std::io::read_to_string(stream).unwrap();
        served.contains("\nnekton_checkpoint_bytes ")
    });
    for line in [
        "nekton_events_total 2",
        "nekton_messages_total 2",
        "nekton_agents{root=\"vehicles\"} 2",
        "nekton_topic_events_total{topic=\"telemetry\"} 2",
        "nekton_topic_messages_total{topic=\"hottest\"} 2",
        "nekton_view_records{view=\"vehicles\"} 2",
        "nekton_output_bytes_queued 0",
        "nekton_epoch_seconds_bucket{le=\"+Inf\"} 2",
        "nekton_epoch_seconds_count 2",
    ] {
        assert!(served.lines().any(|other| other == line), "{line} in {served}");
    }
    let lines: String =
        served.lines().filter(|line| line.starts_with("nekton_")).map(|line| format!("{line}\n")).collect();
    let served = metrics(&lines);
    let dashboard: Value = serde_json::from_str(include_str!("../deploy/grafana/nekton.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let asked: String = queries.map(|query| format!("{}\n", query["expr"].as_str().unwrap())).collect();
    let missing: Vec<_> = metrics(&asked).difference(&served).cloned().collect();
    assert!(missing.is_empty() && metrics(&asked).len() >= 15, "{missing:?} are asked for and not served");
    // Histograms are told of by their names alone.
    let family = |name: &String| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .fold(name.clone(), |name, end| name.trim_end_matches(end).to_owned())
    };
    let told = metrics(include_str!("../docs/operating.md"));
    let families: BTreeSet<_> = served.iter().map(family).collect();
    let untold: Vec<_> = families.symmetric_difference(&told).collect();
    assert!(untold.is_empty(), "{untold:?} are served or told of, not both");
}

const CLIENTS: usize = 1_000;

/// Files that this process and those that it starts may have open, if it is allowed to say so.
fn open_files() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = hard.min(8_192);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).unwrap();
    }
    soft.max(wanted) as usize
}

#[test]
fn a_thousand_clients_of_a_view_all_see_its_end() {
    let clients = CLIENTS.min(open_files() - 200);
    let fleet = Fleet::start(None);
    const VEHICLES: usize = 30;
    const ROUNDS: i64 = 12;
    let names: Vec<_> = (0..VEHICLES).map(|vehicle| format!("V{vehicle}")).collect();
    let round =
        |round: i64| fleet.publish(&names.iter().map(|name| (&name[..], 1, round)).collect::<Vec<_>>());
    round(0);
    let address = fleet.url.trim_start_matches("http://").to_owned();
    let (whole, snapshots) = channel();
    let watching: Vec<_> = (0..clients)
        .map(|_| {
            let (address, told) = (address.clone(), whole.clone());
            let client = move || {
                let stream = TcpStream::connect(&address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let (mut socket, _) =
                    tungstenite::client(format!("ws://{address}/api/live"), stream).unwrap();
                socket
                    .send(tungstenite::Message::text(r#"{"watch":1,"views":[{"view":"vehicles"}]}"#))
                    .unwrap();
                let mut rows: BTreeMap<u64, (String, i64)> = BTreeMap::new();
                let (mut last, mut whole) = (0, false);
                // All rows at each time are of one round, as the events of a round are read at one time.
                while rows.len() < VEHICLES || rows.values().any(|(_, temp)| *temp < ROUNDS) {
                    let tungstenite::Message::Text(text) = socket.read().unwrap() else { continue };
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    let part = &frame["parts"][0];
                    if frame["watch"] != 1 || part.is_null() {
                        continue;
                    }
                    assert!(frame["time"].as_u64().unwrap() >= last, "times go on");
                    last = frame["time"].as_u64().unwrap();
                    if part["snapshot"] == true {
                        rows.clear();
                    }
                    for row in part["rows"].as_array().unwrap() {
                        let row = (
                            row[0].as_u64().unwrap(),
                            row[1].as_str().unwrap(),
                            row[2]["temp"].as_i64().unwrap(),
                        );
                        rows.insert(row.0, (row.1.to_owned(), row.2));
                    }
                    if !whole && rows.len() == VEHICLES {
                        whole = true;
                        told.send(()).unwrap();
                    }
                }
                rows.into_values().collect::<BTreeMap<_, _>>()
            };
            std::thread::Builder::new().stack_size(512 << 10).spawn(client).unwrap()
        })
        .collect();
    for _ in 0..clients {
        snapshots.recv_timeout(PATIENCE).expect("each client gets a snapshot");
    }
    for number in 1..=ROUNDS {
        // Each round shows before the next.
        fleet.shows("V0", 1, number);
        round(number);
    }
    let expected: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), ROUNDS)).collect();
    for client in watching {
        assert_eq!(client.join().expect("a client sees the end"), expected);
    }
}
