//! The committed data: compressed tables, compiled into the program.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use nekton::operators::Position;
use nekton::{Error, Kind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::calendar::Zone;

macro_rules! table {
    ($name:literal) => {
        ($name, include_bytes!(concat!("data/", $name, ".csv.zst")))
    };
}

/// A table's name and its compressed bytes.
type Table = (&'static str, &'static [u8]);

const FLIGHTS: [Table; 12] = [
    table!("flights-01"),
    table!("flights-02"),
    table!("flights-03"),
    table!("flights-04"),
    table!("flights-05"),
    table!("flights-06"),
    table!("flights-07"),
    table!("flights-08"),
    table!("flights-09"),
    table!("flights-10"),
    table!("flights-11"),
    table!("flights-12"),
];
const AIRPORTS: Table = table!("airports");
const AIRLINES: Table = table!("airlines");
const PLANES: Table = table!("planes");
const WEATHER: Table = table!("weather");

/// A flight as it is in the table. Delays are in minutes, clock times written as hours * 100 + minutes.
#[derive(Debug, Deserialize)]
pub struct FlightRow {
    /// None if the flight was cancelled.
    #[serde(deserialize_with = "known")]
    pub dep_delay: Option<i64>,
    pub sched_arr_time: u64,
    /// None if the flight was cancelled or diverted.
    #[serde(deserialize_with = "known")]
    pub arr_delay: Option<i64>,
    pub carrier: String,
    pub flight: u32,
    #[serde(deserialize_with = "known")]
    pub tailnum: Option<String>,
    pub origin: String,
    pub dest: String,
    pub minute: u64,
    /// The hour of the scheduled departure, in UTC: `2013-01-01T10:00:00Z`.
    pub time_hour: String,
}

/// The weather at an airport in an hour, as it is in the table.
#[derive(Debug, Deserialize)]
pub struct WeatherRow {
    pub origin: String,
    #[serde(deserialize_with = "known")]
    pub temp: Option<f64>,
    #[serde(deserialize_with = "known")]
    pub dewp: Option<f64>,
    #[serde(deserialize_with = "known")]
    pub wind_speed: Option<f64>,
    #[serde(deserialize_with = "known")]
    pub wind_gust: Option<f64>,
    #[serde(deserialize_with = "known")]
    pub precip: Option<f64>,
    #[serde(deserialize_with = "known")]
    pub pressure: Option<f64>,
    #[serde(deserialize_with = "known")]
    pub visib: Option<f64>,
    /// The hour, in UTC: `2013-01-01T10:00:00Z`.
    pub time_hour: String,
}

#[derive(Deserialize)]
struct AirportRow {
    faa: String,
    name: String,
    lat: f64,
    lon: f64,
    tz: f64,
    dst: String,
}

#[derive(Deserialize)]
struct AirlineRow {
    carrier: String,
    name: String,
}

#[derive(Deserialize)]
struct PlaneRow {
    tailnum: String,
    manufacturer: String,
    model: String,
}

/// What there is to know about airports, airlines and planes.
#[derive(Debug, Default)]
pub struct Names {
    /// By airport code.
    zones: HashMap<String, Zone>,
    airports: HashMap<String, String>,
    places: HashMap<String, Position>,
    carriers: HashMap<String, String>,
    planes: HashMap<String, String>,
}

impl Names {
    pub fn read() -> Result<Self> {
        let mut names = Names::default();
        for row in rows::<AirportRow>(AIRPORTS)? {
            let zone = Zone { standard: row.tz as i64, summer: row.dst == "A" };
            names.zones.insert(row.faa.clone(), zone);
            names.places.insert(row.faa.clone(), Position::new(row.lat, row.lon)?);
            names.airports.insert(row.faa, row.name);
        }
        for row in rows::<AirlineRow>(AIRLINES)? {
            let name = row.name.trim_end_matches(" Inc.").trim_end_matches(" Co.").to_owned();
            names.carriers.insert(row.carrier, name);
        }
        for row in rows::<PlaneRow>(PLANES)? {
            names.planes.insert(row.tailnum, format!("{} {}", maker(&row.manufacturer), row.model));
        }
        // The four that are missing in the list, all in Puerto Rico and the Virgin Islands.
        for (code, name, latitude, longitude) in [
            ("BQN", "Aguadilla", 18.495, -67.129),
            ("PSE", "Ponce", 18.008, -66.563),
            ("SJU", "San Juan", 18.439, -66.002),
            ("STT", "Charlotte Amalie", 18.337, -64.973),
        ] {
            names.places.insert(code.to_owned(), Position::new(latitude, longitude)?);
            names.zones.insert(code.to_owned(), Zone::ATLANTIC);
            names.airports.insert(code.to_owned(), name.to_owned());
        }
        Ok(names)
    }

    /// The time zone of an airport.
    pub fn zone(&self, airport: &str) -> Option<Zone> {
        self.zones.get(airport).copied()
    }
    /// Where airports are.
    pub fn places(&self) -> &HashMap<String, Position> {
        &self.places
    }
    /// The name of an airport, or its code.
    pub fn airport<'a>(&'a self, code: &'a str) -> &'a str {
        self.airports.get(code).map_or(code, String::as_str)
    }
    /// The name of a carrier, or nothing.
    pub fn carrier(&self, code: &str) -> &str {
        self.carriers.get(code).map_or("", String::as_str)
    }
    /// The type of a plane, or nothing.
    pub fn plane(&self, tail: &str) -> &str {
        self.planes.get(tail).map_or("", String::as_str)
    }
}

/// The name that people call a maker of planes by.
fn maker(name: &str) -> String {
    let first = name.split_whitespace().next().unwrap_or_default();
    match first {
        "MCDONNELL" => "MD".to_owned(),
        _ => first.chars().take(1).chain(first.chars().skip(1).flat_map(char::to_lowercase)).collect(),
    }
}

/// The flights of some months, in the table's order.
pub fn flights(months: RangeInclusive<usize>) -> Result<Vec<FlightRow>> {
    let mut flights = Vec::new();
    for table in &FLIGHTS[months.start() - 1..*months.end()] {
        flights.extend(rows(*table)?);
    }
    Ok(flights)
}

/// The weather of the year, an hour a row.
pub fn weather() -> Result<Vec<WeatherRow>> {
    rows(WEATHER)
}

fn rows<T: DeserializeOwned>((name, bytes): Table) -> Result<Vec<T>> {
    let broken = |error: &dyn std::fmt::Display| {
        let text =
            format!("the table {name}.csv.zst cannot be read: {error}. Make it again with data/make.sh");
        Error::new(Kind::BadInput, text)
    };
    let text = zstd::Decoder::with_buffer(bytes).map_err(|error| broken(&error))?;
    csv::Reader::from_reader(text)
        .into_deserialize()
        .collect::<Result<_, _>>()
        .map_err(|error| broken(&error))
}

/// What is not known is written `NA`.
fn known<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" | "NA" => Ok(None),
        text => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}
