//! Airports: an agent each, which knows how busy and how late its airport is, and the weather there, as of now.

use std::collections::BTreeMap;

use nekton::operators::learn::{FadingMean, Vector};
use nekton::prelude::*;

use super::log::{FlightId, Leg, News, Told, Weather};
use super::planes::{Asked, Inbound, Status};
use crate::calendar::{DAY, HOUR, MINUTE, Zone};

/// Carriers, by their codes: each is a feature.
const CARRIERS: [&str; 16] =
    ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"];
/// Airports that flights leave, likewise.
const ORIGINS: [&str; 3] = ["EWR", "JFK", "LGA"];

/// How many numbers a model predicts from.
pub const FEATURES: usize = 43 + ORIGINS.len() + CARRIERS.len();

/// Delays count as much as these in means of late, in minutes: one flight of tomorrow says nothing of the others.
const CLIPPED: (f64, f64) = (-20.0, 180.0);
/// A flight that should have left so long ago and has not is overdue.
const OVERDUE: u64 = 15 * MINUTE;
/// What has been overdue for so long counts no more.
const HOPELESS: u64 = 8 * HOUR;
/// The weather of longer ago is not that of now.
const STALE: u64 = 6 * HOUR;
/// Departures are counted by so long.
const SLOT: u64 = 15 * MINUTE;
/// The range of the histogram of delays, in minutes.
const DELAYS: (i64, i64) = (-60, 1_440);

/// A flight that was asked for, with all that is known of it, of its plane and its airport at that moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    pub number: u64,
    pub at: u64,
    pub leg: Leg,
    pub features: Vector<FEATURES>,
    /// What somebody would say who knows nothing of this flight but the airport and the hour.
    pub baselines: Baselines,
}

/// Predictions without a model, in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// The mean delay at the airport so far.
    pub airport_mean: f64,
    /// The mean delay so far of flights that were to leave in this hour of the day, at the airport.
    pub hour_mean: f64,
    /// The median delay at the airport so far: no number that is always the same has a smaller absolute error.
    pub airport_median: f64,
}

/// What an airport hears.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Heard {
    Told(Told),
    Asked(Asked),
}

impl Heard {
    pub fn number(&self) -> u64 {
        match self {
            Heard::Told(told) => told.number,
            Heard::Asked(asked) => asked.number,
        }
    }
    pub fn origin(&self) -> &str {
        match self {
            Heard::Told(told) => told.news.origin(),
            Heard::Asked(asked) => &asked.leg.origin,
        }
    }
}

/// The sum and the number of delays.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Plain(f64, f64);

impl Plain {
    fn add(&mut self, delay: f64) {
        *self = Plain(self.0 + delay, self.1 + 1.0);
    }
    fn mean(self) -> Option<f64> {
        (self.1 > 0.0).then(|| self.0 / self.1)
    }
}

/// A flight that was asked for and has not left.
#[derive(Clone, Serialize, Deserialize)]
struct Waiting {
    carrier: String,
    dest: String,
}

/// An airport that flights leave.
#[derive(Serialize, Deserialize)]
pub struct Airport {
    /// Delays of the last hour or so, and of the last hours.
    hour: FadingMean,
    hours: FadingMean,
    /// By carrier, of the last hours and of the last week; by destination, of the last hours and weeks.
    carrier_hours: BTreeMap<String, FadingMean>,
    carrier_week: BTreeMap<String, FadingMean>,
    dest_hours: BTreeMap<String, FadingMean>,
    dest_weeks: BTreeMap<String, FadingMean>,
    /// By the hour in which they were to leave, of all and by carrier; by flight number. Of the last weeks.
    of_hour: BTreeMap<u64, FadingMean>,
    of_carrier_hour: BTreeMap<(String, u64), FadingMean>,
    of_flight: BTreeMap<String, FadingMean>,
    /// What was cancelled within the last hours: only its weight counts.
    cancelled: FadingMean,
    waiting: BTreeMap<FlightId, Waiting>,
    /// Departures planned, by their slot.
    planned: BTreeMap<u64, u32>,
    weather: Option<(u64, Weather)>,
    all: Plain,
    by_hour: BTreeMap<u64, Plain>,
    /// How many departures had a delay of so many minutes.
    delays: BTreeMap<i64, u64>,
}

/// What others see of an airport.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Congestion {
    /// Flights that should have left within the last two hours or are to leave within the next two.
    pub waiting: u64,
    /// Departures in tenths of a minute late, on the average of the last hour or so.
    pub late: i64,
}

/// The hour of the day that the clock at the airport shows.
fn hour_of_day(at: u64) -> u64 {
    Zone::NEW_YORK.minute_of_day(at) / 60
}

/// The mean as of `at` of what is known under a key.
fn mean_of<Q, K>(means: &BTreeMap<K, FadingMean>, key: &Q, at: u64, otherwise: f64, worth: f64) -> f64
where
    K: std::borrow::Borrow<Q> + Ord,
    Q: Ord + ?Sized,
{
    means.get(key).and_then(|mean| mean.mean(at, otherwise, worth)).unwrap_or(otherwise)
}

impl Airport {
    fn departed(&mut self, leg: &Leg, delay: i64, at: u64) {
        self.waiting.remove(&leg.id());
        let minutes = delay as f64;
        let late = minutes.clamp(CLIPPED.0, CLIPPED.1);
        let hour = hour_of_day(leg.scheduled);
        let week = 7 * DAY;
        self.hour.learn(at, late);
        self.hours.learn(at, late);
        let learn = |mean: &mut FadingMean| {
            mean.learn(at, late);
        };
        let of = |half_life| move || FadingMean::new(half_life);
        learn(self.carrier_hours.entry(leg.carrier.clone()).or_insert_with(of(3 * HOUR)));
        learn(self.carrier_week.entry(leg.carrier.clone()).or_insert_with(of(week)));
        learn(self.dest_hours.entry(leg.dest.clone()).or_insert_with(of(4 * HOUR)));
        learn(self.dest_weeks.entry(leg.dest.clone()).or_insert_with(of(2 * week)));
        learn(self.of_hour.entry(hour).or_insert_with(of(3 * week)));
        learn(self.of_carrier_hour.entry((leg.carrier.clone(), hour)).or_insert_with(of(4 * week)));
        learn(self.of_flight.entry(leg.flight.clone()).or_insert_with(of(2 * week)));
        self.all.add(minutes);
        self.by_hour.entry(hour).or_default().add(minutes);
        *self.delays.entry(delay.clamp(DELAYS.0, DELAYS.1)).or_default() += 1;
    }

    fn baselines(&self, leg: &Leg) -> Baselines {
        let airport_mean = self.all.mean().unwrap_or(0.0);
        let of_hour = self.by_hour.get(&hour_of_day(leg.scheduled));
        let count: u64 = self.delays.values().sum();
        let mut below = 0;
        let median = self.delays.iter().find(|(_, count_of)| {
            below += **count_of;
            below * 2 >= count
        });
        Baselines {
            airport_mean,
            hour_mean: of_hour.and_then(|plain| plain.mean()).unwrap_or(airport_mean),
            airport_median: median.map_or(0.0, |(delay, _)| *delay as f64),
        }
    }

    /// Departures planned in slots around that of `scheduled`.
    fn planned(&self, scheduled: u64, from: i64, to: i64) -> f64 {
        let slot = |by: i64| (scheduled / SLOT).saturating_add_signed(by);
        self.planned.range(slot(from)..slot(to)).map(|(_, count)| f64::from(*count)).sum()
    }

    fn features(&self, asked: &Asked) -> Vector<FEATURES> {
        let Asked { at, leg, inbound, .. } = asked;
        let at = *at;
        let minute = Zone::NEW_YORK.minute_of_day(leg.scheduled) as f64;
        let day = (Zone::NEW_YORK.local(leg.scheduled) / DAY % 7) as f64;
        let mut features = Features::default();
        features.add(circle(minute / 1_440.0));
        features.add(circle(day / 7.0));
        features.add([minute, day, leg.duration() as f64 / MINUTE as f64]);
        features.add(of_plane(inbound.as_ref()));

        let hours = self.hours.mean(at, 8.0, 3.0).unwrap_or(8.0);
        features.add([self.hour.mean(at, 8.0, 3.0).unwrap_or(8.0), hours, self.hour.weight(at)]);
        features.add(self.overdue(leg, at));
        features.add([self.planned(leg.scheduled, -2, 2), self.planned(leg.scheduled, -8, 0)]);
        let (hour, carrier) = (hour_of_day(leg.scheduled), leg.carrier.as_str());
        let carrier_hour = mean_of(&self.of_carrier_hour, &(leg.carrier.clone(), hour), at, 8.0, 5.0);
        features.add([
            self.cancelled.weight(at),
            mean_of(&self.carrier_hours, carrier, at, hours, 2.0),
            mean_of(&self.carrier_week, carrier, at, 8.0, 5.0),
            mean_of(&self.dest_hours, leg.dest.as_str(), at, hours, 2.0),
            mean_of(&self.dest_weeks, leg.dest.as_str(), at, 8.0, 5.0),
            self.of_hour.get(&hour).and_then(|mean| mean.mean(at, 8.0, 5.0)).unwrap_or(8.0),
            carrier_hour,
            mean_of(&self.of_flight, leg.flight.as_str(), at, carrier_hour, 3.0),
        ]);
        let weather = self.weather.as_ref().filter(|(observed, _)| at - observed < STALE);
        features.add(of_weather(weather.map(|(_, weather)| weather)));
        features.add(ORIGINS.map(|origin| f64::from(origin == leg.origin)));
        features.add(CARRIERS.map(|carrier| f64::from(carrier == leg.carrier)));
        features.done()
    }

    /// Flights that should have left: how many are overdue, for how long on the average, how many of them are of the same
    /// carrier, how many to the same destination; and how many should have left by now.
    fn overdue(&self, leg: &Leg, at: u64) -> [f64; 5] {
        let [mut overdue, mut minutes, mut carrier, mut dest, mut all] = [0.0; 5];
        for ((scheduled, ..), waiting) in
            self.waiting.iter().take_while(|((scheduled, ..), _)| *scheduled <= at)
        {
            let age = at - scheduled;
            all += 1.0;
            if (OVERDUE..HOPELESS).contains(&age) {
                overdue += 1.0;
                minutes += age as f64 / MINUTE as f64;
                carrier += f64::from(waiting.carrier == leg.carrier);
                dest += f64::from(waiting.dest == leg.dest);
            }
        }
        [overdue, if overdue > 0.0 { minutes / overdue } else { 0.0 }, carrier, dest, all]
    }
}

/// What is known of the plane; nothing where it is 0 throughout.
fn of_plane(inbound: Option<&Inbound>) -> [f64; 11] {
    let Some(Inbound { status, gap, planned, slack, departed }) = inbound else {
        return [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    };
    let is = |fits: bool| f64::from(fits);
    let hours = |minutes: f64| (minutes / 60.0).clamp(0.0, 4.0);
    [
        0.0,
        is(*status == Status::Planned),
        is(matches!(status, Status::Departed(_))),
        is(matches!(status, Status::Landed(..))),
        is(*status == Status::Cancelled),
        *gap,
        *planned,
        *departed,
        *slack,
        // Late is late, and early is only early.
        hours(-slack),
        hours(30.0 - slack),
    ]
}

/// What is not known is taken to be as on a fine day.
fn of_weather(weather: Option<&Weather>) -> [f64; 7] {
    let Some(Weather { temp, dewp, wind_speed, wind_gust, precip, pressure, visib, .. }) = weather else {
        return [55.0, 40.0, 10.0, 10.0, 0.0, 1_017.0, 10.0];
    };
    let wind = wind_speed.unwrap_or(10.0);
    [
        temp.unwrap_or(55.0),
        dewp.unwrap_or(40.0),
        wind,
        wind_gust.unwrap_or(wind),
        precip.unwrap_or(0.0),
        pressure.unwrap_or(1_017.0),
        visib.unwrap_or(10.0),
    ]
}

/// A part of something that goes round, so that its end is beside its beginning.
fn circle(part: f64) -> [f64; 2] {
    // Bhaskara's sine, the same to the bit on every machine; it is off by 0.002 at most.
    let sine = |part: f64| {
        let (part, sign) = if part.fract() < 0.5 { (part.fract(), 1.0) } else { (part.fract() - 0.5, -1.0) };
        let product = 4.0 * part * 2.0 * (1.0 - 2.0 * part);
        sign * 4.0 * product / (5.0 - product)
    };
    [sine(part), sine(part + 0.25)]
}

/// Numbers, one after the other.
struct Features([f64; FEATURES], usize);

impl Default for Features {
    fn default() -> Self {
        Features([0.0; FEATURES], 0)
    }
}

impl Features {
    fn add<const N: usize>(&mut self, numbers: [f64; N]) {
        self.0[self.1..self.1 + N].copy_from_slice(&numbers);
        self.1 += N;
    }
    fn done(self) -> Vector<FEATURES> {
        debug_assert_eq!(self.1, FEATURES, "all features are there");
        Vector(self.0)
    }
}

impl Agent for Airport {
    type Key = String;
    type Event = Heard;
    type View = Congestion;
    type Emit = Example;

    fn create(_code: &String) -> Self {
        Airport {
            hour: FadingMean::new(HOUR),
            hours: FadingMean::new(4 * HOUR),
            carrier_hours: BTreeMap::new(),
            carrier_week: BTreeMap::new(),
            dest_hours: BTreeMap::new(),
            dest_weeks: BTreeMap::new(),
            of_hour: BTreeMap::new(),
            of_carrier_hour: BTreeMap::new(),
            of_flight: BTreeMap::new(),
            cancelled: FadingMean::new(4 * HOUR),
            waiting: BTreeMap::new(),
            planned: BTreeMap::new(),
            weather: None,
            all: Plain::default(),
            by_hour: BTreeMap::new(),
            delays: BTreeMap::new(),
        }
    }
    fn on_event(&mut self, heard: &Heard, context: &mut Context<'_, Self>) {
        match heard {
            Heard::Asked(asked) => {
                let (features, baselines) = (self.features(asked), self.baselines(&asked.leg));
                let Asked { number, at, leg, .. } = asked.clone();
                self.waiting
                    .insert(leg.id(), Waiting { carrier: leg.carrier.clone(), dest: leg.dest.clone() });
                context.emit(Example { number, at, leg, features, baselines });
            }
            Heard::Told(told) => match &told.news {
                News::Weather(weather) => self.weather = Some((told.at, weather.clone())),
                News::Scheduled(leg) => {
                    *self.planned.entry(leg.scheduled / SLOT).or_default() += 1;
                    let yesterday = told.at.saturating_sub(DAY) / SLOT;
                    while self.planned.first_key_value().is_some_and(|(slot, _)| *slot < yesterday) {
                        self.planned.pop_first();
                    }
                }
                News::Departed(leg, delay) => self.departed(leg, *delay, told.at),
                News::Cancelled(leg) => {
                    self.waiting.remove(&leg.id());
                    self.cancelled.learn(told.at, 1.0);
                }
                News::Landed(..) | News::Asked(_) => {}
            },
        }
    }
    fn view(&self) -> Option<Congestion> {
        let late = self.hour.mean(0, 0.0, 0.0).unwrap_or(0.0);
        Some(Congestion { waiting: self.waiting.len() as u64, late: (late * 10.0).round() as i64 })
    }
}
