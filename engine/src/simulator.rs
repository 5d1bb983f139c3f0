//! A machine that is simulated: its clocks and the turns of its threads follow from a seed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::time::Time;

/// A machine that does the same again for the same seed: [`crate::JobConfig::simulator`] runs a job on it. At every
/// moment one worker runs, for a few steps, and then another that the seed chooses; what is asked of the store
/// is done between steps; the clock goes on a little with every step. Topics that are made for it, with
/// delays by [`Simulator::after`] and faults by [`Simulator::at_each_step`], make a whole world of it in which
/// a program can be tested: every run of a seed is the same to the last message.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # use std::sync::Arc;
/// let run_with = |seed| {
///     # let topics = Memory::default();
///     # topics.publish("readings", &["12", "64"]);
///     let simulator = Simulator::new(seed);
///     let config = JobConfig {
///         workers: 3,
///         until_end: true,
///         simulator: Some(simulator.clone()),
///         ..JobConfig::new("house")
///     };
///     let summary = run(config, Arc::new(topics), |flow| {
///         let readings = flow.events::<i64>("readings"); // 12, 64
///         flow.sink("hot", &readings.filter(|celsius| *celsius > 60));
///     })?;
///     assert_eq!(summary.messages, 1);
///     Ok::<_, Error>((simulator.now(), simulator.steps()))
/// };
/// assert_eq!(run_with(17)?, run_with(17)?);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Simulator(Arc<Inner>);

struct Inner {
    base: Instant,
    state: Mutex<State>,
    /// One a worker: it has its turn.
    turns: Vec<Condvar>,
    hook: Mutex<Option<Hook>>,
}

/// Called with the number of each step.
type Hook = Arc<dyn Fn(u64) + Send + Sync>;
type Work = Box<dyn FnOnce() + Send>;

/// The most workers of a simulated job.
const MOST_WORKERS: usize = 64;
/// When a simulated world begins: 1 January 2020.
const BEGIN: Time = 1_577_836_800_000;
/// The most steps that a worker has at a turn, and the longest one of them.
const MOST_STEPS: u64 = 6;
const LONGEST_STEP: u64 = 300_000;

struct State {
    random: u64,
    /// Since the beginning, in nanoseconds.
    elapsed: u64,
    /// What the wall clock is ahead of that, in milliseconds; it may be behind.
    skew: i64,
    steps: u64,
    expected: usize,
    /// Workers that have come and not gone.
    workers: Vec<usize>,
    turn: Option<usize>,
    /// Steps that are left of this turn.
    left: u64,
    /// What is asked of the store.
    asked: VecDeque<Work>,
    due: BTreeMap<(u64, u64), Work>,
}

impl State {
    /// A number below `bound`, which is above 0 (xorshift64*: Vigna, "An experimental exploration of Marsaglia's
    /// xorshift generators, scrambled", 2016).
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    /// Gives a worker the turn.
    fn choose(&mut self) -> Option<usize> {
        self.left = 1 + self.below(MOST_STEPS);
        self.turn = match self.workers.len() {
            0 => None,
            workers => {
                let at = self.below(workers as u64) as usize;
                Some(self.workers[at])
            }
        };
        self.turn
    }
}

impl Simulator {
    /// A machine that follows from `seed`. Its clock begins with the year 2020.
    #[expect(
        clippy::disallowed_methods,
        reason = "what simulated instants count from; no result depends on it"
    )]
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            elapsed: 0,
            skew: 0,
            steps: 0,
            expected: 0,
            workers: Vec::new(),
            turn: None,
            left: 0,
            asked: VecDeque::new(),
            due: BTreeMap::new(),
        };
        Simulator(Arc::new(Inner {
            base: Instant::now(),
            state: Mutex::new(state),
            turns: (0..MOST_WORKERS).map(|_| Condvar::new()).collect(),
            hook: Mutex::new(None),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its clock, in milliseconds since 1970.
    pub fn now(&self) -> Time {
        let state = self.state();
        (BEGIN + state.elapsed / 1_000_000).saturating_add_signed(state.skew)
    }

    pub(crate) fn instant(&self) -> Instant {
        let mut state = self.state();
        // Reading a clock is work as well.
        let took = state.below(LONGEST_STEP / 4);
        state.elapsed += took;
        self.0.base + Duration::from_nanos(state.elapsed)
    }

    /// Sets the clock that tells the time forward by so many milliseconds, or back.
    pub fn set_clock(&self, ahead: i64) {
        self.state().skew += ahead;
    }

    /// How many steps there were so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// A number below `bound` (which is above 0), from the seed.
    pub fn below(&self, bound: u64) -> u64 {
        self.state().below(bound)
    }

    /// Does `work` when so much of the simulated time has passed, between two steps.
    pub fn after(&self, delay: Duration, work: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        let mut at = (state.elapsed + delay.as_nanos() as u64, 0);
        while state.due.contains_key(&at) {
            at.1 += 1;
        }
        state.due.insert(at, Box::new(work));
    }

    /// Calls `hook` at each step with its number, while everything else stands still.
    pub fn at_each_step(&self, hook: impl Fn(u64) + Send + Sync + 'static) {
        *self.0.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// A step that is none of a worker's: something outside is about to happen.
    pub fn step(&self) {
        let number = {
            let mut state = self.state();
            state.steps += 1;
            let took = state.below(LONGEST_STEP);
            state.elapsed += took;
            state.steps
        };
        let hook = self.0.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook(number);
        }
    }

    pub(crate) fn expect(&self, workers: usize) {
        assert!(workers <= MOST_WORKERS, "a simulated job has at most {MOST_WORKERS} workers");
        let mut state = self.state();
        state.expected = workers;
        state.workers.clear();
        state.turn = None;
    }

    /// A worker comes; waits until all are there and it has its turn.
    pub(crate) fn enter(&self, worker: usize) -> Turn {
        let mut state = self.state();
        state.workers.push(worker);
        if state.workers.len() == state.expected {
            // In which order threads have come is not the seed's.
            state.workers.sort_unstable();
            if let Some(next) = state.choose() {
                self.0.turns[next].notify_one();
            }
        }
        self.wait(state, worker);
        Turn { simulator: self.clone(), worker }
    }

    fn wait(&self, mut state: MutexGuard<'_, State>, worker: usize) {
        while state.turn != Some(worker) {
            state = self.0.turns[worker].wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The store's thread is asked for something.
    pub(crate) fn ask(&self, work: impl FnOnce() + Send + 'static) {
        self.state().asked.push_back(Box::new(work));
    }

    /// Does all that the store's thread was asked for.
    pub(crate) fn finish(&self) {
        loop {
            let Some(work) = self.state().asked.pop_front() else { return };
            work();
        }
    }

    /// Between two steps: does what is due, and perhaps what the store is asked for.
    fn between(&self) {
        self.step();
        loop {
            let work = {
                let mut state = self.state();
                let due = state.due.first_key_value().is_some_and(|((at, _), _)| *at <= state.elapsed);
                if due {
                    state.due.pop_first().map(|(_, work)| work)
                } else if !state.asked.is_empty() && state.below(8) == 0 {
                    state.asked.pop_front()
                } else {
                    None
                }
            };
            let Some(work) = work else { return };
            work();
        }
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator").field("steps", &self.steps()).finish()
    }
}

/// A worker's place among those that take turns; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    simulator: Simulator,
    worker: usize,
}

impl Turn {
    /// After a step: another worker may have its turn.
    pub(crate) fn pass(&self) {
        self.simulator.between();
        let mut state = self.simulator.state();
        state.left = state.left.saturating_sub(1);
        if state.left > 0 {
            return;
        }
        let next = state.choose();
        if let Some(next) = next.filter(|&next| next != self.worker) {
            self.simulator.0.turns[next].notify_one();
            self.simulator.wait(state, self.worker);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.simulator.state();
        state.workers.retain(|&worker| worker != self.worker);
        if let Some(next) = state.choose() {
            self.simulator.0.turns[next].notify_one();
        }
    }
}
