//! What differs between two trees of which one grew out of the other: nodes that both have
//! are skipped, so it costs what changed, not what there is. Right for any two. Pure.

use super::node::Node;
use crate::contract::Entry;
use std::cmp::Ordering;
use std::sync::Arc;

enum Part<'a> {
    Entry(&'a Entry),
    Node(&'a Arc<Node>),
}

/// What is still to come of a tree, the first on top.
struct Side<'a>(Vec<Part<'a>>);

impl<'a> Side<'a> {
    /// Puts what is in the node on top in its place.
    fn open(&mut self) {
        match self.0.pop() {
            None => {}
            Some(Part::Entry(entry)) => self.0.push(Part::Entry(entry)),
            Some(Part::Node(node)) => match &**node {
                Node::Leaf(leaf) => self.0.extend(leaf.entries.iter().rev().map(Part::Entry)),
                Node::Inner(inner) => self.0.extend(inner.children.iter().rev().map(|c| Part::Node(&c.node))),
            },
        }
    }

    fn entry(&mut self) -> Option<&'a Entry> {
        match self.0.pop() {
            Some(Part::Entry(entry)) => Some(entry),
            _ => None,
        }
    }
}

/// Pairs of what a key held before and holds now; they are not the same.
pub struct Differences<'a> {
    old: Side<'a>,
    new: Side<'a>,
}

impl<'a> Differences<'a> {
    pub(super) fn between(old: &'a Arc<Node>, new: &'a Arc<Node>) -> Self {
        Differences {
            old: Side(vec![Part::Node(old)]),
            new: Side(vec![Part::Node(new)]),
        }
    }
}

impl<'a> Iterator for Differences<'a> {
    type Item = (Option<&'a Entry>, Option<&'a Entry>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (old, new) = (&mut self.old, &mut self.new);
            match (old.0.last(), new.0.last()) {
                (None, None) => return None,
                (Some(Part::Node(a)), Some(Part::Node(b))) if Arc::ptr_eq(a, b) => {
                    old.0.pop();
                    new.0.pop();
                }
                (Some(Part::Node(a)), Some(Part::Node(b))) => {
                    let (a, b) = (a.height(), b.height());
                    if a >= b {
                        old.open();
                    }
                    if b >= a {
                        new.open();
                    }
                }
                (Some(Part::Node(_)), _) => old.open(),
                (_, Some(Part::Node(_))) => new.open(),
                (Some(Part::Entry(_)), None) => return Some((old.entry(), None)),
                (None, Some(Part::Entry(_))) => return Some((None, new.entry())),
                (Some(Part::Entry(a)), Some(Part::Entry(b))) if a.is(b) => {
                    old.0.pop();
                    new.0.pop();
                }
                (Some(Part::Entry(a)), Some(Part::Entry(b))) => match a.key().cmp(b.key()) {
                    Ordering::Less => return Some((old.entry(), None)),
                    Ordering::Greater => return Some((None, new.entry())),
                    Ordering::Equal => {
                        let same = a == b;
                        let both = (old.entry(), new.entry());
                        if !same {
                            return Some(both);
                        }
                    }
                },
            }
        }
    }
}
