//! A schema as a type descriptor: what server-side apply and field tracking need to
//! know of a kind that came at run time.

use crate::schema::{Additional, Kind, List, Schema};
use skiff_api::schema::{self, Field, ListType, META_V1, Name, Shape, Type};
use std::sync::Arc;

/// The type of the objects of a kind. Its name is `com.example.v1.CronTab`, so that its
/// short name is the kind's.
pub fn object_type(schema: &Schema, group: &str, version: &str, kind: &str) -> Type {
    let mut parts: Vec<&str> = group.split('.').rev().filter(|p| !p.is_empty()).collect();
    parts.extend([version, kind]);
    let mut fields = members(schema, true);
    with_meta(&mut fields);
    let (group, version) = (group.to_string().into(), version.to_string().into());
    let mut made = Type::new(parts.join(".").into(), group, version, true, fields);
    made.open = schema.open;
    made
}

fn struct_type(schema: &Schema) -> Type {
    let mut fields = members(schema, schema.embedded);
    if schema.embedded {
        with_meta(&mut fields);
    }
    let mut made = Type::new(
        Name::Borrowed(""),
        Name::Borrowed(""),
        Name::Borrowed(""),
        false,
        fields,
    );
    made.atomic = schema.atomic;
    made.open = schema.open;
    made
}

/// The members of an object, without those that every resource has.
fn members(schema: &Schema, resource: bool) -> Vec<Field> {
    schema
        .properties()
        .filter(|(name, _)| !(resource && crate::prune::is_meta(name)))
        .map(|(name, inner)| member(name, inner))
        .collect()
}

fn with_meta(fields: &mut Vec<Field>) {
    for name in ["apiVersion", "kind"] {
        fields.push(Field::new(name, Shape::One, schema::Kind::String));
    }
    if let Some(kind) = schema::lookup_kind(&format!("{META_V1}.ObjectMeta")) {
        let metadata = Field::new("metadata", Shape::One, kind);
        fields.push(metadata.with_zero(serde_json::Value::Object(serde_json::Map::new())));
    }
}

fn member(name: &str, schema: &Schema) -> Field {
    let name: Name = name.to_string().into();
    let mut field = match schema.kind {
        Some(Kind::Array) => list(name, schema),
        Some(Kind::Object) => match (&schema.additional, schema.has_properties()) {
            (Additional::Schema(inner), false) if inner.kind == Some(Kind::Array) => {
                let element = inner.items.as_deref().map_or(schema::Kind::Json, value);
                Field::new(name, Shape::MapOfList, element)
            }
            (Additional::Schema(inner), false) => Field::new(name, Shape::Map, value(inner)),
            _ => Field::new(name, Shape::One, value(schema)),
        },
        _ => Field::new(name, Shape::One, value(schema)),
    };
    field.atomic |= schema.atomic;
    field.default = schema.default.as_deref().cloned();
    field
}

fn list(name: Name, schema: &Schema) -> Field {
    let element = schema.items.as_deref().map_or(schema::Kind::Json, value);
    let mut field = Field::new(name, Shape::List, element);
    match &schema.list {
        List::Atomic => field.list = ListType::Atomic,
        List::Set => field.list = ListType::Set,
        List::Map(keys) => {
            field.list = ListType::Map;
            field.keys = keys.iter().map(|key| key.to_string().into()).collect();
        }
    }
    field
}

/// What a value is when it stands alone, is an element or the value of a map. Maps and
/// lists within those are taken for what they look like.
fn value(schema: &Schema) -> schema::Kind {
    if schema.int_or_string {
        return schema::Kind::IntOrString;
    }
    match schema.kind {
        Some(Kind::Object) if schema.has_properties() || schema.embedded => {
            schema::Kind::Owned(Arc::new(struct_type(schema)))
        }
        // Nothing is known of what is in it.
        Some(Kind::Object) | None => schema::Kind::RawExtension,
        Some(Kind::Array) => schema::Kind::Json,
        Some(Kind::String) => schema::Kind::String,
        Some(Kind::Integer) => schema::Kind::Int64,
        Some(Kind::Number) => schema::Kind::Double,
        Some(Kind::Boolean) => schema::Kind::Bool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn describes_objects() {
        let schema = Schema::new(&json!({"type": "object", "properties": {
            "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": {
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                    "items": {"type": "object", "properties": {"port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}}}},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "args": {"type": "array", "items": {"type": "string"}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string"}}},
                "raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "port": {"x-kubernetes-int-or-string": true},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            }},
        }}));
        let ty = object_type(&schema, "stable.example.com", "v1", "CronTab");
        assert_eq!(
            (ty.name.as_ref(), ty.short(), ty.is_kind),
            ("com.example.stable.v1.CronTab", "CronTab", true)
        );
        assert!(
            ty.field("metadata")
                .and_then(Field::as_type)
                .is_some_and(|m| m.field("labels").is_some())
        );
        let spec = ty.field("spec").and_then(Field::as_type).expect("spec");
        let at = |name: &str| spec.field(name).expect("a field");
        assert_eq!((at("ports").list, at("ports").keys.len()), (ListType::Map, 1));
        assert_eq!((at("tags").list, at("args").list), (ListType::Set, ListType::Atomic));
        assert_eq!((at("labels").shape, at("selector").atomic), (Shape::Map, true));
        assert!(matches!(at("raw").kind, schema::Kind::RawExtension));
        assert!(matches!(at("port").kind, schema::Kind::IntOrString));
        assert!(at("template").as_type().is_some_and(|t| t.field("metadata").is_some()));
    }
}
