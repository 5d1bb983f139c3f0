//! What a program builds: sources, roots, collections, sinks and views of one job.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use differential_dataflow::VecCollection;
use serde::de::DeserializeOwned;
use timely::ExchangeData;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::{ConnectLoop, Feedback};
use timely::dataflow::{Scope, StreamVec};

use crate::agents::{Agent, Agents, Collections, EventsOnly, Hears, Key, Linking, Reads, Record, root};
use crate::cells::cells;
use crate::command::{self, Command};
use crate::connect::{Envelope, RawRecord, SinkSettings, Waker};
use crate::dead_letter::DeadLetter;
use crate::durable::check::Root;
use crate::durable::commit::{Asked, Program, Report, commit};
use crate::durable::ledger::{self, ledger};
use crate::durable::marks::{Mark, marks};
use crate::durable::{Bound, Shape};
use crate::error::{Error, Kind, Result};
use crate::events::{Block, Event, Events};
use crate::job::Shared;
use crate::pace::{self, Pace};
use crate::sink::{Encoder, Output, last_times, sink};
use crate::source::{Feed, source};
use crate::table::decode_row;
use crate::time::Time;
use crate::topic::TopicFeed;
use crate::view::View;

/// What the workers of a process share while they build: views by name.
pub(crate) type Views = Mutex<HashMap<String, Box<dyn Any + Send>>>;

/// The dataflow of a job while a program builds it. Every worker builds the same one: a program must
/// name its topics and roots in the same order whenever it is called.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// /// How often each temperature stands on some sensor.
/// fn program(flow: &mut Flow<'_>) {
///     let readings = flow.events::<(u64, i64)>("readings");
///     let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor);
///     let standing = sensors.map(|(_, celsius)| celsius).count();
///     flow.sink("standing", upsert(&standing));
/// }
///
/// // Three sensors, one of which has sent twice.
/// # let topics = job(&[("readings", &["[7,20]", "[8,20]", "[9,19]", "[9,20]"])], program);
/// assert!(topics.lines("standing")[0].starts_with(r#"{"key":20,"value":3,"#));
/// ```
#[derive(Clone)]
pub struct Flow<'s> {
    scope: Scope<'s, Time>,
    inner: Rc<Building<'s>>,
}

struct Building<'s> {
    pace: Rc<Pace>,
    shared: Arc<Shared>,
    views: Arc<Views>,
    /// What has a name: its kind, and the name.
    names: RefCell<Vec<(&'static str, String)>>,
    progress: RefCell<Vec<StreamVec<'s, Time, ()>>>,
    /// What sources have read, roots have stored, and when roots are to.
    bounds: RefCell<Vec<StreamVec<'s, Time, Bound>>>,
    reports: RefCell<Vec<StreamVec<'s, Time, Report>>>,
    marks: StreamVec<'s, Time, Mark>,
    asked: Rc<RefCell<Asked>>,
    /// By root: what its key and state look like, for checkpoints.
    shapes: RefCell<BTreeMap<String, Shape>>,
}

impl std::fmt::Debug for Flow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("names", &self.inner.names.borrow()).finish_non_exhaustive()
    }
}

impl<'s> Flow<'s> {
    pub(crate) fn new(
        scope: Scope<'s, Time>,
        pace: Rc<Pace>,
        shared: Arc<Shared>,
        views: Arc<Views>,
    ) -> Self {
        pace::ticks(scope, &pace, &shared);
        let asked = Rc::new(RefCell::new(Asked::default()));
        let marks = marks(scope, &pace, &shared, &asked);
        if let Some(durable) = shared.durable() {
            let until = durable.plan.replay_until.unwrap_or(durable.plan.last_time());
            shared.counters.replays.store(until, Ordering::Relaxed);
            pace.start_after(until);
        }
        let inner = Building {
            pace,
            shared,
            views,
            names: RefCell::default(),
            progress: RefCell::default(),
            bounds: RefCell::default(),
            reports: RefCell::default(),
            marks,
            asked,
            shapes: RefCell::default(),
        };
        Flow { scope, inner: Rc::new(inner) }
    }

    /// Finishes the dataflow.
    pub(crate) fn finish(self) {
        let Building { pace, shared, asked, .. } = &*self.inner;
        if let Some(durable) = shared.keeps() {
            let reads = Rc::new(RefCell::new(ledger::Reads::new(durable)));
            let built = ledger(self.scope, self.inner.bounds.take(), pace, shared, &reads);
            self.failing(built);
            let names = self.inner.names.borrow();
            let sinks = names.iter().filter(|(kind, _)| *kind == "sink");
            let sinks = sinks.map(|(_, name)| name.clone()).collect();
            let program = Program { roots: self.inner.shapes.take(), sinks, places: shared.places() };
            let built = commit(self.scope, self.inner.reports.take(), pace, shared, program, asked, &reads);
            self.failing(built);
        }
        if shared.config.progress_marks.is_some() {
            last_times(self.scope, pace);
        }
        pace::gate(self.scope, &self.inner.pace, self.inner.progress.take());
    }

    /// Events from a stream of blocks of one's own. Within a time, the blocks' [`Order`](crate::events::Order)s
    /// must be distinct and must not depend on the number of workers.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// use timely::dataflow::operators::vec::Filter;
    ///
    /// # let topics = job(&[("readings", &["12", "64"])], |flow| {
    /// let readings = flow.events::<i64>("readings"); // 12, 64
    /// let of_first_partition = readings.blocks().filter(|block| block.order.partition == 0);
    /// flow.sink("copy", &flow.events_of(of_first_partition));
    /// # });
    /// assert_eq!(topics.lines("copy"), ["12", "64"]);
    /// ```
    pub fn events_of<E: Clone + 'static>(&self, blocks: StreamVec<'s, Time, Block<E>>) -> Events<'s, E> {
        Events { blocks, flow: self.clone() }
    }

    /// Timely's scope, for operators of one's own. What they hold back is not seen by the
    /// back-pressure; streams can be handed back with [`Flow::events_of`] and differential's `as_collection`.
    ///
    /// A collection that never changes, as timely and differential make one:
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// use differential_dataflow::AsCollection;
    /// use timely::dataflow::operators::vec::ToStream;
    ///
    /// # let topics = job(&[("readings", &["[7,21]", "[8,12]"])], |flow| {
    /// let rooms = [((7, "kitchen".to_owned()), 0, 1), ((8, "cellar".to_owned()), 0, 1)]; // (record, time, count)
    /// let rooms = rooms.to_stream(flow.scope()).as_collection();
    ///
    /// let readings = flow.events::<(u64, i64)>("readings"); // [7,21]  [8,12]
    /// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor);
    /// let by_room = rooms.join(sensors.views()).map(|(_, (room, celsius))| (room, celsius));
    /// flow.sink("rooms", &by_room);
    /// # });
    /// assert!(topics.lines("rooms")[0].starts_with(r#"{"key":"cellar","before":null,"after":12,"#));
    /// ```
    pub fn scope(&self) -> Scope<'s, Time> {
        self.scope
    }

    /// Numbers a source or root; its name must be its own.
    fn number(&mut self, kind: &'static str, name: &str) -> u32 {
        let full = (kind, name.to_owned());
        let mut names = self.inner.names.borrow_mut();
        if names.contains(&full) {
            self.inner.shared.fail(Error::config(format!(
                "the program has two of {kind} {name:?}: give every one a name of its own, or use the first one twice"
            )));
        }
        names.push(full);
        names.len() as u32 - 1
    }

    fn failing<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.inner.shared.fail(error)).ok()
    }

    /// The events of a topic, each a JSON value of type `T` (of rows of CSV: an object of that type,
    /// whose values are read as what `T` wants). What cannot be read as one goes to the topic `<topic>.dead-letter`.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Reading { sensor: u64, celsius: i64 }
    ///
    /// // The topic `readings`: {"sensor":7,"celsius":64}  {"sensor":8}
    /// # let topics = job(&[("readings", &[r#"{"sensor":7,"celsius":64}"#, r#"{"sensor":8}"#])], |flow| {
    /// let readings = flow.events::<Reading>("readings");
    /// flow.sink("celsius", &readings.map(|reading| reading.celsius));
    /// # });
    /// assert_eq!(topics.lines("celsius"), ["64"]);
    /// assert!(topics.lines("readings.dead-letter")[0].contains("missing field `celsius`"));
    /// ```
    pub fn events<T: Event>(&mut self, topic: &str) -> Events<'s, T> {
        // Where it cannot be opened, `events_with` says so.
        let untyped = self.inner.shared.source(topic).is_ok_and(|source| source.untyped());
        self.events_with(topic, if untyped { cells } else { json })
    }

    /// The events of a topic, as `decode` reads them from their records. An `Err` says why a record
    /// cannot be read.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// // The topic `readings`: k1=21  k2
    /// # let topics = job(&[("readings", &["k1=21", "k2"])], |flow| {
    /// let readings = flow.events_with("readings", |record| {
    ///     let text = std::str::from_utf8(&record.payload).map_err(|error| error.to_string())?;
    ///     let (sensor, celsius) = text.split_once('=').ok_or("no equals sign")?;
    ///     Ok((sensor.to_owned(), celsius.parse::<i64>().map_err(|error| error.to_string())?))
    /// });
    /// flow.sink("hot", &readings);
    /// # });
    /// assert_eq!(topics.lines("hot"), [r#"["k1",21]"#]);
    /// assert!(topics.lines("readings.dead-letter")[0].contains("no equals sign"));
    /// ```
    pub fn events_with<T: Event>(
        &mut self,
        topic: &str,
        decode: impl FnMut(&RawRecord) -> Result<T, String> + 'static,
    ) -> Events<'s, T> {
        let number = self.number("topic", topic);
        let at = (self.scope.index(), self.scope.peers());
        let shared = self.inner.shared.clone();
        let opened = shared.source(topic);
        let Some(opened) = self.failing(opened) else {
            return self.events_of(empty(self.scope));
        };
        if shared.rehearse(|_| {}) {
            return self.rehearse_topic(topic);
        }
        let feed = |waker: Waker| TopicFeed::new(topic, opened, decode, at, shared.clone(), waker);
        let sourced = source(self.scope, topic, number, &self.inner.pace, &shared, feed);
        self.inner.progress.borrow_mut().push(sourced.progress);
        self.inner.bounds.borrow_mut().push(sourced.bounds);
        if shared.config.on_bad_input == crate::job::OnBadInput::DeadLetter {
            let dead_letters = self.events_of(sourced.dead_letters);
            self.sink(&format!("{topic}.dead-letter"), &dead_letters);
        }
        self.events_of(sourced.events)
    }

    /// A topic of a program that is only built.
    fn rehearse_topic<T: Event>(&mut self, topic: &str) -> Events<'s, T> {
        if self.inner.shared.config.on_bad_input == crate::job::OnBadInput::DeadLetter {
            self.sink(&format!("{topic}.dead-letter"), &self.events_of::<DeadLetter>(empty(self.scope)));
        }
        self.events_of(empty(self.scope))
    }

    /// What people and programs tell agents while the job runs: the events of a topic, which is created where it does not exist.
    /// A program has one such topic, and tells commands apart by their view and lane.
    ///
    /// Clients of the job's server write to it; so may anybody else. As with any other event, a command is not
    /// lost once it is in the topic, and what it did comes about again when the job goes on from a checkpoint.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// // The topic `commands`: {"view":"sensors","key":"7","lane":"set","body":21}
    /// # let command = r#"{"view":"sensors","key":"7","lane":"set","body":21}"#;
    /// # let topics = job(&[("readings", &["[7,64]"]), ("commands", &[command])], |flow| {
    /// let readings = flow.events::<(u64, i64)>("readings");
    /// let commands = flow.commands::<u64, i64>("commands");
    /// let set = commands.filter(|command| command.lane == "set").map(|command| (command.key, command.body));
    /// let sensors = readings.concat(&set).agents::<Sensor>("sensors", |(sensor, _)| *sensor);
    /// flow.view("sensors", &sensors);
    /// # flow.sink("set", &set);
    /// # });
    /// # assert_eq!(topics.lines("set"), ["[7,21]"]);
    /// ```
    pub fn commands<K: Event, B: Event>(&mut self, topic: &str) -> Events<'s, Command<K, B>> {
        let shared = self.inner.shared.clone();
        if !shared.config.live.take_commands(topic) {
            let error =
                format!("the program has another topic of commands than {topic:?}: take them from one");
            shared.fail(Error::config(error));
        }
        // Nobody may have told anything yet.
        if shared.rehearse(|_| {}) {
            self.number("topic", topic);
            return self.rehearse_topic(topic);
        }
        if shared.config.replay_from.is_none() {
            let partitions = shared.config.new_topic_partitions;
            let settings = SinkSettings { envelope: Envelope::Events, schema: None, partitions };
            let created = shared.sink(topic, &settings);
            if self.failing(created).is_none() {
                return self.events_of(empty(self.scope));
            }
        }
        self.events_with(topic, command::decode)
    }

    /// Events from a feed of one's own: each worker's share, as `feed` makes it from the worker's
    /// index, the number of workers, and the waker to call when there is something to read.
    ///
    /// Events that say themselves when they happen, with a [`Script`](crate::Script):
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[], |flow| {
    /// let clicks = flow.feed("clicks", |worker, _workers, _waker| {
    ///     let block = |entry, events: &[&str]| Block {
    ///         order: Order { source: 0, partition: 0, position: Position { entry, ..Position::default() } },
    ///         events: events.iter().map(|&page| page.to_owned()).collect(),
    ///     };
    ///     // All on the first worker, at the times 1 and 5.
    ///     let script = [(1, vec![block(0, &["start", "prices"])]), (5, vec![block(2, &["start"])])];
    ///     Script::new(script.into_iter().filter(move |_| worker == 0))
    /// });
    /// flow.sink("clicks", &clicks);
    /// # });
    /// assert_eq!(topics.lines("clicks"), [r#""start""#, r#""prices""#, r#""start""#]);
    /// ```
    pub fn feed<T: Event, F: Feed<T>>(
        &mut self,
        name: &str,
        feed: impl FnOnce(usize, usize, Waker) -> F,
    ) -> Events<'s, T> {
        let number = self.number("feed", name);
        let shared = &self.inner.shared;
        if shared.until().is_some_and(|(_, replays)| replays) {
            let why = "only topics can be read again";
            let error =
                format!("the past of this program cannot be replayed: it reads the feed {name:?}, and {why}");
            shared.fail(Error::config(error));
            return self.events_of(empty(self.scope));
        }
        if shared.config.checkpoints.is_some() {
            shared.fail(Error::config(format!(
                "the feed {name:?} cannot be read again after a restart, so this job cannot go on from checkpoints: \
                 start it with --checkpoints none, or publish what it makes to a topic and read that"
            )));
            return self.events_of(empty(self.scope));
        }
        let (worker, workers) = (self.scope.index(), self.scope.peers());
        let make = |waker: Waker| feed(worker, workers, waker);
        let sourced = source(self.scope, name, number, &self.inner.pace, &self.inner.shared, make);
        self.inner.progress.borrow_mut().push(sourced.progress);
        self.inner.bounds.borrow_mut().push(sourced.bounds);
        self.events_of(sourced.events)
    }

    pub(crate) fn agents<A: Agent>(
        &mut self,
        events: &Events<'s, A::Event>,
        name: &str,
        key: impl Fn(&A::Event) -> A::Key + 'static,
    ) -> Agents<'s, A> {
        self.root::<A, EventsOnly>(events, name, key, None)
    }

    pub(crate) fn agents_reading<A: Reads>(
        &mut self,
        events: &Events<'s, A::Event>,
        name: &str,
        key: impl Fn(&A::Event) -> A::Key + 'static,
        linked: &VecCollection<'s, Time, (A::Key, A::Linked), isize>,
    ) -> Agents<'s, A> {
        let (handle, changes) = self.scope.feedback(1);
        linked.inner.clone().connect_loop(handle);
        self.root::<A, Collections>(events, name, key, Some(Linking { changes, looped: false }))
    }

    pub(crate) fn agents_in_loop<A: Reads>(
        &mut self,
        events: &Events<'s, A::Event>,
        name: &str,
        key: impl Fn(&A::Event) -> A::Key + 'static,
        linked: impl FnOnce(&Agents<'s, A>) -> VecCollection<'s, Time, (A::Key, A::Linked), isize>,
    ) -> Agents<'s, A> {
        let (handle, changes) = self.scope.feedback(1);
        self.inner.pace.add_loop();
        let agents = self.root::<A, Collections>(events, name, key, Some(Linking { changes, looped: true }));
        linked(&agents).inner.connect_loop(handle);
        agents
    }

    fn root<A: Agent, R: Hears<A>>(
        &mut self,
        events: &Events<'s, A::Event>,
        name: &str,
        key: impl Fn(&A::Event) -> A::Key + 'static,
        linking: Option<Linking<'s, A::Key, R::Linked>>,
    ) -> Agents<'s, A> {
        let number = self.number("root", name);
        if self.inner.shared.durable().is_some() {
            self.inner.shapes.borrow_mut().insert(name.to_owned(), Shape::of::<A::Key, A>());
        }
        self.inner.shared.rehearse(|built| built.roots.push(Root::of::<A>(name)));
        let Building { pace, shared, marks, .. } = &*self.inner;
        let rooted = root::<A, R>(events, linking, marks.clone(), (name, number), key, pace, shared);
        self.inner.progress.borrow_mut().push(rooted.progress);
        self.inner.reports.borrow_mut().push(rooted.reports);
        rooted.agents
    }

    /// A table from a topic in the `upsert` or `changes` envelope, or of messages with keys: each
    /// key's newest value, as a collection.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// // The topic `rooms`: {"key":7,"value":"kitchen"}  {"key":8,"value":"attic"}  {"key":8,"value":null}
    /// # let topics = job(&[("rooms", &[r#"{"key":7,"value":"kitchen"}"#, r#"{"key":8,"value":"attic"}"#, r#"{"key":8,"value":null}"#])], |flow| {
    /// let rooms = flow.table::<u64, String>("rooms");
    /// flow.sink("rooms-now", &rooms);
    /// # });
    /// # let rooms_now = topics.lines("rooms-now");
    /// # assert_eq!(rooms_now.len(), 1);
    /// assert!(rooms_now[0].starts_with(r#"{"key":7,"before":null,"after":"kitchen","#));
    /// ```
    pub fn table<K: Key, V: Record>(&mut self, topic: &str) -> VecCollection<'s, Time, (K, V), isize> {
        self.events_with(topic, decode_row::<K, V>).table(topic)
    }

    /// Writes to a topic: a reference to a collection of pairs (as [`changes`](crate::changes)) or to events, or
    /// a collection in one of the envelopes.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[], |flow| {
    /// # let readings = at(flow, [(1, vec![(7, 64)]), (2, vec![(7, 21)])]);
    /// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // at 1, 7 => 64; at 2, 7 => 21
    /// flow.sink("celsius", &sensors);
    /// flow.sink("celsius-now", upsert(&sensors.views()));
    /// flow.sink("readings", &readings);
    /// # });
    /// assert_eq!(topics.lines("celsius"), [
    ///     r#"{"key":7,"before":null,"after":64,"time":1}"#,
    ///     r#"{"key":7,"before":64,"after":21,"time":2}"#,
    /// ]);
    /// assert_eq!(topics.lines("celsius-now"), [r#"{"key":7,"value":64,"time":1}"#, r#"{"key":7,"value":21,"time":2}"#]);
    /// assert_eq!(topics.lines("readings"), ["[7,64]", "[7,21]"]);
    /// ```
    pub fn sink(&mut self, topic: &str, output: impl Output<'s>) {
        output.write_to(self, topic);
    }

    pub(crate) fn write<D: ExchangeData>(
        &mut self,
        topic: &str,
        updates: StreamVec<'s, Time, D>,
        encoder: Encoder<D>,
    ) {
        self.number("sink", topic);
        if self.inner.shared.rehearse(|built| built.sinks.push(topic.to_owned())) {
            return;
        }
        let built = sink(updates, topic, encoder, &self.inner.pace, &self.inner.shared);
        if let Some(progress) = self.failing(built) {
            self.inner.progress.borrow_mut().push(progress);
        }
    }

    /// Keeps a collection in memory to be looked at while the job runs, see [`View`]. The handle that
    /// every worker of the process gets is of the same view. [`View::map`] and [`View::chart`] say how it is shown.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// let (handed, handle) = std::sync::mpsc::channel();
    /// # job(&[], move |flow| {
    /// # let readings = at(flow, [(1, vec![(7, 64), (8, 12)]), (2, vec![(7, 21)])]);
    /// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // at 1, 7 => 64, 8 => 12; at 2, 7 => 21
    /// handed.send(flow.view("sensors", &sensors)).expect("somebody waits for it");
    /// # });
    /// // On any thread, while the job runs and after it:
    /// let view = handle.recv()?;
    /// assert_eq!(view.snapshot()?.records, [((7, 21), 1), ((8, 12), 1)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn view<D: Record + std::hash::Hash>(
        &mut self,
        name: &str,
        collection: &impl Collect<'s, D>,
    ) -> View<D> {
        self.number("view", name);
        let config = &self.inner.shared.config;
        let (limit, workers) = (config.view_limit, config.workers);
        let mut views = self.inner.views.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = views
            .entry(name.to_owned())
            .or_insert_with(|| Box::new(View::<D>::new(name, workers, limit)))
            .downcast_ref::<View<D>>()
            .cloned();
        drop(views);
        let Some(view) = kept else {
            let error = format!("the view {name:?} has another type on another worker");
            self.inner.shared.fail(Error::new(Kind::Config, error));
            return View::new(name, workers, limit);
        };
        if self.inner.shared.rehearse(|_| {}) {
            return view;
        }
        if config.process == 0 {
            config.live.add(view.clone());
        }
        let progress = view.feed(collection.collect().inner, (self.scope.index(), workers));
        self.inner.progress.borrow_mut().push(progress);
        view
    }

    /// Calls `logic` with each change of a collection when its time is closed: once a time, in order of times, with
    /// the changes consolidated and sorted, on the worker that has them. For tests and tools.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// let (told, changes) = std::sync::mpsc::channel();
    /// # job(&[], move |flow| {
    /// # let readings = at(flow, [(1, vec![(7, 64), (8, 12)]), (2, vec![(7, 21)])]);
    /// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // at 1, 7 => 64, 8 => 12; at 2, 7 => 21
    /// let told = told.clone();
    /// flow.each_time(&sensors.views(), move |time, changes| told.send((time, changes)).expect("somebody listens"));
    /// # });
    /// assert_eq!(changes.iter().collect::<Vec<_>>(), [
    ///     (1, vec![((7, 64), 1), ((8, 12), 1)]),
    ///     (2, vec![((7, 21), 1), ((7, 64), -1)]),
    /// ]);
    /// ```
    pub fn each_time<D: Record>(
        &mut self,
        collection: &VecCollection<'s, Time, D, isize>,
        logic: impl FnMut(Time, Vec<(D, isize)>) + 'static,
    ) {
        let progress = crate::observe::each_time(collection, logic);
        self.inner.progress.borrow_mut().push(progress);
    }
}

/// What can be kept as a view: a collection, or agents.
pub trait Collect<'s, D> {
    /// It as a collection.
    fn collect(&self) -> VecCollection<'s, Time, D, isize>;
}
impl<'s, D: Clone + 'static> Collect<'s, D> for VecCollection<'s, Time, D, isize> {
    fn collect(&self) -> Self {
        self.clone()
    }
}
impl<'s, A: Agent> Collect<'s, (A::Key, A::View)> for Agents<'s, A> {
    fn collect(&self) -> VecCollection<'s, Time, (A::Key, A::View), isize> {
        self.views()
    }
}

/// Reads a JSON value of type `T`, for [`Flow::events_with`].
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// // The newest of two versions of a message:
/// # let topics = job(&[("readings", &["12", r#""64""#])], |flow| {
/// let readings = flow.events_with("readings", |record| {
///     json::<i64>(record).or_else(|_| json::<String>(record)?.parse().map_err(|_| "no number".to_owned()))
/// });
/// flow.sink("celsius", &readings); // of 12 and "64"
/// # });
/// assert_eq!(topics.lines("celsius"), ["12", "64"]);
/// ```
pub fn json<T: DeserializeOwned>(record: &RawRecord) -> Result<T, String> {
    serde_json::from_slice(&record.payload).map_err(|error| error.to_string())
}
