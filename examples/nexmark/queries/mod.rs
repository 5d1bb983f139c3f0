//! The queries of NEXMark as nekton programs, in families: each has the SQL by which it is defined (of Apache Flink's version,
//! github.com/nexmark/nexmark) beside the dataflow that answers it.

pub mod bids;
pub mod calendar;
mod events;
pub mod latest;
mod lots;
pub mod statistics;
pub mod tables;
pub mod windows;

use clap::ValueEnum;
use nekton::agents::Key;
use nekton::differential_dataflow::VecCollection;
use nekton::prelude::*;

pub use events::{Auction, Bid, Event, Person};

/// Rows that come and go.
pub type Rows<'s, R> = VecCollection<'s, Time, R, isize>;

/// A query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Query {
    Q0,
    Q1,
    Q2,
    Q3,
    Q4,
    Q5,
    Q6,
    Q7,
    Q8,
    Q9,
    Q10,
    Q11,
    Q12,
    Q13,
    Q14,
    Q15,
    Q16,
    Q17,
    Q18,
    Q19,
    Q20,
    Q21,
    Q22,
}

/// Where a query's rows go.
pub trait Outlet<'s> {
    /// Rows that come and stay.
    fn events<R: Key>(&mut self, flow: &mut Flow<'s>, rows: &Events<'s, R>);
    /// Rows that come and stay, each in the part of the output that its key names.
    fn partitioned<R: Key, K: Key>(
        &mut self,
        flow: &mut Flow<'s>,
        rows: &Events<'s, R>,
        _key: impl Fn(&R) -> K + 'static,
    ) {
        self.events(flow, rows);
    }
    /// Rows that come and go.
    fn collection<R: Key>(&mut self, flow: &mut Flow<'s>, rows: &Rows<'s, R>);
}

/// Builds a query on the events of a topic that has so many partitions.
pub fn build<'s>(
    query: Query,
    flow: &mut Flow<'s>,
    partitions: u32,
    events: &Events<'s, Event>,
    outlet: &mut impl Outlet<'s>,
) {
    match query {
        Query::Q0 => outlet.events(flow, &bids::q0(events)),
        Query::Q1 => outlet.events(flow, &bids::q1(events)),
        Query::Q2 => outlet.events(flow, &bids::q2(events)),
        Query::Q3 => outlet.collection(flow, &tables::q3(events)),
        Query::Q4 => outlet.collection(flow, &lots::q4(events)),
        Query::Q5 => outlet.collection(flow, &windows::q5(partitions, events)),
        Query::Q6 => outlet.collection(flow, &lots::q6(events)),
        Query::Q7 => outlet.collection(flow, &windows::q7(partitions, events)),
        Query::Q8 => outlet.collection(flow, &windows::q8(partitions, events)),
        Query::Q9 => outlet.collection(flow, &lots::q9(events)),
        Query::Q10 => {
            let minute = |row: &bids::Logged| (row.5.clone(), row.6.clone());
            outlet.partitioned(flow, &bids::q10(events), minute);
        }
        Query::Q11 => outlet.collection(flow, &windows::q11(partitions, events)),
        Query::Q12 => outlet.events(flow, &windows::q12(events)),
        Query::Q13 => outlet.events(flow, &tables::q13(events)),
        Query::Q14 => outlet.events(flow, &bids::q14(events)),
        Query::Q15 => outlet.collection(flow, &statistics::q15(events)),
        Query::Q16 => outlet.collection(flow, &statistics::q16(events)),
        Query::Q17 => outlet.collection(flow, &statistics::q17(events)),
        Query::Q18 => outlet.collection(flow, &latest::q18(events)),
        Query::Q19 => outlet.collection(flow, &latest::q19(events)),
        Query::Q20 => outlet.events(flow, &lots::q20(events)),
        Query::Q21 => outlet.events(flow, &bids::q21(events)),
        Query::Q22 => outlet.events(flow, &bids::q22(events)),
    }
}
