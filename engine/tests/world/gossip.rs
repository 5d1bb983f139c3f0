//! Agents that read one another, in the simulated world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nekton_engine::{JobConfig, Result, Summary, Time, changes, keyed, run};

use super::cells::{Cell, Model, build, listener};
use super::job::{Follower, Reading, check_marks, read, timed, told};
use super::world::World;

/// One run of the job.
pub fn job(world: &World, workers: usize) -> Result<Summary> {
    let marks = [None, Some(Duration::ZERO), Some(Duration::from_millis(3))];
    let progress_marks = marks[world.simulator.below(3) as usize];
    let config = JobConfig { progress_marks, ..world.config(workers, "gossip") };
    run(config, Arc::new(world.clone()), |flow| {
        let readings = flow.events::<Reading>("readings");
        let happenings = readings.map(|reading| (reading.sensor, reading.depot, reading.value));
        let (cells, groups) = build(&happenings);
        flow.sink("echo", &readings);
        flow.sink("by-sensor", keyed(&readings, |reading| reading.sensor));
        flow.sink("told", &cells.emitted());
        flow.sink("cells", changes(&cells.views()));
        flow.sink("groups", changes(&groups.views()));
    })
}

/// The same job before its cells could read.
pub fn without_reading(world: &World, workers: usize) -> Result<Summary> {
    run(world.config(workers, "gossip"), Arc::new(world.clone()), |flow| {
        let readings = flow.events::<Reading>("readings");
        let happenings = readings.map(|reading| (reading.sensor, reading.depot, reading.value));
        let cells = happenings.agents::<Cell>("cells", |(cell, ..)| *cell);
        let links = happenings.map(|(cell, group, _)| (cell, Some(listener(cell, group)))).table("links");
        flow.sink("cells", changes(&cells.views()));
        flow.sink("links", changes(&links));
    })
}

/// The cells as the job has shown them last.
pub fn shown(world: &World) -> BTreeMap<u64, (i64, i64, i64)> {
    let mut shown = BTreeMap::new();
    for (_, change) in read(world, "cells").into_iter().flatten() {
        let cell = serde_json::from_value(change["key"].clone()).unwrap();
        match serde_json::from_value(change["after"].clone()).unwrap() {
            Some(view) => shown.insert(cell, view),
            None => shown.remove(&cell),
        };
    }
    shown
}

/// Panics if anything that the job has written, up to its end, is not what the model says.
pub fn check(world: &World) {
    check_marks(world);
    let timed = timed(world);
    let mut cells = Follower::new(world, "cells");
    let mut groups = Follower::new(world, "groups");
    let mut told = told(world);
    let mut times: BTreeSet<Time> =
        [&cells, &groups].into_iter().flat_map(|of| of.updates.keys()).chain(told.keys()).copied().collect();
    times.extend(timed.keys());
    let mut model = Model::default();
    while let Some(time) = times.first().copied().into_iter().chain(model.due()).min() {
        times.remove(&time);
        let readings = timed.get(&time).into_iter().flat_map(|of| of.values().flatten());
        model.step(time, readings.map(|reading| (reading.sensor, reading.depot, reading.value)));
        cells.step(time);
        groups.step(time);
        let mut said = told.remove(&time).unwrap_or_default();
        said.sort_unstable();
        model.told.sort_unstable();
        assert_eq!(said, model.told, "told at {time}");
        cells.is(time, model.cells().into_iter());
        groups.is(time, model.groups().into_iter());
    }
}
