//! The hub: takes what has closed from all views that somebody watches, as of one time, and gives it to who watches.
//!
//! One thread, at most [`FRAMES`] times a second and at most half of the time. What is the same for many clients is
//! written once. A client has room for [`QUEUE`] frames; one that does not take them gets no more, and a fresh snapshot when
//! it does. So the memory of a client is bounded, and nobody waits for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nekton_engine::{Error, Live, Time, Watched};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::feed::{Feed, Wanted};
use crate::record::Record;
use crate::warp;

/// The most frames a second.
const FRAMES: u32 = 20;
/// A client hears something at least so often, and how the job does at most.
const HEARTBEAT: Duration = Duration::from_secs(1);
const FIGURES: Duration = Duration::from_millis(450);
/// How many frames may wait for a client.
const QUEUE: usize = 2;
/// The most different feeds of all clients together, and of one client.
const MOST_FEEDS: usize = 256;
pub(crate) const MOST_PARTS: usize = 32;
/// The most feeds among them with more rows than a table has.
const MOST_LARGE: usize = 8;
/// How long a feed with room is not filled up again, at least.
const REFILL: Duration = Duration::from_secs(1);

/// What a client wants to watch, and its own number for it.
pub(crate) type Watch = (u32, Vec<Result<Wanted, String>>);

/// What clients tell the hub.
enum Ask {
    Join(u64, mpsc::Sender<Utf8Bytes>, Watch),
    Watch(u64, Watch),
    Leave(u64),
    Warp(warp::Ask),
    End,
}

/// A handle on the hub.
#[derive(Clone)]
pub(crate) struct Hub {
    asks: Sender<Ask>,
    pub(crate) counts: Arc<Counts>,
}

/// What the hub has done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    next: AtomicU64,
    pub(crate) clients: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) skipped: AtomicU64,
}

/// A client's side; it leaves when this is dropped.
pub(crate) struct Watching {
    number: u64,
    asks: Sender<Ask>,
    pub(crate) frames: mpsc::Receiver<Utf8Bytes>,
}

impl Watching {
    /// Watches these from now on, and nothing else. The next frame with this number is a snapshot.
    pub(crate) fn watch(&self, watch: Watch) {
        let _ = self.asks.send(Ask::Watch(self.number, watch));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.asks.send(Ask::Leave(self.number));
    }
}

impl Hub {
    /// Starts the hub's thread.
    pub(crate) fn start(live: Live) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (asks, asked) = channel();
        let counts = Arc::new(Counts::default());
        let hub = Hub { asks, counts: counts.clone() };
        let thread = std::thread::Builder::new().name("screens-hub".to_owned());
        let thread = thread.spawn(move || Room::new(live, counts).run(&asked))?;
        Ok((hub, thread))
    }

    /// A new client.
    pub(crate) fn join(&self, watch: Watch) -> Watching {
        let number = self.counts.next.fetch_add(1, Ordering::Relaxed);
        let (frames, taken) = mpsc::channel(QUEUE);
        let _ = self.asks.send(Ask::Join(number, frames, watch));
        Watching { number, asks: self.asks.clone(), frames: taken }
    }

    /// A new client that speaks WARP, with room for what it is told; its number.
    pub(crate) fn join_warp(&self, parcels: mpsc::Sender<warp::Parcel>) -> u64 {
        let number = self.counts.next.fetch_add(1, Ordering::Relaxed);
        self.warp(warp::Ask::Join(number, parcels));
        number
    }

    pub(crate) fn warp(&self, ask: warp::Ask) {
        let _ = self.asks.send(Ask::Warp(ask));
    }

    /// Gives everybody a last frame, and ends.
    pub(crate) fn end(&self) {
        let _ = self.asks.send(Ask::End);
    }
}

/// What one part of a client's frames is: a feed, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Feed(usize),
    Refused(String),
}

impl Part {
    fn feed(&self) -> Option<usize> {
        match self {
            Part::Feed(number) => Some(*number),
            Part::Refused(_) => None,
        }
    }
}

/// What a client watches, and its own number for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Sight {
    number: u32,
    parts: Vec<Part>,
}

struct Client {
    frames: mpsc::Sender<Utf8Bytes>,
    sight: Sight,
    /// Whether it has everything up to the last time.
    current: bool,
}

/// A view that somebody watches.
struct Open {
    view: Arc<dyn Watched>,
    failed: Option<String>,
}

struct Showing {
    feed: Feed,
    /// Whether it is as of the room's time.
    loaded: bool,
    failed: Option<String>,
    refilled: Instant,
    /// What is sent at this time, if something is.
    changed: Option<Arc<str>>,
    snapshot: Option<Arc<str>>,
}

struct Room {
    live: Live,
    counts: Arc<Counts>,
    clients: HashMap<u64, Client>,
    views: BTreeMap<String, Open>,
    feeds: BTreeMap<usize, Showing>,
    lanes: warp::Lanes,
    next_feed: usize,
    /// All feeds that are loaded are as of this time.
    time: Time,
    told: Instant,
    figured: Instant,
}

impl Room {
    fn new(live: Live, counts: Arc<Counts>) -> Self {
        let now = Instant::now();
        Room {
            live,
            counts,
            clients: HashMap::new(),
            views: BTreeMap::new(),
            feeds: BTreeMap::new(),
            lanes: warp::Lanes::default(),
            next_feed: 0,
            time: 0,
            told: now,
            figured: now,
        }
    }

    fn run(mut self, asked: &Receiver<Ask>) {
        let interval = Duration::from_secs(1) / FRAMES;
        let mut next = Instant::now();
        loop {
            // With nobody there, it sleeps.
            let ask = match self.clients.is_empty() && self.lanes.is_empty() {
                true => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => asked.recv_timeout(next.saturating_duration_since(Instant::now())),
            };
            match ask {
                Ok(Ask::End) | Err(RecvTimeoutError::Disconnected) => {
                    self.tick();
                    break;
                }
                Ok(ask) => self.take(ask),
                Err(RecvTimeoutError::Timeout) => {
                    let begun = Instant::now();
                    self.tick();
                    let took = begun.elapsed();
                    next = begun + took + took.max(interval.saturating_sub(took));
                }
            }
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Join(client, frames, watch) => {
                self.clients.insert(client, Client { frames, sight: Sight::default(), current: false });
                self.watch(client, watch);
            }
            Ask::Watch(client, watch) => self.watch(client, watch),
            Ask::Leave(number) => {
                self.clients.remove(&number);
                self.tidy();
            }
            Ask::Warp(ask) => {
                let open = ask.view().map(|view| self.open(view));
                self.lanes.take(ask, open.is_none_or(|open| open.is_ok()));
                self.tidy();
            }
            Ask::End => {}
        }
        let clients = self.clients.len() + self.lanes.len();
        self.counts.clients.store(clients as u64, Ordering::Relaxed);
    }

    fn watch(&mut self, client: u64, (number, wanted): Watch) {
        let parts = wanted.into_iter().take(MOST_PARTS).map(|wanted| self.part(wanted)).collect();
        if let Some(client) = self.clients.get_mut(&client) {
            (client.sight, client.current) = (Sight { number, parts }, false);
        }
        self.tidy();
    }

    /// The feed of these wishes, a new one if nobody has it yet.
    fn part(&mut self, wanted: Result<Wanted, String>) -> Part {
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(why) => return Part::Refused(why),
        };
        if let Some((number, _)) = self.feeds.iter().find(|(_, showing)| *showing.feed.wanted() == wanted) {
            return Part::Feed(*number);
        }
        if self.feeds.len() >= MOST_FEEDS {
            return Part::Refused(
                "too many different views and filters are watched: try again later".to_owned(),
            );
        }
        let large = || self.feeds.values().filter(|showing| showing.feed.wanted().is_large()).count();
        if wanted.is_large() && large() >= MOST_LARGE {
            return Part::Refused(
                "too many maps of whole views are watched: zoom in, or try again later".to_owned(),
            );
        }
        if let Err(why) = self.open(&wanted.view) {
            return Part::Refused(why);
        }
        self.next_feed += 1;
        let showing = Showing {
            feed: Feed::new(wanted),
            loaded: false,
            failed: None,
            refilled: Instant::now(),
            changed: None,
            snapshot: None,
        };
        self.feeds.insert(self.next_feed, showing);
        Part::Feed(self.next_feed)
    }

    /// Watches a view, if nobody does yet.
    fn open(&mut self, name: &str) -> Result<(), String> {
        if !self.views.contains_key(name) {
            let views = self.live.views();
            let view = views.iter().find(|view| view.name() == name);
            let view = view.ok_or_else(|| no_such_view(name, &views))?.clone();
            view.watch(true);
            self.views.insert(name.to_owned(), Open { view, failed: None });
        }
        Ok(())
    }

    /// Lets go of what nobody watches any more.
    fn tidy(&mut self) {
        let parts = self.clients.values().flat_map(|client| &client.sight.parts);
        let watched: HashSet<usize> = parts.filter_map(Part::feed).collect();
        self.feeds.retain(|number, _| watched.contains(number));
        let (feeds, lanes) = (&self.feeds, &self.lanes);
        self.views.retain(|name, open| {
            let in_feed = feeds.values().any(|showing| showing.feed.wanted().view == *name);
            let watched = in_feed || lanes.watches(name);
            if !watched {
                open.view.watch(false);
            }
            watched
        });
    }

    /// Brings all feeds to the same time, and tells everybody.
    fn tick(&mut self) {
        let open = self.views.values().filter(|open| open.failed.is_none());
        let time = open.map(|open| open.view.before()).min().unwrap_or(self.time);
        if time < self.time {
            // A view that is newly watched is a few epochs behind the others, and will come there.
            return;
        }
        let moved = time > self.time;
        self.time = time;
        self.advance();
        self.tell(moved);
    }

    /// Brings feeds to the time. Those of a view that does not know it are loaded later.
    fn advance(&mut self) {
        for showing in self.feeds.values_mut() {
            (showing.changed, showing.snapshot) = (None, None);
        }
        for (name, open) in self.views.iter_mut().filter(|(_, open)| open.failed.is_none()) {
            let of_view = |showing: &&mut Showing| showing.feed.wanted().view == *name;
            let mut feeds: Vec<&mut Showing> = self.feeds.values_mut().filter(of_view).collect();
            let kept = self.lanes.of(name);
            if let Err(error) = bring(&*open.view, self.time, &mut feeds, kept) {
                let why = error.to_string();
                for showing in feeds {
                    (showing.loaded, showing.failed) = (true, Some(why.clone()));
                    showing.changed = Some(refusal(&why));
                }
                open.failed = Some(why);
                self.lanes.fail(name);
            }
        }
        // Of a view that has failed before.
        for showing in self.feeds.values_mut().filter(|showing| !showing.loaded) {
            let view = self.views.get(&showing.feed.wanted().view);
            if let Some(why) = view.and_then(|open| open.failed.clone()) {
                (showing.loaded, showing.failed) = (true, Some(why));
            }
        }
    }

    fn tell(&mut self, moved: bool) {
        let now = Instant::now();
        let beat = now.saturating_duration_since(self.told) >= HEARTBEAT;
        if beat {
            self.told = now;
        }
        let figures = now.saturating_duration_since(self.figured) >= FIGURES && (moved || beat);
        if figures {
            self.figured = now;
        }
        self.tell_lanes(beat);
        let head = self.head(figures);
        // Clients that watch the same get the same frame.
        let mut changes: HashMap<Sight, Option<Utf8Bytes>> = HashMap::new();
        let mut snapshots: HashMap<Sight, Utf8Bytes> = HashMap::new();
        let mut gone = Vec::new();
        let (mut sent, mut bytes, mut skipped) = (0, 0, 0);
        let mut clients = std::mem::take(&mut self.clients);
        for (number, client) in &mut clients {
            let sight = &client.sight;
            if !sight.parts.iter().all(|part| self.loaded(part)) {
                client.current = false;
                continue;
            }
            let frame = if client.current {
                let written = changes.entry(sight.clone()).or_insert_with(|| {
                    let changed = self.changes(&sight.parts);
                    let nothing = || vec!["null".into(); sight.parts.len()];
                    (changed.is_some() || figures)
                        .then(|| frame(&head, sight.number, &changed.unwrap_or_else(nothing)))
                });
                let Some(frame) = written.clone() else { continue };
                frame
            } else {
                let written = snapshots.entry(sight.clone());
                written.or_insert_with(|| frame(&head, sight.number, &self.snapshots(&sight.parts))).clone()
            };
            let length = frame.len() as u64;
            match client.frames.try_send(frame) {
                Ok(()) => {
                    client.current = true;
                    (sent, bytes) = (sent + 1, bytes + length);
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    client.current = false;
                    skipped += 1;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => gone.push(*number),
            }
        }
        self.clients = clients;
        self.counts.frames.fetch_add(sent, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counts.skipped.fetch_add(skipped, Ordering::Relaxed);
        for number in gone {
            self.take(Ask::Leave(number));
        }
    }

    fn tell_lanes(&mut self, beat: bool) {
        if self.lanes.is_empty() {
            return;
        }
        if self.lanes.asks_for_the_job(beat) {
            let views = self.live.views().iter().map(|view| (view.name().to_owned(), view.size())).collect();
            self.lanes.describe(&warp::Job { views, figures: self.live.figures() });
        }
        let skipped = self.lanes.deliver();
        self.counts.skipped.fetch_add(skipped, Ordering::Relaxed);
    }

    fn loaded(&self, part: &Part) -> bool {
        match part {
            Part::Feed(number) => self.feeds.get(number).is_some_and(|showing| showing.loaded),
            Part::Refused(_) => true,
        }
    }

    /// What of these parts has changed; `None` if nothing has.
    fn changes(&self, parts: &[Part]) -> Option<Vec<Arc<str>>> {
        let changed = |part: &Part| match part {
            Part::Feed(number) => self.feeds.get(number).and_then(|showing| showing.changed.clone()),
            Part::Refused(_) => None,
        };
        let written: Vec<_> = parts.iter().map(changed).collect();
        let some = written.iter().any(Option::is_some);
        some.then(|| written.into_iter().map(|part| part.unwrap_or_else(|| "null".into())).collect())
    }

    fn snapshots(&self, parts: &[Part]) -> Vec<Arc<str>> {
        let snapshot = |part: &Part| match part {
            Part::Feed(number) => match self.feeds.get(number) {
                Some(Showing { failed: Some(why), .. }) => refusal(why),
                Some(Showing { snapshot: Some(snapshot), .. }) => snapshot.clone(),
                Some(showing) => showing.feed.snapshot().into(),
                None => "null".into(),
            },
            Part::Refused(why) => refusal(why),
        };
        parts.iter().map(snapshot).collect()
    }

    /// What a frame begins with: the time as of which all of its parts are, and how far behind the job is.
    fn head(&self, figures: bool) -> String {
        let now = now();
        let behind = self.live.figures().oldest.map_or(0, |oldest| now.saturating_sub(oldest));
        let mut head = String::from("{\"time\":");
        let _ = match self.time {
            Time::MAX => write!(head, "null,\"ended\":true"),
            time => write!(head, "{time}"),
        };
        let _ = write!(head, ",\"now\":{now},\"behind\":{behind}");
        if figures {
            let _ = write!(head, ",\"figures\":{}", crate::metrics::json(&self.live, &self.counts));
        }
        head
    }
}

/// Brings the feeds of a view to `time`, and what lanes show of it.
fn bring(
    view: &dyn Watched,
    time: Time,
    feeds: &mut [&mut Showing],
    mut kept: Option<&mut warp::Kept>,
) -> Result<(), Error> {
    let mut changes = Vec::new();
    let known = view.changes(time, &mut |json, count| changes.push(Record::new(json, count)))?;
    let now = Instant::now();
    for showing in feeds.iter_mut().filter(|showing| showing.loaded) {
        if !known {
            showing.loaded = false;
        } else if let Some(part) = showing.feed.apply(&changes) {
            showing.changed = Some(part.into());
        }
        if showing.feed.thin() && now >= showing.refilled {
            showing.loaded = false;
        }
    }
    if let Some(kept) = kept.as_deref_mut().filter(|kept| kept.is_loaded()) {
        match known {
            true => kept.apply(&changes),
            false => kept.lose(),
        }
    }
    let kept = kept.filter(|kept| !kept.is_loaded());
    if feeds.iter().all(|showing| showing.loaded) && kept.is_none() {
        return Ok(());
    }
    let mut load = kept.as_ref().map(|kept| kept.loading());
    let mut loading: Vec<_> = feeds.iter_mut().filter(|showing| !showing.loaded).collect();
    for showing in &mut loading {
        showing.feed.clear();
    }
    let mut full = vec![false; loading.len()];
    let read = view.read(Some(time), None, &mut |json, count| {
        let record = Record::new(json, count);
        for (showing, full) in loading.iter_mut().zip(&mut full) {
            *full = *full || !showing.feed.load(&record);
        }
        let lanes = kept.as_ref().zip(load.as_mut()).is_some_and(|(kept, load)| kept.load(load, &record));
        full.contains(&false) || lanes
    })?;
    if read.is_none() {
        return Ok(());
    }
    if let Some((kept, load)) = kept.zip(load) {
        kept.loaded(load);
    }
    let took = now.elapsed();
    for showing in loading {
        showing.loaded = true;
        showing.refilled = Instant::now() + REFILL.max(20 * took);
        let snapshot: Arc<str> = showing.feed.snapshot().into();
        (showing.changed, showing.snapshot) = (Some(snapshot.clone()), Some(snapshot));
    }
    Ok(())
}

fn frame(head: &str, number: u32, parts: &[Arc<str>]) -> Utf8Bytes {
    let length: usize = parts.iter().map(|part| part.len() + 1).sum();
    let mut frame = String::with_capacity(head.len() + length + 40);
    let _ = write!(frame, "{head},\"watch\":{number},\"parts\":[");
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            frame.push(',');
        }
        frame.push_str(part);
    }
    frame.push_str("]}");
    frame.into()
}

fn refusal(why: &str) -> Arc<str> {
    serde_json::json!({ "error": why }).to_string().into()
}

/// Says which views there are instead.
pub(crate) fn no_such_view(name: &str, views: &[Arc<dyn Watched>]) -> String {
    let names: Vec<_> = views.iter().map(|view| view.name()).collect();
    match names.is_empty() {
        true => format!("there is no view {name:?}: the program has none (flow.view makes one)"),
        false => format!("there is no view {name:?}: there are {}", names.join(", ")),
    }
}

/// The clock, in milliseconds since 1970.
pub(crate) fn now() -> Time {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
