//! `metadata.managedFields`: the entries, who they belong to, their order and
//! their number.

use super::FieldSet;
use super::set;
use crate::Value;
use serde_json::json;

pub const APPLY: &str = "Apply";
pub const UPDATE: &str = "Update";

/// As upstream: entries of more updaters than this are merged, oldest first.
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Who writes, in which version, through which subresource, and when.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager; `unknown` if empty.
    pub manager: &'a str,
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `status`, `scale`, or empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339, UTC, whole seconds.
    pub now: &'a str,
}

impl Writer<'_> {
    pub(super) fn name(&self) -> &str {
        if self.manager.is_empty() {
            "unknown"
        } else {
            self.manager
        }
    }

    /// An applier keeps its entry when it moves to another version; an updater has one for each.
    pub(super) fn owns(&self, entry: &Value, operation: &str) -> bool {
        text(entry, "operation") == operation
            && text(entry, "manager") == self.name()
            && text(entry, "subresource") == self.subresource
            && (operation == APPLY || text(entry, "apiVersion") == self.api_version)
    }

    pub(super) fn entry(&self, operation: &str, fields: FieldSet) -> Value {
        let mut entry = json!({
            "manager": self.name(), "operation": operation, "apiVersion": self.api_version,
            "time": self.now, "fieldsType": "FieldsV1", "fieldsV1": fields.into_value(),
        });
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.into();
        }
        entry
    }
}

pub(super) fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or("")
}

pub(super) fn fields_mut(entry: &mut Value) -> Option<&mut set::Tree> {
    entry.get_mut("fieldsV1").and_then(Value::as_object_mut)
}

pub(super) fn fields(entry: &Value) -> Option<&set::Tree> {
    entry.get("fieldsV1").and_then(Value::as_object)
}

/// The object's entries as stored.
pub(super) fn of(object: Option<&Value>) -> Option<&Value> {
    object?.get("metadata")?.get("managedFields")
}

/// Whether a client asks for all entries to be forgotten: an empty list, or one empty entry.
pub(super) fn is_reset(sent: &Value) -> bool {
    match sent.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(serde_json::Map::is_empty),
        _ => false,
    }
}

/// Entries that a client sent, in canonical form; `None` if any is not well-formed.
pub(super) fn read(sent: Value) -> Option<Vec<Value>> {
    let Value::Array(sent) = sent else { return None };
    let mut entries: Vec<Value> = Vec::with_capacity(sent.len());
    for mut entry in sent {
        let known = matches!(text(&entry, "operation"), APPLY | UPDATE)
            && !text(&entry, "apiVersion").is_empty()
            && text(&entry, "fieldsType") == "FieldsV1";
        if !known {
            return None;
        }
        let fields = match entry.get("fieldsV1") {
            None | Some(Value::Null) => FieldSet::default(),
            Some(fields) => FieldSet::parse(fields)?,
        };
        entry["fieldsV1"] = fields.into_value();
        match entries.iter_mut().find(|other| same_owner(other, &entry)) {
            Some(other) => *other = entry,
            None => entries.push(entry),
        }
    }
    Some(entries)
}

fn same_owner(a: &Value, b: &Value) -> bool {
    let keys = ["operation", "manager", "subresource"];
    keys.iter().all(|key| text(a, key) == text(b, key))
        && (text(a, "operation") == APPLY || text(a, "apiVersion") == text(b, "apiVersion"))
}

/// Drops what owns nothing, merges what is too much, and sorts as upstream does.
pub(super) fn settle(entries: &mut Vec<Value>, cap: bool) {
    entries.retain(|entry| fields(entry).is_some_and(|f| !f.is_empty()));
    if cap {
        cap_updaters(entries);
    }
    sort(entries);
}

fn sort(entries: &mut [Value]) {
    let keys = ["operation", "time", "manager", "apiVersion", "subresource"];
    entries.sort_by(|a, b| keys.map(|key| text(a, key)).cmp(&keys.map(|key| text(b, key))));
}

fn cap_updaters(entries: &mut Vec<Value>) {
    let updater = |entry: &Value| text(entry, "operation") == UPDATE;
    let mut count = entries.iter().filter(|e| updater(e)).count();
    if count <= UPDATERS_MAX {
        return;
    }
    let (mut updaters, appliers): (Vec<Value>, Vec<Value>) = std::mem::take(entries).into_iter().partition(updater);
    let keys = ["time", "apiVersion", "manager", "subresource"];
    updaters.sort_by(|a, b| keys.map(|key| text(a, key)).cmp(&keys.map(|key| text(b, key))));
    let mut kept: Vec<Value> = appliers;
    let mut rest = updaters.into_iter();
    // The first of each version becomes the bucket once a second of it is merged.
    let mut oldest: Vec<Value> = Vec::new();
    while count > UPDATERS_MAX {
        let Some(next) = rest.next() else { break };
        let version = text(&next, "apiVersion").to_string();
        let Some(first) = oldest.iter_mut().find(|o| text(o, "apiVersion") == version) else {
            oldest.push(next);
            continue;
        };
        merge_into_bucket(first, &next);
        count -= 1;
    }
    kept.append(&mut oldest);
    kept.extend(rest);
    *entries = kept;
}

fn merge_into_bucket(bucket: &mut Value, newer: &Value) {
    if let (Some(into), Some(more)) = (fields_mut(bucket), fields(newer)) {
        set::union(into, more);
    }
    bucket["manager"] = ANCIENT.into();
    if let Some(map) = bucket.as_object_mut() {
        map.remove("subresource");
        match newer.get("time") {
            Some(time) => map.insert("time".into(), time.clone()),
            None => map.remove("time"),
        };
    }
}

/// Puts the entries into the object, or none at all.
pub(super) fn store(object: &mut Value, entries: Vec<Value>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), Value::Array(entries));
    }
}

/// Takes the entries out of the object.
pub(super) fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// Where two objects differ in nothing but times of entries, the old times are put
/// back: a write that changes nothing is not to look like one.
pub fn keep_times(new: &mut Value, old: &Value) {
    let (Some(now), Some(before)) = (of(Some(new)), of(Some(old))) else {
        return;
    };
    if now == before || !same_but_times(new, old) {
        return;
    }
    let before = before.clone();
    new["metadata"]["managedFields"] = before;
}

fn same_but_times(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return false;
    };
    // The status first: it is what most writes change.
    if new.get("status") != old.get("status") || new.len() != old.len() {
        return false;
    }
    let same_rest = new
        .iter()
        .filter(|(key, _)| *key != "metadata")
        .all(|(key, value)| old.get(key) == Some(value));
    same_rest && same_metadata(new.get("metadata"), old.get("metadata"))
}

fn same_metadata(new: Option<&Value>, old: Option<&Value>) -> bool {
    let (Some(Value::Object(new)), Some(Value::Object(old))) = (new, old) else {
        return false;
    };
    let counted = |key: &str| !matches!(key, "managedFields" | "resourceVersion" | "selfLink");
    let rest_of = |map: &serde_json::Map<String, Value>| map.keys().filter(|k| counted(k)).count();
    let same = new
        .iter()
        .filter(|(key, _)| counted(key))
        .all(|(key, value)| old.get(key) == Some(value));
    let (Some(Value::Array(a)), Some(Value::Array(b))) = (new.get("managedFields"), old.get("managedFields")) else {
        return false;
    };
    same && rest_of(new) == rest_of(old) && a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_entry(a, b))
}

fn same_entry(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return false;
    };
    let timeless = |key: &String| key != "time";
    a.keys().filter(|k| timeless(k)).count() == b.keys().filter(|k| timeless(k)).count()
        && a.iter()
            .filter(|(k, _)| timeless(k))
            .all(|(key, value)| b.get(key) == Some(value))
}
