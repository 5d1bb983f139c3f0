//! The loops: what each query takes without an engine. They hold references to the events, which they need not free.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use nekton::Time;
use nekton::hash::FixedState;
use nekton::operators::OrderedFloat;

use super::digest;
use super::queries::bids::{channel_id, in_euros};
use super::queries::calendar::{DAY, clock, day, hour};
use super::queries::statistics::{Counts, Statistics, rank};
use super::queries::tables::{SIDE_ROWS, side_value};
use super::queries::windows::{BEHIND, HOP, KEEP, LATE, SIZE, STEP};
use super::queries::{Auction, Bid, Event, Query};

type Map<K, V> = HashMap<K, V, FixedState>;
type Set<K> = HashSet<K, FixedState>;

/// The sum of the digests of all rows.
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn give<R: Hash>(&mut self, row: R) {
        self.0 = self.0.wrapping_add(digest(&row));
    }
}

fn bids(events: &[Event]) -> impl Iterator<Item = &Bid> {
    events.iter().filter_map(|event| match event {
        Event::Bid(bid) => Some(bid),
        _ => None,
    })
}

/// Answers a query; returns the digest of its rows.
pub fn run(query: Query, events: &[Event]) -> u64 {
    let mut sum = Sum::default();
    match query {
        Query::Q0 => bids(events)
            .for_each(|bid| sum.give((bid.auction, bid.bidder, bid.price, bid.date_time, &bid.extra))),
        Query::Q1 => bids(events).for_each(|bid| {
            sum.give((bid.auction, bid.bidder, in_euros(bid.price), bid.date_time, &bid.extra))
        }),
        Query::Q2 => bids(events)
            .filter(|bid| bid.auction % 123 == 0)
            .for_each(|bid| sum.give((bid.auction, bid.price))),
        Query::Q3 => q3(events, &mut sum),
        Query::Q4 => q4(events, &mut sum),
        Query::Q5 => q5(events, &mut sum),
        Query::Q6 => q6(events, &mut sum),
        Query::Q7 => q7(events, &mut sum),
        Query::Q8 => q8(events, &mut sum),
        Query::Q9 => lots(events).values().for_each(|lot| {
            if let (Some(auction), Some(bid)) = (lot.auction, lot.best) {
                sum.give((auction, (auction.id, bid.bidder, bid.price, bid.date_time, &bid.extra)));
            }
        }),
        Query::Q10 => bids(events).for_each(|bid| {
            let (day, clock) = (day(bid.date_time), clock(bid.date_time));
            sum.give((bid.auction, bid.bidder, bid.price, bid.date_time, &bid.extra, day, clock));
        }),
        Query::Q11 => q11(events, &mut sum),
        Query::Q12 => {
            let mut counts: Map<u64, u64> = Map::default();
            bids(events).for_each(|bid| *counts.entry(bid.bidder).or_default() += 1);
            counts.iter().for_each(|count| sum.give(count));
        }
        Query::Q13 => {
            let side: Map<u64, String> = (0..SIDE_ROWS).map(|key| (key, side_value(key))).collect();
            bids(events).for_each(|bid| {
                let value = &side[&(bid.auction % SIDE_ROWS)];
                sum.give((bid.auction, bid.bidder, bid.price, bid.date_time, value));
            });
        }
        Query::Q14 => q14(events, &mut sum),
        Query::Q15 => statistics(events, |bid| bid.date_time / DAY)
            .into_iter()
            .for_each(|(number, statistics)| sum.give((day(number * DAY), statistics.shown()))),
        Query::Q16 => statistics(events, |bid| (&bid.channel, bid.date_time / DAY)).into_iter().for_each(
            |((channel, number), statistics)| {
                sum.give((channel, day(number * DAY), clock(statistics.last), statistics.shown()));
            },
        ),
        Query::Q17 => q17(events, &mut sum),
        Query::Q18 => {
            let mut last: Map<(u64, u64), &Bid> = Map::default();
            for bid in bids(events) {
                let known = last.entry((bid.bidder, bid.auction)).or_insert(bid);
                if (known.date_time, *known) < (bid.date_time, bid) {
                    *known = bid;
                }
            }
            last.values().for_each(|bid| sum.give(bid));
        }
        Query::Q19 => q19(events, &mut sum),
        Query::Q20 => q20(events, &mut sum),
        Query::Q21 => bids(events).for_each(|bid| {
            if let Some(id) = channel_id(&bid.channel, &bid.url) {
                sum.give((bid.auction, bid.bidder, bid.price, &bid.channel, id));
            }
        }),
        Query::Q22 => bids(events).for_each(|bid| {
            let mut folders = bid.url.split('/').skip(3);
            let (first, second, third) = (folders.next(), folders.next(), folders.next());
            sum.give((bid.auction, bid.bidder, bid.price, &bid.channel, first, second, third));
        }),
    }
    sum.0
}

fn q3(events: &[Event], sum: &mut Sum) {
    let mut people = Map::default();
    let mut waiting: Map<u64, Vec<u64>> = Map::default();
    for event in events {
        match event {
            Event::Person(person) if matches!(&*person.state, "or" | "id" | "ca") => {
                people.insert(person.id, person);
                for auction in waiting.remove(&person.id).into_iter().flatten() {
                    sum.give((&person.name, &person.city, &person.state, auction));
                }
            }
            Event::Auction(auction) if auction.category == 10 => match people.get(&auction.seller) {
                Some(person) => sum.give((&person.name, &person.city, &person.state, auction.id)),
                None => waiting.entry(auction.seller).or_default().push(auction.id),
            },
            _ => {}
        }
    }
}

/// An auction, its best bid, and bids that came before it.
#[derive(Default)]
struct Lot<'a> {
    auction: Option<&'a Auction>,
    best: Option<&'a Bid>,
    early: Vec<&'a Bid>,
}

impl<'a> Lot<'a> {
    fn bid(&mut self, bid: &'a Bid) {
        let order = |bid: &'a Bid| (bid.price, u64::MAX - bid.date_time);
        match self.auction {
            None => self.early.push(bid),
            Some(auction) if (auction.date_time..=auction.expires).contains(&bid.date_time) => {
                let ties = |best: &'a Bid| (bid.bidder, &bid.extra) < (best.bidder, &best.extra);
                if self
                    .best
                    .is_none_or(|best| order(best) < order(bid) || (order(best) == order(bid) && ties(best)))
                {
                    self.best = Some(bid);
                }
            }
            Some(_) => {}
        }
    }
}

fn lots(events: &[Event]) -> Map<u64, Lot<'_>> {
    let mut lots: Map<u64, Lot<'_>> = Map::default();
    for event in events {
        match event {
            Event::Person(_) => {}
            Event::Auction(auction) => {
                let lot = lots.entry(auction.id).or_default();
                lot.auction = Some(auction);
                for bid in std::mem::take(&mut lot.early) {
                    lot.bid(bid);
                }
            }
            Event::Bid(bid) => lots.entry(bid.auction).or_default().bid(bid),
        }
    }
    lots
}

fn q4(events: &[Event], sum: &mut Sum) {
    let mut categories: Map<u64, (u64, u64)> = Map::default();
    for lot in lots(events).values() {
        if let (Some(auction), Some(bid)) = (lot.auction, lot.best) {
            let prices = categories.entry(auction.category).or_default();
            *prices = (prices.0 + bid.price, prices.1 + 1);
        }
    }
    for (category, (prices, count)) in categories {
        let mean = (prices / count) as f64 + (prices % count) as f64 / count as f64;
        sum.give((category, OrderedFloat(mean)));
    }
}

fn q6(events: &[Event], sum: &mut Sum) {
    let mut sellers: Map<u64, Vec<(Time, u64, u64)>> = Map::default();
    for lot in lots(events).values() {
        if let (Some(auction), Some(bid)) = (lot.auction, lot.best) {
            sellers.entry(auction.seller).or_default().push((bid.date_time, auction.id, bid.price));
        }
    }
    for (seller, mut prices) in sellers {
        prices.sort_unstable();
        for last in 0..prices.len() {
            let window = &prices[last.saturating_sub(10)..=last];
            let total: u64 = window.iter().map(|(_, _, price)| price).sum();
            sum.give((seller, OrderedFloat(total as f64 / window.len() as f64)));
        }
    }
}

/// The watermark of events in order.
fn watermark(latest: Time) -> Time {
    (latest - BEHIND) / STEP * STEP
}

/// Whether the result of a window that ends then has left.
fn left(end: Time, watermark: Time) -> bool {
    end + LATE + KEEP <= watermark
}

/// Windows by their start, of which those leave that are over.
struct Windows<S> {
    windows: BTreeMap<Time, S>,
    watermark: Time,
}

impl<S: Default> Windows<S> {
    fn new() -> Self {
        Windows { windows: BTreeMap::new(), watermark: 0 }
    }
    fn at(&mut self, time: Time, size: Time) -> &mut S {
        let watermark = watermark(time);
        if watermark > self.watermark {
            self.watermark = watermark;
            while self.windows.first_key_value().is_some_and(|(start, _)| left(start + SIZE, watermark)) {
                self.windows.pop_first();
            }
        }
        self.windows.entry(time - time % size).or_default()
    }
}

/// Counts by pieces of windows, which are put together at the end.
fn q5(events: &[Event], sum: &mut Sum) {
    let mut pieces: Windows<Map<u64, u64>> = Windows::new();
    let mut latest = 0;
    for bid in bids(events) {
        *pieces.at(bid.date_time, HOP).entry(bid.auction).or_default() += 1;
        latest = bid.date_time;
    }
    let watermark = watermark(latest);
    let Some(first) = pieces.windows.keys().next().copied() else { return };
    for start in ((first - (SIZE - HOP))..=latest).step_by(HOP as usize) {
        if left(start + SIZE, watermark) {
            continue;
        }
        let mut counts: Map<u64, u64> = Map::default();
        for (_, piece) in pieces.windows.range(start..start + SIZE) {
            piece.iter().for_each(|(auction, count)| *counts.entry(*auction).or_default() += count);
        }
        let most = counts.values().max().copied();
        counts.iter().filter(|(_, count)| Some(**count) == most).for_each(|row| sum.give(row));
    }
}

fn q7(events: &[Event], sum: &mut Sum) {
    let mut windows: Windows<Vec<&Bid>> = Windows::new();
    for bid in bids(events) {
        let highest = windows.at(bid.date_time, SIZE);
        match highest.first().map_or(0, |highest| highest.price) {
            price if price < bid.price => *highest = vec![bid],
            price if price == bid.price => highest.push(bid),
            _ => {}
        }
    }
    for bid in windows.windows.values().flatten() {
        sum.give((bid.auction, bid.price, bid.bidder, bid.date_time, &bid.extra));
    }
}

fn q8(events: &[Event], sum: &mut Sum) {
    let mut people: Windows<Map<u64, &str>> = Windows::new();
    let mut sellers: Windows<Set<u64>> = Windows::new();
    for event in events {
        match event {
            Event::Person(person) => {
                people.at(person.date_time, SIZE).insert(person.id, &person.name);
            }
            Event::Auction(auction) => {
                sellers.at(auction.date_time, SIZE).insert(auction.seller);
            }
            Event::Bid(_) => {}
        }
    }
    for (start, people) in &people.windows {
        let Some(sellers) = sellers.windows.get(start) else { continue };
        people
            .iter()
            .filter(|(id, _)| sellers.contains(id))
            .for_each(|(id, name)| sum.give((id, name, start)));
    }
}

fn q11(events: &[Event], sum: &mut Sum) {
    // The open session of each bidder, and those that are over, by their ends.
    let mut open: Map<u64, (Time, Time, u64)> = Map::default();
    let mut over: BTreeMap<Time, Vec<(u64, u64, Time)>> = BTreeMap::new();
    let mut latest = 0;
    for bid in bids(events) {
        let session = open.entry(bid.bidder).or_insert((bid.date_time, bid.date_time, 0));
        if bid.date_time - session.1 >= SIZE {
            over.entry(session.1 + SIZE).or_default().push((bid.bidder, session.2, session.0));
            *session = (bid.date_time, bid.date_time, 0);
        }
        *session = (session.0, bid.date_time, session.2 + 1);
        if watermark(bid.date_time) > watermark(latest.max(BEHIND)) {
            while over.first_key_value().is_some_and(|(end, _)| left(*end, watermark(bid.date_time))) {
                over.pop_first();
            }
        }
        latest = bid.date_time;
    }
    for (bidder, (start, last, count)) in open {
        over.entry(last + SIZE).or_default().push((bidder, count, start));
    }
    for (end, sessions) in over.iter().filter(|(end, _)| !left(**end, watermark(latest))) {
        sessions.iter().for_each(|(bidder, count, start)| sum.give((bidder, count, start, end)));
    }
}

fn q14(events: &[Event], sum: &mut Sum) {
    for bid in bids(events) {
        let price = in_euros(bid.price);
        if price.to_units() > 1_000_000_000 && price.to_units() < 50_000_000_000 {
            let when = match hour(bid.date_time) {
                8..=18 => "dayTime",
                ..=6 | 20.. => "nightTime",
                _ => "otherTime",
            };
            let count = bid.extra.bytes().filter(|byte| *byte == b'c').count() as u64;
            sum.give((bid.auction, bid.bidder, price, when, bid.date_time, &bid.extra, count));
        }
    }
}

/// What is known of a group of bids; who bid and for what, with the ranks as bits.
#[derive(Default)]
struct Group {
    bids: Counts,
    bidders: Map<u64, u8>,
    auctions: Map<u64, u8>,
    last: Time,
}

impl Group {
    fn shown(&self) -> Statistics {
        let counts = |ranks: &Map<u64, u8>| Counts {
            total: ranks.len() as u64,
            ranks: [1, 2, 4].map(|bit| ranks.values().filter(|ranks| **ranks & bit != 0).count() as u64),
        };
        Statistics { bids: self.bids, bidders: counts(&self.bidders), auctions: counts(&self.auctions) }
    }
}

fn statistics<'a, G: Hash + Eq>(events: &'a [Event], group: impl Fn(&'a Bid) -> G) -> Map<G, Group> {
    let mut groups: Map<G, Group> = Map::default();
    for bid in bids(events) {
        let group = groups.entry(group(bid)).or_default();
        let rank = rank(bid.price);
        group.bids.total += 1;
        group.bids.ranks[rank] += 1;
        *group.bidders.entry(bid.bidder).or_default() |= 1 << rank;
        *group.auctions.entry(bid.auction).or_default() |= 1 << rank;
        group.last = group.last.max(bid.date_time);
    }
    groups
}

fn q17(events: &[Event], sum: &mut Sum) {
    let mut auctions: Map<(u64, u64), (Counts, u64, u64, u64)> = Map::default();
    for bid in bids(events) {
        let (counts, least, most, total) =
            auctions.entry((bid.auction, bid.date_time / DAY)).or_insert((Counts::default(), u64::MAX, 0, 0));
        counts.total += 1;
        counts.ranks[rank(bid.price)] += 1;
        *least = bid.price.min(*least);
        *most = bid.price.max(*most);
        *total += bid.price;
    }
    for ((auction, number), (counts, least, most, total)) in auctions {
        let average = OrderedFloat(total as f64 / counts.total as f64);
        sum.give((auction, day(number * DAY), counts, least, most, average, total));
    }
}

fn q19(events: &[Event], sum: &mut Sum) {
    let mut auctions: Map<u64, Vec<&Bid>> = Map::default();
    for bid in bids(events) {
        let top = auctions.entry(bid.auction).or_default();
        let place = top.partition_point(|other| (other.price, *other) > (bid.price, bid));
        if place < 10 {
            top.truncate(9);
            top.insert(place, bid);
        }
    }
    for top in auctions.values() {
        top.iter().zip(1_u64..).for_each(|row| sum.give(row));
    }
}

fn q20(events: &[Event], sum: &mut Sum) {
    let mut auctions: Map<u64, &Auction> = Map::default();
    let mut early: Map<u64, Vec<&Bid>> = Map::default();
    for event in events {
        match event {
            Event::Person(_) => {}
            Event::Auction(auction) => {
                auctions.insert(auction.id, auction);
                for bid in early.remove(&auction.id).into_iter().flatten().filter(|_| auction.category == 10)
                {
                    sum.give((bid, auction));
                }
            }
            Event::Bid(bid) => match auctions.get(&bid.auction) {
                Some(auction) if auction.category == 10 => sum.give((bid, auction)),
                Some(_) => {}
                None => early.entry(bid.auction).or_default().push(bid),
            },
        }
    }
}
