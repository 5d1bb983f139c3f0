//! The job: from the log, through planes, airports and the forecaster, to predictions and a scoreboard.

use nekton::operators::InOrder;
use nekton::operators::learn::{Rules, Score, Scoreboards};
use nekton::prelude::*;

use super::airports::{self, Airport};
use super::forecaster::{self, Forecaster, Progress, Said, Who};
use super::log::{News, Told};
use super::planes::Plane;

/// A line of the screen. All are in one view, so that what is shown belongs to one time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Line {
    Score(String, Who, Score),
    Champion(String, Who),
    Progress(Progress),
}

/// Builds the job; returns what the screen shows. With `replay`, only that replay's events count; with `examples`, what the
/// models predict from goes to a topic as well.
pub fn build(flow: &mut Flow<'_>, replay: Option<u64>, examples: bool) -> View<Line> {
    let log =
        flow.events::<Told>("log").filter(move |told| replay.is_none_or(|replay| told.replay == replay));

    // A plane says what it knows when one of its flights is asked for; a flight without a plane speaks for itself.
    let flights = log.filter(|told| told.news.leg().is_some());
    let planes = flights.agents::<Plane>("planes", |told| {
        told.news.leg().map_or_else(String::new, |leg| leg.tail.clone().unwrap_or_else(|| leg.flight.clone()))
    });

    // To that the flight's airport adds what it knows, the weather too. What came by the planes is put in its place again
    // among what came straight from the log.
    let straight = log.filter(|told| !matches!(told.news, News::Asked(_) | News::Landed(..)));
    let heard = straight.map(airports::Heard::Told).concat(&planes.emitted().map(airports::Heard::Asked));
    let heard = heard.in_order(|heard| heard.origin().to_owned(), airports::Heard::number);
    let airports = heard.agents::<Airport>("airports", |heard| heard.origin().to_owned());

    // And the models predict.
    let known = airports.emitted();
    let heard = log
        .map(forecaster::Heard::of)
        .concat(&known.map(|example| forecaster::Heard::Example(Box::new(example))));
    let heard = heard.in_order(|_| (), forecaster::Heard::number);
    let forecaster = heard.agents::<Forecaster>("forecaster", |_| ());

    let said = forecaster.emitted();
    let judged = said.flat_map(|said| match said {
        Said::Judged(judged) => Some(judged),
        Said::Predicted(_) => None,
    });
    let predicted = said.flat_map(|said| match said {
        Said::Predicted(prediction) => Some(prediction),
        Said::Judged(_) => None,
    });
    // The recent mean is of some thousand flights, a day's.
    let rules = Rules { part: 0.001, after: 1_000, ..Rules::default() };
    let board = judged.flat_map(|judged| judged.scored()).scoreboard("models", rules);

    flow.sink("predictions", keyed(&predicted, |prediction| prediction.flight.clone()));
    flow.sink("outcomes", keyed(&judged, |judged| judged.flight.clone()));
    flow.sink("models", upsert(&board.scores()));
    flow.sink("champions", changes(&board.champions()));
    flow.sink("next", changes(&planes.views()));
    flow.sink("congestion", upsert(&airports.views()));
    if examples {
        flow.sink("examples", keyed(&known, |example| example.leg.flight.clone()));
    }

    let scores = board.scores().map(|((board, who), score)| Line::Score(board, who, score));
    let champions = board.champions().map(|(board, who)| Line::Champion(board, who));
    let progress = forecaster.views().map(|((), progress)| Line::Progress(progress));
    flow.view("screen", &scores.concat(champions).concat(progress))
}
