//! The dataflow as a graph that people can read: what belongs together is one node, and what two looks at it say of the time
//! between them is at the nodes and edges. Pure, but for [`Sampler`], which looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nekton_engine::dataflow::Operator;
use nekton_engine::{Dataflow, Figures, Live, MAX_IN_FLIGHT, Part, Time};
use serde::Serialize;

use crate::hub::now;

/// How old what is shown may be, and how long before is looked again where nobody has looked.
const FRESH: Duration = Duration::from_millis(500);
const STALE: Duration = Duration::from_secs(5);
/// How long workers have to tell.
const TELL: Duration = Duration::from_millis(40);
/// The share of a worker from which on a node is busy, and for how many milliseconds it holds a time until that holds it back.
const BUSY: f64 = 0.25;
const LONG: u64 = 100;

/// The dataflow in a stretch of time.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Graph {
    /// How many workers there are.
    pub(crate) workers: usize,
    /// Over how many seconds rates are taken.
    pub(crate) over: f64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
}

/// An operator, a scope with all that is in it, or several operators one behind the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Node {
    pub(crate) id: usize,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// The operators that are in it, if they are several.
    pub(crate) operators: Vec<String>,
    pub(crate) state: &'static str,
    /// The share of all workers' time, from 0 to 1.
    pub(crate) busy: f64,
    /// Batches that wait for it.
    pub(crate) waiting: u64,
    /// Milliseconds: how old the oldest time is that it holds, and that what leads to it holds.
    pub(crate) lag: u64,
    pub(crate) inherited_lag: u64,
    /// Updates that it keeps in order, if it does.
    pub(crate) arranged: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) per_second: f64,
    /// Blocks of events, or records.
    pub(crate) of: &'static str,
}

/// Looks at a job's dataflow while somebody asks, and at most twice a second.
#[derive(Default)]
pub(crate) struct Sampler(tokio::sync::Mutex<Option<Sample>>);

struct Sample {
    at: Instant,
    dataflow: Dataflow,
    graph: Arc<Graph>,
}

impl Sampler {
    pub(crate) async fn graph(&self, live: &Live) -> Arc<Graph> {
        let mut last = self.0.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.at.elapsed() < FRESH && last.graph.over > 0.) {
            return last.graph.clone();
        }
        if last.as_ref().is_none_or(|last| last.at.elapsed() > STALE) {
            let dataflow = look(live).await;
            *last = Some(Sample { at: Instant::now(), dataflow, graph: Arc::default() });
            tokio::time::sleep(FRESH).await;
        }
        let dataflow = look(live).await;
        let at = Instant::now();
        let before = last.as_ref().map_or_else(Dataflow::default, |last| last.dataflow.clone());
        let graph = Arc::new(Graph::between(&before, &dataflow, &live.figures(), now()));
        *last = Some(Sample { at, dataflow, graph: graph.clone() });
        graph
    }
}

async fn look(live: &Live) -> Dataflow {
    live.look();
    tokio::time::sleep(TELL).await;
    live.dataflow()
}

impl Graph {
    /// What has happened from one look to another.
    pub(crate) fn between(before: &Dataflow, after: &Dataflow, figures: &Figures, now: Time) -> Self {
        // Workers tell when they have time to: what counts is how long they have run in between.
        let ran = after.ran.saturating_sub(before.ran).as_secs_f64().max(1e-3);
        let seconds = ran / after.workers.max(1) as f64;
        let earlier: BTreeMap<usize, &Operator> = before.operators.iter().map(|o| (o.id, o)).collect();
        // What is in a scope is told by the scope.
        let outer = |address: &[usize]| address.get(..2).map(<[usize]>::to_vec);
        let mut nodes: BTreeMap<Vec<usize>, Node> = BTreeMap::new();
        for operator in &after.operators {
            let Some(address) = outer(&operator.address) else { continue };
            let worked =
                earlier.get(&operator.id).map_or(operator.busy, |o| operator.busy.saturating_sub(o.busy));
            let share = worked.as_secs_f64() / ran;
            if let Some(node) = nodes.get_mut(&address) {
                node.busy = (node.busy + share).min(1.);
                node.arranged = node.arranged.into_iter().chain(operator.arranged).reduce(|a, b| a + b);
                continue;
            }
            if operator.part() == Part::Own {
                continue;
            }
            let moving = figures.in_flight > 0;
            let lag = operator.holds.filter(|_| moving).map_or(0, |time| now.saturating_sub(time));
            let node = Node {
                id: operator.id,
                kind: kind(operator.part()),
                name: operator.title().to_owned(),
                operators: Vec::new(),
                state: "",
                busy: share.min(1.),
                waiting: operator.waiting,
                lag,
                inherited_lag: 0,
                arranged: operator.arranged,
            };
            nodes.insert(address, node);
        }
        let passed: BTreeMap<usize, u64> = before.channels.iter().map(|c| (c.id, c.records)).collect();
        let mut edges: BTreeMap<(usize, usize), Edge> = BTreeMap::new();
        for channel in after.channels.iter().filter(|channel| channel.scope.len() == 1) {
            let of = |number: usize| nodes.get(&[&channel.scope[..], &[number]].concat()).map(|node| node.id);
            let (Some(from), Some(to)) = (of(channel.from), of(channel.to)) else { continue };
            let records =
                channel.records.saturating_sub(passed.get(&channel.id).copied().unwrap_or_default());
            let blocks = if channel.blocks { "blocks" } else { "records" };
            let edge = edges.entry((from, to)).or_insert(Edge { from, to, per_second: 0., of: blocks });
            edge.per_second += records as f64 / seconds;
        }
        let mut graph = Graph {
            workers: after.workers,
            over: seconds,
            nodes: nodes.into_values().collect(),
            edges: edges.into_values().collect(),
        };
        graph.fold_chains();
        graph.inherit();
        let full = figures.in_flight >= (MAX_IN_FLIGHT * after.workers) as u64;
        for node in &mut graph.nodes {
            let moves =
                graph.edges.iter().any(|e| (e.from == node.id || e.to == node.id) && e.per_second > 0.);
            node.state = match node {
                _ if node.busy * after.workers as f64 >= BUSY => "busy",
                Node { kind: "source", .. } if full => "held back",
                Node { waiting: 1.., lag: LONG.., .. } => "held back",
                _ if moves => "moving",
                _ => "idle",
            };
        }
        graph
    }

    fn place(&self, id: usize) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    /// Makes one node of operators that only compute, each from the one before it alone.
    fn fold_chains(&mut self) {
        let single = |ends: &mut dyn Iterator<Item = usize>| ends.next().filter(|_| ends.next().is_none());
        while let Some((index, from, to)) = self.edges.iter().enumerate().find_map(|(index, edge)| {
            let out = single(&mut self.edges.iter().filter(|e| e.from == edge.from).map(|e| e.to))?;
            let into = single(&mut self.edges.iter().filter(|e| e.to == out).map(|e| e.from))?;
            let (from, to) = (self.place(into)?, self.place(out)?);
            let derived = |place: usize| self.nodes[place].kind == "derived";
            (from != to && derived(from) && derived(to)).then_some((index, from, to))
        }) {
            self.edges.remove(index);
            let last = self.nodes[to].clone();
            let first = &mut self.nodes[from];
            if first.operators.is_empty() {
                first.operators.push(first.name.clone());
            }
            first.operators.push(last.name);
            first.name = brief(&first.operators);
            first.busy = (first.busy + last.busy).min(1.);
            first.waiting += last.waiting;
            first.lag = first.lag.max(last.lag);
            first.arranged = first.arranged.into_iter().chain(last.arranged).reduce(|a, b| a + b);
            let kept = first.id;
            for edge in self.edges.iter_mut().filter(|edge| edge.from == last.id) {
                edge.from = kept;
            }
            self.nodes.remove(to);
        }
    }

    /// Says of each node how far behind what leads to it is.
    fn inherit(&mut self) {
        // As often as there are nodes at most: each round goes one edge further.
        for _ in 0..self.nodes.len() {
            let mut changed = false;
            for edge in &self.edges {
                let (Some(from), Some(to)) = (self.place(edge.from), self.place(edge.to)) else { continue };
                let behind = self.nodes[from].lag.max(self.nodes[from].inherited_lag);
                if from != to && behind > self.nodes[to].inherited_lag {
                    self.nodes[to].inherited_lag = behind;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }

    /// In which column each node stands: behind all that lead to it, but for what leads back in a loop.
    pub(crate) fn layers(&self) -> BTreeMap<usize, usize> {
        let mut next: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for edge in &self.edges {
            next.entry(edge.from).or_default().push(edge.to);
        }
        let targets: BTreeSet<usize> = self.edges.iter().map(|edge| edge.to).collect();
        // Where nothing leads to first: then what is found again on the way leads back.
        let mut order: Vec<usize> = self.nodes.iter().map(|node| node.id).collect();
        order.sort_by_key(|id| targets.contains(id));
        let (mut done, mut on_the_way) = (BTreeSet::new(), BTreeSet::new());
        let (mut back, mut behind) = (BTreeSet::new(), Vec::new());
        for start in order {
            let mut stack = vec![(start, false)];
            while let Some((id, left)) = stack.pop() {
                if left {
                    on_the_way.remove(&id);
                    behind.push(id);
                    continue;
                }
                if !done.insert(id) {
                    continue;
                }
                on_the_way.insert(id);
                stack.push((id, true));
                for &to in next.get(&id).into_iter().flatten() {
                    if on_the_way.contains(&to) {
                        back.insert((id, to));
                    } else if !done.contains(&to) {
                        stack.push((to, false));
                    }
                }
            }
        }
        let mut layers: BTreeMap<usize, usize> = self.nodes.iter().map(|node| (node.id, 0)).collect();
        for id in behind.into_iter().rev() {
            let layer = layers[&id];
            for &to in next.get(&id).into_iter().flatten().filter(|to| !back.contains(&(id, **to))) {
                if let Some(of_next) = layers.get_mut(&to) {
                    *of_next = (*of_next).max(layer + 1);
                }
            }
        }
        layers
    }
}

fn kind(part: Part) -> &'static str {
    match part {
        Part::Source => "source",
        Part::Root => "root",
        Part::Derived | Part::Own => "derived",
        Part::Sink => "sink",
        Part::View => "view",
    }
}

/// A few names, and how many more there are.
fn brief(names: &[String]) -> String {
    match names {
        [first, .., last] if names.len() > 3 => format!("{first} … {last} ({})", names.len()),
        names => names.join(" · "),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use nekton_engine::dataflow::Channel;

    use super::*;

    fn operator(id: usize, address: &[usize], name: &str) -> Operator {
        Operator { id, address: address.to_vec(), name: name.to_owned(), ..Operator::default() }
    }

    fn channel(id: usize, scope: &[usize], from: usize, to: usize) -> Channel {
        Channel { id, scope: scope.to_vec(), from, to, ..Channel::default() }
    }

    /// A source into agents, and from there through a map and a loop to a view and, beside it, to a sink.
    pub(crate) fn example() -> Dataflow {
        let operators = vec![
            operator(0, &[0], "Dataflow"),
            operator(9, &[0, 1], "Pace"),
            operator(1, &[0, 2], "Source: telemetry"),
            operator(2, &[0, 3], "Agents: vehicles"),
            operator(3, &[0, 4], "Map"),
            operator(4, &[0, 5], "Iterate"),
            operator(5, &[0, 5, 1], "Feedback"),
            operator(6, &[0, 5, 2], "Arrange"),
            operator(7, &[0, 6], "View: rings"),
            operator(8, &[0, 7], "Sink: changes"),
        ];
        let mut channels = vec![
            channel(20, &[0], 1, 3),
            channel(21, &[0], 2, 3),
            channel(22, &[0], 3, 4),
            channel(23, &[0], 4, 5),
            channel(24, &[0, 5], 0, 2),
            channel(25, &[0, 5], 1, 2),
            channel(26, &[0], 5, 6),
            channel(27, &[0], 3, 7),
        ];
        channels[1].blocks = true;
        Dataflow { workers: 2, ran: Duration::from_secs(100), operators, channels }
    }

    fn node<'g>(graph: &'g Graph, name: &str) -> &'g Node {
        graph.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("{name} in {graph:?}"))
    }

    #[test]
    fn what_belongs_together_is_one_node_with_its_rates() {
        let before = example();
        let mut after = example();
        for operator in &mut after.operators {
            operator.busy += Duration::from_millis(100 * operator.id as u64);
        }
        after.ran += Duration::from_secs(4);
        after.operators[7].arranged = Some(70);
        (after.operators[3].waiting, after.operators[3].holds) = (3, Some(1_000));
        after.operators[2].holds = Some(1_990);
        after.channels[1].records += 5;
        after.channels[2].records += 40;
        let figures = Figures { in_flight: 2, ..Figures::default() };
        let graph = Graph::between(&before, &after, &figures, 2_000);
        let names: Vec<_> = graph.nodes.iter().map(|node| (node.kind, &node.name[..])).collect();
        let expected = [
            ("source", "telemetry"),
            ("root", "vehicles"),
            ("derived", "Map · Iterate"),
            ("view", "rings"),
            ("sink", "changes"),
        ];
        assert_eq!(names, expected);
        let edges: Vec<_> = graph.edges.iter().map(|e| (e.from, e.to, e.per_second, e.of)).collect();
        let expected =
            [(1, 2, 2.5, "blocks"), (2, 3, 20., "records"), (2, 8, 0., "records"), (3, 7, 0., "records")];
        assert_eq!(edges, expected);
        // Map and Iterate, and what is in that: 3 + 4 + 5 + 6 tenths of a second, of four.
        let folded = node(&graph, "Map · Iterate");
        assert!((folded.busy - 1.8 / 4.).abs() < 1e-9, "{folded:?}");
        assert_eq!((folded.state, folded.arranged, folded.inherited_lag), ("busy", Some(70), 1_000));
        let root = node(&graph, "vehicles");
        assert_eq!((root.state, root.waiting, root.lag, root.inherited_lag), ("held back", 3, 1_000, 10));
        assert_eq!(node(&graph, "telemetry").state, "moving");
        let layers = graph.layers();
        assert_eq!([1, 2, 3, 7, 8].map(|id| layers[&id]), [0, 1, 2, 3, 2]);
    }

    #[test]
    fn a_loop_has_an_order_too() {
        let node = |id: usize| Node {
            id,
            ..node(&Graph::between(&example(), &example(), &Figures::default(), 0), "vehicles").clone()
        };
        let edge = |from, to| Edge { from, to, per_second: 0., of: "records" };
        let nodes = vec![node(1), node(2), node(3), node(4)];
        let edges = vec![edge(1, 2), edge(2, 3), edge(3, 2), edge(3, 4), edge(4, 4)];
        let layers = Graph { nodes, edges, ..Graph::default() }.layers();
        assert_eq!(layers.into_values().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
