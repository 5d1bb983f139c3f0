//! The agents: what is remembered of each carrier, each airport and each plane.

use std::collections::HashMap;

use nekton::prelude::*;

use crate::events::{FlightEvent, What};

/// A departure more than this many minutes after its schedule is late.
const LATE: i64 = 15;

/// What the topic `carriers` says of a carrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Figures {
    /// Flights that left.
    pub departed: u64,
    /// Flights that were cancelled.
    pub cancelled: u64,
    /// Flights that left more than 15 minutes late.
    pub late: u64,
    /// The sum of all departure delays in minutes, early ones negative.
    pub delay_minutes: i64,
}

/// What the topic `airports` says of an airport that flights leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AirportFigures {
    pub departed: u64,
    pub cancelled: u64,
    pub late: u64,
    pub delay_minutes: i64,
    /// Flights that left and have not landed yet.
    pub aloft: u64,
}

/// A carrier or an airport: counts what leaves and what does not.
#[derive(Default, Serialize, Deserialize)]
pub struct Tally(TallyView);

/// What others see of a [`Tally`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TallyView {
    pub figures: Figures,
    /// All events seen, landings as well.
    pub events: u64,
    /// When the last of them happened.
    pub at: u64,
}

impl Agent for Tally {
    type Key = String;
    type Event = FlightEvent;
    type View = TallyView;
    type Emit = ();

    fn create(_code: &String) -> Self {
        Tally::default()
    }
    fn on_event(&mut self, event: &FlightEvent, _context: &mut Context<'_, Self>) {
        let Tally(TallyView { figures, events, at }) = self;
        *events += 1;
        *at = event.at.max(*at);
        match event.event {
            What::Departed => {
                figures.departed += 1;
                figures.late += u64::from(event.delay > LATE);
                figures.delay_minutes += event.delay;
            }
            What::Cancelled => figures.cancelled += 1,
            What::Landed => {}
        }
    }
    fn view(&self) -> Option<TallyView> {
        Some(self.0)
    }
}

/// A flight that has left, as the topic `aloft` says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Leg {
    pub flight: String,
    pub origin: String,
    pub dest: String,
    /// When it left, in milliseconds since 1970.
    pub departed: u64,
    /// When it was to arrive.
    pub due: u64,
    /// When it was to leave.
    pub scheduled: u64,
}

/// A flight that has left, as the map shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Way {
    pub flight: String,
    /// The airline's code.
    pub carrier: String,
    pub origin: String,
    pub dest: String,
    pub from: Option<Position>,
    pub to: Option<Position>,
    /// When it left and when it was to arrive, in milliseconds since 1970.
    pub departed: u64,
    pub due: u64,
    /// Minutes by which it left later than it was to.
    pub late: i64,
}

impl Way {
    pub fn of(leg: Leg, places: &HashMap<String, Position>) -> Self {
        let place = |code: &String| places.get(code).copied();
        Way {
            from: place(&leg.origin),
            to: place(&leg.dest),
            carrier: leg.flight.chars().take(2).collect(),
            late: (leg.departed as i64 - leg.scheduled as i64) / 60_000,
            flight: leg.flight,
            origin: leg.origin,
            dest: leg.dest,
            departed: leg.departed,
            due: leg.due,
        }
    }
}

/// A plane, by its tail number.
#[derive(Default, Serialize, Deserialize)]
pub struct Plane(PlaneView);

/// What others see of a plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlaneView {
    /// The flight that it is on.
    pub aloft: Option<Leg>,
    /// Flights whose landing was never told, though the plane has left on another since: they were
    /// diverted. A few a year.
    pub untold: Vec<Leg>,
}

impl Agent for Plane {
    type Key = String;
    type Event = FlightEvent;
    type View = PlaneView;
    type Emit = ();

    fn create(_tail: &String) -> Self {
        Plane::default()
    }
    fn on_event(&mut self, event: &FlightEvent, _context: &mut Context<'_, Self>) {
        let Plane(PlaneView { aloft, untold }) = self;
        match event.event {
            What::Departed => {
                let leg = Leg {
                    flight: event.flight.clone(),
                    origin: event.origin.clone(),
                    dest: event.dest.clone(),
                    departed: event.at,
                    due: event.due,
                    scheduled: event.scheduled,
                };
                untold.extend(aloft.replace(leg));
            }
            What::Landed => {
                let landed = |leg: &Leg| leg.flight == event.flight && leg.scheduled == event.scheduled;
                if aloft.as_ref().is_some_and(landed) {
                    *aloft = None;
                } else if let Some(index) = untold.iter().position(landed) {
                    untold.remove(index);
                }
            }
            What::Cancelled => {}
        }
    }
    fn view(&self) -> Option<PlaneView> {
        (self.0 != PlaneView::default()).then(|| self.0.clone())
    }
}
