//! An intersection: its light and its queues, and for how long the light stays as it is.

use nekton::prelude::*;

use crate::events::{Counts, LEGS, Light, News, Phase, REPORT, Told};
use crate::models::{Corrected, Forecast, What, Who, scored};

/// Reports of which neighbours hear.
pub const HEARD: usize = 6;
/// A queue of so many cars is a congestion, until all are shorter than the other.
const CONGESTED: u16 = 15;
const RELIEVED: u16 = 8;
/// A change is told at another time only if that differs by more, in milliseconds.
const TOLERANCE: Time = 3_000;
/// Predictions of the end of one green.
const OPEN: usize = 8;

/// What others see of an intersection. It changes when something is different, not whenever something was heard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signal {
    pub change: Change,
    pub congested: bool,
    pub sent: Sent,
}

/// What the light is, and when it is expected to be another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Change {
    pub light: Light,
    /// To the second.
    pub until: Time,
}

/// Cars that drove away by each leg, report by report, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sent {
    /// When the newest report was made, and how many there are (at most as many as are kept).
    pub at: Time,
    pub reports: u8,
    pub cars: [[u8; HEARD]; LEGS],
}

/// What an intersection says of itself at a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub intersection: u32,
    pub at: Time,
    pub change: Change,
    pub queue: [u16; LEGS],
    pub came: [u16; LEGS],
}

/// What an intersection emits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Said {
    Report(Report),
    Forecast(Forecast),
    Scored(Scored<What, Who>),
}

/// How long something lasted, in milliseconds.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Durations {
    count: u64,
    sum: Time,
    last: Time,
}

impl Durations {
    fn learn(&mut self, duration: Time) {
        *self = Durations { count: self.count + 1, sum: self.sum.saturating_add(duration), last: duration };
    }
    fn mean(&self, otherwise: Time) -> Time {
        self.sum.checked_div(self.count).unwrap_or(otherwise)
    }
}

/// A prediction of the end of this green.
#[derive(Serialize, Deserialize)]
struct Open {
    number: u64,
    made: Time,
    alone: f64,
    last: f64,
    mean: f64,
}

/// The agent.
#[derive(Serialize, Deserialize)]
pub struct Intersection {
    change: Option<Change>,
    since: Time,
    /// Whether somebody walks, and who waits to.
    walking: bool,
    pressed: [bool; 2],
    queue: [u16; LEGS],
    congested: bool,
    sent: Sent,
    /// By phase.
    greens: [Durations; 2],
    yellows: Durations,
    learner: Learner<Corrected<6>, u64, 6>,
    open: Vec<Open>,
    predictions: u64,
}

impl Intersection {
    /// Another light.
    fn switch(&mut self, light: Light, at: Time, context: &mut Context<'_, Self>) {
        let before = self.change.map(|change| change.light);
        let lasted = at.saturating_sub(self.since);
        match before {
            Some(Light::Green(phase)) => {
                self.judge(at, context);
                self.greens[phase as usize].learn(lasted);
            }
            Some(Light::Yellow(_)) => self.yellows.learn(lasted),
            None => {}
        }
        self.since = at;
        match light {
            Light::Green(phase) => {
                self.walking = std::mem::take(&mut self.pressed[phase as usize]);
                self.expect(light, phase, at, context);
            }
            Light::Yellow(_) => {
                self.change = Some(Change { light, until: at.saturating_add(self.yellows.mean(4_000)) })
            }
        }
    }

    /// The green is over: what was said of it is judged, and learned from.
    fn judge(&mut self, at: Time, context: &mut Context<'_, Self>) {
        for Open { number, made, alone, last, mean } in self.open.drain(..) {
            let actual = at.saturating_sub(made) as f64 / 1_000.0;
            self.learner.happened(&number, actual);
            for (who, says) in [(Who::Alone, alone), (Who::Last, last), (Who::Mean, mean)] {
                context.emit(Said::Scored(scored(What::Green, who, says, actual)));
            }
        }
    }

    /// Says for how long it will be green, from what is known now.
    fn expect(&mut self, light: Light, phase: Phase, at: Time, context: &mut Context<'_, Self>) {
        let elapsed = at.saturating_sub(self.since);
        let greens = self.greens[phase as usize];
        let left = |duration: Time| duration.saturating_sub(elapsed) as f64 / 1_000.0;
        let (mean, last) =
            (left(greens.mean(20_000)), left(if greens.count > 0 { greens.last } else { 20_000 }));
        let longest = phase.legs().map(|leg| self.queue[leg]).into_iter().max().unwrap_or(0);
        let other = phase.other();
        let waiting = other.legs().iter().any(|leg| self.queue[*leg] > 0);
        let called = waiting || self.pressed[other as usize];
        let walks = if self.walking { 20_000_u64.saturating_sub(elapsed) as f64 / 1_000.0 } else { 0.0 };
        let features =
            [mean, 1.0, longest.into(), walks, f64::from(u8::from(called)), elapsed as f64 / 1_000.0];
        self.predictions += 1;
        let number = self.predictions;
        let alone = self.learner.predict(number, features).unwrap_or(mean);
        if self.open.len() == OPEN {
            self.open.remove(0);
        }
        self.open.push(Open { number, made: at, alone, last, mean });
        let intersection = *context.key();
        let (what, leg, neighbours) = (What::Green, None, None);
        context.emit(Said::Forecast(Forecast {
            what,
            intersection,
            leg,
            made: at,
            alone,
            neighbours,
            last,
            mean,
        }));

        let until = at.saturating_add(alone.min(3_600.0).round() as Time * 1_000);
        let same = |told: &Change| {
            told.light == light && told.until.abs_diff(until) <= TOLERANCE && told.until >= at
        };
        if !self.change.as_ref().is_some_and(same) {
            self.change = Some(Change { light, until });
        }
    }

    /// What the loops counted.
    fn count(&mut self, counts: &Counts, at: Time) {
        for leg in 0..LEGS {
            self.queue[leg] =
                self.queue[leg].saturating_add(counts.came[leg]).saturating_sub(counts.left[leg]);
            self.sent.cars[leg].rotate_right(1);
            self.sent.cars[leg][0] = counts.sent[leg].min(u8::MAX.into()) as u8;
        }
        self.sent.at = at;
        self.sent.reports = (self.sent.reports + 1).min(HEARD as u8);
        let longest = self.queue.into_iter().max().unwrap_or(0);
        self.congested = longest >= if self.congested { RELIEVED } else { CONGESTED };
    }
}

impl Agent for Intersection {
    type Key = u32;
    type Event = Told;
    type View = Signal;
    type Emit = Said;

    fn create(_intersection: &u32) -> Self {
        Intersection {
            change: None,
            since: 0,
            walking: false,
            pressed: [false; 2],
            queue: [0; LEGS],
            congested: false,
            sent: Sent::default(),
            greens: Default::default(),
            yellows: Durations::default(),
            learner: Corrected::learner(OPEN),
            open: Vec::new(),
            predictions: 0,
        }
    }

    fn on_event(&mut self, told: &Told, context: &mut Context<'_, Self>) {
        match &told.news {
            News::Road(_) => {}
            News::Light(light) => self.switch(*light, told.at, context),
            News::Button(phase) => self.pressed[*phase as usize] = true,
            News::Counts(counts) => {
                self.count(counts, told.at);
                if let Some(Change { light: light @ Light::Green(phase), .. }) = self.change {
                    self.expect(light, phase, told.at, context);
                }
                if let Some(change) = self.change {
                    let (intersection, at, came) = (told.intersection, told.at, counts.came);
                    let report = Report { intersection, at, change, queue: self.queue, came };
                    context.emit(Said::Report(report));
                }
            }
        }
    }

    fn view(&self) -> Option<Signal> {
        let Intersection { change, congested, sent, .. } = self;
        change.map(|change| Signal { change, congested: *congested, sent: sent.clone() })
    }
}

/// When a report was made that is so many older than one.
pub fn earlier(at: Time, reports: usize) -> Time {
    at.saturating_sub(reports as Time * REPORT)
}
