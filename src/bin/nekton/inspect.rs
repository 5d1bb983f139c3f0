//! `nekton inspect`: one agent, in all views at one time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use clap::Args;
use nekton::{Error, Kind, Result, say};
use serde_json::{Map, Value, json};

use crate::job::{At, Events, part};
use crate::records::{brief, clock, difference};
use crate::tap::written;

/// How many views are asked, and the most records of a key and of its links in each.
const VIEWS: usize = 8;
const RECORDS: usize = 100;
const LINKS: usize = 50;

/// Prints what all views of a job say of one key at one time, and its links: records of others in which it is a word.
#[derive(Args)]
pub(crate) struct Command {
    /// The view, as the program calls it
    view: String,
    /// The key: text, or JSON
    key: String,
    /// Go on with what changes in the views' records of this key, a line each
    #[arg(long)]
    follow: bool,
    /// Print a JSON object, and one for each change that follows
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let job = command.at.job()?;
    let about = job.json("/api/job")?;
    let names = about["views"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<&str> = names.collect();
    if !names.contains(&&command.view[..]) {
        let view = &command.view;
        let there = match names.is_empty() {
            true => "the program has none (flow.view makes one)".to_owned(),
            false => format!("there are {}", names.join(", ")),
        };
        return Err(Error::new(Kind::Missing, format!("there is no view {view:?}: {there}")));
    }
    let mut asked = vec![&command.view[..]];
    asked.extend(names.iter().copied().filter(|name| *name != command.view).take(VIEWS - 1));
    let mut agent = Agent::new(&asked, &command.key);
    let mut events = job.events(&format!("/api/live?watch={}", part(&agent.wanted(&command.key))))?;
    // What comes first is of one time, and whole.
    let time = loop {
        let Some(frame) = events.next()? else {
            return Err(Error::new(Kind::Unavailable, format!("the job at {} has ended", job.url)));
        };
        if agent.take(&frame, &mut |_| {})? {
            break frame["time"].clone();
        }
    };
    if agent.of_key.iter().all(|shown| shown.rows.is_empty()) && !command.follow {
        let why = format!("no view has a record with the key {} now", command.key);
        return Err(Error::new(Kind::Missing, why));
    }
    let text = match command.json {
        true => format!("{}\n", agent.as_json(&time, &command.key)),
        false => agent.as_text(&time, &command.key),
    };
    let mut out = std::io::stdout().lock();
    let shown = written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    match command.follow && shown {
        true => follow(&mut agent, &mut events, command.json),
        false => Ok(()),
    }
}

fn follow(agent: &mut Agent, events: &mut Events, as_json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    while let Some(frame) = events.next()? {
        let mut lines = String::new();
        agent.take(&frame, &mut |change| {
            let _ = match as_json {
                true => writeln!(lines, "{}", change.as_json(&frame["time"])),
                false => {
                    let told = difference(change.before, change.after);
                    writeln!(lines, "{}  {}  {told}", clock(&frame["time"]), change.view)
                }
            };
        })?;
        if !written(out.write_all(lines.as_bytes()).and_then(|()| out.flush()))? {
            return Ok(());
        }
    }
    say("nekton: the job has ended");
    Ok(())
}

/// What changes in the views' records of the key.
struct Change<'c> {
    view: &'c str,
    key: &'c Value,
    before: Option<&'c Value>,
    after: Option<&'c Value>,
}

impl Change<'_> {
    fn as_json(&self, time: &Value) -> Value {
        let mut line = json!({ "time": time, "view": self.view, "key": self.key });
        for (name, value) in [("before", self.before), ("after", self.after)] {
            if let Some(value) = value {
                line[name] = value.clone();
            }
        }
        line
    }
}

/// The rows of a view that are shown, by their numbers.
struct Shown {
    view: String,
    filter: String,
    rows: BTreeMap<u64, (Value, Value)>,
    more: bool,
}

struct Agent {
    of_key: Vec<Shown>,
    links: Vec<Shown>,
    whole: bool,
}

impl Agent {
    fn new(views: &[&str], key: &str) -> Self {
        let shown = |filter: &str| {
            let shown = |view: &&str| Shown {
                view: (*view).to_owned(),
                filter: filter.to_owned(),
                rows: BTreeMap::new(),
                more: false,
            };
            views.iter().map(shown).collect()
        };
        let links = word(key).map(|word| shown(&format!("\"{word}\" key!=\"{word}\""))).unwrap_or_default();
        Agent { of_key: shown(""), links, whole: false }
    }

    /// What the server is asked for.
    fn wanted(&self, key: &str) -> String {
        let of_key =
            self.of_key.iter().map(|shown| json!({"view": shown.view, "key": key, "limit": RECORDS}));
        let links = self.links.iter();
        let links = links.map(|shown| json!({"view": shown.view, "filter": shown.filter, "limit": LINKS}));
        json!({"watch": 1, "views": of_key.chain(links).collect::<Vec<_>>()}).to_string()
    }

    /// Takes a frame, and tells what it changes in the views' records of the key; whether all has come by now.
    fn take(&mut self, frame: &Value, tell: &mut dyn FnMut(&Change<'_>)) -> Result<bool> {
        let parts = frame["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let own = self.of_key.len();
        for (index, (part, shown)) in
            parts.iter().zip(self.of_key.iter_mut().chain(&mut self.links)).enumerate()
        {
            if let Some(error) = part["error"].as_str() {
                return Err(Error::config(error));
            }
            if part.is_null() {
                continue;
            }
            let told = if index < own { &mut *tell } else { &mut |_: &Change<'_>| {} };
            shown.take(part, told);
        }
        self.whole |= !parts.is_empty() && parts.iter().all(|part| part["snapshot"] == true);
        Ok(self.whole)
    }

    fn as_json(&self, time: &Value, key: &str) -> Value {
        let records = |shown: &[Shown]| -> Map<String, Value> {
            let some = shown.iter().filter(|shown| !shown.rows.is_empty());
            let rows = |shown: &Shown| -> Value {
                shown.rows.values().map(|(key, value)| json!({"key": key, "value": value})).collect()
            };
            some.map(|shown| (shown.view.clone(), rows(shown))).collect()
        };
        json!({"time": time, "key": key, "views": records(&self.of_key), "links": records(&self.links)})
    }

    fn as_text(&self, time: &Value, key: &str) -> String {
        let mut text = format!("{key}, as of {}\n", clock(time));
        for shown in self.of_key.iter().filter(|shown| !shown.rows.is_empty()) {
            let _ = writeln!(text, "\n{}", shown.view);
            for (_, value) in shown.rows.values() {
                fields(&mut text, value);
            }
            shown.ends(&mut text);
        }
        for shown in self.links.iter().filter(|shown| !shown.rows.is_empty()) {
            let _ = writeln!(text, "\nlinks in {}", shown.view);
            for (key, value) in shown.rows.values() {
                let _ = writeln!(text, "  {}  {}", brief(key), brief(value));
            }
            shown.ends(&mut text);
        }
        text
    }
}

impl Shown {
    fn take(&mut self, part: &Value, tell: &mut dyn FnMut(&Change<'_>)) {
        let mut before = BTreeMap::new();
        let rows = part["rows"].as_array().into_iter().flatten();
        if part["snapshot"] == true {
            // Numbers are others now; keys say what was before.
            before = std::mem::take(&mut self.rows);
        }
        for number in part["gone"].as_array().into_iter().flatten().filter_map(Value::as_u64) {
            before.extend(self.rows.remove(&number).map(|row| (number, row)));
        }
        for row in rows {
            let Some(number) = row[0].as_u64() else { continue };
            let (key, value) = (row[1].clone(), row[2].clone());
            let same = before.iter().find(|(_, (other, _))| *other == key).map(|(number, _)| *number);
            let was = same.and_then(|number| before.remove(&number)).or_else(|| self.rows.remove(&number));
            let was = was.map(|(_, value)| value);
            if was.as_ref() != Some(&value) {
                tell(&Change { view: &self.view, key: &key, before: was.as_ref(), after: Some(&value) });
            }
            self.rows.insert(number, (key, value));
        }
        for (key, value) in before.values() {
            tell(&Change { view: &self.view, key, before: Some(value), after: None });
        }
        self.more = part["more"] == true;
    }

    fn ends(&self, text: &mut String) {
        if self.more {
            text.push_str("  and more\n");
        }
    }
}

/// A key as a word that others may have. A number is a word of everything.
fn word(key: &str) -> Option<String> {
    let word = match serde_json::from_str(key) {
        Ok(Value::String(text)) => text,
        Ok(_) => return None,
        Err(_) => key.to_owned(),
    };
    (word.len() > 1 && !word.contains('"')).then_some(word)
}

/// A line a field.
fn fields(text: &mut String, value: &Value) {
    let Value::Object(fields) = value else {
        let _ = writeln!(text, "  {}", brief(value));
        return;
    };
    let width = fields.keys().map(|name| name.chars().count()).max().unwrap_or_default();
    for (name, value) in fields {
        let _ = writeln!(text, "  {name:width$}  {}", brief(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_what_all_frames_together_say() {
        let mut agent = Agent::new(&["planes", "legs"], "N1");
        let wanted: Value = serde_json::from_str(&agent.wanted("N1")).unwrap();
        assert_eq!(wanted["views"][0], json!({"view": "planes", "key": "N1", "limit": RECORDS}));
        assert_eq!(wanted["views"][3]["filter"], "\"N1\" key!=\"N1\"");
        let part = |rows: Value| json!({"snapshot": true, "more": false, "rows": rows});
        let none = part(json!([]));
        let planes = part(json!([[1, "N1", {"delay": 3}]]));
        let legs = json!([[4, "AA7", {"plane": "N1"}]]);
        let first = json!({"time": 7, "parts": [planes, none, none, part(legs)]});
        assert!(agent.take(&first, &mut |_| {}).unwrap());
        let told = agent.as_text(&json!(1_769_863_200_123_u64), "N1");
        let expected =
            "N1, as of 12:40:00.123Z\n\nplanes\n  delay  3\n\nlinks in legs\n  AA7  {\"plane\":\"N1\"}\n";
        assert_eq!(told, expected);
        let mut lines = Vec::new();
        let mut take = |frame: Value, agent: &mut Agent| {
            agent.take(&frame, &mut |change| lines.push(change.as_json(&frame["time"]).to_string())).unwrap();
        };
        take(
            json!({"time": 8, "parts": [{"rows": [[1, "N1", {"delay": 5}]]}, null, null, null]}),
            &mut agent,
        );
        // What was missed comes as a snapshot, with other numbers.
        take(
            json!({"time": 9, "parts": [part(json!([[9, "N1", {"delay": 6}]])), none, none, none]}),
            &mut agent,
        );
        take(json!({"time": 10, "parts": [{"rows": [], "gone": [9]}, null, null, null]}), &mut agent);
        let expected = [
            r#"{"after":{"delay":5},"before":{"delay":3},"key":"N1","time":8,"view":"planes"}"#,
            r#"{"after":{"delay":6},"before":{"delay":5},"key":"N1","time":9,"view":"planes"}"#,
            r#"{"before":{"delay":6},"key":"N1","time":10,"view":"planes"}"#,
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn numbers_are_no_words() {
        assert_eq!((word("7"), word("[1]"), word("N")), (None, None, None));
        assert_eq!((word("N1"), word("\"71\"")), (Some("N1".into()), Some("71".into())));
    }
}
