//! The bridge example as a user runs it, against a plain pass that solves for all days anew, and at every time.

#[path = "common/example.rs"]
mod example;
#[path = "common/lines.rs"]
mod lines;

use std::collections::BTreeMap;

use example::example;
use lines::{by_time, lines};
use serde_json::{Value, json};

const DAY: u64 = 86_400_000;
const FIRST: usize = 56;
/// Sensors of a span.
const SPAN: u64 = 3;

fn number(of: &Value, name: &str) -> f64 {
    of[name].as_f64().unwrap_or_else(|| panic!("{name} of {of}"))
}

/// A strain, and what it may depend on.
type Moment = [f64; 4];

fn mean(moments: &[Moment]) -> Moment {
    std::array::from_fn(|at| moments.iter().map(|moment| moment[at]).sum::<f64>() / moments.len() as f64)
}

/// What a strain is without what the features explain.
fn corrected(moment: &Moment, from: &Moment, weights: &[f64; 3]) -> f64 {
    moment[0] - from[0] - (1..4).map(|at| weights[at - 1] * (moment[at] - from[at])).sum::<f64>()
}

/// The weights with the least squares: Gaussian elimination of the normal equations.
fn solve(mut rows: [[f64; 4]; 3]) -> [f64; 3] {
    for pivot in 0..3 {
        let row = rows[pivot].map(|value| value / rows[pivot][pivot]);
        for other in &mut rows {
            let factor = other[pivot];
            other.iter_mut().zip(row).for_each(|(value, of_pivot)| *value -= factor * of_pivot);
        }
        rows[pivot] = row;
    }
    rows.map(|row| row[3])
}

/// The sums of a test, and whether there is an alarm.
#[derive(Clone, Copy, Default)]
struct Test {
    sums: [f64; 2],
    alarm: bool,
}

impl Test {
    /// Another day, so far off, of which so much is explained; whether there is an alarm, if that is new.
    fn day(&mut self, shift: f64, explained: f64, deviation: f64) -> Option<bool> {
        for (sum, shift) in self.sums.iter_mut().zip([shift, -shift]) {
            *sum = (*sum + (shift - explained) / deviation - 1.0).clamp(0.0, 16.0);
        }
        let above = if self.alarm { 0.0 } else { 8.0 };
        let alarm = self.sums.iter().any(|sum| *sum > above);
        (std::mem::replace(&mut self.alarm, alarm) != alarm).then_some(alarm)
    }
}

/// What is known of a sensor after a day.
#[derive(Clone, Copy)]
struct Known {
    day: u64,
    knows: bool,
    since: Option<u64>,
    shift: f64,
    a_degree: f64,
}

/// What is known of a sensor after each day, and its alarms: (sensor, day, by, raised).
fn plain_pass(
    sensor: u64,
    readings: &BTreeMap<u64, Value>,
    weather: &BTreeMap<u64, Value>,
) -> (Vec<Known>, Vec<Value>) {
    let (mut sum, mut weight, mut last) = (0.0, 0.0, 0);
    let mut days: BTreeMap<u64, Vec<Moment>> = BTreeMap::new();
    for (at, reading) in readings {
        let today = days.entry(at / DAY).or_default();
        let Some((_, sky)) = weather.range(..=at).next_back() else { continue };
        let left = 2.0_f64.powf(-((at - last) as f64) / 2_520_000.0);
        (sum, weight, last) = (sum * left + number(sky, "sun") / 100.0, weight * left + 1.0, *at);
        if number(reading, "shaking") <= 6.0 {
            let wind = number(sky, "wind");
            today.push([
                number(reading, "strain"),
                number(reading, "celsius"),
                sum / weight,
                wind * wind / 25.0,
            ]);
        }
    }
    // The last day is not over.
    days.pop_last();
    days.retain(|_, moments| moments.len() >= 12);

    let mut equations = [[1e-6, 0.0, 0.0, 0.0], [0.0, 1e-6, 0.0, 0.0], [0.0, 0.0, 1e-6, 0.0]];
    let (mut first, mut usual) = (Vec::<Moment>::new(), None::<(Moment, [f64; 3])>);
    let mut tests = [Test::default(); 3];
    let (mut rest, mut count) = (0.0, 0.0);
    let (mut known, mut alarms) = (Vec::<Known>::new(), Vec::new());
    for (day, moments) in days {
        let of_day = mean(&moments);
        for moment in &moments {
            let difference: Moment = std::array::from_fn(|at| moment[at] - of_day[at]);
            for row in 0..3 {
                for column in 0..4 {
                    equations[row][column] += difference[row + 1] * difference[(column + 1) % 4];
                }
            }
        }
        let learned = solve(equations);
        rest += moments.iter().map(|moment| corrected(moment, &of_day, &learned).powi(2)).sum::<f64>();
        count += moments.len() as f64;
        let leverage = |of_day: &Moment, from: &Moment| {
            let difference: [f64; 3] = std::array::from_fn(|at| of_day[at + 1] - from[at + 1]);
            let rows = std::array::from_fn(|row| {
                let [a, b, c, _] = equations[row];
                [a, b, c, difference[row]]
            });
            solve(rows).iter().zip(difference).map(|(solved, own)| solved * own).sum::<f64>()
        };
        let weights = [[0.0; 3], [11.7, 0.0, 0.0], learned];
        let mut shifts = [0.0; 3];
        if let Some((from, deviations)) = &usual {
            for (by, name) in ["nothing", "book", "learned"].into_iter().enumerate() {
                shifts[by] = corrected(&of_day, from, &weights[by]);
                let explained =
                    if by == 2 { 2.0 * (rest / count * leverage(&of_day, from)).sqrt() } else { 0.0 };
                if let Some(raised) = tests[by].day(shifts[by], explained, deviations[by]) {
                    alarms.push(json!([sensor, day, name, raised]));
                }
            }
        } else {
            first.push(of_day);
            if first.len() == FIRST {
                let from = mean(&first);
                let deviation = |weights: &[f64; 3]| {
                    let squares: f64 = first.iter().map(|day| corrected(day, &from, weights).powi(2)).sum();
                    (squares / (FIRST - 1) as f64).sqrt().max(0.5)
                };
                usual = Some((from, [0, 1, 2].map(|by| deviation(&weights[by]))));
            }
        }
        let since = known.last().and_then(|known| known.since).unwrap_or(day);
        known.push(Known {
            day,
            knows: usual.is_some(),
            since: tests[2].alarm.then_some(since),
            shift: shifts[2],
            a_degree: learned[0],
        });
    }
    (known, alarms)
}

/// Checks that a message says what is known: both round to hundredths.
fn is(status: &Value, known: &Known) {
    assert_eq!(status["knows"].as_bool(), Some(known.knows), "{status}");
    assert_eq!(status["since"].as_u64(), known.since, "{status}");
    assert!((number(status, "shift") - known.shift).abs() < 0.0051, "{status}: {}", known.shift);
    assert!((number(status, "a_degree") - known.a_degree).abs() < 0.0051, "{status}: {}", known.a_degree);
}

/// What spans and alerts must be, of what sensors are: (sensors, drifting, mean shift), and (since, shift, of the span, alone).
fn together(sensors: &BTreeMap<u64, Value>) -> (BTreeMap<String, Value>, BTreeMap<u64, Value>) {
    let mut spans: BTreeMap<u64, Vec<(u64, &Value)>> = BTreeMap::new();
    for (sensor, status) in sensors.iter().filter(|(_, status)| status["knows"] == true) {
        spans.entry(sensor / SPAN).or_default().push((*sensor, status));
    }
    let cents = |status: &Value| (number(status, "shift") * 100.0).round() as i64;
    let figures = |of: &[&Value]| {
        let drifting = of.iter().filter(|status| !status["since"].is_null()).count();
        let mean = of.iter().map(|status| cents(status)).sum::<i64>() as f64 / of.len() as f64;
        json!([of.len(), drifting, (mean * 1e4).round()])
    };
    let (mut parts, mut alerts) = (BTreeMap::new(), BTreeMap::new());
    for (span, of) in &spans {
        let statuses: Vec<&Value> = of.iter().map(|(_, status)| *status).collect();
        parts.insert(json!({"span": span}).to_string(), figures(&statuses));
        let mut shifts: Vec<i64> = statuses.iter().map(|status| cents(status)).collect();
        shifts.sort_unstable();
        let median = shifts[(shifts.len() - 1) / 2];
        for (sensor, status) in of.iter().filter(|(_, status)| !status["since"].is_null()) {
            let alone = 2 * median.abs() < cents(status).abs();
            alerts.insert(*sensor, json!([status["since"], cents(status), median, alone]));
        }
    }
    let all: Vec<&Value> = spans.values().flatten().map(|(_, status)| *status).collect();
    if !all.is_empty() {
        parts.insert(json!("bridge").to_string(), figures(&all));
    }
    (parts, alerts)
}

/// What a run has left: sensors and alerts in the end, all alarms, and what was printed.
struct Run {
    sensors: BTreeMap<u64, Value>,
    alerts: BTreeMap<u64, Value>,
    alarms: Vec<Value>,
    said: String,
}

/// Runs the example, and looks at every time.
fn every_answer_is_that_of_a_plain_pass(flags: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let topics = format!("file:{}", folder.path().display());
    let mut command = example("bridge");
    command.args(flags.split_whitespace()).args(["--topics", &topics, "--partitions", "2"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let topic = |name: &str| folder.path().join(name);

    let at = |of: &Value| of["at"].as_u64().unwrap();
    let weather: BTreeMap<u64, Value> =
        lines(&topic("weather")).concat().into_iter().map(|of| (at(&of), of)).collect();
    let mut readings: BTreeMap<u64, BTreeMap<u64, Value>> = BTreeMap::new();
    for reading in lines(&topic("readings")).concat() {
        readings.entry(reading["sensor"].as_u64().unwrap()).or_default().insert(at(&reading), reading);
    }
    let mut truth: BTreeMap<u64, Vec<Known>> = BTreeMap::new();
    let mut expected = Vec::new();
    for (sensor, readings) in &readings {
        let (known, alarms) = plain_pass(*sensor, readings, &weather);
        truth.insert(*sensor, known);
        expected.extend(alarms);
    }

    let (mut sensors, mut spans, mut alerts) =
        (by_time(&topic("sensors")), by_time(&topic("spans")), by_time(&topic("alerts")));
    let times: Vec<u64> = sensors.keys().copied().collect();
    assert!(times.len() > 5, "{} times", times.len());
    let (mut of_sensors, mut of_spans, mut of_alerts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut next: BTreeMap<u64, usize> = BTreeMap::new();
    let mut alerts_in_the_end = BTreeMap::new();
    for time in times {
        for (key, status) in sensors.remove(&time).unwrap_or_default() {
            let sensor = key.as_u64().unwrap();
            let from = next.entry(sensor).or_default();
            let days = &truth[&sensor][*from..];
            let found = days.iter().position(|known| status["day"] == known.day);
            let found = found.unwrap_or_else(|| panic!("{sensor} goes back: {status}"));
            is(&status, &days[found]);
            *from += found + 1;
            of_sensors.insert(sensor, status);
        }
        for (part, figures) in spans.remove(&time).unwrap_or_default() {
            let mean = (number(&figures, "shift") * 1e6).round();
            of_spans.insert(part.to_string(), json!([figures["sensors"], figures["drifting"], mean]));
        }
        for (key, alert) in alerts.remove(&time).unwrap_or_default() {
            let sensor = key.as_u64().unwrap();
            if alert.is_null() {
                of_alerts.remove(&sensor);
                continue;
            }
            let cents = |name: &str| (number(&alert, name) * 100.0).round() as i64;
            assert_eq!(alert["span"], sensor / SPAN);
            let alert = json!([alert["since"], cents("shift"), cents("of_span"), alert["alone"]]);
            of_alerts.insert(sensor, alert);
        }
        let (expected_spans, expected_alerts) = together(&of_sensors);
        assert_eq!(of_spans, expected_spans, "spans are what their sensors are, at {time}");
        assert_eq!(of_alerts, expected_alerts, "alerts are what sensors are, at {time}");
        alerts_in_the_end = expected_alerts;
    }
    assert!(spans.is_empty() && alerts.is_empty(), "they come with what they are about");
    for (sensor, known) in &truth {
        assert_eq!(next[sensor], known.len(), "sensor {sensor} has come to its last day");
    }
    assert_eq!(lines(&topic("readings-too-late")).concat(), Vec::<Value>::new());

    let alarms = lines(&topic("alarms")).concat().into_iter();
    let alarms = alarms.map(|of| json!([of["sensor"], of["day"], of["by"], of["raised"]]));
    let sorted = |mut alarms: Vec<Value>| {
        alarms.sort_by_key(Value::to_string);
        alarms
    };
    let alarms = sorted(alarms.collect());
    assert_eq!(alarms, sorted(expected), "each alarm is told once");
    let said = String::from_utf8(output.stdout).unwrap();
    Run { sensors: of_sensors, alerts: alerts_in_the_end, alarms, said }
}

#[test]
fn drifts_are_found_against_the_season_on_any_number_of_workers() {
    let flags = "--spans 3 --sensors 3 --days 120 --every 60 --workers";
    let one = every_answer_is_that_of_a_plain_pass(&format!("{flags} 1"));
    let three = every_answer_is_that_of_a_plain_pass(&format!("{flags} 3"));
    assert!(one.sensors == three.sensors && one.alerts == three.alerts && one.alarms == three.alarms);

    // One drifts alone, one was repaired, and the last three go with their span. The third one feels the temperature thrice.
    let of = |by: &str, raised: bool| {
        let alarms = one.alarms.iter().filter(|alarm| alarm[2] == by && alarm[3] == raised);
        let mut sensors: Vec<u64> = alarms.map(|alarm| alarm[0].as_u64().unwrap()).collect();
        sensors.sort_unstable();
        sensors
    };
    assert_eq!(of("learned", true), [1, 3, 6, 7, 8], "found, and nothing else: {}", one.said);
    assert_eq!(of("learned", false), [3], "withdrawn");
    assert!(of("nothing", true).contains(&2) && of("book", true).contains(&2), "a warm day is no drift");
    assert!(number(&one.sensors[&2], "a_degree") > 30.0);
    assert_eq!(one.alerts.keys().copied().collect::<Vec<_>>(), [1, 6, 7, 8]);
    assert_eq!(one.alerts[&1][3], true);
    assert_eq!(one.alerts[&7][3], false);
    let line = one.said.lines().find(|line| line.starts_with("its own")).unwrap();
    assert!(line.contains("5 of 5") && line.ends_with(" 0"), "{line}");
}
