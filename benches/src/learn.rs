//! Models in agents: how many predictions and updates a second. Of each model first alone, then in agents: each event
//! of an agent is judged against the prediction before it, learned from, and followed by another prediction. The
//! baseline is a loop in one thread over the same events, with the same models in a hash table; both must end with
//! the same predictions, to the bit.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nekton::connect::{Polled, Position};
use nekton::hash::FixedState;
use nekton::operators::learn::{
    FadingScore, Gradient, HoltWinters, Learner, LeastSquares, Logistic, MedianScore, Model, Network, Says,
    Scaled, Season, Smoothing,
};
use nekton::{Agent, Block, Context, Feed, Flow, JobConfig, Order, Reading, Result, engine::run as run_job};
use serde::{Deserialize, Serialize};

use crate::nowhere::Nowhere;
use crate::random::Random;
use crate::report::Report;

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Events.
    #[arg(long, default_value_t = 2_000_000)]
    events: usize,
    /// Agents.
    #[arg(long, default_value_t = 10_000)]
    agents: u64,
}

/// Features of each model.
const N: usize = 4;

/// One event: an agent and a value.
type Sample = (u64, f64);

fn samples(options: &Options) -> Vec<Sample> {
    let mut random = Random(7);
    let mut unit = move || (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
    (0..options.events).map(|_| ((unit() * options.agents as f64) as u64, unit())).collect()
}

/// A model that agents begin with.
trait Fresh: Model<N> + Send + 'static {
    const NAME: &'static str;
    fn fresh() -> Self;
}
impl Fresh for LeastSquares<N> {
    const NAME: &'static str = "least squares, 4 features";
    fn fresh() -> Self {
        LeastSquares::new(1e-3).remembering(0.999)
    }
}
impl Fresh for Gradient<N> {
    const NAME: &'static str = "gradient, 4 features";
    fn fresh() -> Self {
        Gradient::new(0.1)
    }
}
impl Fresh for Logistic<N> {
    const NAME: &'static str = "logistic, 4 features";
    fn fresh() -> Self {
        Logistic::new(0.1)
    }
}
impl Fresh for Scaled<LeastSquares<N>, N> {
    const NAME: &'static str = "least squares, scaled";
    fn fresh() -> Self {
        Scaled::new(LeastSquares::fresh()).with_target()
    }
}
impl Fresh for Network<N> {
    const NAME: &'static str = "network, 4-8-1";
    fn fresh() -> Self {
        Network::new(&[8], Says::Number, 7)
    }
}

/// An agent with a model: it predicts its next value from the one before, a moving mean and their product.
#[derive(Serialize, Deserialize)]
#[serde(bound = "M: Fresh")]
struct Predicting<M> {
    learner: Learner<M, u32, N>,
    mean: f64,
    count: u32,
}

impl<M: Fresh> Predicting<M> {
    fn fresh() -> Self {
        Predicting { learner: Learner::new(M::fresh(), 2), mean: 0.0, count: 0 }
    }
    fn read(&mut self, value: f64) {
        self.learner.happened(&self.count, value);
        self.count += 1;
        self.mean += 0.1 * (value - self.mean);
        self.learner.predict(self.count, [1.0, value, self.mean, value * self.mean]);
    }
    fn says(&self) -> Option<u64> {
        self.learner.predictions().standing(&self.count).map(f64::to_bits)
    }
}

impl<M: Fresh> Agent for Predicting<M> {
    type Key = u64;
    type Event = Sample;
    type View = u64;
    type Emit = ();
    fn create(_agent: &u64) -> Self {
        Predicting::fresh()
    }
    fn on_event(&mut self, (_, value): &Sample, _context: &mut Context<'_, Self>) {
        self.read(*value);
    }
    fn view(&self) -> Option<u64> {
        self.says()
    }
}

/// All samples, in blocks.
struct Samples {
    samples: Arc<Vec<Sample>>,
    at: usize,
}

impl Feed<Sample> for Samples {
    fn poll(&mut self, budget: usize, into: &mut Reading<Sample>) -> Result<Polled> {
        let end = (self.at + (budget / size_of::<Sample>()).clamp(1, 10_000)).min(self.samples.len());
        let position = Position { entry: self.at as u64, ..Position::default() };
        let order = Order { source: 0, partition: 0, position };
        into.blocks.push(Block { order, events: self.samples[self.at..end].to_vec() });
        self.at = end;
        Ok(if end == self.samples.len() { Polled::End } else { Polled::More })
    }
}

/// What all agents say at the end, by the engine with one worker.
fn engine<M: Fresh>(samples: &Arc<Vec<Sample>>) -> BTreeMap<u64, u64> {
    let said: Arc<Mutex<BTreeMap<u64, u64>>> = Arc::default();
    let (samples, sink) = (samples.clone(), said.clone());
    let program = move |flow: &mut Flow<'_>| {
        let samples = samples.clone();
        let events = flow.feed("samples", |_, _, _| Samples { samples, at: 0 });
        let agents = events.agents::<Predicting<M>>("agents", |&(agent, _)| agent);
        let sink = sink.clone();
        flow.each_time(&agents.views(), move |_, changes| {
            let new = changes.into_iter().filter(|(_, diff)| *diff > 0).map(|(said, _)| said);
            sink.lock().expect("no worker panicked").extend(new);
        });
    };
    let config = JobConfig { until_end: true, ..JobConfig::new("learn") };
    run_job(config, Arc::new(Nowhere), program).expect("the job runs");
    std::mem::take(&mut said.lock().expect("no worker panicked"))
}

/// The baseline.
fn hash_loop<M: Fresh>(samples: &[Sample]) -> BTreeMap<u64, u64> {
    let mut agents: HashMap<u64, Predicting<M>, FixedState> = HashMap::default();
    for (agent, value) in samples {
        agents.entry(*agent).or_insert_with(Predicting::fresh).read(*value);
    }
    agents.into_iter().filter_map(|(agent, state)| Some((agent, state.says()?))).collect()
}

/// The seconds that something takes.
fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let done = work();
    (started.elapsed().as_secs_f64(), done)
}

fn model<M: Fresh>(report: &mut Report, samples: &Arc<Vec<Sample>>) {
    let rate = |seconds: f64| samples.len() as f64 / seconds / 1e6;
    let mut model = M::fresh();
    let features = |(agent, value): &Sample| [1.0, *value, *agent as f64 * 1e-4, value * value];
    let (learning, ()) = seconds(|| {
        for sample in samples.iter() {
            model.learn(&features(sample), sample.1);
        }
    });
    let (predicting, said) =
        seconds(|| samples.iter().map(|sample| model.predict(&features(sample))).sum::<f64>());
    black_box(said);
    let (bare, expected) = seconds(|| hash_loop::<M>(samples));
    let (engine, said) = seconds(|| engine::<M>(samples));
    assert!(said == expected, "agents say what the loop says, to the bit");
    report.figure(format!("{}: updates", M::NAME), rate(learning), "M/s");
    report.figure(format!("{}: predictions", M::NAME), rate(predicting), "M/s");
    report.figure(format!("{}: both, hash-table loop", M::NAME), rate(bare), "M events/s");
    report.figure(format!("{}: both, agents", M::NAME), rate(engine), "M events/s");
    report.figure(format!("{}: agents / loop", M::NAME), bare / engine, "times");
}

/// What learns one value after the other, and says something of the next.
fn series(report: &mut Report, name: &str, samples: &[Sample], mut step: impl FnMut(f64) -> Option<f64>) {
    let (took, said) = seconds(|| samples.iter().filter_map(|(_, value)| step(1.0 + value)).sum::<f64>());
    black_box(said);
    report.figure(format!("{name}: update and answer"), samples.len() as f64 / took / 1e6, "M/s");
}

/// Runs the measurement.
pub fn run(options: &Options) -> Report {
    let samples = Arc::new(samples(options));
    let mut report = Report::new("learn");
    model::<Gradient<N>>(&mut report, &samples);
    model::<LeastSquares<N>>(&mut report, &samples);
    model::<Scaled<LeastSquares<N>, N>>(&mut report, &samples);
    model::<Logistic<N>>(&mut report, &samples);
    model::<Network<N>>(&mut report, &samples);
    let mut hours = HoltWinters::new(Season::Multiplicative, 24, Smoothing::default());
    series(&mut report, "Holt-Winters, 24 moments", &samples, |value| {
        hours.learn(Some(value));
        hours.forecast(1)
    });
    let mut fading = FadingScore::new(0.05, 1e-3, 10);
    series(&mut report, "fading score", &samples, |value| {
        let score = fading.score(value);
        fading.learn(value);
        score
    });
    let mut median = MedianScore::new(31, 1e-3);
    series(&mut report, "median score, 31 values", &samples, |value| {
        let score = median.score(value);
        median.learn(value);
        score
    });
    report
}
