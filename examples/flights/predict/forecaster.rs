//! The forecaster: one agent, in which models predict each delay two hours ahead and learn from it when it is known.

use nekton::operators::learn::{
    Learner, LeastSquares, Network, Outcome, Predictions, Says, Scaled, Scored, Squeezed,
};
use nekton::prelude::*;

use super::airports::{Baselines, Example, FEATURES};
use super::log::{FlightId, Leg, News, Told};

/// Predictions that may be open. Some 300 are.
const OPEN: usize = 4_096;

/// Who predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// A network of 16 units that learns the median.
    Network,
    /// Linear regression.
    Line,
    AirportMean,
    HourMean,
    AirportMedian,
}

impl Who {
    pub const ALL: [Who; 5] = [Who::Network, Who::Line, Who::AirportMean, Who::HourMean, Who::AirportMedian];

    pub fn name(self) -> &'static str {
        match self {
            Who::Network => "network, of the median",
            Who::Line => "linear regression",
            Who::AirportMean => "airport's mean",
            Who::HourMean => "airport's mean of the hour",
            Who::AirportMedian => "airport's median",
        }
    }
}

/// The models.
type Median = Learner<Scaled<Squeezed<Network<FEATURES>>, FEATURES>, FlightId, FEATURES>;
type Line = Learner<Scaled<LeastSquares<FEATURES>, FEATURES>, FlightId, FEATURES>;

/// What the forecaster hears.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Heard {
    Example(Box<Example>),
    Told(Told),
    /// Something that does not concern it, so that it knows how far the log is: its number, and when it became known.
    Passed(u64, u64),
}

impl Heard {
    /// What is of the log, as far as it concerns the forecaster.
    pub fn of(told: Told) -> Self {
        match told.news {
            News::Departed(..) | News::Cancelled(_) => Heard::Told(told),
            _ => Heard::Passed(told.number, told.at),
        }
    }
    pub fn number(&self) -> u64 {
        match self {
            Heard::Example(example) => example.number,
            Heard::Told(told) => told.number,
            Heard::Passed(number, _) => *number,
        }
    }
}

/// What was predicted of a flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    pub flight: String,
    pub origin: String,
    pub dest: String,
    pub tail: Option<String>,
    pub scheduled: u64,
    /// When it was predicted.
    pub at: u64,
    /// How late it will be, in minutes, by the network.
    pub delay: f64,
}

/// What was predicted and what happened, in minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub flight: String,
    pub origin: String,
    pub scheduled: u64,
    pub actual: f64,
    pub network: f64,
    pub line: f64,
    pub airport_mean: f64,
    pub hour_mean: f64,
    pub airport_median: f64,
}

impl Judged {
    /// An outcome for each who has predicted, for the airport's scoreboard and for that of all.
    pub fn scored(&self) -> impl Iterator<Item = Scored<String, Who>> + use<> {
        let outcomes = [
            (Who::Network, self.network),
            (Who::Line, self.line),
            (Who::AirportMean, self.airport_mean),
            (Who::HourMean, self.hour_mean),
            (Who::AirportMedian, self.airport_median),
        ];
        let (boards, actual) = (["all".to_owned(), self.origin.clone()], self.actual);
        boards.into_iter().flat_map(move |board| {
            outcomes.map(|(model, predicted)| Scored {
                board: board.clone(),
                model,
                outcome: Outcome { predicted, actual },
            })
        })
    }
}

/// What the forecaster says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Said {
    Predicted(Prediction),
    Judged(Judged),
}

/// The forecaster.
#[derive(Serialize, Deserialize)]
pub struct Forecaster {
    network: Median,
    line: Line,
    /// What the baselines say is fixed as well.
    baselines: Predictions<FlightId, Baselines>,
    progress: Progress,
}

/// How far the forecaster is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Progress {
    /// How many lines of the log there were.
    pub heard: u64,
    /// When the last of them became known.
    pub at: u64,
    pub predicted: u64,
    pub judged: u64,
    /// Predictions that were withdrawn, since the flight was cancelled.
    pub cancelled: u64,
}

impl Forecaster {
    fn predict(&mut self, Example { at, leg, features, baselines, .. }: &Example) -> Option<Said> {
        let delay = self.network.predict(leg.id(), features.0)?;
        self.line.predict(leg.id(), features.0);
        self.baselines.predict(leg.id(), baselines.airport_mean, *baselines);
        self.progress.predicted += 1;
        let Leg { flight, origin, dest, tail, scheduled, .. } = leg.clone();
        Some(Said::Predicted(Prediction { flight, origin, dest, tail, scheduled, at: *at, delay }))
    }

    fn judge(&mut self, leg: &Leg, delay: i64) -> Option<Said> {
        let (id, actual) = (leg.id(), delay as f64);
        let network = self.network.happened(&id, actual)?.predicted;
        let line = self.line.happened(&id, actual)?.predicted;
        let (_, Baselines { airport_mean, hour_mean, airport_median }) =
            self.baselines.happened(&id, actual)?;
        self.progress.judged += 1;
        let (scheduled, flight, origin) = id;
        Some(Said::Judged(Judged {
            flight,
            origin,
            scheduled,
            actual,
            network,
            line,
            airport_mean,
            hour_mean,
            airport_median,
        }))
    }
}

impl Agent for Forecaster {
    type Key = ();
    type Event = Heard;
    type View = Progress;
    type Emit = Said;

    fn create((): &()) -> Self {
        // Its size and its steps were found by trying, on this very year.
        let network = Network::new(&[16], Says::Median, 7).slowing_after(5_000.0);
        Forecaster {
            network: Learner::new(Scaled::new(Squeezed::new(network, 10.0)), OPEN),
            line: Learner::new(Scaled::new(LeastSquares::new(1.0)), OPEN),
            baselines: Predictions::new(OPEN),
            progress: Progress::default(),
        }
    }
    fn on_event(&mut self, heard: &Heard, context: &mut Context<'_, Self>) {
        let said = match heard {
            Heard::Example(example) => self.predict(example),
            Heard::Told(Told { news: News::Departed(leg, delay), .. }) => self.judge(leg, *delay),
            Heard::Told(Told { news: News::Cancelled(leg), .. }) => {
                let withdrawn = self.network.withdraw(&leg.id());
                self.line.withdraw(&leg.id());
                self.baselines.withdraw(&leg.id());
                self.progress.cancelled += u64::from(withdrawn);
                None
            }
            Heard::Told(_) => None,
            Heard::Passed(_, at) => {
                self.progress.at = *at;
                None
            }
        };
        if !matches!(heard, Heard::Example(_)) {
            self.progress.heard += 1;
        }
        said.into_iter().for_each(|said| context.emit(said));
    }
    fn view(&self) -> Option<Progress> {
        Some(self.progress)
    }
}
