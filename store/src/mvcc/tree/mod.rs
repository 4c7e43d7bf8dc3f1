//! The ordered map of live keys: a persistent (structure-sharing) B+tree. Cloning is
//! O(1); a change copies only the nodes on the path to it, and copies nothing where no
//! clone is looking.
//!
//! Why our own: above each node stand the number of keys in it and the highest mod revision, so
//! counting the keys of a prefix, the keys that remain behind a page, and the last change
//! below a prefix cost O(log n). imbl's `OrdMap` has no rank, so a paginated list through
//! it would walk the rest for every page. Why wide: a binary tree meets twenty keys, each in
//! other memory, on the way to one of a million; this one five, and pays two words for a
//! key where the other paid seven.
//!
//! `node` has what changes it · `bounds` the keys between children · `walk` goes through it in
//! order · `diff` finds what differs between two of them.
//!
//! Pure: no I/O, clocks or randomness.

mod bounds;
mod diff;
mod node;
mod walk;

#[cfg(test)]
mod tree_test;

pub use diff::Differences;
pub use walk::Iter;

use crate::contract::{Entry, Event, Revision};
use node::{Child, Node};
use std::sync::Arc;

/// The live keys at one revision.
#[derive(Clone, Default)]
pub struct Tree {
    root: Child,
}

impl Tree {
    /// From entries in the order of their keys, in linear time; from others as well.
    pub fn from_entries(entries: Vec<Entry>) -> Tree {
        if entries.windows(2).all(|w| w[0].key() < w[1].key()) {
            return Tree {
                root: node::build(entries),
            };
        }
        let mut tree = Tree::default();
        entries.into_iter().for_each(|e| {
            tree.insert(e);
        });
        tree
    }

    pub fn len(&self) -> usize {
        self.root.count
    }

    pub fn is_empty(&self) -> bool {
        self.root.count == 0
    }

    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        let mut child = &self.root;
        loop {
            match &*child.node {
                Node::Leaf(leaf) => return leaf.find(key).ok().map(|at| &leaf.entries[at]),
                Node::Inner(inner) => child = &inner.children[inner.bounds.place(key)],
            }
        }
    }

    /// Returns what the key held before.
    pub fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let key = entry.clone();
        self.upsert(key.key(), |_| entry)
    }

    /// Puts what is made from what the key held before, which is returned. One walk instead of two.
    pub fn upsert(&mut self, key: &[u8], make: impl FnOnce(Option<&Entry>) -> Entry) -> Option<Entry> {
        let (previous, split) = self.root.put(key, make);
        if let Some(split) = split {
            let below = std::mem::take(&mut self.root);
            self.root = node::above(below, split);
        }
        previous
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        // Looked up first, so that a miss copies no path.
        self.get(key)?;
        let removed = self.root.remove(key);
        self.root.lower();
        removed
    }

    /// Takes events back, given from the newest to the oldest.
    pub fn undo<'a>(&mut self, events: impl Iterator<Item = &'a Arc<Event>>) {
        for event in events {
            match &event.previous {
                Some(entry) => self.insert(entry.clone()),
                None => self.remove(event.key()),
            };
        }
    }

    /// Number of keys smaller than `key`.
    pub fn rank(&self, key: &[u8]) -> usize {
        let (mut child, mut rank) = (&self.root, 0);
        loop {
            match &*child.node {
                Node::Leaf(leaf) => return rank + leaf.find(key).unwrap_or_else(|at| at),
                Node::Inner(inner) => {
                    let at = inner.bounds.place(key);
                    rank += inner.children[..at].iter().map(|c| c.count).sum::<usize>();
                    child = &inner.children[at];
                }
            }
        }
    }

    /// Number of keys in `from..to` (`to` `None`: no end).
    pub fn count(&self, from: &[u8], to: Option<&[u8]>) -> usize {
        let end = to.map_or(self.len(), |to| self.rank(to));
        end.saturating_sub(self.rank(from))
    }

    /// Highest mod revision in `from..to`, 0 when there is no key.
    pub fn max_mod(&self, from: &[u8], to: Option<&[u8]>) -> Revision {
        self.root.max_mod_within(Some(from), to)
    }

    /// Entries in order, from the first key that is not smaller than `from`.
    pub fn iter_from(&self, from: &[u8]) -> Iter<'_> {
        Iter::from(&self.root.node, from)
    }

    /// What differs between an earlier one and this, in the order of the keys. What they share is not looked at.
    pub fn since<'a>(&'a self, earlier: &'a Tree) -> Differences<'a> {
        Differences::between(&earlier.root.node, &self.root.node)
    }
}
