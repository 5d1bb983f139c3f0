//! Questions about whole graphs of links, whose answers change with the links.
//!
//! | | answers | a change takes |
//! |---|---|---|
//! | [`reachable`](Graph::reachable) | what can be reached from somewhere | what is no longer, or newly, reached as fast as before |
//! | [`shortest_paths`](Lengths::shortest_paths) | how far it is from the nearest start | whose distance changes |
//! | [`components`](Graph::components) | what is connected at all | little, unless components merge or fall apart |
//! | [`rings`](Graph::rings) | who can reach one another | what comes to cycles, or leaves them |
//! | [`labels`](Graph::labels) | which communities there are | whose label changes in some round |
//! | [`page_rank`](Graph::page_rank) | what is important | whose rank changes in some round: often a large part |
//!
//! All of them are loops (differential dataflow's `iterate`): each round's state is kept, and a change of a link
//! changes in each round what it changes there. A change that changes much costs much, at worst what the whole
//! graph took at first.

mod components;
mod labels;
mod page_rank;
mod paths;
mod reachable;
mod rings;

use differential_dataflow::VecCollection;
use nekton_engine::Time;
use nekton_engine::agents::{Key, Record};

pub use page_rank::{ONE, PageRank};

use crate::links::LinkCollection;

/// Links as edges of a graph. A link that is there twice counts once, unless something else is said.
pub trait Graph<'s, N: Key> {
    /// All nodes that can be reached from some of `roots` along links, from the first of a pair to the second; the
    /// roots too.
    ///
    /// **Cost**: a change takes a few microseconds for every node whose shortest way from a root, in number of links, changes,
    /// and for its links. **Memory**: a record a link and two a node that is reached.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let pipes = table(flow, "pipes", [(1, vec![("plant", Some("station")), ("station", Some("house"))]), (2, vec![("station", None)])]);
    /// # let plants = table(flow, "plants", [(1, vec![("plant", Some(()))])]).map(|(plant, ())| plant);
    /// // pipes: plant -> station -> house, the second one closed at 2; plants: plant
    /// flow.sink("supplied", diffs(&pipes.reachable(plants)));
    /// # });
    /// assert_eq!(topics.lines("supplied"), [
    ///     r#"{"data":"house","time":1,"diff":1}"#,
    ///     r#"{"data":"plant","time":1,"diff":1}"#,
    ///     r#"{"data":"station","time":1,"diff":1}"#,
    ///     r#"{"data":"house","time":2,"diff":-1}"#,
    /// ]);
    /// ```
    fn reachable(self, roots: VecCollection<'s, Time, N, isize>) -> VecCollection<'s, Time, N, isize>;

    /// Every node that has a link, with the name of its component: what is connected, whatever the direction of links, has
    /// one name, which is one of its nodes.
    ///
    /// Which one says a fixed hash: the name changes only if that node leaves, or one with a smaller hash comes.
    ///
    /// **Cost**: a link inside a component takes tens of microseconds where there are other ways as short from the
    /// node of the name; at worst, where it was the only one, a few microseconds for every node behind it. **Memory**: four records
    /// a link, some four a node.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let transfers = table(flow, "transfers", [(1, vec![("ann", Some("bob")), ("bob", Some("cem")), ("dan", Some("eve"))])]);
    /// let rings = transfers.components(); // ann -> bob -> cem, dan -> eve
    /// flow.sink("sizes", diffs(&rings.map(|(account, ring)| (ring, account)).aggregate(Count).map(|(_, size)| size)));
    /// # });
    /// assert_eq!(topics.lines("sizes"), [r#"{"data":2,"time":1,"diff":1}"#, r#"{"data":3,"time":1,"diff":1}"#]);
    /// ```
    fn components(self) -> LinkCollection<'s, N>;

    /// Every node that lies on a cycle, with the name of its ring: those who can reach one another along links, from the first of a
    /// pair to the second (a strongly connected component). The name is one of the ring's nodes, as with
    /// [`components`](Graph::components). A link from a node to itself makes a ring of one.
    ///
    /// **Cost**: a link that is on no cycle takes what [`cyclic`](crate::Links::cyclic) takes. One that is: a loop within a
    /// loop, which goes through its ring a few times. **Memory**: some three records a link, and some fifteen for each that lies on a
    /// cycle or between two.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let transfers = table(flow, "transfers", [(1, vec![(1, Some(("ann", "bob"))), (2, Some(("bob", "cem"))), (3, Some(("cem", "dan")))]), (2, vec![(4, Some(("cem", "ann")))])]);
    /// # let transfers = transfers.map(|(_, link)| link);
    /// // ann -> bob -> cem -> dan, and cem -> ann from 2 on
    /// let rings = transfers.rings();
    /// flow.sink("sizes", diffs(&rings.map(|(account, ring)| (ring, account)).aggregate(Count).map(|(_, size)| size)));
    /// # });
    /// assert_eq!(topics.lines("sizes"), [r#"{"data":3,"time":2,"diff":1}"#]);
    /// ```
    fn rings(self) -> LinkCollection<'s, N>;

    /// Communities: in each of `rounds` rounds, every node takes the label that most of its neighbours had (whatever the
    /// direction of links) and it itself; of several, the smallest. At first each node has the label that `labels` gives; what
    /// has none takes part as soon as a neighbour has one. A node with several labels at first votes for each.
    ///
    /// Labels may go to and fro for ever: this is why the rounds are counted. Five to ten are usual.
    ///
    /// **Cost**: a change takes some microseconds for every node whose label it changes in some round, and for
    /// each of its links. **Memory**: two records a link; a node has some five for each round in which its label
    /// changes, and one for each label among its neighbours.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let friends = table(flow, "friends", [(1, vec![("a", Some("b")), ("b", Some("c")), ("c", Some("a"))])]);
    /// # let leanings = table(flow, "leanings", [(1, vec![("a", Some("jazz")), ("b", Some("jazz")), ("c", Some("rock"))])]);
    /// // a, b and c are friends; a and b hear jazz, c rock
    /// flow.sink("communities", upsert(&friends.labels(leanings, 3)));
    /// # });
    /// assert_eq!(topics.lines("communities"), [
    ///     r#"{"key":"a","value":"jazz","time":1}"#,
    ///     r#"{"key":"b","value":"jazz","time":1}"#,
    ///     r#"{"key":"c","value":"jazz","time":1}"#,
    /// ]);
    /// ```
    fn labels<L: Record>(
        self,
        labels: VecCollection<'s, Time, (N, L), isize>,
        rounds: u64,
    ) -> VecCollection<'s, Time, (N, L), isize>;

    /// How important each node that has a link is: [`PageRank`], in units of which [`ONE`] is the average.
    ///
    /// Ranks are whole numbers, rounded down at every step: the result depends neither on the order nor on the number of
    /// workers. What reaches a node without links of its own is gone.
    ///
    /// **Cost**: a change of a link goes a link further in each round, so its reach is soon the whole graph, but for the
    /// rounding, which stops what is less than one. Recompute rather than maintain where most links change. **Memory**: three records a link; a
    /// node has some four for each round in which its rank changes.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let roads = table(flow, "roads", [(1, vec![("a", Some("hub")), ("b", Some("hub")), ("hub", Some("a"))])]);
    /// flow.sink("ranks", upsert(&roads.page_rank(PageRank::default()))); // a -> hub, b -> hub, hub -> a
    /// # });
    /// # let ranks: Vec<String> = topics.lines("ranks").iter().map(|line| line.split(r#","time"#).next().unwrap().to_owned() + "}").collect();
    /// # let topics = { struct Shown(Vec<String>); impl Shown { fn lines(&self, _: &str) -> &[String] { &self.0 } } Shown(ranks) };
    /// assert_eq!(topics.lines("ranks"), [
    ///     r#"{"key":"a","value":1408346}"#,
    ///     r#"{"key":"b","value":150000}"#,
    ///     r#"{"key":"hub","value":1441648}"#,
    /// ]);
    /// ```
    fn page_rank(self, settings: PageRank) -> VecCollection<'s, Time, (N, i64), isize>;
}

impl<'s, N: Key> Graph<'s, N> for LinkCollection<'s, N> {
    fn reachable(self, roots: VecCollection<'s, Time, N, isize>) -> VecCollection<'s, Time, N, isize> {
        reachable::reachable(self, roots)
    }
    fn components(self) -> LinkCollection<'s, N> {
        components::components(self)
    }
    fn rings(self) -> LinkCollection<'s, N> {
        rings::rings(self)
    }
    fn labels<L: Record>(
        self,
        labels: VecCollection<'s, Time, (N, L), isize>,
        rounds: u64,
    ) -> VecCollection<'s, Time, (N, L), isize> {
        labels::labels(self, labels, rounds)
    }
    fn page_rank(self, settings: PageRank) -> VecCollection<'s, Time, (N, i64), isize> {
        page_rank::page_rank(self, settings)
    }
}

/// Links with lengths.
pub trait Lengths<'s, N: Key> {
    /// For every node that can be reached from `sources`: how far it is from the nearest of them, and which one that is (of
    /// several, the smallest). Links lead from a node to `(node, length)`; of several between two nodes, the
    /// shortest counts.
    ///
    /// **Cost**: a change takes a few microseconds for every node whose distance changes among ways of so many links, and for
    /// its links. A node is settled by looking at all links that lead to it. **Memory**: a record a
    /// link; for every node, one a link that leads to it from what is reached, and one for each round in which its distance
    /// becomes less.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let road = |from: &'static str, to: &'static str, minutes| ((from, to), minutes);
    /// # let roads = table(flow, "roads", [
    /// #     (1, vec![road("depot", "bridge", Some(5_u64)), road("bridge", "clinic", Some(4)), road("depot", "clinic", Some(20))]),
    /// #     (2, vec![road("bridge", "clinic", None)]),
    /// # ]);
    /// # let depots = table(flow, "depots", [(1, vec![("depot", Some(()))])]).map(|(depot, ())| depot);
    /// // ((from, to), minutes): depot to bridge 5, bridge to clinic 4 until 2, depot to clinic 20
    /// let links = roads.map(|((from, to), minutes)| (from, (to, minutes)));
    /// flow.sink("minutes", upsert(&links.shortest_paths(depots)));
    /// # });
    /// assert_eq!(topics.lines("minutes"), [
    ///     r#"{"key":"bridge","value":[5,"depot"],"time":1}"#,
    ///     r#"{"key":"clinic","value":[9,"depot"],"time":1}"#,
    ///     r#"{"key":"depot","value":[0,"depot"],"time":1}"#,
    ///     r#"{"key":"clinic","value":[20,"depot"],"time":2}"#,
    /// ]);
    /// ```
    fn shortest_paths(
        self,
        sources: VecCollection<'s, Time, N, isize>,
    ) -> VecCollection<'s, Time, (N, (u64, N)), isize>;
}

impl<'s, N: Key> Lengths<'s, N> for VecCollection<'s, Time, (N, (N, u64)), isize> {
    fn shortest_paths(
        self,
        sources: VecCollection<'s, Time, N, isize>,
    ) -> VecCollection<'s, Time, (N, (u64, N)), isize> {
        paths::shortest_paths(self, sources)
    }
}
