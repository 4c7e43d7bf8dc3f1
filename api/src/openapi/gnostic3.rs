//! OpenAPI v3 documents in protobuf
//! (`application/com.github.proto-openapi.spec.v3@v1.0+protobuf`), which kubectl asks for
//! to learn what the server validates. Written from the JSON document.
//! Source: <https://github.com/google/gnostic-models/blob/main/openapiv3/OpenAPIv3.proto>.

use super::gnostic::{Written, any, extensions, flag, named, text, texts};
use crate::Value;
use crate::codec::wire::{put_bytes, put_int, put_message, put_tag};

/// `document` is an OpenAPI v3 document as JSON.
pub fn to_protobuf(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let Ok(()) = write_document(&mut out, document);
    out
}

fn write_document(out: &mut Vec<u8>, document: &Value) -> Written {
    text(out, 1, &document["openapi"]);
    put_message(out, 2, |out| {
        text(out, 1, &document["info"]["title"]);
        text(out, 6, &document["info"]["version"]);
        Written::Ok(())
    })?;
    put_message(out, 4, |out| named(out, 1, &document["paths"], path_item))?;
    let components = &document["components"];
    put_message(out, 5, |out| {
        put_message(out, 1, |out| named(out, 1, &components["schemas"], either))?;
        put_message(out, 7, |out| {
            named(out, 1, &components["securitySchemes"], security_scheme)
        })
    })
}

fn security_scheme(out: &mut Vec<u8>, scheme: &Value) -> Written {
    put_message(out, 1, |out| {
        for (number, key) in [(1, "type"), (2, "description"), (3, "name"), (4, "in")] {
            text(out, number, &scheme[key]);
        }
        Written::Ok(())
    })
}

fn path_item(out: &mut Vec<u8>, item: &Value) -> Written {
    let methods = [
        (4, "get"),
        (5, "put"),
        (6, "post"),
        (7, "delete"),
        (8, "options"),
        (9, "head"),
        (10, "patch"),
    ];
    for (number, method) in methods {
        if let Some(operation) = item.get(method) {
            put_message(out, number, |out| write_operation(out, operation))?;
        }
    }
    parameters(out, 13, &item["parameters"])
}

fn write_operation(out: &mut Vec<u8>, operation: &Value) -> Written {
    texts(out, 1, &operation["tags"]);
    text(out, 3, &operation["description"]);
    text(out, 5, &operation["operationId"]);
    parameters(out, 6, &operation["parameters"])?;
    if let Some(body) = operation.get("requestBody") {
        // RequestBodyOrReference.request_body
        put_message(out, 7, |out| {
            put_message(out, 1, |out| {
                put_message(out, 2, |out| named(out, 1, &body["content"], media_type))?;
                flag(out, 3, &body["required"]);
                Written::Ok(())
            })
        })?;
    }
    put_message(out, 8, |out| named(out, 2, &operation["responses"], response))?;
    extensions(out, 13, operation)
}

fn parameters(out: &mut Vec<u8>, number: u8, list: &Value) -> Written {
    list.as_array().into_iter().flatten().try_for_each(|parameter| {
        put_message(out, number, |out| {
            put_message(out, 1, |out| {
                text(out, 1, &parameter["name"]);
                text(out, 2, &parameter["in"]);
                text(out, 3, &parameter["description"]);
                flag(out, 4, &parameter["required"]);
                put_message(out, 10, |out| either(out, &parameter["schema"]))
            })
        })
    })
}

/// A response, or in its place a reference: ours are all responses.
fn response(out: &mut Vec<u8>, response: &Value) -> Written {
    put_message(out, 1, |out| {
        text(out, 1, &response["description"]);
        match response.get("content") {
            Some(content) => put_message(out, 3, |out| named(out, 1, content, media_type)),
            None => Ok(()),
        }
    })
}

fn media_type(out: &mut Vec<u8>, media_type: &Value) -> Written {
    put_message(out, 1, |out| either(out, &media_type["schema"]))
}

/// A schema, or a reference to one.
fn either(out: &mut Vec<u8>, of: &Value) -> Written {
    match of["$ref"].as_str() {
        Some(to) => put_message(out, 2, |out| {
            put_bytes(out, 1, to.as_bytes());
            Written::Ok(())
        }),
        None => put_message(out, 1, |out| schema(out, of)),
    }
}

fn schema(out: &mut Vec<u8>, of: &Value) -> Written {
    flag(out, 1, &of["nullable"]);
    text(out, 9, &of["title"]);
    for (number, key) in [(10, "multipleOf"), (11, "maximum"), (13, "minimum")] {
        if let Some(limit) = of[key].as_f64() {
            put_tag(out, number, crate::codec::wire::FIXED64);
            out.extend_from_slice(&limit.to_le_bytes());
        }
    }
    flag(out, 12, &of["exclusiveMaximum"]);
    flag(out, 14, &of["exclusiveMinimum"]);
    text(out, 17, &of["pattern"]);
    let lengths = [
        (15, "maxLength"),
        (16, "minLength"),
        (18, "maxItems"),
        (19, "minItems"),
        (21, "maxProperties"),
        (22, "minProperties"),
    ];
    for (number, key) in lengths {
        if let Some(length) = of[key].as_i64() {
            put_int(out, number, length);
        }
    }
    flag(out, 20, &of["uniqueItems"]);
    texts(out, 23, &of["required"]);
    for value in of["enum"].as_array().into_iter().flatten() {
        put_message(out, 24, |out| any(out, value))?;
    }
    text(out, 25, &of["type"]);
    for (number, key) in [(26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        for part in of[key].as_array().into_iter().flatten() {
            put_message(out, number, |out| either(out, part))?;
        }
    }
    if of["not"].is_object() {
        put_message(out, 29, |out| schema(out, &of["not"]))?;
    }
    if of["items"].is_object() {
        put_message(out, 30, |out| put_message(out, 1, |out| either(out, &of["items"])))?;
    }
    if of["properties"].is_object() {
        put_message(out, 31, |out| named(out, 1, &of["properties"], either))?;
    }
    match &of["additionalProperties"] {
        more @ Value::Object(_) => put_message(out, 32, |out| put_message(out, 1, |out| either(out, more)))?,
        Value::Bool(allowed) => put_message(out, 32, |out| {
            put_int(out, 2, i64::from(*allowed));
            Written::Ok(())
        })?,
        _ => {}
    }
    if let Some(default) = of.get("default") {
        write_default(out, default)?;
    }
    text(out, 34, &of["description"]);
    text(out, 35, &of["format"]);
    extensions(out, 36, of)
}

/// Only scalars have a form there.
fn write_default(out: &mut Vec<u8>, default: &Value) -> Written {
    match default {
        Value::Number(n) => put_message(out, 33, |out| {
            put_tag(out, 1, crate::codec::wire::FIXED64);
            out.extend_from_slice(&n.as_f64().unwrap_or_default().to_le_bytes());
            Written::Ok(())
        }),
        Value::Bool(b) => put_message(out, 33, |out| {
            put_int(out, 2, i64::from(*b));
            Written::Ok(())
        }),
        Value::String(text) => put_message(out, 33, |out| {
            put_bytes(out, 3, text.as_bytes());
            Written::Ok(())
        }),
        _ => Ok(()),
    }
}
