//! The value tree to protobuf, driven by the descriptors. What the tree lacks is
//! not written: Go's decoder makes zero values of it.

use super::wire::{BYTES, FIXED64, MAGIC, put_bytes, put_int, put_message, put_tag, put_varint};
use super::{CodecError, MAX_DEPTH, json_schema_type};
use crate::Value;
use crate::quantity;
use crate::schema::{Field, Kind, MAX_PATH, Shape, Type};
use crate::time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The object in Kubernetes' envelope, its `apiVersion` and `kind` beside it.
pub fn encode_proto(ty: &Type, value: &Value) -> Result<Vec<u8>, CodecError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let api_version =
        text("apiVersion").map_or_else(|| crate::schema::api_version(&ty.group, &ty.version), str::to_string);
    let kind = text("kind").unwrap_or(ty.short());
    let body = encode_proto_bare(ty, value)?;
    Ok(seal_envelope(&api_version, kind, &body))
}

/// The message alone.
pub fn encode_proto_bare(ty: &Type, value: &Value) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(512);
    message(&mut out, ty, value, 0)?;
    Ok(out)
}

/// Magic number and `runtime.Unknown` around a message. The two empty strings at
/// the end are what Go's encoder writes.
pub fn seal_envelope(api_version: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64);
    out.extend_from_slice(&MAGIC);
    put_type(&mut out, api_version, kind);
    put_bytes(&mut out, 2, body);
    put_no_encodings(&mut out);
    out
}

fn put_type(out: &mut Vec<u8>, api_version: &str, kind: &str) {
    let _: Result<(), CodecError> = put_message(out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
        Ok(())
    });
}

fn put_no_encodings(out: &mut Vec<u8>) {
    put_bytes(out, 3, b"");
    put_bytes(out, 4, b"");
}

/// A watch event around an object that is already in its envelope.
pub fn encode_watch_event(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + 32);
    put_bytes(&mut out, 1, event_type.as_bytes());
    let _: Result<(), CodecError> = put_message(&mut out, 2, |out| {
        put_bytes(out, 1, object);
        Ok(())
    });
    out
}

/// The event as it goes on the wire of `application/vnd.kubernetes.protobuf;stream=watch`:
/// its length in four bytes, then the bare event. Only the object inside has an envelope.
pub fn frame_watch_event(event_type: &str, object: &[u8]) -> Vec<u8> {
    let event = encode_watch_event(event_type, object);
    let mut out = Vec::with_capacity(event.len() + 4);
    out.extend_from_slice(&(event.len() as u32).to_be_bytes());
    out.extend_from_slice(&event);
    out
}

/// A field that is present, by its place on the wire.
type Present<'a> = ([u8; MAX_PATH], &'a Field, &'a Value);

fn message(out: &mut Vec<u8>, ty: &Type, value: &Value, depth: usize) -> Result<(), CodecError> {
    let Value::Object(map) = value else { return Ok(()) };
    if depth >= MAX_DEPTH {
        return Err(CodecError::TooDeep(MAX_DEPTH));
    }
    let mut present: Vec<Present<'_>> = map
        .iter()
        .filter(|(_, v)| !v.is_null())
        .filter_map(|(k, v)| {
            ty.field(k)
                .filter(|f| !f.path().is_empty())
                .map(|f| (f.wire_key(), f, v))
        })
        .collect();
    present.sort_unstable_by_key(|p| p.0);
    members(out, &present, 0, depth)
}

/// Fields that share a path up to `level`; those that go on sharing sit in a nested message.
fn members(out: &mut Vec<u8>, present: &[Present<'_>], level: usize, depth: usize) -> Result<(), CodecError> {
    let mut rest = present;
    while let Some((path, member, value)) = rest.first() {
        let number = path[level];
        if member.path().len() == level + 1 {
            field(out, number, member, value, depth)?;
            rest = &rest[1..];
            continue;
        }
        let same = rest.iter().take_while(|(p, _, _)| p[level] == number).count();
        let (inner, after) = rest.split_at(same);
        put_message(out, number, |out| members(out, inner, level + 1, depth))?;
        rest = after;
    }
    Ok(())
}

fn field(out: &mut Vec<u8>, number: u8, field: &Field, value: &Value, depth: usize) -> Result<(), CodecError> {
    match (field.shape, value) {
        (Shape::One, value) => one(out, number, &field.kind, value, depth),
        (Shape::List, Value::Array(items)) => items
            .iter()
            .try_for_each(|item| one(out, number, &field.kind, item, depth)),
        (Shape::Map | Shape::MapOfList, Value::Object(map)) => map.iter().try_for_each(|(key, value)| {
            put_message(out, number, |out| {
                put_bytes(out, 1, key.as_bytes());
                match (field.shape, value) {
                    (Shape::MapOfList, Value::Array(items)) => put_message(out, 2, |out| {
                        items.iter().try_for_each(|item| one(out, 1, &field.kind, item, depth))
                    }),
                    (Shape::MapOfList, _) => put_message(out, 2, |_| Ok(())),
                    _ => one(out, 2, &field.kind, value, depth),
                }
            })
        }),
        _ => Ok(()),
    }
}

pub(super) fn one(out: &mut Vec<u8>, number: u8, kind: &Kind, value: &Value, depth: usize) -> Result<(), CodecError> {
    match kind {
        Kind::String => put_bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Kind::Bool => put_int(out, number, i64::from(value.as_bool().unwrap_or_default())),
        Kind::Int32 | Kind::Int64 => put_int(out, number, value.as_i64().unwrap_or_default()),
        Kind::Double => {
            put_tag(out, number, FIXED64);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        Kind::Bytes => put_bytes(out, number, &unbase64(value)?),
        Kind::Quantity => {
            let text = match value {
                Value::String(text) => quantity::canonical(text).unwrap_or_else(|_| text.clone()),
                other => other.to_string(),
            };
            return put_message(out, number, |out| {
                put_bytes(out, 1, text.as_bytes());
                Ok(())
            });
        }
        Kind::IntOrString => return put_message(out, number, |out| int_or_string(out, value)),
        Kind::Time | Kind::MicroTime => return put_message(out, number, |out| timestamp(out, value, kind)),
        Kind::Duration => {
            let nanos = crate::duration::parse_go(value.as_str().unwrap_or_default()).unwrap_or_default();
            return put_message(out, number, |out| {
                put_int(out, 1, nanos);
                Ok(())
            });
        }
        // Both hold the JSON text: Go's decoder of raw objects recognises it.
        Kind::RawExtension | Kind::Json | Kind::FieldsV1 => {
            let json = super::encode_json(value);
            return put_message(out, number, |out| {
                put_bytes(out, 1, &json);
                Ok(())
            });
        }
        Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => {
            return put_message(out, number, |out| schema_or(out, kind, value, depth));
        }
        Kind::Object(_) | Kind::Owned(_) => {
            let Some(ty) = kind.as_type() else { return Ok(()) };
            return put_message(out, number, |out| message(out, ty, value, depth + 1));
        }
    }
    Ok(())
}

fn unbase64(value: &Value) -> Result<Vec<u8>, CodecError> {
    let text = value.as_str().unwrap_or_default();
    let decoded = if text.contains(['\n', '\r']) {
        STANDARD.decode(text.replace(['\n', '\r'], ""))
    } else {
        STANDARD.decode(text)
    };
    decoded.map_err(|_| CodecError::Proto("illegal base64 data in a bytes field"))
}

fn int_or_string(out: &mut Vec<u8>, value: &Value) -> Result<(), CodecError> {
    let number = value.as_i64();
    put_int(out, 1, i64::from(number.is_none()));
    put_int(out, 2, number.unwrap_or_default());
    put_bytes(out, 3, value.as_str().unwrap_or_default().as_bytes());
    Ok(())
}

fn timestamp(out: &mut Vec<u8>, value: &Value, kind: &Kind) -> Result<(), CodecError> {
    let Some(at) = value.as_str().and_then(time::parse) else {
        return Ok(());
    };
    let nanos = at.as_nanosecond();
    put_int(out, 1, nanos.div_euclid(1_000_000_000) as i64);
    // Whole seconds for Time; MicroTime keeps what its text has.
    let fraction = if matches!(kind, Kind::MicroTime) {
        nanos.rem_euclid(1_000_000_000) as i64
    } else {
        0
    };
    put_int(out, 2, fraction);
    Ok(())
}

fn schema_or(out: &mut Vec<u8>, kind: &Kind, value: &Value, depth: usize) -> Result<(), CodecError> {
    let Some(ty) = json_schema_type() else { return Ok(()) };
    let schema_number = if matches!(kind, Kind::SchemaOrBool) { 2 } else { 1 };
    match value {
        Value::Bool(allows) => put_int(out, 1, i64::from(*allows)),
        Value::Object(_) => {
            if schema_number == 2 {
                put_int(out, 1, 1);
            }
            put_message(out, schema_number, |out| message(out, ty, value, depth + 1))?;
        }
        Value::Array(items) => {
            for item in items {
                if matches!(kind, Kind::SchemaOrStrings) {
                    put_bytes(out, 2, item.as_str().unwrap_or_default().as_bytes());
                } else {
                    put_message(out, 2, |out| message(out, ty, item, depth + 1))?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// What stands before and behind the items of a list in its envelope, given the bytes that
/// [`put_list_item`] made of them: `metadata` is member 1 and `items` member 2 of every list kind.
pub fn list_envelope(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items_length: usize,
) -> Result<(Vec<u8>, Vec<u8>), CodecError> {
    let mut meta = Vec::new();
    if let Some(ty) = crate::schema::lookup(&format!("{}.ListMeta", crate::schema::META_V1)) {
        put_message(&mut meta, 1, |out| message(out, ty, metadata, 0))?;
    }
    let mut head = MAGIC.to_vec();
    put_type(&mut head, api_version, kind);
    put_tag(&mut head, 2, BYTES);
    put_varint(&mut head, (meta.len() + items_length) as u64);
    head.extend_from_slice(&meta);
    let mut tail = Vec::new();
    put_no_encodings(&mut tail);
    Ok((head, tail))
}

/// Appends an item, encoded without an envelope, to those of a list.
pub fn put_list_item(out: &mut Vec<u8>, item: &[u8]) {
    put_bytes(out, 2, item);
}
