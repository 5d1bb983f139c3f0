//! The queries of NEXMark once more, each as a plain pass over all that is known, without any regard to cost.

use std::collections::{BTreeMap, BTreeSet};

use nekton::Time;
use serde::Serialize;

use super::queries::bids::{channel_id, in_euros};
use super::queries::calendar::{DAY, clock, day, hour};
use super::queries::statistics::{Counts, Statistics, rank};
use super::queries::tables::{SIDE_ROWS, side_value};
use super::queries::windows::{BEHIND, HOP, KEEP, LATE, SIZE, STEP};
use super::queries::{Auction, Bid, Event, Person, Query};

/// An event, and when and where it came.
#[derive(Clone, Debug)]
pub struct Came {
    pub time: Time,
    pub partition: u32,
    pub event: Event,
}

impl Came {
    /// When it happened.
    fn at(&self) -> Time {
        match &self.event {
            Event::Person(person) => person.date_time,
            Event::Auction(auction) => auction.date_time,
            Event::Bid(bid) => bid.date_time,
        }
    }
}

/// How often each row is there.
pub type Bag = BTreeMap<String, isize>;

/// All that has come until some time.
pub struct Known<'a> {
    came: Vec<&'a Came>,
    partitions: u32,
    now: Time,
}

/// Those that `which` says something of, by windows that are still there: what it says, by the start of the window.
type InWindows<T> = BTreeMap<Time, Vec<T>>;

impl<'a> Known<'a> {
    pub fn at(all: &'a [Came], partitions: u32, now: Time) -> Self {
        Known { came: all.iter().filter(|came| came.time <= now).collect(), partitions, now }
    }
    fn people(&self) -> impl Iterator<Item = &'a Person> {
        self.came.iter().filter_map(|came| match &came.event {
            Event::Person(person) => Some(person),
            _ => None,
        })
    }
    fn auctions(&self) -> impl Iterator<Item = &'a Auction> {
        self.came.iter().filter_map(|came| match &came.event {
            Event::Auction(auction) => Some(auction),
            _ => None,
        })
    }
    fn bids(&self) -> impl Iterator<Item = &'a Bid> {
        self.came.iter().filter_map(|came| bid_of(came))
    }
    /// The best bid for an auction.
    fn best(&self, auction: &Auction) -> Option<&'a Bid> {
        let of_auction = self.bids().filter(|bid| bid.auction == auction.id);
        let in_time = of_auction.filter(|bid| (auction.date_time..=auction.expires).contains(&bid.date_time));
        in_time.min_by_key(|bid| (u64::MAX - bid.price, bid.date_time, bid.bidder, &bid.extra))
    }

    /// The watermark at the end of `time`, of the events of which something is said.
    fn watermark<T>(&self, time: Time, which: impl Fn(&'a Came) -> Option<T>) -> Time {
        let of_stream: Vec<&Came> = self.came.iter().copied().filter(|came| which(came).is_some()).collect();
        let at = |time: Time| {
            let latest = |partition| {
                let of_partition =
                    of_stream.iter().filter(|came| came.partition == partition && came.time <= time);
                of_partition.map(|came| came.at()).max()
            };
            let latest: Option<Vec<Time>> = (0..self.partitions).map(latest).collect();
            latest
                .and_then(|latest| latest.into_iter().min())
                .map_or(0, |least| (least - BEHIND) / STEP * STEP)
        };
        // It never goes back, as the latest times of partitions do not.
        at(time)
    }

    /// Each with the watermark that it was judged by.
    fn judged<T>(&self, which: impl Fn(&'a Came) -> Option<T> + Copy) -> Vec<(Time, Time, T)> {
        let mut before = BTreeMap::new();
        let mut judged = Vec::new();
        for came in &self.came {
            if let Some(said) = which(came) {
                let before = *before.entry(came.time).or_insert_with(|| self.watermark(came.time - 1, which));
                judged.push((before, came.at(), said));
            }
        }
        judged
    }

    fn in_windows<T: Clone>(
        &self,
        every: Time,
        which: impl Fn(&'a Came) -> Option<T> + Copy,
    ) -> InWindows<T> {
        let now = self.watermark(self.now, which);
        let mut windows = InWindows::new();
        for (before, at, said) in self.judged(which) {
            let first = ((at - SIZE) / every + 1) * every;
            for start in (first..=at).step_by(every as usize) {
                let closes = start + SIZE + LATE;
                if at < start + SIZE && before < closes && now < closes + KEEP {
                    windows.entry(start).or_insert_with(Vec::new).push(said.clone());
                }
            }
        }
        windows
    }

    /// Bids by their group: how many, by whom, for what, and until which time.
    fn statistics<G: Ord>(&self, group: impl Fn(&Bid) -> G) -> BTreeMap<G, (Statistics, Time)> {
        let mut groups: BTreeMap<G, Vec<&Bid>> = BTreeMap::new();
        for bid in self.bids() {
            groups.entry(group(bid)).or_default().push(bid);
        }
        let different = |bids: &[&Bid], what: fn(&Bid) -> u64, of: &dyn Fn(usize) -> bool| {
            let shown = bids.iter().filter(|bid| of(rank(bid.price)));
            shown.map(|bid| what(bid)).collect::<BTreeSet<u64>>().len() as u64
        };
        let counts = |bids: &[&Bid], what: fn(&Bid) -> u64| Counts {
            total: different(bids, what, &|_| true),
            ranks: [0, 1, 2].map(|number| different(bids, what, &|rank| rank == number)),
        };
        let statistics = |bids: &[&Bid]| Statistics {
            bids: self.counts(bids),
            bidders: counts(bids, |bid| bid.bidder),
            auctions: counts(bids, |bid| bid.auction),
        };
        let last = |bids: &[&Bid]| bids.iter().map(|bid| bid.date_time).max().unwrap();
        groups.into_iter().map(|(group, bids)| (group, (statistics(&bids), last(&bids)))).collect()
    }
    fn counts(&self, bids: &[&Bid]) -> Counts {
        let of_rank = |number| bids.iter().filter(|bid| rank(bid.price) == number).count() as u64;
        Counts { total: bids.len() as u64, ranks: [0, 1, 2].map(of_rank) }
    }
}

fn bid_of(came: &Came) -> Option<&Bid> {
    match &came.event {
        Event::Bid(bid) => Some(bid),
        _ => None,
    }
}

/// The sum of whole numbers by their count, as nekton divides.
fn mean(values: &[u64]) -> f64 {
    let (sum, count) = (values.iter().sum::<u64>(), values.len() as u64);
    (sum / count) as f64 + (sum % count) as f64 / count as f64
}

/// What the rows of a query are.
pub fn expected(query: Query, known: &Known<'_>) -> Bag {
    let mut bag = Bag::new();
    let mut give = |row: &dyn erased::Row| *bag.entry(row.json()).or_default() += 1;
    match query {
        Query::Q0 => {
            for bid in known.bids() {
                give(&(bid.auction, bid.bidder, bid.price, bid.date_time, &bid.extra));
            }
        }
        Query::Q1 => {
            for bid in known.bids() {
                give(&(bid.auction, bid.bidder, in_euros(bid.price), bid.date_time, &bid.extra));
            }
        }
        Query::Q2 => {
            for bid in known.bids().filter(|bid| bid.auction % 123 == 0) {
                give(&(bid.auction, bid.price));
            }
        }
        Query::Q3 => {
            for auction in known.auctions().filter(|auction| auction.category == 10) {
                let near = |person: &&Person| ["or", "id", "ca"].contains(&&*person.state);
                for person in known.people().filter(near).filter(|person| person.id == auction.seller) {
                    give(&(&person.name, &person.city, &person.state, auction.id));
                }
            }
        }
        Query::Q4 => {
            let mut finals: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for auction in known.auctions() {
                let best = known.best(auction).map(|bid| bid.price);
                finals.entry(auction.category).or_default().extend(best);
            }
            for (category, prices) in finals.iter().filter(|(_, prices)| !prices.is_empty()) {
                give(&(category, mean(prices)));
            }
        }
        Query::Q5 => {
            for auctions in known.in_windows(HOP, |came| bid_of(came).map(|bid| bid.auction)).values() {
                let count = |auction: u64| auctions.iter().filter(|other| **other == auction).count();
                let most = auctions.iter().map(|auction| count(*auction)).max().unwrap();
                for auction in auctions.iter().collect::<BTreeSet<_>>() {
                    if count(*auction) == most {
                        give(&(auction, most));
                    }
                }
            }
        }
        Query::Q6 => {
            let mut finals: BTreeMap<u64, Vec<(Time, u64, u64)>> = BTreeMap::new();
            for auction in known.auctions() {
                let best = known.best(auction).map(|bid| (bid.date_time, auction.id, bid.price));
                finals.entry(auction.seller).or_default().extend(best);
            }
            for (seller, mut finals) in finals {
                finals.sort();
                for last in 0..finals.len() {
                    let window = &finals[last.saturating_sub(10)..=last];
                    let sum: u64 = window.iter().map(|(_, _, price)| price).sum();
                    give(&(seller, sum as f64 / window.len() as f64));
                }
            }
        }
        Query::Q7 => {
            for bids in known.in_windows(SIZE, bid_of).values() {
                let highest = bids.iter().map(|bid| bid.price).max();
                for bid in bids.iter().filter(|bid| Some(bid.price) == highest) {
                    give(&(bid.auction, bid.price, bid.bidder, bid.date_time, &bid.extra));
                }
            }
        }
        Query::Q8 => {
            let people = known.in_windows(SIZE, |came| match &came.event {
                Event::Person(person) => Some(person),
                _ => None,
            });
            let sellers = known.in_windows(SIZE, |came| match &came.event {
                Event::Auction(auction) => Some(auction.seller),
                _ => None,
            });
            for (start, people) in people {
                for person in people {
                    if sellers.get(&start).is_some_and(|sellers| sellers.contains(&person.id)) {
                        give(&(person.id, &person.name, start));
                    }
                }
            }
        }
        Query::Q9 => {
            for auction in known.auctions() {
                if let Some(bid) = known.best(auction) {
                    give(&(auction, (auction.id, bid.bidder, bid.price, bid.date_time, &bid.extra)));
                }
            }
        }
        Query::Q10 => {
            for bid in known.bids() {
                let (day, clock) = (day(bid.date_time), clock(bid.date_time));
                give(&(bid.auction, bid.bidder, bid.price, bid.date_time, &bid.extra, day, clock));
            }
        }
        Query::Q11 => {
            let bidders = |came| bid_of(came).map(|bid| bid.bidder);
            let now = known.watermark(known.now, bidders);
            let mut visits: BTreeMap<u64, Vec<Time>> = BTreeMap::new();
            for (before, at, bidder) in known.judged(bidders) {
                if before <= at + LATE {
                    visits.entry(bidder).or_default().push(at);
                }
            }
            for (bidder, mut visits) in visits {
                visits.sort();
                for session in visits.chunk_by(|one, next| next - one < SIZE) {
                    let end = session[session.len() - 1] + SIZE;
                    if now < end + LATE + KEEP {
                        give(&(bidder, session.len(), session[0], end));
                    }
                }
            }
        }
        Query::Q12 => {
            let mut windows: BTreeMap<(u64, Time), u64> = BTreeMap::new();
            for came in &known.came {
                if let Some(bid) = bid_of(came) {
                    *windows.entry((bid.bidder, came.time / SIZE * SIZE)).or_default() += 1;
                }
            }
            for ((bidder, start), count) in windows {
                if start + SIZE <= known.now {
                    give(&(bidder, count, start, start + SIZE));
                }
            }
        }
        Query::Q13 => {
            for bid in known.bids() {
                let value = side_value(bid.auction % SIDE_ROWS);
                give(&(bid.auction, bid.bidder, bid.price, bid.date_time, value));
            }
        }
        Query::Q14 => {
            for bid in known.bids() {
                let price = in_euros(bid.price);
                if price.to_units() > 1_000_000_000 && price.to_units() < 50_000_000_000 {
                    let hour = hour(bid.date_time);
                    let when = match hour {
                        _ if (8..=18).contains(&hour) => "dayTime",
                        _ if hour <= 6 || hour >= 20 => "nightTime",
                        _ => "otherTime",
                    };
                    let count = bid.extra.matches('c').count();
                    give(&(bid.auction, bid.bidder, price, when, bid.date_time, &bid.extra, count));
                }
            }
        }
        Query::Q15 => {
            for (number, (statistics, _)) in known.statistics(|bid| bid.date_time / DAY) {
                give(&(day(number * DAY), statistics));
            }
        }
        Query::Q16 => {
            for ((channel, day), (statistics, last)) in
                known.statistics(|bid| (bid.channel.clone(), day(bid.date_time)))
            {
                give(&(channel, day, clock(last), statistics));
            }
        }
        Query::Q17 => {
            let mut auctions: BTreeMap<(u64, String), Vec<&Bid>> = BTreeMap::new();
            for bid in known.bids() {
                auctions.entry((bid.auction, day(bid.date_time))).or_default().push(bid);
            }
            for ((auction, day), bids) in auctions {
                let prices: Vec<u64> = bids.iter().map(|bid| bid.price).collect();
                let (least, most) = (prices.iter().min().unwrap(), prices.iter().max().unwrap());
                let sum: u64 = prices.iter().sum();
                let average = sum as f64 / prices.len() as f64;
                give(&(auction, day, known.counts(&bids), least, most, average, sum));
            }
        }
        Query::Q18 => {
            let mut last: BTreeMap<(u64, u64), &Bid> = BTreeMap::new();
            for bid in known.bids() {
                let of_key = last.entry((bid.bidder, bid.auction)).or_insert(bid);
                if (of_key.date_time, *of_key) < (bid.date_time, bid) {
                    *of_key = bid;
                }
            }
            last.values().for_each(|bid| give(bid));
        }
        Query::Q19 => {
            let mut auctions: BTreeMap<u64, Vec<&Bid>> = BTreeMap::new();
            for bid in known.bids() {
                auctions.entry(bid.auction).or_default().push(bid);
            }
            for bids in auctions.values_mut() {
                bids.sort_by_key(|bid| (u64::MAX - bid.price, std::cmp::Reverse(*bid)));
                for (number, bid) in (1..).zip(bids.iter().take(10)) {
                    give(&(bid, number));
                }
            }
        }
        Query::Q20 => {
            for auction in known.auctions().filter(|auction| auction.category == 10) {
                for bid in known.bids().filter(|bid| bid.auction == auction.id) {
                    give(&(bid, auction));
                }
            }
        }
        Query::Q21 => {
            for bid in known.bids() {
                if let Some(id) = channel_id(&bid.channel, &bid.url) {
                    give(&(bid.auction, bid.bidder, bid.price, &bid.channel, id));
                }
            }
        }
        Query::Q22 => {
            for bid in known.bids() {
                let parts: Vec<&str> = bid.url.split('/').collect();
                let part = |number: usize| parts.get(number);
                give(&(bid.auction, bid.bidder, bid.price, &bid.channel, part(3), part(4), part(5)));
            }
        }
    }
    bag
}

/// A row as it is written.
pub fn json(row: &impl Serialize) -> String {
    serde_json::to_string(row).unwrap()
}

/// Rows of any type.
mod erased {
    pub trait Row {
        fn json(&self) -> String;
    }
    impl<T: serde::Serialize> Row for T {
        fn json(&self) -> String {
            super::json(self)
        }
    }
}
