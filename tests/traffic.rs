//! The traffic example as a user runs it: at every closed time its topics say what a plain pass over the city's topic finds,
//! and what it predicts follows from nothing that has not happened.

#[path = "common/example.rs"]
mod example;
#[path = "common/lines.rs"]
mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use example::example;
use serde_json::Value;

/// In milliseconds, as in the example.
const AHEAD: u64 = 30_000;
/// Predictions of one green that are judged, the last ones.
const OPEN: usize = 8;

fn run(folder: &Path, workers: &str, minutes: &str) -> String {
    let topics = format!("file:{}", folder.display());
    let city =
        ["--intersections", "60", "--minutes", minutes, "--speed", "max", "--seed", "43", "--forecasts"];
    let output =
        example("traffic").args(city).args(["--workers", workers, "--topics", &topics]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn lines(folder: &Path, topic: &str) -> Vec<Value> {
    topic::lines(&folder.join(topic)).into_iter().flatten().collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is a number"))
}

fn by_leg(value: &Value) -> [u64; 4] {
    [0, 1, 2, 3].map(|leg| number(&value[leg]))
}

/// A road between two intersections: its length, and whether it is open.
type Roads = BTreeMap<(u64, u64), (u64, bool)>;

/// What a plain pass finds.
#[derive(Default)]
struct City {
    lights: BTreeMap<u64, Value>,
    queues: BTreeMap<u64, [u64; 4]>,
    congested: BTreeSet<u64>,
    roads: Roads,
    at: u64,
}

impl City {
    fn hear(&mut self, told: &Value) {
        assert!(self.at <= number(&told["at"]), "in the order of the city's clock");
        self.at = number(&told["at"]);
        let (of, news) = (number(&told["intersection"]), &told["news"]);
        if let Some(road) = news.get("road") {
            let is = (number(&road["metres"]), road["open"].as_bool().unwrap());
            self.roads.insert((of, number(&road["to"])), is);
        } else if let Some(light) = news.get("light") {
            self.lights.insert(of, light.clone());
        } else if let Some(counts) = news.get("counts") {
            let (came, left) = (by_leg(&counts["came"]), by_leg(&counts["left"]));
            let queue = self.queues.entry(of).or_default();
            (0..4).for_each(|leg| queue[leg] = queue[leg] + came[leg] - left[leg]);
            let longest = *queue.iter().max().unwrap();
            if longest >= 15 {
                self.congested.insert(of);
            } else if longest < 8 {
                self.congested.remove(&of);
            }
        }
    }

    /// Whether a road is between intersections that are congested.
    fn between(&self, (one, other): &(u64, u64)) -> bool {
        self.congested.contains(one) && self.congested.contains(other)
    }

    /// Congested corridors by a search: the intersections of each, and metres.
    fn corridors(&self) -> Vec<(BTreeSet<u64>, u64)> {
        let links = self.roads.iter().filter(|(ends, (_, open))| *open && self.between(ends));
        let mut found: Vec<(BTreeSet<u64>, u64)> = Vec::new();
        for ((one, other), (metres, _)) in links {
            let (with, apart): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|(of, _)| of.contains(one) || of.contains(other));
            found = apart;
            let mut all = (BTreeSet::from([*one, *other]), *metres);
            for (of, metres) in with {
                all.0.extend(of);
                all.1 += metres;
            }
            found.push(all);
        }
        found
    }
}

/// A topic of changes, time by time.
struct Topic {
    by_time: BTreeMap<u64, Vec<Value>>,
    now: BTreeMap<u64, Value>,
    changes: usize,
}

impl Topic {
    fn new(folder: &Path, name: &str) -> Self {
        let mut by_time: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
        for line in lines(folder, name) {
            by_time.entry(number(&line["time"])).or_default().push(line);
        }
        Topic { by_time, now: BTreeMap::new(), changes: 0 }
    }
    /// Nothing is told that was known, and nothing is left out.
    fn go_to(&mut self, time: u64) {
        for line in self.by_time.remove(&time).unwrap_or_default() {
            let (key, before, after) = (number(&line["key"]), &line["before"], &line["after"]);
            assert_ne!(before, after, "only what changed: {line}");
            let known = match after.is_null() {
                true => self.now.remove(&key),
                false => self.now.insert(key, after.clone()),
            };
            assert_eq!(known.as_ref().unwrap_or(&Value::Null), before, "chains are unbroken: {line}");
            self.changes += 1;
        }
    }
}

/// Compares all topics with a plain pass at every closed time; returns how many there were.
fn agrees_at_every_time(folder: &Path) -> usize {
    let told = lines(folder, "city");
    let (mut city, mut heard) = (City::default(), 0);
    let [mut predictions, mut queues, mut corridors] =
        ["predictions", "queues", "corridors"].map(|name| Topic::new(folder, name));
    let progress = lines(folder, "progress");
    let (mut most, mut parted) = (0, 0);
    for line in &progress {
        let time = number(&line["time"]);
        let events = number(&line["value"]["events"]) as usize;
        told[heard..events].iter().for_each(|told| city.hear(told));
        heard = events;
        assert_eq!(number(&line["value"]["at"]), city.at);
        for topic in [&mut predictions, &mut queues, &mut corridors] {
            topic.go_to(time);
        }
        let lights: BTreeMap<_, _> =
            predictions.now.iter().map(|(of, change)| (*of, change["light"].clone())).collect();
        assert_eq!(lights, city.lights, "at {time}");
        let waiting: BTreeMap<_, _> =
            queues.now.iter().map(|(of, queues)| (*of, by_leg(&queues["waiting"]))).collect();
        let expected: BTreeMap<_, _> =
            city.queues.iter().map(|(of, queue)| (*of, queue.map(|cars| cars / 5 * 5))).collect();
        assert_eq!(waiting, expected, "at {time}");
        let expected = city.corridors();
        assert_eq!(corridors.now.len(), expected.len(), "at {time}: {expected:?}");
        for (name, corridor) in &corridors.now {
            let (of, metres) = expected.iter().find(|(of, _)| of.contains(name)).unwrap();
            assert_eq!(number(&corridor["intersections"]), of.len() as u64, "at {time}");
            assert_eq!(number(&corridor["metres"]), *metres, "at {time}");
        }
        most = most.max(expected.len());
        parted += usize::from(city.roads.iter().any(|(ends, (_, open))| !open && city.between(ends)));
    }
    assert_eq!(heard, told.len(), "everything was heard");
    for topic in [&predictions, &queues, &corridors] {
        assert!(topic.by_time.is_empty(), "nothing comes but with what was heard");
        assert!(topic.changes > 0, "there is something to see");
    }
    assert!(most > 1 && parted > 0, "there are several corridors, and a closed road parts some");
    // Every report is news, and yet many do not change what is shown of queues.
    let reports = told.iter().filter(|told| told["news"].get("counts").is_some()).count();
    assert!(queues.changes < reports * 2 / 3, "{} of {reports}", queues.changes);
    progress.len()
}

/// The mean absolute errors by what and who, from the predictions as they were made and what happened then.
fn errors(folder: &Path) -> BTreeMap<(String, String), (u64, f64)> {
    let told = lines(folder, "city");
    let mut city = City::default();
    let mut queues: BTreeMap<(u64, u64), [u64; 4]> = BTreeMap::new();
    let mut ends: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for told in &told {
        city.hear(told);
        let (of, at) = (number(&told["intersection"]), number(&told["at"]));
        if told["news"].get("counts").is_some() {
            queues.insert((of, at), city.queues[&of]);
        }
        if told["news"]["light"].get("yellow").is_some() {
            ends.entry(of).or_default().insert(at);
        }
    }
    let mut outcomes: BTreeMap<(String, String), (u64, f64)> = BTreeMap::new();
    let mut judge = |forecast: &Value, actual: f64| {
        for who in ["alone", "neighbours", "last", "mean"] {
            if let Some(says) = forecast[who].as_f64() {
                let what = forecast["what"].as_str().unwrap().to_owned();
                let (count, sum) = outcomes.entry((what, who.to_owned())).or_default();
                (*count, *sum) = (*count + 1, *sum + (says - actual).abs());
            }
        }
    };
    // By intersection and end: only the last ones of each green.
    let mut greens: BTreeMap<(u64, u64), Vec<Value>> = BTreeMap::new();
    for forecast in lines(folder, "forecasts") {
        let (of, made) = (number(&forecast["intersection"]), number(&forecast["made"]));
        if forecast["what"] == "green" {
            if let Some(end) = ends.get(&of).and_then(|ends| ends.range(made + 1..).next()) {
                greens.entry((of, *end)).or_default().push(forecast);
            }
            continue;
        }
        let leg = number(&forecast["leg"]) as usize;
        assert_eq!(forecast["last"].as_f64(), Some(queues[&(of, made)][leg] as f64), "{forecast}");
        let before: Vec<u64> = queues.range((of, 0)..=(of, made)).map(|(_, queue)| queue[leg]).collect();
        let mean = before.iter().sum::<u64>() as f64 / before.len() as f64;
        assert!((forecast["mean"].as_f64().unwrap() - mean).abs() < 1e-9, "{forecast}");
        if let Some(actual) = queues.get(&(of, made + AHEAD)) {
            judge(&forecast, actual[leg] as f64);
        }
    }
    for ((_, end), forecasts) in &greens {
        for forecast in &forecasts[forecasts.len().saturating_sub(OPEN)..] {
            judge(forecast, (end - number(&forecast["made"])) as f64 / 1_000.0);
        }
    }
    outcomes.into_iter().map(|(of, (count, sum))| (of, (count, sum / count as f64))).collect()
}

/// What the scoreboard says in the end.
fn scores(folder: &Path) -> BTreeMap<(String, String), (u64, f64)> {
    let name = |value: &Value| value.as_str().unwrap().to_owned();
    let score = |value: &Value| (number(&value["count"]), value["mean_absolute"].as_f64().unwrap());
    let lines = lines(folder, "scores");
    lines.iter().map(|line| ((name(&line["key"][0]), name(&line["key"][1])), score(&line["value"]))).collect()
}

fn sorted(folder: &Path, topic: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines(folder, topic).iter().map(Value::to_string).collect();
    lines.sort();
    lines
}

/// What each key is in the end.
fn in_the_end(folder: &Path, topic: &str) -> BTreeMap<u64, Value> {
    let lines = lines(folder, topic).into_iter();
    let mut last: BTreeMap<_, _> = lines.map(|line| (number(&line["key"]), line["after"].clone())).collect();
    last.retain(|_, after| !after.is_null());
    last
}

#[test]
fn what_is_said_of_a_city_was_so_at_every_time_and_on_any_number_of_workers() {
    let [one, three, shorter] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [one, three, shorter] = [one.path(), three.path(), shorter.path()];
    let said = std::thread::scope(|scope| {
        for (folder, workers, minutes) in [(three, "3", "7"), (shorter, "2", "4")] {
            scope.spawn(move || run(folder, workers, minutes));
        }
        run(one, "1", "7")
    });
    assert!(agrees_at_every_time(one) > 20);
    assert!(agrees_at_every_time(three) > 20);

    let (scores, errors) = (scores(one), errors(one));
    assert_eq!(scores.len(), 7, "{said}");
    for (of, (count, error)) in &scores {
        let (expected, mean) = errors[of];
        assert_eq!(*count, expected, "{of:?}");
        assert!((error - mean).abs() < 1e-6, "{of:?}: {error}, {mean}");
    }
    assert_eq!(scores, self::scores(three), "to the bit");

    let forecasts = sorted(one, "forecasts");
    assert!(forecasts == sorted(three, "forecasts"), "the same is predicted");
    for topic in ["predictions", "queues", "corridors"] {
        assert_eq!(in_the_end(one, topic), in_the_end(three, topic), "{topic}");
    }
    // Who knows nothing of the last three minutes predicts the same before them.
    let end = lines(shorter, "city").iter().map(|told| number(&told["at"])).max().unwrap();
    let made = |line: &Value| number(&line["made"]) <= end;
    let mut until: Vec<String> =
        lines(one, "forecasts").iter().filter(|line| made(line)).map(Value::to_string).collect();
    until.sort();
    assert!(
        until == sorted(shorter, "forecasts") && until.len() < forecasts.len(),
        "nothing is known beforehand"
    );
}
