//! Moving agents: how many moves a second become links between those that are near one another. The agents are
//! spread over a city, and a thousand of them move at a time, some metres each. The baseline is a loop in one thread over the
//! same moves, with a grid in a hash table, that counts the links that form and dissolve. Both must end with the same number of
//! links.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use nekton::differential_dataflow::input::InputSession;
use nekton::hash::FixedState;
use nekton::operators::{Position, Proximity};
use nekton::{Time, timely};
use timely::dataflow::ProbeHandle;

use crate::random::Random;
use crate::report::Report;

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Agents.
    #[arg(long, default_value_t = 100_000)]
    agents: u32,
    /// Moves.
    #[arg(long, default_value_t = 500_000)]
    moves: usize,
    /// Moves at a time.
    #[arg(long, default_value_t = 1_000)]
    at_once: usize,
    /// How near is near, in metres.
    #[arg(long, default_value_t = 100.0)]
    metres: f64,
    /// The side of the city in kilometres.
    #[arg(long, default_value_t = 40.0)]
    side: f64,
}

/// Degrees of latitude, where the city is, and of longitude.
const SOUTH_WEST: (f64, f64) = (37.3, -122.3);
const KILOMETRE: (f64, f64) = (1.0 / 111.195, 1.0 / (111.195 * 0.7916));

/// All agents and their moves: the agent, and where it comes to.
fn moves(options: &Options) -> (Vec<Position>, Vec<(u32, Position)>) {
    let mut random = Random(7);
    let mut unit = move || (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
    let place = |(up, along): (f64, f64)| {
        let (latitude, longitude) = (SOUTH_WEST.0 + up * KILOMETRE.0, SOUTH_WEST.1 + along * KILOMETRE.1);
        Position::new(latitude, longitude).expect("the city is on the earth")
    };
    let mut at: Vec<(f64, f64)> =
        (0..options.agents).map(|_| (unit() * options.side, unit() * options.side)).collect();
    let start = at.iter().copied().map(place).collect();
    let moves = (0..options.moves).map(|_| {
        let agent = (unit() * f64::from(options.agents)) as u32;
        let (up, along) = &mut at[agent as usize];
        // Up to 20 m each way.
        *up += (unit() - 0.5) * 0.04;
        *along += (unit() - 0.5) * 0.04;
        (agent, place((*up, *along)))
    });
    (start, moves.collect())
}

/// The baseline; returns how many links there are at the end, and how many formed and dissolved.
fn grid_loop(options: &Options, start: &[Position], moves: &[(u32, Position)]) -> (i64, u64, f64) {
    let side = (options.metres / 1_000.0 * KILOMETRE.0, options.metres / 1_000.0 * KILOMETRE.1);
    let cell = |at: Position| {
        (
            ((at.latitude() - SOUTH_WEST.0) / side.0).floor() as i32,
            ((at.longitude() - SOUTH_WEST.1) / side.1).floor() as i32,
        )
    };
    let mut cells: HashMap<(i32, i32), Vec<(u32, Position)>, FixedState> = HashMap::default();
    let mut at = start.to_vec();
    let near = |cells: &HashMap<_, Vec<(u32, Position)>, FixedState>,
                agent: u32,
                here: Position,
                found: &mut Vec<u32>| {
        let (row, column) = cell(here);
        for cell in
            (row - 1..=row + 1).flat_map(|row| (column - 1..=column + 1).map(move |column| (row, column)))
        {
            let others = cells.get(&cell).into_iter().flatten();
            found.extend(
                others
                    .filter(|(other, there)| *other != agent && here.metres_to(*there) <= options.metres)
                    .map(|(other, _)| *other),
            );
        }
        found.sort_unstable();
    };
    let (mut links, mut changed) = (0_i64, 0_u64);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (agent, here) in (0..).zip(start) {
        near(&cells, agent, *here, &mut after);
        links += after.len() as i64;
        after.clear();
        cells.entry(cell(*here)).or_default().push((agent, *here));
    }
    let started = Instant::now();
    for (agent, to) in moves {
        let from = std::mem::replace(&mut at[*agent as usize], *to);
        near(&cells, *agent, from, &mut before);
        near(&cells, *agent, *to, &mut after);
        let home = cells.get_mut(&cell(from)).expect("the agent is in its cell");
        let place = home.iter().position(|(other, _)| other == agent).expect("the agent is in its cell");
        home.swap_remove(place);
        cells.entry(cell(*to)).or_default().push((*agent, *to));
        changed += before.iter().filter(|other| after.binary_search(other).is_err()).count() as u64;
        changed += after.iter().filter(|other| before.binary_search(other).is_err()).count() as u64;
        links += after.len() as i64 - before.len() as i64;
        before.clear();
        after.clear();
    }
    (links, changed, started.elapsed().as_secs_f64())
}

/// Measures.
pub fn run(options: &Options) -> Report {
    let (start, moves) = moves(options);
    let (expected, changed, baseline) = grid_loop(options, &start, &moves);
    let (links, seconds, first) = dataflow(options, &start, &moves);
    assert_eq!(links, expected, "both must find the same links");
    let mut report = Report::new("proximity");
    let rate = moves.len() as f64 / seconds;
    report.figure("links at the end", links as f64, "links");
    report.figure("formed and dissolved, a move", changed as f64 / moves.len() as f64, "links");
    report.figure("first links of all agents", first, "s");
    report.figure("moves, one worker", rate / 1e3, "k moves/s");
    report.figure("moves, loop with a grid", moves.len() as f64 / baseline / 1e3, "k moves/s");
    report.figure("one worker / loop", baseline / seconds, "times");
    report
}

/// One worker; returns how many links there are, and the seconds of the moves and of the start.
fn dataflow(options: &Options, start: &[Position], moves: &[(u32, Position)]) -> (i64, f64, f64) {
    let mut worker = crate::links::worker();
    let mut agents = InputSession::new();
    let probe = ProbeHandle::new();
    let links = Rc::new(Cell::new(0_i64));
    worker.dataflow::<Time, _, _>(|scope| {
        let links = links.clone();
        let near = agents.to_collection(scope).near(options.metres);
        near.inspect(move |(_, _, diff)| links.set(links.get() + *diff as i64)).probe_with(&probe);
    });
    let mut at = start.to_vec();
    let started = Instant::now();
    for (agent, here) in (0_u32..).zip(start) {
        agents.update((agent, *here), 1_isize);
    }
    agents.advance_to(1);
    agents.flush();
    while probe.less_than(&1) {
        worker.step();
    }
    let first = started.elapsed().as_secs_f64();
    let started = Instant::now();
    for (time, moved) in (2..).zip(moves.chunks(options.at_once)) {
        for (agent, to) in moved {
            let from = std::mem::replace(&mut at[*agent as usize], *to);
            agents.update((*agent, from), -1);
            agents.update((*agent, *to), 1);
        }
        agents.advance_to(time);
        agents.flush();
        while probe.less_than(&time) {
            worker.step();
        }
    }
    (links.get(), started.elapsed().as_secs_f64(), first)
}
