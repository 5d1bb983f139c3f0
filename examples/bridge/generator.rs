//! A bridge that does not exist, the weather there, and what its sensors send. The same seed makes the same.
//!
//! Steel follows the air and the sun, and each sensor has a response of its own to both, and to the wind; lorries pass; gauges
//! and thermometers are noisy, samples are missing or late. A few sensors drift.

use std::f64::consts::TAU;

use nekton::hash::fixed_hash;
use nekton::prelude::*;

use crate::drift::FIRST;
use crate::events::{DAY, MINUTE, Reading, Weather};

/// When the sensors begin: 2026-01-01, 00:00 in UTC.
pub const BEGIN: Time = 1_767_225_600_000;

/// What is made up.
#[derive(Clone, Copy, Debug)]
pub struct Bridge {
    pub spans: u32,
    /// Sensors a span.
    pub sensors: u32,
    pub days: u32,
    /// Minutes between two readings of a sensor, and of the station.
    pub every: u32,
    pub seed: u64,
    /// Of a sensor that drifts, in micrometres a metre and week; 0 for no drift at all.
    pub drift: f64,
}

/// A drift that somebody should find.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub sensor: u32,
    /// From this day on, of those of the bridge.
    pub from: u32,
    /// Before this day, when it is repaired.
    pub until: u32,
    /// In micrometres a metre and week.
    pub a_week: f64,
}

/// What is sent, and when it comes.
pub enum Comes {
    Reading(Reading),
    Weather(Weather),
}

/// What is chance: each sort of thing has its own.
#[derive(Clone, Copy, Hash)]
enum Chance {
    Front,
    Cloud,
    Storm,
    Gust,
    Lorry,
    Load,
    Shaking,
    Strain,
    Thermometer,
    Missing,
    Delay,
    Later,
    Outage,
    OfDay,
    Sensor(u8),
}

impl Bridge {
    fn chance(&self, what: Chance, whom: u32, when: u64) -> u64 {
        fixed_hash(&(self.seed, what, whom, when))
    }
    /// Between 0 and 1.
    fn share(&self, what: Chance, whom: u32, when: u64) -> f64 {
        (self.chance(what, whom, when) >> 11) as f64 / (1_u64 << 53) as f64
    }
    /// Nearly normal: four uniform numbers, with a mean of 0 and a deviation of 1.
    fn noise(&self, what: Chance, whom: u32, when: u64) -> f64 {
        let chance = self.chance(what, whom, when);
        let sum: u64 = (0..4).map(|part| chance >> (16 * part) & 0xFFFF).sum();
        (sum as f64 / 65_536.0 - 2.0) * 3.0_f64.sqrt()
    }

    /// What there is to be found: one sensor alone, one that is repaired, and all those of the last span, which settles.
    pub fn faults(&self) -> Vec<Fault> {
        if self.drift == 0.0 {
            return Vec::new();
        }
        let after = |percent: u32| FIRST as u32 + self.days.saturating_sub(FIRST as u32) * percent / 100;
        let a_week = self.drift;
        let alone = Fault { sensor: 1, from: after(35), until: self.days, a_week };
        let repaired = Fault { sensor: self.sensors, from: after(15), until: after(50), a_week };
        let last = (self.spans - 1) * self.sensors;
        let settles = (last..last + self.sensors).map(|sensor| Fault {
            sensor,
            from: after(60),
            until: self.days,
            a_week: a_week * 2.0 / 3.0,
        });
        [alone, repaired].into_iter().chain(settles).collect()
    }

    /// Everything, in the order in which it comes.
    pub fn events(&self) -> impl Iterator<Item = Comes> {
        let bridge = *self;
        let mut sky = Sky::new(&bridge);
        let faults = bridge.faults();
        let mut coming: Vec<(Time, u32, Comes)> = Vec::new();
        (0..=u64::from(bridge.days)).flat_map(move |day| {
            let begin = BEGIN + day * DAY;
            if day < u64::from(bridge.days) {
                let steps = (0..DAY).step_by((u64::from(bridge.every) * MINUTE) as usize);
                steps.for_each(|since| bridge.moment(begin + since, &mut sky, &faults, &mut coming));
            }
            // What is late comes with the next day.
            let until = if day < u64::from(bridge.days) { begin + DAY } else { Time::MAX };
            coming.sort_by_key(|(at, whom, _)| (*at, *whom));
            let rest = coming.split_off(coming.partition_point(|(at, ..)| *at < until));
            std::mem::replace(&mut coming, rest).into_iter().map(|(_, _, comes)| comes)
        })
    }

    /// What is measured at a moment, and when that comes.
    fn moment(&self, at: Time, sky: &mut Sky, faults: &[Fault], coming: &mut Vec<(Time, u32, Comes)>) {
        sky.advance(self, at);
        let (day, days) = ((at - BEGIN) / DAY, (at - BEGIN) as f64 / DAY as f64);
        if self.share(Chance::Missing, u32::MAX, at) > 0.01 {
            let late = self.share(Chance::Delay, u32::MAX, at) < 0.1;
            let delay = if late { self.chance(Chance::Later, u32::MAX, at) % (50 * MINUTE) } else { 0 };
            let Sky { air, sun, wind, .. } = *sky;
            let weather =
                Weather { at, celsius: round(air, 10.0), sun: round(sun, 1.0), wind: round(wind, 10.0) };
            coming.push((at + delay, u32::MAX, Comes::Weather(weather)));
        }
        let busy = if (6..20).contains(&(at % DAY / (60 * MINUTE))) { 0.08 } else { 0.01 };
        for span in 0..self.spans {
            let lorry = self.share(Chance::Lorry, span, at) < busy;
            let load = if lorry { 15.0 + 45.0 * self.share(Chance::Load, span, at) } else { 0.0 };
            for sensor in span * self.sensors..(span + 1) * self.sensors {
                let begins = self.chance(Chance::Outage, sensor, 0) % u64::from(self.days.max(3));
                if (begins..begins + 2).contains(&day) || self.share(Chance::Missing, sensor, at) < 0.02 {
                    continue;
                }
                let own = |what| self.share(Chance::Sensor(what), sensor, 0);
                // The third one of the first span is mounted so that it feels three times as much of the temperature.
                let a_degree = if sensor == 2 { 31.0 } else { 8.0 + 6.0 * own(0) };
                let bends = 12.0 * (own(1) - 0.5);
                let sways = own(2) - 0.5;
                let zero = 400.0 * (own(3) - 0.5);
                let drift: f64 = faults
                    .iter()
                    .filter(|fault| {
                        fault.sensor == sensor && (fault.from..fault.until).contains(&(day as u32))
                    })
                    .map(|fault| fault.a_week * (days - f64::from(fault.from)) / 7.0)
                    .sum();
                let strain = zero
                    + a_degree * (sky.steel - 10.0)
                    + bends * sky.gradient
                    + sways * sky.wind * sky.wind / 25.0
                    + load * (0.4 + 0.6 * own(4))
                    + drift
                    + 0.6 * self.noise(Chance::OfDay, sensor, day)
                    + 3.0 * self.noise(Chance::Strain, sensor, at);
                let celsius = sky.steel + 0.03 * self.noise(Chance::Thermometer, sensor, at);
                let shaking = 1.5
                    + 0.3 * self.noise(Chance::Shaking, sensor, at).abs()
                    + load * (0.4 + 0.2 * self.share(Chance::Shaking, sensor, at));
                let late = self.share(Chance::Delay, sensor, at) < 0.05;
                let longest = if late { 110 * MINUTE } else { MINUTE / 12 };
                let delay = self.chance(Chance::Later, sensor, at) % longest;
                let reading = Reading {
                    sensor,
                    at,
                    strain: round(strain, 10.0),
                    celsius: round(celsius, 100.0),
                    shaking: round(shaking, 10.0),
                };
                coming.push((at + delay, sensor, Comes::Reading(reading)));
            }
        }
    }
}

fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// What the weather is, and what it has made of the bridge.
struct Sky {
    at: Time,
    /// Of today and tomorrow: how much warmer than usual, and how stormy.
    fronts: [f64; 2],
    storms: [f64; 2],
    air: f64,
    sun: f64,
    wind: f64,
    /// The temperature of the girders.
    steel: f64,
    /// By how much the deck is warmer than they are.
    gradient: f64,
}

impl Sky {
    fn new(bridge: &Bridge) -> Self {
        let mut sky = Sky {
            at: BEGIN,
            fronts: [0.0; 2],
            storms: [0.0; 2],
            air: 0.0,
            sun: 0.0,
            wind: 0.0,
            steel: 0.0,
            gradient: 0.0,
        };
        // The week before, so that it does not begin at nothing.
        for at in (BEGIN - 7 * DAY..BEGIN).step_by((10 * MINUTE) as usize) {
            sky.advance(bridge, at);
        }
        sky
    }

    fn advance(&mut self, bridge: &Bridge, at: Time) {
        let day = at / DAY;
        if day != self.at / DAY || self.fronts == [0.0; 2] {
            let next =
                |[_, today]: [f64; 2], keeps: f64, what| [today, keeps * today + bridge.noise(what, 0, day)];
            self.fronts = next(self.fronts, 0.8, Chance::Front);
            self.storms = next(self.storms, 0.6, Chance::Storm);
        }
        let minutes = at.saturating_sub(self.at) as f64 / MINUTE as f64;
        self.at = at;
        let hour = (at % DAY) as f64 / (DAY / 24) as f64;
        let between = |[today, tomorrow]: [f64; 2]| today + (tomorrow - today) * hour / 24.0;
        // Shares of a year: since the shortest day, and since the coldest.
        let of_year = |first: f64| ((at as f64 - BEGIN as f64) / DAY as f64 - first) / 365.25 * TAU;
        let light = -of_year(-10.0).cos();
        let cloud = bridge.share(Chance::Cloud, 0, day);
        let length = 12.0 + 4.5 * light;
        let risen = (hour - 12.0 + length / 2.0) / length;
        let high = if (0.0..1.0).contains(&risen) { (risen * TAU / 2.0).sin() } else { 0.0 };
        self.sun = high * (600.0 + 300.0 * light) * (1.0 - 0.75 * cloud);
        let warmth = ((hour - 15.0) / 24.0 * TAU).cos();
        self.air = 10.0 - 11.0 * of_year(15.0).cos()
            + 2.4 * between(self.fronts)
            + (2.0 + 4.0 * (1.0 - cloud)) * warmth;
        self.wind = 2.5 + 2.0 * between(self.storms).abs() + 0.4 * bridge.noise(Chance::Gust, 0, at).abs();
        let nears = |lasts: f64| 1.0 - (-minutes / lasts).exp();
        self.steel += (self.air + 0.010 * self.sun - self.steel) * nears(150.0);
        self.gradient += (0.008 * self.sun - self.gradient) * nears(60.0);
    }
}
