//! The traffic of a city that does not exist, second by second, and what its controllers tell of it.
//!
//! Cars come from outside and out of garages, drive along roads, wait where it is red, and go on or turn where it is green
//! and the road ahead has room; so a queue depends on what the intersections around do. Nothing is told but what
//! controllers know: lights, loops, buttons, and which roads are closed. The same seed makes the same city, and a longer run begins
//! as a shorter one does.

use std::collections::VecDeque;

use nekton::Result;

use crate::events::{BEGIN, Counts, LEGS, Light, News, Phase, REPORT, Road, Told, opposite};
use crate::random::Random;
use crate::streets::{Streets, room, seconds};

/// The longest way between two intersections, in seconds.
const FAR: usize = 64;
/// Seconds from the end of one green to the beginning of the next.
const CLEARING: u32 = 4;
/// Seconds that are lost until the first car moves.
const STARTING: u32 = 2;
/// A green may end when no car came for so many seconds.
const GAP: u32 = 3;
/// Seconds that people need to walk across.
const WALK: u32 = 20;
/// Seconds for which works take up a lane, or close a road.
const WORKS: u64 = 300;

/// A leg of an intersection: the cars that come on it, and what its loops counted.
struct Leg {
    /// Cars on their way, by the second of their arrival.
    coming: [u8; FAR],
    on_the_way: u16,
    queue: u16,
    came: u16,
    left: u16,
    sent: u16,
    /// How long the way is, and for how many cars it has room; 0 at the border.
    seconds: u8,
    room: u16,
    lanes: u8,
    /// Whether cars may leave the intersection on it.
    open: bool,
    /// Whether works take up a lane, so that cars go ahead slowly.
    narrow: bool,
}

/// A signal and its controller.
struct Signal {
    light: Light,
    /// The second at which that began.
    since: u32,
    /// Whether somebody walks.
    walking: bool,
    pressed: [bool; 2],
    /// The second at which a car came or went last, of those who have green.
    last: u32,
}

/// How likely it is that a car comes within a second, of 65,536.
struct Demand {
    /// At the border, by lanes.
    border: [u64; 2],
    /// Out of garages, by lanes.
    garage: [u64; 2],
}

impl Demand {
    /// It grows for ten minutes, falls for twenty, and grows again for ten.
    fn at(second: u64) -> Self {
        let of_wave = ((second + 600) % 2_400) as f64 / 1_200.0;
        let high = 0.7 + 0.6 * (1.0 - (of_wave - 1.0).abs());
        let of = |likely: f64| (likely * high * 65_536.0) as u64;
        Demand { border: [of(0.08), of(0.34)], garage: [of(0.015), of(0.03)] }
    }
}

/// A city.
pub struct City {
    streets: Streets,
    random: Random,
    run: u64,
    now: u32,
    signals: Vec<Signal>,
    /// Four for each intersection.
    legs: Vec<Leg>,
    /// Legs with works, and until when.
    narrow: VecDeque<(u64, usize)>,
    /// Roads that are closed, by one of their ends, and until when.
    closed: VecDeque<(u64, u32, usize)>,
}

impl City {
    /// A city at seven in the morning. Takes some 350 bytes an intersection.
    pub fn new(intersections: u32, seed: u64, run: u64) -> Self {
        let streets = Streets::new(intersections, seed);
        let mut random = Random(seed);
        let signal = |random: &mut Random| {
            let light = Light::Green(if random.below(2) == 0 { Phase::Ns } else { Phase::Ew });
            Signal { light, since: 0, walking: false, pressed: [false; 2], last: 0 }
        };
        let signals = (0..intersections).map(|_| signal(&mut random)).collect();
        let legs = (0..intersections).flat_map(|of| (0..LEGS).map(move |leg| (of, leg)));
        let legs = legs.map(|(of, leg)| Leg::new(&streets, of, leg, &mut random)).collect();
        let (narrow, closed) = (VecDeque::new(), VecDeque::new());
        City { streets, random, run, now: 0, signals, legs, narrow, closed }
    }

    /// The city's clock.
    pub fn at(&self) -> u64 {
        BEGIN + u64::from(self.now) * 1_000
    }

    fn told(&self, intersection: u32, news: News) -> Told {
        Told { run: self.run, at: self.at(), intersection, news }
    }

    /// Tells of all roads, each once.
    pub fn roads(&self, tell: &mut impl FnMut(&Told) -> Result<()>) -> Result<()> {
        for of in 0..self.streets.count {
            for road in [1, 2].into_iter().filter_map(|leg| self.streets.road(of, leg)) {
                tell(&self.told(of, News::Road(road)))?;
            }
        }
        Ok(())
    }

    /// Lets a second pass.
    pub fn second(&mut self, tell: &mut impl FnMut(&Told) -> Result<()>) -> Result<()> {
        if self.now.is_multiple_of(60) {
            self.works(tell)?;
        }
        let demand = Demand::at(self.now.into());
        for of in 0..self.streets.count {
            self.arrive(of, &demand, tell)?;
            self.switch(of, tell)?;
            if let Light::Green(phase) = self.signals[of as usize].light
                && self.now - self.signals[of as usize].since >= STARTING
            {
                phase.legs().into_iter().for_each(|leg| self.go(of, leg));
            }
            if (self.now + of.wrapping_mul(0x9E37_79B1) / 65_536).is_multiple_of((REPORT / 1_000) as u32) {
                self.report(of, tell)?;
            }
        }
        self.now += 1;
        Ok(())
    }

    /// Works begin and end.
    fn works(&mut self, tell: &mut impl FnMut(&Told) -> Result<()>) -> Result<()> {
        let now = u64::from(self.now);
        while self.narrow.front().is_some_and(|(until, _)| *until <= now) {
            let (_, leg) = self.narrow.pop_front().unwrap_or_default();
            self.legs[leg].narrow = false;
        }
        while self.closed.front().is_some_and(|(until, ..)| *until <= now) {
            let (_, of, leg) = self.closed.pop_front().unwrap_or_default();
            self.close(of, leg, true, tell)?;
        }
        let count = u64::from(self.streets.count);
        for _ in 0..count / 100 + u64::from(self.random.below(100) < count % 100) {
            let leg = self.random.below(self.legs.len() as u64) as usize;
            if self.legs[leg].lanes == 2 && !self.legs[leg].narrow {
                self.legs[leg].narrow = true;
                self.narrow.push_back((now + WORKS, leg));
            }
        }
        for _ in 0..count / 200 + u64::from(self.random.below(200) < count % 200) {
            let (of, leg) = (self.random.below(count) as u32, 1 + self.random.below(2) as usize);
            if self.legs[of as usize * LEGS + leg].open && self.streets.neighbour(of, leg).is_some() {
                self.close(of, leg, false, tell)?;
                self.closed.push_back((now + WORKS, of, leg));
            }
        }
        Ok(())
    }

    /// Closes a road in both directions, or opens it.
    fn close(
        &mut self,
        of: u32,
        leg: usize,
        open: bool,
        tell: &mut impl FnMut(&Told) -> Result<()>,
    ) -> Result<()> {
        let Some(road) = self.streets.road(of, leg) else { return Ok(()) };
        self.legs[of as usize * LEGS + leg].open = open;
        self.legs[road.to as usize * LEGS + opposite(leg)].open = open;
        tell(&self.told(of, News::Road(Road { open, ..road })))
    }

    /// Cars come to their queues, and people to their buttons.
    fn arrive(&mut self, of: u32, demand: &Demand, tell: &mut impl FnMut(&Told) -> Result<()>) -> Result<()> {
        let (chance, now) = (self.random.next(), self.now);
        let signal = &mut self.signals[of as usize];
        for number in 0..LEGS {
            let leg = &mut self.legs[of as usize * LEGS + number];
            let came = u16::from(std::mem::take(&mut leg.coming[now as usize % FAR]));
            leg.on_the_way -= came;
            let likely = if leg.room == 0 { demand.border } else { demand.garage };
            let new = (chance >> (16 * number)) & 0xFFFF < likely[usize::from(leg.lanes) - 1];
            // Where there is no room outside either, cars stay away.
            let came = came + u16::from(new && leg.queue < 80);
            leg.queue += came;
            leg.came += came;
            if came > 0 && signal.light == Light::Green(Phase::of(number)) {
                signal.last = now;
            }
        }
        let phase = if self.random.below(2) == 0 { Phase::Ns } else { Phase::Ew };
        if self.random.below(100) == 0 && !signal.pressed[phase as usize] {
            signal.pressed[phase as usize] = true;
            tell(&self.told(of, News::Button(phase)))?;
        }
        Ok(())
    }

    /// The controller: green lasts until somebody else wants to go, at least so long that it is worth it, then as long as cars
    /// come, but not for ever.
    fn switch(&mut self, of: u32, tell: &mut impl FnMut(&Told) -> Result<()>) -> Result<()> {
        let legs = &self.legs[of as usize * LEGS..][..LEGS];
        let signal = &mut self.signals[of as usize];
        let lasts = self.now - signal.since;
        let next = match signal.light {
            Light::Green(phase) => {
                let arterial = legs[phase.legs()[0]].lanes == 2;
                let other = phase.other();
                let called =
                    signal.pressed[other as usize] || other.legs().iter().any(|leg| legs[*leg].queue > 0);
                let least = if signal.walking {
                    WALK
                } else if arterial {
                    10
                } else {
                    6
                };
                let most = if arterial { 50 } else { 25 };
                let gap = self.now - signal.last >= GAP;
                (called && lasts >= least && (gap || lasts >= most)).then_some(Light::Yellow(phase))
            }
            Light::Yellow(phase) => (lasts >= CLEARING).then_some(Light::Green(phase.other())),
        };
        if let Some(light) = next {
            signal.light = light;
            signal.since = self.now;
            if let Light::Green(phase) = light {
                signal.walking = std::mem::take(&mut signal.pressed[phase as usize]);
                signal.last = self.now;
            }
        }
        if next.is_some() || self.now == 0 {
            let light = signal.light;
            tell(&self.told(of, News::Light(light)))?;
        }
        Ok(())
    }

    /// The first car of a queue goes, if it can.
    fn go(&mut self, of: u32, number: usize) {
        let place = of as usize * LEGS + number;
        let leg = &self.legs[place];
        // A lane lets a car pass every other second.
        let every = if leg.narrow {
            6
        } else if leg.lanes == 2 {
            1
        } else {
            2
        };
        if leg.queue == 0 || !self.now.is_multiple_of(every) {
            return;
        }
        self.signals[of as usize].last = self.now;
        let [ahead, left, right] = if leg.lanes == 2 { [84, 90, 96] } else { [56, 72, 88] };
        let turn = self.random.below(100);
        let out = match turn {
            _ if turn < ahead => opposite(number),
            _ if turn < left => (number + 1) % LEGS,
            _ if turn < right => (number + 3) % LEGS,
            _ => LEGS, // into a garage
        };
        if out < LEGS && self.legs[of as usize * LEGS + out].open {
            if let Some(to) = self.streets.neighbour(of, out) {
                let next = &mut self.legs[to as usize * LEGS + opposite(out)];
                if next.queue + next.on_the_way >= next.room {
                    return;
                }
                next.coming[(self.now as usize + usize::from(next.seconds)) % FAR] += 1;
                next.on_the_way += 1;
            }
            self.legs[of as usize * LEGS + out].sent += 1;
        }
        self.legs[place].queue -= 1;
        self.legs[place].left += 1;
    }

    fn report(&mut self, of: u32, tell: &mut impl FnMut(&Told) -> Result<()>) -> Result<()> {
        let mut counts = Counts::default();
        for (number, leg) in self.legs[of as usize * LEGS..][..LEGS].iter_mut().enumerate() {
            counts.came[number] = std::mem::take(&mut leg.came);
            counts.left[number] = std::mem::take(&mut leg.left);
            counts.sent[number] = std::mem::take(&mut leg.sent);
        }
        tell(&self.told(of, News::Counts(counts)))
    }
}

impl Leg {
    /// With some cars on their way, so that a city does not begin empty.
    fn new(streets: &Streets, of: u32, leg: usize, random: &mut Random) -> Self {
        let road = streets.road(of, leg);
        let lanes = streets.lanes(of, leg);
        let (seconds, room) = road.map_or((0, 0), |road| (seconds(road.metres) as u8, room(&road)));
        let mut coming = [0; FAR];
        for second in &mut coming[..seconds.into()] {
            *second = u8::from(random.below(100) < if lanes == 2 { 15 } else { 5 });
        }
        let on_the_way = coming.iter().map(|cars| u16::from(*cars)).sum();
        let (queue, came, left, sent) = (0, 0, 0, 0);
        let (open, narrow) = (true, false);
        Leg { coming, on_the_way, queue, came, left, sent, seconds, room, lanes, open, narrow }
    }
}
