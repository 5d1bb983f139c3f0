//! Who is alike: k-means over agents.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use serde::{Deserialize, Serialize};

use super::vector::{Vector, array};

/// How many members are looked at again with each that comes.
const AGAIN: usize = 2;
/// Places are kept in millionths, so that sums of them are exact and come back to what they were when members go.
const UNITS: f64 = 1e6;
const GREATEST: f64 = 9e12;

/// Members in `k` clusters, each around the mean of its members: k-means, a member at a time. A member that comes,
/// moves or goes changes the means of its clusters; with each, two others are looked at again, in turn, and go over
/// to a nearer mean. So the clusters come to rest where the batch algorithm (Lloyd's) does: every member is in the
/// cluster with the nearest mean. Like it, they find a good partition, not the best one.
///
/// The method is MacQueen's, *Some Methods for Classification and Analysis of Multivariate Observations* (1967), "The
/// k-means process", with members that may move. It depends on the order of what came, so it is a state and belongs
/// in an agent: let the agents to be clustered emit their features, and one agent (or one a region) take them in. It
/// is not an operator on collections: what those give must follow from what is there, and be found again after a
/// restart.
///
/// **Cost**: 9 k N operations on numbers, and some ten look-ups in a tree. **Memory**: 8 N bytes and some 40 a
/// member, 16 N a cluster. The number of members is the program's: [remove](Self::remove) those that are gone.
///
/// ```
/// use nekton_operators::learn::Clusters;
///
/// let mut habits = Clusters::<&str, 2>::new(2);
/// habits.place("ann", [7.0, 30.0]); // gets up at 7, rides 30 minutes
/// habits.place("bob", [10.0, 5.0]);
/// habits.place("eve", [7.5, 35.0]);
/// assert_eq!(habits.of(&"ann"), habits.of(&"eve"));
/// assert_ne!(habits.of(&"ann"), habits.of(&"bob"));
/// assert_eq!(habits.means(), [Some([7.25, 32.5]), Some([10.0, 5.0])]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "I: Serialize + Ord", deserialize = "I: Deserialize<'de> + Ord"))]
pub struct Clusters<I, const N: usize> {
    clusters: Vec<Cluster<N>>,
    members: BTreeMap<I, Member<N>>,
    /// Who was looked at again last.
    last: Option<I>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cluster<const N: usize> {
    count: u64,
    #[serde(with = "array")]
    sums: [i128; N],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Member<const N: usize> {
    #[serde(with = "array")]
    at: [i64; N],
    cluster: u32,
}

impl<const N: usize> Cluster<N> {
    fn add(&mut self, at: &[i64; N], times: i8) {
        self.count = self.count.saturating_add_signed(i64::from(times));
        for (sum, x) in self.sums.iter_mut().zip(at) {
            *sum += i128::from(times) * i128::from(*x);
        }
    }
    fn mean(&self) -> Option<Vector<N>> {
        (self.count > 0).then(|| Vector(self.sums.map(|sum| sum as f64 / self.count as f64 / UNITS)))
    }
    /// The square of the distance of its mean.
    fn distance(&self, at: &[i64; N]) -> Option<f64> {
        let mut sum = 0.0;
        for (mean, x) in self.mean()?.0.iter().zip(at) {
            let along = mean - *x as f64 / UNITS;
            sum += along * along;
        }
        Some(sum)
    }
}

impl<I: Ord + Clone, const N: usize> Clusters<I, N> {
    /// So many clusters, which begin with the first members that are at different places.
    ///
    /// # Panics
    /// If there are none, or more than 4,096.
    pub fn new(k: usize) -> Self {
        assert!((1..=4_096).contains(&k), "{k} clusters: let there be 1 to 4,096");
        let clusters = vec![Cluster { count: 0, sums: [0; N] }; k];
        Clusters { clusters, members: BTreeMap::new(), last: None }
    }

    /// A member comes, or moves. Returns its cluster's number; `None`, and nothing is changed, if a number is none or
    /// is beyond ±9 × 10¹².
    pub fn place(&mut self, member: I, at: [f64; N]) -> Option<usize> {
        if !at.iter().all(|x| x.abs() <= GREATEST) {
            return None;
        }
        self.leave(&member);
        let at = at.map(|x| (x * UNITS).round() as i64);
        let cluster = self.choose(&at, None);
        self.clusters[cluster].add(&at, 1);
        self.members.insert(member.clone(), Member { at, cluster: cluster as u32 });
        self.settle(AGAIN);
        self.of(&member)
    }

    /// A member goes. Returns whether it was there.
    pub fn remove(&mut self, member: &I) -> bool {
        let was = self.leave(member);
        self.settle(AGAIN);
        was
    }

    /// Looks at `members` more of them again, in turn, and lets each go over to the cluster that has the nearest
    /// mean. Returns how many did. For quiet moments, such as a timer.
    pub fn settle(&mut self, members: usize) -> usize {
        let mut moved = 0;
        for _ in 0..members.min(self.members.len()) {
            let after = self.last.take();
            let next = after.and_then(|last| self.members.range((Excluded(last), Unbounded)).next());
            let Some((id, Member { at, cluster })) = next.or_else(|| self.members.first_key_value()) else {
                break;
            };
            let (id, at, from) = (id.clone(), *at, *cluster as usize);
            let to = self.choose(&at, Some(from));
            if to != from {
                self.clusters[from].add(&at, -1);
                self.clusters[to].add(&at, 1);
                if let Some(member) = self.members.get_mut(&id) {
                    member.cluster = to as u32;
                }
                moved += 1;
            }
            self.last = Some(id);
        }
        moved
    }

    /// The number of a member's cluster.
    pub fn of(&self, member: &I) -> Option<usize> {
        self.members.get(member).map(|member| member.cluster as usize)
    }

    /// The mean of each cluster; `None` where there are no members.
    pub fn means(&self) -> Vec<Option<[f64; N]>> {
        self.clusters.iter().map(|cluster| cluster.mean().map(|mean| mean.0)).collect()
    }

    /// The members, with their clusters.
    pub fn members(&self) -> impl Iterator<Item = (&I, usize)> {
        self.members.iter().map(|(id, member)| (id, member.cluster as usize))
    }

    fn leave(&mut self, member: &I) -> bool {
        let Some(Member { at, cluster }) = self.members.remove(member) else { return false };
        self.clusters[cluster as usize].add(&at, -1);
        true
    }

    /// Which cluster is right for a place: the nearest; of two, the one where it is, or the first. Whoever is not
    /// where a mean is gets an empty one for itself.
    fn choose(&self, at: &[i64; N], now: Option<usize>) -> usize {
        let mut best = now.and_then(|now| Some((self.clusters[now].distance(at)?, now)));
        let mut empty = None;
        for (number, cluster) in self.clusters.iter().enumerate() {
            match cluster.distance(at) {
                None => empty = empty.or(Some(number)),
                Some(distance) if best.is_none_or(|(least, _)| distance < least) => {
                    best = Some((distance, number));
                }
                Some(_) => {}
            }
        }
        match (best, empty) {
            (Some((distance, _)), Some(empty)) if distance > 0.0 => empty,
            (Some((_, best)), _) => best,
            (None, empty) => empty.unwrap_or(0),
        }
    }
}
