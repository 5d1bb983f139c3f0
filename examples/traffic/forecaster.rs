//! How many cars will wait at an intersection in half a minute, from what it knows of itself and what its neighbours sent.

use std::collections::VecDeque;

use nekton::prelude::*;

use crate::events::{LEGS, Light, Phase, REPORT};
use crate::intersection::{HEARD, Report, Said, earlier};
use crate::models::{Corrected, Forecast, What, Who, scored};
use crate::streets::seconds;

/// So far ahead, in milliseconds.
pub const AHEAD: Time = 30_000;
/// Reports of a neighbour that count: those before the moment that is predicted from.
const USED: usize = 4;
/// Cars that a lane lets pass in a second.
const PASS: f64 = 0.5;
/// Shown queues are rounded down to so many cars.
const STEP: u16 = 5;

/// What a neighbour sends on a leg.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Inflow {
    pub metres: u32,
    pub lanes: u8,
    /// When its newest report was made, and how many there are (at most as many as are kept).
    pub at: Time,
    pub reports: u8,
    /// Cars, report by report, the newest first.
    pub cars: [u8; HEARD],
}

/// What all neighbours send, by leg.
pub type Coming = [Option<Inflow>; LEGS];

impl Inflow {
    /// How many cars it sent that come within the next half minute, as of `at`: those that are on their way then, and where
    /// the way is shorter than that, as many more as it sent of late. Reports that were made later are passed over, and so
    /// nothing is known that had not happened. `None` where too few earlier ones are left.
    fn expected(&self, at: Time) -> Option<f64> {
        let later = |reports: &usize| earlier(self.at, *reports) > at;
        let first = (0..HEARD).take_while(later).count();
        if first + USED > usize::from(self.reports) {
            return None;
        }
        let used = &self.cars[first..first + USED];
        let newest = earlier(self.at, first);
        let way = Time::from(seconds(self.metres)) * 1_000;
        let from = at.saturating_sub(way);
        let to = from.saturating_add(AHEAD);
        let part = |reports: usize| {
            let (begin, end) = (earlier(newest, reports + 1), earlier(newest, reports));
            to.min(end).saturating_sub(from.max(begin)) as f64 / REPORT as f64
        };
        let known: f64 =
            used.iter().enumerate().map(|(reports, cars)| f64::from(*cars) * part(reports)).sum();
        let rate = used.iter().map(|cars| f64::from(*cars)).sum::<f64>() / USED as f64;
        Some(known + rate * to.saturating_sub(newest) as f64 / REPORT as f64)
    }
}

/// Queues, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Queues {
    pub waiting: [u16; LEGS],
    /// In half a minute.
    pub expected: [u16; LEGS],
}

/// What is said without learning, for the time `due`.
#[derive(Serialize, Deserialize)]
struct Plain {
    due: Time,
    last: [u16; LEGS],
    mean: [f64; LEGS],
}

/// The agent.
#[derive(Serialize, Deserialize)]
pub struct Forecaster {
    neighbours: Learner<Corrected<6>, u64, 6>,
    alone: Learner<Corrected<6>, u64, 6>,
    plain: VecDeque<Plain>,
    reports: u64,
    /// Of queues, for their means.
    sums: [u64; LEGS],
    /// Cars that came, report by report.
    came: [[u16; LEGS]; USED],
    shown: Option<Queues>,
}

/// The name of a prediction.
fn id(due: Time, leg: usize) -> u64 {
    due.saturating_mul(LEGS as u64).saturating_add(leg as u64)
}

/// For how many seconds of the next half minute cars of a leg have green.
fn green(report: &Report, leg: usize) -> f64 {
    let ahead = AHEAD as f64 / 1_000.0;
    let until = report.change.until.saturating_sub(report.at) as f64 / 1_000.0;
    let phase = Phase::of(leg);
    let seconds = match report.change.light {
        Light::Green(now) if now == phase => until,
        // Yellow lasts for some seconds, and then the first car has to start.
        Light::Green(_) => ahead - until - 6.0,
        Light::Yellow(before) if before == phase => 0.0,
        Light::Yellow(_) => ahead - until - 2.0,
    };
    seconds.clamp(0.0, ahead)
}

impl Forecaster {
    /// What was said of this moment is judged, and learned from.
    fn judge(&mut self, report: &Report, context: &mut Context<'_, Self>) {
        while let Some(plain) = self.plain.pop_front() {
            if plain.due > report.at {
                self.plain.push_front(plain);
                return;
            }
            for leg in (0..LEGS).filter(|_| plain.due == report.at) {
                let actual = f64::from(report.queue[leg]);
                let mut judge =
                    |who, says| context.emit(Said::Scored(scored(What::Queue, who, says, actual)));
                judge(Who::Last, plain.last[leg].into());
                judge(Who::Mean, plain.mean[leg]);
                if let Some(outcome) = self.alone.happened(&id(plain.due, leg), actual) {
                    judge(Who::Alone, outcome.predicted);
                }
                if let Some(outcome) = self.neighbours.happened(&id(plain.due, leg), actual) {
                    judge(Who::Neighbours, outcome.predicted);
                }
            }
        }
    }

    fn predict(&mut self, report: &Report, coming: &Coming, context: &mut Context<'_, Self>) {
        let due = report.at.saturating_add(AHEAD);
        let mut plain = Plain { due, last: report.queue, mean: [0.0; LEGS] };
        let mut expected = [0; LEGS];
        for leg in 0..LEGS {
            let queue = f64::from(report.queue[leg]);
            let lanes =
                coming[leg].as_ref().or(coming[(leg + 2) % LEGS].as_ref()).map_or(1, |from| from.lanes);
            let pass = f64::from(lanes) * PASS * green(report, leg);
            let known = self.reports.min(USED as u64).max(1) as f64;
            let came: u64 = self.came.iter().map(|came| u64::from(came[leg])).sum();
            let usual = came as f64 / known * (AHEAD / REPORT) as f64;
            let sent = coming[leg].as_ref().and_then(|from| from.expected(report.at)).unwrap_or(usual);
            let mean = self.sums[leg] as f64 / self.reports.max(1) as f64;
            let features = |come: f64| [(queue + come - pass).max(0.0), 1.0, queue, come, pass, mean];
            let alone = self.alone.predict(id(due, leg), features(usual)).unwrap_or(queue);
            let neighbours = self.neighbours.predict(id(due, leg), features(sent)).unwrap_or(queue);
            plain.mean[leg] = mean;
            expected[leg] = neighbours.min(1_000.0).round() as u16 / STEP * STEP;
            context.emit(Said::Forecast(Forecast {
                what: What::Queue,
                intersection: report.intersection,
                leg: Some(leg as u8),
                made: report.at,
                alone,
                neighbours: Some(neighbours),
                last: queue,
                mean,
            }));
        }
        self.plain.push_back(plain);
        self.shown = Some(Queues { waiting: report.queue.map(|queue| queue / STEP * STEP), expected });
    }
}

impl Agent for Forecaster {
    type Key = u32;
    type Event = (Report, Option<Coming>);
    type View = Queues;
    type Emit = Said;

    fn create(_intersection: &u32) -> Self {
        // Three half minutes of reports are never open at once.
        let open = LEGS * (AHEAD / REPORT + 1) as usize;
        Forecaster {
            neighbours: Corrected::learner(open),
            alone: Corrected::learner(open),
            plain: VecDeque::new(),
            reports: 0,
            sums: [0; LEGS],
            came: Default::default(),
            shown: None,
        }
    }

    fn on_event(&mut self, (report, coming): &(Report, Option<Coming>), context: &mut Context<'_, Self>) {
        self.judge(report, context);
        self.reports += 1;
        self.came.rotate_right(1);
        self.came[0] = report.came;
        for leg in 0..LEGS {
            self.sums[leg] += u64::from(report.queue[leg]);
        }
        self.predict(report, coming.as_ref().unwrap_or(&Coming::default()), context);
    }

    fn view(&self) -> Option<Queues> {
        self.shown
    }
}
