//! Agents with models in them, in a simulated world: on whatever number of workers, with crashes at any moment, every
//! prediction is the same to the bit as in a plain loop over each agent's events, is judged once, and was made before
//! its outcome was known.
#![allow(dead_code)] // not all of the world is used

#[path = "../../engine/tests/world/mod.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use nekton_engine::{Agent, Context, Events, Kind, Result, Simulator, changes, keyed, run};
use nekton_operators::learn::{
    Claim, FadingScore, Gradient, HoltWinters, Judge, Learner, LeastSquares, Logistic, Measure, MedianScore,
    Network, Outcome, Predictions, Rules, Says, Scaled, Scoreboards, Scored, Season, Smoothing,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use world::World;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    number: u64,
    sensor: u64,
    value: u32,
}

const MODELS: [&str; 6] = ["line", "steps", "network", "season", "likely", "last"];

/// A sensor that predicts its next value by several models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sensor {
    line: Learner<LeastSquares<3>, u64, 3>,
    steps: Learner<Scaled<Gradient<3>, 3>, u64, 3>,
    network: Learner<Scaled<Network<3>, 3>, u64, 3>,
    likely: Learner<Logistic<3>, u64, 3>,
    series: HoltWinters,
    season: Predictions<u64, ()>,
    last: Predictions<u64, ()>,
    fading: FadingScore,
    median: MedianScore,
    count: u64,
}

type Judged = Scored<u64, String>;

impl Sensor {
    fn new(sensor: u64) -> Self {
        Sensor {
            line: Learner::new(LeastSquares::new(0.1).remembering(0.98), 4),
            steps: Learner::new(Scaled::new(Gradient::new(0.2)).with_target(), 4),
            network: Learner::new(
                Scaled::new(Network::new(&[5, 4], Says::Number, sensor).with_step(0.01)).with_target(),
                4,
            ),
            likely: Learner::new(Logistic::new(0.5), 4),
            series: HoltWinters::new(Season::Additive, 4, Smoothing::default()),
            season: Predictions::new(4),
            last: Predictions::new(4),
            fading: FadingScore::new(0.1, 0.5, 3),
            median: MedianScore::new(7, 0.5),
            count: 0,
        }
    }

    fn read(&mut self, reading: &Reading, mut give: impl FnMut(Judged)) {
        let (value, id) = (f64::from(reading.value), self.count);
        let high = f64::from(reading.value > 10);
        let outcomes = [
            self.line.happened(&id, value),
            self.steps.happened(&id, value),
            self.network.happened(&id, value),
            self.season.happened(&id, value).map(|(outcome, ())| outcome),
            self.likely.happened(&id, high),
            self.last.happened(&id, value).map(|(outcome, ())| outcome),
        ];
        for (model, outcome) in MODELS.iter().zip(outcomes) {
            let scored = |outcome| Scored { board: reading.sensor, model: (*model).to_owned(), outcome };
            outcome.into_iter().map(scored).for_each(&mut give);
        }
        self.fading.learn(value);
        self.median.learn(value);
        self.series.learn(Some(value));
        self.count += 1;
        let features = [1.0, value, self.fading.score(value).unwrap_or(0.0)];
        self.line.predict(self.count, features);
        self.steps.predict(self.count, features);
        self.network.predict(self.count, features);
        self.likely.predict(self.count, features);
        self.last.predict(self.count, value, ());
        if let Some(forecast) = self.series.forecast(1) {
            self.season.predict(self.count, forecast, ());
        }
    }

    /// All that it says of the next value.
    fn says(&self) -> Vec<u64> {
        let open = [
            self.line.predictions().standing(&self.count),
            self.steps.predictions().standing(&self.count),
            self.network.predictions().standing(&self.count),
            self.season.standing(&self.count),
            self.likely.predictions().standing(&self.count),
            self.fading.score(10.0),
            self.median.score(10.0),
        ];
        open.into_iter().flatten().map(f64::to_bits).collect()
    }
}

impl Agent for Sensor {
    type Key = u64;
    type Event = Reading;
    type View = Vec<u64>;
    type Emit = Judged;
    fn create(sensor: &u64) -> Self {
        Sensor::new(*sensor)
    }
    fn on_event(&mut self, reading: &Reading, context: &mut Context<'_, Self>) {
        self.read(reading, |scored| context.emit(scored));
    }
    fn view(&self) -> Option<Vec<u64>> {
        Some(self.says())
    }
}

/// Numbers of which JSON loses nothing.
type Bits = (u64, String, u64, u64);

fn bits(scored: &Judged) -> Bits {
    let Scored { board, model, outcome } = scored;
    (*board, model.clone(), outcome.predicted.to_bits(), outcome.actual.to_bits())
}

const RULES: Rules = Rules { measure: Measure::Absolute, part: 0.1, after: 5, margin: 0.1, patience: 3 };

fn job(world: &World, workers: usize) -> Result<()> {
    let ran = run(world.config(workers, "learning"), Arc::new(world.clone()), |flow| {
        let readings = flow.events::<Reading>("readings");
        let sensors = readings.agents::<Sensor>("sensors", |reading| reading.sensor);
        let scored: Events<'_, Judged> = sensors.emitted();
        let board = scored.scoreboard("models", RULES);
        // The last value as what a model of elsewhere says of the next one, which comes in the same stream.
        let claims = readings.flat_map(|Reading { number, sensor, value }| {
            let value = f64::from(value);
            let says =
                Claim::Predicted { id: (sensor, number + 4), board: sensor, model: 0_u8, predicted: value };
            [Claim::Happened { id: (sensor, number), actual: value }, says]
        });
        let judged = claims.judge("elsewhere", 10_000_000);
        let judged = judged.map(|Scored { board, outcome, .. }| (board, outcome.predicted, outcome.actual));
        flow.sink("scored", keyed(&scored.map(|scored| bits(&scored)), |scored| scored.0));
        flow.sink("says", changes(&sensors.views()));
        flow.sink("champions", changes(&board.champions()));
        flow.sink("scores", changes(&board.scores()));
        flow.sink("crowned", keyed(&board.crowned(), |crowned| crowned.board));
        flow.sink("elsewhere", keyed(&judged, |judged| judged.0));
    });
    ran.map(|_| ())
}

/// The messages of a topic, by key, in order.
fn read(world: &World, topic: &str, key: impl Fn(&Value) -> &Value) -> BTreeMap<u64, Vec<Value>> {
    let mut by_key: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for partition in &world.kept().outputs[topic] {
        for (_, message) in &partition.messages {
            let value: Value = serde_json::from_slice(message).unwrap();
            by_key.entry(key(&value).as_u64().unwrap()).or_default().push(value);
        }
    }
    by_key
}

/// Some seasons with noise, and a change in the middle.
fn publish(world: &World, random: &Simulator) {
    let mut kept = world.kept();
    for partition in 0..kept.inputs.len() as u64 {
        for _ in 0..20 + random.below(40) {
            let input = &mut kept.inputs[partition as usize];
            let number = input.len() as u64;
            let season = [0, 6, 10, 4][number as usize / 4 % 4];
            let sensor = partition * 4 + number % 4;
            let value = season + random.below(4) as u32 + if number > 100 { 5 } else { 0 };
            input.push(serde_json::to_vec(&Reading { number, sensor, value }).unwrap().into());
        }
    }
}

/// The champion after these outcomes, and how often there was another one, by the rules' words.
fn champion(outcomes: &[(String, Outcome)]) -> (Option<String>, usize) {
    let mut losses: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let (mut champion, mut crowned, mut row): (Option<&str>, _, (&str, u32)) = (None, 0, ("", 0));
    for (model, outcome) in outcomes {
        losses.entry(model).or_default().push((outcome.predicted - outcome.actual).abs());
        let recent = |losses: &Vec<f64>| {
            let weight = |at: usize| 0.9_f64.powi((losses.len() - 1 - at) as i32);
            let (sum, ones) = losses
                .iter()
                .enumerate()
                .fold((0.0, 0.0), |(sum, ones), (at, loss)| (sum + weight(at) * loss, ones + weight(at)));
            sum / ones
        };
        let eligible = losses.iter().filter(|(other, of)| of.len() >= 5 && Some(**other) != champion);
        let best =
            eligible.map(|(other, of)| (*other, recent(of))).min_by(|one, other| one.1.total_cmp(&other.1));
        let Some((best, loss)) = best else { continue };
        if let Some(now) = champion {
            if loss >= 0.9 * recent(&losses[now]) {
                row = ("", 0);
                continue;
            }
            row = if row.0 == best { row } else { (best, 0) };
            row.1 += u32::from(best == model);
            if row.1 < 3 {
                continue;
            }
        }
        (champion, row) = (Some(best), ("", 0));
        crowned += 1;
    }
    (champion.map(str::to_owned), crowned)
}

/// The mean log loss, where all are probabilities.
fn log_loss(outcomes: impl Iterator<Item = Outcome>) -> Option<f64> {
    let loss = |Outcome { predicted, actual }| {
        let given = if actual == 1.0 { predicted } else { 1.0 - predicted };
        let likely = (0.0..=1.0).contains(&predicted) && (actual == 0.0 || actual == 1.0);
        likely.then(|| -given.clamp(1e-15, 1.0 - 1e-15).ln())
    };
    let losses = outcomes.map(loss).collect::<Option<Vec<f64>>>()?;
    Some(losses.iter().sum::<f64>() / losses.len() as f64)
}

/// To five places.
fn rounded(x: f64) -> i64 {
    (x * 1e5).round() as i64
}

/// Checks all outputs against plain loops; returns how often a champion was crowned.
fn check(world: &World) -> usize {
    let mut readings: BTreeMap<u64, Vec<Reading>> = BTreeMap::new();
    for reading in world.kept().inputs.iter().flatten() {
        let reading: Reading = serde_json::from_slice(reading).unwrap();
        readings.entry(reading.sensor).or_default().push(reading);
    }
    let of_first = |value: &Value| value[0].clone();
    let scored = read(world, "scored", |value| &value[0]);
    let says = read(world, "says", |value| &value["key"]);
    let scores = read(world, "scores", |value| &value["key"][0]);
    let champions = read(world, "champions", |value| &value["key"]);
    let crowned = read(world, "crowned", |value| &value["board"]);
    let elsewhere = read(world, "elsewhere", |value| &value[0]);
    let (mut crowns, none) = (0, Vec::new());
    for (sensor, readings) in readings {
        let mut plain = Sensor::new(sensor);
        let mut outcomes = Vec::new();
        let mut expected = Vec::new();
        for reading in &readings {
            plain.read(reading, |scored| {
                expected.push(serde_json::to_value(bits(&scored)).unwrap());
                outcomes.push((scored.model, scored.outcome));
            });
        }
        let got = scored.get(&sensor).unwrap_or(&none);
        assert_eq!(*got, expected, "the outcomes of {sensor}");
        assert!(got.iter().all(|scored| of_first(scored) == sensor));
        let last = &says[&sensor].last().unwrap()["after"];
        assert_eq!(*last, serde_json::to_value(plain.says()).unwrap(), "what {sensor} says");

        let (champion, times) = champion(&outcomes);
        let got = champions.get(&sensor).and_then(|changes| changes.last()).map(|last| last["after"].clone());
        assert_eq!(got, champion.map(Value::String), "the champion of {sensor}");
        assert_eq!(crowned.get(&sensor).map_or(0, Vec::len), times, "champions of {sensor}");
        crowns += times;
        for model in MODELS {
            let of: Vec<f64> =
                outcomes.iter().filter(|(of, _)| of == model).map(|(_, outcome)| outcome.error()).collect();
            let mut changes = scores.get(&sensor).into_iter().flatten();
            let last = changes.rfind(|change| change["key"][1] == model);
            assert_eq!(last.is_none(), of.is_empty());
            let Some(score) = last.map(|last| &last["after"]) else { continue };
            let mean = |f: fn(&f64) -> f64| of.iter().map(f).sum::<f64>() / of.len() as f64;
            assert_eq!(score["count"], of.len());
            for (figure, expected) in [
                ("bias", mean(|error| *error)),
                ("mean_absolute", mean(|error| error.abs())),
                ("root_mean_square", mean(|error| error * error).sqrt()),
            ] {
                let got = score[figure].as_f64().unwrap();
                assert!(
                    (got - expected).abs() < 1e-6,
                    "{figure} of {model} on {sensor}: {got} not {expected}"
                );
            }
            let of = outcomes.iter().filter(|(of, _)| of == model).map(|(_, outcome)| *outcome);
            assert_eq!(
                score["log_loss"].as_f64().map(rounded),
                log_loss(of).map(rounded),
                "of {model} on {sensor}"
            );
        }

        let pairs: Vec<Value> = readings
            .windows(2)
            .map(|pair| serde_json::json!([sensor, f64::from(pair[0].value), f64::from(pair[1].value)]))
            .collect();
        let mut got = elsewhere.get(&sensor).unwrap_or(&none).clone();
        let mut pairs = pairs;
        // Those of one time are in the order of their segments.
        got.sort_by_key(ToString::to_string);
        pairs.sort_by_key(ToString::to_string);
        assert_eq!(got, pairs, "what is said elsewhere of {sensor}");
    }
    crowns
}

/// Runs the job to its end.
fn finish(world: &mut World, mut seed: u64, workers: impl Fn() -> usize) {
    loop {
        seed += 1;
        let last = world.next_run(seed, 0);
        match job(&last, workers()) {
            Ok(()) => return,
            // The store was out of reach for a moment.
            Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{seed}: {error}"),
        }
    }
}

#[test]
fn models_say_the_same_on_any_number_of_workers() {
    let mut crowns = 0;
    for workers in [1, 3] {
        let random = Simulator::new(5);
        let mut world = World::new(workers as u64, None).with_inputs(2);
        for _ in 0..4 {
            publish(&world, &random);
        }
        finish(&mut world, workers as u64, || workers);
        let crowned = check(&world);
        assert!(crowns == 0 || crowns == crowned, "they crown the same");
        crowns = crowned;
    }
    assert!(crowns > 8, "somebody takes over from somebody: {crowns}");
}

#[test]
fn models_say_the_same_through_crashes() {
    let mut crashed = 0;
    for seed in 0..8 {
        let random = Simulator::new(seed ^ 0xA5A5);
        let mut world = World::new(seed, None).with_inputs(1 + random.below(3) as usize);
        let mut number = 0;
        let mut next = |world: &mut World| {
            number += 1;
            world.next_run(seed * 1_000 + number, 0)
        };
        for _ in 0..1 + random.below(5) {
            publish(&world, &random);
            let run = next(&mut world);
            run.crash_at(1 + random.below(2_500));
            if let Err(error) = job(&run, 1 + random.below(3) as usize) {
                assert!(matches!(error.kind(), Kind::Io | Kind::Unavailable), "{seed}: {error}");
                crashed += 1;
            }
        }
        finish(&mut world, seed * 1_000 + 100, || 1 + random.below(3) as usize);
        check(&world);
    }
    assert!(crashed > 5, "only {crashed} runs crashed");
}
