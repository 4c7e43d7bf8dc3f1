//! Definitions of custom resources: their own schema with what every kind has added,
//! and for v2 without what that version cannot say.

use super::Resource;
use super::schemas::{Flavor, Schemas};
use crate::Value;
use serde_json::{Map, json};

/// A built-in kind and list whose common members are described in place of theirs.
const ANY_KIND: &str = "io.k8s.api.core.v1.Pod";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const KEEPS_UNKNOWN: &str = "x-kubernetes-preserve-unknown-fields";
/// No schema that was accepted nests deeper; recursion over it must end.
const DEPTH_MAX: usize = 100;

/// `com.example.stable.v1.CronTab`: the group's labels reversed.
pub(super) fn name((group, version, kind): (&str, &str, &str)) -> String {
    let mut parts: Vec<&str> = group.split('.').rev().filter(|p| !p.is_empty()).collect();
    parts.extend([version, kind]);
    parts.join(".")
}

pub(super) fn kind(schemas: &mut Schemas<'_>, gvk: (&str, &str, &str), own: &Value) -> Value {
    let v2 = schemas.flavor == Flavor::V2;
    let mut body = if v2 && own[KEEPS_UNKNOWN] == true {
        // Readers of v2 would refuse fields that it does not list.
        json!({"type": "object"})
    } else {
        let mut body = own.clone();
        if !body.is_object() {
            body = json!({});
        }
        if v2 {
            to_v2(&mut body, 0);
        }
        body["type"] = "object".into();
        add_common(schemas, &mut body);
        add_embedded(schemas, &mut body["properties"], 0);
        body
    };
    body["x-kubernetes-group-version-kind"] = json!([{"group": gvk.0, "version": gvk.1, "kind": gvk.2}]);
    body
}

pub(super) fn list(schemas: &mut Schemas<'_>, resource: &Resource) -> Value {
    let kind = format!("{}List", resource.kind);
    let item = schemas.resource(resource);
    let meta = schemas.meta("ListMeta");
    let mut properties = type_members(schemas);
    let items = format!(
        "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
        resource.plural
    );
    properties.insert(
        "items".into(),
        json!({"type": "array", "items": item, "description": items}),
    );
    properties.insert("metadata".into(), with_text(schemas, meta, LIST_METADATA));
    json!({
        "type": "object", "required": ["items"], "properties": properties,
        "description": format!("{kind} is a list of {}", resource.kind),
        "x-kubernetes-group-version-kind": [{"group": resource.group, "version": resource.version, "kind": kind}],
    })
}

/// `apiVersion`, `kind` and `metadata`, as every object has them.
fn add_common(schemas: &mut Schemas<'_>, body: &mut Value) {
    if !body["properties"].is_object() {
        body["properties"] = json!({});
    }
    let meta = schemas.meta("ObjectMeta");
    body["properties"]["metadata"] = with_text(schemas, meta, METADATA);
    for (key, value) in type_members(schemas) {
        body["properties"][key] = value;
    }
}

fn type_members(schemas: &Schemas<'_>) -> Map<String, Value> {
    let member = |key: &str| {
        let mut made = json!({"type": "string"});
        if let Some(text) = schemas.described(ANY_KIND, key) {
            made["description"] = text.into();
        }
        (key.to_string(), made)
    };
    ["apiVersion", "kind"].map(member).into_iter().collect()
}

fn with_text(schemas: &Schemas<'_>, reference: Value, text: &str) -> Value {
    let mut made = match schemas.flavor {
        Flavor::V2 => reference,
        Flavor::V3 => json!({ "allOf": [reference] }),
    };
    made["description"] = text.into();
    made
}

/// Objects inside objects are objects too.
fn add_embedded(schemas: &mut Schemas<'_>, schema: &mut Value, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    match schema {
        Value::Object(map) => {
            for (_, child) in map.iter_mut() {
                add_embedded(schemas, child, depth + 1);
            }
            if map.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
                add_common(schemas, schema);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| add_embedded(schemas, item, depth + 1)),
        _ => {}
    }
}

/// Takes out of a schema what v2 has no words for, and what its readers misunderstand.
fn to_v2(schema: &mut Value, depth: usize) {
    let Value::Object(map) = schema else { return };
    if depth > DEPTH_MAX {
        map.clear();
        return;
    }
    for key in ["allOf", "anyOf", "oneOf", "not"] {
        map.remove(key);
    }
    if map.remove("nullable") == Some(Value::Bool(true)) {
        // "null" is no type of v2: nothing can be said of such a value.
        for key in ["type", "items", "properties", "additionalProperties", "required"] {
            map.remove(key);
        }
    }
    if map.get(KEEPS_UNKNOWN) == Some(&Value::Bool(true)) {
        map.remove("items");
        map.remove("properties");
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|property| to_v2(property, depth + 1));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = map.get_mut(key) {
            to_v2(child, depth + 1);
        }
    }
}
