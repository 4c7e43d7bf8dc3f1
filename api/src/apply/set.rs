//! Sets of fields, kept in the very shape that `FieldsV1` has in JSON: a sorted
//! tree whose keys are path elements (`f:name`, `k:{..}`, `v:..`, `i:N`). So what
//! is stored is worked on as it is, without a second form and a way back.
//!
//! A node that is empty, or has `.`, is a member of the set; another one only leads
//! to members. The root is never a member.

use crate::Value;
use serde_json::Map;

/// The tree under a node.
pub(super) type Tree = Map<String, Value>;

const SELF: &str = ".";

/// A set of field paths of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet(pub(super) Tree);

impl FieldSet {
    /// From `FieldsV1`; `None` if that is not what it is. Elements are brought into
    /// their canonical text, so that equal elements have equal keys.
    pub fn parse(fields: &Value) -> Option<Self> {
        canonical(fields.as_object()?, 0).map(Self)
    }

    /// As `FieldsV1`.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn union(&mut self, other: &FieldSet) {
        union(&mut self.0, &other.0);
    }

    /// Takes `other`'s members out; true if any was in.
    pub fn subtract(&mut self, other: &FieldSet) -> bool {
        subtract(&mut self.0, &other.0)
    }

    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        Self(intersection(&self.0, &other.0))
    }

    pub fn is_subset(&self, other: &FieldSet) -> bool {
        is_subset(&self.0, &other.0)
    }

    /// Members under which there are no further members.
    pub fn leaves(&self) -> FieldSet {
        Self(leaves(&self.0))
    }

    /// Adds the path of elements (`["f:spec", "f:replicas"]`).
    pub fn insert(&mut self, path: &[&str]) {
        let mut one = Tree::new();
        for (depth, element) in path.iter().rev().enumerate() {
            let mut outer = Tree::new();
            put(&mut outer, (*element).to_string(), depth == 0, one);
            one = outer;
        }
        union(&mut self.0, &one);
    }

    pub fn contains(&self, path: &[&str]) -> bool {
        let mut tree = &self.0;
        for element in path {
            match tree.get(*element).and_then(Value::as_object) {
                Some(next) => tree = next,
                None => return false,
            }
        }
        !path.is_empty() && is_member(tree)
    }

    /// Takes out the named field and all below it.
    pub(super) fn cut(&mut self, names: &[&str]) {
        cut(&mut self.0, names);
    }

    /// Calls `visit` with every member's path: of one node the members first, then
    /// what lies deeper, as upstream lists them.
    pub(super) fn for_each<'a>(&'a self, visit: &mut dyn FnMut(&[&'a str])) {
        for_each(&self.0, &mut Vec::new(), visit);
    }
}

pub(super) fn is_member(node: &Tree) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// The path element of a named field.
pub(super) fn named(name: &str) -> String {
    let mut element = String::with_capacity(name.len() + 2);
    element.push_str("f:");
    element.push_str(name);
    element
}

/// The elements under a node.
pub(super) fn elements(node: &Tree) -> impl Iterator<Item = (&String, &Tree)> {
    node.iter()
        .filter(|(key, _)| *key != SELF)
        .filter_map(|(key, value)| Some((key, value.as_object()?)))
}

/// Adds a node that is not there yet; nothing if it would say nothing.
pub(super) fn put(parent: &mut Tree, key: String, member: bool, mut children: Tree) {
    if !member && children.is_empty() {
        return;
    }
    settle(&mut children, member);
    parent.insert(key, Value::Object(children));
}

/// Brings a node into the one form for what it says.
fn settle(node: &mut Tree, member: bool) {
    node.remove(SELF);
    if member && !node.is_empty() {
        node.insert(SELF.into(), Value::Object(Tree::new()));
    }
}

pub(super) fn union(into: &mut Tree, other: &Tree) {
    for (key, theirs) in elements(other) {
        match into.get_mut(key).and_then(Value::as_object_mut) {
            None => {
                into.insert(key.clone(), Value::Object(theirs.clone()));
            }
            Some(ours) => {
                let member = is_member(ours) || is_member(theirs);
                union(ours, theirs);
                settle(ours, member);
            }
        }
    }
}

pub(super) fn subtract(from: &mut Tree, other: &Tree) -> bool {
    let mut changed = false;
    for (key, theirs) in elements(other) {
        let Some(ours) = from.get_mut(key).and_then(Value::as_object_mut) else {
            continue;
        };
        let was = is_member(ours);
        let member = was && !is_member(theirs);
        let below = subtract(ours, theirs);
        if was == member && !below {
            continue;
        }
        changed = true;
        settle(ours, member);
        if !member && ours.is_empty() {
            from.remove(key);
        }
    }
    changed
}

pub(super) fn intersection(a: &Tree, b: &Tree) -> Tree {
    let mut both = Tree::new();
    for (key, left) in elements(a) {
        if let Some(right) = b.get(key).and_then(Value::as_object) {
            put(
                &mut both,
                key.clone(),
                is_member(left) && is_member(right),
                intersection(left, right),
            );
        }
    }
    both
}

pub(super) fn is_subset(small: &Tree, big: &Tree) -> bool {
    elements(small).all(|(key, left)| match big.get(key).and_then(Value::as_object) {
        Some(right) => (!is_member(left) || is_member(right)) && is_subset(left, right),
        None => false,
    })
}

fn leaves(tree: &Tree) -> Tree {
    let mut found = Tree::new();
    for (key, node) in elements(tree) {
        let below = leaves(node);
        put(&mut found, key.clone(), below.is_empty(), below);
    }
    found
}

fn cut(tree: &mut Tree, names: &[&str]) {
    let Some((first, rest)) = names.split_first() else {
        return;
    };
    let key = named(first);
    if rest.is_empty() {
        tree.remove(&key);
        return;
    }
    if let Some(node) = tree.get_mut(&key).and_then(Value::as_object_mut) {
        let member = is_member(node);
        cut(node, rest);
        settle(node, member);
        if !member && node.is_empty() {
            tree.remove(&key);
        }
    }
}

fn for_each<'a>(tree: &'a Tree, path: &mut Vec<&'a str>, visit: &mut dyn FnMut(&[&'a str])) {
    for (key, _) in elements(tree).filter(|(_, node)| is_member(node)) {
        path.push(key);
        visit(path);
        path.pop();
    }
    for (key, node) in elements(tree).filter(|(_, node)| !node.is_empty()) {
        path.push(key);
        for_each(node, path, visit);
        path.pop();
    }
}

/// Deeper sets are not ours: no type nests so far, and recursion must end.
const DEPTH_MAX: usize = 200;

fn canonical(tree: &Tree, depth: usize) -> Option<Tree> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut made = Tree::new();
    for (key, node) in tree {
        let below = canonical(node.as_object()?, depth + 1)?;
        if key == SELF {
            // At the root it would mean the whole object, which is nobody's.
            if depth > 0 {
                made.insert(key.clone(), Value::Object(below));
            }
            continue;
        }
        let key = canonical_element(key)?;
        made.insert(key, Value::Object(below));
    }
    if made.len() == 1 {
        // `{".": {}}` says the same as `{}`.
        made.remove(SELF);
    }
    Some(made)
}

fn canonical_element(key: &str) -> Option<String> {
    let (kind, text) = key.split_once(':')?;
    match kind {
        "f" => Some(key.to_string()),
        "i" => text.parse::<i64>().ok().map(|n| format!("i:{n}")),
        "k" => {
            let keys: Tree = serde_json::from_str(text).ok()?;
            Some(format!("k:{}", Value::Object(keys)))
        }
        "v" => {
            let value: Value = serde_json::from_str(text).ok()?;
            Some(format!("v:{value}"))
        }
        _ => None,
    }
}
