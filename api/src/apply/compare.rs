//! What changed between two versions of an object. One pass over both trees,
//! which allocates only where they differ: this runs on every write.

use super::FieldSet;
use super::extract::{META_STRIPPED, Members, ROOT_STRIPPED, walk};
use super::set::{self, Tree};
use super::shape::{Node, item_element, same_item, same_leaf};
use crate::Value;
use crate::schema::{Field, Type};
use serde_json::Map;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The fields that differ, by how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What a writer of the new object takes, and what is gone.
    pub(super) fn split(self) -> (FieldSet, FieldSet) {
        let (mut taken, mut other) = (self.added, self.modified);
        if taken.is_empty() {
            std::mem::swap(&mut taken, &mut other);
        }
        taken.union(&other);
        (taken, self.removed)
    }

    pub(super) fn cut(&mut self, names: &[&str]) {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.cut(names);
        }
    }
}

/// Compares two objects of one type; what nobody owns is left out.
pub fn compare(ty: &Type, old: &Value, new: &Value) -> Comparison {
    let empty = Map::new();
    let old = old.as_object().unwrap_or(&empty);
    let new = new.as_object().unwrap_or(&empty);
    let mut found = Found::default();
    members(Node::Struct(ty), old, new, Where::Root, &mut found);
    Comparison {
        added: FieldSet(found.added.below),
        modified: FieldSet(found.modified.below),
        removed: FieldSet(found.removed.below),
    }
}

#[derive(Default)]
struct Part {
    member: bool,
    below: Tree,
}

impl Part {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

/// Differences at and below one node.
#[derive(Default)]
struct Found {
    added: Part,
    modified: Part,
    removed: Part,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    fn attach(&mut self, element: String, child: Found) {
        let parts = [
            (&mut self.added, child.added),
            (&mut self.modified, child.modified),
            (&mut self.removed, child.removed),
        ];
        for (part, child) in parts {
            if !child.is_empty() {
                set::put(&mut part.below, element.clone(), child.member, child.below);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Root,
    Metadata,
    Deeper,
}

impl Where {
    fn skips(self, name: &str) -> bool {
        match self {
            Self::Root => ROOT_STRIPPED.contains(&name),
            Self::Metadata => META_STRIPPED.contains(&name),
            Self::Deeper => false,
        }
    }
}

fn diff(node: Node<'_>, old: Option<&Value>, new: Option<&Value>, at: Where) -> Found {
    let mut found = Found::default();
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            found.added.member = true;
            walk(node, new, Members::All, &mut found.added.below);
        }
        (Some(old), None) => {
            found.removed.member = true;
            walk(node, old, Members::All, &mut found.removed.below);
        }
        (Some(old), Some(new)) => both(node, old, new, at, &mut found),
    }
    found
}

fn both(node: Node<'_>, old: &Value, new: &Value, at: Where, found: &mut Found) {
    match node {
        Node::List(field) => match (old, new) {
            (Value::Array(old), Value::Array(new)) => items(field, old, new, found),
            (Value::Null, Value::Array(new)) => items(field, &[], new, found),
            (Value::Array(old), Value::Null) => items(field, old, &[], found),
            _ => found.modified.member = old != new,
        },
        Node::Leaf => found.modified.member = !same_leaf(old, new),
        Node::Struct(_) | Node::Map(_) | Node::Deduced => match (old, new) {
            (Value::Object(old), Value::Object(new)) => members(node, old, new, at, found),
            (Value::Null, Value::Object(new)) => members(node, &Map::new(), new, at, found),
            (Value::Object(old), Value::Null) => members(node, old, &Map::new(), at, found),
            _ => found.modified.member = !same_leaf(old, new),
        },
    }
}

/// Walks the members of two objects side by side; both are sorted.
fn members(node: Node<'_>, old: &Map<String, Value>, new: &Map<String, Value>, at: Where, found: &mut Found) {
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((l, _)), Some((r, _))) => l.cmp(r),
        };
        let (mut old, mut new) = (None, None);
        let mut name = "";
        if order != Ordering::Greater
            && let Some((key, value)) = left.next()
        {
            (name, old) = (key, Some(value));
        }
        if order != Ordering::Less
            && let Some((key, value)) = right.next()
        {
            (name, new) = (key, Some(value));
        }
        if at.skips(name) {
            continue;
        }
        let member = node.member(name);
        if order != Ordering::Equal
            && let Some(field) = member.field
        {
            // What Go's JSON has where the tree has nothing.
            (old, new) = (old.or(field.zero()), new.or(field.zero()));
        }
        let deeper = if at == Where::Root && name == "metadata" {
            Where::Metadata
        } else {
            Where::Deeper
        };
        let child = diff(member.node, old, new, deeper);
        if !child.is_empty() {
            found.attach(set::named(name), child);
        }
    }
}

fn items(field: &Field, old: &[Value], new: &[Value], found: &mut Found) {
    let element = Node::of_element(field);
    if old.len() == new.len() && old.iter().zip(new).all(|(a, b)| same_item(field, a, b)) {
        for (old, new) in old.iter().zip(new) {
            let child = diff(element, Some(old), Some(new), Where::Deeper);
            if !child.is_empty()
                && let Some(key) = item_element(field, new)
            {
                found.attach(key, child);
            }
        }
        return;
    }
    let mut sides: BTreeMap<String, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in old {
        if let Some(key) = item_element(field, item) {
            sides.entry(key).or_default().0.push(item);
        }
    }
    for item in new {
        if let Some(key) = item_element(field, item) {
            sides.entry(key).or_default().1.push(item);
        }
    }
    for (key, (old, new)) in sides {
        let child = match (old.as_slice(), new.as_slice()) {
            ([] | [_], [] | [_]) => diff(element, old.first().copied(), new.first().copied(), Where::Deeper),
            (old, new) => {
                // The item is there more than once: only the whole of it can be spoken of.
                let mut child = Found::default();
                child.added.member = old.is_empty();
                child.removed.member = new.is_empty();
                child.modified.member = !old.is_empty() && !new.is_empty() && old != new;
                child
            }
        };
        if !child.is_empty() {
            found.attach(key, child);
        }
    }
}
