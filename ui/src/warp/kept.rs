//! What lanes show of one view: its records by their keys, of those that somebody has linked to. Pure.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::recon::{self, Item, Value};
use crate::record::Record;

use super::envelope::{remove, update};

/// The most keys of a map lane, and the most bytes of its records.
const MOST_KEYS: usize = 200_000;
const MOST_BYTES: usize = 64 << 20;

/// A connection's number, and the address of a lane as the connection writes it.
pub(super) type Linked = (u64, Arc<str>);

/// The links to one view, and what they show.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// By key, as JSON.
    records: HashMap<Arc<str>, Entry>,
    bytes: usize,
    /// It has all keys, not only those that are linked to.
    all: bool,
    /// It is as of the hub's time.
    loaded: bool,
    /// There is more than a map lane can have.
    overflowed: bool,
    pub(super) maps: HashSet<Linked>,
    /// By the name of the key.
    pub(super) values: HashMap<String, Vec<Linked>>,
    /// Keys that have changed at this time.
    changed: BTreeSet<Arc<str>>,
    snapshot: Option<Arc<[Arc<str>]>>,
}

/// The records of a key: the values, as JSON, and how many of each. One that is a key alone has no text for a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry(Vec<(Arc<str>, isize)>);

/// A key as it is in the address of a node: text without quotes, anything else as JSON.
fn name(key: &str) -> Cow<'_, str> {
    match key.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => Cow::Borrowed(text),
        Some(_) => serde_json::from_str(key).map_or(Cow::Borrowed(key), Cow::Owned),
        None => Cow::Borrowed(key),
    }
}

fn quoted(key: &str) -> String {
    serde_json::Value::from(key).to_string()
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or(Value::Extant)
}

impl Entry {
    fn add(&mut self, value: &str, count: isize) {
        match self.0.iter().position(|(other, _)| **other == *value) {
            Some(at) => {
                self.0[at].1 += count;
                if self.0[at].1 == 0 {
                    self.0.remove(at);
                }
            }
            None => self.0.push((value.into(), count)),
        }
    }

    /// What a lane shows of it: the value; of several, all in the order of their texts; of a key alone, how many.
    fn shown(&self) -> Value {
        let one = |(json, count): &(Arc<str>, isize)| match json.is_empty() {
            true => Value::Number((*count as i64).into()),
            false => parsed(json),
        };
        match &self.0[..] {
            [single] => one(single),
            several => {
                let mut several: Vec<_> = several.iter().collect();
                several.sort();
                Value::Record(several.into_iter().map(|value| Item::Value(one(value))).collect())
            }
        }
    }
}

impl Kept {
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    pub(super) fn is_empty(&self) -> bool {
        self.maps.is_empty() && self.values.is_empty()
    }

    /// Adds a link; what it shows is loaded if it is not there yet.
    pub(super) fn link(&mut self, linked: Linked, key: Option<&str>) {
        match key {
            None => {
                self.maps.insert(linked);
                self.loaded &= self.all;
                self.all = true;
            }
            Some(key) => {
                if !self.values.contains_key(key) {
                    self.loaded &= self.all;
                }
                let links = self.values.entry(key.to_owned()).or_default();
                if !links.contains(&linked) {
                    links.push(linked);
                }
            }
        }
    }

    pub(super) fn unlink(&mut self, linked: &Linked, key: Option<&str>) {
        match key {
            None => {
                self.maps.remove(linked);
            }
            Some(key) => {
                if let Some(links) = self.values.get_mut(key) {
                    links.retain(|other| other != linked);
                    if links.is_empty() {
                        self.values.remove(key);
                    }
                }
            }
        }
        match key {
            Some(key) if !self.all && !self.values.contains_key(key) => {
                self.records.remove(key);
                self.records.remove(&quoted(key)[..]);
            }
            None if self.maps.is_empty() => {
                let values = &self.values;
                (self.all, self.snapshot) = (false, None);
                self.records.retain(|key, _| values.contains_key(&*name(key)));
            }
            _ => {}
        }
    }

    fn wants(&self, key: &str) -> bool {
        self.all || self.values.contains_key(&*name(key))
    }

    /// Takes the changes up to the hub's time, if everything before them is there.
    pub(crate) fn apply(&mut self, changes: &[Record]) {
        for change in changes {
            if !self.wants(change.key()) {
                continue;
            }
            let key: Arc<str> = match self.records.get_key_value(change.key()) {
                Some((key, _)) => key.clone(),
                None => change.key().into(),
            };
            let entry = self.records.entry(key.clone()).or_default();
            let before = entry.bytes(&key);
            entry.add(change.value().unwrap_or_default(), change.count);
            self.bytes = (self.bytes + entry.bytes(&key)).saturating_sub(before);
            self.changed.insert(key);
        }
        for key in &self.changed {
            if self.records.get(key).is_some_and(|entry| entry.0.is_empty()) {
                self.records.remove(key);
            }
        }
        if !self.changed.is_empty() {
            self.snapshot = None;
        }
        self.bound();
    }

    /// The view has to be read anew.
    pub(crate) fn lose(&mut self) {
        self.loaded = false;
    }

    /// Begins to read the view anew.
    pub(crate) fn loading(&self) -> Load {
        Load(HashMap::new(), 0)
    }

    /// Takes a record that is read; whether more are wanted.
    pub(crate) fn load(&self, load: &mut Load, record: &Record) -> bool {
        if !self.wants(record.key()) {
            return true;
        }
        let fits = !self.all || load.0.len() <= MOST_KEYS && load.1 <= MOST_BYTES;
        if fits {
            load.1 += record.text().len();
            let entry = load.0.entry(record.key().into()).or_default();
            entry.add(record.value().unwrap_or_default(), record.count);
        }
        fits
    }

    /// Takes what was read. What is not as it was has changed.
    pub(crate) fn loaded(&mut self, load: Load) {
        let before = std::mem::replace(&mut self.records, load.0);
        self.changed.extend(
            before
                .iter()
                .filter(|(key, was)| self.records.get(*key) != Some(*was))
                .map(|(key, _)| key.clone()),
        );
        self.changed.extend(self.records.keys().filter(|key| !before.contains_key(*key)).cloned());
        (self.bytes, self.loaded, self.snapshot) = (load.1, true, None);
        self.bound();
    }

    fn bound(&mut self) {
        if self.all && (self.records.len() > MOST_KEYS || self.bytes > MOST_BYTES) {
            self.overflowed = true;
        }
    }

    /// The links of map lanes, if there is more than these can have.
    pub(super) fn take_overflow(&mut self) -> Option<Vec<Linked>> {
        std::mem::take(&mut self.overflowed).then(|| self.maps.iter().cloned().collect())
    }

    /// The keys that have changed, each with whether it is still there.
    pub(super) fn take_changed(&mut self) -> Vec<(Arc<str>, bool)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|key| (key.clone(), self.records.contains_key(&key))).collect()
    }

    /// What a map lane says of keys that have changed.
    pub(super) fn changes(&self, changed: &[(Arc<str>, bool)]) -> Arc<[Arc<str>]> {
        changed.iter().map(|(key, _)| self.change(key)).collect()
    }

    fn change(&self, key: &str) -> Arc<str> {
        match self.records.get(key) {
            Some(entry) => update(&parsed(key), &entry.shown()).into(),
            None => remove(&parsed(key)).into(),
        }
    }

    /// All that a map lane says, in the order of keys.
    pub(super) fn snapshot(&mut self) -> Arc<[Arc<str>]> {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.clone();
        }
        let mut keys: Vec<_> = self.records.keys().collect();
        keys.sort();
        let snapshot: Arc<[Arc<str>]> = keys.into_iter().map(|key| self.change(key)).collect();
        self.snapshot.insert(snapshot).clone()
    }

    /// What a map lane says of keys, of which it knows that they were there, if they are not any more.
    pub(super) fn removed(&self, keys: &BTreeSet<Arc<str>>) -> Arc<[Arc<str>]> {
        keys.iter().filter(|key| !self.records.contains_key(*key)).map(|key| self.change(key)).collect()
    }

    /// What a value lane says.
    pub(super) fn value(&self, key: &str, field: Option<&str>) -> Arc<str> {
        let entry = self.records.get(key).or_else(|| self.records.get(&quoted(key)[..]));
        let shown = entry.map_or(Value::Extant, Entry::shown);
        let value = match field {
            Some(field) => shown.slot(field).cloned().unwrap_or(Value::Extant),
            None => shown,
        };
        let mut text = String::new();
        recon::body(&value, &mut text);
        text.into()
    }

    /// The links of value lanes to a key.
    pub(super) fn linked(&self, key: &str) -> &[Linked] {
        self.values.get(&*name(key)).map_or(&[], Vec::as_slice)
    }
}

/// Records that are being read, and their bytes.
pub(crate) struct Load(HashMap<Arc<str>, Entry>, usize);

impl Entry {
    fn bytes(&self, key: &str) -> usize {
        self.0.iter().map(|(value, _)| key.len() + value.len() + 3).sum()
    }
}
