//! The rules of `metadata` that hold for every kind: what the server sets, what
//! a client may change, what deletion waits for. Pure; ids and times are arguments.

use serde_json::{Map, Value, json};
use skiff_api::ApiError;
use skiff_kinds::Kind;

/// A generated name is cut so that it fits a DNS label.
const GENERATED_BASE_MAX: usize = 58;
/// Upstream's alphabet for generated suffixes: no vowels, nothing that looks alike.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Text at a path of keys, or empty.
pub fn text_at<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter()
        .try_fold(value, |v, key| v.get(key))
        .and_then(Value::as_str)
        .unwrap_or("")
}

pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    object["metadata"]["deletionTimestamp"].as_str()
}

pub fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"]
        .as_array()
        .map(|f| f.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// Nothing holds the object any more: it is being deleted, has no finalizers
/// (for namespaces neither in its spec), and its grace period is over.
pub fn finished(kind: &Kind, object: &Value) -> bool {
    deletion_timestamp(object).is_some()
        && finalizers(object).is_empty()
        && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && (kind.plural != "namespaces"
            || !kind.group.is_empty()
            || object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty))
}

/// `base` and five random characters, made of `random`.
pub fn generate_name(base: &str, random: [u8; 5]) -> String {
    let mut cut = base.len().min(GENERATED_BASE_MAX);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = base[..cut].to_string();
    name.extend(
        random
            .iter()
            .map(|b| char::from(SUFFIX_ALPHABET[usize::from(*b) % SUFFIX_ALPHABET.len()])),
    );
    name
}

/// Takes what only the server may say out of a new object's metadata, and puts
/// it where the request says.
pub fn new_metadata(object: &mut Value, namespaced: bool, namespace: &str) -> Result<(), ApiError> {
    let metadata = metadata_mut(object)?;
    for key in [
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        metadata.remove(key);
    }
    if namespaced {
        metadata.insert("namespace".into(), namespace.into());
    } else {
        metadata.remove("namespace");
    }
    Ok(())
}

/// Says of a new object who it is, after admission has changed what it will.
pub fn stamp_metadata(object: &mut Value, uid: &str, now: &str) -> Result<(), ApiError> {
    let metadata = metadata_mut(object)?;
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), now.into());
    Ok(())
}

/// Carries over what an update may not change, and drops what is not kept.
pub fn update_metadata(new: &mut Value, old: &Value) -> Result<(), ApiError> {
    let metadata = metadata_mut(new)?;
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "namespace",
        "name",
        "generateName",
    ] {
        match old["metadata"].get(key) {
            Some(value) => metadata.insert(key.into(), value.clone()),
            None => metadata.remove(key),
        };
    }
    metadata.remove("selfLink");
    Ok(())
}

/// Drops owner references that are there twice, and says so.
pub fn dedupe_owners(object: &mut Value, warnings: &mut Vec<String>) {
    let owners = object
        .pointer_mut("/metadata/ownerReferences")
        .and_then(Value::as_array_mut);
    let Some(owners) = owners.filter(|owners| owners.len() > 1) else {
        return;
    };
    let mut twice = Vec::new();
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    for owner in owners.drain(..) {
        if kept.contains(&owner) {
            twice.push(text_at(&owner, &["uid"]).to_string());
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    if !twice.is_empty() {
        warnings.push(format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject \
             such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        ));
    }
}

pub(crate) fn metadata_mut(object: &mut Value) -> Result<&mut Map<String, Value>, ApiError> {
    let map = object
        .as_object_mut()
        .ok_or_else(|| ApiError::bad_request("the body must be an object"))?;
    let metadata = map.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    metadata
        .as_object_mut()
        .ok_or_else(|| ApiError::bad_request("metadata must be an object"))
}

/// Preconditions of a DeleteOptions or of an update that names a uid.
pub fn check_preconditions(
    kind: &Kind,
    name: &str,
    current: &Value,
    uid: Option<&str>,
    rv: Option<&str>,
) -> Result<(), ApiError> {
    let current_uid = text_at(current, &["metadata", "uid"]);
    if let Some(uid) = uid.filter(|u| !u.is_empty() && *u != current_uid) {
        return Err(ApiError::conflict(
            kind.group,
            kind.plural,
            name,
            &format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {current_uid}"),
        ));
    }
    let current_rv = text_at(current, &["metadata", "resourceVersion"]);
    if let Some(rv) = rv.filter(|r| !r.is_empty() && *r != current_rv) {
        return Err(ApiError::conflict(
            kind.group,
            kind.plural,
            name,
            &format!(
                "Precondition failed: ResourceVersion in precondition: {rv}, ResourceVersion in object meta: {current_rv}"
            ),
        ));
    }
    Ok(())
}
