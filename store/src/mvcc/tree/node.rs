//! Leaves and inner nodes, and what changes them: nodes that grow too wide split, those that grow
//! too narrow are joined with a neighbour. Pure.

use super::bounds::{Bounds, between};
use crate::contract::{Entry, Revision};
use std::sync::Arc;

/// Entries of a leaf, children of an inner node at most. Wider ones cost more to copy
/// for a writer beside readers, narrower ones more to search.
pub const WIDTH: usize = 32;

/// A node that has fewer is joined with a neighbour, or takes from it.
const LEAST: usize = WIDTH / 4;

/// Entries or children of a node that is built: with room for some more.
const BUILT: usize = WIDTH - WIDTH / 8;

pub enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

pub struct Leaf {
    pub entries: Vec<Entry>,
}

#[derive(Clone)]
pub struct Inner {
    pub children: Vec<Child>,
    /// One fewer than children.
    pub bounds: Arc<Bounds>,
    /// Of a leaf it is 0.
    pub height: u8,
}

/// A node, with what its parent knows of it.
#[derive(Clone)]
pub struct Child {
    pub node: Arc<Node>,
    pub count: usize,
    pub max_mod: Revision,
}

/// What a node that was too wide gave up: all that is not smaller than the bound.
pub struct Split {
    bound: Box<[u8]>,
    right: Child,
}

impl Clone for Node {
    /// With room, for who copies a node is about to change it.
    fn clone(&self) -> Self {
        match self {
            Node::Leaf(leaf) => Node::Leaf(Leaf::with_room(leaf.entries.iter().cloned())),
            Node::Inner(inner) => Node::Inner(inner.clone()),
        }
    }
}

impl Default for Child {
    fn default() -> Self {
        Child::of(Node::Leaf(Leaf { entries: Vec::new() }))
    }
}

impl Node {
    pub fn height(&self) -> u8 {
        match self {
            Node::Leaf(_) => 0,
            Node::Inner(inner) => inner.height,
        }
    }

    fn width(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.entries.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    fn max_mod(&self) -> Revision {
        let highest = match self {
            Node::Leaf(leaf) => leaf.entries.iter().map(Entry::mod_revision).max(),
            Node::Inner(inner) => inner.children.iter().map(|c| c.max_mod).max(),
        };
        highest.unwrap_or(0)
    }

    /// Gives up what stands from `at` on.
    fn split(&mut self, at: usize) -> Split {
        match self {
            Node::Leaf(leaf) => {
                let bound = between(leaf.entries[at - 1].key(), leaf.entries[at].key());
                let right = Leaf::with_room(leaf.entries.drain(at..));
                *leaf = Leaf::with_room(leaf.entries.drain(..));
                let right = Child::of(Node::Leaf(right));
                Split { bound, right }
            }
            Node::Inner(inner) => {
                let children = inner.children.split_off(at);
                let bounds = std::mem::take(&mut inner.bounds);
                inner.bounds = Arc::new(Bounds::of(bounds.range(0..at - 1)));
                let right = Inner {
                    children,
                    bounds: Arc::new(Bounds::of(bounds.range(at..bounds.len()))),
                    height: inner.height,
                };
                Split {
                    bound: Box::from(bounds.get(at - 1)),
                    right: Child::of(Node::Inner(right)),
                }
            }
        }
    }

    /// Takes all that its right neighbour of the same height has.
    fn join(&mut self, bound: &[u8], right: Node) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(mut right)) => left.entries.append(&mut right.entries),
            (Node::Inner(left), Node::Inner(mut right)) => {
                left.children.append(&mut right.children);
                let (before, behind) = (left.bounds.clone(), right.bounds);
                let all = before.range(0..before.len()).chain([bound]);
                left.bounds = Arc::new(Bounds::of(all.chain(behind.range(0..behind.len()))));
            }
            _ => unreachable!("neighbours have the same height"),
        }
    }
}

impl Leaf {
    /// Where the key is, or where it would be.
    pub fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key().cmp(key))
    }

    /// Of all there is, with room for a few more.
    fn with_room(all: impl ExactSizeIterator<Item = Entry>) -> Leaf {
        let mut entries = Vec::with_capacity((all.len() + 2).min(WIDTH));
        entries.extend(all);
        Leaf { entries }
    }

    /// There is a place left.
    fn insert(&mut self, at: usize, entry: Entry) {
        let length = self.entries.len();
        if length == self.entries.capacity() {
            // By halves, and not beyond its width.
            self.entries.reserve_exact((length / 2).max(2).min(WIDTH - length));
        }
        self.entries.insert(at, entry);
    }
}

impl Child {
    pub fn of(node: Node) -> Child {
        let count = match &node {
            Node::Leaf(leaf) => leaf.entries.len(),
            Node::Inner(inner) => inner.children.iter().map(|c| c.count).sum(),
        };
        Child {
            count,
            max_mod: node.max_mod(),
            node: Arc::new(node),
        }
    }

    /// What was put is the newest there is, except where the past is restored.
    fn revised(&mut self, before: Revision, now: Revision) {
        if now >= self.max_mod {
            self.max_mod = now;
        } else if before == self.max_mod {
            self.max_mod = self.node.max_mod();
        }
    }

    pub fn put(&mut self, key: &[u8], make: impl FnOnce(Option<&Entry>) -> Entry) -> (Option<Entry>, Option<Split>) {
        let (previous, revision, split) = match Arc::make_mut(&mut self.node) {
            Node::Leaf(leaf) => match leaf.find(key) {
                Ok(at) => {
                    let entry = make(Some(&leaf.entries[at]));
                    let revision = entry.mod_revision();
                    (Some(std::mem::replace(&mut leaf.entries[at], entry)), revision, None)
                }
                Err(at) => return (None, self.put_new(at, make(None))),
            },
            Node::Inner(inner) => {
                let at = inner.bounds.place(key);
                let (previous, split) = inner.children[at].put(key, make);
                let beside = split.as_ref().map_or(0, |split| split.right.max_mod);
                let revision = inner.children[at].max_mod.max(beside);
                let split = split.and_then(|split| self.take_in(at + 1, split));
                (previous, revision, split)
            }
        };
        match &split {
            // What is left was counted when it was parted.
            Some(_) => {}
            None => {
                self.count += usize::from(previous.is_none());
                let before = previous.as_ref().map_or(0, Entry::mod_revision);
                self.revised(before, revision);
            }
        }
        (previous, split)
    }

    /// Into a leaf, at its place.
    fn put_new(&mut self, at: usize, entry: Entry) -> Option<Split> {
        let Node::Leaf(leaf) = Arc::make_mut(&mut self.node) else {
            unreachable!("entries are in leaves")
        };
        if leaf.entries.len() < WIDTH {
            let revision = entry.mod_revision();
            leaf.insert(at, entry);
            self.count += 1;
            self.max_mod = self.max_mod.max(revision);
            return None;
        }
        if at == WIDTH {
            // Keys that come in order leave full leaves behind.
            let bound = between(leaf.entries[at - 1].key(), entry.key());
            let right = Child::of(Node::Leaf(Leaf { entries: vec![entry] }));
            return Some(Split { bound, right });
        }
        let mut split = self.part(WIDTH / 2);
        match *entry.key() < *split.bound {
            true => self.put_new(at, entry),
            false => split.right.put_new(at - WIDTH / 2, entry),
        };
        Some(split)
    }

    /// A child's other half, which is to stand at `at`.
    fn take_in(&mut self, at: usize, split: Split) -> Option<Split> {
        let Node::Inner(inner) = Arc::make_mut(&mut self.node) else {
            unreachable!("children are in inner nodes")
        };
        inner.bounds = Arc::new(inner.bounds.inserted(at - 1, &split.bound));
        inner.children.insert(at, split.right);
        let width = inner.children.len();
        if width <= WIDTH {
            return None;
        }
        Some(self.part(if at + 1 == width { width - 1 } else { width.div_ceil(2) }))
    }

    fn part(&mut self, at: usize) -> Split {
        let node = Arc::make_mut(&mut self.node);
        let split = node.split(at);
        self.count = match &*node {
            Node::Leaf(leaf) => leaf.entries.len(),
            Node::Inner(inner) => inner.children.iter().map(|c| c.count).sum(),
        };
        self.max_mod = node.max_mod();
        split
    }

    /// Removes a key that is there.
    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let removed = match Arc::make_mut(&mut self.node) {
            Node::Leaf(leaf) => {
                let at = leaf.find(key).ok()?;
                leaf.entries.remove(at)
            }
            Node::Inner(inner) => {
                let at = inner.bounds.place(key);
                let removed = inner.children[at].remove(key)?;
                inner.mend(at);
                removed
            }
        };
        self.count -= 1;
        if removed.mod_revision() == self.max_mod {
            self.max_mod = self.node.max_mod();
        }
        Some(removed)
    }

    /// A root with one child is that child.
    pub fn lower(&mut self) {
        if self.count == 0 {
            *self = Child::default();
        }
        while let Node::Inner(inner) = &*self.node
            && inner.children.len() == 1
        {
            *self = inner.children[0].clone();
        }
    }

    /// Highest mod revision in `from..to`, 0 when there is no key; a bound that is absent does not count.
    pub fn max_mod_within(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Revision {
        if from.is_none() && to.is_none() {
            return self.max_mod;
        }
        match &*self.node {
            Node::Leaf(leaf) => {
                let place = |key: &[u8]| leaf.find(key).unwrap_or_else(|at| at);
                let (from, to) = (from.map_or(0, place), to.map_or(leaf.entries.len(), place));
                let within = leaf.entries.get(from..to).unwrap_or_default();
                within.iter().map(Entry::mod_revision).max().unwrap_or(0)
            }
            Node::Inner(inner) => {
                let first = from.map_or(0, |key| inner.bounds.place(key));
                let last = to.map_or(inner.children.len() - 1, |key| inner.bounds.place(key));
                (first..=last)
                    .map(|at| {
                        let (from, to) = (from.filter(|_| at == first), to.filter(|_| at == last));
                        inner.children[at].max_mod_within(from, to)
                    })
                    .max()
                    .unwrap_or(0)
            }
        }
    }
}

impl Inner {
    /// Sees to a child that became narrower.
    fn mend(&mut self, at: usize) {
        let neighbours = self.children.len() - 1;
        let child = &self.children[at];
        if neighbours == 0 || child.node.width() >= LEAST {
        } else if child.count == 0 {
            self.children.remove(at);
            self.bounds = Arc::new(self.bounds.removed(at.saturating_sub(1)));
        } else {
            self.join(at.min(neighbours - 1));
        }
    }

    /// Joins a child with the next one, and parts them in the middle if that is too wide.
    fn join(&mut self, at: usize) {
        let right = self.children.remove(at + 1);
        let mut left = std::mem::take(&mut self.children[at]);
        let node = Arc::make_mut(&mut left.node);
        node.join(self.bounds.get(at), Arc::unwrap_or_clone(right.node));
        left.count += right.count;
        left.max_mod = left.max_mod.max(right.max_mod);
        let width = left.node.width();
        if width <= WIDTH {
            self.bounds = Arc::new(self.bounds.removed(at));
        } else {
            let split = left.part(width / 2);
            self.bounds = Arc::new(self.bounds.replaced(at, &split.bound));
            self.children.insert(at + 1, split.right);
        }
        self.children[at] = left;
    }
}

/// The root above a root that was split.
pub fn above(left: Child, split: Split) -> Child {
    let height = left.node.height() + 1;
    let bounds = Arc::new(Bounds::of([&*split.bound].into_iter()));
    Child::of(Node::Inner(Inner {
        children: vec![left, split.right],
        bounds,
        height,
    }))
}

/// How many go into each node of a level, as evenly as can be.
fn shares(all: usize) -> impl Iterator<Item = usize> {
    let nodes = all.div_ceil(BUILT).max(1);
    (0..nodes).map(move |at| all * (at + 1) / nodes - all * at / nodes)
}

/// From entries in order.
pub fn build(entries: Vec<Entry>) -> Child {
    let all = entries.len();
    let mut entries = entries.into_iter();
    let mut bounds: Vec<Box<[u8]>> = Vec::new();
    let mut level: Vec<Child> = Vec::with_capacity(all / BUILT + 1);
    let mut last: Option<Entry> = None;
    for share in shares(all) {
        let leaf: Vec<Entry> = entries.by_ref().take(share).collect();
        if let (Some(last), Some(first)) = (&last, leaf.first()) {
            bounds.push(between(last.key(), first.key()));
        }
        last = leaf.last().cloned();
        level.push(Child::of(Node::Leaf(Leaf { entries: leaf })));
    }
    for height in 1.. {
        if level.len() == 1 {
            break;
        }
        let all = level.len();
        let (mut children, mut at) = (level.into_iter(), 0);
        (level, bounds) = {
            let (mut above, mut between) = (Vec::new(), Vec::new());
            for share in shares(all) {
                let inner = Inner {
                    children: children.by_ref().take(share).collect(),
                    bounds: Arc::new(Bounds::of(bounds[at..at + share - 1].iter().map(|b| &**b))),
                    height,
                };
                at += share;
                between.extend(bounds.get(at - 1).cloned());
                above.push(Child::of(Node::Inner(inner)));
            }
            (above, between)
        };
    }
    level.pop().unwrap_or_default()
}
