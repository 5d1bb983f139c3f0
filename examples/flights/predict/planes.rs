//! Planes: an agent each, which links its plane to its next flight and says how late that makes it.
//!
//! The data has no flights to New York, so the flight before is the one on which the plane left New York: it lands, flies back
//! in about the same time, and is made ready twice.

use nekton::prelude::*;

use super::log::{Leg, News, Told};
use crate::calendar::{DAY, MINUTE};

/// How long it takes to make a plane ready, twice: there and in New York.
const TURNS: u64 = 60 * MINUTE;
/// Flights of a plane that were to leave longer ago are forgotten.
const REMEMBERED: u64 = 2 * DAY;
/// The most flights of a plane that are remembered; no plane has as many in three days.
const MOST: usize = 64;

/// What is known of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Status {
    Planned,
    /// It left so many minutes late.
    Departed(i64),
    /// It left, and landed, so many minutes late.
    Landed(i64, i64),
    Cancelled,
}

/// A flight of a plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flight {
    leg: Leg,
    status: Status,
}

impl Flight {
    /// When it is expected to land as of `at`; never, where it is cancelled.
    fn lands(&self, at: u64) -> Option<u64> {
        let Leg { scheduled, due, .. } = self.leg;
        let late = |delay: i64| due.saturating_add_signed(delay * MINUTE as i64);
        match self.status {
            Status::Planned if at > scheduled => Some(due.max(at + self.leg.duration())),
            Status::Planned => Some(due),
            // On their way they make up for some minutes.
            Status::Departed(delay) => Some(late(delay - 10).max(at)),
            Status::Landed(_, delay) => Some(late(delay)),
            Status::Cancelled => None,
        }
    }
    /// When the plane is expected to be ready in New York again.
    fn ready(&self, at: u64) -> Option<u64> {
        Some(self.lands(at)? + self.leg.duration() + TURNS)
    }
}

/// What is known of the plane of a flight, two hours before it is to leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inbound {
    pub status: Status,
    /// Minutes from the departure before, as planned, to this one.
    pub gap: f64,
    /// Minutes that the plane would have in New York and there to be made ready, as planned.
    pub planned: f64,
    /// How many minutes before this departure it is expected to be ready.
    pub slack: f64,
    /// Minutes by which the departure before was late, or is at least.
    pub departed: f64,
}

/// A plane, by its tail number.
#[derive(Serialize, Deserialize)]
pub struct Plane {
    /// By when they were to leave.
    flights: Vec<Flight>,
    /// When something became known last.
    at: u64,
}

/// A plane's next flight, and how late it will be because of the plane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Next {
    pub flight: String,
    pub origin: String,
    pub dest: String,
    pub scheduled: u64,
    /// The flight that the plane is on before, if it is known.
    pub after: Option<String>,
    /// Minutes by which the plane will not be ready in time, as far as is known.
    pub late: u64,
}

/// A flight that was asked for, with what its plane says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub number: u64,
    pub at: u64,
    pub leg: Leg,
    pub inbound: Option<Inbound>,
}

impl Plane {
    /// The flight before.
    fn before(&self, leg: &Leg) -> Option<&Flight> {
        let before = self.flights.iter().rev().find(|flight| flight.leg.scheduled < leg.scheduled);
        before.filter(|flight| leg.scheduled - flight.leg.scheduled < DAY)
    }

    fn inbound(&self, leg: &Leg, at: u64) -> Option<Inbound> {
        let flight = self.before(leg)?;
        let minutes = |to: u64, from: u64| (to as f64 - from as f64) / MINUTE as f64;
        let departed = match flight.status {
            Status::Planned => minutes(at, flight.leg.scheduled).max(0.0),
            Status::Departed(delay) | Status::Landed(delay, _) => delay as f64,
            Status::Cancelled => 0.0,
        };
        Some(Inbound {
            status: flight.status,
            gap: minutes(leg.scheduled, flight.leg.scheduled),
            planned: minutes(leg.scheduled, flight.leg.due + flight.leg.duration()),
            slack: flight.ready(at).map_or(0.0, |ready| minutes(leg.scheduled, ready)),
            departed,
        })
    }

    fn schedule(&mut self, leg: &Leg, at: u64) {
        let place = self.flights.partition_point(|flight| flight.leg.scheduled <= leg.scheduled);
        self.flights.insert(place, Flight { leg: leg.clone(), status: Status::Planned });
        let old = self.flights.iter().take_while(|flight| flight.leg.scheduled + REMEMBERED < at).count();
        self.flights.drain(..old.max(self.flights.len().saturating_sub(MOST)));
    }

    fn set(&mut self, leg: &Leg, change: impl FnOnce(Status) -> Status) {
        let same = |flight: &&mut Flight| {
            (flight.leg.scheduled, &flight.leg.flight, &flight.leg.origin)
                == (leg.scheduled, &leg.flight, &leg.origin)
        };
        if let Some(flight) = self.flights.iter_mut().rev().find(same) {
            flight.status = change(flight.status);
        }
    }
}

impl Agent for Plane {
    type Key = String;
    type Event = Told;
    type View = Next;
    type Emit = Asked;

    fn create(_tail: &String) -> Self {
        Plane { flights: Vec::new(), at: 0 }
    }
    fn on_event(&mut self, told: &Told, context: &mut Context<'_, Self>) {
        self.at = told.at;
        match &told.news {
            News::Scheduled(leg) => self.schedule(leg, told.at),
            News::Departed(leg, delay) => self.set(leg, |_| Status::Departed(*delay)),
            News::Landed(leg, delay) => self.set(leg, |status| match status {
                Status::Departed(departed) => Status::Landed(departed, *delay),
                other => other,
            }),
            News::Cancelled(leg) => self.set(leg, |_| Status::Cancelled),
            News::Asked(leg) => {
                let inbound = self.inbound(leg, told.at);
                context.emit(Asked { number: told.number, at: told.at, leg: leg.clone(), inbound });
            }
            News::Weather(_) => {}
        }
    }
    fn view(&self) -> Option<Next> {
        let planned = |flight: &&Flight| flight.status == Status::Planned && flight.leg.tail.is_some();
        let next = &self.flights.iter().find(planned)?.leg;
        let before = self.before(next);
        let ready = before.and_then(|flight| flight.ready(self.at));
        Some(Next {
            flight: next.flight.clone(),
            origin: next.origin.clone(),
            dest: next.dest.clone(),
            scheduled: next.scheduled,
            after: before.map(|flight| flight.leg.flight.clone()),
            late: ready.map_or(0, |ready| ready.saturating_sub(next.scheduled) / MINUTE),
        })
    }
}
