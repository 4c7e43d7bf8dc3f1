//! Goes through a tree in order. Pure.

use super::node::{Child, Node};
use crate::contract::Entry;
use std::slice;

pub struct Iter<'a> {
    /// What is still to come at each height, the root's children first.
    above: Vec<slice::Iter<'a, Child>>,
    leaf: slice::Iter<'a, Entry>,
}

impl<'a> Iter<'a> {
    /// From the first key that is not smaller than `from`.
    pub(super) fn from(root: &'a Node, from: &[u8]) -> Iter<'a> {
        let (mut above, mut node) = (Vec::new(), root);
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let at = leaf.find(from).unwrap_or_else(|at| at);
                    let leaf = leaf.entries[at..].iter();
                    return Iter { above, leaf };
                }
                Node::Inner(inner) => {
                    let at = inner.bounds.place(from);
                    above.push(inner.children[at + 1..].iter());
                    node = &inner.children[at].node;
                }
            }
        }
    }

    /// Goes down to the first leaf of what comes next; false when nothing does.
    fn next_leaf(&mut self) -> bool {
        loop {
            let Some(level) = self.above.last_mut() else {
                return false;
            };
            match level.next().map(|child| &*child.node) {
                None => {
                    self.above.pop();
                }
                Some(Node::Inner(inner)) => self.above.push(inner.children.iter()),
                Some(Node::Leaf(leaf)) => {
                    self.leaf = leaf.entries.iter();
                    return true;
                }
            }
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            if !self.next_leaf() {
                return None;
            }
        }
    }
}
