//! Strategic merge patch of objects: which members merge, which replace, and the
//! directives `$patch`, `$retainKeys`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`.
//! Lists are in [`super::lists`].
//! Source: <https://github.com/kubernetes/community/blob/main/contributors/devel/sig-api-machinery/strategic-merge-patch.md>.

use super::lists::{self, ListPatch};
use super::unclassed;
use crate::schema::{Field, Shape, Type};
use crate::{ApiError, Value};
use serde_json::Map;

pub(super) const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER_PREFIX: &str = "$setElementOrder/";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";

/// Merges `patch` into `live`, an object of type `ty`.
pub fn strategic_merge(ty: &Type, live: &mut Value, patch: Value) -> Result<(), ApiError> {
    let Value::Object(patch) = patch else {
        let what = if patch.is_array() { "array" } else { "value" };
        return Err(ApiError::bad_request(format!(
            "json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"
        )));
    };
    let original = match live.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    *live = Value::Object(merge_map(original, patch, Some(ty))?);
    Ok(())
}

/// Members of one object. `ty` is unknown below free-form objects.
pub(super) fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    ty: Option<&Type>,
) -> Result<Map<String, Value>, ApiError> {
    if let Some(directive) = patch.remove(PATCH) {
        match directive.as_str() {
            Some("replace") => return Ok(without_directives(patch)),
            Some("delete") => return Ok(Map::new()),
            Some("merge") => {}
            _ => return Err(bad_directive(&directive, &Value::Object(patch))),
        }
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, ty)?;
    for (key, value) in patch {
        match key.strip_prefix(DELETE_PREFIX) {
            Some(list) => {
                let Value::Array(gone) = value else {
                    return Err(ApiError::bad_request("invalid patch format of primitive list"));
                };
                if let Some(Value::Array(items)) = original.get_mut(list) {
                    items.retain(|item| !gone.contains(item));
                }
            }
            None => merge_member(&mut original, key, value, ty)?,
        }
    }
    Ok(original)
}

fn merge_member(
    original: &mut Map<String, Value>,
    key: String,
    value: Value,
    ty: Option<&Type>,
) -> Result<(), ApiError> {
    let field = ty.and_then(|t| t.field(&key));
    match (original.get_mut(&key), value) {
        (_, Value::Null) => {
            original.remove(&key);
        }
        (Some(Value::Object(old)), Value::Object(new)) => {
            if field.is_some_and(|f| f.patch.replace) {
                *old = without_directives(new);
            } else {
                *old = merge_map(std::mem::take(old), new, field.and_then(Field::as_type))?;
            }
        }
        (Some(Value::Array(old)), Value::Array(new)) => *old = merge_list(std::mem::take(old), new, field)?,
        (_, value) => {
            if let Some(value) = drop_directives(value) {
                original.insert(key, value);
            }
        }
    }
    Ok(())
}

/// Lists replace unless the field says they merge.
fn merge_list(old: Vec<Value>, new: Vec<Value>, field: Option<&Field>) -> Result<Vec<Value>, ApiError> {
    match field.filter(|f| f.patch.merge && f.shape == Shape::List) {
        Some(field) => lists::merge(old, new, &list_patch(field)),
        None => Ok(new.into_iter().filter_map(drop_directives).collect()),
    }
}

fn list_patch(field: &Field) -> ListPatch<'_> {
    ListPatch {
        key: field.merge_key.as_deref(),
        ty: field.as_type(),
    }
}

/// `$retainKeys`: members of the live object that it does not name go.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), ApiError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(names) = directive else {
        return Err(ApiError::bad_request("invalid patch format of retainKeys"));
    };
    let kept = |key: &String| names.iter().any(|n| n.as_str() == Some(key));
    let named = |(key, value): (&String, &Value)| {
        value.is_null() || key.starts_with(DELETE_PREFIX) || key.starts_with(ORDER_PREFIX) || kept(key)
    };
    if !patch.iter().all(named) {
        return Err(unclassed("patch content doesn't match retainKeys list".into()));
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// `$setElementOrder/x`: merges list `x` and puts its elements in that order;
/// elements that only the live object has keep their place relative to their neighbours.
fn merge_ordered_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    ty: Option<&Type>,
) -> Result<(), ApiError> {
    let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(ORDER_PREFIX)).cloned().collect();
    for directive in directives {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(bad_order());
        };
        let name = &directive[ORDER_PREFIX.len()..];
        let field = ty.and_then(|t| t.field(name));
        let key = field.and_then(|f| f.merge_key.as_deref());
        let old = match original.get(name) {
            Some(Value::Array(items)) => Some(items.clone()),
            _ => None,
        };
        let new = match patch.get(name) {
            Some(Value::Array(_)) => match patch.remove(name) {
                Some(Value::Array(items)) => Some(items),
                _ => None,
            },
            Some(Value::Null) => continue,
            Some(_) => return Err(bad_order()),
            None => None,
        };
        if let Some(new) = &new {
            lists::check_order(new, &order, key)?;
        }
        let merged = match (&old, new) {
            (None, None) => continue,
            (Some(old), None) => old.clone(),
            (None, Some(new)) => new.into_iter().filter_map(drop_directives).collect(),
            (Some(old), Some(new)) => merge_list(old.clone(), new, field)?,
        };
        let ordered = lists::in_order(merged, &order, &old.unwrap_or_default(), key);
        original.insert(name.to_string(), Value::Array(ordered));
    }
    Ok(())
}

/// A value that meets nothing in the live object is taken over, less its directives
/// and nulls; `None` for an element that asks for its own deletion.
pub(super) fn drop_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) => match map.get(PATCH).and_then(Value::as_str) {
            Some("delete") => None,
            Some("replace") if map.len() == 1 => None,
            _ => Some(Value::Object(without_directives(map))),
        },
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(drop_directives).collect())),
        other => Some(other),
    }
}

fn without_directives(map: Map<String, Value>) -> Map<String, Value> {
    let directive =
        |k: &str| k == PATCH || k == RETAIN_KEYS || k.starts_with(ORDER_PREFIX) || k.starts_with(DELETE_PREFIX);
    let kept = map.into_iter().filter(|(k, v)| !v.is_null() && !directive(k));
    kept.filter_map(|(k, v)| drop_directives(v).map(|v| (k, v))).collect()
}

/// `holder` is what the directive stood in.
pub(super) fn bad_directive(directive: &Value, holder: &Value) -> ApiError {
    let mut holder = holder.clone();
    holder[PATCH] = directive.clone();
    unclassed(format!(
        "unknown patch type: {} in map: {}",
        go_text(directive),
        go_text(&holder)
    ))
}

fn bad_order() -> ApiError {
    ApiError::bad_request("invalid patch format of setElementOrder list")
}

/// A value as Go prints it with `%v`: `map[a:1 b:[x y]]`.
pub(super) fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_text(v))).collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}
