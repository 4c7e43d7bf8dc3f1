//! OpenAPI v3 (structural) schemas to declared types. What a schema does not expose
//! to expressions has no declared type: untyped values, lists without `items`,
//! objects with neither properties nor a schema for additional ones keep their
//! (possibly empty) fields.

use crate::decl::{DeclType, Field, ListSemantics, ObjectType, REQUEST_BYTES_MAX};
use crate::types::Type;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// Deeper schemas are cut off; no stored object nests as deep.
const DEPTH_MAX: usize = 120;

impl DeclType {
    /// The type of values of `schema`, a JSON schema in OpenAPI v3 form with the
    /// `x-kubernetes-` extensions. `name` names its object types (`name.field` and so
    /// on). At the root of a resource (custom or embedded) `apiVersion`, `kind`,
    /// `metadata.name` and `metadata.generateName` are always there.
    pub fn from_openapi(schema: &Value, name: &str, resource_root: bool) -> Option<Self> {
        declare(schema, name, resource_root, 0)
    }
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn number(schema: &Value, key: &str) -> Option<u64> {
    let value = schema.get(key)?;
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|value| value.max(0.0) as u64))
        .or(Some(0))
}

fn text<'s>(schema: &'s Value, key: &str) -> &'s str {
    schema.get(key).and_then(Value::as_str).unwrap_or("")
}

fn declare(schema: &Value, name: &str, resource_root: bool, depth: usize) -> Option<DeclType> {
    if depth > DEPTH_MAX {
        return None;
    }
    if flag(schema, "x-kubernetes-int-or-string") {
        return Some(DeclType {
            max_elements: length(schema).unwrap_or(REQUEST_BYTES_MAX - 2),
            ..DeclType::scalar(Type::Dyn)
        });
    }
    let kind = if resource_root { "object" } else { text(schema, "type") };
    match kind {
        "array" => list(schema, name, depth),
        "object" => object(schema, name, resource_root, depth),
        "string" => Some(string(schema)),
        "boolean" => Some(DeclType::scalar(Type::Bool)),
        "number" => Some(DeclType::scalar(Type::Double)),
        "integer" => Some(DeclType::scalar(Type::Int)),
        _ => None,
    }
}

/// `maxLength` counts characters, the estimate bytes: up to four each.
fn length(schema: &Value) -> Option<u64> {
    number(schema, "maxLength").map(|chars| chars.saturating_mul(4))
}

fn string(schema: &Value) -> DeclType {
    let sized = |ty: Type, max_elements: u64, min_serialized_size: u64| DeclType {
        max_elements,
        min_serialized_size,
        ..DeclType::scalar(ty)
    };
    match text(schema, "format") {
        "byte" => sized(
            Type::Bytes,
            number(schema, "maxLength").unwrap_or(REQUEST_BYTES_MAX - 2),
            2,
        ),
        // The shortest is `"0"`.
        "duration" => sized(Type::Duration, 32, 3),
        "date" => sized(Type::Timestamp, 12, 12),
        "date-time" => sized(Type::Timestamp, 30, 21),
        _ => {
            let longest_choice = schema.get("enum").and_then(Value::as_array).and_then(|choices| {
                let lengths = choices.iter().filter_map(Value::as_str).map(|text| text.len() as u64);
                (!choices.is_empty()).then(|| lengths.max().unwrap_or(0))
            });
            DeclType::string(length(schema).or(longest_choice))
        }
    }
}

fn list(schema: &Value, name: &str, depth: usize) -> Option<DeclType> {
    let items = schema.get("items")?;
    let embedded = flag(items, "x-kubernetes-embedded-resource");
    let items = declare(items, &format!("{name}.@idx"), embedded, depth + 1)?;
    let semantics = match text(schema, "x-kubernetes-list-type") {
        "set" => ListSemantics::Set,
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let keys = keys.into_iter().flatten().filter_map(Value::as_str);
            ListSemantics::Map(keys.map(str::to_string).collect())
        }
        _ => ListSemantics::Atomic,
    };
    Some(DeclType::list(items, number(schema, "maxItems"), semantics))
}

fn object(schema: &Value, name: &str, resource_root: bool, depth: usize) -> Option<DeclType> {
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let embedded = flag(values, "x-kubernetes-embedded-resource");
        let values = declare(values, &format!("{name}.@elem"), embedded, depth + 1)?;
        return Some(DeclType::map(values, number(schema, "maxProperties")));
    }
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    // An object is at least `{}`, and each required property is a name, two quotes,
    // a colon, a comma and its value.
    let mut min_serialized_size = 2;
    let mut fields = Vec::new();
    let mut add = |property: &str, schema: &Value| {
        let embedded = flag(schema, "x-kubernetes-embedded-resource");
        let Some(decl) = declare(schema, &format!("{name}.{property}"), embedded, depth + 1) else {
            return;
        };
        let required = required.contains(&property);
        if required && schema.get("default").is_none_or(Value::is_null) {
            min_serialized_size += property.len() as u64 + decl.min_serialized_size + 4;
        }
        fields.push(Field {
            name: property.to_string(),
            decl,
            required,
        });
    };
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (property, schema) in properties {
            if !(resource_root && META.get(property).is_some()) {
                add(property, schema);
            }
        }
    }
    if resource_root {
        for (property, meta) in META.as_object().into_iter().flatten() {
            let given = schema.get("properties").and_then(|properties| properties.get(property));
            add(property, &root_property(meta, given));
        }
    }
    let mut decl = DeclType::object(ObjectType::new(name, fields));
    decl.min_serialized_size = min_serialized_size;
    Some(decl)
}

/// What a resource's root always has; a schema may bound it further, not extend it.
static META: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
        },
    })
});

fn root_property(meta: &Value, given: Option<&Value>) -> Value {
    let Some(given) = given.filter(|given| text(given, "type") == text(meta, "type")) else {
        return meta.clone();
    };
    let Some(wanted) = meta.get("properties").and_then(Value::as_object) else {
        return given.clone();
    };
    let mut merged = given.clone();
    let mut properties = given
        .get("properties")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for (name, schema) in wanted {
        properties.entry(name.clone()).or_insert_with(|| schema.clone());
    }
    merged["properties"] = Value::Object(properties);
    merged
}
