//! What is shown of one view through one filter: its rows at one time, and what changes in them. Pure.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use serde::Deserialize;

use crate::changes;
use crate::filter::{self, Filter};
use crate::record::Record;

/// The most rows of a feed, and as many as it has where nobody says.
pub(crate) const MOST_ROWS: usize = 10_000;
const ROWS: usize = 1_000;
/// The most bytes of a feed's records, about.
const MOST_BYTES: usize = 8 << 20;
/// The same of a feed of some fields only, for maps and charts.
const MOST_POINTS: usize = 200_000;
const MOST_POINT_BYTES: usize = 64 << 20;
/// The most fields of such a feed, and bytes of a field's name.
const MOST_FIELDS: usize = 24;
const LONGEST_FIELD: usize = 200;

/// What a client asks for, as it says it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) view: String,
    #[serde(default)]
    pub(crate) filter: String,
    /// The key of the only rows that are wanted, as JSON or text.
    pub(crate) key: Option<String>,
    pub(crate) limit: Option<usize>,
    /// The only fields that are wanted, as filters name them: rows come as columns.
    #[serde(default)]
    pub(crate) fields: Vec<String>,
    /// `changes`: not the rows, but all that changes, however many rows there are.
    pub(crate) only: Option<String>,
}

/// The same, understood: what feeds are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    pub(crate) view: String,
    pub(crate) filter: Filter,
    pub(crate) key: Option<String>,
    pub(crate) limit: usize,
    /// Paths of fields; whole values if there are none.
    pub(crate) fields: Vec<Vec<String>>,
    pub(crate) only_changes: bool,
}

impl Asked {
    pub(crate) fn understood(self) -> Result<Wanted, String> {
        let filter = Filter::parse(&self.filter)?;
        if self.fields.len() > MOST_FIELDS || self.fields.iter().any(|field| field.len() > LONGEST_FIELD) {
            return Err(format!(
                "at most {MOST_FIELDS} fields with names of {LONGEST_FIELD} bytes can be asked for"
            ));
        }
        let path = |field: &String| field.split('.').map(str::to_owned).collect();
        let fields: Vec<_> = self.fields.iter().map(path).collect();
        let most = if fields.is_empty() { MOST_ROWS } else { MOST_POINTS };
        let limit = self.limit.unwrap_or(ROWS).clamp(1, most);
        let only_changes = match self.only.as_deref() {
            None => false,
            Some("changes") if fields.is_empty() => true,
            Some("changes") => {
                return Err("only=changes has whole records: it goes without fields".to_owned());
            }
            Some(other) => return Err(format!("only={other}: there is only=changes")),
        };
        Ok(Wanted { view: self.view, filter, key: self.key, limit, fields, only_changes })
    }
}

impl Wanted {
    /// Whether it may have more rows than others: there are only a few of these.
    pub(crate) fn is_large(&self) -> bool {
        self.limit > MOST_ROWS
    }

    fn most_bytes(&self) -> usize {
        if self.is_large() { MOST_POINT_BYTES } else { MOST_BYTES }
    }

    pub(crate) fn has(&self, record: &Record) -> bool {
        self.key.as_ref().is_none_or(|key| record.is(key)) && self.filter.passes(record)
    }
}

/// The rows of a feed. A row keeps its number while its key has one record after another.
#[derive(Debug)]
pub(crate) struct Feed {
    wanted: Wanted,
    rows: BTreeMap<u64, Record>,
    numbers: HashMap<Arc<str>, u64>,
    bytes: usize,
    next: u64,
    /// There are others, for which there was no room.
    more: bool,
}

impl Feed {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Feed { wanted, rows: BTreeMap::new(), numbers: HashMap::new(), bytes: 0, next: 0, more: false }
    }

    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Forgets all rows; their numbers are not used again.
    pub(crate) fn clear(&mut self) {
        *self = Feed { next: self.next, ..Feed::new(self.wanted.clone()) };
    }

    /// Adds a record that is not there yet; whether there is room for more.
    pub(crate) fn load(&mut self, record: &Record) -> bool {
        if self.wanted.only_changes {
            return false;
        }
        if self.wanted.has(record) {
            if !self.room() {
                self.more = true;
                return false;
            }
            self.add(None, record.clone());
        }
        true
    }

    /// Whether rows are missing for which there is room now.
    pub(crate) fn thin(&self) -> bool {
        self.more && self.rows.len() < self.wanted.limit && self.bytes < self.wanted.most_bytes() / 2
    }

    fn room(&self) -> bool {
        self.rows.len() < self.wanted.limit && self.bytes < self.wanted.most_bytes()
    }

    fn add(&mut self, number: Option<u64>, record: Record) -> u64 {
        let number = number.unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        self.bytes += record.text().len();
        self.numbers.insert(record.text().clone(), number);
        self.rows.insert(number, record);
        number
    }

    /// Takes the changes of a time; gives what changed in the rows, as JSON, if something did.
    pub(crate) fn apply(&mut self, changes: &[Record]) -> Option<String> {
        if self.wanted.only_changes {
            let told = changes::told(&self.wanted, changes)?;
            return Some(format!("{}[],{told}}}", self.opened(false)));
        }
        let mut freed: HashMap<&str, Vec<u64>> = HashMap::new();
        let mut changed = Vec::new();
        for change in changes {
            let Some(&number) = self.numbers.get(change.text()) else { continue };
            let Some(row) = self.rows.get_mut(&number) else { continue };
            row.count += change.count;
            if row.count == 0 {
                self.rows.remove(&number);
                self.numbers.remove(change.text());
                self.bytes -= change.text().len();
                freed.entry(change.key()).or_default().push(number);
            } else {
                changed.push(number);
            }
        }
        let full = self.more;
        for change in changes.iter().filter(|change| change.count > 0) {
            if self.numbers.contains_key(change.text()) || !self.wanted.has(change) {
                continue;
            }
            // Where records are missing, only what takes another one's place is known to be whole.
            let number = freed.get_mut(change.key()).and_then(Vec::pop);
            if number.is_some() || !full && self.room() {
                changed.push(self.add(number, change.clone()));
            } else {
                self.more = true;
            }
        }
        let gone: Vec<u64> = freed.into_values().flatten().collect();
        if changed.is_empty() && gone.is_empty() && self.more == full {
            return None;
        }
        let mut part = self.opened(false);
        self.write(&mut part, changed.iter().filter_map(|number| Some((number, self.rows.get(number)?))));
        if !gone.is_empty() {
            let gone: Vec<_> = gone.iter().map(u64::to_string).collect();
            let _ = write!(part, ",\"gone\":[{}]", gone.join(","));
        }
        part.push('}');
        Some(part)
    }

    /// All rows, as JSON.
    pub(crate) fn snapshot(&self) -> String {
        let mut part = self.opened(true);
        self.write(&mut part, self.rows.iter());
        part.push('}');
        part
    }

    fn opened(&self, snapshot: bool) -> String {
        let view = serde_json::Value::from(self.wanted.view.as_str());
        let capacity = if snapshot { self.bytes + 16 * self.rows.len() } else { 0 };
        let mut part = String::with_capacity(capacity + 100);
        let _ = write!(part, "{{\"view\":{view},\"snapshot\":{snapshot},\"more\":{},\"rows\":", self.more);
        part
    }

    fn write<'r>(&self, part: &mut String, rows: impl Iterator<Item = (&'r u64, &'r Record)>) {
        match &self.wanted.fields[..] {
            [] => write_rows(part, rows),
            fields => write_columns(part, rows, fields),
        }
    }
}

/// `[number,key,value]` each, with the count where it is not one.
fn write_rows<'r>(into: &mut String, rows: impl Iterator<Item = (&'r u64, &'r Record)>) {
    into.push('[');
    for (index, (number, record)) in rows.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(into, "{comma}[{number},{},{}", record.key(), record.value().unwrap_or("null"));
        if record.count != 1 {
            let _ = write!(into, ",{}", record.count);
        }
        into.push(']');
    }
    into.push(']');
}

/// Numbers, keys, and each field as an array: what a browser puts into arrays of numbers without making objects of it.
fn write_columns<'r>(
    into: &mut String,
    rows: impl Iterator<Item = (&'r u64, &'r Record)>,
    fields: &[Vec<String>],
) {
    let (mut keys, mut counts, mut several) = (String::new(), String::new(), false);
    let mut columns = vec![String::new(); fields.len()];
    into.push('[');
    for (index, (number, record)) in rows.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(into, "{comma}{number}");
        let _ = write!(keys, "{comma}{}", record.key());
        let _ = write!(counts, "{comma}{}", record.count);
        several |= record.count != 1;
        let mut column = columns.iter_mut();
        filter::fields(record, fields, |value| {
            let Some(column) = column.next() else { return };
            column.push_str(comma);
            let _ = match value {
                Some(value) => write!(column, "{value}"),
                None => write!(column, "null"),
            };
        });
    }
    let _ = write!(into, "],\"keys\":[{keys}]");
    if several {
        let _ = write!(into, ",\"counts\":[{counts}]");
    }
    into.push_str(",\"columns\":[");
    for (index, column) in columns.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(into, "{comma}[{column}]");
    }
    into.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(filter: &str, limit: usize) -> Feed {
        let asked = Asked { view: "v".into(), filter: filter.into(), limit: Some(limit), ..Asked::default() };
        Feed::new(asked.understood().unwrap())
    }

    fn records(texts: &[(&str, isize)]) -> Vec<Record> {
        texts.iter().map(|(text, count)| Record::new(text.as_bytes(), *count)).collect()
    }

    fn loaded(filter: &str, limit: usize, texts: &[&str]) -> Feed {
        let mut feed = feed(filter, limit);
        for text in texts {
            if !feed.load(&Record::new(text.as_bytes(), 1)) {
                break;
            }
        }
        feed
    }

    #[test]
    fn a_key_keeps_its_row() {
        let mut feed = loaded("", 9, &["[1,10]", "[2,20]"]);
        assert_eq!(
            feed.snapshot(),
            r#"{"view":"v","snapshot":true,"more":false,"rows":[[1,1,10],[2,2,20]]}"#
        );
        let changes = records(&[("[1,10]", -1), ("[1,11]", 1), ("[3,30]", 2), ("[2,20]", -1)]);
        assert_eq!(
            feed.apply(&changes).unwrap(),
            r#"{"view":"v","snapshot":false,"more":false,"rows":[[1,1,11],[3,3,30,2]],"gone":[2]}"#
        );
        assert_eq!(
            feed.snapshot(),
            r#"{"view":"v","snapshot":true,"more":false,"rows":[[1,1,11],[3,3,30,2]]}"#
        );
        assert_eq!(feed.apply(&[]), None);
    }

    #[test]
    fn what_comes_to_the_filter_and_leaves_it_comes_and_goes() {
        let mut feed = loaded("value>15", 9, &["[1,10]", "[2,20]"]);
        let changes = records(&[("[1,10]", -1), ("[1,16]", 1), ("[2,20]", -1), ("[2,9]", 1)]);
        assert_eq!(
            feed.apply(&changes).unwrap(),
            r#"{"view":"v","snapshot":false,"more":false,"rows":[[2,1,16]],"gone":[1]}"#
        );
        assert_eq!(feed.apply(&records(&[("[2,9]", -1), ("[2,8]", 1)])), None);
    }

    #[test]
    fn a_full_feed_follows_what_it_shows() {
        let mut feed = loaded("", 2, &["[1,10]", "[2,20]", "[3,30]"]);
        assert!(feed.more && !feed.thin());
        // 3 is not shown, so its changes are not either; 2 goes, and 4 might not be the next one.
        let changes = records(&[
            ("[3,30]", -1),
            ("[3,31]", 1),
            ("[2,20]", -1),
            ("[4,40]", 1),
            ("[1,10]", -1),
            ("[1,9]", 1),
        ]);
        let part = feed.apply(&changes).unwrap();
        assert_eq!(part, r#"{"view":"v","snapshot":false,"more":true,"rows":[[1,1,9]],"gone":[2]}"#);
        assert!(feed.thin());
    }

    #[test]
    fn a_feed_of_fields_has_columns() {
        let fields = ["at.lat", "name", "key", "0"].map(str::to_owned).to_vec();
        let asked = Asked { view: "v".into(), limit: Some(1_000_000), fields, ..Asked::default() };
        let mut feed = Feed::new(asked.understood().unwrap());
        assert!(feed.wanted().is_large() && feed.wanted().limit == MOST_POINTS);
        feed.load(&Record::new(br#"["a",{"at":{"lat":1.5},"name":"A \"a\""}]"#, 1));
        feed.load(&Record::new(br#"["b",[7]]"#, 2));
        assert!(feed.snapshot().ends_with(concat!(
            r#""more":false,"rows":[1,2],"keys":["a","b"],"counts":[1,2],"#,
            r#""columns":[[1.5,null],["A \"a\"",null],["a","b"],[null,7]]}"#
        )));
        let changes = records(&[(r#"["b",[7]]"#, -2), (r#"["b",[8]]"#, 1)]);
        assert!(
            feed.apply(&changes)
                .unwrap()
                .ends_with(r#""rows":[2],"keys":["b"],"columns":[[null],[null],["b"],[8]]}"#)
        );
        let many = Asked { fields: vec![String::new(); MOST_FIELDS + 1], ..Asked::default() };
        assert!(many.understood().is_err());
    }

    #[test]
    fn records_of_one_key_have_rows_of_their_own() {
        let mut feed = loaded("", 9, &[r#"["a","x"]"#, r#"["a","y"]"#]);
        let changes = records(&[(r#"["a","x"]"#, -1), (r#"["a","z"]"#, 1), (r#"["a","w"]"#, 1)]);
        let part = feed.apply(&changes).unwrap();
        assert!(part.ends_with(r#""rows":[[1,"a","z"],[3,"a","w"]]}"#), "{part}");
        assert_eq!(
            feed.apply(&records(&[(r#"["a","y"]"#, 1)])).unwrap().split("rows").last(),
            Some(r#"":[[2,"a","y",2]]}"#)
        );
    }
}
