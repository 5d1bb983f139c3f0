//! Events of the crate `nexmark`, as this program has them.

use std::ops::Range;

use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event as Generated;

use super::queries::{Auction, Bid, Event, Person};

/// When the first event happened: 14 July 2015, 21:20 (UTC).
const BEGIN: u64 = 1_436_908_800_000;

/// The events of these numbers, the same whenever they are asked for: `rate` of them happen in a second, and they come in groups of
/// `group` in which they are shuffled (1: in order). Above 16 M, the generator's times lose milliseconds.
pub fn events(numbers: Range<usize>, rate: usize, group: usize) -> impl Iterator<Item = Event> {
    let config = NexmarkConfig {
        base_time: BEGIN,
        first_rate: rate,
        next_rate: rate,
        out_of_order_group_size: group,
        ..NexmarkConfig::default()
    };
    EventGenerator::new(config).with_offset(numbers.start as u64).take(numbers.len()).map(event)
}

fn event(event: Generated) -> Event {
    match event {
        Generated::Person(person) => Event::Person(Person {
            id: person.id as u64,
            name: person.name,
            email_address: person.email_address,
            credit_card: person.credit_card,
            city: person.city,
            state: person.state,
            date_time: person.date_time,
            extra: person.extra,
        }),
        Generated::Auction(auction) => Event::Auction(Auction {
            id: auction.id as u64,
            item_name: auction.item_name,
            description: auction.description,
            initial_bid: auction.initial_bid as u64,
            reserve: auction.reserve as u64,
            date_time: auction.date_time,
            expires: auction.expires,
            seller: auction.seller as u64,
            category: auction.category as u64,
            extra: auction.extra,
        }),
        Generated::Bid(bid) => Event::Bid(Bid {
            auction: bid.auction as u64,
            bidder: bid.bidder as u64,
            price: bid.price as u64,
            channel: bid.channel,
            url: bid.url,
            date_time: bid.date_time,
            extra: bid.extra,
        }),
    }
}
