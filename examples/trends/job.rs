//! The job: posts, the terms in them, and which are used most, or much more than before, in each window.

use nekton::prelude::*;
use nekton::timely::dataflow::operators::vec::Map;
use nekton::{Agents, Block};

use crate::posts::{MINUTE, Post};

/// How many partitions the topic of posts has.
pub const PARTITIONS: u32 = 4;
/// A window is so long, and there is a new one every minute.
pub const WINDOW: Time = 5 * MINUTE;
/// Windows stay open for posts that come so late.
pub const LATE: Time = 5 * MINUTE;
/// The watermark is so far behind the latest post of a partition.
const BEHIND: Time = MINUTE / 6;
/// Lists are shown for so long after they are final.
const SHOWN: Time = 60 * MINUTE;
/// "Before" is so long.
const HOUR: Time = 60 * MINUTE;
/// A partition that is silent for so long, of the clock, holds up nothing.
const SILENCE: Time = 60 * MINUTE;
/// So many terms are in a list.
const LISTED: usize = 10;
/// A term that rises is among so many that are used most.
const CANDIDATES: usize = 50;
/// It is used so many times as often as in the hour before.
const RISES: f64 = 2.0;

/// How far a partition was read: of which posts the lists are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Read {
    pub posts: u64,
    /// When the first of them was written.
    pub first: Time,
}

/// The posts of one partition.
#[derive(Serialize, Deserialize)]
struct Partition {
    read: Read,
}

impl Agent for Partition {
    type Key = u32;
    type Event = (u32, Read);
    type View = Read;
    type Emit = ();
    fn create(_partition: &u32) -> Self {
        Partition { read: Read { posts: 0, first: Time::MAX } }
    }
    fn on_event(&mut self, (_, more): &(u32, Read), _context: &mut Context<'_, Self>) {
        self.read.posts += more.posts;
        self.read.first = self.read.first.min(more.first);
    }
    fn view(&self) -> Option<Read> {
        Some(self.read)
    }
}

/// How often a term is used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Used {
    pub times: u64,
    pub term: String,
}

/// How much more often a term is used than in the hour before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rising {
    /// So many times as often as on the average of the hour before.
    pub by: Decimal<1>,
    pub times: u64,
    /// In the whole hour before.
    pub before: u64,
    pub term: String,
}

/// The terms of a post, each once.
fn terms(post: &Post) -> Vec<String> {
    let mut terms: Vec<String> = post.text.split_whitespace().map(str::to_lowercase).collect();
    terms.sort_unstable();
    terms.dedup();
    terms
}

/// Where the five minutes are that were over when a window began, the latest last.
fn before(window: Time) -> impl Iterator<Item = Time> {
    let until = window - window % WINDOW;
    (until.saturating_sub(HOUR)..until).step_by(WINDOW as usize)
}

/// What the program counts and shows.
pub struct Shown {
    pub top: View<(Time, Vec<Used>)>,
}

/// Builds the job. `told` hears each list of terms that rise.
pub fn build(flow: &mut Flow<'_>, run: u64, told: impl Fn(Time, &[Rising]) + 'static) -> Shown {
    let posts = flow.events::<Post>("posts").filter(move |post| post.run == run);
    let read = read(flow, &posts);
    flow.sink("read", upsert(&read.views()));

    let watermark = Watermark::behind(BEHIND).step(MINUTE).idle_after(SILENCE).partitions(PARTITIONS);
    let posts = posts.event_time(|post| post.at, watermark);
    let sliding = Windows::hopping(WINDOW, MINUTE).late(LATE).keep(SHOWN);
    let totals = posts.windows("posts", sliding, |_| ((), ()), Count);
    flow.sink("posts-in-window", upsert(&totals.results.map(|(((), window), posts)| (window.start, posts))));
    flow.sink("posts-too-late", &totals.late);

    // The most used terms of each window, whatever comes late.
    let terms = posts.flat_map(|post| terms(&post));
    let used = terms.windows("terms", sliding, |term| (term.clone(), ()), Count).results;
    let used = used.map(|((term, window), times)| (window.start, Used { times: times as u64, term }));
    let most = used.aggregate(TopK(CANDIDATES));
    let top = most.clone().map(|(window, mut list)| {
        list.truncate(LISTED);
        (window, list)
    });
    flow.sink("top", upsert(&top));

    // Those of them that are used much more than in the hour before.
    let fives = Windows::tumbling(WINDOW).late(LATE).keep(SHOWN + HOUR + 2 * WINDOW);
    let history = terms.windows("history", fives, |term| (term.clone(), ()), Count).results;
    let history = history.map(|((term, window), times)| ((term, window.start), times as u64));
    let candidates = most.flat_map(|(window, list)| list.into_iter().map(move |used| (window, used)));
    let asked = candidates.clone().flat_map(|(window, used)| {
        before(window).map(move |five| ((used.term.clone(), five), (window, used.clone())))
    });
    let known = asked.join(history).map(|(_, (candidate, times))| (candidate, times));
    let hours = candidates.map(|candidate| (candidate, 0)).concat(known).aggregate(Sum);
    let rising = hours.flat_map(|((window, Used { times, term }), before)| {
        let mean = before as f64 * WINDOW as f64 / HOUR as f64;
        let by = times as f64 / mean.max(1.0);
        let rising = Rising { by: Decimal::new(by).unwrap_or_default(), times, before, term };
        (by >= RISES).then_some((window, rising))
    });
    // Nothing is said before an hour is known.
    let first = read.map(|(_, read)| read.first).aggregate_all(Min).map(|first| ((), first));
    let rising = rising.aggregate(TopK(LISTED)).map(|listed| ((), listed)).join(first);
    let rising = rising
        .filter(|(_, ((window, _), first))| *window >= first + HOUR + WINDOW)
        .map(|(_, (listed, _))| listed);
    flow.sink("rising", upsert(&rising));
    flow.each_time(&rising, move |_time, changes| {
        changes.iter().filter(|(_, diff)| *diff > 0).for_each(|((window, list), _)| told(*window, list));
    });
    flow.view("rising", &rising);
    Shown { top: flow.view("top", &top) }
}

/// How far each partition was read.
fn read<'s>(flow: &Flow<'s>, posts: &Events<'s, Post>) -> Agents<'s, Partition> {
    let read = posts.blocks().map(|Block { order, events }| {
        let first = events.iter().map(|post| post.at).min().unwrap_or(Time::MAX);
        Block { order, events: vec![(order.partition, Read { posts: events.len() as u64, first })] }
    });
    flow.events_of(read).agents::<Partition>("read", |(partition, _)| *partition)
}
