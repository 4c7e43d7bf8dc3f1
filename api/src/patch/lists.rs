//! Strategic merge of lists: elements with a merge key, lists of primitives, and
//! the order of the result, which follows upstream's to the letter because
//! `kubectl apply` computes its next patch from it.

use super::strategic::{PATCH, bad_directive, drop_directives, go_text, merge_map};
use super::unclassed;
use crate::schema::Type;
use crate::{ApiError, Value};

/// How the elements of a list are told apart and what they are.
pub(super) struct ListPatch<'a> {
    /// None for primitives.
    pub key: Option<&'a str>,
    pub ty: Option<&'a Type>,
}

pub(super) fn merge(old: Vec<Value>, patch: Vec<Value>, how: &ListPatch<'_>) -> Result<Vec<Value>, ApiError> {
    let Some(key) = how.key else {
        let mut both: Vec<Value> = Vec::with_capacity(old.len() + patch.len());
        for item in old.iter().chain(&patch) {
            if !both.contains(item) {
                both.push(item.clone());
            }
        }
        return Ok(in_order(both, &patch, &old, None));
    };
    let (old, patch) = obey_directives(old, patch, key)?;
    let mut merged = old.clone();
    for element in &patch {
        let Value::Object(new) = element else {
            return Err(no_key(element, key));
        };
        let identity = new.get(key).ok_or_else(|| no_key(element, key))?;
        match merged.iter_mut().find(|item| item.get(key) == Some(identity)) {
            Some(Value::Object(found)) => *found = merge_map(std::mem::take(found), new.clone(), how.ty)?,
            _ => merged.extend(drop_directives(element.clone())),
        }
    }
    Ok(in_order(merged, &patch, &old, Some(key)))
}

/// Carries out `$patch: delete` and `$patch: replace` elements; what is left is to be merged.
fn obey_directives(mut old: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), ApiError> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut replace = false;
    for mut element in patch {
        let directive = element.as_object_mut().and_then(|map| map.remove(PATCH));
        match directive.as_ref().map(|d| d.as_str()) {
            None | Some(Some("merge")) => rest.push(element),
            Some(Some("replace")) => {
                replace = true;
                // Upstream's element carries nothing else; be kind to one that does.
                if element.get(key).is_some() {
                    rest.push(element);
                }
            }
            Some(Some("delete")) => {
                let Some(identity) = element.get(key) else {
                    element[PATCH] = "delete".into();
                    return Err(no_key(&element, key));
                };
                old.retain(|item| item.get(key) != Some(identity));
            }
            _ => return Err(bad_directive(&directive.unwrap_or_default(), &element)),
        }
    }
    Ok(if replace {
        (rest.into_iter().filter_map(drop_directives).collect(), Vec::new())
    } else {
        (old, rest)
    })
}

/// Elements named by `order` stand in that order; the others keep the order of
/// `server`, each going in front of an ordered element that follows it there.
pub(super) fn in_order(merged: Vec<Value>, order: &[Value], server: &[Value], key: Option<&str>) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item, key));
    let (mut ordered, mut server_only): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(order, item).is_some());
    ordered.sort_by_key(|item| place(order, item));
    server_only.sort_by_key(|item| place(server, item));
    let mut result = Vec::with_capacity(ordered.len() + server_only.len());
    let (mut left, mut right) = (server_only.into_iter().peekable(), ordered.into_iter().peekable());
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        let left_first = matches!((place(server, l), place(server, r)), (Some(l), Some(r)) if l < r);
        result.extend(if left_first { left.next() } else { right.next() });
    }
    result.extend(left);
    result.extend(right);
    result
}

fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

/// The elements of a patch must stand in the order that `$setElementOrder` gives.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), ApiError> {
    let mut rest = order.iter();
    for item in patch
        .iter()
        .filter(|item| item.get(PATCH).and_then(Value::as_str) != Some("delete"))
    {
        if item.get(PATCH).is_none() && !rest.any(|o| same(o, item, key)) {
            return Err(unclassed(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                go_text(&Value::from(patch.to_vec())),
                go_text(&Value::from(order.to_vec()))
            )));
        }
    }
    Ok(())
}

fn no_key(element: &Value, key: &str) -> ApiError {
    match element {
        Value::Object(_) => unclassed(format!(
            "map: {} does not contain declared merge key: {key}",
            go_text(element)
        )),
        other => unclassed(format!("expected a map, but received a {}", go_text(other))),
    }
}
