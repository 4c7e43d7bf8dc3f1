//! Protobuf to the value tree, driven by the descriptors. The result is what Go's
//! JSON of the decoded object would be: zero values of members that are neither
//! required nor pointers are left out.

use super::wire::{MAGIC, Payload, Reader};
use super::{CodecError, MAX_DEPTH, json_schema_type};
use crate::Value;
use crate::schema::{Field, Kind, MAX_PATH, Shape, Type};
use crate::{duration, time};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number};

/// What `runtime.Unknown` says and carries.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProtoEnvelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub raw: &'a [u8],
    /// Empty for protobuf; `application/json` when `raw` is JSON.
    pub content_type: String,
}

/// Takes the envelope off.
pub fn open_envelope(bytes: &[u8]) -> Result<ProtoEnvelope<'_>, CodecError> {
    let body = bytes.strip_prefix(&MAGIC).ok_or(CodecError::NotProtobuf)?;
    let mut envelope = ProtoEnvelope::default();
    let mut reader = Reader::new(body);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => {
                let mut meta = Reader::new(payload.bytes()?);
                while let Some((number, payload)) = meta.next()? {
                    match number {
                        1 => envelope.api_version = payload.text()?,
                        2 => envelope.kind = payload.text()?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = payload.bytes()?,
            4 => envelope.content_type = payload.text()?,
            _ => {}
        }
    }
    Ok(envelope)
}

/// An object in its envelope. Its own `apiVersion` and `kind` are put into the tree.
pub fn decode_proto(ty: &Type, bytes: &[u8]) -> Result<Value, CodecError> {
    let envelope = open_envelope(bytes)?;
    let mut value = if envelope.content_type == "application/json" {
        super::decode_json(envelope.raw)?.0
    } else {
        decode_proto_bare(ty, envelope.raw)?
    };
    if ty.is_kind
        && let Some(object) = value.as_object_mut()
    {
        for (key, text) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
            if !text.is_empty() {
                object.insert(key.into(), text.into());
            }
        }
    }
    Ok(value)
}

/// A message without an envelope.
pub fn decode_proto_bare(ty: &Type, bytes: &[u8]) -> Result<Value, CodecError> {
    let mut map = Map::new();
    message(ty, &[], bytes, &mut map, 0)?;
    Ok(Value::Object(map))
}

/// Reads a message, or the nested message at `prefix`, into the members of `ty`.
fn message(
    ty: &Type,
    prefix: &[u8],
    bytes: &[u8],
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), CodecError> {
    if depth >= MAX_DEPTH {
        return Err(CodecError::TooDeep(MAX_DEPTH));
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        let Ok(number) = u8::try_from(number) else { continue };
        let level = prefix.len();
        let mut key = [0; MAX_PATH];
        key[..level].copy_from_slice(prefix);
        key[level] = number;
        let Some(found) = ty.wire_from(key).filter(|f| f.path().starts_with(&key[..=level])) else {
            continue;
        };
        if found.path().len() > level + 1 {
            message(ty, &key[..=level], payload.bytes()?, map, depth + 1)?;
        } else {
            member(found, &payload, map, depth)?;
        }
    }
    Ok(())
}

fn member(field: &Field, payload: &Payload<'_>, map: &mut Map<String, Value>, depth: usize) -> Result<(), CodecError> {
    match field.shape {
        Shape::One => {
            let value = one(&field.kind, payload, depth)?;
            let drop = value.is_null() || (field.drops_zero() && is_zero(&value, &field.kind));
            if !drop {
                map.insert(field.name.to_string(), value);
            } else {
                map.remove(field.name.as_ref());
            }
        }
        Shape::List => {
            // A packed list of numbers, which proto3 encoders write, comes as bytes.
            let packed =
                matches!(field.kind, Kind::Int32 | Kind::Int64 | Kind::Bool) && matches!(payload, Payload::Bytes(_));
            if packed {
                return Err(CodecError::Proto("wrong wireType"));
            }
            let value = one(&field.kind, payload, depth)?;
            if let Value::Array(items) = map
                .entry(field.name.as_ref())
                .or_insert_with(|| Value::Array(Vec::new()))
            {
                items.push(value);
            }
        }
        Shape::Map | Shape::MapOfList => {
            let (key, value) = entry(field, payload.bytes()?, depth)?;
            if let Value::Object(entries) = map
                .entry(field.name.as_ref())
                .or_insert_with(|| Value::Object(Map::new()))
            {
                entries.insert(key, value);
            }
        }
    }
    Ok(())
}

fn entry(field: &Field, bytes: &[u8], depth: usize) -> Result<(String, Value), CodecError> {
    let (mut key, mut value) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        match (number, field.shape) {
            (1, _) => key = payload.text()?,
            (2, Shape::MapOfList) => {
                let mut items = Vec::new();
                let mut list = Reader::new(payload.bytes()?);
                while let Some((number, payload)) = list.next()? {
                    if number == 1 {
                        items.push(one(&field.kind, &payload, depth)?);
                    }
                }
                value = Some(Value::Array(items));
            }
            (2, _) => value = Some(one(&field.kind, &payload, depth)?),
            _ => {}
        }
    }
    let value = value.unwrap_or_else(|| match (&field.kind, field.shape) {
        (_, Shape::MapOfList) => Value::Array(Vec::new()),
        (Kind::String | Kind::Bytes, _) => "".into(),
        (Kind::Quantity, _) => "0".into(),
        (Kind::Object(_) | Kind::Owned(_), _) => Value::Object(Map::new()),
        _ => Value::Null,
    });
    Ok((key, value))
}

fn is_zero(value: &Value, kind: &Kind) -> bool {
    match (kind, value) {
        (Kind::String | Kind::Bytes, Value::String(text)) => text.is_empty(),
        (Kind::Bool, Value::Bool(b)) => !b,
        (Kind::Int32 | Kind::Int64 | Kind::Double, Value::Number(n)) => n.as_f64() == Some(0.0),
        _ => false,
    }
}

fn one(kind: &Kind, payload: &Payload<'_>, depth: usize) -> Result<Value, CodecError> {
    Ok(match kind {
        Kind::String => payload.text()?.into(),
        Kind::Bool => (payload.number()? != 0).into(),
        Kind::Int32 => (payload.number()? as i32).into(),
        Kind::Int64 => (payload.number()? as i64).into(),
        Kind::Double => Number::from_f64(f64::from_bits(payload.number()?)).map_or(Value::Null, Value::Number),
        Kind::Bytes => STANDARD.encode(payload.bytes()?).into(),
        Kind::Quantity => {
            let text =
                first_bytes(payload.bytes()?)?.map_or_else(String::new, |b| String::from_utf8_lossy(b).into_owned());
            if text.is_empty() {
                "0".into()
            } else {
                crate::quantity::canonical(&text).unwrap_or(text).into()
            }
        }
        Kind::IntOrString => int_or_string(payload.bytes()?)?,
        Kind::Time | Kind::MicroTime => timestamp(payload.bytes()?, matches!(kind, Kind::MicroTime))?,
        Kind::Duration => duration::format_go(first_number(payload.bytes()?)? as i64).into(),
        Kind::RawExtension | Kind::Json | Kind::FieldsV1 => raw(payload.bytes()?, depth)?,
        Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => schema_or(kind, payload.bytes()?, depth)?,
        Kind::Object(_) | Kind::Owned(_) => {
            let mut map = Map::new();
            if let Some(ty) = kind.as_type() {
                message(ty, &[], payload.bytes()?, &mut map, depth + 1)?;
            }
            Value::Object(map)
        }
    })
}

/// Member 1 of a message that has only that one.
fn first_bytes(bytes: &[u8]) -> Result<Option<&[u8]>, CodecError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        if number == 1 {
            return Ok(Some(payload.bytes()?));
        }
    }
    Ok(None)
}

fn first_number(bytes: &[u8]) -> Result<u64, CodecError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        if number == 1 {
            return payload.number();
        }
    }
    Ok(0)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, CodecError> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((n, payload)) = reader.next()? {
        match n {
            1 => is_text = payload.number()? == 1,
            2 => number = payload.number()? as i32,
            3 => text = payload.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// An empty message is Go's zero time, which is null in JSON.
fn timestamp(bytes: &[u8], micro: bool) -> Result<Value, CodecError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => seconds = payload.number()? as i64,
            2 => nanos = payload.number()? as i32 as i64,
            _ => {}
        }
    }
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let at = Timestamp::from_nanosecond(total).map_err(|_| CodecError::Proto("time out of range"))?;
    Ok(if micro {
        time::format_micro(at)
    } else {
        time::format_seconds(at)
    }
    .into())
}

/// A raw object is JSON, or an object in an envelope of its own.
fn raw(bytes: &[u8], depth: usize) -> Result<Value, CodecError> {
    let Some(raw) = first_bytes(bytes)? else {
        return Ok(Value::Null);
    };
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    if !raw.starts_with(&MAGIC) {
        return Ok(super::decode_json(raw)?.0);
    }
    if depth >= MAX_DEPTH / 4 {
        return Err(CodecError::TooDeep(MAX_DEPTH / 4));
    }
    let envelope = open_envelope(raw)?;
    let (group, version) = crate::schema::split_api_version(&envelope.api_version);
    let ty = crate::schema::lookup_gvk(group, version, &envelope.kind)
        .ok_or(CodecError::Proto("raw object of an unknown kind"))?;
    decode_proto(ty, raw)
}

fn schema_or(kind: &Kind, bytes: &[u8], depth: usize) -> Result<Value, CodecError> {
    let Some(ty) = json_schema_type() else {
        return Ok(Value::Null);
    };
    let (mut schema, mut list, mut allows) = (None, Vec::new(), false);
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        let nested = |payload: &Payload<'_>| -> Result<Value, CodecError> {
            let mut map = Map::new();
            message(ty, &[], payload.bytes()?, &mut map, depth + 1)?;
            Ok(Value::Object(map))
        };
        match (kind, number) {
            (Kind::SchemaOrBool, 1) => allows = payload.number()? != 0,
            (Kind::SchemaOrBool, 2) | (_, 1) => schema = Some(nested(&payload)?),
            (Kind::SchemaOrArray, 2) => list.push(nested(&payload)?),
            (_, 2) => list.push(payload.text()?.into()),
            _ => {}
        }
    }
    Ok(match (schema, kind) {
        (Some(schema), _) => schema,
        (None, Kind::SchemaOrBool) => allows.into(),
        (None, _) => Value::Array(list),
    })
}
