//! The size of checkpoints: of all agents, and of one that follows after some have changed. Agents have a u64 key and
//! 8 bytes of state. Which agents change is drawn at random, or taken from as few of the 1,024 segments as can be: a
//! checkpoint holds each segment whole in which anything has changed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nekton::hash::{Segment, fixed_hash};
use nekton::{JobConfig, engine::run as run_job};
use nekton_connectors::file::open_store;

use crate::again::{Again, Input, Sample};
use crate::durability::{checkpoints_in, red_lamps};
use crate::random::Random;
use crate::report::Report;
use crate::w1;

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Agents.
    #[arg(long, default_value_t = 1_000_000)]
    agents: u64,
    /// Percent of the agents that change between two checkpoints.
    #[arg(long, value_delimiter = ',', default_value = "0.01,0.1,1,10,100")]
    changed: Vec<f64>,
}

/// The parts that are there now: their names, and how many bytes each has.
pub fn parts(folder: &Path, job: &str) -> Vec<(String, u64)> {
    let names = open_store(&folder.join("checkpoints")).list(&format!("{job}/parts/"));
    let size = |name: String| {
        let path = folder.join("checkpoints").join(&name);
        let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
        (name, size)
    };
    names.expect("the folder can be read").into_iter().map(size).collect()
}

/// Runs the job over all samples behind its last checkpoint; the bytes of the one that it ends with.
fn run_on(samples: &Arc<Vec<Sample>>, folder: &Path) -> u64 {
    let before = parts(folder, "sizes");
    let of = samples.clone();
    let input = Input { count: samples.len(), at: Arc::new(move |number| of[number]) };
    let checkpoints = Some(checkpoints_in(folder, Duration::from_secs(3_600)));
    let config = JobConfig { checkpoints, ..w1::config("sizes", 1) };
    run_job(config, Arc::new(Again::new(vec![input], folder.to_owned())), red_lamps).expect("the job runs");
    let new = parts(folder, "sizes").into_iter().filter(|part| !before.contains(part));
    new.map(|(_, bytes)| bytes).sum()
}

/// Runs the measurement.
pub fn run(options: &Options) -> Report {
    let mut report = Report::new("checkpoints");
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut random = Random(5);
    let mut scattered: Vec<u64> = (0..options.agents).collect();
    for at in (1..scattered.len()).rev() {
        scattered.swap(at, (random.next() % (at as u64 + 1)) as usize);
    }
    let mut together = scattered.clone();
    together.sort_by_key(|agent| Segment::of(fixed_hash(agent)).index());

    let mut samples: Vec<Sample> = (0..options.agents).map(|agent| (agent, (agent % 100) as u32)).collect();
    let all = run_on(&Arc::new(samples.clone()), folder.path()) as f64;
    let plain = options.agents as f64 * 16.0;
    report.figure("all agents", all / 1e6, "MB");
    report.figure("all agents, each", all / options.agents as f64, "bytes");
    report.figure("all agents / plain keys and states", all / plain, "");
    for &percent in &options.changed {
        let count = (options.agents as f64 * percent / 100.0) as usize;
        for (name, agents) in [("anywhere", &scattered), ("in few segments", &together)] {
            let value = (random.next() % 100) as u32;
            samples.extend(agents[..count].iter().map(|&agent| (agent, value)));
            let written = run_on(&Arc::new(samples.clone()), folder.path()) as f64;
            report.figure(format!("{percent} % changed {name}"), written / 1e6, "MB");
            report.figure(format!("{percent} % changed {name}, of all"), written / all * 100.0, "%");
            report.figure(
                format!("{percent} % changed {name}, a change"),
                written / count.max(1) as f64,
                "bytes",
            );
        }
    }
    report
}
