//! The flights example as a user runs it, against a plain pass over the same tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The example program, beside this test. Cargo has built it, unless only this test was asked for.
fn program() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().unwrap().parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--example", "flights"]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the example builds");
        profile.join("examples/flights")
    });
    let mut command = Command::new(path);
    command.env_clear().env("NEKTON_LISTEN", "none").stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Runs the example on topics in a folder to its end; returns what it printed.
fn replay(folder: &Path, flags: &[&str]) -> String {
    let topics = format!("file:{}", folder.display());
    let output = program().args(flags).args(["--topics", &topics]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{flags:?}: {said}");
    let complaints = said.lines().filter(|line| !line.starts_with("published ")).count();
    assert_eq!(complaints, 0, "{flags:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

const AS_FAST_AS_IT_CAN: [&str; 3] = ["--until-end", "--speed", "max"];

/// Figures by their names.
type Figures = BTreeMap<String, i64>;

/// The figures of each key of a topic, by key.
type ByKey = BTreeMap<String, Figures>;

/// A row of the flights' table, by column.
type Row = BTreeMap<String, String>;

fn rows(months: RangeInclusive<usize>) -> Vec<Row> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flights/data");
    let of_month = |month: usize| {
        let file = std::fs::File::open(data.join(format!("flights-{month:02}.csv.zst"))).unwrap();
        csv::Reader::from_reader(zstd::Decoder::new(file).unwrap()).into_deserialize().map(Result::unwrap)
    };
    months.flat_map(of_month).collect()
}

fn known(row: &Row, column: &str) -> Option<i64> {
    match row[column].as_str() {
        "" | "NA" => None,
        text => Some(text.parse().unwrap()),
    }
}

/// The figures by carrier and by airport, in a plain pass over the table.
fn plain_pass(rows: &[Row]) -> (ByKey, ByKey) {
    let (mut carriers, mut airports) = (ByKey::new(), ByKey::new());
    for row in rows {
        let delay = known(row, "dep_delay");
        let landed = delay.is_some() && known(row, "arr_delay").is_some();
        let add = |by_key: &mut ByKey, key: &str, figures: &[(&str, i64)]| {
            let of_key = by_key.entry(row[key].clone()).or_default();
            for (name, value) in figures {
                *of_key.entry((*name).to_owned()).or_insert(0) += value;
            }
        };
        let figures = [
            ("departed", i64::from(delay.is_some())),
            ("cancelled", i64::from(delay.is_none())),
            ("late", i64::from(delay.is_some_and(|delay| delay > 15))),
            ("delay_minutes", delay.unwrap_or(0)),
        ];
        add(&mut carriers, "carrier", &figures);
        add(&mut airports, "origin", &figures);
        add(&mut airports, "origin", &[("aloft", i64::from(delay.is_some() && !landed))]);
    }
    (carriers, airports)
}

/// The lines of a topic in the `upsert` envelope, by time.
fn by_time(folder: &Path, topic: &str) -> BTreeMap<u64, Vec<(String, Option<Figures>)>> {
    let text = std::fs::read_to_string(folder.join(topic).join("0.jsonl")).unwrap();
    let mut lines: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    let mut last = 0;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let time = line["time"].as_u64().unwrap();
        assert!(last <= time, "times never go back");
        last = time;
        let value = serde_json::from_value(line["value"].clone()).unwrap();
        lines.entry(time).or_default().push((line["key"].as_str().unwrap().to_owned(), value));
    }
    lines
}

fn apply(state: &mut ByKey, lines: &[(String, Option<Figures>)]) {
    for (key, value) in lines {
        match value {
            Some(figures) => state.insert(key.clone(), figures.clone()),
            None => state.remove(key),
        };
    }
}

/// What a topic says at its end.
fn folded(folder: &Path, topic: &str) -> ByKey {
    let mut state = ByKey::new();
    by_time(folder, topic).values().for_each(|lines| apply(&mut state, lines));
    state
}

fn sum(state: &ByKey, name: &str) -> i64 {
    state.values().map(|figures| figures[name]).sum()
}

/// At every time that either topic tells of, the carriers' sums are the airports'.
fn agree_at_every_time(folder: &Path) {
    let (carriers, airports) = (by_time(folder, "carriers"), by_time(folder, "airports"));
    let (mut by_carrier, mut by_airport) = (ByKey::new(), ByKey::new());
    let times: BTreeSet<u64> = carriers.keys().chain(airports.keys()).copied().collect();
    assert!(times.len() > 1, "the replay took more than one time");
    for time in times {
        apply(&mut by_carrier, carriers.get(&time).map_or(&[], Vec::as_slice));
        apply(&mut by_airport, airports.get(&time).map_or(&[], Vec::as_slice));
        for name in ["departed", "cancelled", "late", "delay_minutes"] {
            assert_eq!(sum(&by_carrier, name), sum(&by_airport, name), "{name} at {time}");
        }
        let aloft = sum(&by_airport, "aloft");
        assert!((0..=sum(&by_airport, "departed")).contains(&aloft), "{aloft} aloft at {time}");
    }
}

fn figures_are_right(folder: &Path, rows: &[Row]) {
    let (carriers, airports) = plain_pass(rows);
    assert_eq!(folded(folder, "carriers"), carriers);
    assert_eq!(folded(folder, "airports"), airports);
}

#[test]
fn the_topics_hold_the_figures_of_a_plain_pass_on_any_number_of_workers() {
    let january = rows(1..=1);
    for workers in ["1", "2", "3"] {
        let folder = tempfile::tempdir().unwrap();
        let flags = [&AS_FAST_AS_IT_CAN[..], &["--months", "1", "--workers", workers]].concat();
        let said = replay(folder.path(), &flags);
        assert!(said.contains("January 2013: 27,004 flights, 53,402 events"), "{said}");
        figures_are_right(folder.path(), &january);
        agree_at_every_time(folder.path());
    }
}

#[test]
fn the_whole_year_is_right() {
    let folder = tempfile::tempdir().unwrap();
    replay(folder.path(), &[&AS_FAST_AS_IT_CAN[..], &["--months", "12", "--workers", "2"]].concat());
    figures_are_right(folder.path(), &rows(1..=12));
    agree_at_every_time(folder.path());
}

#[test]
fn two_processes_leave_what_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = [0, 0]
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .map(|listener| listener.local_addr().unwrap().to_string())
        .join(",");
    std::thread::scope(|scope| {
        for process in ["0", "1"] {
            let cluster = ["--months", "2..2", "--processes", "2", "--process", process, "--hosts", &hosts];
            let flags = [&AS_FAST_AS_IT_CAN[..], &cluster].concat();
            let folder = folder.path();
            scope.spawn(move || replay(folder, &flags));
        }
    });
    figures_are_right(folder.path(), &rows(2..=2));
    agree_at_every_time(folder.path());
}

#[test]
fn events_can_be_published_first_and_consumed_later() {
    let folder = tempfile::tempdir().unwrap();
    let said = replay(folder.path(), &["--publish-only", "--speed", "max", "--months", "3..4"]);
    assert!(said.contains("published") && !folder.path().join("carriers").exists(), "{said}");
    replay(folder.path(), &["--consume-only", "--until-end", "--workers", "2"]);
    figures_are_right(folder.path(), &rows(3..=4));
    agree_at_every_time(folder.path());
}

#[test]
fn a_replay_ends_by_itself_and_passes_over_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let january = rows(1..=1);
    for _ in 0..2 {
        replay(folder.path(), &["--speed", "max"]);
        figures_are_right(folder.path(), &january);
    }
}

#[test]
fn a_replay_keeps_its_pace() {
    let folder = tempfile::tempdir().unwrap();
    let january = rows(1..=1);
    // A month in about a second.
    replay(folder.path(), &["--until-end", "--speed", "2600000"]);
    figures_are_right(folder.path(), &january);
    let times = by_time(folder.path(), "airports").len();
    assert!(times > 5, "a month that takes a second has many times, not {times}");
}

/// An arrival by `sched_arr_time` and `arr_delay` shows the clock time that the table has, is never before the
/// flight's departure and its time in the air, and never long after. In the months in which clocks change.
#[test]
fn arrivals_are_where_the_table_has_them() {
    assert_eq!(arrivals(3), (27_902, 0));
    assert_eq!(arrivals(11), (26_971, 0));
}

/// How many flights of a month landed, and how many at another minute than the clock showed.
fn arrivals(month: usize) -> (u32, u32) {
    let folder = tempfile::tempdir().unwrap();
    let months = format!("{month}..{month}");
    replay(folder.path(), &["--publish-only", "--speed", "max", "--months", &months]);
    let mut happened: BTreeMap<(String, String, u64), BTreeMap<String, u64>> = BTreeMap::new();
    for partition in 0..4 {
        let path = folder.path().join(format!("flights/{partition}.jsonl"));
        let mut last = 0;
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            let at = event["at"].as_u64().unwrap();
            assert!(last <= at, "events are in the order of their times");
            last = at;
            let flight = (text("flight"), text("origin"), event["scheduled"].as_u64().unwrap());
            let before = happened.entry(flight).or_default().insert(text("event"), at / 60_000);
            assert_eq!(before, None, "a flight departs, lands and is cancelled once: {line}");
        }
    }
    let (mut landed, mut other_clock) = (0, 0);
    for row in rows(month..=month) {
        let hour = minutes_since_1970(&row["time_hour"]);
        let scheduled = (hour + known(&row, "minute").unwrap() as u64) * 60_000;
        let flight = (format!("{}{}", row["carrier"], row["flight"]), row["origin"].clone(), scheduled);
        let events = &happened[&flight];
        let departure = known(&row, "dep_delay").map(|delay| scheduled.saturating_add_signed(delay * 60_000));
        assert_eq!(events.get("departed").copied(), departure.map(|at| at / 60_000), "{row:?}");
        assert_eq!(events.contains_key("cancelled"), departure.is_none(), "{row:?}");
        assert_eq!(events.contains_key("landed"), known(&row, "air_time").is_some(), "{row:?}");
        let (Some(arrival), Some(air_time)) = (events.get("landed"), known(&row, "air_time")) else {
            continue;
        };
        let on_the_ground = arrival - events["departed"] - air_time as u64;
        assert!((1..=240).contains(&on_the_ground), "{on_the_ground} minutes of taxiing: {row:?}");
        // Clocks are whole hours from UTC here, so that the minutes must be the same.
        landed += 1;
        other_clock += u32::from(arrival % 60 != known(&row, "arr_time").unwrap() as u64 % 100);
    }
    (landed, other_clock)
}

/// Reads `2013-01-01T10:00:00Z`.
fn minutes_since_1970(text: &str) -> u64 {
    let field = |from: usize, to: usize| text[from..to].parse::<u64>().unwrap();
    let (month, day) = (field(5, 7) as usize, field(8, 10));
    assert_eq!(&text[..4], "2013");
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month - 1];
    // 43 years, 11 of them leap years.
    let days = 43 * 365 + 11 + before + day - 1;
    (days * 24 + field(11, 13)) * 60
}

#[test]
fn wrong_flags_are_refused_in_words() {
    let refused = |flags: &[&str]| {
        let output = program().args(flags).output().unwrap();
        assert!(!output.status.success(), "{flags:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--months", "13"]).contains("6..8 for June to August"));
    assert!(refused(&["--months", "5..2"]).contains("6..8 for June to August"));
    assert!(refused(&["--speed", "0"]).contains("an hour a second, or max"));
    assert!(refused(&["--publish-only", "--consume-only"]).contains("cannot be used with"));
    let folder = tempfile::tempdir().unwrap();
    let topics = format!("file:{}", folder.path().display());
    assert!(refused(&["--consume-only", "--topics", &topics]).contains("there is no topic at"));
    let several = ["--processes", "2", "--hosts", "127.0.0.1:1,127.0.0.1:2", "--topics", &topics];
    assert!(refused(&several).contains("--until-end"));
}
