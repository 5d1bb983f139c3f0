//! Queries that sum up days: q15, q16, q17.

use nekton::agents::Key;
use nekton::differential_dataflow::VecCollection;
use nekton::hash::fixed_hash;
use nekton::operators::{Aggregate, OrderedFloat};
use nekton::prelude::*;

use super::calendar::{DAY, day, minute};
use super::{Bid, Event, Rows};

/// 0, 1 or 2: below 100, below 10,000, and from there on.
pub fn rank(price: u64) -> usize {
    match price {
        ..10_000 => 0,
        10_000..1_000_000 => 1,
        _ => 2,
    }
}

/// Something of which there are so many in all, and of each rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Counts {
    pub total: u64,
    pub ranks: [u64; 3],
}

/// How many bids, bidders and auctions there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Statistics {
    pub bids: Counts,
    pub bidders: Counts,
    pub auctions: Counts,
}

/// In so many parts bids are counted, so that not one agent gets all of a day.
const PARTS: u64 = 16;

/// What each bid of a group is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Part {
    Bids(u8),
    Bidder(u64),
    Auction(u64),
}

/// A part of a group, with the rank and minute of a bid.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counted<G> {
    of: (G, Part),
    rank: u8,
    minute: u16,
}

/// How many bids of each rank, or who bid in which ranks: the latter changes seldom, so little of it goes on.
#[derive(Serialize, Deserialize)]
#[serde(bound = "G: Key")]
struct Share<G> {
    of: (G, Part),
    ranks: [u64; 3],
    minute: u16,
}

impl<G: Key> Agent for Share<G> {
    type Key = (G, Part);
    type Event = Counted<G>;
    type View = (Counts, u16);
    type Emit = ();

    fn create(of: &(G, Part)) -> Self {
        Share { of: of.clone(), ranks: [0; 3], minute: 0 }
    }
    fn on_event(&mut self, bid: &Counted<G>, _: &mut Context<'_, Self>) {
        self.ranks[usize::from(bid.rank) % 3] += 1;
        self.minute = self.minute.max(bid.minute);
    }
    fn view(&self) -> Option<(Counts, u16)> {
        Some(match self.of.1 {
            Part::Bids(_) => (Counts { total: self.ranks.iter().sum(), ranks: self.ranks }, self.minute),
            Part::Bidder(_) | Part::Auction(_) => {
                (Counts { total: 1, ranks: self.ranks.map(|bids| bids.min(1)) }, 0)
            }
        })
    }
}

/// The sum of all parts. Whoever counts things that go, counts them with a minus: numbers wrap, and are right in the end.
struct Together;

impl Aggregate<(Part, Counts)> for Together {
    type State = Statistics;
    type Output = Statistics;
    fn update(&self, state: &mut Statistics, (part, counts): (Part, Counts), count: isize) {
        let sum = match part {
            Part::Bids(_) => &mut state.bids,
            Part::Bidder(_) => &mut state.bidders,
            Part::Auction(_) => &mut state.auctions,
        };
        let add = |sum: &mut u64, number: u64| *sum = sum.wrapping_add(number.wrapping_mul(count as u64));
        add(&mut sum.total, counts.total);
        for (sum, number) in sum.ranks.iter_mut().zip(counts.ranks) {
            add(sum, number);
        }
    }
    fn output(&self, state: &Statistics) -> Option<Statistics> {
        (!Aggregate::<(Part, Counts)>::is_empty(self, state)).then_some(*state)
    }
    fn is_empty(&self, state: &Statistics) -> bool {
        *state == Statistics::default()
    }
}

/// Statistics of each group of bids, and the last minute of the day in which one came.
fn statistics<'s, G: Key>(
    name: &str,
    events: &Events<'s, Event>,
    group: impl Fn(&Bid) -> G + 'static,
) -> VecCollection<'s, Time, (G, (Statistics, u16)), isize> {
    let counted = events.flat_map(move |event| {
        let of = event.bid().map(|bid| {
            let part = fixed_hash(&(bid.auction, bid.bidder)) % PARTS;
            let parts = [Part::Bids(part as u8), Part::Bidder(bid.bidder), Part::Auction(bid.auction)];
            (group(&bid), parts, rank(bid.price) as u8, minute(bid.date_time) as u16)
        });
        of.into_iter().flat_map(|(group, parts, rank, minute)| {
            parts.map(|part| Counted { of: (group.clone(), part), rank, minute })
        })
    });
    let shares = counted.agents::<Share<G>>(name, |counted| counted.of.clone());
    let by_group = shares.map(|((group, part), (counts, minute))| (group, ((part, counts), minute)));
    by_group.aggregate((
        of(|share: &((Part, Counts), u16)| share.0, Together),
        of(|share: &((Part, Counts), u16)| share.1, Max),
    ))
}

/// q15, bidding statistics of each day.
///
/// ```sql
/// SELECT DATE_FORMAT(dateTime, 'yyyy-MM-dd') AS `day`,
///     COUNT(*) AS total_bids,
///     COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids,
///     COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
///     COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
///     COUNT(DISTINCT bidder) AS total_bidders, .. -- and of each rank
///     COUNT(DISTINCT auction) AS total_auctions, .. -- and of each rank
/// FROM bid GROUP BY DATE_FORMAT(dateTime, 'yyyy-MM-dd');
/// ```
pub fn q15<'s>(events: &Events<'s, Event>) -> Rows<'s, (String, Statistics)> {
    let days = statistics("q15 shares", events, |bid| bid.date_time / DAY);
    days.map(|(number, (statistics, _))| (day(number * DAY), statistics))
}

/// q16, statistics of each channel and day.
///
/// ```sql
/// SELECT channel, DATE_FORMAT(dateTime, 'yyyy-MM-dd') AS `day`, MAX(DATE_FORMAT(dateTime, 'HH:mm')) AS `minute`,
///     COUNT(*) AS total_bids, .. -- as in q15
/// FROM bid GROUP BY channel, DATE_FORMAT(dateTime, 'yyyy-MM-dd');
/// ```
pub fn q16<'s>(events: &Events<'s, Event>) -> Rows<'s, (String, String, String, Statistics)> {
    let channels = statistics("q16 shares", events, |bid| (bid.channel.clone(), bid.date_time / DAY));
    channels.map(|((channel, number), (statistics, minute))| {
        let last = super::calendar::clock(u64::from(minute) * 60_000);
        (channel, day(number * DAY), last, statistics)
    })
}

/// The bids for an auction on a day.
#[derive(Default, Serialize, Deserialize)]
struct AuctionDay {
    ranks: [u64; 3],
    least: u64,
    most: u64,
    sum: u64,
}

impl Agent for AuctionDay {
    type Key = (u64, u64);
    type Event = (u64, u64, u64);
    type View = (Counts, u64, u64, u64);
    type Emit = ();

    fn create(_auction_and_day: &(u64, u64)) -> Self {
        AuctionDay { least: u64::MAX, ..AuctionDay::default() }
    }
    fn on_event(&mut self, &(_, _, price): &(u64, u64, u64), _: &mut Context<'_, Self>) {
        self.ranks[rank(price)] += 1;
        self.least = self.least.min(price);
        self.most = self.most.max(price);
        self.sum += price;
    }
    fn view(&self) -> Option<(Counts, u64, u64, u64)> {
        let counts = Counts { total: self.ranks.iter().sum(), ranks: self.ranks };
        Some((counts, self.least, self.most, self.sum))
    }
}

/// Auction, day, how many bids, the least, greatest and average price, and their sum.
pub type AuctionRow = (u64, String, Counts, u64, u64, OrderedFloat<f64>, u64);

/// q17, statistics of each auction and day.
///
/// ```sql
/// SELECT auction, DATE_FORMAT(dateTime, 'yyyy-MM-dd') AS `day`,
///     COUNT(*) AS total_bids, .. -- and of each rank, as in q15
///     MIN(price) AS min_price, MAX(price) AS max_price, AVG(price) AS avg_price, SUM(price) AS sum_price
/// FROM bid GROUP BY auction, DATE_FORMAT(dateTime, 'yyyy-MM-dd');
/// ```
pub fn q17<'s>(events: &Events<'s, Event>) -> Rows<'s, AuctionRow> {
    let prices =
        events.flat_map(|event| event.bid().map(|bid| (bid.auction, bid.date_time / DAY, bid.price)));
    let auctions = prices.agents::<AuctionDay>("q17 auctions", |(auction, day, _)| (*auction, *day));
    auctions.map(|((auction, number), (counts, least, most, sum))| {
        let average = OrderedFloat(sum as f64 / counts.total as f64);
        (auction, day(number * DAY), counts, least, most, average, sum)
    })
}
