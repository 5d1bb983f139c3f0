//! The flights example with `--predict`: nothing is known before it has happened, and everything is that a naive pass over the
//! log says.

#[path = "common/example.rs"]
mod example;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use example::example;
use nekton::operators::learn::{Learner, Model, Network, Says, Scaled, Squeezed};
use serde::Deserialize;
use serde_json::Value;

fn program() -> Command {
    example("flights")
}

fn run(folder: &Path, flags: &[&str]) -> String {
    let topics = format!("file:{}", folder.display());
    let output = program().arg("--predict").args(flags).args(["--topics", &topics]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{flags:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The first lines of February's log.
fn log() -> &'static [Value] {
    static LOG: OnceLock<Vec<Value>> = OnceLock::new();
    LOG.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &["--publish-only", "--speed", "max", "--months", "2..2"]);
        let text = std::fs::read_to_string(folder.path().join("log/0.jsonl")).unwrap();
        text.lines().take(LINES).map(|line| serde_json::from_str(line).unwrap()).collect()
    })
}

/// About four days.
const LINES: usize = 12_000;

/// What the program makes of a log: the messages of its topics.
struct Predicted(tempfile::TempDir);

impl Predicted {
    fn of(log: &[Value], workers: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("log")).unwrap();
        let text: String = log.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(folder.path().join("log/0.jsonl"), text).unwrap();
        let flags =
            ["--consume-only", "--until-end", "--examples", "--checkpoints", "none", "--workers", workers];
        run(folder.path(), &flags);
        Predicted(folder)
    }
    fn topic(&self, topic: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.path().join(topic).join("0.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
    /// What was predicted before `at`, by flight.
    fn before(&self, at: u64) -> BTreeMap<String, Value> {
        let made = self.topic("predictions").into_iter().filter(|made| number(&made["at"]) < at);
        let named = |made: &Value| {
            let Leg { flight, origin, scheduled, .. } = Leg::deserialize(made).unwrap();
            format!("{flight} {origin} {scheduled}")
        };
        made.map(|made| (named(&made), made)).collect()
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// A log in which everything is other from `at` on: who knows of it knows what has not happened.
fn altered(log: &[Value], at: u64) -> Vec<Value> {
    let mut log = log.to_vec();
    for line in log.iter_mut().filter(|line| number(&line["at"]) >= at) {
        let (kind, news) = line["news"].as_object_mut().unwrap().iter_mut().next().unwrap();
        match kind.as_str() {
            "departed" | "landed" => news[1] = Value::from(news[1].as_i64().unwrap() + 240),
            "weather" => news["wind_speed"] = Value::from(99.0),
            "asked" => news["dest"] = Value::from("XXX"),
            _ => news["carrier"] = Value::from("XX"),
        }
    }
    log
}

#[test]
fn what_happens_after_a_prediction_does_not_change_it() {
    let log = log();
    let truth = Predicted::of(log, "1");
    let all = truth.before(u64::MAX);
    for share in [3, 7] {
        let at = number(&log[log.len() * share / 8]["at"]);
        let other = Predicted::of(&altered(log, at), "2");
        let (before, expected) = (other.before(at), truth.before(at));
        assert!(expected.len() > 500 && expected.len() < all.len());
        assert_eq!(before, expected, "before {at}");
        // That it could have been seen: what comes after is predicted otherwise.
        let after = other.before(u64::MAX);
        let others =
            all.iter().filter(|(flight, made)| after.get(*flight).is_some_and(|other| other != *made));
        assert!(others.count() > 100, "after {at}");
    }
}

/// A flight as the log has it; of weather, only where.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Leg {
    flight: String,
    carrier: String,
    tail: Option<String>,
    origin: String,
    dest: String,
    scheduled: u64,
    due: u64,
}

impl Leg {
    fn id(&self) -> (u64, &str, &str) {
        (self.scheduled, &self.flight, &self.origin)
    }
}

/// A line of the log, as a naive pass looks at it.
struct Line {
    at: u64,
    kind: String,
    leg: Leg,
    delay: f64,
    news: Value,
}

impl Line {
    fn of(line: &Value) -> Self {
        let (kind, news) = line["news"].as_object().unwrap().iter().next().unwrap();
        let (leg, delay) = match news {
            Value::Array(both) => (&both[0], both[1].as_f64().unwrap()),
            leg => (leg, 0.0),
        };
        let leg = Leg::deserialize(leg).unwrap();
        Line { at: number(&line["at"]), kind: kind.clone(), leg, delay, news: news.clone() }
    }
    fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }
}

const MINUTE: f64 = 60_000.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// The hour of the day in New York, in winter.
fn hour(at: u64) -> u64 {
    (at - 5 * 3_600_000) % 86_400_000 / 3_600_000
}

/// The mean delay of these departures at `now`, half as much with each half-life, beside `worth` of `otherwise`.
fn fading<'a>(
    lines: impl Iterator<Item = &'a Line>,
    now: u64,
    half_life: f64,
    otherwise: f64,
    worth: f64,
) -> f64 {
    let (mut sum, mut weight) = (otherwise * worth, worth);
    for line in lines {
        let counts = 0.5_f64.powf((now - line.at) as f64 / half_life);
        sum += counts * line.delay.clamp(-20.0, 180.0);
        weight += counts;
    }
    sum / weight
}

/// What is known when a flight is asked for, from all lines before, by the words of the page.
fn naive(past: &[Line], at: u64, leg: &Leg) -> Vec<(usize, f64)> {
    let here: Vec<&Line> = past.iter().filter(|line| line.leg.origin == leg.origin).collect();
    let departed = || here.iter().copied().filter(|line| line.is("departed"));
    let scheduled = leg.scheduled;
    let minutes = |to: f64, from: f64| (to - from) / MINUTE;
    let mut features = Vec::new();

    // The plane: the flight on which it left New York before, and what became of that.
    let before = past.iter().filter(|line| line.is("scheduled") && line.leg.tail == leg.tail);
    let before =
        before.filter(|line| (1..DAY as u64).contains(&scheduled.saturating_sub(line.leg.scheduled)));
    match before.max_by_key(|line| line.leg.scheduled).filter(|_| leg.tail.is_some()) {
        None => features.extend([(7, 1.0), (12, 0.0), (15, 0.0)]),
        Some(before) => {
            let news =
                |kind: &str| past.iter().find(|line| line.leg.id() == before.leg.id() && line.is(kind));
            let (from, due) = (before.leg.scheduled as f64, before.leg.due as f64);
            let (now, duration) = (at as f64, due - from);
            let lands = match (news("departed"), news("landed"), news("cancelled")) {
                (_, Some(landed), _) => Some(due + landed.delay * MINUTE),
                (Some(departed), ..) => Some((due + (departed.delay - 10.0) * MINUTE).max(now)),
                (_, _, Some(_)) => None,
                _ if now > from => Some(due.max(now + duration)),
                _ => Some(due),
            };
            let slack =
                lands.map_or(0.0, |lands| minutes(scheduled as f64, lands + duration + 60.0 * MINUTE));
            let late = match (news("departed"), news("cancelled")) {
                (Some(departed), _) => departed.delay,
                (None, Some(_)) => 0.0,
                (None, None) => minutes(now, from).max(0.0),
            };
            let status = [news("departed"), news("landed"), news("cancelled")].map(|news| news.is_some());
            let [departed, landed, cancelled] = status;
            features.extend([
                (7, 0.0),
                (8, f64::from(!departed && !cancelled)),
                (9, f64::from(departed && !landed)),
                (10, f64::from(landed)),
                (11, f64::from(cancelled)),
                (12, minutes(scheduled as f64, from)),
                (14, late),
                (15, slack),
            ]);
        }
    }

    // The airport.
    let hours = fading(departed(), at, 4.0 * HOUR, 8.0, 3.0);
    let carrier = || departed().filter(|line| line.leg.carrier == leg.carrier);
    let dest = || departed().filter(|line| line.leg.dest == leg.dest);
    let flight = || departed().filter(|line| line.leg.flight == leg.flight);
    let of_hour = |line: &&Line| hour(line.leg.scheduled) == hour(scheduled);
    let of_carrier = fading(carrier().filter(of_hour), at, 28.0 * DAY, 8.0, 5.0);
    features.extend([
        (18, fading(departed(), at, HOUR, 8.0, 3.0)),
        (19, hours),
        (20, departed().map(|line| 0.5_f64.powf((at - line.at) as f64 / HOUR)).sum()),
        (29, fading(carrier(), at, 3.0 * HOUR, hours, 2.0)),
        (30, fading(carrier(), at, 7.0 * DAY, 8.0, 5.0)),
        (31, fading(dest(), at, 4.0 * HOUR, hours, 2.0)),
        (32, fading(dest(), at, 14.0 * DAY, 8.0, 5.0)),
        (33, fading(departed().filter(of_hour), at, 21.0 * DAY, 8.0, 5.0)),
        (34, of_carrier),
        (35, fading(flight(), at, 14.0 * DAY, of_carrier, 3.0)),
    ]);
    let gone = here.iter().filter(|line| line.is("departed") || line.is("cancelled"));
    let gone: BTreeSet<_> = gone.map(|line| line.leg.id()).collect();
    let asked = here.iter().filter(|line| line.is("asked"));
    let waiting: Vec<_> = asked.filter(|line| !gone.contains(&line.leg.id())).collect();
    let age = |line: &&Line| minutes(at as f64, line.leg.scheduled as f64);
    let overdue: Vec<f64> =
        waiting.iter().map(|line| age(line)).filter(|age| (15.0..480.0).contains(age)).collect();
    features.extend([
        (21, overdue.len() as f64),
        (22, if overdue.is_empty() { 0.0 } else { overdue.iter().sum::<f64>() / overdue.len() as f64 }),
        (25, waiting.iter().filter(|line| age(line) >= 0.0).count() as f64),
    ]);
    let slot = |at: u64| (at / 900_000) as i64;
    let planned = |from: i64, to: i64| {
        let fits = |line: &&&Line| (from..to).contains(&(slot(line.leg.scheduled) - slot(scheduled)));
        here.iter().filter(|line| line.is("scheduled")).filter(fits).count() as f64
    };
    features.extend([(26, planned(-2, 2)), (27, planned(-8, 0))]);
    let cancelled = here.iter().filter(|line| line.is("cancelled"));
    features.push((28, cancelled.map(|line| 0.5_f64.powf((at - line.at) as f64 / (4.0 * HOUR))).sum()));

    // The weather, as of the hour.
    let weather = here.iter().rfind(|line| line.is("weather")).filter(|line| at - line.at < 6 * 3_600_000);
    let weather =
        |field: &str, otherwise: f64| weather.and_then(|line| line.news[field].as_f64()).unwrap_or(otherwise);
    features.extend([
        (36, weather("temp", 55.0)),
        (40, weather("precip", 0.0)),
        (42, weather("visib", 10.0)),
    ]);
    features
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + a.abs().max(b.abs()))
}

#[test]
fn models_see_what_a_naive_pass_over_the_past_says() {
    let predicted = Predicted::of(log(), "2");
    let lines: Vec<Line> = log().iter().map(Line::of).collect();
    let examples = predicted.topic("examples");
    let asked = lines.iter().filter(|line| line.is("asked")).count();
    assert_eq!(examples.len(), asked, "each flight is asked for once");
    let mut with_plane = 0;
    for example in examples.iter().step_by(61) {
        let past = &lines[..number(&example["number"]) as usize];
        let leg = Leg::deserialize(&example["leg"]).unwrap();
        for (feature, expected) in naive(past, number(&example["at"]), &leg) {
            let got = example["features"][feature].as_f64().unwrap();
            assert!(close(got, expected), "feature {feature}: {got}, not {expected}, of {example}");
            with_plane += u32::from(feature == 8);
        }
        let here = past.iter().filter(|line| line.is("departed") && line.leg.origin == leg.origin);
        let mut delays: Vec<f64> = here.map(|line| line.delay).collect();
        delays.sort_by(f64::total_cmp);
        if !delays.is_empty() {
            let mean = delays.iter().sum::<f64>() / delays.len() as f64;
            assert!(close(example["baselines"]["airport_mean"].as_f64().unwrap(), mean), "{example}");
            assert_eq!(example["baselines"]["airport_median"], delays[(delays.len() - 1) / 2], "{example}");
        }
    }
    assert!(with_plane > 20, "some planes have flown before");
}

const FEATURES: usize = 62;

#[test]
fn predictions_are_those_of_a_plain_loop_over_the_log_and_the_scoreboard_has_their_errors() {
    let predicted = Predicted::of(log(), "3");
    let mut examples: BTreeMap<u64, [f64; FEATURES]> = BTreeMap::new();
    for example in predicted.topic("examples") {
        let features =
            example["features"].as_array().unwrap().iter().map(|feature| feature.as_f64().unwrap());
        let features: Vec<f64> = features.collect();
        examples.insert(number(&example["number"]), features.try_into().unwrap());
    }
    let network = Network::new(&[16], Says::Median, 7).slowing_after(5_000.0);
    let mut learner = Learner::new(Scaled::new(Squeezed::new(network, 10.0)), 4_096);
    let (mut said, mut errors) = (BTreeMap::new(), Vec::new());
    for (place, line) in log().iter().map(Line::of).enumerate() {
        let id = format!("{} {} {}", line.leg.flight, line.leg.origin, line.leg.scheduled);
        match line.kind.as_str() {
            "asked" => {
                let delay = learner.predict(id.clone(), examples[&(place as u64)]).unwrap();
                said.insert(id, delay);
            }
            "departed" => {
                errors.extend(learner.happened(&id, line.delay).map(|outcome| outcome.error().abs()))
            }
            "cancelled" => drop(learner.withdraw(&id)),
            _ => {}
        }
    }
    assert!(learner.model().predict(&[0.0; FEATURES]).is_finite());
    let made = predicted.before(u64::MAX).into_iter();
    let made: BTreeMap<String, f64> = made.map(|(id, made)| (id, made["delay"].as_f64().unwrap())).collect();
    assert!(made.keys().eq(said.keys()), "what is asked is answered");
    for (id, delay) in &said {
        // The features were read from JSON here, which may cost their last bit.
        assert!(close(made[id], *delay), "{id}: {} in the topic, {delay} in the loop", made[id]);
    }

    let mut scores = BTreeMap::new();
    for change in predicted.topic("models") {
        if change["key"][0] == "all" {
            scores.insert(change["key"][1].as_str().unwrap().to_owned(), change["value"].clone());
        }
    }
    let score = |who: &str| scores[who]["mean_absolute"].as_f64().unwrap();
    assert_eq!(number(&scores["network"]["count"]) as usize, errors.len());
    assert!(close(score("network"), errors.iter().sum::<f64>() / errors.len() as f64));
    // After a few days it is better already.
    for other in ["airport-mean", "hour-mean"] {
        assert!(score("network") < score(other), "{scores:?}");
    }
}
