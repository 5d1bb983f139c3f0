//! An ordered multiset of values with a summary of every part of it.

use std::cmp::Ordering;
use std::hash::Hash;

use nekton_engine::hash::fixed_hash;

use super::Monoid;

/// A treap (Seidel and Aragon, "Randomized search trees", 1996) whose priorities are the values' fixed hashes. So its
/// shape is a function of what is in it, and so is every summary, bit for bit, even where combining rounds.
///
/// A value may be there a negative number of times: it does not show, and cancels what comes later.
pub struct Tree<V, S> {
    root: Link<V, S>,
}

type Link<V, S> = Option<Box<Node<V, S>>>;

struct Node<V, S> {
    priority: u64,
    value: V,
    count: isize,
    /// Of the node and all below it, if any of it shows.
    summary: Option<S>,
    left: Link<V, S>,
    right: Link<V, S>,
}

impl<V, S> Default for Tree<V, S> {
    fn default() -> Self {
        Tree { root: None }
    }
}

impl<V: Ord + Hash, S: Clone> Tree<V, S> {
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(crate) fn summary(&self) -> Option<&S> {
        self.root.as_ref()?.summary.as_ref()
    }

    /// Adds a value so many times. Expected `O(log n)`.
    pub(crate) fn add<M: Monoid<V, Summary = S>>(&mut self, monoid: &M, value: V, count: isize) {
        let priority = fixed_hash(&value);
        add(&mut self.root, monoid, priority, value, count);
    }

    /// Calls `logic` with the values that show and how often, the smallest first, until it says `false`.
    pub(crate) fn ascending(&self, logic: &mut dyn FnMut(&V, isize) -> bool) {
        walk(&self.root, false, logic);
    }

    /// The same, the greatest first.
    pub(crate) fn descending(&self, logic: &mut dyn FnMut(&V, isize) -> bool) {
        walk(&self.root, true, logic);
    }
}

impl<V: Ord + Hash> Tree<V, usize> {
    /// The value of this rank, from 0, where the summary is the number of values. Expected `O(log n)`.
    pub(crate) fn of_rank(&self, mut rank: usize) -> Option<&V> {
        let weight = |link: &Link<V, usize>| link.as_ref().and_then(|node| node.summary).unwrap_or(0);
        let mut link = &self.root;
        while let Some(node) = link {
            let before = weight(&node.left);
            let through = before + node.count.max(0) as usize;
            if rank < before {
                link = &node.left;
            } else if rank < through {
                return Some(&node.value);
            } else {
                rank -= through;
                link = &node.right;
            }
        }
        None
    }
}

impl<V: Ord, S: Clone> Node<V, S> {
    fn summarize<M: Monoid<V, Summary = S>>(&mut self, monoid: &M) {
        let own = (self.count > 0).then(|| monoid.one(&self.value, self.count as usize));
        let of = |link: &Link<V, S>| link.as_ref().and_then(|node| node.summary.clone());
        let join = |left: Option<S>, right: Option<S>| match (left, right) {
            (Some(left), Some(right)) => Some(monoid.combine(left, right)),
            (left, right) => left.or(right),
        };
        self.summary = join(join(of(&self.left), own), of(&self.right));
    }
    /// The greater one is above.
    fn order(&self) -> (u64, &V) {
        (self.priority, &self.value)
    }
}

fn add<V: Ord, S: Clone, M: Monoid<V, Summary = S>>(
    link: &mut Link<V, S>,
    monoid: &M,
    priority: u64,
    value: V,
    count: isize,
) {
    let Some(node) = link else {
        if count != 0 {
            let mut node = Box::new(Node { priority, value, count, summary: None, left: None, right: None });
            node.summarize(monoid);
            *link = Some(node);
        }
        return;
    };
    match value.cmp(&node.value) {
        Ordering::Equal => {
            node.count += count;
            if node.count == 0 {
                *link = merge(node.left.take(), node.right.take(), monoid);
                return;
            }
        }
        Ordering::Less => {
            add(&mut node.left, monoid, priority, value, count);
            if let Some(mut left) = node.left.take_if(|left| left.order() > (node.priority, &node.value)) {
                // The left child comes up.
                node.left = left.right.take();
                node.summarize(monoid);
                std::mem::swap(node, &mut left);
                node.right = Some(left);
            }
        }
        Ordering::Greater => {
            add(&mut node.right, monoid, priority, value, count);
            if let Some(mut right) = node.right.take_if(|right| right.order() > (node.priority, &node.value))
            {
                node.right = right.left.take();
                node.summarize(monoid);
                std::mem::swap(node, &mut right);
                node.left = Some(right);
            }
        }
    }
    node.summarize(monoid);
}

/// One tree of two, all of whose values are smaller in the left one.
fn merge<V: Ord, S: Clone, M: Monoid<V, Summary = S>>(
    left: Link<V, S>,
    right: Link<V, S>,
    monoid: &M,
) -> Link<V, S> {
    match (left, right) {
        (Some(mut left), Some(mut right)) => {
            if left.order() > right.order() {
                left.right = merge(left.right.take(), Some(right), monoid);
                left.summarize(monoid);
                Some(left)
            } else {
                right.left = merge(Some(left), right.left.take(), monoid);
                right.summarize(monoid);
                Some(right)
            }
        }
        (left, right) => left.or(right),
    }
}

/// Returns whether to go on.
fn walk<V, S>(link: &Link<V, S>, down: bool, logic: &mut dyn FnMut(&V, isize) -> bool) -> bool {
    let Some(node) = link else { return true };
    let (first, last) = if down { (&node.right, &node.left) } else { (&node.left, &node.right) };
    walk(first, down, logic) && (node.count <= 0 || logic(&node.value, node.count)) && walk(last, down, logic)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Weight;
    impl Monoid<u32> for Weight {
        type Summary = usize;
        fn one(&self, _value: &u32, count: usize) -> usize {
            count
        }
        fn combine(&self, left: usize, right: usize) -> usize {
            left + right
        }
    }

    fn depth<V, S>(link: &Link<V, S>) -> usize {
        link.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    #[test]
    fn a_hundred_thousand_values_in_order_stay_shallow() {
        let mut tree = Tree::default();
        for value in 0..100_000 {
            tree.add(&Weight, value, 1);
        }
        assert!(depth(&tree.root) < 64, "{}", depth(&tree.root));
        assert_eq!(tree.of_rank(12_345), Some(&12_345));
        for value in 0..100_000 {
            tree.add(&Weight, value, -1);
        }
        assert!(tree.is_empty());
    }
}
