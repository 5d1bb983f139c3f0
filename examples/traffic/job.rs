//! The job: from the topic `city` to intersections that predict, what their neighbours tell them, and corridors that are congested.

use nekton::differential_dataflow::VecCollection;
use nekton::operators::Aggregate;
use nekton::operators::learn::Score;
use nekton::prelude::*;

use crate::events::{LEGS, Light, News, Phase, Road, Told, opposite};
use crate::forecaster::{Coming, Forecaster, Inflow};
use crate::intersection::{Change, Intersection, Said, Sent};
use crate::models::{What, Who};
use crate::streets::Streets;

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Progress {
    /// By the clock of the city.
    pub at: Time,
    pub events: u64,
}

/// Intersections that are congested, with roads between them that are open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Corridor {
    pub intersections: u64,
    /// Of the roads between them.
    pub metres: i64,
}

/// What can be looked at.
pub struct Shown {
    pub progress: View<((), Progress)>,
    pub scores: View<((What, Who), Score)>,
    /// By one of its intersections.
    pub corridors: View<(u32, Corridor)>,
}

/// What is to be done besides.
#[derive(Clone, Copy)]
pub struct Extras {
    /// Write each prediction when it is made.
    pub forecasts: bool,
    /// Show all intersections: on these streets.
    pub screens: Option<Streets>,
}

/// What the map shows of an intersection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Crossing {
    pub column: u32,
    pub row: i64,
    pub light: String,
    /// When it is expected to be another.
    pub until: Time,
    pub congested: bool,
    /// Open roads to congested neighbours, if it is congested itself.
    pub jammed: Vec<u32>,
}

type Roads<'s> = VecCollection<'s, Time, ((u32, u32), Road), isize>;

/// Builds the job for a run.
pub fn build(flow: &mut Flow<'_>, run: u64, extras: Extras) -> Shown {
    let told = flow.events::<Told>("city").filter(move |told| told.run == run);

    // Intersections, an agent each; and roads, a row each.
    let signals = told
        .filter(|told| !matches!(told.news, News::Road(_)))
        .agents::<Intersection>("intersections", |told| told.intersection);
    let rows = told.flat_map(|told| match told.news {
        News::Road(road) if usize::from(road.leg) < LEGS => Some(((told.intersection, road.to), Some(road))),
        _ => None,
    });
    let roads = rows.table("roads");
    let changes_of_light = signals.map(|(intersection, signal)| (intersection, signal.change));
    flow.sink("predictions", changes(&changes_of_light));

    // Queues: each report with what the neighbours send, as far as it was known then.
    let sent = signals.map(|(intersection, signal)| (intersection, signal.sent));
    let coming = coming(sent, roads.clone());
    let reports = signals.emitted().flat_map(|said| match said {
        Said::Report(report) => Some(report),
        _ => None,
    });
    let forecasters = reports
        .lookup(&coming, |report| report.intersection)
        .agents::<Forecaster>("forecasters", |(report, _)| report.intersection);
    flow.sink("queues", changes(&forecasters.views()));

    // Corridors: what hangs together of open roads between congested intersections.
    let congested = signals.filter(|(_, signal)| signal.congested).map(|(intersection, _)| intersection);
    let jams = jams(congested, roads);
    let corridors = corridors(jams.clone());
    flow.sink("corridors", changes(&corridors));

    // How good were the predictions?
    let said = signals.emitted().concat(&forecasters.emitted());
    let scored = said.flat_map(|said| match said {
        Said::Scored(scored) => Some(scored),
        _ => None,
    });
    let scores = scored.scoreboard("models", Rules::default()).scores();
    flow.sink("scores", upsert(&scores));
    if extras.forecasts {
        let forecasts = said.flat_map(|said| match said {
            Said::Forecast(forecast) => Some(forecast),
            _ => None,
        });
        flow.sink("forecasts", keyed(&forecasts, |forecast| forecast.intersection));
    }

    let progress = told.map(|told| told.at).agents::<Clock>("clock", |_| ());
    flow.sink("progress", upsert(&progress.views()));
    if let Some(streets) = extras.screens {
        let state = signals.map(|(intersection, signal)| (intersection, (signal.change, signal.congested)));
        let crossings = crossings(state, jams, streets);
        flow.view("intersections", &crossings)
            .map(Map::plane("column", "row").colour("light").links("jammed"))
            .chart(Chart::count().by("light").titled("Lights"))
            .chart(Chart::count().by("congested").titled("Congested, or not"));
        flow.view("queues", &forecasters)
            .chart(
                Chart::against("expected.0", "waiting.0")
                    .titled("From the north: expected, and waiting")
                    .unit("cars"),
            )
            .chart(Chart::histogram("waiting.0").titled("Waiting from the north").unit("cars"));
    }
    Shown {
        progress: flow.view("progress", &progress),
        scores: flow.view("scores", &scores),
        corridors: flow.view("corridors", &corridors),
    }
}

/// What comes to each intersection, from the views of its neighbours.
fn coming<'s>(
    sent: VecCollection<'s, Time, (u32, Sent), isize>,
    roads: Roads<'s>,
) -> VecCollection<'s, Time, (u32, Coming), isize> {
    // From each end to the other; what is on a road stays there when that is closed.
    let ways = roads.flat_map(|((one, other), Road { leg, metres, lanes, .. })| {
        let leg = usize::from(leg);
        [(one, (other, leg, metres, lanes)), (other, (one, opposite(leg), metres, lanes))]
    });
    let inflows = ways.join(sent).map(|(_, ((to, leg, metres, lanes), sent))| {
        (
            to,
            (
                opposite(leg),
                Inflow { metres, lanes, at: sent.at, reports: sent.reports, cars: sent.cars[leg] },
            ),
        )
    });
    inflows.aggregate(ByLeg)
}

/// Puts together what comes on the legs of an intersection.
struct ByLeg;

impl Aggregate<(usize, Inflow)> for ByLeg {
    type State = Vec<((usize, Inflow), isize)>;
    type Output = Coming;
    fn update(&self, there: &mut Self::State, inflow: (usize, Inflow), count: isize) {
        match there.iter_mut().find(|(known, _)| *known == inflow) {
            Some((_, known)) => *known += count,
            None => there.push((inflow, count)),
        }
        there.retain(|(_, count)| *count != 0);
    }
    fn output(&self, there: &Self::State) -> Option<Coming> {
        let mut coming = [const { None }; LEGS];
        for ((leg, inflow), _) in there {
            coming[*leg] = Some(inflow.clone());
        }
        (!there.is_empty()).then_some(coming)
    }
    fn is_empty(&self, there: &Self::State) -> bool {
        there.is_empty()
    }
}

/// Open roads both ends of which are congested: from, to and how long.
type Jams<'s> = VecCollection<'s, Time, (u32, (u32, u32)), isize>;

fn jams<'s>(congested: VecCollection<'s, Time, u32, isize>, roads: Roads<'s>) -> Jams<'s> {
    let open = roads.filter(|(_, road)| road.open).map(|((one, other), road)| (one, (other, road.metres)));
    open.semijoin(congested.clone()).map(|(one, (other, metres))| (other, (one, metres))).semijoin(congested)
}

/// What is on the map: each intersection at its place, with its light and the jams that begin there.
fn crossings<'s>(
    state: VecCollection<'s, Time, (u32, (Change, bool)), isize>,
    jams: Jams<'s>,
    streets: Streets,
) -> VecCollection<'s, Time, (u32, Crossing), isize> {
    let none = state.clone().map(|(intersection, _)| (intersection, None));
    let others = jams.map(|(one, (other, _))| (one, Some(other)));
    let jammed = none.concat(others).reduce(|_, others, whole| {
        whole.push((others.iter().filter_map(|(other, _)| **other).collect::<Vec<_>>(), 1));
    });
    state.join(jammed).map(move |(intersection, ((change, congested), jammed))| {
        let (column, row) = streets.place(intersection);
        let light = match change.light {
            Light::Green(Phase::Ns) => "north and south",
            Light::Green(Phase::Ew) => "east and west",
            Light::Yellow(_) => "yellow",
        };
        // Row 0 is in the north.
        let row = -i64::from(row);
        (
            intersection,
            Crossing { column, row, light: light.to_owned(), until: change.until, congested, jammed },
        )
    })
}

/// What hangs together of the jams.
fn corridors<'s>(links: Jams<'s>) -> VecCollection<'s, Time, (u32, Corridor), isize> {
    let names = links.clone().map(|(other, (one, _))| (one, other)).components();
    let intersections = names.clone().map(|(intersection, name)| (name, intersection)).aggregate(Count);
    let metres = links.map(|(other, (_, metres))| (other, i64::from(metres))).join(names);
    let metres = metres.map(|(_, (metres, name))| (name, metres)).aggregate(Sum);
    intersections.join(metres).map(|(name, (intersections, metres))| {
        (name, Corridor { intersections: intersections as u64, metres })
    })
}

/// Counts all that was told.
#[derive(Serialize, Deserialize)]
struct Clock(Progress);

impl Agent for Clock {
    type Key = ();
    type Event = Time;
    type View = Progress;
    type Emit = ();
    fn create((): &()) -> Self {
        Clock(Progress::default())
    }
    fn on_event(&mut self, at: &Time, _context: &mut Context<'_, Self>) {
        self.0 = Progress { at: *at, events: self.0.events + 1 };
    }
    fn view(&self) -> Option<Progress> {
        Some(self.0.clone())
    }
}
