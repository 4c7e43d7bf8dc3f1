//! The field set of an object.

use super::FieldSet;
use super::set::{self, Tree};
use super::shape::{Node, item_element};
use crate::Value;
use crate::schema::Type;

/// Fields of the root and of `metadata` that nobody owns.
pub(super) const ROOT_STRIPPED: [&str; 2] = ["apiVersion", "kind"];
pub(super) const META_STRIPPED: [&str; 8] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What counts as a member.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Members {
    /// What an applied configuration owns: leaves, list items and map keys, but not
    /// the named fields that merely lead to them.
    Applied,
    /// Every node: what came into being when the value did.
    All,
}

/// What an applied configuration owns.
pub fn field_set(ty: &Type, object: &Value) -> FieldSet {
    let mut tree = Tree::new();
    walk(Node::Struct(ty), object, Members::Applied, &mut tree);
    let mut set = FieldSet(tree);
    strip(&mut set);
    set
}

/// The same with `apiVersion`, `kind` and all metadata.
pub(super) fn whole_field_set(ty: &Type, object: &Value) -> FieldSet {
    let mut tree = Tree::new();
    walk(Node::Struct(ty), object, Members::Applied, &mut tree);
    FieldSet(tree)
}

/// Takes out what nobody owns.
pub(super) fn strip(set: &mut FieldSet) {
    for name in ROOT_STRIPPED {
        set.cut(&[name]);
    }
    for name in META_STRIPPED {
        set.cut(&["metadata", name]);
    }
    // An empty metadata, or one that was the only thing added.
    if set.contains(&["f:metadata"]) {
        let mut meta = FieldSet::default();
        meta.insert(&["f:metadata"]);
        set.subtract(&meta);
    }
}

/// Collects what is under `value`; says whether the value itself is a leaf.
pub(super) fn walk(node: Node<'_>, value: &Value, members: Members, out: &mut Tree) -> bool {
    match (node, value) {
        (Node::Leaf, _) => true,
        (Node::List(field), Value::Array(items)) => {
            let element = Node::of_element(field);
            for item in items {
                let Some(key) = item_element(field, item) else { continue };
                let mut below = Tree::new();
                if !out.contains_key(&key) {
                    walk(element, item, members, &mut below);
                }
                // An item that is there twice is owned as a whole.
                set::put(out, key, true, below);
            }
            false
        }
        (Node::List(_), _) => true,
        (_, Value::Object(map)) => {
            for (name, child) in map {
                let member = node.member(name);
                let mut below = Tree::new();
                let leaf = walk(member.node, child, members, &mut below);
                let own = leaf || members == Members::All || member.field.is_none();
                set::put(out, set::named(name), own, below);
            }
            map.is_empty()
        }
        _ => true,
    }
}
