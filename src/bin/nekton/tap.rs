//! `nekton tap`: what changes in a view, as it happens.

use std::io::{BufWriter, ErrorKind, Write};

use clap::Args;
use nekton::{Error, Result, say};
use serde_json::{Value, json};

use crate::job::{At, part};
use crate::records::{brief, clock, difference};

/// Prints what changes in a view from now on, a line each: the time, the key, and what was and is. At most 20 times a
/// second: of what changes more often, the last.
#[derive(Args)]
pub(crate) struct Command {
    /// The view, as the program calls it
    view: String,
    /// Only records that meet this before or after: words, and conditions such as delay>15
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
    /// Only records of this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// End after this many changes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print a JSON object for each change
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let mut path = format!("/api/views/{}/changes?only=changes", part(&command.view));
    for (name, value) in [("filter", &command.filter), ("key", &command.key)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", part(value)));
        }
    }
    let mut events = command.at.job()?.events(&path)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut left, mut begun) = (command.count.unwrap_or(u64::MAX), false);
    while left > 0
        && let Some(frame) = events.next()?
    {
        let part = &frame["parts"][0];
        if let Some(error) = part["error"].as_str() {
            return Err(Error::config(error));
        }
        if part["snapshot"] == true {
            match begun {
                false => say(format_args!("nekton: watching {}", command.view)),
                true => say("nekton: there were too many changes: some are missing here"),
            }
            begun = true;
        }
        if let Some(missing) = part["missing"].as_u64() {
            say(format_args!("nekton: {missing} more changes at once are missing here"));
        }
        for change in part["changes"].as_array().into_iter().flatten().take(left as usize) {
            left -= 1;
            if !written(print(&mut out, &frame["time"], change, command.json))? {
                return Ok(());
            }
        }
        if !written(out.flush())? {
            return Ok(());
        }
    }
    if left > 0 {
        say("nekton: the job has ended");
    }
    Ok(())
}

fn print(out: &mut impl Write, time: &Value, change: &Value, as_json: bool) -> std::io::Result<()> {
    let count = change["count"].as_i64();
    if as_json {
        let mut line = json!({ "time": time, "key": change["key"] });
        for name in ["before", "after", "count"] {
            if let Some(value) = change.get(name) {
                line[name] = value.clone();
            }
        }
        return writeln!(out, "{line}");
    }
    let told = difference(change.get("before"), change.get("after"));
    let times = count.map(|count| format!(" ({count} times)")).unwrap_or_default();
    writeln!(out, "{}  {}  {told}{times}", clock(time), brief(&change["key"]))
}

/// Whether there is still somebody who reads what is printed (`| head` goes away).
pub(crate) fn written(outcome: std::io::Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::io("writing to standard output", &error)),
    }
}
