//! Merging an applied configuration into the live object, and taking fields out.

use super::set::{self, Tree};
use super::shape::{Node, item_element};
use crate::Value;
use crate::schema::Field;
use std::collections::HashMap;

/// Merges `config` into `live` in place. What is empty on both sides is taken over
/// as the configuration has it, so that empty and absent stay apart.
pub(super) fn merge(node: Node<'_>, live: &mut Value, config: &Value) {
    match (node, live, config) {
        (Node::Leaf, live, config) => *live = config.clone(),
        (Node::List(field), Value::Array(items), Value::Array(new)) if !items.is_empty() && !new.is_empty() => {
            *items = merge_items(field, std::mem::take(items), new);
        }
        (Node::List(_), Value::Array(items), Value::Array(_) | Value::Null) if !items.is_empty() => {}
        (Node::List(_), live, config) => *live = config.clone(),
        (_, Value::Object(map), Value::Object(new)) if !map.is_empty() && !new.is_empty() => {
            for (name, value) in new {
                match map.get_mut(name) {
                    Some(old) => merge(node.member(name).node, old, value),
                    None => {
                        map.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (_, Value::Object(map), Value::Object(_) | Value::Null) if !map.is_empty() => {}
        (_, live, config) => *live = config.clone(),
    }
}

/// The configuration's order holds for its items. Items that only the live list
/// has keep their place before the next item that both lists have.
fn merge_items(field: &Field, live: Vec<Value>, config: &[Value]) -> Vec<Value> {
    let element = Node::of_element(field);
    let config_keys: Vec<Option<String>> = config.iter().map(|item| item_element(field, item)).collect();
    let place: HashMap<&str, usize> = config_keys
        .iter()
        .enumerate()
        .filter_map(|(i, key)| Some((key.as_deref()?, i)))
        .collect();
    // Live items by where the configuration has them.
    let mut live: Vec<(Option<usize>, Option<Value>)> = live
        .into_iter()
        .map(|item| {
            let at = item_element(field, &item).and_then(|key| place.get(key.as_str()).copied());
            (at, Some(item))
        })
        .collect();
    let mut found: Vec<Vec<usize>> = vec![Vec::new(); config.len()];
    for (i, (at, _)) in live.iter().enumerate() {
        if let Some(at) = at {
            found[*at].push(i);
        }
    }
    let mut shared: std::collections::VecDeque<usize> = (0..config.len()).filter(|at| !found[*at].is_empty()).collect();
    let mut out = Vec::with_capacity(live.len() + config.len());
    let (mut l, mut r) = (0, 0);
    let take = |live: &mut Vec<(Option<usize>, Option<Value>)>, at: usize| match found[at].as_slice() {
        [one] => {
            let mut item = live[*one].1.take().unwrap_or_default();
            merge(element, &mut item, &config[at]);
            item
        }
        // Not there, or there more than once: the configuration's stands alone.
        _ => config[at].clone(),
    };
    while l < live.len() || r < config.len() {
        if l < live.len() && r < config.len() {
            if live[l].0 == Some(r) {
                out.push(take(&mut live, r));
                shared.pop_front();
                (l, r) = (l + 1, r + 1);
                continue;
            }
            if live[l].0.is_some() && shared.front().is_some_and(|next| live[l].0 != Some(*next)) {
                // Both have it, but its turn is another.
                l += 1;
                continue;
            }
        }
        if l < live.len() && live[l].0.is_none() {
            out.extend(live[l].1.take());
            l += 1;
            continue;
        }
        if r < config.len() {
            out.push(take(&mut live, r));
            if shared.front() == Some(&r) {
                shared.pop_front();
            }
            r += 1;
        } else {
            // An item of both lists that has been placed already.
            l += 1;
        }
    }
    out
}

/// Takes the members of `gone` out of the value, with all below them. What is
/// emptied by this is left for the caller to drop.
pub(super) fn remove(node: Node<'_>, value: &mut Value, gone: &Tree) {
    match (node, value) {
        (Node::Leaf, _) => {}
        (Node::List(field), Value::Array(items)) => {
            let element = Node::of_element(field);
            items.retain_mut(|item| {
                let Some(below) = item_element(field, item).and_then(|key| gone.get(&key)?.as_object()) else {
                    return true;
                };
                if set::is_member(below) {
                    return false;
                }
                remove(element, item, below);
                true
            });
        }
        (_, Value::Object(map)) => {
            for (key, below) in set::elements(gone) {
                let Some(name) = key.strip_prefix("f:") else { continue };
                if set::is_member(below) {
                    map.remove(name);
                    continue;
                }
                if let Some(child) = map.get_mut(name) {
                    remove(node.member(name).node, child, below);
                    if child.as_object().is_some_and(|m| m.is_empty()) || child.as_array().is_some_and(Vec::is_empty) {
                        map.remove(name);
                    }
                }
            }
        }
        _ => {}
    }
}

/// The set with every named field that leads to a member made a member: what is
/// removed below it may then take it along.
pub(super) fn with_named_fields(node: Node<'_>, tree: &Tree) -> Tree {
    let mut made = Tree::new();
    for (key, below) in set::elements(tree) {
        let named = match (node, key.strip_prefix("f:")) {
            (Node::Struct(ty), Some(name)) => ty.field(name).is_some(),
            _ => false,
        };
        set::put(
            &mut made,
            key.clone(),
            named || set::is_member(below),
            with_named_fields(node.element(key), below),
        );
    }
    made
}
