//! The trends example as a user runs it: at every time, each list is what counting the posts that were read until then gives.

#[path = "common/example.rs"]
mod example;
#[path = "common/lines.rs"]
mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use example::example;
use lines::lines;
use serde_json::Value;

const MINUTE: u64 = 60_000;
const WINDOW: u64 = 5 * MINUTE;
const LATE: u64 = 5 * MINUTE;
const SHOWN: u64 = 60 * MINUTE;
const HOUR: u64 = 60 * MINUTE;
const KEPT: u64 = SHOWN + HOUR + 2 * WINDOW;
const BEHIND: u64 = 10_000;
const SILENCE: u64 = 60 * MINUTE;

type Changes = BTreeMap<u64, Vec<(u64, Value)>>;

/// The messages of a topic whose keys are numbers, by time.
fn by_time(topic: &Path) -> Changes {
    let numbered = |(key, value): (Value, Value)| (key.as_u64().unwrap(), value);
    let all = lines::by_time(topic).into_iter();
    all.map(|(time, changes)| (time, changes.into_iter().map(numbered).collect())).collect()
}

/// What a topic says at some time.
#[derive(Default)]
struct Now(BTreeMap<u64, Value>);

impl Now {
    fn apply(&mut self, changes: Option<Vec<(u64, Value)>>) {
        for (key, value) in changes.into_iter().flatten() {
            if value.is_null() {
                assert!(self.0.remove(&key).is_some(), "{key} leaves, and was not there");
            } else {
                assert_ne!(
                    self.0.insert(key, value.clone()).as_ref(),
                    Some(&value),
                    "only what changes leaves"
                );
            }
        }
    }
}

/// The counts of windows of one kind.
#[derive(Default)]
struct Counts(BTreeMap<u64, BTreeMap<String, u64>>);

impl Counts {
    /// Counts a post in those of its windows that the watermark leaves open; whether there was one.
    fn count(&mut self, at: u64, every: u64, watermark: u64, terms: &BTreeSet<&str>) -> Vec<u64> {
        let last = at - at % every;
        let starts = (0..WINDOW / every).map(|number| last - number * every);
        let open: Vec<u64> = starts.filter(|start| start + WINDOW + LATE > watermark).collect();
        for start in &open {
            let window = self.0.entry(*start).or_default();
            terms.iter().for_each(|term| *window.entry((*term).to_owned()).or_default() += 1);
        }
        open
    }
    fn leave(&mut self, keep: u64, watermark: u64) -> Vec<u64> {
        let gone: Vec<u64> =
            self.0.keys().copied().filter(|start| start + WINDOW + LATE + keep <= watermark).collect();
        gone.iter().for_each(|start| drop(self.0.remove(start)));
        gone
    }
    /// The so many most used terms.
    fn most(&self, window: u64, many: usize) -> Vec<(u64, String)> {
        let of_window = self.0.get(&window).into_iter().flatten();
        let mut terms: Vec<(u64, String)> = of_window.map(|(term, times)| (*times, term.clone())).collect();
        terms.sort_by(|one, other| other.cmp(one));
        terms.truncate(many);
        terms
    }
}

/// By how many tenths something rises, how often it is used, how often it was before, and what it is.
type Rise = (u64, u64, u64, String);

/// What rises, by counting.
fn rises(sliding: &Counts, fives: &Counts, window: u64) -> Vec<Rise> {
    let until = window - window % WINDOW;
    let mut rising = Vec::new();
    for (times, term) in sliding.most(window, 50) {
        let hour = (until - HOUR..until).step_by(WINDOW as usize);
        let before: u64 = hour.filter_map(|five| fives.0.get(&five)?.get(&term)).sum();
        let by = times as f64 / (before as f64 / 12.0).max(1.0);
        if by >= 2.0 {
            rising.push(((by * 10.0).round() as u64, times, before, term));
        }
    }
    rising.sort_by(|one, other| other.cmp(one));
    rising.truncate(10);
    rising
}

fn listed(list: Option<&Value>) -> Vec<(u64, String)> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.map(|used| (used["times"].as_u64().unwrap(), used["term"].as_str().unwrap().to_owned())).collect()
}

fn said_to_rise(list: Option<&Value>) -> Vec<Rise> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    let number = |of: &Value, name: &str| of[name].as_u64().unwrap();
    let tenths = |of: &Value| (of["by"].as_f64().unwrap() * 10.0).round() as u64;
    list.map(|of| {
        (tenths(of), number(of, "times"), number(of, "before"), of["term"].as_str().unwrap().to_owned())
    })
    .collect()
}

/// What a run has left.
struct Run {
    said: String,
    /// What is said in the end of each window: what is used most, and what rises.
    last: BTreeMap<u64, (Vec<(u64, String)>, Vec<Rise>)>,
    too_late: usize,
}

/// Runs the example, and looks at every time.
fn every_list_is_counted(flags: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let topics = format!("file:{}", folder.path().display());
    let mut command = example("trends");
    command.args(flags.split_whitespace()).args(["--topics", &topics, "--partitions", "2"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let topic = |name: &str| by_time(&folder.path().join(name));

    let posts = lines(&folder.path().join("posts"));
    assert_eq!(
        posts.iter().filter(|posts| !posts.is_empty()).count(),
        4,
        "there are posts in all partitions"
    );
    let (mut read, mut top, mut rising) = (topic("read"), topic("top"), topic("rising"));
    let mut totals = topic("posts-in-window");
    let times: BTreeSet<u64> =
        [&read, &top, &rising, &totals].into_iter().flat_map(BTreeMap::keys).copied().collect();
    let (mut top_now, mut rising_now, mut totals_now) = (Now::default(), Now::default(), Now::default());
    let mut run = Run { said: String::from_utf8(output.stdout).unwrap(), last: BTreeMap::new(), too_late: 0 };

    // How many posts of each partition were read, the latest of them, and when.
    let mut at = [(0_usize, 0_u64, 0_u64); 4];
    let (mut watermark, mut first) = (0, u64::MAX);
    let (mut sliding, mut fives) = (Counts::default(), Counts::default());
    let mut in_window: BTreeMap<u64, u64> = BTreeMap::new();
    let mut too_late = Vec::new();
    for time in times {
        // The posts that were read at this time, judged by the watermark that was.
        let (mut changed, mut changed_before) = (BTreeSet::new(), BTreeSet::new());
        for (partition, value) in read.remove(&time).into_iter().flatten() {
            let (from, latest, when) = &mut at[partition as usize];
            let until = value["posts"].as_u64().unwrap() as usize;
            for post in &posts[partition as usize][*from..until] {
                let written = post["at"].as_u64().unwrap();
                let terms: BTreeSet<&str> = post["text"].as_str().unwrap().split(' ').collect();
                let open = sliding.count(written, MINUTE, watermark, &terms);
                open.iter().for_each(|window| *in_window.entry(*window).or_default() += 1);
                if open.is_empty() {
                    too_late.push(post["id"].as_u64().unwrap());
                }
                changed.extend(open);
                changed_before.extend(fives.count(written, WINDOW, watermark, &terms));
                *latest = written.max(*latest);
                first = written.min(first);
            }
            (*from, *when) = (until, time);
        }
        // How far they have come.
        if at.iter().all(|(read, ..)| *read > 0) {
            let active = at.iter().filter(|(_, _, when)| when + SILENCE > time);
            let behind = active.map(|(_, latest, _)| latest.saturating_sub(BEHIND) / MINUTE * MINUTE).min();
            let latest = at.iter().map(|(_, latest, _)| *latest).max().unwrap();
            watermark = watermark.max(behind.unwrap_or((latest / MINUTE + 1) * MINUTE));
        }
        for gone in sliding.leave(SHOWN, watermark) {
            in_window.remove(&gone);
            changed.insert(gone);
        }
        fives.leave(KEPT, watermark);

        top_now.apply(top.remove(&time));
        rising_now.apply(rising.remove(&time));
        totals_now.apply(totals.remove(&time));
        let known: BTreeMap<u64, u64> =
            totals_now.0.iter().map(|(window, posts)| (*window, posts.as_u64().unwrap())).collect();
        assert_eq!(known, in_window, "posts in windows at {time}");
        let hours = changed_before.iter().map(|five| five + WINDOW..five + WINDOW + HOUR);
        let after = hours.flat_map(|hour| hour.step_by(MINUTE as usize));
        changed.extend(after.filter(|window| sliding.0.contains_key(window)));
        for window in changed {
            let top = listed(top_now.0.get(&window));
            assert_eq!(top, sliding.most(window, 10), "{window} at {time}");
            let known = window >= first.saturating_add(HOUR + WINDOW);
            let expected = if known { rises(&sliding, &fives, window) } else { Vec::new() };
            assert_eq!(said_to_rise(rising_now.0.get(&window)), expected, "{window} rises at {time}");
            run.last.insert(window, (top, expected));
        }
    }
    run.last.retain(|window, _| sliding.0.contains_key(window));
    assert_eq!(top_now.0.len(), sliding.0.len(), "there is a list of each window");
    for (partition, posts) in posts.iter().enumerate() {
        assert_eq!(at[partition].0, posts.len(), "all posts are read");
    }
    let letters = lines(&folder.path().join("posts-too-late")).into_iter().flatten();
    let mut letters: Vec<u64> = letters.map(|post| post["id"].as_u64().unwrap()).collect();
    letters.sort_unstable();
    too_late.sort_unstable();
    assert_eq!(letters, too_late, "what is too late for all windows is told of once");
    run.too_late = too_late.len();
    run
}

#[test]
fn every_list_is_what_counting_gives_on_any_number_of_workers() {
    let flags = "--minutes 80 --posts 15 --too-late 0 --workers";
    let one = every_list_is_counted(&format!("{flags} 1"));
    let three = every_list_is_counted(&format!("{flags} 3"));
    for (window, of_one) in &one.last {
        assert_eq!(of_one, &three.last[window], "{window} in the end");
    }
    assert_eq!((one.last.len(), one.too_late + three.too_late), (three.last.len(), 0));
    let rising = one.last.values().flat_map(|(_, rising)| rising);
    let rising: BTreeSet<&str> = rising.map(|(.., term)| term.as_str()).collect();
    assert!(rising.contains("#blackout") && rising.contains("#penalty"), "{}", one.said);
}

#[test]
fn posts_that_are_too_late_are_told_of_and_not_counted() {
    // How many are depends on how far the watermark is seen to have come when they are read: on a slow machine, perhaps none.
    let late = |seed| {
        let flags = format!("--minutes 45 --posts 15 --too-late 50 --rate 1500 --workers 2 --seed {seed}");
        every_list_is_counted(&flags).too_late
    };
    assert!((1..6).any(|seed| late(seed) > 0), "some are too late");
}
