//! Agents that read one another along links that change, agents that read those, and a naive model of both.
#![allow(dead_code, reason = "each test uses its share")]

use std::collections::{BTreeMap, BTreeSet};

use nekton_engine::{Agent, Agents, Context, Events, Reads, Time};
use serde::{Deserialize, Serialize};

/// What happens: to a cell, with a group and a value.
pub type Happening = (u64, u64, i64);

/// Cells are below this number.
pub const CELLS: u64 = 32;
const MODULUS: i64 = 1_000_003;

/// Has the greatest of its own value and its neighbours' levels less one, and a digest of all that happened to it and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    own: i64,
    best: i64,
    told: i64,
    digest: i64,
}

/// What a handler asks for.
enum Wish {
    Nothing,
    Timer(Time),
    Leave,
    Tell,
}

impl Cell {
    fn note(&mut self, what: i64, time: Time) {
        self.digest = (self.digest * 31 + what * 7 + (time % 1_000) as i64 + 1) % MODULUS;
    }
    fn level(&self) -> i64 {
        self.own.max(self.best - 1)
    }
    fn happens(&mut self, value: i64, time: Time) -> Wish {
        self.note(value, time);
        self.own = value;
        match value {
            13 => Wish::Leave,
            0 | 1 => Wish::Timer(1 + (self.digest % 20) as Time),
            5 => Wish::Tell,
            _ => Wish::Nothing,
        }
    }
    fn rings(&mut self, time: Time) {
        self.note(77, time);
        self.own += 3;
    }
    fn reads(&mut self, linked: &[(i64, u64)], time: Time) -> Wish {
        assert!(linked.is_sorted());
        self.told += 1;
        self.best = linked.last().map_or(0, |(level, _)| *level);
        linked.iter().for_each(|(level, of)| self.note(*level * 32 + *of as i64, time));
        match self.digest % 23 {
            0 => Wish::Leave,
            // Not for ever, so that it settles.
            1..4 if self.told < 8 => Wish::Timer(1 + (self.digest % 5) as Time),
            4..8 => Wish::Tell,
            _ => Wish::Nothing,
        }
    }
    fn shows(&self) -> (i64, i64, i64) {
        (self.level(), self.told, self.digest)
    }
}

fn fulfil(wish: Wish, digest: i64, context: &mut Context<'_, Cell>) {
    match wish {
        Wish::Nothing => {}
        Wish::Timer(delay) => context.set_timer(context.time() + delay),
        Wish::Leave => context.leave(),
        Wish::Tell => context.emit((*context.key(), digest)),
    }
}

impl Agent for Cell {
    type Key = u64;
    type Event = Happening;
    type View = (i64, i64, i64);
    type Emit = (u64, i64);
    fn create(_cell: &u64) -> Self {
        Cell::default()
    }
    fn on_event(&mut self, &(.., value): &Happening, context: &mut Context<'_, Self>) {
        let wish = self.happens(value, context.time());
        fulfil(wish, self.digest, context);
    }
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        self.rings(context.time());
    }
    fn view(&self) -> Option<(i64, i64, i64)> {
        Some(self.shows())
    }
}

impl Reads for Cell {
    type Linked = (i64, u64);
    fn on_linked(&mut self, linked: &[(i64, u64)], context: &mut Context<'_, Self>) {
        let wish = self.reads(linked, context.time());
        fulfil(wish, self.digest, context);
    }
}

/// Reads the levels of all cells of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    sum: i64,
    count: i64,
    told: i64,
    last: Time,
}

impl Group {
    fn reads(&mut self, levels: &[i64], time: Time) {
        assert!(levels.is_sorted());
        (self.sum, self.count, self.last) = (levels.iter().sum(), levels.len() as i64, time);
        self.told += 1;
    }
    fn shows(&self) -> (i64, i64, i64, Time) {
        (self.sum, self.count, self.told, self.last)
    }
}

impl Agent for Group {
    type Key = u64;
    type Event = Happening;
    type View = (i64, i64, i64, Time);
    type Emit = ();
    fn create(_group: &u64) -> Self {
        Group::default()
    }
    fn on_event(&mut self, _happening: &Happening, _context: &mut Context<'_, Self>) {}
    fn view(&self) -> Option<(i64, i64, i64, Time)> {
        Some(self.shows())
    }
}

impl Reads for Group {
    type Linked = i64;
    fn on_linked(&mut self, levels: &[i64], context: &mut Context<'_, Self>) {
        self.reads(levels, context.time());
    }
}

/// The cell that is told by another one from now on.
pub fn listener(cell: u64, group: u64) -> u64 {
    (cell + 1 + group * 3) % CELLS
}

/// Which group's agent reads a cell.
fn group_of(cell: u64) -> u64 {
    cell % 4
}

/// The cells and the groups.
pub fn build<'s>(happenings: &Events<'s, Happening>) -> (Agents<'s, Cell>, Agents<'s, Group>) {
    let links = happenings.map(|(cell, group, _)| (cell, Some(listener(cell, group)))).table("links");
    let cells = happenings.agents_in_loop::<Cell>(
        "cells",
        |(cell, ..)| *cell,
        |cells| {
            cells
                .map(|(cell, (level, ..))| (cell, level))
                .join(links)
                .map(|(of, (level, to))| (to, (level, of)))
        },
    );
    let levels = cells.map(|(cell, (level, ..))| (group_of(cell), level));
    let groups = happenings.agents_reading::<Group>("groups", |(_, group, _)| *group, &levels);
    (cells, groups)
}

/// The naive model: after each time everything is worked out anew.
#[derive(Default)]
pub struct Model {
    cells: BTreeMap<u64, Cell>,
    groups: BTreeMap<u64, Group>,
    links: BTreeMap<u64, u64>,
    timers: BTreeMap<u64, Time>,
    /// What each has read last.
    read: BTreeMap<u64, Vec<(i64, u64)>>,
    read_by_groups: BTreeMap<u64, Vec<i64>>,
    /// What could be read after the last step.
    linked: BTreeMap<u64, Vec<(i64, u64)>>,
    levels: BTreeMap<u64, Vec<i64>>,
    time: Time,
    /// What was told at the last time.
    pub told: Vec<(u64, i64)>,
}

impl Model {
    /// The next time at which anything is due by itself.
    pub fn due(&self) -> Option<Time> {
        let empty = Vec::new();
        let news = self.cells.keys().any(|key| self.linked.get(key) != self.read.get(key))
            || (self.groups.keys()).any(|key| {
                self.levels.get(key).unwrap_or(&empty) != self.read_by_groups.get(key).unwrap_or(&empty)
            });
        let timer = self.timers.values().min().copied();
        news.then_some(self.time + 1).into_iter().chain(timer).min()
    }

    pub fn cells(&self) -> BTreeMap<u64, (i64, i64, i64)> {
        self.cells.iter().map(|(key, cell)| (*key, cell.shows())).collect()
    }

    pub fn groups(&self) -> BTreeMap<u64, (i64, i64, i64, Time)> {
        self.groups.iter().map(|(key, group)| (*key, group.shows())).collect()
    }

    fn fulfil(&mut self, key: u64, wish: Wish, time: Time) {
        match wish {
            Wish::Nothing => {}
            Wish::Timer(delay) => drop(self.timers.insert(key, time + delay)),
            Wish::Tell => self.told.push((key, self.cells[&key].digest)),
            Wish::Leave => {
                self.cells.remove(&key);
                self.timers.remove(&key);
                self.read.remove(&key);
            }
        }
    }

    fn read(&mut self, key: u64, time: Time) {
        let linked = self.linked.get(&key).cloned().unwrap_or_default();
        let wish = self.cells.get_mut(&key).unwrap().reads(&linked, time);
        match linked.is_empty() {
            true => self.read.remove(&key),
            false => self.read.insert(key, linked),
        };
        self.fulfil(key, wish, time);
    }

    fn read_by_group(&mut self, key: u64, time: Time) {
        let levels = self.levels.get(&key).cloned().unwrap_or_default();
        self.groups.get_mut(&key).unwrap().reads(&levels, time);
        self.read_by_groups.insert(key, levels);
    }

    /// All that happens at a time: times rise.
    pub fn step(&mut self, time: Time, happenings: impl IntoIterator<Item = Happening>) {
        assert!(self.time < time);
        self.told.clear();
        let news: BTreeSet<u64> =
            self.cells.keys().copied().filter(|key| self.linked.get(key) != self.read.get(key)).collect();
        for key in news {
            self.read(key, time);
        }
        let empty = Vec::new();
        let of = |all: &BTreeMap<u64, Vec<i64>>, key: &u64| all.get(key).unwrap_or(&empty).clone();
        let news: Vec<u64> = (self.groups.keys().copied())
            .filter(|key| of(&self.levels, key) != of(&self.read_by_groups, key))
            .collect();
        for key in news {
            self.read_by_group(key, time);
        }
        let due: Vec<u64> =
            self.timers.iter().filter(|(_, due)| **due == time).map(|(key, _)| *key).collect();
        for key in due {
            self.timers.remove(&key);
            self.cells.get_mut(&key).unwrap().rings(time);
        }
        for (cell, group, value) in happenings {
            self.links.insert(cell, listener(cell, group));
            let settle = |cells: &mut BTreeMap<u64, Cell>| {
                let before = cells.len();
                cells.entry(cell).or_default();
                before < cells.len()
            };
            if settle(&mut self.cells) && self.linked.contains_key(&cell) {
                self.read(cell, time);
                // One that leaves now stays for the event, as if new.
                if settle(&mut self.cells) {
                    self.read.insert(cell, self.linked[&cell].clone());
                }
            }
            let wish = self.cells.get_mut(&cell).unwrap().happens(value, time);
            self.fulfil(cell, wish, time);
            let mut new = false;
            self.groups.entry(group).or_insert_with(|| {
                new = true;
                Group::default()
            });
            if new && self.levels.contains_key(&group) {
                self.read_by_group(group, time);
            }
        }
        self.time = time;
        self.linked.clear();
        self.levels.clear();
        for (key, cell) in &self.cells {
            if let Some(listener) = self.links.get(key) {
                self.linked.entry(*listener).or_default().push((cell.level(), *key));
            }
            self.levels.entry(group_of(*key)).or_default().push(cell.level());
        }
        self.linked.values_mut().for_each(|linked| linked.sort_unstable());
        self.levels.values_mut().for_each(|levels| levels.sort_unstable());
    }
}
