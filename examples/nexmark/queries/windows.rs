//! Queries over windows: q5, q7, q8, q11 in event time, q12 in the dataflow's.
//!
//! Bids may come [`BEHIND`] later than others. A window's result is there from its first event on, is corrected until [`LATE`] after
//! its end, and goes [`KEEP`] after that, as a topic would be compacted: SQL's result grows for ever.

use std::collections::BTreeMap;

use nekton::agents::Record;
use nekton::operators::{Aggregate, EventTime, Sessions, Timed, Watermark, Windows};
use nekton::prelude::*;

use super::{Event, Rows};

/// By how many milliseconds events may come later than others.
pub const BEHIND: Time = 4_000;
/// How many milliseconds after the watermark has passed its end a window can be corrected.
pub const LATE: Time = 2_000;
/// How many milliseconds after that its result goes.
pub const KEEP: Time = 30_000;
/// The steps of the watermark.
pub const STEP: Time = 1_000;

/// The size of windows, and the gap between sessions.
pub const SIZE: Time = 10_000;
/// How often a hopping window begins.
pub const HOP: Time = 2_000;

/// What happened when, of a topic with so many partitions.
fn timed<'s, E: nekton::Event>(
    partitions: u32,
    events: &Events<'s, Event>,
    logic: impl Fn(Event) -> Option<(Time, E)> + 'static,
) -> Timed<'s, E> {
    let watermark = Watermark::behind(BEHIND).partitions(partitions).step(STEP).never_idle();
    events.flat_map(logic).event_time(|(time, _)| *time, watermark).map(|(_, event)| event)
}

fn tumbling() -> Windows {
    Windows::tumbling(SIZE).late(LATE).keep(KEEP)
}

/// All that have the greatest number: an aggregate of one's own, where [`Max`] would keep one of them.
struct Greatest;

impl<V: Record> Aggregate<(u64, V)> for Greatest {
    type State = BTreeMap<u64, BTreeMap<V, isize>>;
    type Output = (u64, Vec<V>);

    fn update(&self, state: &mut Self::State, (number, value): (u64, V), count: isize) {
        let of_number = state.entry(number).or_default();
        let there = of_number.entry(value.clone()).or_default();
        *there += count;
        if *there == 0 {
            of_number.remove(&value);
        }
        if of_number.is_empty() {
            state.remove(&number);
        }
    }
    fn output(&self, state: &Self::State) -> Option<Self::Output> {
        let (number, values) = state.last_key_value()?;
        let each = |(value, count): (&V, &isize)| std::iter::repeat_n(value.clone(), count.unsigned_abs());
        Some((*number, values.iter().flat_map(each).collect()))
    }
    fn is_empty(&self, state: &Self::State) -> bool {
        state.is_empty()
    }
}

/// q5, hot items: the auctions with the most bids in the last ten seconds, every two seconds.
///
/// ```sql
/// SELECT AuctionBids.auction, AuctionBids.num FROM (
///     SELECT auction, COUNT(*) AS num, window_start AS starttime, window_end AS endtime
///     FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
///     GROUP BY auction, window_start, window_end) AS AuctionBids
/// JOIN (
///     SELECT MAX(CountBids.num) AS maxn, CountBids.starttime, CountBids.endtime FROM (
///         SELECT COUNT(*) AS num, window_start AS starttime, window_end AS endtime
///         FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
///         GROUP BY auction, window_start, window_end) AS CountBids
///     GROUP BY CountBids.starttime, CountBids.endtime) AS MaxBids
/// ON AuctionBids.starttime = MaxBids.starttime AND AuctionBids.endtime = MaxBids.endtime
///     AND AuctionBids.num >= MaxBids.maxn;
/// ```
pub fn q5<'s>(partitions: u32, events: &Events<'s, Event>) -> Rows<'s, (u64, u64)> {
    let bids = timed(partitions, events, |event| event.bid().map(|bid| (bid.date_time, bid.auction)));
    let windows = Windows::hopping(SIZE, HOP).late(LATE).keep(KEEP);
    let counts = bids.windows("q5 bids", windows, |auction| (*auction, ()), Count).results;
    let by_window = counts.map(|((auction, window), count)| (window, (count as u64, auction)));
    by_window
        .aggregate(Greatest)
        .flat_map(|(_, (count, auctions))| auctions.into_iter().map(move |auction| (auction, count)))
}

/// q7, the highest bids of each ten seconds.
///
/// ```sql
/// SELECT B.auction, B.price, B.bidder, B.dateTime, B.extra FROM bid B
/// JOIN (
///     SELECT MAX(price) AS maxprice, window_end AS dateTime
///     FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
///     GROUP BY window_start, window_end) B1
/// ON B.price = B1.maxprice
/// WHERE B.dateTime BETWEEN B1.dateTime - INTERVAL '10' SECOND AND B1.dateTime;
/// ```
///
/// A bid at the very end of a window belongs to the next one alone, as windows have it; `BETWEEN` has it in both.
pub fn q7<'s>(partitions: u32, events: &Events<'s, Event>) -> Rows<'s, (u64, u64, u64, Time, String)> {
    let bids = timed(partitions, events, |event| event.bid().map(|bid| (bid.date_time, bid)));
    let highest = bids.window_values("q7 bids", tumbling(), |bid| {
        ((), (bid.price, (bid.auction, bid.bidder, bid.date_time, bid.extra.clone())))
    });
    highest.values.map(|(((), window), bid)| (window, bid)).aggregate(Greatest).flat_map(
        |(_, (price, bids))| {
            let row = move |(auction, bidder, time, extra)| (auction, price, bidder, time, extra);
            bids.into_iter().map(row)
        },
    )
}

/// q8, monitor new users: who registered and put something up for auction within the same ten seconds.
///
/// ```sql
/// SELECT P.id, P.name, P.starttime FROM (
///     SELECT id, name, window_start AS starttime, window_end AS endtime
///     FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
///     GROUP BY id, name, window_start, window_end) P
/// JOIN (
///     SELECT seller, window_start AS starttime, window_end AS endtime
///     FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
///     GROUP BY seller, window_start, window_end) A
/// ON P.id = A.seller AND P.starttime = A.starttime AND P.endtime = A.endtime;
/// ```
pub fn q8<'s>(partitions: u32, events: &Events<'s, Event>) -> Rows<'s, (u64, String, Time)> {
    let people = timed(partitions, events, |event| {
        event.person().map(|person| (person.date_time, (person.id, person.name)))
    });
    let sellers =
        timed(partitions, events, |event| event.auction().map(|auction| (auction.date_time, auction.seller)));
    let people = people.windows("q8 people", tumbling(), |person| (person.clone(), ()), Count).results;
    let sellers = sellers.windows("q8 sellers", tumbling(), |seller| (*seller, ()), Count).results;
    let people = people.map(|(((id, name), window), _)| ((id, window), name));
    let sellers = sellers.map(|(key, _)| (key, ()));
    people.join(sellers).map(|((id, window), (name, ()))| (id, name, window.start))
}

/// q11, user sessions: how often each bidder bid until there was a pause of ten seconds.
///
/// ```sql
/// SELECT B.bidder, COUNT(*) AS bid_count,
///     SESSION_START(B.dateTime, INTERVAL '10' SECOND) AS starttime,
///     SESSION_END(B.dateTime, INTERVAL '10' SECOND) AS endtime
/// FROM bid B GROUP BY B.bidder, SESSION(B.dateTime, INTERVAL '10' SECOND);
/// ```
pub fn q11<'s>(partitions: u32, events: &Events<'s, Event>) -> Rows<'s, (u64, u64, Time, Time)> {
    let bids = timed(partitions, events, |event| event.bid().map(|bid| (bid.date_time, bid.bidder)));
    let sessions = Sessions::gap(SIZE).late(LATE).keep(KEEP);
    let counts = bids.sessions("q11 bidders", sessions, |bidder| (*bidder, ()), Count).results;
    counts.map(|((bidder, window), count)| (bidder, count as u64, window.start, window.end))
}

/// How often somebody bid in the window of the dataflow's time that is open, if one is.
#[derive(Serialize, Deserialize)]
struct Bidder {
    start: Time,
    bids: u64,
}

impl Agent for Bidder {
    type Key = u64;
    type Event = u64;
    type View = ();
    type Emit = (u64, u64, Time, Time);

    fn create(_bidder: &u64) -> Self {
        Bidder { start: 0, bids: 0 }
    }
    fn on_event(&mut self, _bidder: &u64, context: &mut Context<'_, Self>) {
        if self.bids == 0 {
            self.start = context.time() - context.time() % SIZE;
            context.set_timer(self.start + SIZE);
        }
        self.bids += 1;
    }
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        // Before the events of its time, which is that of the next window.
        context.emit((*context.key(), self.bids, self.start, self.start + SIZE));
        context.leave();
    }
    fn view(&self) -> Option<()> {
        None
    }
}

/// q12, windows in processing time, which is the dataflow's: the same when it is replayed. A result comes when its window ends.
///
/// ```sql
/// SELECT bidder, COUNT(*) AS bid_count, window_start AS starttime, window_end AS endtime
/// FROM TABLE(TUMBLE(TABLE B, DESCRIPTOR(p_time), INTERVAL '10' SECOND)) -- p_time AS PROCTIME()
/// GROUP BY bidder, window_start, window_end;
/// ```
pub fn q12<'s>(events: &Events<'s, Event>) -> Events<'s, (u64, u64, Time, Time)> {
    let bidders = events.flat_map(|event| event.bid().map(|bid| bid.bidder));
    bidders.agents::<Bidder>("q12 bidders", |bidder| *bidder).emitted()
}
