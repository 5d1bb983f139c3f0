//! What people write about: the most used terms of each five minutes, every minute, and those that rise; corrected when posts come
//! late. Try it:
//!
//! ```text
//! cargo run --release --example trends
//! ```
//!
//! `docs/trends.md` says what the lists are of, and what happens to posts that come late.

#[path = "../common/beside.rs"]
mod beside;
mod job;
mod posts;
#[path = "../common/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use clap::Parser;
use nekton::{Error, Publisher, Result, Runner, Time, say};

use crate::beside::{publish_all, run_beside, run_number};
use crate::job::{LATE, PARTITIONS, Rising, Shown, WINDOW};
use crate::posts::{BEGIN, MINUTE, Posts};

/// Counts what people write about, in windows that slide, and finds what rises
#[derive(Parser)]
#[command(name = "trends", version)]
struct Options {
    /// So many minutes of posts
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Posts")]
    minutes: u32,
    /// Posts a minute
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Posts")]
    posts: u32,
    /// Of a thousand posts, so many come when all their windows have closed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(..=50), help_heading = "Posts")]
    too_late: u64,
    /// Posts a second that are published; 0 for as fast as it can
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Posts")]
    rate: u64,
    /// The same number makes up the same posts
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Posts")]
    seed: u64,
    #[command(flatten)]
    runner: Runner,
}

fn main() {
    if let Err(error) = nekton::parse::<Options>().and_then(run) {
        say(format_args!("trends: {error}"));
        std::process::exit(error.exit_code());
    }
}

/// What was said of terms that rise.
#[derive(Default)]
struct Told {
    /// How many lists.
    lists: u64,
    /// By term: the first window in which it rises, and what was said last of that.
    first: BTreeMap<String, (Time, Rising)>,
}

impl Told {
    fn hear(&mut self, window: Time, list: &[Rising]) {
        self.lists += 1;
        for rising in list {
            let first = self.first.entry(rising.term.clone()).or_insert_with(|| (window, rising.clone()));
            if window <= first.0 {
                *first = (window, rising.clone());
            }
        }
    }
}

fn run(options: Options) -> Result<()> {
    let Options { minutes, posts, too_late, rate, seed, runner } = options;
    if runner.process().1 > 1 {
        return Err(Error::config(
            "the posts are made up and looked at by one process: leave --processes out",
        ));
    }
    let run = run_number();
    let made_up = Posts { minutes, a_minute: posts, too_late, seed };
    let posts = made_up.posts(run, LATE, WINDOW);
    let publisher = Publisher::open(&runner, "posts", PARTITIONS)?;

    let told: Arc<Mutex<Told>> = Arc::default();
    let shown: Arc<OnceLock<Shown>> = Arc::default();
    let (topics, begun) = (runner.topics_url().to_owned(), Instant::now());
    let publish = |over: &AtomicBool| publish_all(&posts, |post| post.author, rate, publisher, over);
    let (telling, built) = (told.clone(), shown.clone());
    run_beside(runner, "trends", publish, move |flow| {
        let told = telling.clone();
        let hear = move |window, list: &[Rising]| {
            told.lock().unwrap_or_else(PoisonError::into_inner).hear(window, list);
        };
        // The workers of a process build the same views.
        let _ = built.set(job::build(flow, run, hear));
    })?;
    println!("{} posts of {minutes} minutes in {:.1} s", posts.len(), begun.elapsed().as_secs_f64());
    shown.get().map_or(Ok(()), print)?;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    println!("What happened, and the first window in which it rises:");
    for burst in made_up.bursts() {
        let from = clock(BEGIN + burst.from as Time * MINUTE);
        match told.first.get(burst.tag) {
            None => println!("  {:<12}from {from}  was not found", burst.tag),
            Some((window, Rising { by, times, .. })) => println!(
                "  {:<12}from {from}  {} to {}: {times} posts, {by} times as many as before",
                burst.tag,
                clock(*window),
                clock(window + WINDOW)
            ),
        }
    }
    let tags: Vec<&str> = made_up.bursts().iter().map(|burst| burst.tag).collect();
    let others = told.first.keys().filter(|term| !tags.contains(&term.as_str())).count();
    println!(
        "Besides, {others} terms were said to rise. Topics at {topics}: top, rising, posts-in-window, read (upsert), posts-too-late"
    );
    Ok(())
}

/// Hours and minutes.
fn clock(at: Time) -> String {
    let minutes = at / MINUTE % 1_440;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The lists of three windows.
fn print(shown: &Shown) -> Result<()> {
    let top = shown.top.snapshot()?.records;
    // Of the last ones that are whole.
    let whole = top.iter().rev().skip((WINDOW / MINUTE) as usize - 1);
    for ((window, list), _) in whole.step_by((WINDOW / MINUTE) as usize).take(3) {
        let list: Vec<String> = list.iter().map(|used| format!("{} {}", used.term, used.times)).collect();
        println!("{} to {}  {}", clock(*window), clock(window + WINDOW), list.join(", "));
    }
    Ok(())
}
