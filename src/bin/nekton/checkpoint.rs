//! `nekton checkpoint`: a look into checkpoints, which may be those of a running job.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use nekton::checkpoints::{Checkpoint, Contents, jobs, list, verify};
use nekton::connect::Store;
use nekton::topics::open_store;
use nekton::{Error, Kind, Result, say};
use serde_json::{Value, json};

#[derive(Subcommand)]
pub enum Command {
    /// List the checkpoints that are kept, with their times and sizes
    Ls(Place),
    /// Show what is in one: roots, positions, topics
    Show {
        #[command(flatten)]
        place: Place,
        /// Its number, as `ls` lists it [default: the newest]
        #[arg(long, value_name = "N")]
        number: Option<u64>,
    },
    /// Read everything and check it; ends with code 1 if something is damaged
    Verify(Place),
}

#[derive(Args)]
pub struct Place {
    /// Where the checkpoints are, as given to --checkpoints
    url: String,
    /// Whose, if there are several jobs
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Ls(place) => ls(&place),
        Command::Show { place, number } => show(&place, number),
        Command::Verify(place) => verified(&place),
    }
}

impl Place {
    /// The store, and the jobs in it that are asked for.
    fn open(&self) -> Result<(std::sync::Arc<dyn Store>, Vec<String>)> {
        // To look must not create it.
        if let Some(path) = self.url.strip_prefix("file:")
            && !std::path::Path::new(path.strip_prefix("//").unwrap_or(path)).is_dir()
        {
            return Err(missing(&self.url));
        }
        let store = open_store(&self.url)?;
        let jobs = jobs(&*store)?;
        match &self.job {
            Some(job) if !jobs.contains(job) => {
                let known = if jobs.is_empty() { "none".to_owned() } else { jobs.join(", ") };
                Err(Error::new(
                    Kind::Missing,
                    format!("no job {job:?} has checkpoints at {}; there are: {known}", self.url),
                ))
            }
            Some(job) => Ok((store, vec![job.clone()])),
            None if jobs.is_empty() => Err(missing(&self.url)),
            None => Ok((store, jobs)),
        }
    }
}

fn missing(url: &str) -> Error {
    Error::new(Kind::Missing, format!("there are no checkpoints at {url}: give the URL of --checkpoints"))
}

fn ls(place: &Place) -> Result<()> {
    let (store, jobs) = place.open()?;
    let mut rows = Vec::new();
    for job in jobs {
        rows.extend(list(&*store, &job)?.into_iter().map(|checkpoint| (job.clone(), checkpoint)));
    }
    if place.json {
        for (job, Checkpoint { number, contents }) in rows {
            let mut row = json!({"job": job, "number": number});
            match contents {
                Ok(Some(of)) => {
                    row["time"] = json!(of.time);
                    row["bytes"] = json!(of.bytes());
                    row["roots"] = json!(of.roots.len());
                }
                Ok(None) => row["time"] = Value::Null,
                Err(error) => row["damaged"] = json!(error.to_string()),
            }
            printed(&row.to_string())?;
        }
        return Ok(());
    }
    printed(&format!("{:<20} {:>8}  {:<24} {:>12} {:>12}", "JOB", "NUMBER", "TIME", "AGE", "BYTES"))?;
    for (job, Checkpoint { number, contents }) in rows {
        let said = match contents {
            Ok(Some(of)) => format!("{:<24} {:>12} {:>12}", shown(of.time), age(of.time), of.bytes()),
            Ok(None) => "a start with nothing to go on from".to_owned(),
            Err(error) => format!("DAMAGED: {error}"),
        };
        printed(&format!("{job:<20} {number:>8}  {said}"))?;
    }
    Ok(())
}

fn show(place: &Place, number: Option<u64>) -> Result<()> {
    let (store, jobs) = place.open()?;
    let [job] = &jobs[..] else {
        return Err(Error::config(format!(
            "there are several jobs: give --job with one of {}",
            jobs.join(", ")
        )));
    };
    let mut all = list(&*store, job)?;
    let found = match number {
        Some(number) => all.into_iter().find(|checkpoint| checkpoint.number == number),
        None => all.pop(),
    };
    let Some(Checkpoint { number, contents }) = found else {
        return Err(Error::new(
            Kind::Missing,
            format!("job {job:?} has no such checkpoint: see nekton checkpoint ls"),
        ));
    };
    let contents = contents?;
    if place.json {
        return printed(&json!({"job": job, "number": number, "contents": contents}).to_string());
    }
    let Some(of) = contents else {
        return printed(&format!("checkpoint {number} of {job}: a start with nothing to go on from"));
    };
    printed(&format!("checkpoint {number} of {job}, all before {} ({})", shown(of.time), of.time))?;
    let Contents { roots, positions, sinks, .. } = &of;
    for root in roots {
        let bytes: u64 = root.objects.iter().map(|object| object.bytes).sum();
        let segments: usize = root.objects.iter().map(|object| object.segments).sum();
        printed(&format!("  root {}: {segments} segments, {bytes} bytes", root.name))?;
        for object in &root.objects {
            printed(&format!("    {} ({} segments, {} bytes)", object.name, object.segments, object.bytes))?;
        }
    }
    for read in positions {
        printed(&format!("  read {} partition {}: up to {}", read.topic, read.partition, read.position))?;
    }
    sinks.iter().try_for_each(|sink| printed(&format!("  writes {sink}")))
}

fn verified(place: &Place) -> Result<()> {
    let (store, jobs) = place.open()?;
    let mut damaged = 0;
    for job in jobs {
        let of = verify(&*store, &job)?;
        damaged += of.damaged.len();
        if place.json {
            printed(
                &json!({"job": job, "objects": of.objects, "agents": of.agents, "damaged": of.damaged})
                    .to_string(),
            )?;
            continue;
        }
        printed(&format!("{job}: {} objects with {} agents are whole", of.objects, of.agents))?;
        of.damaged.iter().try_for_each(|what| printed(&format!("  DAMAGED: {what}")))?;
    }
    match damaged {
        0 => Ok(()),
        1 => Err(Error::new(Kind::Lost, "one object is damaged")),
        several => Err(Error::new(Kind::Lost, format!("{several} objects are damaged"))),
    }
}

/// Prints a line. That nobody reads it any more is no error of the checkpoints.
fn printed(line: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("standard output", &error))
        }
        _ => Ok(()),
    }
}

fn shown(time: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(time)).to_string()
}

fn age(time: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let age = now.saturating_sub(Duration::from_millis(time));
    // Small units say nothing of an old one.
    let age = if age.as_secs() < 60 {
        Duration::from_millis(age.as_millis() as u64)
    } else {
        Duration::from_secs(age.as_secs())
    };
    humantime::format_duration(age).to_string()
}
