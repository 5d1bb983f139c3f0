//! One link changed among many: how long until the new answer is complete. Each question runs in a dataflow of its
//! own, on one worker, fed directly; the baseline computes the answer anew in one thread, over plain arrays, from
//! links that it already has in memory. At the end both answers must be the same.

use std::cell::Cell;
use std::hash::Hash;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nekton::differential_dataflow::VecCollection;
use nekton::differential_dataflow::input::InputSession;
use nekton::hash::fixed_hash;
use nekton::operators::{AggregateAll, Count, Graph, Links, Quantiles, Sum, TopK, of};
use nekton::{Time, timely};
use timely::communication::allocator::thread::Thread;
use timely::dataflow::ProbeHandle;

use crate::random::Random;
use crate::report::Report;

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Numbers of agents.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    agents: Vec<u32>,
    /// Links for each agent.
    #[arg(long, default_value_t = 4)]
    links: u32,
    /// Changes that are measured.
    #[arg(long, default_value_t = 2_000)]
    changes: usize,
    /// Questions.
    #[arg(long, value_delimiter = ',', default_value = "aggregate,roll-up,components,reachable")]
    questions: Vec<Question>,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Question {
    Aggregate,
    RollUp,
    Components,
    Reachable,
}

type Link = (u32, u32);

/// What there are of values.
const VALUES: u32 = 1 << 30;

/// Links of agents that change.
struct World {
    links: Vec<Link>,
    /// Which of them change.
    changing: std::ops::Range<usize>,
    /// The second node of a link that changes is one of these.
    targets: std::ops::Range<u32>,
    nodes: u32,
    agents: u32,
}

impl World {
    /// Links between any two.
    fn random(options: &Options, agents: u32, random: &mut Random) -> World {
        let mut node = || (random.next() % u64::from(agents)) as u32;
        let links: Vec<Link> =
            (0..agents as usize * options.links as usize).map(|_| (node(), node())).collect();
        World { changing: 0..links.len(), links, targets: 0..agents, nodes: agents, agents }
    }
    /// Each agent in several groups of a hundred agents each, these in a hundredth as many regions, these in one world.
    fn hierarchy(options: &Options, agents: u32, random: &mut Random) -> World {
        let groups = (agents / 100).max(1);
        let regions = (groups / 100).max(1);
        let mut links: Vec<Link> = Vec::new();
        for agent in 0..agents {
            links.extend(
                (0..options.links).map(|_| (agent, agents + (random.next() % u64::from(groups)) as u32)),
            );
        }
        let of_agents = links.len();
        links.extend((0..groups).map(|group| (agents + group, agents + groups + group % regions)));
        let world = agents + groups + regions;
        links.extend((0..regions).map(|region| (agents + groups + region, world)));
        World { links, changing: 0..of_agents, targets: agents..agents + groups, nodes: world + 1, agents }
    }
    /// All agents in one group, each with a value.
    fn group(agents: u32, random: &mut Random) -> World {
        let mut value = || (random.next() % u64::from(VALUES)) as u32;
        let links: Vec<Link> = (0..agents).map(|agent| (agent, value())).collect();
        World { changing: 0..links.len(), links, targets: 0..VALUES, nodes: agents, agents }
    }
    /// Changes a link; returns it before and after.
    fn change(&mut self, random: &mut Random) -> (Link, Link) {
        let at = self.changing.start + (random.next() % self.changing.len() as u64) as usize;
        let before = self.links[at];
        let target = self.targets.start + (random.next() % self.targets.len() as u64) as u32;
        self.links[at] = (before.0, target);
        (before, self.links[at])
    }
}

/// Adds up to the same for the same records, in whatever order they came and went.
fn digest<D: Hash>(record: &D) -> u64 {
    fixed_hash(record) | 1
}

/// From the world to the digest of the answer.
fn anew(question: Question, world: &World) -> u64 {
    match question {
        Question::Aggregate => {
            let mut values: Vec<u32> = world.links.iter().map(|link| link.1).collect();
            let sum: u64 = values.iter().map(|value| u64::from(*value)).sum();
            let count = values.len();
            let middle = *values.select_nth_unstable(count.div_ceil(2) - 1).1;
            values.select_nth_unstable_by(2, |one, other| other.cmp(one));
            values.truncate(3);
            values.sort_by(|one, other| other.cmp(one));
            digest(&(count as isize, sum, values, vec![middle]))
        }
        Question::RollUp => {
            // The links of agents come first, then those of groups, then those of regions.
            let mut counts = vec![0_isize; world.nodes as usize];
            for (child, parent) in &world.links {
                let own = isize::from(*child < world.agents);
                counts[*parent as usize] += own + counts[*child as usize];
            }
            let shown = (0_u32..).zip(&counts).filter(|(_, count)| **count != 0);
            shown.fold(0, |sum, (node, count)| sum.wrapping_add(digest(&(node, *count))))
        }
        Question::Components => {
            let mut up: Vec<u32> = (0..world.nodes).collect();
            fn root(up: &mut [u32], mut node: u32) -> u32 {
                while up[node as usize] != node {
                    up[node as usize] = up[up[node as usize] as usize];
                    node = up[node as usize];
                }
                node
            }
            let mut linked = vec![false; world.nodes as usize];
            for (one, other) in &world.links {
                linked[*one as usize] = true;
                linked[*other as usize] = true;
                let (one, other) = (root(&mut up, *one), root(&mut up, *other));
                // The name is the node with the least hash.
                let (name, joins) =
                    if fixed_hash(&one) < fixed_hash(&other) { (one, other) } else { (other, one) };
                up[joins as usize] = name;
            }
            let nodes = (0..world.nodes).filter(|node| linked[*node as usize]);
            nodes.fold(0, |sum, node| sum.wrapping_add(digest(&(node, root(&mut up, node)))))
        }
        Question::Reachable => {
            // Links by their first node, in one array.
            let mut starts = vec![0_u32; world.nodes as usize + 1];
            for (from, _) in &world.links {
                starts[*from as usize + 1] += 1;
            }
            for node in 0..world.nodes as usize {
                starts[node + 1] += starts[node];
            }
            let mut next = starts.clone();
            let mut targets = vec![0; world.links.len()];
            for (from, to) in &world.links {
                targets[next[*from as usize] as usize] = *to;
                next[*from as usize] += 1;
            }
            let mut reached = vec![false; world.nodes as usize];
            let (mut stack, mut sum) = (vec![0_u32], 0_u64);
            reached[0] = true;
            while let Some(node) = stack.pop() {
                sum = sum.wrapping_add(digest(&node));
                for to in &targets[starts[node as usize] as usize..starts[node as usize + 1] as usize] {
                    if !std::mem::replace(&mut reached[*to as usize], true) {
                        stack.push(*to);
                    }
                }
            }
            sum
        }
    }
}

/// What is measured of a question.
struct Measured {
    first: Duration,
    /// Sorted.
    changes: Vec<Duration>,
    anew: Duration,
}

impl Measured {
    fn quantile(&self, share: f64) -> f64 {
        millis(self.changes[((self.changes.len() - 1) as f64 * share) as usize])
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn measure(question: Question, options: &Options, agents: u32) -> Measured {
    let mut random = Random(7);
    let mut world = match question {
        Question::Aggregate => World::group(agents, &mut random),
        Question::RollUp => World::hierarchy(options, agents, &mut random),
        Question::Components | Question::Reachable => World::random(options, agents, &mut random),
    };
    let mut worker = worker();
    let (mut links, mut nodes) = (InputSession::new(), InputSession::new());
    let probe = ProbeHandle::new();
    let answer = Rc::new(Cell::new(0_u64));
    worker.dataflow::<Time, _, _>(|scope| {
        let (links, nodes) = (links.to_collection(scope), nodes.to_collection(scope));
        match question {
            Question::Aggregate => {
                let values = links.map(|(_, value)| value).aggregate_all((
                    Count,
                    of(|value: &u32| u64::from(*value), Sum),
                    TopK(3),
                    Quantiles::median(),
                ));

                watch(values, &answer, &probe);
            }
            Question::RollUp => watch(links.roll_up(nodes.map(|node| (node, ())), Count), &answer, &probe),
            Question::Components => watch(links.components(), &answer, &probe),
            Question::Reachable => watch(links.reachable(nodes), &answer, &probe),
        }
    });
    let start = Instant::now();
    for link in &world.links {
        links.update(*link, 1_isize);
    }
    match question {
        Question::RollUp => (0..agents).for_each(|agent| nodes.update(agent, 1)),
        Question::Aggregate | Question::Components | Question::Reachable => nodes.update(0, 1),
    }
    let mut time = 1;
    let mut advance = |links: &mut InputSession<Time, Link, isize>, time: Time| {
        links.advance_to(time);
        nodes.advance_to(time);
        links.flush();
        nodes.flush();
        while probe.less_than(&time) {
            worker.step();
        }
    };
    advance(&mut links, time);
    let first = start.elapsed();
    let mut changes = Vec::new();
    for number in 0..options.changes + options.changes / 10 {
        let (before, after) = world.change(&mut random);
        let start = Instant::now();
        links.update(before, -1);
        links.update(after, 1);
        time += 1;
        advance(&mut links, time);
        // The first ones still find the state of the load being merged.
        if number >= options.changes / 10 {
            changes.push(start.elapsed());
        }
    }
    changes.sort();
    let mut anews: Vec<Duration> = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(anew(question, &world), answer.get(), "{question:?}: both must have the same answer");
        anews.push(start.elapsed());
    }
    anews.sort();
    Measured { first, changes, anew: anews[1] }
}

/// One worker on this thread, configured as those of a job.
pub fn worker() -> timely::worker::Worker {
    let mut config = timely::WorkerConfig::default();
    let idle = nekton::differential_dataflow::Config::default().idle_merge_effort(Some(1_000));
    nekton::differential_dataflow::configure(&mut config, &idle);
    let allocator = timely::communication::Allocator::Thread(Thread::default());
    timely::worker::Worker::new(config, allocator, Some(Instant::now()))
}

fn watch<D: Hash + Clone + 'static>(
    answers: VecCollection<'_, Time, D, isize>,
    sum: &Rc<Cell<u64>>,
    probe: &ProbeHandle<Time>,
) {
    let sum = sum.clone();
    answers
        .inspect(move |(record, _, diff)| {
            sum.set(sum.get().wrapping_add(digest(record).wrapping_mul(*diff as u64)));
        })
        .probe_with(probe);
}

/// Measures all questions at all sizes.
pub fn run(options: &Options) -> Report {
    let mut report = Report::new("links");
    let mut aims = Vec::new();
    for question in &options.questions {
        for agents in &options.agents {
            let measured = measure(*question, options, *agents);
            let name = format!("{question:?}, {agents} agents");
            report.figure(format!("{name}: first answer"), millis(measured.first), "ms");
            report.figure(format!("{name}: a change, p50"), measured.quantile(0.5), "ms");
            report.figure(format!("{name}: a change, p99"), measured.quantile(0.99), "ms");
            report.figure(format!("{name}: anew"), millis(measured.anew), "ms");
            report.figure(
                format!("{name}: anew / p50"),
                millis(measured.anew) / measured.quantile(0.5),
                "times",
            );
            aims.push((format!("{name}: p99 in ms, at most"), measured.quantile(0.99)));
        }
    }
    for (name, p99) in aims {
        report.at_most(name, 1.0, p99);
    }
    report
}
