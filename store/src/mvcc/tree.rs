//! The ordered map of live keys: a persistent (structure-sharing) weight-balanced
//! binary tree. Cloning is O(1); a change copies only the path to the root, and
//! copies nothing where no clone is looking.
//!
//! Why our own: each node knows the size of its subtree and the highest mod
//! revision in it, so counting the keys of a prefix, the keys that remain behind
//! a page, and the last change below a prefix cost O(log n). imbl's `OrdMap` has no
//! rank, so a paginated list through it would walk the rest for every page.
//!
//! Pure: no I/O, clocks or randomness.

use crate::contract::{Entry, Event, Revision};
use std::cmp::Ordering;
use std::sync::Arc;

/// Balance factor: no subtree weighs more than this times its sibling.
const DELTA: u32 = 3;
/// Decides between a single and a double rotation. (3, 2) is the proven pair of
/// Hirai and Yamamoto, "Balancing weight-balanced trees" (2011).
const GAMMA: u32 = 2;

type Link = Option<Arc<Node>>;

#[derive(Clone)]
struct Node {
    left: Link,
    right: Link,
    entry: Arc<Entry>,
    size: u32,
    max_mod: Revision,
}

/// The live keys at one revision.
#[derive(Clone, Default)]
pub struct Tree {
    root: Link,
}

fn size(link: &Link) -> u32 {
    link.as_ref().map_or(0, |n| n.size)
}

fn max_mod(link: &Link) -> Revision {
    link.as_ref().map_or(0, |n| n.max_mod)
}

/// True when `a` beside `b` is too light.
fn too_light(a: u32, b: u32) -> bool {
    (a + 1) * DELTA < b + 1
}

impl Node {
    fn update(&mut self) {
        self.size = 1 + size(&self.left) + size(&self.right);
        self.max_mod = self
            .entry
            .mod_revision
            .max(max_mod(&self.left))
            .max(max_mod(&self.right));
    }

    fn rotate_left(&mut self) {
        let Some(mut right) = self.right.take() else { return };
        let r = Arc::make_mut(&mut right);
        self.right = r.left.take();
        self.update();
        std::mem::swap(self, r);
        self.left = Some(right);
        self.update();
    }

    fn rotate_right(&mut self) {
        let Some(mut left) = self.left.take() else { return };
        let l = Arc::make_mut(&mut left);
        self.left = l.right.take();
        self.update();
        std::mem::swap(self, l);
        self.right = Some(left);
        self.update();
    }

    fn balance(&mut self) {
        self.update();
        let (ls, rs) = (size(&self.left), size(&self.right));
        if too_light(ls, rs) {
            if let Some(right) = self.right.as_mut()
                && size(&right.left) + 1 >= GAMMA * (size(&right.right) + 1)
            {
                Arc::make_mut(right).rotate_right();
            }
            self.rotate_left();
        } else if too_light(rs, ls) {
            if let Some(left) = self.left.as_mut()
                && size(&left.right) + 1 >= GAMMA * (size(&left.left) + 1)
            {
                Arc::make_mut(left).rotate_left();
            }
            self.rotate_right();
        }
    }
}

/// What a key holds from now on, made from what it held.
type Make<'a> = &'a mut dyn FnMut(Option<&Arc<Entry>>) -> Arc<Entry>;

fn insert(link: &mut Link, key: &[u8], make: Make<'_>) -> Option<Arc<Entry>> {
    let Some(arc) = link else {
        let entry = make(None);
        let max_mod = entry.mod_revision;
        *link = Some(Arc::new(Node {
            left: None,
            right: None,
            entry,
            size: 1,
            max_mod,
        }));
        return None;
    };
    let node = Arc::make_mut(arc);
    let old = match key.cmp(&node.entry.key) {
        Ordering::Less => insert(&mut node.left, key, make),
        Ordering::Greater => insert(&mut node.right, key, make),
        Ordering::Equal => {
            let entry = make(Some(&node.entry));
            Some(std::mem::replace(&mut node.entry, entry))
        }
    };
    match old {
        Some(_) => node.update(),
        None => node.balance(),
    }
    old
}

/// Takes the first node out of a subtree that is not empty.
fn pop_first(link: &mut Link) -> Option<Arc<Entry>> {
    let node = Arc::make_mut(link.as_mut()?);
    if node.left.is_some() {
        let first = pop_first(&mut node.left);
        node.balance();
        return first;
    }
    let first = node.entry.clone();
    *link = node.right.take();
    Some(first)
}

fn remove(link: &mut Link, key: &[u8]) -> Option<Arc<Entry>> {
    let node = Arc::make_mut(link.as_mut()?);
    let old = match key.cmp(&node.entry.key) {
        Ordering::Less => remove(&mut node.left, key),
        Ordering::Greater => remove(&mut node.right, key),
        Ordering::Equal => {
            if node.left.is_none() || node.right.is_none() {
                let old = node.entry.clone();
                *link = node.left.take().or(node.right.take());
                return Some(old);
            }
            pop_first(&mut node.right).map(|next| std::mem::replace(&mut node.entry, next))
        }
    };
    node.balance();
    old
}

fn build(sorted: &mut std::vec::IntoIter<Arc<Entry>>, count: usize) -> Link {
    if count == 0 {
        return None;
    }
    let left = build(sorted, count / 2);
    let entry = sorted.next()?;
    let right = build(sorted, count - count / 2 - 1);
    let mut node = Node {
        left,
        right,
        entry,
        size: 1,
        max_mod: 0,
    };
    node.update();
    Some(Arc::new(node))
}

impl Tree {
    /// From entries in the order of their keys, in linear time; from others as well.
    pub fn from_entries(entries: Vec<Arc<Entry>>) -> Tree {
        if entries.windows(2).all(|w| w[0].key < w[1].key) {
            let count = entries.len();
            return Tree {
                root: build(&mut entries.into_iter(), count),
            };
        }
        let mut tree = Tree::default();
        entries.into_iter().for_each(|e| {
            tree.insert(e);
        });
        tree
    }

    pub fn len(&self) -> usize {
        size(&self.root) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub fn get(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        let mut link = &self.root;
        while let Some(node) = link {
            link = match key.cmp(&node.entry.key) {
                Ordering::Less => &node.left,
                Ordering::Greater => &node.right,
                Ordering::Equal => return Some(&node.entry),
            };
        }
        None
    }

    /// Returns what the key held before.
    pub fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let key = entry.key.clone();
        insert(&mut self.root, &key, &mut |_| entry.clone())
    }

    /// Puts what is made from what the key held before, which is returned. One walk instead of two.
    pub fn upsert(
        &mut self,
        key: &[u8],
        mut make: impl FnMut(Option<&Arc<Entry>>) -> Arc<Entry>,
    ) -> Option<Arc<Entry>> {
        insert(&mut self.root, key, &mut make)
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<Entry>> {
        // Looked up first, so that a miss copies no path.
        self.get(key)?;
        remove(&mut self.root, key)
    }

    /// Takes events back, given from the newest to the oldest.
    pub fn undo<'a>(&mut self, events: impl Iterator<Item = &'a Arc<Event>>) {
        for event in events {
            match &event.previous {
                Some(entry) => self.insert(entry.clone()),
                None => self.remove(&event.key),
            };
        }
    }

    /// Number of keys smaller than `key`.
    pub fn rank(&self, key: &[u8]) -> usize {
        let (mut link, mut rank) = (&self.root, 0);
        while let Some(node) = link {
            if node.entry.key[..] < *key {
                rank += size(&node.left) as usize + 1;
                link = &node.right;
            } else {
                link = &node.left;
            }
        }
        rank
    }

    /// Number of keys in `from..to` (`to` `None`: no end).
    pub fn count(&self, from: &[u8], to: Option<&[u8]>) -> usize {
        let end = to.map_or(self.len(), |to| self.rank(to));
        end.saturating_sub(self.rank(from))
    }

    /// Highest mod revision in `from..to`, 0 when there is no key.
    pub fn max_mod(&self, from: &[u8], to: Option<&[u8]>) -> Revision {
        fn walk(link: &Link, from: Option<&[u8]>, to: Option<&[u8]>) -> Revision {
            let Some(node) = link else { return 0 };
            if from.is_none() && to.is_none() {
                return node.max_mod;
            }
            let key = &node.entry.key[..];
            if from.is_some_and(|f| key < f) {
                return walk(&node.right, from, to);
            }
            if to.is_some_and(|t| key >= t) {
                return walk(&node.left, from, to);
            }
            node.entry
                .mod_revision
                .max(walk(&node.left, from, None))
                .max(walk(&node.right, None, to))
        }
        walk(&self.root, Some(from), to)
    }

    /// Entries in order, from the first key that is not smaller than `from`.
    pub fn iter_from(&self, from: &[u8]) -> Iter<'_> {
        let mut stack = Vec::with_capacity(32);
        let mut link = &self.root;
        while let Some(node) = link {
            if node.entry.key[..] < *from {
                link = &node.right;
            } else {
                stack.push(&**node);
                link = &node.left;
            }
        }
        Iter { stack }
    }
}

pub struct Iter<'a> {
    stack: Vec<&'a Node>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Arc<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.stack.pop()?;
        let mut link = &node.right;
        while let Some(n) = link {
            self.stack.push(n);
            link = &n.left;
        }
        Some(&node.entry)
    }
}

#[cfg(test)]
impl Tree {
    pub fn rebuilt(&self) -> Tree {
        Tree::from_entries(self.iter_from(b"").cloned().collect())
    }

    /// Checks order, sizes, maxima and balance of every node.
    pub fn assert_sound(&self) {
        fn walk(link: &Link) {
            let Some(n) = link else { return };
            walk(&n.left);
            walk(&n.right);
            assert_eq!(n.size, 1 + size(&n.left) + size(&n.right));
            assert_eq!(
                n.max_mod,
                n.entry.mod_revision.max(max_mod(&n.left)).max(max_mod(&n.right))
            );
            assert!(!too_light(size(&n.left), size(&n.right)) && !too_light(size(&n.right), size(&n.left)));
        }
        walk(&self.root);
        let keys: Vec<_> = self.iter_from(b"").map(|e| e.key.clone()).collect();
        assert!(keys.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(keys.len(), self.len());
    }
}
