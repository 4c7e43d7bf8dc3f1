//! Reading and writing the metadata of an object in the value tree.

use crate::Value;
use serde_json::Map;

/// The string at a path of keys; empty when it is not there.
pub fn get_str<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    get(object, path).and_then(Value::as_str).unwrap_or_default()
}

pub fn get_i64(object: &Value, path: &[&str]) -> Option<i64> {
    get(object, path).and_then(Value::as_i64)
}

pub fn get_bool(object: &Value, path: &[&str]) -> bool {
    get(object, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The elements of the list at a path; none when it is not there.
pub fn get_list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    get(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub fn get<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |at, key| at.get(key))
}

/// The object at a path, made (with its parents) where it is missing or not an object.
pub fn object_at<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut at = object;
    for key in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[*key];
    }
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    at.as_object_mut().expect("made an object just above")
}

/// Sets the value at a path, making its parents.
pub fn set(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    if let Some((last, parents)) = path.split_last() {
        object_at(object, parents).insert((*last).to_string(), value.into());
    }
}

/// Takes the value at a path out of the object.
pub fn remove(object: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(object, |at, key| at.get_mut(key))?;
    parent.as_object_mut()?.remove(*last)
}

pub fn name(object: &Value) -> &str {
    get_str(object, &["metadata", "name"])
}

pub fn namespace(object: &Value) -> &str {
    get_str(object, &["metadata", "namespace"])
}

pub fn uid(object: &Value) -> &str {
    get_str(object, &["metadata", "uid"])
}

pub fn resource_version(object: &Value) -> &str {
    get_str(object, &["metadata", "resourceVersion"])
}

pub fn is_deleting(object: &Value) -> bool {
    !get_str(object, &["metadata", "deletionTimestamp"]).is_empty()
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    get(object, &["metadata", "labels"])?.get(key)?.as_str()
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    get(object, &["metadata", "annotations"])?.get(key)?.as_str()
}

/// Labels in key order.
pub fn labels(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    let map = get(object, &["metadata", "labels"]).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(k, v)| v.as_str().map(|v| (k.as_str(), v)))
}

pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    get_list(object, &["metadata", "finalizers"])
        .iter()
        .filter_map(Value::as_str)
}

pub fn owner_references(object: &Value) -> &[Value] {
    get_list(object, &["metadata", "ownerReferences"])
}

/// The owner that is marked as the controller.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object)
        .iter()
        .find(|owner| get_bool(owner, &["controller"]))
}

/// Group, version and kind as the object itself gives them.
pub fn gvk(object: &Value) -> (&str, &str, &str) {
    let (group, version) = crate::schema::split_api_version(get_str(object, &["apiVersion"]));
    (group, version, get_str(object, &["kind"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_and_writes() {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "labels": {"x": "1"},
            "ownerReferences": [{"uid": "1"}, {"uid": "2", "controller": true}]}});
        assert_eq!(
            (name(&object), namespace(&object), label(&object, "x")),
            ("a", "", Some("1"))
        );
        assert_eq!(controller_of(&object).map(|o| get_str(o, &["uid"])), Some("2"));
        assert_eq!(gvk(&object), ("apps", "v1", "Deployment"));
        set(&mut object, &["metadata", "annotations", "k"], "v");
        assert_eq!(annotation(&object, "k"), Some("v"));
        assert_eq!(remove(&mut object, &["metadata", "labels", "x"]), Some("1".into()));
        assert_eq!(remove(&mut object, &["spec", "replicas"]), None);
        assert_eq!(labels(&object).count(), 0);
    }
}
