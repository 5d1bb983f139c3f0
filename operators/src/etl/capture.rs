//! Captured tables: the rows of a database's table, from its changes, however often each of them comes.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use differential_dataflow::VecCollection;
use nekton_engine::agents::{Key, Record};
use nekton_engine::hash::fixed_hash;
use nekton_engine::{Agent, Context, Event, Events, Flow, Row, Time};
use serde::{Deserialize, Serialize};

use super::debezium::{Change, Stamp, debezium};
use crate::windows::{Timed, Watermark};

/// How many agents share the keys. Each hears of every `TRUNCATE`.
const BUCKETS: u16 = 4_096;

/// For so many milliseconds of the dataflow's time it is known of a row that it is gone.
const KNOWN_GONE: Time = 86_400_000;

/// Reading what Debezium captures.
pub trait Capture<'s> {
    /// The table whose changes are in a topic of Debezium's change events. Keys are those of the messages (of one column, its
    /// value; of several, a tuple of them, or a struct). What is none goes to `<topic>.dead-letter`, with the reason.
    ///
    /// * **Each change counts once.** A connector that was restarted delivers again what it has delivered since it last stored its
    ///   position, and takes a snapshot again that it did not finish: what stands before the newest known change of its row in the
    ///   database's log is left out. (PostgreSQL, MySQL, MariaDB, SQL Server. From other databases the order of the topic counts: a row
    ///   may go back for a moment while changes come again.) Where the log begins anew with earlier positions, because another server
    ///   took over, changes that are newer by the database's clock count.
    /// * **Kinds of changes**: `c`, `u` and `r` set a row; `d` and a tombstone without a `d` before it remove it, `t` removes all whose
    ///   changes stand before it. Metadata of transactions are ignored: each change counts when it comes, not with the others of its
    ///   transaction.
    /// * **Order** is that of the partition. Debezium partitions by key. A truncation has no key: of a topic with several partitions it may
    ///   overtake or be overtaken, which positions make good, where there are any.
    /// * A snapshot says what is there, not what is not: rows that were deleted while nobody listened stay until
    ///   something is said of them.
    ///
    /// **Cost**: a look-up in a hash table and one in a tree an event, and a second way through agents for the table itself. **Memory**:
    /// the key and some 80 bytes a row beside the row; the same for a day for one that is gone.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    /// struct Customer { city: String }
    ///
    /// // shop.public.customers: 7 lives in Bern, moves to Basel, and again the first of both: the connector was restarted
    /// # let event = |op, city, lsn| format!(r#"{{"after":{{"id":7,"city":"{city}"}},"source":{{"connector":"postgresql","name":"shop","db":"shop","ts_ms":{lsn},"lsn":{lsn}}},"op":"{op}"}}"#);
    /// # let lines = [event("c", "Bern", 10), event("u", "Basel", 20), event("c", "Bern", 10)];
    /// # let topics = job_on(&[("shop.public.customers", &[lines[0].as_str(), &lines[1], &lines[2]])], |flow| {
    /// // In files messages have no keys: which column is the key?
    /// let customers = flow.debezium_by::<u64, Customer>("shop.public.customers", &["id"]);
    /// flow.sink("customers", upsert(&customers.table()));
    /// # });
    /// assert!(topics.lines("customers")[0].starts_with(r#"{"key":7,"value":{"city":"Basel"},"#));
    /// # assert_eq!(topics.lines("customers").len(), 1);
    /// ```
    fn debezium<K: Key, V: Event>(&mut self, topic: &str) -> Captured<'s, K, V>;

    /// As [`debezium`](Capture::debezium), but keys are read from columns of the rows: for topics whose messages have none, and tables
    /// without a primary key.
    fn debezium_by<K: Key, V: Event>(
        &mut self,
        topic: &str,
        columns: &'static [&'static str],
    ) -> Captured<'s, K, V>;
}

impl<'s> Capture<'s> for Flow<'s> {
    fn debezium<K: Key, V: Event>(&mut self, topic: &str) -> Captured<'s, K, V> {
        self.debezium_by(topic, &[])
    }
    fn debezium_by<K: Key, V: Event>(
        &mut self,
        topic: &str,
        columns: &'static [&'static str],
    ) -> Captured<'s, K, V> {
        let changes = self.events_with(topic, move |record| debezium(record, columns));
        Captured::new(topic, &changes)
    }
}

/// A row that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed<K, V> {
    /// Its key.
    pub key: K,
    /// What it is now; `None`: it is gone.
    pub row: Option<V>,
    /// From when on, in milliseconds since 1970 by the database's clock; 0 where a snapshot is the first that is heard of it.
    pub from: Time,
}

/// A table that is captured from a database.
pub struct Captured<'s, K: Key, V: Event> {
    name: String,
    /// When the changes were made, as they stand in the topic.
    times: Events<'s, (Time, ())>,
    changed: Events<'s, Changed<K, V>>,
}

impl<'s, K: Key, V: Event> Captured<'s, K, V> {
    /// A table from changes that were read with [`debezium`]. `name` is that of the roots that
    /// remember what is known of its rows.
    pub fn new(name: &str, changes: &Events<'s, Change<K, V>>) -> Self {
        let times = changes.flat_map(|change| match change {
            Change::Row { stamp, .. } | Change::Gone { stamp, .. } | Change::Truncated { stamp } => {
                Some((stamp.at, ()))
            }
            Change::Tombstone { .. } | Change::Nothing => None,
        });
        let heard = changes.flat_map(|change| {
            let buckets = match &change {
                Change::Row { key, .. } | Change::Gone { key, .. } | Change::Tombstone { key } => {
                    let bucket = (fixed_hash(key) >> 24) as u16 % BUCKETS;
                    bucket..bucket + 1
                }
                Change::Truncated { .. } => 0..BUCKETS,
                Change::Nothing => 0..0,
            };
            buckets.map(move |bucket| (bucket, change.clone()))
        });
        let buckets = heard.agents::<Bucket<K, V>>(&format!("{name} captured"), |(bucket, _)| *bucket);
        Captured { name: name.to_owned(), times, changed: buckets.emitted() }
    }

    /// Its changes, each once, those of a row in order, as events.
    pub fn changes(&self) -> Events<'s, Changed<K, V>> {
        self.changed.clone()
    }

    /// The table as a collection: what every row is now.
    pub fn table(&self) -> VecCollection<'s, Time, (K, V), isize>
    where
        V: Record,
    {
        self.changed.map(|Changed { key, row, .. }| (key, row)).table(&self.name)
    }

    /// Its rows by the times from which they hold, for [`as_of`](Timed::as_of). What a snapshot says of a row that was not known holds
    /// for all time before as well.
    ///
    /// Most tables seldom change, and the join waits for their watermark: let it be [idle](Watermark::idle_after) soon.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let event = |op, city: &str, lsn| format!(r#"{{"after":{{"id":7,"city":"{city}"}},"source":{{"connector":"postgresql","name":"shop","db":"shop","ts_ms":{lsn},"lsn":{lsn}}},"op":"{op}"}}"#);
    /// # let lines = [event("r", "Bern", 10), event("u", "Basel", 20)];
    /// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)] struct Customer { city: String }
    /// # let topics = job_on(&[("customers", &[lines[0].as_str(), &lines[1]]), ("orders", &["[7,5]", "[7,19]", "[7,20]"])], |flow| {
    /// // customers: a snapshot at 10 says that 7 lives in Bern; at 20 he moves to Basel
    /// let customers = flow.debezium_by::<u64, Customer>("customers", &["id"]);
    /// let orders = flow.events::<(u64, Time)>("orders"); // (of whom, when): 7 at 5, 19 and 20
    /// let rows = customers.rows(Watermark::behind(1_000).idle_after(500));
    /// let with = orders.event_time(|(_, at)| *at, Watermark::behind(1_000)).as_of("orders", &rows, |(who, _)| *who);
    /// flow.sink("orders-with-city", &with.enriched.map(|((_, at), customer)| (at, customer.map(|c| c.city))));
    /// # });
    /// assert_eq!(topics.lines("orders-with-city"), [r#"[5,"Bern"]"#, r#"[19,"Bern"]"#, r#"[20,"Basel"]"#]);
    /// ```
    pub fn rows(&self, watermark: Watermark) -> Timed<'s, Row<K, V>> {
        let events = self.changed.map(|Changed { key, row, from }| (from, (key, row)));
        Timed { events, watermark, clock: Some(self.times.clone()) }
    }
}

/// What is known of a row.
#[derive(Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    /// Since when it is gone, in the dataflow's time.
    gone: Option<Time>,
    /// Whether the last that was heard of it is that it is gone, known or not.
    tombstone: bool,
}

/// The rows whose keys share a bucket. The rows themselves are in the table.
#[derive(Serialize, Deserialize)]
#[serde(bound = "K: Key")]
struct Bucket<K, V> {
    rows: BTreeMap<K, Known>,
    truncated: Option<Stamp>,
    /// Whether the timer is set.
    waits: bool,
    #[serde(skip)]
    row: PhantomData<V>,
}

impl<K: Key, V: Event> Bucket<K, V> {
    /// Whether a change stands before what is known of its row.
    fn is_old(&self, key: &K, stamp: &Stamp) -> bool {
        let old = |known: &Stamp| stamp.is_before(known);
        self.rows.get(key).is_some_and(|known| old(&known.stamp)) || self.truncated.as_ref().is_some_and(old)
    }
    /// The row is gone: remembers it for a while.
    fn goes(&mut self, key: K, stamp: Stamp, tombstone: bool, context: &mut Context<'_, Self>) {
        context.emit(Changed { key: key.clone(), row: None, from: stamp.at });
        self.rows.insert(key, Known { stamp, gone: Some(context.time()), tombstone });
        if !std::mem::replace(&mut self.waits, true) {
            context.set_timer(context.time().saturating_add(KNOWN_GONE));
        }
    }
    /// Since when it is known by the clock.
    fn latest(&self, key: &K) -> Time {
        self.rows.get(key).map_or(0, |known| known.stamp.at)
    }
}

impl<K: Key, V: Event> Agent for Bucket<K, V> {
    type Key = u16;
    type Event = (u16, Change<K, V>);
    type View = ();
    type Emit = Changed<K, V>;

    fn create(_bucket: &u16) -> Self {
        Bucket { rows: BTreeMap::new(), truncated: None, waits: false, row: PhantomData }
    }
    fn on_event(&mut self, (_, change): &Self::Event, context: &mut Context<'_, Self>) {
        match change {
            Change::Row { key, stamp, .. } | Change::Gone { key, stamp } if self.is_old(key, stamp) => {
                // It is delivered again; so is the tombstone that follows it.
                if let Some(known) = self.rows.get_mut(key) {
                    known.tombstone = matches!(change, Change::Gone { .. });
                }
            }
            Change::Row { key, row, stamp, snapshot } => {
                let from = if *snapshot && !self.rows.contains_key(key) { 0 } else { stamp.at };
                let stamp = stamp.not_before(self.latest(key));
                self.rows.insert(key.clone(), Known { stamp, gone: None, tombstone: false });
                context.emit(Changed { key: key.clone(), row: Some(row.clone()), from });
            }
            Change::Gone { key, stamp } => {
                self.goes(key.clone(), stamp.not_before(self.latest(key)), true, context);
            }
            Change::Tombstone { key } => match self.rows.get_mut(key) {
                // The `d` before it has said all.
                Some(known) if known.tombstone => known.tombstone = false,
                Some(Known { gone: None, stamp, .. }) => {
                    let stamp = *stamp;
                    self.goes(key.clone(), stamp, false, context);
                }
                _ => {}
            },
            Change::Truncated { stamp } => {
                let there = self.rows.iter().filter(|(_, known)| known.gone.is_none());
                let before = there.filter(|(_, known)| !stamp.is_before(&known.stamp));
                let keys: Vec<K> = before.map(|(key, _)| key.clone()).collect();
                for key in keys {
                    self.goes(key, *stamp, false, context);
                }
                if self.truncated.is_none_or(|known| !stamp.is_before(&known)) {
                    self.truncated = Some(*stamp);
                }
            }
            Change::Nothing => {}
        }
    }
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        let now = context.time();
        self.rows.retain(|_, known| known.gone.is_none_or(|gone| gone.saturating_add(KNOWN_GONE) > now));
        let next = self.rows.values().filter_map(|known| known.gone).min();
        self.waits = next.is_some();
        if let Some(gone) = next {
            context.set_timer(gone.saturating_add(KNOWN_GONE));
        }
    }
    fn view(&self) -> Option<()> {
        None
    }
}
