//! Queries that look at each bid by itself: q0, q1, q2, q10, q14, q21, q22. Nothing is kept, so there are no agents.

use nekton::prelude::*;

use super::calendar::{clock, day, hour};
use super::{Bid, Event};

/// The bids among the events.
pub fn bids<'s>(events: &Events<'s, Event>) -> Events<'s, Bid> {
    events.flat_map(Event::bid)
}

/// q0, pass through: what it costs to do nothing.
///
/// ```sql
/// SELECT auction, bidder, price, dateTime, extra FROM bid;
/// ```
pub fn q0<'s>(events: &Events<'s, Event>) -> Events<'s, (u64, u64, u64, Time, String)> {
    bids(events).map(|bid| (bid.auction, bid.bidder, bid.price, bid.date_time, bid.extra))
}

/// A price in another currency: exact, where a binary fraction would not be.
pub fn in_euros(price: u64) -> Decimal<3> {
    Decimal::from_units(i64::try_from(price).unwrap_or(i64::MAX).saturating_mul(908))
}

/// q1, currency conversion.
///
/// ```sql
/// SELECT auction, bidder, 0.908 * price AS price, dateTime, extra FROM bid;
/// ```
pub fn q1<'s>(events: &Events<'s, Event>) -> Events<'s, (u64, u64, Decimal<3>, Time, String)> {
    bids(events).map(|bid| (bid.auction, bid.bidder, in_euros(bid.price), bid.date_time, bid.extra))
}

/// q2, selection: bids for some auctions.
///
/// ```sql
/// SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0;
/// ```
pub fn q2<'s>(events: &Events<'s, Event>) -> Events<'s, (u64, u64)> {
    events.flat_map(|event| {
        event.bid().filter(|bid| bid.auction % 123 == 0).map(|bid| (bid.auction, bid.price))
    })
}

/// A bid with its day and its minute.
pub type Logged = (u64, u64, u64, Time, String, String, String);

/// q10, log to a file system: the sink's key is the last two columns, so that the bids of a minute are in one partition
/// of the topic, in order. A topic in files is a file a partition.
///
/// ```sql
/// CREATE TABLE fs_table (auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), extra STRING,
///     dt STRING, hm STRING) PARTITIONED BY (dt, hm) WITH ('connector' = 'filesystem', ..);
/// INSERT INTO fs_table SELECT auction, bidder, price, dateTime, extra,
///     DATE_FORMAT(dateTime, 'yyyy-MM-dd'), DATE_FORMAT(dateTime, 'HH:mm') FROM bid;
/// ```
pub fn q10<'s>(events: &Events<'s, Event>) -> Events<'s, Logged> {
    bids(events).map(|bid| {
        let (day, clock) = (day(bid.date_time), clock(bid.date_time));
        (bid.auction, bid.bidder, bid.price, bid.date_time, bid.extra, day, clock)
    })
}

/// Auction, bidder, price, when in the day, time, extra, how often `c` is in it.
pub type Calculated = (u64, u64, Decimal<3>, String, Time, String, u64);

/// q14, calculation. `count_char` is a function of the user: here it is a line of Rust.
///
/// ```sql
/// SELECT auction, bidder, 0.908 * price AS price,
///     CASE WHEN HOUR(dateTime) >= 8 AND HOUR(dateTime) <= 18 THEN 'dayTime'
///          WHEN HOUR(dateTime) <= 6 OR HOUR(dateTime) >= 20 THEN 'nightTime'
///          ELSE 'otherTime' END AS bidTimeType,
///     dateTime, extra, count_char(extra, 'c') AS c_counts
/// FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
/// ```
pub fn q14<'s>(events: &Events<'s, Event>) -> Events<'s, Calculated> {
    let between = Decimal::from_units(1_000_000_000)..Decimal::from_units(50_000_000_000);
    events.flat_map(move |event| {
        let bid = event.bid()?;
        let price = in_euros(bid.price);
        (between.start < price && price < between.end).then(|| {
            let when = match hour(bid.date_time) {
                8..=18 => "dayTime",
                ..=6 | 20.. => "nightTime",
                _ => "otherTime",
            };
            let count = bid.extra.bytes().filter(|byte| *byte == b'c').count() as u64;
            (bid.auction, bid.bidder, price, when.to_owned(), bid.date_time, bid.extra, count)
        })
    })
}

/// The number of a channel: of the great ones by name, of others as their URL has it.
pub fn channel_id(channel: &str, url: &str) -> Option<String> {
    let great = ["apple", "google", "facebook", "baidu"];
    match great.iter().position(|name| channel.eq_ignore_ascii_case(name)) {
        Some(number) => Some(number.to_string()),
        None => url.split('&').find_map(|part| part.strip_prefix("channel_id=")).map(str::to_owned),
    }
}

/// q21, add the channel's number.
///
/// ```sql
/// SELECT auction, bidder, price, channel,
///     CASE WHEN lower(channel) = 'apple' THEN '0' WHEN lower(channel) = 'google' THEN '1'
///          WHEN lower(channel) = 'facebook' THEN '2' WHEN lower(channel) = 'baidu' THEN '3'
///          ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END AS channel_id
/// FROM bid WHERE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) IS NOT NULL
///     OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu');
/// ```
pub fn q21<'s>(events: &Events<'s, Event>) -> Events<'s, (u64, u64, u64, String, String)> {
    events.flat_map(|event| {
        let bid = event.bid()?;
        let id = channel_id(&bid.channel, &bid.url)?;
        Some((bid.auction, bid.bidder, bid.price, bid.channel, id))
    })
}

/// Auction, bidder, price, channel, and three folders.
pub type Folders = (u64, u64, u64, String, Option<String>, Option<String>, Option<String>);

/// q22, the folders of the URL.
///
/// ```sql
/// SELECT auction, bidder, price, channel,
///     SPLIT_INDEX(url, '/', 3) AS dir1, SPLIT_INDEX(url, '/', 4) AS dir2, SPLIT_INDEX(url, '/', 5) AS dir3 FROM bid;
/// ```
pub fn q22<'s>(events: &Events<'s, Event>) -> Events<'s, Folders> {
    bids(events).map(|bid| {
        let mut folders = bid.url.split('/').skip(3).map(str::to_owned);
        let (first, second, third) = (folders.next(), folders.next(), folders.next());
        (bid.auction, bid.bidder, bid.price, bid.channel, first, second, third)
    })
}
