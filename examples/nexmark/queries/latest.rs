//! Queries for the first bids in some order: q18, q19.

use nekton::prelude::*;

use super::bids::bids;
use super::{Bid, Event, Rows};

/// What somebody bid last for an auction.
#[derive(Serialize, Deserialize)]
struct Last {
    bid: Option<(Time, Bid)>,
}

impl Agent for Last {
    type Key = (u64, u64);
    type Event = Bid;
    type View = Bid;
    type Emit = ();

    fn create(_bidder_and_auction: &(u64, u64)) -> Self {
        Last { bid: None }
    }
    fn on_event(&mut self, bid: &Bid, _: &mut Context<'_, Self>) {
        // Of bids at the same time, the order must not decide.
        let later = |(time, last): &(Time, Bid)| (*time, last) < (bid.date_time, bid);
        if self.bid.as_ref().is_none_or(later) {
            self.bid = Some((bid.date_time, bid.clone()));
        }
    }
    fn view(&self) -> Option<Bid> {
        self.bid.as_ref().map(|(_, bid)| bid.clone())
    }
}

/// q18, the last bid of each bidder for each auction.
///
/// ```sql
/// SELECT auction, bidder, price, channel, url, dateTime, extra FROM (
///     SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY dateTime DESC) AS rank_number FROM bid)
/// WHERE rank_number <= 1;
/// ```
pub fn q18<'s>(events: &Events<'s, Event>) -> Rows<'s, Bid> {
    bids(events).agents::<Last>("q18 bidders", |bid| (bid.bidder, bid.auction)).map(|(_, bid)| bid)
}

/// How many of an auction's bids are shown.
pub const TOP: usize = 10;

/// The highest bids for an auction, the highest first; of those of the same price, the greater one, so that chance has no part.
#[derive(Serialize, Deserialize)]
struct Top {
    bids: Vec<Bid>,
}

impl Agent for Top {
    type Key = u64;
    type Event = Bid;
    type View = Vec<Bid>;
    type Emit = ();

    fn create(_auction: &u64) -> Self {
        Top { bids: Vec::new() }
    }
    fn on_event(&mut self, bid: &Bid, _: &mut Context<'_, Self>) {
        let place = self.bids.partition_point(|other| (other.price, other) > (bid.price, bid));
        if place < TOP {
            self.bids.truncate(TOP - 1);
            self.bids.insert(place, bid.clone());
        }
    }
    fn view(&self) -> Option<Vec<Bid>> {
        (!self.bids.is_empty()).then(|| self.bids.clone())
    }
}

/// q19, the ten highest bids for each auction, with their ranks.
///
/// ```sql
/// SELECT * FROM (
///     SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bid)
/// WHERE rank_number <= 10;
/// ```
pub fn q19<'s>(events: &Events<'s, Event>) -> Rows<'s, (Bid, u64)> {
    bids(events)
        .agents::<Top>("q19 auctions", |bid| bid.auction)
        .flat_map(|(_, bids)| bids.into_iter().zip(1..))
}
