//! The lanes that clients have linked to, for the hub: what changes in views, to whom. Pure but for the queues.
//!
//! A connection has room for [`QUEUE`] parcels. A link that misses something because there is no room gets what its lane shows when
//! there is: a value lane its value, a map lane all its entries and what has gone of them. So nobody waits for a client, and
//! what is kept for it does not grow with what it misses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::kept::{Kept, Linked};
use super::meta;
use super::place::{Meta, Nowhere, Place};

/// How many parcels may wait for a connection.
const QUEUE: usize = 2;
/// The most links of a connection, and of all together.
const MOST_LINKS: usize = 4_096;
const MOST_IN_ALL: usize = 100_000;
/// Past so many keys that have gone while a connection took nothing, it is closed: its client begins anew.
const MOST_GONE: usize = 100_000;

/// What a connection is told: of which lane, and what.
pub(crate) type Parcel = Vec<(Arc<str>, Says)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Linked,
    Event(Arc<str>),
    Events(Arc<[Arc<str>]>),
    Synced,
    Unlinked(&'static str),
}

/// What a connection asks for.
#[derive(Debug)]
pub(crate) enum Ask {
    Join(u64, mpsc::Sender<Parcel>),
    /// A lane, as the connection writes its address. What is asked and has not been heard yet is counted.
    Link {
        connection: u64,
        to: Arc<str>,
        place: Result<Place, Nowhere>,
        sync: bool,
        permit: OwnedSemaphorePermit,
    },
    Unlink {
        connection: u64,
        to: Arc<str>,
        permit: OwnedSemaphorePermit,
    },
    Leave(u64),
}

impl Ask {
    /// The view that must be open for it.
    pub(crate) fn view(&self) -> Option<&str> {
        match self {
            Ask::Link { place: Ok(Place::Records { view } | Place::Record { view, .. }), .. } => Some(view),
            _ => None,
        }
    }
}

/// The queue of a connection.
pub(crate) fn queue() -> (mpsc::Sender<Parcel>, mpsc::Receiver<Parcel>) {
    mpsc::channel(QUEUE)
}

#[derive(Debug)]
struct Connection {
    parcels: mpsc::Sender<Parcel>,
    links: HashMap<Arc<str>, Link>,
    /// Links that are new, or have missed something.
    waiting: BTreeSet<Arc<str>>,
    /// What it is told next.
    next: Parcel,
    room: bool,
    /// How many keys have gone of what it has missed.
    gone: usize,
}

#[derive(Debug)]
struct Link {
    of: Of,
    place: Place,
    state: State,
    /// What it was told last, of a value lane.
    last: Option<Arc<str>>,
}

/// A view by name, or one of those that a job has of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    View(String),
    Meta(Meta),
}

#[derive(Debug)]
enum State {
    New {
        sync: bool,
    },
    Current,
    /// It has missed something, and of these keys possibly that they have gone.
    Behind(BTreeSet<Arc<str>>),
}

#[derive(Debug, Default)]
pub(crate) struct Lanes {
    connections: HashMap<u64, Connection>,
    views: BTreeMap<Of, Kept>,
    /// Connections that are closed.
    closed: Vec<u64>,
}

impl Lanes {
    pub(crate) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// What is shown of a view, if there are links to it.
    pub(crate) fn of(&mut self, view: &str) -> Option<&mut Kept> {
        self.views.get_mut(&Of::View(view.to_owned()))
    }

    pub(crate) fn watches(&self, view: &str) -> bool {
        self.views.contains_key(&Of::View(view.to_owned()))
    }

    /// Takes what a connection asks for. `open` is whether there is the view that is needed for it.
    pub(crate) fn take(&mut self, ask: Ask, open: bool) {
        match ask {
            Ask::Join(number, parcels) => {
                let connection = Connection {
                    parcels,
                    links: HashMap::new(),
                    waiting: BTreeSet::new(),
                    next: Parcel::new(),
                    room: false,
                    gone: 0,
                };
                self.connections.insert(number, connection);
            }
            Ask::Leave(number) => self.leave(number),
            Ask::Unlink { connection, to, permit } => {
                drop(permit);
                if self.unlink(connection, &to) {
                    self.tell(connection, to, Says::Unlinked(""));
                }
            }
            Ask::Link { connection, to, place, sync, permit } => {
                drop(permit);
                let place = match place {
                    Ok(place) if open => place,
                    Ok(_) => return self.tell(connection, to, Says::Unlinked(Nowhere::Node.body())),
                    Err(nowhere) => return self.tell(connection, to, Says::Unlinked(nowhere.body())),
                };
                self.link(connection, to, place, sync);
            }
        }
    }

    fn tell(&mut self, connection: u64, to: Arc<str>, says: Says) {
        let Some(connected) = self.connections.get_mut(&connection) else { return };
        connected.next.push((to, says));
        // It asks for what there is not, and does not listen.
        if connected.next.len() > 2 * MOST_LINKS {
            self.leave(connection);
        }
    }

    fn link(&mut self, number: u64, to: Arc<str>, place: Place, sync: bool) {
        let in_all: usize = self.connections.values().map(|connection| connection.links.len()).sum();
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.waiting.insert(to.clone());
        if let Some(link) = connection.links.get_mut(&to) {
            let sync = sync || matches!(link.state, State::New { sync: true });
            link.state = State::New { sync };
            return;
        }
        if connection.links.len() >= MOST_LINKS || in_all >= MOST_IN_ALL {
            connection.waiting.remove(&to);
            return self.tell(number, to, Says::Unlinked("@tooManyLinks"));
        }
        let (of, key) = match &place {
            Place::Records { view } => (Of::View(view.clone()), None),
            Place::Record { view, key, .. } => (Of::View(view.clone()), Some(&key[..])),
            Place::Meta(about) => (Of::Meta(*about), about.key()),
        };
        self.views.entry(of.clone()).or_default().link((number, to.clone()), key);
        connection.links.insert(to, Link { of, place, state: State::New { sync }, last: None });
    }

    /// Whether it was linked.
    fn unlink(&mut self, number: u64, to: &Arc<str>) -> bool {
        let Some(connection) = self.connections.get_mut(&number) else { return false };
        connection.waiting.remove(to);
        let Some(link) = connection.links.remove(to) else { return false };
        self.forget(&(number, to.clone()), &link);
        true
    }

    fn forget(&mut self, linked: &Linked, link: &Link) {
        if let Some(kept) = self.views.get_mut(&link.of) {
            kept.unlink(linked, link.key());
            if kept.is_empty() {
                self.views.remove(&link.of);
            }
        }
    }

    fn leave(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            for (to, link) in connection.links {
                self.forget(&(number, to), &link);
            }
        }
    }

    /// The view is not kept any longer.
    pub(crate) fn fail(&mut self, view: &str) {
        if let Some(kept) = self.views.get(&Of::View(view.to_owned())) {
            let links: Vec<Linked> = kept.values.values().flatten().chain(&kept.maps).cloned().collect();
            self.refuse(links, "@viewFailed");
        }
    }

    fn refuse(&mut self, links: Vec<Linked>, why: &'static str) {
        for (connection, to) in links {
            self.unlink(connection, &to);
            self.tell(connection, to, Says::Unlinked(why));
        }
    }

    /// Sets what a job says of itself.
    pub(crate) fn describe(&mut self, job: &meta::Job) {
        for (of, kept) in &mut self.views {
            if let Of::Meta(about) = of {
                let mut load = kept.loading();
                for record in about.records(job) {
                    kept.load(&mut load, &record);
                }
                kept.loaded(load);
            }
        }
    }

    /// Whether somebody has linked to what a job says of itself, and should hear of it now.
    pub(crate) fn asks_for_the_job(&self, beat: bool) -> bool {
        self.views.iter().any(|(of, kept)| matches!(of, Of::Meta(_)) && (beat || !kept.is_loaded()))
    }

    /// Tells everybody what has changed, and who is new what there is. How many links have missed something.
    pub(crate) fn deliver(&mut self) -> u64 {
        let mut skipped = 0;
        for connection in self.connections.values_mut() {
            connection.room = connection.parcels.capacity() > 0;
        }
        let overflowed = self.views.values_mut().filter_map(Kept::take_overflow);
        let links: Vec<Linked> = overflowed.flatten().collect();
        self.refuse(links, "@mapTooLarge");
        for kept in self.views.values_mut() {
            let changed = kept.take_changed();
            if changed.is_empty() {
                continue;
            }
            skipped += tell_maps(&mut self.connections, &mut self.closed, kept, &changed);
            skipped += tell_values(&mut self.connections, kept, &changed);
        }
        for (number, connection) in &mut self.connections {
            if connection.room && !connection.waiting.is_empty() {
                connection.catch_up(&mut self.views);
            }
            if connection.room && !connection.next.is_empty() {
                let next = std::mem::take(&mut connection.next);
                if connection.parcels.try_send(next).is_err() {
                    self.closed.push(*number);
                }
            }
        }
        for number in std::mem::take(&mut self.closed) {
            self.leave(number);
        }
        skipped
    }
}

/// How many have missed something.
fn tell_maps(
    connections: &mut HashMap<u64, Connection>,
    closed: &mut Vec<u64>,
    kept: &Kept,
    changed: &[(Arc<str>, bool)],
) -> u64 {
    let mut skipped = 0;
    let mut changes = None;
    for (number, to) in &kept.maps {
        let Some(connection) = connections.get_mut(number) else { continue };
        let Some(link) = connection.links.get_mut(to) else { continue };
        if matches!(link.state, State::Current) {
            if connection.room {
                let changes = changes.get_or_insert_with(|| kept.changes(changed)).clone();
                connection.next.push((to.clone(), Says::Events(changes)));
                continue;
            }
            link.state = State::Behind(BTreeSet::new());
            connection.waiting.insert(to.clone());
        }
        if let State::Behind(gone) = &mut link.state {
            skipped += 1;
            let before = gone.len();
            gone.extend(changed.iter().filter(|(_, there)| !there).map(|(key, _)| key.clone()));
            connection.gone += gone.len() - before;
            if connection.gone > MOST_GONE {
                closed.push(*number);
            }
        }
    }
    skipped
}

/// How many have missed something.
fn tell_values(connections: &mut HashMap<u64, Connection>, kept: &Kept, changed: &[(Arc<str>, bool)]) -> u64 {
    let mut skipped = 0;
    for (key, _) in changed {
        for (number, to) in kept.linked(key) {
            let Some(connection) = connections.get_mut(number) else { continue };
            let Some(link) = connection.links.get_mut(to) else { continue };
            if !matches!(link.state, State::Current) {
                continue;
            }
            if !connection.room {
                link.state = State::Behind(BTreeSet::new());
                connection.waiting.insert(to.clone());
                skipped += 1;
                continue;
            }
            let value = link.value(kept);
            if link.last.as_ref() != Some(&value) {
                link.last = Some(value.clone());
                connection.next.push((to.clone(), Says::Event(value)));
            }
        }
    }
    skipped
}

impl Connection {
    /// Tells who is new what there is, and who has missed something what it is now.
    fn catch_up(&mut self, views: &mut BTreeMap<Of, Kept>) {
        let (next, links) = (&mut self.next, &mut self.links);
        self.gone = 0;
        self.waiting.retain(|to| {
            let Some(link) = links.get_mut(to) else { return false };
            let Some(kept) = views.get_mut(&link.of).filter(|kept| kept.is_loaded()) else { return true };
            let mut say = |says| next.push((to.clone(), says));
            match std::mem::replace(&mut link.state, State::Current) {
                State::New { sync } => {
                    say(Says::Linked);
                    let value = link.key().is_some().then(|| link.value(kept));
                    link.last.clone_from(&value);
                    if sync {
                        say(value.map_or_else(|| Says::Events(kept.snapshot()), Says::Event));
                        say(Says::Synced);
                    }
                }
                State::Current => {}
                State::Behind(_) if link.key().is_some() => {
                    let value = link.value(kept);
                    if link.last.as_ref() != Some(&value) {
                        link.last = Some(value.clone());
                        say(Says::Event(value));
                    }
                }
                State::Behind(gone) => {
                    say(Says::Events(kept.removed(&gone)));
                    say(Says::Events(kept.snapshot()));
                }
            }
            false
        });
    }
}

impl Link {
    fn key(&self) -> Option<&str> {
        match &self.place {
            Place::Records { .. } => None,
            Place::Record { key, .. } => Some(key),
            Place::Meta(about) => about.key(),
        }
    }

    fn value(&self, kept: &Kept) -> Arc<str> {
        let field = match &self.place {
            Place::Record { field, .. } => field.as_deref(),
            _ => None,
        };
        kept.value(self.key().unwrap_or_default(), field)
    }
}
