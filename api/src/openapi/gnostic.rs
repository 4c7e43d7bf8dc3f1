//! The OpenAPI v2 document in protobuf
//! (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`), which Go clients
//! ask for. Written from the JSON document; only what such documents of ours contain.
//! Source: <https://github.com/google/gnostic-models/blob/main/openapiv2/OpenAPIv2.proto>.

use crate::Value;
use crate::codec::wire::{put_bytes, put_int, put_message};
use serde_json::Map;
use std::convert::Infallible;

pub(super) type Written = Result<(), Infallible>;

/// `document` is an OpenAPI v2 document as JSON.
pub fn to_protobuf(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let Ok(()) = write_document(&mut out, document);
    out
}

fn write_document(out: &mut Vec<u8>, document: &Value) -> Written {
    text(out, 1, &document["swagger"]);
    put_message(out, 2, |out| {
        text(out, 1, &document["info"]["title"]);
        text(out, 2, &document["info"]["version"]);
        Written::Ok(())
    })?;
    put_message(out, 8, |out| named(out, 2, &document["paths"], path_item))?;
    put_message(out, 9, |out| named(out, 1, &document["definitions"], schema))
}

pub(super) fn text(out: &mut Vec<u8>, number: u8, value: &Value) {
    if let Some(text) = value.as_str() {
        put_bytes(out, number, text.as_bytes());
    }
}

pub(super) fn texts(out: &mut Vec<u8>, number: u8, value: &Value) {
    value
        .as_array()
        .into_iter()
        .flatten()
        .for_each(|v| text(out, number, v));
}

pub(super) fn flag(out: &mut Vec<u8>, number: u8, value: &Value) {
    if value.as_bool() == Some(true) {
        put_int(out, number, 1);
    }
}

/// Entries of an object as messages of a name and a value.
pub(super) fn named(out: &mut Vec<u8>, number: u8, map: &Value, body: fn(&mut Vec<u8>, &Value) -> Written) -> Written {
    map.as_object().into_iter().flatten().try_for_each(|(name, value)| {
        put_message(out, number, |out| {
            put_bytes(out, 1, name.as_bytes());
            put_message(out, 2, |out| body(out, value))
        })
    })
}

/// `x-...` members.
pub(super) fn extensions(out: &mut Vec<u8>, number: u8, map: &Value) -> Written {
    let own = map
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(k, _)| k.starts_with("x-"));
    named(
        out,
        number,
        &Value::Object(own.map(|(k, v)| (k.clone(), v.clone())).collect::<Map<_, _>>()),
        any,
    )
}

/// JSON is YAML.
pub(super) fn any(out: &mut Vec<u8>, value: &Value) -> Written {
    put_bytes(out, 2, value.to_string().as_bytes());
    Ok(())
}

fn path_item(out: &mut Vec<u8>, item: &Value) -> Written {
    let methods = [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (6, "options"),
        (7, "head"),
        (8, "patch"),
    ];
    for (number, method) in methods {
        if let Some(operation) = item.get(method) {
            put_message(out, number, |out| write_operation(out, operation))?;
        }
    }
    parameters(out, 9, &item["parameters"])
}

fn write_operation(out: &mut Vec<u8>, operation: &Value) -> Written {
    texts(out, 1, &operation["tags"]);
    text(out, 3, &operation["description"]);
    text(out, 5, &operation["operationId"]);
    texts(out, 6, &operation["produces"]);
    texts(out, 7, &operation["consumes"]);
    parameters(out, 8, &operation["parameters"])?;
    put_message(out, 9, |out| named(out, 1, &operation["responses"], response))?;
    extensions(out, 13, operation)
}

/// A response, or in its place a reference: ours are all responses.
fn response(out: &mut Vec<u8>, response: &Value) -> Written {
    put_message(out, 1, |out| {
        text(out, 1, &response["description"]);
        match response.get("schema") {
            Some(of) => put_message(out, 2, |out| put_message(out, 1, |out| schema(out, of))),
            None => Ok(()),
        }
    })
}

fn parameters(out: &mut Vec<u8>, number: u8, list: &Value) -> Written {
    list.as_array().into_iter().flatten().try_for_each(|parameter| {
        // ParametersItem.parameter, then Parameter.body_parameter or .non_body_parameter.
        put_message(out, number, |out| {
            put_message(out, 1, |out| write_parameter(out, parameter))
        })
    })
}

fn write_parameter(out: &mut Vec<u8>, parameter: &Value) -> Written {
    match parameter["in"].as_str() {
        Some("body") => put_message(out, 1, |out| {
            text(out, 2, &parameter["name"]);
            text(out, 3, &parameter["in"]);
            flag(out, 4, &parameter["required"]);
            put_message(out, 5, |out| schema(out, &parameter["schema"]))
        }),
        place => {
            let (kind, type_number) = if place == Some("path") { (4, 5) } else { (3, 6) };
            put_message(out, 2, |out| {
                put_message(out, kind, |out| {
                    flag(out, 1, &parameter["required"]);
                    text(out, 2, &parameter["in"]);
                    text(out, 4, &parameter["name"]);
                    text(out, type_number, &parameter["type"]);
                    Ok(())
                })
            })
        }
    }
}

fn schema(out: &mut Vec<u8>, of: &Value) -> Written {
    text(out, 1, &of["$ref"]);
    text(out, 2, &of["format"]);
    text(out, 3, &of["title"]);
    text(out, 4, &of["description"]);
    if let Some(default) = of.get("default") {
        put_message(out, 5, |out| any(out, default))?;
    }
    texts(out, 19, &of["required"]);
    for value in of["enum"].as_array().into_iter().flatten() {
        put_message(out, 20, |out| any(out, value))?;
    }
    match &of["additionalProperties"] {
        Value::Object(_) => put_message(out, 21, |out| {
            put_message(out, 1, |out| schema(out, &of["additionalProperties"]))
        })?,
        Value::Bool(allowed) => put_message(out, 21, |out| {
            put_int(out, 2, i64::from(*allowed));
            Written::Ok(())
        })?,
        _ => {}
    }
    if of["type"].is_string() {
        put_message(out, 22, |out| {
            text(out, 1, &of["type"]);
            Written::Ok(())
        })?;
    }
    if of["items"].is_object() {
        put_message(out, 23, |out| put_message(out, 1, |out| schema(out, &of["items"])))?;
    }
    for part in of["allOf"].as_array().into_iter().flatten() {
        put_message(out, 24, |out| schema(out, part))?;
    }
    if of["properties"].is_object() {
        put_message(out, 25, |out| named(out, 1, &of["properties"], schema))?;
    }
    extensions(out, 31, of)
}
