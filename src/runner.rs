//! The runner: what every nekton program takes as flags, and what it does with them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Parser, ValueEnum};
use nekton_connectors::file::FileSettings;
use nekton_connectors::pulsar::PulsarSettings;
use nekton_engine::connect::Start;
use nekton_engine::{
    Checked, Checkpoint, Checkpoints, Delivery, Error, Flow, JobConfig, Notes, OnBadInput, Result, Stop,
    Summary, Time,
};
use nekton_ui::About;

use crate::access::Access;
use crate::cluster::ClusterFlags;
use crate::commands::Writing;
use crate::screens::ScreenFlags;
use crate::topics::ByUrl;

// Clap prints these lines where a program says nothing about itself, so there is no example among them.
/// The flags that every nekton program has. A program with flags of its own flattens them in:
/// `#[command(flatten)] runner: Runner`, and calls [`crate::parse`].
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Running", about = None, long_about = None)]
pub struct Runner {
    /// Worker threads in this process
    #[arg(long, env = "NEKTON_WORKERS", value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Processes that run this job together; each needs --process and --hosts
    #[arg(long, env = "NEKTON_PROCESSES", value_name = "N", default_value_t = 1)]
    processes: usize,
    /// The number of this process, from 0
    #[arg(long, env = "NEKTON_PROCESS", value_name = "I", default_value_t = 0)]
    process: usize,
    /// Where the processes find one another: an address and port each, in the order of their numbers
    #[arg(long, env = "NEKTON_HOSTS", value_name = "A:P,B:P", value_delimiter = ',')]
    hosts: Vec<String>,
    /// Finish when all inputs have been read to their ends, instead of following them
    #[arg(long)]
    until_end: bool,
    /// Settings from a TOML file, with the names of these flags as keys; flags and environment win
    #[arg(long, env = "NEKTON_CONFIG", value_name = "FILE")]
    config: Option<String>,
    /// What to log on standard error, such as info or nekton_engine=debug
    #[arg(long, env = "NEKTON_LOG", value_name = "FILTER", default_value = "warn")]
    log: String,
    /// Where all topics are
    #[arg(
        long,
        env = "NEKTON_TOPICS",
        value_name = "URL",
        default_value = "file:./nekton-data/topics",
        help_heading = "Topics"
    )]
    topics: String,
    /// Where one topic is, if not with the others; may be repeated
    #[arg(long, value_name = "NAME=URL", help_heading = "Topics", action = clap::ArgAction::Append, value_parser = named)]
    topic: Vec<(String, String)>,
    /// Where a new job begins in its topics: earliest, latest, or a time such as 2026-01-31T12:00:00Z (Pulsar)
    #[arg(
        long,
        env = "NEKTON_START",
        value_name = "WHERE",
        default_value = "earliest",
        help_heading = "Topics",
        value_parser = start
    )]
    start: Start,
    /// What becomes of records that cannot be read
    #[arg(
        long,
        env = "NEKTON_ON_BAD_INPUT",
        value_name = "WHAT",
        default_value = "dead-letter",
        help_heading = "Topics"
    )]
    on_bad_input: BadInput,
    /// How many partitions an output topic gets that does not exist yet
    #[arg(long, env = "NEKTON_PARTITIONS", value_name = "N", default_value_t = 1, help_heading = "Topics", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    partitions: u32,
    /// The most records that a view keeps in memory
    #[arg(long, env = "NEKTON_VIEW_LIMIT", value_name = "N", default_value_t = 1_000_000)]
    view_limit: usize,
    /// Where checkpoints are kept, so that a restart goes on where it was: file:PATH, s3://BUCKET/PREFIX, gs://.. or
    /// az://..; none: a restart begins anew [default: a folder checkpoints beside the topics]
    #[arg(long, env = "NEKTON_CHECKPOINTS", value_name = "URL", help_heading = "Durability")]
    checkpoints: Option<String>,
    /// The time between two checkpoints, such as 10s or 500ms
    #[arg(
        long,
        env = "NEKTON_CHECKPOINT_EVERY",
        value_name = "TIME",
        default_value = "10s",
        help_heading = "Durability",
        value_parser = humantime::parse_duration
    )]
    checkpoint_every: Duration,
    /// Mark in every output partition, at most so often (such as 100ms), up to which time it is whole, for readers of
    /// several partitions and topics; without, there are no marks
    #[arg(
        long,
        env = "NEKTON_PROGRESS_MARKS",
        value_name = "TIME",
        help_heading = "Topics",
        value_parser = humantime::parse_duration
    )]
    progress_marks: Option<Duration>,
    /// How many checkpoints are kept: what follows each of them can be replayed with --from
    #[arg(
        long,
        env = "NEKTON_CHECKPOINTS_KEPT",
        value_name = "N",
        default_value_t = 3,
        help_heading = "Durability",
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    checkpoints_kept: u32,
    /// Replay what followed a checkpoint, to other topics, and end: earliest, latest, its number, or the newest one before a
    /// time (as in --until)
    #[arg(long, value_name = "CHECKPOINT", help_heading = "Time travel", value_parser = checkpoint)]
    from: Option<Checkpoint>,
    /// End when this time is over: such as 2026-01-31T12:00:00Z, or a message's time in milliseconds
    #[arg(long, value_name = "TIME", help_heading = "Time travel", value_parser = time)]
    until: Option<Time>,
    /// Where all topics are that are written, if not with those that are read
    #[arg(long, value_name = "URL", help_heading = "Time travel")]
    outputs: Option<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
    /// What a restart may do to outputs: each change once, or again what left since the last checkpoint
    #[arg(
        long,
        env = "NEKTON_DELIVERY",
        value_name = "WHAT",
        default_value = "exactly-once",
        help_heading = "Durability"
    )]
    delivery: Deliver,
    /// Say whether the job could go on from its checkpoints, and run nothing: `nekton check`
    #[arg(long, env = "NEKTON_CHECK", hide = true)]
    check: bool,
    #[command(flatten)]
    screens: ScreenFlags,
    #[command(flatten)]
    access: Access,
    #[arg(skip)]
    hold_end: Option<Arc<AtomicBool>>,
    #[arg(skip)]
    stop: Stop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BadInput {
    /// They go to the topic NAME.dead-letter
    DeadLetter,
    /// The job stops
    Fail,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Deliver {
    /// Each change is in its output once
    ExactlyOnce,
    /// Nothing is lost; outputs do not wait to be bound, and may come again after a crash
    AtLeastOnce,
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        time => humantime::parse_rfc3339_weak(time)
            .map_err(|error| {
                format!("write earliest, latest, or a time in UTC such as 2026-01-31T12:00:00Z ({error})")
            })
            .map(|time| time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
            .map(Start::PublishedAt),
    }
}

/// A time as a person writes it, or as it is in messages.
fn time(text: &str) -> Result<Time, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    humantime::parse_rfc3339_weak(text)
        .map(|time| time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
        .map_err(|error| {
            format!("write milliseconds since 1970, or a time in UTC such as 2026-01-31T12:00:00Z ({error})")
        })
}

/// Below this a number counts checkpoints, from it on milliseconds since 1970 (it is in 1973).
const FIRST_TIME: u64 = 100_000_000_000;

fn checkpoint(text: &str) -> Result<Checkpoint, String> {
    match text {
        "earliest" => Ok(Checkpoint::Earliest),
        "latest" => Ok(Checkpoint::Latest),
        _ => match text.parse() {
            Ok(number) if number < FIRST_TIME => Ok(Checkpoint::Number(number)),
            _ => time(text)
                .map(Checkpoint::Time)
                .map_err(|why| format!("{why}, or a number, earliest, latest")),
        },
    }
}

fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, url)) if !name.is_empty() && !url.is_empty() => Ok((name.to_owned(), url.to_owned())),
        _ => Err("write NAME=URL, for example telemetry=file:./telemetry.jsonl".to_owned()),
    }
}

// A program without flags of its own; a comment of documentation would be printed as its description.
#[derive(Parser)]
struct Bare {
    #[command(flatten)]
    runner: Runner,
}

/// Runs a job with the flags of this process until it ends.
///
/// A failure is printed as one sentence on standard error, and the process exits with
/// [its code](Error::exit_code): 1 if starting it again may help, 2 if something must be changed first.
///
/// # Errors
/// None: the process ends.
///
/// ```no_run
/// fn main() -> nekton::Result<()> {
///     nekton::run("house", |flow| {
///         let readings = flow.events::<i64>("readings");
///         flow.sink("hot", &readings.filter(|celsius| *celsius > 60));
///     })
/// }
/// ```
pub fn run<F>(name: &str, program: F) -> Result<()>
where
    F: for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
{
    let outcome = crate::parse::<Bare>().and_then(|bare| bare.runner.run(name, program));
    if let Err(error) = outcome {
        say(format_args!("{name}: {error}"));
        std::process::exit(error.exit_code());
    }
    Ok(())
}

/// What the flags said:
///
/// ```
/// use clap::Parser;
/// use nekton::Runner;
///
/// #[derive(Parser)]
/// struct Flags {
///     #[command(flatten)]
///     runner: Runner,
/// }
///
/// let given = ["house", "--workers", "2", "--until-end", "--topics", "file:./recorded"];
/// let Flags { runner } = Flags::try_parse_from(given)?;
/// assert_eq!((runner.workers(), runner.until_end(), runner.topics_url()), (2, true, "file:./recorded"));
/// # Ok::<(), clap::Error>(())
/// ```
impl Runner {
    /// While `held` is true, `--until-end` does not end: something is still being published.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// # use clap::Parser;
    /// # #[derive(Parser)]
    /// # struct Flags { #[command(flatten)] runner: nekton::Runner }
    /// # let topics = tempfile::tempdir()?;
    /// # std::fs::create_dir(topics.path().join("readings"))?;
    /// # std::fs::write(topics.path().join("readings/0.jsonl"), "12\n64\n")?;
    /// # let under = format!("file:{}", topics.path().display());
    /// # let Flags { runner } = Flags::parse_from(["house", "--until-end", "--topics", &under]);
    /// let publishing = Arc::new(AtomicBool::new(true));
    /// let runner = runner.hold_end(publishing.clone()); // of a program that was started with --until-end
    /// let job = std::thread::spawn(move || runner.run("house", |flow| {
    ///     flow.events::<i64>("readings");
    /// }));
    /// // .. publish to `readings` ..
    /// publishing.store(false, Ordering::SeqCst);
    /// assert_eq!(job.join().expect("the job does not panic")?.events, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn hold_end(mut self, held: Arc<AtomicBool>) -> Self {
        self.hold_end = Some(held);
        self
    }

    /// Ends the job when what is being published has been worked through: as with `--until-end`, but not while
    /// `publishing` is true, see [`hold_end`](Runner::hold_end).
    #[must_use]
    pub fn end_after(mut self, publishing: Arc<AtomicBool>) -> Self {
        self.until_end = true;
        self.hold_end(publishing)
    }

    /// A handle that ends the job cleanly, as Ctrl-C does.
    ///
    /// ```
    /// # use clap::Parser;
    /// # #[derive(Parser)]
    /// # struct Flags { #[command(flatten)] runner: nekton::Runner }
    /// # let topics = tempfile::tempdir()?;
    /// # std::fs::create_dir(topics.path().join("readings"))?;
    /// # std::fs::write(topics.path().join("readings/0.jsonl"), "12\n64\n")?;
    /// # let Flags { runner } = Flags::parse_from(["house", "--topics", &format!("file:{}", topics.path().display())]);
    /// let stop = runner.stop_handle();
    /// let summary = runner.run("house", move |flow| {
    ///     let stop = stop.clone();
    ///     // `readings` has 12, 64, and is followed; the first that is hot ends the job.
    ///     flow.events::<i64>("readings").inspect(move |celsius| if *celsius > 60 { stop.request() });
    /// })?;
    /// assert_eq!(summary.events, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// The URL under which all topics are.
    pub fn topics_url(&self) -> &str {
        &self.topics
    }

    /// Whether the job ends when its inputs do.
    pub fn until_end(&self) -> bool {
        self.until_end
    }

    /// How many workers each process has.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The number of this process, and how many run the job together.
    pub fn process(&self) -> (usize, usize) {
        (self.process, self.processes)
    }

    /// Where checkpoints are kept: what `--checkpoints` says, or beside the topics; `none` for nowhere.
    ///
    /// # Errors
    /// If a folder on this machine would be the default for processes on several machines.
    ///
    /// ```
    /// # use clap::Parser;
    /// # #[derive(Parser)]
    /// # struct Flags { #[command(flatten)] runner: nekton::Runner }
    /// let given = ["house", "--topics", "file:./recorded/topics"];
    /// assert_eq!(Flags::parse_from(given).runner.checkpoints_url()?, "file:./recorded/checkpoints");
    /// # Ok::<(), nekton::Error>(())
    /// ```
    pub fn checkpoints_url(&self) -> Result<String> {
        if let Some(given) = &self.checkpoints {
            return Ok(given.clone());
        }
        let machine =
            |host: &String| host.rsplit_once(':').map_or(host.clone(), |(machine, _)| machine.to_owned());
        let machines: std::collections::BTreeSet<String> = self.hosts.iter().map(machine).collect();
        if machines.len() > 1 && !self.topics.starts_with("file:") {
            return Err(Error::config(
                "processes on several machines need a place for checkpoints that all of them reach: give \
                 --checkpoints s3://BUCKET/PREFIX or a shared file:PATH, or none",
            ));
        }
        crate::topics::checkpoints_beside(&self.topics)
    }

    /// Another default for `--checkpoints`, such as `none` for a program that begins anew whenever it is started.
    ///
    /// ```
    /// # use clap::Parser;
    /// # #[derive(Parser)]
    /// # struct Flags { #[command(flatten)] runner: nekton::Runner }
    /// let Flags { runner } = Flags::parse_from(["demo"]);
    /// assert_eq!(runner.default_checkpoints("none").checkpoints_url()?, "none");
    /// # Ok::<(), nekton::Error>(())
    /// ```
    #[must_use]
    pub fn default_checkpoints(mut self, url: &str) -> Self {
        self.checkpoints.get_or_insert_with(|| url.to_owned());
        self
    }

    /// Runs a job until it ends. Ctrl-C and SIGTERM end it cleanly, a second one at once.
    ///
    /// # Errors
    /// Whatever ended the job before its end.
    ///
    /// ```
    /// # use clap::Parser;
    /// # #[derive(Parser)]
    /// # struct Flags { #[command(flatten)] runner: nekton::Runner }
    /// # let topics = tempfile::tempdir()?;
    /// # std::fs::create_dir(topics.path().join("readings"))?;
    /// # let under = format!("file:{}", topics.path().display());
    /// std::fs::write(topics.path().join("readings/0.jsonl"), "12\n64\n")?;
    /// let Flags { runner } = Flags::parse_from(["house", "--until-end", "--topics", &under]);
    /// let summary = runner.run("house", |flow| {
    ///     let readings = flow.events::<i64>("readings");
    ///     flow.sink("hot", &readings.filter(|celsius| *celsius > 60));
    /// })?;
    /// assert_eq!((summary.events, summary.messages), (2, 1));
    /// assert_eq!(std::fs::read_to_string(topics.path().join("hot/0.jsonl"))?, "64\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<F>(self, name: &str, program: F) -> Result<Summary>
    where
        F: for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
    {
        self.log()?;
        if self.processes != self.hosts.len().max(1) {
            return Err(Error::config(format!(
                "--processes {} and --hosts with {} addresses do not fit: give one address a process",
                self.processes,
                self.hosts.len()
            )));
        }
        if self.process >= self.processes {
            return Err(Error::config(format!(
                "--process {} is none of the {} processes, which count from 0",
                self.process, self.processes
            )));
        }
        let topics = self.topics_of(name)?;
        // A job that ends with its inputs would wait for those who might tell it something; a replay is told nothing.
        let told = match self.until_end || self.from.is_some() || self.process > 0 {
            true => None,
            // Its own name, as others may write the topic as well.
            false => Some(self.topics_of(&format!("{name}-commands"))?.shared()),
        };
        let checkpoints = match &self.checkpoints_url()?[..] {
            "none" => None,
            url => Some(Checkpoints { store: crate::topics::open_store(url)?, every: self.checkpoint_every }),
        };
        if !self.check {
            end_on_signals(name, &self.stop)?;
            if std::env::var_os(LAUNCHED).is_some() {
                end_with_launcher(&self.stop)?;
            }
        }
        let job = name.to_owned();
        let config = JobConfig {
            workers: self.workers,
            process: self.process,
            hosts: self.hosts,
            cluster: self.cluster.cluster(self.processes)?,
            start: self.start,
            until_end: self.until_end,
            hold_end: self.hold_end,
            on_bad_input: match self.on_bad_input {
                BadInput::DeadLetter => OnBadInput::DeadLetter,
                BadInput::Fail => OnBadInput::Fail,
            },
            new_topic_partitions: self.partitions,
            view_limit: self.view_limit,
            stop: self.stop,
            checkpoints,
            checkpoints_kept: self.checkpoints_kept as usize,
            replay_from: self.from,
            until: self.until,
            progress_marks: self.progress_marks,
            delivery: match self.delivery {
                Deliver::ExactlyOnce => Delivery::ExactlyOnce,
                Deliver::AtLeastOnce => Delivery::AtLeastOnce,
            },
            notes: Notes::to(move |note| say(format_args!("{job} {note}"))),
            ..JobConfig::new(name)
        };
        if self.check {
            let place = config.checkpoints.as_ref().map(|checkpoints| checkpoints.store.describe());
            print_checked(name, place.as_deref(), &nekton_engine::check(config, Arc::new(topics), program)?);
            std::process::exit(0);
        }
        let about =
            About { workers: self.workers * self.processes, processes: self.processes, ..About::job(name) };
        let mut screens = match self.process {
            0 => self.screens.open(about, &config.live)?,
            _ => None,
        };
        let commands = screens.as_mut().and_then(|screens| screens.commands());
        let writing = commands.zip(told).map(|(commands, told)| {
            Writing::start(commands, told, config.live.clone(), config.new_topic_partitions)
        });
        let writing = writing.transpose()?;
        let done = nekton_engine::run(config, Arc::new(topics), program);
        drop(screens);
        if let Some(writing) = writing {
            writing.end();
        }
        done
    }

    /// Whether the program was started by `nekton check`, which nothing may leave a trace of.
    pub(crate) fn checks(&self) -> bool {
        self.check
    }

    /// The topics of the job `name`, as the flags place them.
    pub(crate) fn topics_of(&self, name: &str) -> Result<ByUrl> {
        // A replay reads what is there, and leaves nothing behind at it.
        let replays = self.from.is_some();
        let until_end = self.until_end || replays;
        let files = FileSettings { until_end, ..FileSettings::default() };
        let settings = self.access.settings(name)?;
        let pulsar = PulsarSettings {
            until_end,
            durable: settings.durable && !replays,
            keep_last: self.checkpoints_url().is_ok_and(|url| url != "none"),
            ..settings
        };
        let moved = self.topic.iter().cloned().collect::<BTreeMap<_, _>>();
        Ok(ByUrl::new(self.topics.clone(), moved, files, pulsar).outputs(self.outputs.clone()))
    }

    fn log(&self) -> Result<()> {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log)
            .map_err(|error| Error::config(format!("--log {:?} is no filter: {error}", self.log)))?;
        // A program may have set up its own log before.
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // Nor does it matter that nobody may be reading it.
        let log = log.log_internal_errors(false);
        let _ = log.with_ansi(std::io::stderr().is_terminal()).try_init();
        Ok(())
    }
}

/// Set by `nekton launch` in the processes that it starts: their standard input ends when it does.
const LAUNCHED: &str = "NEKTON_LAUNCHED";

/// Ends the job when `nekton launch` is not there any more to watch it.
fn end_with_launcher(stop: &Stop) -> Result<()> {
    let stop = stop.clone();
    let watch = move || {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        tracing::info!(?ended, "nekton launch has ended: so does this process");
        stop.request();
    };
    let thread = std::thread::Builder::new().name("launcher".to_owned()).spawn(watch);
    thread.map(drop).map_err(|error| Error::io("starting a thread", &error))
}

/// Writes a line to standard error. If nobody is there any more to read it, because what watched the program has
/// gone, the line is lost and the program goes on: `eprintln!` would panic.
///
/// ```
/// nekton::say("house: the cellar is not read, because it has no sensor");
/// ```
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What `nekton check` prints.
fn print_checked(name: &str, place: Option<&str>, checked: &Checked) {
    match (place, checked.checkpoint) {
        (None, _) => println!("{name} has no checkpoints, and begins anew whenever it is started"),
        (Some(place), None) => println!("{name} has no checkpoint at {place} yet, and would begin anew"),
        (Some(place), Some((number, time))) => {
            let taken = UNIX_EPOCH + Duration::from_millis(time);
            let taken = humantime::format_rfc3339_millis(taken);
            println!("{name} would go on from checkpoint {number} at {place}, of {taken}");
        }
    }
    for outlook in &checked.outlook {
        println!("  {outlook}");
    }
}

fn end_on_signals(name: &str, stop: &Stop) -> Result<()> {
    let (name, stop) = (name.to_owned(), stop.clone());
    let ended = ctrlc::set_handler(move || {
        if stop.requested() {
            std::process::exit(130);
        }
        stop.request();
        say(format_args!("{name}: ending; what was read is worked through (again: end at once)"));
    });
    match ended {
        // A program may run several jobs, one after the other, or have a handler of its own.
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        Err(error) => Err(Error::config(format!("signals cannot be handled: {error}"))),
    }
}
