//! The job: from the topic `city` to intersections that predict, what their neighbours tell them, and corridors that are congested.

use nekton::differential_dataflow::VecCollection;
use nekton::operators::Aggregate;
use nekton::operators::learn::Score;
use nekton::prelude::*;

use crate::events::{LEGS, News, Road, Told, opposite};
use crate::forecaster::{Coming, Forecaster, Inflow};
use crate::intersection::{Intersection, Said, Sent};
use crate::models::{What, Who};

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
    /// Show all intersections.
    pub screens: bool,
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
    let corridors = corridors(congested, roads);
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
    if extras.screens {
        flow.view("predictions", &changes_of_light);
        flow.view("queues", &forecasters);
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

/// What hangs together of the open roads both ends of which are congested.
fn corridors<'s>(
    congested: VecCollection<'s, Time, u32, isize>,
    roads: Roads<'s>,
) -> VecCollection<'s, Time, (u32, Corridor), isize> {
    let open = roads.filter(|(_, road)| road.open).map(|((one, other), road)| (one, (other, road.metres)));
    let links = open
        .semijoin(congested.clone())
        .map(|(one, (other, metres))| (other, (one, metres)))
        .semijoin(congested);
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
