//! A sensor as an agent: it learns what the weather does to its strain, and tests what remains.

use nekton::operators::learn::{FadingMean, Model};
use nekton::prelude::*;

use crate::drift::{Drift, FEATURES, Moment};
use crate::events::{DAY, MINUTE, Reading, Weather};

/// With more than this, a lorry is on the span: such a reading says nothing of the steel.
const QUIET: f64 = 6.0;
/// A day of fewer readings is left out.
const FEWEST: usize = 12;
/// More of a day are not kept: one a minute.
const MOST: usize = 1_440;
/// Sun warms the deck, and so bends the girder, with this half-life.
const SUN: Time = 42 * MINUTE;
/// What steel does by the book, in micrometres a metre and degree.
const STEEL: f64 = 11.7;

/// What the strain is corrected by before it is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Nothing.
    Nothing,
    /// Steel's coefficient from a book, and the sensor's thermometer.
    Book,
    /// What the sensor has learned.
    Learned,
}

/// An alarm is raised or withdrawn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Alarm {
    pub sensor: u32,
    /// The day after which it is, in days since 1970.
    pub day: u32,
    pub by: By,
    pub raised: bool,
    /// In micrometres a metre.
    pub shift: Decimal<2>,
}

/// What is to be seen of a sensor. It changes once a day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Status {
    /// The last day that is over, in days since 1970.
    pub day: u32,
    /// Whether it knows what is usual.
    pub knows: bool,
    /// Since when it has drifted.
    pub since: Option<u32>,
    /// How far it is from what is usual, corrected, in micrometres a metre.
    pub shift: Decimal<2>,
    /// What a degree does to it, as it has learned.
    pub a_degree: Decimal<2>,
}

/// A sensor.
#[derive(Serialize, Deserialize)]
pub struct Sensor {
    /// The day of `today`, in days since 1970.
    day: u32,
    today: Vec<Moment>,
    sun: FadingMean,
    response: LeastSquares<FEATURES>,
    /// What it does not explain: the sum of the squares, of how many readings.
    rest: (f64, u64),
    raw: Drift,
    book: Drift,
    corrected: Drift,
    status: Option<Status>,
}

impl Sensor {
    /// Learns from the day that is over, and tests it.
    ///
    /// What a day's moments differ from the day's mean says what weather does: within a day, nothing drifts. So a drift is never
    /// learned, however slow it is, and the mean of the day, corrected by what was learned, has all of it.
    fn end_of_day(&mut self, context: &mut Context<'_, Self>) {
        let (sensor, day) = (*context.key(), self.day);
        let today = std::mem::take(&mut self.today);
        if today.len() < FEWEST {
            return;
        }
        let mean = Moment::mean(&today);
        for moment in &today {
            let difference = moment.from(&mean);
            self.response.learn(&difference.features, difference.strain);
        }
        let learned = *self.response.weights();
        let squares = today.iter().map(|moment| moment.from(&mean).corrected(&learned).powi(2));
        self.rest = (self.rest.0 + squares.sum::<f64>(), self.rest.1 + today.len() as u64);
        let variance = self.rest.0 / self.rest.1 as f64;
        let response = &self.response;
        let error = |features: &[f64; FEATURES]| (variance * response.leverage(features)).sqrt();
        let book = [STEEL, 0.0, 0.0];
        let told = [
            (By::Nothing, self.raw.day(&mean, &[0.0; FEATURES], |_| 0.0), self.raw.shift()),
            (By::Book, self.book.day(&mean, &book, |_| 0.0), self.book.shift()),
            (By::Learned, self.corrected.day(&mean, &learned, error), self.corrected.shift()),
        ];
        for (by, told, shift) in told {
            if let Some(raised) = told {
                context.emit(Alarm { sensor, day, by, raised, shift: decimal(shift) });
            }
        }
        let since = self.status.as_ref().and_then(|status| status.since).unwrap_or(day);
        self.status = Some(Status {
            day,
            knows: self.corrected.knows(),
            since: self.corrected.drifts().then_some(since),
            shift: decimal(self.corrected.shift()),
            a_degree: decimal(learned[0]),
        });
    }
}

fn decimal(value: f64) -> Decimal<2> {
    Decimal::new(value).unwrap_or_default()
}

impl Agent for Sensor {
    type Key = u32;
    /// In the order of their times.
    type Event = (Reading, Option<Weather>);
    type View = Status;
    type Emit = Alarm;

    fn create(_sensor: &u32) -> Self {
        Sensor {
            day: 0,
            today: Vec::new(),
            sun: FadingMean::new(SUN),
            response: LeastSquares::new(1e-6),
            rest: (0.0, 0),
            raw: Drift::default(),
            book: Drift::default(),
            corrected: Drift::default(),
            status: None,
        }
    }

    fn on_event(&mut self, (reading, weather): &(Reading, Option<Weather>), context: &mut Context<'_, Self>) {
        let day = (reading.at / DAY) as u32;
        if day != self.day {
            self.end_of_day(context);
            self.day = day;
        }
        let Some(weather) = weather else { return };
        self.sun.learn(reading.at, weather.sun / 100.0);
        let sun = self.sun.mean(reading.at, 0.0, 0.0);
        if let Some(sun) = sun.filter(|_| reading.shaking <= QUIET && self.today.len() < MOST) {
            let features = [reading.celsius, sun, weather.wind * weather.wind / 25.0];
            self.today.push(Moment { strain: reading.strain, features });
        }
    }

    fn view(&self) -> Option<Status> {
        self.status.clone()
    }
}
