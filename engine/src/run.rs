//! Running a job: worker threads, their loop, and a clean end whatever happens.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use timely::WorkerConfig;
use timely::communication::Config as Communication;
use timely::worker::Worker;

use crate::cluster::{self, Links};
use crate::connect::Topics;
use crate::durable::check::{Built, Checked, Outlook, check as compare};
use crate::durable::{Durable, LateWaker, replay, take_over};
use crate::error::{Error, Kind, Result};
use crate::flow::{Flow, Views};
use crate::gauges::gauge;
use crate::job::{JobConfig, Shared, Sources, Summary};
use crate::pace::Pace;
use crate::time::Time;

/// How long a store may take for what it was asked last.
const STORING: Duration = Duration::from_secs(60);

/// Runs a job until its end: until every input has ended (with [`JobConfig::until_end`]), until a
/// stop is requested, or until something fails. `program` is called once on each worker thread; with
/// checkpoints once before, to see whether it fits them.
///
/// # Errors
/// The first error of any worker; all others of this process have ended when it is returned.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # use std::sync::Arc;
/// # let topics = Memory::default();
/// # topics.publish("readings", &["12", "64"]);
/// // The topics of the example in `connect`; `readings` has 12, 64.
/// let config = JobConfig { until_end: true, ..JobConfig::new("house") };
/// let summary = run(config, Arc::new(topics.clone()), |flow| {
///     let readings = flow.events::<i64>("readings");
///     flow.sink("hot", &readings.filter(|celsius| *celsius > 60));
/// })?;
/// assert_eq!(topics.lines("hot"), ["64"]);
/// assert_eq!((summary.events, summary.messages), (2, 1));
///
/// let twice = run(JobConfig::new("house"), Arc::new(topics), |flow| {
///     flow.events::<i64>("nowhere");
/// });
/// assert_eq!(twice.unwrap_err().kind(), Kind::Missing);
/// # Ok::<(), Error>(())
/// ```
pub fn run<F>(config: JobConfig, topics: Arc<dyn Topics>, program: F) -> Result<Summary>
where
    F: for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
{
    catch_panics();
    let machine = config.machine();
    let started = machine.instant();
    if config.workers == 0 {
        return Err(Error::config("a job needs at least one worker: give --workers 1 or more"));
    }
    let (program, views) = (Arc::new(program), Arc::new(Views::default()));
    // Worker 0 keeps the log of bindings; its process finds out from where the job goes on.
    let mut sources = Sources::default();
    let mut durable = None;
    if config.process == 0 && config.replay_from.is_some() {
        durable = Some(prepare_replay(&config, &*topics)?);
    } else if config.process == 0 && config.checkpoints.is_some() {
        let built;
        (built, sources) = rehearse(&config, &topics, &program, &views)?;
        durable = prepare(&config, &*topics, &built)?;
    }
    let (mut links, mut guard) = (None, None);
    let builders = if config.hosts.len() > 1 {
        let plan = durable.as_ref().map(|(durable, _)| serde_json::to_vec(&durable.plan));
        let plan = plan.transpose().map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let mut connected = cluster::connect(&config, plan)?;
        if config.process > 0 {
            let followed = follow(&config, connected.said.take());
            durable = followed.inspect_err(|error| connected.links.farewell(&error.to_string()))?;
        }
        links = Some(connected.links.clone());
        let network = connected.network(&config)?;
        guard = Some(network.1);
        network.0
    } else {
        let process = Communication::Process(config.workers).try_build().map_err(|error| {
            Error::new(Kind::Internal, format!("the workers could not be set up: {error}"))
        })?;
        process.0
    };
    let mut worker_config = WorkerConfig::default();
    let effort = differential_dataflow::Config::default().idle_merge_effort(Some(1_000));
    differential_dataflow::configure(&mut worker_config, &effort);

    if machine.is_simulated() && config.hosts.len() > 1 {
        return Err(Error::config("a simulated job runs in one process"));
    }
    machine.expect(config.workers);
    let (durable, storing) = durable.unzip();
    let shared = Arc::new(Shared::new(config, topics, durable).with_sources(sources));
    shared.config.live.attach(shared.counters.clone(), shared.gauges.clone(), shared.config.stop.clone());
    if let Some(links) = &links {
        let shared = Arc::downgrade(&shared);
        links.watch(move |error| {
            if let Some(shared) = shared.upgrade() {
                shared.fail(error);
            }
        });
    }
    let (of_workers, of_links) = (shared.clone(), links.clone());
    // The guard of the network's threads stays here: dropping it panics if a peer was lost.
    let workers = timely::execute::execute_from(builders, Box::new(()), worker_config, move |worker| {
        work(worker, &*program, &of_workers, &views, of_links.as_ref());
    })
    .map_err(|error| Error::new(Kind::Internal, format!("the workers could not be started: {error}")))?;
    for joined in workers.join() {
        if joined.is_err() {
            shared.fail(panicked("it ended"));
        }
    }
    if let Some(links) = &links {
        links.release(shared.failed());
    }
    // Waits until the other processes have ended as well.
    if guard.is_some_and(|guard| !cluster::ended(guard)) {
        shared.fail(panicked("the network's threads ended"));
    }
    let error = shared.take_error();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let summary = Summary {
        events: count(&shared.counters.events),
        dead_letters: count(&shared.counters.dead_letters),
        messages: count(&shared.counters.messages),
        epochs: count(&shared.counters.epochs),
        elapsed: machine.instant().saturating_duration_since(started),
    };
    // What is on its way to the store must not come there when this job is over.
    drop(shared);
    machine.finish();
    if let Some(stored) = storing
        && stored.recv_timeout(STORING) == Err(RecvTimeoutError::Timeout)
    {
        tracing::warn!("the store of checkpoints is slow: the job ends without waiting for it any longer");
    }
    error.map_or(Ok(summary), Err)
}

/// Checks whether a job with checkpoints could go on as it is: builds the program once, and reads all of the newest
/// checkpoint's state. Starts, opens for writing and takes over nothing.
///
/// # Errors
/// What [`run`] would say before it starts: a topic that is not there, a root whose state cannot be read any more.
pub fn check<F>(config: JobConfig, topics: Arc<dyn Topics>, program: F) -> Result<Checked>
where
    F: for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
{
    catch_panics();
    let (built, _) = rehearse(&config, &topics, &Arc::new(program), &Arc::default())?;
    match &config.checkpoints {
        Some(checkpoints) => compare(&config.name, &*checkpoints.store, &built, true),
        None => Ok(Checked { checkpoint: None, outlook: Vec::new() }),
    }
}

/// Builds a program once, on a thread of its own, to see what it has: nothing runs, and nothing is opened for writing.
fn rehearse<F>(
    config: &JobConfig,
    topics: &Arc<dyn Topics>,
    program: &Arc<F>,
    views: &Arc<Views>,
) -> Result<(Built, Sources)>
where
    F: for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
{
    let shared = Arc::new(Shared::rehearsing(config.clone(), topics.clone()));
    let failed =
        |error: String| Error::new(Kind::Internal, format!("a worker could not be started: {error}"));
    let (builders, guard) = Communication::Process(1).try_build().map_err(failed)?;
    let (of_worker, program, views) = (shared.clone(), program.clone(), views.clone());
    let mut worker_config = WorkerConfig::default();
    differential_dataflow::configure(&mut worker_config, &differential_dataflow::Config::default());
    let workers = timely::execute::execute_from(builders, guard, worker_config, move |worker| {
        work(worker, &*program, &of_worker, &views, None);
    })
    .map_err(failed)?;
    for joined in workers.join() {
        if let Err(panic) = joined {
            shared.fail(panicked(&panic));
        }
    }
    match shared.take_error() {
        Some(error) => Err(error),
        None => Ok(shared.rehearsed()),
    }
}

/// Finds out from where a job with checkpoints goes on, and takes it over.
fn prepare(
    config: &JobConfig,
    topics: &dyn Topics,
    built: &Built,
) -> Result<Option<(Durable, Receiver<()>)>> {
    let Some(checkpoints) = config.checkpoints.clone() else { return Ok(None) };
    let store = &*checkpoints.store;
    let checked = compare(&config.name, store, built, false)?;
    let log_waker = Arc::new(LateWaker::default());
    let waker = log_waker.clone();
    let mut log = topics.log(&config.name, Arc::new(move || waker.wake()))?;
    let plan = take_over(&config.name, config.checkpoints_kept, store, &mut *log, config.delivery)?;
    if let Some(until) = config.until.filter(|until| *until < plan.last_time()) {
        let why = format!("this job has gone on to {} already", plan.last_time());
        let hint = "end later, or replay a stretch of the past with --from";
        return Err(Error::config(format!("--until {until}: {why}; {hint}")));
    }
    let replays = match plan.bindings.iter().filter(|binding| !binding.bounds.is_empty()).count() {
        0 => String::new(),
        1 => ", replaying 1 epoch".to_owned(),
        epochs => format!(", replaying {epochs} epochs"),
    };
    match checked.checkpoint {
        Some((number, time)) => {
            let age = config.machine().now().saturating_sub(time) as f64 / 1_000.;
            config.notes.say(&format!("goes on from checkpoint {number} ({age:.1} s old){replays}"));
        }
        None if !replays.is_empty() => config.notes.say(&format!("goes on without a checkpoint{replays}")),
        None => {}
    }
    for outlook in &checked.outlook {
        if matches!(outlook, Outlook::GoneRoot(_)) {
            config.notes.say(&outlook.to_string());
        }
    }
    let (durable, thread) = Durable::new(config, checkpoints, plan)?;
    Ok(Some((Durable { log: Mutex::new(Some(log)), log_waker, ..durable }, thread)))
}

/// Finds out what is to be replayed.
fn prepare_replay(config: &JobConfig, topics: &dyn Topics) -> Result<(Durable, Receiver<()>)> {
    let (Some(checkpoints), Some(from)) = (config.checkpoints.clone(), config.replay_from) else {
        return Err(Error::config("--from needs --checkpoints: from where?"));
    };
    let (store, now) = (&*checkpoints.store, config.machine().now());
    let plan = replay::plan(&config.name, store, topics, from, config.until, now)?;
    tracing::info!(job = config.name, checkpoint = plan.restored(), until = plan.replay_until, "replaying");
    Durable::new(config, checkpoints, plan)
}

/// Goes on from where process 0 says.
fn follow(config: &JobConfig, plan: Option<Vec<u8>>) -> Result<Option<(Durable, Receiver<()>)>> {
    let (checkpoints, plan) = match (config.checkpoints.clone(), plan) {
        (None, None) => return Ok(None),
        (Some(checkpoints), Some(plan)) => (checkpoints, plan),
        _ => {
            return Err(Error::config(
                "only some processes have --checkpoints: start all with the same flags",
            ));
        }
    };
    let plan = serde_json::from_slice(&plan)
        .map_err(|error| Error::new(Kind::Internal, format!("process 0 has sent no plan: {error}")))?;
    Durable::new(config, checkpoints, plan).map(Some)
}

/// One worker: builds the dataflow, steps it until it is complete or the job has failed.
fn work<F>(worker: &mut Worker, program: &F, shared: &Arc<Shared>, views: &Arc<Views>, links: Option<&Links>)
where
    F: for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
{
    let local = worker.index() % shared.config.workers;
    let turn = if shared.rehearse(|_| {}) { None } else { shared.machine.enter(local) };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let pace = Pace::new(shared.clone(), local);
        // Simulated jobs run by the thousand, and nobody looks at them.
        if !shared.machine.is_simulated() && !shared.rehearse(|_| {}) {
            gauge(worker, &shared.gauges, local);
        }
        worker.dataflow::<Time, _, _>(|scope| {
            let mut flow = Flow::new(scope, pace.clone(), shared.clone(), views.clone());
            program(&mut flow);
            flow.finish();
        });
        if local == 0
            && !shared.failed()
            && let Err(error) = shared.built()
        {
            shared.fail(error);
        }
        if shared.rehearse(|_| {}) {
            return;
        }
        if local == 0 && !shared.failed() {
            shared.config.live.begin();
        }
        match &turn {
            None => {
                while !shared.failed() && worker.step_or_park(None) {
                    pace.after_step();
                }
            }
            Some(turn) => {
                while !shared.failed() && worker.step() {
                    pace.after_step();
                    turn.pass();
                    pace.ring();
                }
            }
        }
    }));
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        shared.fail(panicked(&text.unwrap_or_default()));
    }
    if shared.failed()
        && let Some(links) = links
    {
        links.farewell(&shared.why());
    }
    if shared.failed() || shared.rehearse(|_| {}) {
        // What is still on its way goes with the dataflow. A panic in an operator may leave it unfit to be dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
        }));
    }
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the panics of worker and network threads off the screen: they become errors.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            let Some(role) = name.strip_prefix("timely:") else { return others(info) };
            tracing::debug!(thread = name, %info, "panic");
            if role.starts_with("work") {
                let place =
                    info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
                let text = info.payload_as_str().unwrap_or("a panic");
                PANIC.with_borrow_mut(|slot| *slot = Some(format!("{text}{place}")));
            }
        }));
    });
}

fn panicked(fallback: &str) -> Error {
    let said = PANIC.with_borrow_mut(Option::take).unwrap_or_else(|| fallback.to_owned());
    Error::new(
        Kind::Internal,
        format!("a worker panicked: {said}. This is a defect in the program's closures or in nekton"),
    )
}
