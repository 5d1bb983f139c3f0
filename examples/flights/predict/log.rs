//! The log: schedules, what happened, and the weather, in the order in which all of it became known.

use nekton::Result;
use serde::{Deserialize, Serialize};

use crate::calendar::{DAY, HOUR};
use crate::data::{FlightRow, Names, WeatherRow};
use crate::events::{FlightEvent, What, hour, of_flights};

/// How long before its departure a flight and its plane are made known.
pub const ANNOUNCED: u64 = DAY;
/// How long before its scheduled departure a flight's delay is asked for.
pub const AHEAD: u64 = 2 * HOUR;
/// How long after the hour that it is of an observation of the weather is taken to be known.
const OBSERVED: u64 = HOUR;

/// A flight as it is planned. Times are in milliseconds since 1970, in UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// Carrier and number.
    pub flight: String,
    pub carrier: String,
    /// The plane; unknown for some that are cancelled.
    pub tail: Option<String>,
    pub origin: String,
    pub dest: String,
    /// When it is to leave.
    pub scheduled: u64,
    /// When it is to arrive.
    pub due: u64,
}

/// What names a flight: when it is to leave, its number, and from where.
pub type FlightId = (u64, String, String);

impl Leg {
    pub fn id(&self) -> FlightId {
        (self.scheduled, self.flight.clone(), self.origin.clone())
    }
    /// How long it is to take, from gate to gate, in milliseconds.
    pub fn duration(&self) -> u64 {
        self.due.saturating_sub(self.scheduled)
    }
}

/// The weather at an airport in some hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weather {
    pub origin: String,
    /// In degrees Fahrenheit.
    pub temp: Option<f64>,
    pub dewp: Option<f64>,
    /// In miles an hour.
    pub wind_speed: Option<f64>,
    pub wind_gust: Option<f64>,
    /// In inches.
    pub precip: Option<f64>,
    /// In millibars.
    pub pressure: Option<f64>,
    /// In miles.
    pub visib: Option<f64>,
}

/// What became known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum News {
    Weather(Weather),
    /// A flight is planned, with this plane.
    Scheduled(Leg),
    /// It left so many minutes late.
    Departed(Leg, i64),
    /// It will not leave.
    Cancelled(Leg),
    /// It landed so many minutes late.
    Landed(Leg, i64),
    /// It is to leave in two hours: how late will it be?
    Asked(Leg),
}

impl News {
    pub fn leg(&self) -> Option<&Leg> {
        match self {
            News::Weather(_) => None,
            News::Scheduled(leg)
            | News::Departed(leg, _)
            | News::Cancelled(leg)
            | News::Landed(leg, _)
            | News::Asked(leg) => Some(leg),
        }
    }
    /// The airport in New York that it is of.
    pub fn origin(&self) -> &str {
        match self {
            News::Weather(weather) => &weather.origin,
            News::Scheduled(leg)
            | News::Departed(leg, _)
            | News::Cancelled(leg)
            | News::Landed(leg, _)
            | News::Asked(leg) => &leg.origin,
        }
    }
    /// Of what becomes known in the same minute, questions are asked last.
    fn rank(&self) -> u8 {
        match self {
            News::Weather(_) => 0,
            News::Scheduled(_) => 1,
            News::Departed(..) => 2,
            News::Cancelled(_) => 3,
            News::Landed(..) => 4,
            News::Asked(_) => 5,
        }
    }
}

/// One line of the topic `log`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Its place in the log, from 0.
    pub number: u64,
    /// When it became known.
    pub at: u64,
    /// The replay that published it: several may be in one topic.
    pub replay: u64,
    pub news: News,
}

/// All that becomes known of these flights, and of the weather from a day before the first until the last.
pub fn of_year(
    flights: &[FlightRow],
    weather: &[WeatherRow],
    names: &Names,
    replay: u64,
) -> Result<Vec<Told>> {
    let mut news = Vec::new();
    for event in of_flights(flights, names, replay)? {
        let FlightEvent { event, at, flight, carrier, tail, origin, dest, scheduled, due, delay, .. } = event;
        let leg = Leg { flight, carrier, tail, origin, dest, scheduled, due };
        if event != What::Landed {
            news.push((scheduled - ANNOUNCED, News::Scheduled(leg.clone())));
            news.push((scheduled - AHEAD, News::Asked(leg.clone())));
        }
        let happened = match event {
            What::Departed => News::Departed(leg, delay),
            What::Cancelled => News::Cancelled(leg),
            What::Landed => News::Landed(leg, delay),
        };
        news.push((at, happened));
    }
    let first = news.iter().map(|(at, _)| *at).min().unwrap_or(0);
    let last = news.iter().map(|(at, _)| *at).max().unwrap_or(0);
    for row in weather {
        let at = hour(&row.time_hour)? + OBSERVED;
        if (first..=last).contains(&at) {
            let WeatherRow { origin, temp, dewp, wind_speed, wind_gust, precip, pressure, visib, .. } = row;
            let origin = origin.clone();
            let [temp, dewp, wind_speed] = [*temp, *dewp, *wind_speed];
            let [wind_gust, precip, pressure, visib] = [*wind_gust, *precip, *pressure, *visib];
            let weather = Weather { origin, temp, dewp, wind_speed, wind_gust, precip, pressure, visib };
            news.push((at, News::Weather(weather)));
        }
    }
    news.sort_by_key(|(at, news)| (*at, news.rank()));
    let told = |(number, (at, news)): (u64, (u64, News))| Told { number, at, replay, news };
    Ok((0..).zip(news).map(told).collect())
}
