//! NEXMark: an auction house's events, and 23 queries about them. Try it:
//!
//! ```text
//! cargo run --release --example nexmark -- --publish 1000000 --query q4 --until-end
//! cargo run --release --example nexmark -- --query q9 --until-end   # another query on the same topic
//! ```
//!
//! `docs/nexmark.md` says what the queries are, and how they are checked.

mod generate;
mod queries;

use clap::{Parser, ValueEnum};
use nekton::agents::Key;
use nekton::prelude::*;
use nekton::{Publisher, Result};

use crate::queries::{Event, Outlet, Query, Rows};

/// How many partitions the topic of events gets where it does not exist yet.
const PARTITIONS: u32 = 4;

/// How many events happen in a second.
const RATE: usize = 10_000;

/// Runs a query of NEXMark on the topic `nexmark`, to a topic with the query's name
#[derive(Parser)]
#[command(name = "nexmark", version)]
struct Options {
    /// Which query; none only publishes
    #[arg(long, value_enum, help_heading = "NEXMark")]
    query: Option<Query>,
    /// Generate so many events and publish them first
    #[arg(long, value_name = "N", help_heading = "NEXMark")]
    publish: Option<usize>,
    #[command(flatten)]
    runner: Runner,
}

fn main() {
    if let Err(error) = nekton::parse::<Options>().and_then(run) {
        nekton::say(format_args!("nexmark: {error}"));
        std::process::exit(1);
    }
}

fn run(options: Options) -> Result<()> {
    let Options { query, publish, runner } = options;
    if let Some(count) = publish.filter(|_| runner.process().0 == 0) {
        let mut publisher = Publisher::open(&runner, "nexmark", PARTITIONS)?;
        for event in generate::events(0..count, RATE, 1) {
            // What belongs together stays in order: a person's registration, an auction and its bids.
            let id = match &event {
                Event::Person(person) => person.id,
                Event::Auction(auction) => auction.id,
                Event::Bid(bid) => bid.auction,
            };
            publisher.publish(&id, &event)?;
        }
        publisher.close()?;
    }
    let Some(query) = query else { return Ok(()) };
    let name = query.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    runner.run(&format!("nexmark-{name}"), move |flow| {
        let events = flow.events::<Event>("nexmark");
        queries::build(query, flow, PARTITIONS, &events, &mut Topic(&name));
    })?;
    Ok(())
}

/// Rows go to a topic of this name.
struct Topic<'a>(&'a str);

impl<'s> Outlet<'s> for Topic<'_> {
    fn events<R: Key>(&mut self, flow: &mut Flow<'s>, rows: &Events<'s, R>) {
        flow.sink(self.0, rows);
    }
    fn partitioned<R: Key, K: Key>(
        &mut self,
        flow: &mut Flow<'s>,
        rows: &Events<'s, R>,
        key: impl Fn(&R) -> K + 'static,
    ) {
        flow.sink(self.0, keyed(rows, key));
    }
    fn collection<R: Key>(&mut self, flow: &mut Flow<'s>, rows: &Rows<'s, R>) {
        flow.sink(self.0, diffs(rows));
    }
}
