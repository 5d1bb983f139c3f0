//! Queries about auctions and the bids for them: q4, q6, q9, q20. Auctions are agents.

use std::cmp::Reverse;

use nekton::agents::Record;
use nekton::differential_dataflow::VecCollection;
use nekton::operators::OrderedFloat;
use nekton::prelude::*;

use super::{Auction, Bid, Event, Rows};

/// What an auction hears; of it and of a bid, as much as the query needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Heard<A, B> {
    Opens { id: u64, from: Time, until: Time, about: A },
    Bid { id: u64, bid: Best<B> },
}

impl<A, B> Heard<A, B> {
    fn id(&self) -> u64 {
        match self {
            Heard::Opens { id, .. } | Heard::Bid { id, .. } => *id,
        }
    }
}

/// A bid; the better, the greater: the higher price, of these the earlier. Where both are the same, it must not be left to chance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Best<B> {
    price: u64,
    time: Reverse<Time>,
    about: Reverse<B>,
}

/// An auction, and the best bid that came in its time.
///
/// Bids may come before their auction: they wait for it.
#[derive(Serialize, Deserialize)]
#[serde(bound = "A: Record, B: Record")]
enum Lot<A, B> {
    Unknown { bids: Vec<Best<B>> },
    Open { from: Time, until: Time, about: A, best: Option<Best<B>> },
}

impl<A: Record, B: Record> Agent for Lot<A, B> {
    type Key = u64;
    type Event = Heard<A, B>;
    type View = (A, Best<B>);
    type Emit = ();

    fn create(_auction: &u64) -> Self {
        Lot::Unknown { bids: Vec::new() }
    }
    fn on_event(&mut self, heard: &Heard<A, B>, _: &mut Context<'_, Self>) {
        match (&mut *self, heard) {
            (Lot::Unknown { bids }, Heard::Bid { bid, .. }) => bids.push(bid.clone()),
            (Lot::Unknown { bids }, Heard::Opens { from, until, about, .. }) => {
                let in_time = bids.drain(..).filter(|bid| (*from..=*until).contains(&bid.time.0));
                *self = Lot::Open { from: *from, until: *until, about: about.clone(), best: in_time.max() };
            }
            (Lot::Open { from, until, best, .. }, Heard::Bid { bid, .. }) => {
                if (*from..=*until).contains(&bid.time.0) && best.as_ref().is_none_or(|best| best < bid) {
                    *best = Some(bid.clone());
                }
            }
            // An auction opens once.
            (Lot::Open { .. }, Heard::Opens { .. }) => {}
        }
    }
    fn view(&self) -> Option<(A, Best<B>)> {
        match self {
            Lot::Open { about, best: Some(best), .. } => Some((about.clone(), best.clone())),
            _ => None,
        }
    }
}

/// The best bid of each auction that has one, with as much of both as the query needs.
fn best_bids<'s, A: Record, B: Record>(
    name: &str,
    events: &Events<'s, Event>,
    auction: impl Fn(Auction) -> A + 'static,
    bid: impl Fn(Bid) -> B + 'static,
) -> VecCollection<'s, Time, (u64, (A, Best<B>)), isize> {
    let heard = events.flat_map(move |event| match event {
        Event::Person(_) => None,
        Event::Auction(lot) => {
            Some(Heard::Opens { id: lot.id, from: lot.date_time, until: lot.expires, about: auction(lot) })
        }
        Event::Bid(offer) => Some(Heard::Bid {
            id: offer.auction,
            bid: Best { price: offer.price, time: Reverse(offer.date_time), about: Reverse(bid(offer)) },
        }),
    });
    heard.agents::<Lot<A, B>>(name, Heard::id).views()
}

/// q4, the average price of a category: of what its auctions go for. SQL's average of whole numbers is a whole number; this
/// one is not rounded.
///
/// ```sql
/// SELECT Q.category, AVG(Q.final) FROM (
///     SELECT MAX(B.price) AS final, A.category FROM auction A, bid B
///     WHERE A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
///     GROUP BY A.id, A.category) Q
/// GROUP BY Q.category;
/// ```
pub fn q4<'s>(events: &Events<'s, Event>) -> Rows<'s, (u64, OrderedFloat<f64>)> {
    let finals = best_bids("q4 auctions", events, |auction| auction.category, |_bid| ());
    finals.map(|(_, (category, best))| (category, best.price)).aggregate(Mean)
}

/// q6, the average price of a seller's last auctions: for each auction, of it and of the ten before it, by when their
/// best bids were made. The SQL groups without the time by which it orders; what is meant is the best bid's.
///
/// ```sql
/// SELECT Q.seller, AVG(Q.final) OVER (
///     PARTITION BY Q.seller ORDER BY Q.dateTime ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)
/// FROM (
///     SELECT MAX(B.price) AS final, A.seller, B.dateTime FROM auction AS A, bid AS B
///     WHERE A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
///     GROUP BY A.id, A.seller) AS Q;
/// ```
pub fn q6<'s>(events: &Events<'s, Event>) -> Rows<'s, (u64, OrderedFloat<f64>)> {
    let finals = best_bids("q6 auctions", events, |auction| auction.seller, |_bid| ());
    let of_seller = finals.map(|(auction, (seller, best))| (seller, (best.time.0, auction, best.price)));
    // A seller's auctions come in the order of these triples.
    let averages = of_seller.reduce(|_seller, auctions, averages| {
        for last in 0..auctions.len() {
            let window = &auctions[last.saturating_sub(10)..=last];
            let sum: u64 = window.iter().map(|((_, _, price), _)| price).sum();
            let (_, auction, _) = auctions[last].0;
            averages.push(((*auction, OrderedFloat(sum as f64 / window.len() as f64)), 1));
        }
    });
    averages.map(|(seller, (_auction, average))| (seller, average))
}

/// q9, winning bids: each auction with its best bid, which is the highest, of these the first.
///
/// ```sql
/// SELECT id, itemName, description, initialBid, reserve, dateTime, expires, seller, category, extra,
///     auction, bidder, price, bid_dateTime, bid_extra
/// FROM (
///     SELECT A.*, B.auction, B.bidder, B.price, B.dateTime AS bid_dateTime, B.extra AS bid_extra,
///         ROW_NUMBER() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.dateTime ASC) AS rownum
///     FROM auction A, bid B
///     WHERE A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires)
/// WHERE rownum <= 1;
/// ```
pub fn q9<'s>(events: &Events<'s, Event>) -> Rows<'s, (Auction, (u64, u64, u64, Time, String))> {
    let winning = best_bids("q9 auctions", events, |auction| auction, |bid| (bid.bidder, bid.extra));
    winning.map(|(id, (auction, Best { price, time: Reverse(time), about: Reverse((bidder, extra)) }))| {
        (auction, (id, bidder, price, time, extra))
    })
}

/// An auction that its bids are joined with: either it is known, or they wait for it.
#[derive(Serialize, Deserialize)]
enum Offered {
    Unknown { bids: Vec<Bid> },
    Wanted(Auction),
    Other,
}

impl Agent for Offered {
    type Key = u64;
    type Event = Event;
    type View = ();
    type Emit = (Bid, Auction);

    fn create(_auction: &u64) -> Self {
        Offered::Unknown { bids: Vec::new() }
    }
    fn on_event(&mut self, event: &Event, context: &mut Context<'_, Self>) {
        match (&mut *self, event) {
            (Offered::Unknown { bids }, Event::Bid(bid)) => bids.push(bid.clone()),
            (Offered::Unknown { bids }, Event::Auction(auction)) => {
                if auction.category == 10 {
                    for bid in bids.drain(..) {
                        context.emit((bid, auction.clone()));
                    }
                    *self = Offered::Wanted(auction.clone());
                } else {
                    *self = Offered::Other;
                }
            }
            (Offered::Wanted(auction), Event::Bid(bid)) => context.emit((bid.clone(), auction.clone())),
            _ => {}
        }
    }
    fn view(&self) -> Option<()> {
        None
    }
}

/// q20, bids with their auctions. Neither changes once it is there, so a pair is an event, not a record of a collection.
///
/// ```sql
/// SELECT auction, bidder, price, channel, url, B.dateTime, B.extra,
///     itemName, description, initialBid, reserve, A.dateTime, expires, seller, category, A.extra
/// FROM bid AS B INNER JOIN auction AS A ON B.auction = A.id WHERE A.category = 10;
/// ```
pub fn q20<'s>(events: &Events<'s, Event>) -> Events<'s, (Bid, Auction)> {
    let offers = events.filter(|event| !matches!(event, Event::Person(_)));
    let id = |event: &Event| match event {
        Event::Bid(bid) => bid.auction,
        Event::Auction(auction) => auction.id,
        Event::Person(person) => person.id,
    };
    offers.agents::<Offered>("q20 auctions", id).emitted()
}
