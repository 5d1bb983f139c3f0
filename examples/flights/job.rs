//! The job: from the topic `flights`, through agents, to the topics `carriers`, `airports` and `aloft`.

use std::collections::HashMap;

use nekton::differential_dataflow::VecCollection;
use nekton::prelude::*;

use crate::agents::{AirportFigures, Figures, Leg, Plane, Tally, TallyView, Way};
use crate::events::{FlightEvent, What};

/// A line of the screen. All are in one view, so that what is shown belongs to one time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Line {
    Airport(String, AirportFigures),
    Carrier(String, TallyView),
    Aloft(String, Leg),
}

/// Builds the job; returns what the screen shows. With `replay`, only that replay's events count. `places` are airports'.
pub fn build(flow: &mut Flow<'_>, replay: Option<u64>, places: &HashMap<String, Position>) -> View<Line> {
    let events = flow
        .events::<FlightEvent>("flights")
        .filter(move |event| replay.is_none_or(|replay| event.replay == replay));

    // Roots: an agent a carrier, an airport and a plane.
    let carriers = events.agents::<Tally>("carriers", |event| event.carrier.clone());
    let origins = events.agents::<Tally>("airports", |event| event.origin.clone());
    let flown = events.filter(|event| event.event != What::Cancelled && event.tail.is_some());
    let planes = flown.agents::<Plane>("planes", |event| event.tail.clone().unwrap_or_default());

    // How many have left each airport and not landed yet: counted over the planes.
    let left = planes
        .flat_map(|(_, plane)| plane.aloft.into_iter().chain(plane.untold).map(|leg| leg.origin))
        .count();
    let airports = with_aloft(origins.map(|(code, tally)| (code, tally.figures)), left);
    let aloft = planes.flat_map(|(tail, plane)| plane.aloft.map(|leg| (tail, leg)));

    flow.sink("carriers", upsert(&carriers.map(|(code, tally)| (code, tally.figures))));
    flow.sink("airports", upsert(&airports));
    flow.sink("aloft", changes(&aloft));

    let known = places.clone();
    let ways = aloft.clone().map(move |(tail, leg)| (tail, Way::of(leg, &known)));
    flow.view("aloft", &ways)
        .map(
            Map::at("from.lat", "from.lon")
                .to("to.lat", "to.lon")
                .moving("departed", "due")
                .colour("carrier")
                .label("flight"),
        )
        .chart(Chart::count().by("origin").titled("Planes aloft, by where they come from"))
        .chart(Chart::histogram("late").titled("How late they left").unit("min"));
    flow.view("airports", &airports)
        .chart(Chart::lines("aloft").titled("Planes aloft"))
        .chart(Chart::bars("departed").titled("Departed"));
    flow.view("carriers", &carriers.map(|(code, tally)| (code, tally.figures)))
        .chart(Chart::bars("departed").titled("Departed"))
        .chart(Chart::lines("late").titled("Left late"))
        .chart(Chart::sparks("departed"));
    let lines = airports
        .map(|(code, figures)| Line::Airport(code, figures))
        .concat(carriers.map(|(code, tally)| Line::Carrier(code, tally)))
        .concat(aloft.map(|(tail, leg)| Line::Aloft(tail, leg)));
    flow.view("screen", &lines)
}

/// The figures of each airport together with its count of flights aloft, 0 where there are none.
fn with_aloft<'s>(
    figures: VecCollection<'s, Time, (String, Figures), isize>,
    aloft: VecCollection<'s, Time, (String, isize), isize>,
) -> VecCollection<'s, Time, (String, AirportFigures), isize> {
    let figures = figures.map(|(code, Figures { departed, cancelled, late, delay_minutes })| {
        (code, AirportFigures { departed, cancelled, late, delay_minutes, aloft: 0 })
    });
    let aloft = aloft.map(|(code, count)| {
        (code, AirportFigures { aloft: count.unsigned_abs() as u64, ..AirportFigures::default() })
    });
    figures.concat(aloft).reduce(|_code, parts, whole| {
        let mut sum = AirportFigures::default();
        for (part, _) in parts {
            sum.departed += part.departed;
            sum.cancelled += part.cancelled;
            sum.late += part.late;
            sum.delay_minutes += part.delay_minutes;
            sum.aloft += part.aloft;
        }
        whole.push((sum, 1));
    })
}
