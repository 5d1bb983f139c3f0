//! Links between agents, as a collection of pairs.
//!
//! What a link means is up to the program: a vehicle and its depot, a phone and its cell, two accounts and a
//! transfer. It comes from agents' views (`vehicles.map(|(vehicle, view)| (vehicle, view.depot))`), from a
//! table, or is computed: [`near`](crate::Proximity::near), [`sharing`], [`correlated`].
//!
//! ```text
//! (vehicle, depot)  (depot, region)        .roll_up(loads, Sum)        region  Σ
//!                                                                     /      \
//!      each link is (child, parent)                              depot Σ    depot Σ
//!                                                                /   |   \     |
//!                                                              load load load load
//! ```

mod ancestors;
mod cycles;
mod roll_up;
mod sharing;

use differential_dataflow::VecCollection;
use nekton_engine::Time;
use nekton_engine::agents::{Key, Record};

use crate::aggregate::{Aggregate, Group};

pub use sharing::{correlated, sharing, sharing_at_least};

/// Links between nodes of one kind.
pub type LinkCollection<'s, N> = VecCollection<'s, Time, (N, N), isize>;

/// Containment: each link is a child and what it is part of.
///
/// A child may have several parents, and links may change at any time. A link that is there twice counts twice.
pub trait Links<'s, N: Key> {
    /// For each node that contains others: an aggregate of the values of everything below it, along the
    /// whole chain. A node's own value is not part of it. Where there are several ways up to a node, a value counts once for each.
    ///
    /// Links that lie on a cycle carry nothing, nor do those between two cycles (they would carry values round for ever); it
    /// counts again when the cycle is broken. [`cyclic`](Links::cyclic) says which they are.
    ///
    /// **Cost**: a change of a value takes one step for each node above it; that of a link just as many, however much is
    /// below it: a depot with a million vehicles moves to another region as one sum. A step is some microseconds. **Memory**: three
    /// records a link, two a value (each some 40 bytes and its data).
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let links = table(flow, "links", [
    /// #     (1, vec![("v1", Some("depot-1")), ("v2", Some("depot-1")), ("depot-1", Some("north"))]),
    /// #     (2, vec![("depot-1", Some("south"))]),
    /// # ]);
    /// # let loads = table(flow, "loads", [(1, vec![("v1", Some(3)), ("v2", Some(4))])]);
    /// // v1 and v2 are in depot-1, loaded with 3 and 4; depot-1 is in the north, and in the south from 2 on
    /// flow.sink("loads-above", upsert(&links.roll_up(loads, Sum)));
    /// # });
    /// assert_eq!(topics.lines("loads-above"), [
    ///     r#"{"key":"depot-1","value":7,"time":1}"#,
    ///     r#"{"key":"north","value":7,"time":1}"#,
    ///     r#"{"key":"north","value":null,"time":2}"#,
    ///     r#"{"key":"south","value":7,"time":2}"#,
    /// ]);
    /// ```
    fn roll_up<V: Record, A: Group<V>>(
        self,
        values: VecCollection<'s, Time, (N, V), isize>,
        aggregate: A,
    ) -> VecCollection<'s, Time, (N, A::Output), isize>;

    /// As [`roll_up`](Links::roll_up), with an aggregate that is not a sum ([`Max`](crate::Max),
    /// [`Quantiles`](crate::Quantiles), ..). Here, a value counts once for each node above it, however many ways lead up;
    /// on a cycle, every node is above every other and above itself.
    ///
    /// **Cost**: of a value, as there. Of a link, everything below it times everything above it. **Memory**: six records for each
    /// [ancestor](Links::ancestors) of a node, and the aggregate's.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let links = table(flow, "links", [(1, vec![("v1", Some("depot-1")), ("v2", Some("depot-1")), ("depot-1", Some("north"))])]);
    /// # let temps = table(flow, "temps", [(1, vec![("v1", Some(90)), ("v2", Some(118))]), (2, vec![("v2", Some(70))])]);
    /// // v1 at 90 degrees and v2 at 118, at 2 at 70, are in depot-1, which is in the north
    /// flow.sink("hottest", upsert(&links.gather(temps, Max)));
    /// # });
    /// assert_eq!(topics.lines("hottest"), [
    ///     r#"{"key":"depot-1","value":118,"time":1}"#,
    ///     r#"{"key":"north","value":118,"time":1}"#,
    ///     r#"{"key":"depot-1","value":90,"time":2}"#,
    ///     r#"{"key":"north","value":90,"time":2}"#,
    /// ]);
    /// ```
    fn gather<V: Record, A: Aggregate<V>>(
        self,
        values: VecCollection<'s, Time, (N, V), isize>,
        aggregate: A,
    ) -> VecCollection<'s, Time, (N, A::Output), isize>;

    /// Each node with each node that is above it, along the whole chain, once. A node on a cycle is above itself.
    ///
    /// **Cost**: of a link, everything below it times everything above it. **Memory**: five records for each result.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let links = table(flow, "links", [(1, vec![("v1", Some("depot-1")), ("depot-1", Some("north"))])]);
    /// flow.sink("above", diffs(&links.ancestors())); // v1 is in depot-1, which is in the north
    /// # });
    /// assert_eq!(topics.lines("above"), [
    ///     r#"{"data":["depot-1","north"],"time":1,"diff":1}"#,
    ///     r#"{"data":["v1","depot-1"],"time":1,"diff":1}"#,
    ///     r#"{"data":["v1","north"],"time":1,"diff":1}"#,
    /// ]);
    /// ```
    fn ancestors(self) -> LinkCollection<'s, N>;

    /// The links that lie on a cycle, or on a way from one cycle to another: of a hierarchy, its defects.
    ///
    /// **Cost**: a change of a link takes a step for each node above it that it makes deeper or less deep. **Memory**: two
    /// records a link, and one for each parent.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let links = table(flow, "links", [(1, vec![("v1", Some("d1")), ("d1", Some("d2")), ("d2", Some("d1"))]), (2, vec![("d2", Some("north"))])]);
    /// flow.sink("defects", diffs(&links.cyclic())); // v1 in d1, d1 in d2, and d2 in d1; at 2, d2 in the north
    /// # });
    /// assert_eq!(topics.lines("defects"), [
    ///     r#"{"data":["d1","d2"],"time":1,"diff":1}"#,
    ///     r#"{"data":["d2","d1"],"time":1,"diff":1}"#,
    ///     r#"{"data":["d1","d2"],"time":2,"diff":-1}"#,
    ///     r#"{"data":["d2","d1"],"time":2,"diff":-1}"#,
    /// ]);
    /// ```
    fn cyclic(self) -> LinkCollection<'s, N>;
}

impl<'s, N: Key> Links<'s, N> for LinkCollection<'s, N> {
    fn roll_up<V: Record, A: Group<V>>(
        self,
        values: VecCollection<'s, Time, (N, V), isize>,
        aggregate: A,
    ) -> VecCollection<'s, Time, (N, A::Output), isize> {
        roll_up::roll_up(self, values, aggregate)
    }
    fn gather<V: Record, A: Aggregate<V>>(
        self,
        values: VecCollection<'s, Time, (N, V), isize>,
        aggregate: A,
    ) -> VecCollection<'s, Time, (N, A::Output), isize> {
        ancestors::gather(self, values, aggregate)
    }
    fn ancestors(self) -> LinkCollection<'s, N> {
        ancestors::ancestors(self)
    }
    fn cyclic(self) -> LinkCollection<'s, N> {
        cycles::cyclic(self)
    }
}
