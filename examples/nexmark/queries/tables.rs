//! Queries that join with a table: q3, q13.

use nekton::connect::Position;
use nekton::prelude::*;
use nekton::timely::dataflow::operators::vec::ToStream;
use nekton::{Block, Order};

use super::{Bid, Event, Rows};

/// q3, local item suggestion: who sells in category 10 in three states, as a join of two tables. Both keep what can match
/// and nothing else.
///
/// ```sql
/// SELECT P.name, P.city, P.state, A.id FROM auction AS A INNER JOIN person AS P ON A.seller = P.id
/// WHERE A.category = 10 AND (P.state = 'or' OR P.state = 'id' OR P.state = 'ca');
/// ```
pub fn q3<'s>(events: &Events<'s, Event>) -> Rows<'s, (String, String, String, u64)> {
    let people = events.flat_map(|event| {
        let person = event.person().filter(|person| matches!(&*person.state, "or" | "id" | "ca"))?;
        Some((person.id, Some((person.name, person.city, person.state))))
    });
    let auctions = events.flat_map(|event| {
        let auction = event.auction().filter(|auction| auction.category == 10)?;
        Some((auction.id, Some(auction.seller)))
    });
    let by_seller = auctions.table("q3 auctions").map(|(id, seller)| (seller, id));
    people.table("q3 people").join(by_seller).map(|(_, ((name, city, state), id))| (name, city, state, id))
}

/// How many rows the side input has.
pub const SIDE_ROWS: u64 = 10_000;

/// What a row of the side input hears.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Heard {
    Row(u64, String),
    Bid(Bid),
}

/// A row of the side input.
#[derive(Serialize, Deserialize)]
struct Side {
    value: Option<String>,
}

impl Agent for Side {
    type Key = u64;
    type Event = Heard;
    type View = ();
    type Emit = (u64, u64, u64, Time, String);

    fn create(_key: &u64) -> Self {
        Side { value: None }
    }
    fn on_event(&mut self, heard: &Heard, context: &mut Context<'_, Self>) {
        match (heard, &self.value) {
            (Heard::Row(_, value), _) => self.value = Some(value.clone()),
            (Heard::Bid(bid), Some(value)) => {
                context.emit((bid.auction, bid.bidder, bid.price, bid.date_time, value.clone()));
            }
            (Heard::Bid(_), None) => {}
        }
    }
    fn view(&self) -> Option<()> {
        None
    }
}

/// What the side input says of a key.
pub fn side_value(key: u64) -> String {
    format!("value {key}")
}

/// The side input: all of its rows, at the first of all times.
fn side_input<'s>(flow: &Flow<'s>) -> Events<'s, (u64, String)> {
    let order = Order { source: u32::MAX, partition: 0, position: Position::default() };
    let rows = (0..SIDE_ROWS).map(|key| (key, side_value(key)));
    let rows = (flow.scope().index() == 0).then(|| Block { order, events: rows.collect() });
    flow.events_of(rows.to_stream(flow.scope()))
}

/// q13, bounded side input: each bid with the value that a table has when it comes, which is the dataflow's time. Here the table never
/// changes. (As of the bid's own time: `as_of`, which waits for the watermark.)
///
/// ```sql
/// SELECT B.auction, B.bidder, B.price, B.dateTime, S.value
/// FROM (SELECT *, PROCTIME() AS p_time FROM bid) B
/// JOIN side_input FOR SYSTEM_TIME AS OF B.p_time AS S ON MOD(B.auction, 10000) = S.key;
/// ```
pub fn q13<'s>(events: &Events<'s, Event>) -> Events<'s, (u64, u64, u64, Time, String)> {
    let rows = side_input(&events.flow()).map(|(key, value)| Heard::Row(key, value));
    let bids = events.flat_map(|event| event.bid().map(Heard::Bid));
    let key = |heard: &Heard| match heard {
        Heard::Row(key, _) => *key,
        Heard::Bid(bid) => bid.auction % SIDE_ROWS,
    };
    rows.concat(&bids).agents::<Side>("q13 side input", key).emitted()
}
