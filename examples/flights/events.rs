//! What happened to a flight, as events in the order in which it happened.

use nekton::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use crate::calendar::{DAY, HOUR, MINUTE, midnight};
use crate::data::{FlightRow, Names};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It left the gate.
    Departed,
    /// It will not leave; known at its scheduled departure.
    Cancelled,
    /// It reached the gate at its destination.
    Landed,
}

/// One line of the topic `flights`. Times are in milliseconds since 1970, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightEvent {
    pub event: What,
    /// When it happened.
    pub at: u64,
    /// Carrier and number, such as `UA1545`.
    pub flight: String,
    pub carrier: String,
    /// The plane's tail number; unknown for some cancelled flights.
    pub tail: Option<String>,
    pub origin: String,
    pub dest: String,
    /// When it was to leave. Together with the flight's number and origin, this names the flight.
    pub scheduled: u64,
    /// When it was to arrive.
    pub due: u64,
    /// Minutes late at departure or arrival, negative if early; 0 if cancelled.
    pub delay: i64,
    /// The replay that published it: several may be in one topic.
    pub replay: u64,
}

/// All events of these flights, in the order of their times.
///
/// A flight leaves `dep_delay` minutes after its scheduled departure and lands `arr_delay` minutes after its
/// scheduled arrival, which is when the clock at its destination first shows `sched_arr_time` after the scheduled
/// departure. A cancelled flight has no `dep_delay`, a diverted one no `arr_delay`: it never lands as far as this
/// table tells. See `docs/flights.md` for why not departure + `air_time`.
pub fn of_flights(flights: &[FlightRow], names: &Names, replay: u64) -> Result<Vec<FlightEvent>> {
    let mut events = Vec::with_capacity(flights.len() * 2);
    for row in flights {
        let zone = names.zone(&row.dest).ok_or_else(|| {
            Error::new(Kind::BadInput, format!("the airport {} has no time zone in airports.csv", row.dest))
        })?;
        let scheduled = hour(&row.time_hour)? + row.minute * MINUTE;
        let clock = row.sched_arr_time / 100 * 60 + row.sched_arr_time % 100;
        let minutes = (clock + DAY / MINUTE - zone.minute_of_day(scheduled)) % (DAY / MINUTE);
        let due = scheduled + minutes * MINUTE;
        let mut happened = |event, at: u64, delay: i64| {
            events.push(FlightEvent {
                event,
                at: at.saturating_add_signed(delay * MINUTE as i64),
                flight: format!("{}{}", row.carrier, row.flight),
                carrier: row.carrier.clone(),
                tail: row.tailnum.clone(),
                origin: row.origin.clone(),
                dest: row.dest.clone(),
                scheduled,
                due,
                delay,
                replay,
            });
        };
        match row.dep_delay {
            Some(delay) => happened(What::Departed, scheduled, delay),
            None => happened(What::Cancelled, scheduled, 0),
        }
        if let Some(delay) = row.arr_delay {
            happened(What::Landed, due, delay);
        }
    }
    events.sort_by_key(|event| event.at);
    Ok(events)
}

/// Reads an hour as the table has it: `2013-01-01T10:00:00Z`.
pub fn hour(text: &str) -> Result<u64> {
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let read = || Some((field(0, 4)?, field(5, 7)?, field(8, 10)?, field(11, 13)?));
    let (year, month, day, hour) = read().ok_or_else(|| {
        Error::new(Kind::BadInput, format!("{text:?} is no hour: it should be like 2013-01-01T10:00:00Z"))
    })?;
    Ok(midnight(year, month, day) + hour * HOUR)
}
