//! What a job takes from the machine it runs on: its clocks, and turns of its threads. The only place that
//! reads a clock; under a [`Simulator`] both follow from a seed.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::simulator::{Simulator, Turn};
use crate::time::Time;

/// A machine, real or simulated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine(Option<Simulator>);

impl Machine {
    pub(crate) fn new(simulator: Option<Simulator>) -> Self {
        Machine(simulator)
    }

    /// The clock in milliseconds since 1970. It may jump; [`crate::pace`] makes it monotone.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub(crate) fn now(&self) -> Time {
        match &self.0 {
            Some(simulator) => simulator.now(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
        }
    }

    /// The clock that measures spans.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub(crate) fn instant(&self) -> Instant {
        self.0.as_ref().map_or_else(Instant::now, Simulator::instant)
    }

    pub(crate) fn is_simulated(&self) -> bool {
        self.0.is_some()
    }

    /// Before the workers start: so many will be.
    pub(crate) fn expect(&self, workers: usize) {
        if let Some(simulator) = &self.0 {
            simulator.expect(workers);
        }
    }

    /// Does what the store is still asked for.
    pub(crate) fn finish(&self) {
        if let Some(simulator) = &self.0 {
            simulator.finish();
        }
    }

    /// A worker's thread begins. Under a simulator it runs only when it has its turn, and may wait for that here.
    pub(crate) fn enter(&self, worker: usize) -> Option<Turn> {
        self.0.as_ref().map(|simulator| simulator.enter(worker))
    }
}

/// A thread that waits for the store, so that no worker does.
pub(crate) enum Io {
    Thread(Sender<Box<dyn FnOnce() + Send>>),
    Simulated(Simulator),
}

impl Io {
    /// Starts it. The receiver is told when it has ended: when nobody can ask it any more, and all is done.
    #[expect(clippy::disallowed_methods, reason = "the one thread for the store")]
    pub(crate) fn new(machine: &Machine) -> Result<(Self, Receiver<()>)> {
        let (end, ended) = channel();
        if let Some(simulator) = &machine.0 {
            return Ok((Io::Simulated(simulator.clone()), ended));
        }
        let (sender, work) = channel::<Box<dyn FnOnce() + Send>>();
        std::thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || {
                work.into_iter().for_each(|work| work());
                let _ = end.send(());
            })
            .map_err(|error| Error::io("starting a thread", &error))?;
        Ok((Io::Thread(sender), ended))
    }

    pub(crate) fn run(&self, work: impl FnOnce() + Send + 'static) {
        match self {
            // It ends only after all who could ask it.
            Io::Thread(sender) => drop(sender.send(Box::new(work))),
            Io::Simulated(simulator) => simulator.ask(work),
        }
    }
}
