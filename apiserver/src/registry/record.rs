//! Objects as stored bytes: JSON without `metadata.resourceVersion`, with
//! `apiVersion`, `kind` and `metadata` first, so that lists can drop the type
//! and writers can put the revision in without parsing.

use bytes::Bytes;
use serde_json::Value;
use skiff_api::ApiError;
use skiff_kinds::Kind;
use skiff_store::{Entry, Header, Record, Revision};
use std::io::Write;
use std::sync::Arc;

/// What stands around a revision where it is spliced in.
const VERSION_OPEN: &str = "\"resourceVersion\":\"";
const VERSION_CLOSE: &str = "\",";
const METADATA_OPEN: &[u8] = b"\"metadata\":{";

/// An object (in the storage version) as a record. Clock values in it
/// must be set already: the same object always gives the same bytes.
pub fn encode(kind: &Kind, object: &Value) -> Result<Record, ApiError> {
    let (body, rv_offset) = to_bytes(object)?;
    let mut labels: Vec<(&str, &str)> = object["metadata"]["labels"]
        .as_object()
        .map(|map| {
            map.iter()
                .map(|(k, v)| (k.as_str(), v.as_str().unwrap_or("")))
                .collect()
        })
        .unwrap_or_default();
    labels.sort_unstable();
    let fields = kind.strategy().fields(object).into_iter().collect();
    Ok(Record {
        header: Arc::new(Header {
            labels: labels.into_iter().collect(),
            fields,
            rv_offset,
        }),
        body,
    })
}

/// Canonical bytes of an object without its resourceVersion, and the offset
/// where that belongs.
fn to_bytes(object: &Value) -> Result<(Bytes, u32), ApiError> {
    let map = object
        .as_object()
        .ok_or_else(|| ApiError::internal("the object is not a JSON object"))?;
    let metadata = map
        .get("metadata")
        .and_then(Value::as_object)
        .ok_or_else(|| ApiError::internal("the object has no metadata"))?;
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    for key in ["apiVersion", "kind"] {
        write_member(&mut out, key, map.get(key).unwrap_or(&Value::Null))?;
        out.push(b',');
    }
    out.extend_from_slice(METADATA_OPEN);
    let rv_offset = u32::try_from(out.len()).map_err(ApiError::internal)?;
    let mut first = true;
    for (key, value) in metadata
        .iter()
        .filter(|(k, _)| !matches!(k.as_str(), "resourceVersion" | "selfLink"))
    {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_member(&mut out, key, value)?;
    }
    out.push(b'}');
    for (key, value) in map
        .iter()
        .filter(|(k, _)| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata"))
    {
        out.push(b',');
        write_member(&mut out, key, value)?;
    }
    out.push(b'}');
    Ok((Bytes::from(out), rv_offset))
}

fn write_member(out: &mut Vec<u8>, key: &str, value: &Value) -> Result<(), ApiError> {
    serde_json::to_writer(&mut *out, key).map_err(ApiError::internal)?;
    out.push(b':');
    serde_json::to_writer(out, value).map_err(ApiError::internal)
}

/// Appends the entry's JSON with `revision` as its resourceVersion.
pub fn spliced(out: &mut Vec<u8>, entry: &Entry, revision: Revision) {
    splice_from(out, entry, revision, 0);
}

/// Appends the entry's JSON as an item of a typed list: without apiVersion and kind.
pub fn list_item(out: &mut Vec<u8>, entry: &Entry) {
    out.push(b'{');
    splice_from(out, entry, entry.mod_revision(), item_start(entry));
}

/// What [`list_item`] appends, in bytes.
pub fn list_item_length(entry: &Entry) -> usize {
    let digits = entry.mod_revision().checked_ilog10().map_or(0, |log| log as usize + 1);
    let version = if digits > 0 {
        VERSION_OPEN.len() + digits + VERSION_CLOSE.len()
    } else {
        0
    };
    1 + entry.body().len() - item_start(entry) + version
}

/// Appends the object's metadata with `revision` as its resourceVersion.
pub fn metadata_spliced(out: &mut Vec<u8>, entry: &Entry, revision: Revision) {
    let body = entry.body();
    let start = (entry.rv_offset() as usize).min(body.len());
    out.push(b'{');
    if revision > 0 {
        write!(out, "{VERSION_OPEN}{revision}{VERSION_CLOSE}").expect("writing to memory does not fail");
    }
    out.extend_from_slice(&body[start..start + object_length(&body[start..])]);
}

/// Bytes up to and with the brace that closes the object whose inside `text` begins with.
fn object_length(text: &[u8]) -> usize {
    let (mut depth, mut at) = (1_usize, 0);
    while at < text.len() {
        match text[at] {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            b'"' => {
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn item_start(entry: &Entry) -> usize {
    let open = (entry.rv_offset() as usize).saturating_sub(METADATA_OPEN.len());
    open.max(1).min(entry.body().len())
}

fn splice_from(out: &mut Vec<u8>, entry: &Entry, revision: Revision, start: usize) {
    let body = entry.body();
    let offset = (entry.rv_offset() as usize).clamp(start, body.len());
    out.reserve(body.len() + 40);
    out.extend_from_slice(&body[start..offset]);
    // The metadata of a stored object is never empty: it has at least a name.
    // Revision 0 is a dry run's object, which has none.
    if revision > 0 {
        write!(out, "{VERSION_OPEN}{revision}{VERSION_CLOSE}").expect("writing to memory does not fail");
    }
    out.extend_from_slice(&body[offset..]);
}

/// The object as a tree, its resourceVersion set to `revision`.
pub fn decode(entry: &Entry, revision: Revision) -> Result<Value, ApiError> {
    let mut value: Value = serde_json::from_slice(entry.body()).map_err(|e| {
        ApiError::internal(format!(
            "stored object {} is not JSON: {e}",
            String::from_utf8_lossy(entry.key())
        ))
    })?;
    if revision > 0 {
        value["metadata"]["resourceVersion"] = revision.to_string().into();
    }
    Ok(value)
}

/// How the stored bytes of a kind start in this version; bytes that start so
/// need no conversion.
pub fn type_prefix(group: &str, version: &str, kind: &str) -> String {
    let slash = if group.is_empty() { "" } else { "/" };
    format!("{{\"apiVersion\":\"{group}{slash}{version}\",\"kind\":\"{kind}\",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use skiff_store::Numbers;

    #[test]
    fn resource_version_is_spliced_in_and_never_stored() {
        let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"a": "b"},
            "metadata": {"name": "x", "resourceVersion": "7", "labels": {"z": "1", "a": "2"},
            "annotations": {"odd": "}\\\"{\\", "more": "{"}}});
        let (body, rv_offset) = to_bytes(&object).unwrap();
        assert!(body.starts_with(type_prefix("", "v1", "ConfigMap").as_bytes()));
        let record = Record {
            header: Arc::new(Header {
                rv_offset,
                ..Header::default()
            }),
            body,
        };
        let numbers = Numbers {
            create_revision: 1,
            mod_revision: 42,
            version: 1,
            lease: 0,
        };
        let entry = Entry::new(b"k", &record, numbers);
        let mut out = Vec::new();
        spliced(&mut out, &entry, 43);
        let mut want = object.clone();
        want["metadata"]["resourceVersion"] = "43".into();
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), want);
        assert_eq!(decode(&entry, 43).unwrap(), want);
        out.clear();
        list_item(&mut out, &entry);
        want["metadata"]["resourceVersion"] = "42".into();
        let mut metadata = Vec::new();
        metadata_spliced(&mut metadata, &entry, 42);
        assert_eq!(serde_json::from_slice::<Value>(&metadata).unwrap(), want["metadata"]);
        want.as_object_mut()
            .unwrap()
            .retain(|k, _| k != "kind" && k != "apiVersion");
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), want);
    }
}
