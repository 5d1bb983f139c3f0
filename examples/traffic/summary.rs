//! What there is to say at the end.

use std::time::Duration;

use nekton::Result;

use crate::events::BEGIN;
use crate::job::Shown;
use crate::models::{What, Who};

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Prints how good each model was, and the corridors that are longest.
pub fn print(shown: &Shown, intersections: u32, workers: usize, elapsed: Duration) -> Result<()> {
    let progress = shown.progress.snapshot()?.records;
    let (at, events) = progress.first().map_or((BEGIN, 0), |((_, of), _)| (of.at, of.events));
    let (minutes, seconds) = ((at + 1_000 - BEGIN) / 60_000, elapsed.as_secs_f64());
    println!(
        "{events} events of {intersections} intersections in {minutes} minute{}: {seconds:.1} s on {workers} worker{} ({:.0} a second)",
        plural(minutes),
        plural(workers as u64),
        events as f64 / seconds
    );

    let scores = shown.scores.snapshot()?.records;
    println!("\n{:<34}{:>12}{:>14}{:>10}{:>10}", "", "predictions", "mean error", "bias", "of late");
    let of = [
        (What::Green, Who::Alone, "green ends (s)   the intersection"),
        (What::Green, Who::Mean, "                 its mean so far"),
        (What::Green, Who::Last, "                 as the last time"),
        (What::Queue, Who::Neighbours, "queue (cars)     with neighbours"),
        (What::Queue, Who::Alone, "in half a minute the leg alone"),
        (What::Queue, Who::Mean, "                 its mean so far"),
        (What::Queue, Who::Last, "                 as it is"),
    ];
    for (what, who, name) in of {
        let Some(((_, score), _)) = scores.iter().find(|((of, _), _)| *of == (what, who)) else { continue };
        println!(
            "{name:<34}{:>12}{:>14.2}{:>+10.2}{:>10.2}",
            score.count, score.mean_absolute, score.bias, score.recent
        );
    }

    let mut corridors = shown.corridors.snapshot()?.records;
    corridors.sort_by_key(|((name, corridor), _)| (std::cmp::Reverse(corridor.metres), *name));
    println!("\n{} congested corridors; the longest:", corridors.len());
    for ((name, corridor), _) in corridors.iter().take(3) {
        println!("  at {name}: {} intersections, {} m", corridor.intersections, corridor.metres);
    }
    Ok(())
}
