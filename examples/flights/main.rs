//! Flights from New York in 2013, replayed: events of 336,776 flights, an agent for each carrier, airport and
//! plane, and topics of what changes. Try it:
//!
//! ```text
//! cargo run --release --example flights                              # January, a day a second
//! cargo run --release --example flights -- --months 12 --speed max   # the year, as fast as it can
//! ```
//!
//! With `--predict`, it predicts how late each flight will leave, two hours ahead, and shows how good that was:
//!
//! ```text
//! cargo run --release --example flights -- --predict --months 12 --speed max
//! ```
//!
//! `docs/flights.md` says what the events are, what the topics hold, and how to publish and consume apart.

mod agents;
mod calendar;
mod data;
mod events;
mod job;
mod predict;
mod replay;
mod screen;
mod table;

use std::hash::Hash;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use nekton::agents::Record;
use nekton::{Error, Flow, Publisher, Result, Runner, Stop, Summary, View, say};

use crate::data::Names;
use crate::job::Line;
use crate::replay::{Due, Replay, Speed};
use crate::screen::{Done, Screen};
use crate::table::{Shown, number as in_thousands};

/// How many partitions the topic of events gets where it does not exist yet.
const PARTITIONS: u32 = 4;

/// Replays the flights from New York in 2013: events of flights to a topic, and from it, through agents for
/// carriers, airports and planes, to topics of what changes
#[derive(Parser)]
#[command(name = "flights", version)]
struct Options {
    /// The first N months of 2013, or the months A to B
    #[arg(long, value_name = "N|A..B", default_value = "1", value_parser = months, help_heading = "Replay")]
    months: RangeInclusive<usize>,
    /// How many times as fast as in 2013 (86400: a day a second), or max
    #[arg(long, value_name = "N|max", default_value = "86400", help_heading = "Replay")]
    speed: Speed,
    /// Publish the events and do nothing else
    #[arg(long, conflicts_with = "consume_only", help_heading = "Replay")]
    publish_only: bool,
    /// Publish nothing: consume what is in the topic, and follow it unless told --until-end
    #[arg(long, help_heading = "Replay")]
    consume_only: bool,
    /// Predict how late each flight will leave, two hours before it is to
    #[arg(long, help_heading = "Replay")]
    predict: bool,
    /// Write what the models predict from to the topic `examples`
    #[arg(long, requires = "predict", help_heading = "Replay")]
    examples: bool,
    #[command(flatten)]
    runner: Runner,
}

fn months(text: &str) -> Result<RangeInclusive<usize>, String> {
    let (from, to) = text.split_once("..").unwrap_or(("1", text));
    match (from.parse(), to.trim_start_matches('=').parse()) {
        (Ok(from), Ok(to)) if 1 <= from && from <= to && to <= 12 => Ok(from..=to),
        _ => Err("write 1 to 12 for so many months from January on, or 6..8 for June to August".to_owned()),
    }
}

fn main() {
    if let Err(error) = nekton::parse::<Options>().and_then(run) {
        say(format_args!("flights: {error}"));
        std::process::exit(1);
    }
}

fn run(options: Options) -> Result<()> {
    let Options { months, speed, publish_only, consume_only, predict, examples, runner } = options;
    let (process, processes) = runner.process();
    let publishes = !consume_only && process == 0;
    // A replay is a new one whenever it is published, and its figures begin at nothing.
    let runner = if consume_only { runner } else { runner.default_checkpoints("none") };
    if publishes && !publish_only && processes > 1 && !runner.until_end() {
        return Err(Error::config(
            "several processes end together only with --until-end: add it, or publish and consume apart, with \
             --publish-only and --consume-only",
        ));
    }
    let names = Names::read()?;
    let number = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    // Other processes do not know this replay's number; alone, earlier replays in the topic are passed over.
    let only = (publishes && processes == 1).then_some(number);
    if predict {
        let published = match publishes {
            true => {
                let log = predict::log::of_year(&data::flights(months)?, &data::weather()?, &names, number)?;
                // The log is in one partition: its order is that in which things became known.
                Some((Replay::new(log, speed), Publisher::open(&runner, "log", 1)?))
            }
            false => None,
        };
        return match published {
            Some((replay, publisher)) if publish_only => publish(&replay, publisher),
            published => predict::run(runner, published, only, examples, process == 0),
        };
    }
    let published = match publishes {
        true => {
            let flights = data::flights(months.clone())?;
            let replay = Replay::new(events::of_flights(&flights, &names, number)?, speed);
            Some((replay, Publisher::open(&runner, "flights", PARTITIONS)?))
        }
        false => None,
    };
    if publish_only && let Some((replay, publisher)) = published {
        return publish(&replay, publisher);
    }
    let shows = process == 0;
    let topics = runner.topics_url().to_owned();
    let workers = runner.workers();
    let events = published.as_ref().map(|(replay, _)| replay.events());
    let mut screen = Screen::new(&names, shows);
    let places = names.places().clone();
    let build = move |flow: &mut Flow<'_>| job::build(flow, only, &places);
    let seen = |view: &View<Line>| Ok(Shown::of(view)?.events);
    let show = |view: &_, replay: Option<&_>, over: &_| screen.show(view, replay, over);
    let (done, view) = job(runner, "flights", published, build, seen, show);
    let summary = done?;
    if let Some(view) = view.get().filter(|_| shows) {
        let shown = Shown::of(view)?;
        screen::summary(
            &shown,
            &names,
            &Done {
                months: publishes.then_some(months),
                events,
                summary,
                workers,
                topics,
                drawn: screen.live,
            },
        );
    }
    Ok(())
}

/// Publishes everything, and says how far it is.
fn publish<E: Due + Sync>(replay: &Replay<E>, publisher: Publisher) -> Result<()> {
    let (begun, place, over) = (Instant::now(), publisher.describe(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| screen::published(replay, &over));
        let done = replay.run(publisher, || false);
        over.store(true, Ordering::SeqCst);
        done
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("published {} events to {place} in {seconds:.1} s", in_thousands(replay.published()));
    Ok(())
}

/// The view that the workers build.
type Built<L> = Arc<OnceLock<View<L>>>;

/// Runs the job that `build` builds, with the replay and what it shows beside it. `seen` says how many events are in the view.
fn job<E: Due + Send + Sync, L: Record + Hash>(
    runner: Runner,
    name: &str,
    published: Option<(Replay<E>, Publisher)>,
    build: impl Fn(&mut Flow<'_>) -> View<L> + Send + Sync + 'static,
    seen: impl Fn(&View<L>) -> Result<u64> + Send,
    show: impl FnOnce(&OnceLock<View<L>>, Option<&Replay<E>>, &AtomicBool) + Send,
) -> (Result<Summary>, Built<L>) {
    let stop = runner.stop_handle();
    let until_end = runner.until_end();
    let held = Arc::new(AtomicBool::new(published.is_some()));
    let runner = runner.hold_end(held.clone());
    let built = Built::default();
    let over = AtomicBool::new(false);
    let (replay, publisher) = published.unzip();
    let done = std::thread::scope(|scope| {
        let publishing = publisher.zip(replay.as_ref()).map(|(publisher, replay)| {
            let (stop, over, built) = (&stop, &over, &built);
            scope.spawn(move || {
                let stopped = || stop.requested() || over.load(Ordering::SeqCst);
                let done = replay.run(publisher, stopped).and_then(|()| match until_end {
                    true => Ok(()),
                    false => wait_until_seen(built, replay.published(), seen, stopped),
                });
                held.store(false, Ordering::SeqCst);
                if done.is_err() || !until_end {
                    Stop::request(stop);
                }
                done
            })
        });
        let showing = scope.spawn(|| show(&built, replay.as_ref(), &over));
        let view = built.clone();
        let done = runner.run(name, move |flow| {
            // The workers of a process build the same view.
            let _ = view.set(build(flow));
        });
        over.store(true, Ordering::SeqCst);
        let published = publishing.map(|thread| thread.join());
        let _ = showing.join();
        match published {
            Some(Ok(published)) => published.and(done),
            Some(Err(_)) => Err(Error::new(nekton::Kind::Internal, "the replay's thread panicked")),
            None => done,
        }
    });
    (done, built)
}

/// A replay is finite, so its job ends by itself: when all of its events have been counted.
fn wait_until_seen<L: Record + Hash>(
    built: &Built<L>,
    published: u64,
    seen: impl Fn(&View<L>) -> Result<u64>,
    stopped: impl Fn() -> bool,
) -> Result<()> {
    while !stopped() {
        if let Some(view) = built.get()
            && seen(view)? >= published
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
