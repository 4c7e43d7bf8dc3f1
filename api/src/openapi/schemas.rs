//! Schemas of types, with everything they refer to.

use super::{Describe, Resource};
use crate::Value;
use crate::schema::{self, Field, Kind, ListType, Shape, Type};
use serde_json::{Map, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavor {
    V2,
    V3,
}

/// Collects schemas by name; referring to a type brings it in.
pub(super) struct Schemas<'a> {
    pub flavor: Flavor,
    describe: Describe<'a>,
    done: Map<String, Value>,
}

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const APIEXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

impl<'a> Schemas<'a> {
    pub fn new(flavor: Flavor, describe: Describe<'a>) -> Self {
        Self {
            flavor,
            describe,
            done: Map::new(),
        }
    }

    pub fn finish(self) -> Value {
        Value::Object(self.done)
    }

    /// `{"$ref": ...}` to a built-in type.
    pub fn reference(&mut self, ty: &Type) -> Value {
        self.add(ty);
        self.pointer(&ty.name)
    }

    /// To a type by its OpenAPI name; anything at all when there is none.
    pub fn reference_name(&mut self, name: &str) -> Value {
        schema::lookup(name).map_or_else(|| json!({}), |ty| self.reference(ty))
    }

    /// The kind of a resource; a custom one is described by its own schema.
    pub fn resource(&mut self, resource: &Resource) -> Value {
        self.kind(
            &resource.group,
            &resource.version,
            &resource.kind,
            resource.schema.as_ref(),
        )
    }

    /// The list kind of a resource.
    pub fn list(&mut self, resource: &Resource) -> Value {
        let kind = format!("{}List", resource.kind);
        if let Some(ty) = schema::lookup_gvk(&resource.group, &resource.version, &kind) {
            return self.reference(ty);
        }
        let item = self.resource(resource);
        let meta = self.reference_name(&format!("{}.ListMeta", schema::META_V1));
        let body = json!({"type": "object", "required": ["items"], "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": meta, "items": {"type": "array", "items": item},
        }});
        self.kind(&resource.group, &resource.version, &kind, Some(&body))
    }

    pub fn kind(&mut self, group: &str, version: &str, kind: &str, own: Option<&Value>) -> Value {
        if own.is_none()
            && let Some(ty) = schema::lookup_gvk(group, version, kind)
        {
            return self.reference(ty);
        }
        let name = custom_name(group, version, kind);
        if !self.done.contains_key(&name) {
            let mut body = own.cloned().unwrap_or_else(|| json!({"type": "object"}));
            if own.is_some() && body.pointer("/properties/items").is_none() {
                let meta = self.reference_name(&format!("{}.ObjectMeta", schema::META_V1));
                crate::meta::set(&mut body, &["properties", "apiVersion"], json!({"type": "string"}));
                crate::meta::set(&mut body, &["properties", "kind"], json!({"type": "string"}));
                crate::meta::set(&mut body, &["properties", "metadata"], meta);
            }
            crate::meta::set(
                &mut body,
                &["x-kubernetes-group-version-kind"],
                json!([{"group": group, "version": version, "kind": kind}]),
            );
            self.done.insert(name.clone(), body);
        }
        self.pointer(&name)
    }

    fn pointer(&self, name: &str) -> Value {
        let place = if self.flavor == Flavor::V2 {
            "definitions"
        } else {
            "components/schemas"
        };
        json!({"$ref": format!("#/{place}/{name}")})
    }

    fn add(&mut self, ty: &Type) {
        if self.done.contains_key(ty.name.as_ref()) {
            return;
        }
        // Reserves the place: types refer to themselves.
        self.done.insert(ty.name.to_string(), Value::Null);
        let mut properties = Map::new();
        for field in ty.fields() {
            properties.insert(field.name.to_string(), self.field(ty, field));
        }
        let mut body = Map::from_iter([("type".to_string(), Value::from("object"))]);
        if !properties.is_empty() {
            body.insert("properties".into(), properties.into());
        }
        let required: Vec<&str> = ty
            .fields()
            .iter()
            .filter(|f| f.required)
            .map(|f| f.name.as_ref())
            .collect();
        if !required.is_empty() {
            body.insert("required".into(), required.into());
        }
        if let Some(text) = (self.describe)(&ty.name, None) {
            body.insert("description".into(), text.into());
        }
        if ty.atomic {
            body.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        if ty.is_kind {
            let gvk = json!([{"group": ty.group, "version": ty.version, "kind": ty.short()}]);
            body.insert("x-kubernetes-group-version-kind".into(), gvk);
        }
        self.done.insert(ty.name.to_string(), body.into());
    }

    fn field(&mut self, owner: &Type, field: &Field) -> Value {
        let one = self.value(&field.kind);
        let mut body = match field.shape {
            Shape::One => match (self.flavor, one.get("$ref")) {
                // In v3 a reference stands alone, so that it can have neighbours only through allOf.
                (Flavor::V3, Some(_)) => json!({ "allOf": [one] }),
                _ => one,
            },
            Shape::List => json!({"type": "array", "items": one}),
            Shape::Map => json!({"type": "object", "additionalProperties": one}),
            Shape::MapOfList => json!({"type": "object", "additionalProperties": {"type": "array", "items": one}}),
        };
        let Some(map) = body.as_object_mut() else { return body };
        let mut put = |key: &str, value: Value| map.insert(key.to_string(), value);
        if let Some(text) = (self.describe)(&owner.name, Some(&field.name)) {
            put("description", text.into());
        }
        if let Some(default) = &field.default {
            put("default", default.clone());
        }
        if !field.allowed.is_empty() {
            put("enum", field.allowed.iter().map(|v| Value::from(v.as_ref())).collect());
        }
        match field.list {
            ListType::Unset => {}
            ListType::Atomic => drop(put("x-kubernetes-list-type", "atomic".into())),
            ListType::Set => drop(put("x-kubernetes-list-type", "set".into())),
            ListType::Map => {
                put("x-kubernetes-list-type", "map".into());
                put(
                    "x-kubernetes-list-map-keys",
                    field.keys.iter().map(|k| Value::from(k.as_ref())).collect(),
                );
            }
        }
        if field.atomic {
            put("x-kubernetes-map-type", "atomic".into());
        }
        let strategies = [
            (field.patch.merge, "merge"),
            (field.patch.replace, "replace"),
            (field.patch.retain_keys, "retainKeys"),
        ];
        let strategies: Vec<&str> = strategies
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, name)| *name)
            .collect();
        if !strategies.is_empty() {
            put("x-kubernetes-patch-strategy", strategies.join(",").into());
        }
        if let Some(key) = &field.merge_key {
            put("x-kubernetes-patch-merge-key", key.as_ref().into());
        }
        body
    }

    /// A value, element or map value.
    fn value(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::String | Kind::Duration => json!({"type": "string"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Int32 => json!({"type": "integer", "format": "int32"}),
            Kind::Int64 => json!({"type": "integer", "format": "int64"}),
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            Kind::Object(_) | Kind::Owned(_) => kind.as_type().map_or_else(|| json!({}), |ty| self.reference(ty)),
            other => self.well_known(other),
        }
    }

    fn well_known(&mut self, kind: &Kind) -> Value {
        let either = |a: &str, b: &str| json!({"oneOf": [{"type": a}, {"type": b}]});
        let v3 = self.flavor == Flavor::V3;
        let extension = |name: &str| format!("{APIEXTENSIONS}.{name}");
        let meta = |name: &str| format!("{}.{name}", schema::META_V1);
        let (name, body) = match kind {
            Kind::Quantity if v3 => (QUANTITY.to_string(), either("string", "number")),
            Kind::Quantity => (QUANTITY.to_string(), json!({"type": "string"})),
            Kind::IntOrString => {
                let mut body = if v3 {
                    either("integer", "string")
                } else {
                    json!({"type": "string"})
                };
                crate::meta::set(&mut body, &["format"], "int-or-string");
                (INT_OR_STRING.to_string(), body)
            }
            Kind::Time => (meta("Time"), json!({"type": "string", "format": "date-time"})),
            Kind::MicroTime => (meta("MicroTime"), json!({"type": "string", "format": "date-time"})),
            Kind::FieldsV1 => (meta("FieldsV1"), json!({"type": "object"})),
            Kind::RawExtension => (RAW_EXTENSION.to_string(), json!({"type": "object"})),
            Kind::SchemaOrArray => (extension("JSONSchemaPropsOrArray"), json!({})),
            Kind::SchemaOrBool => (extension("JSONSchemaPropsOrBool"), json!({})),
            Kind::SchemaOrStrings => (extension("JSONSchemaPropsOrStringArray"), json!({})),
            _ => (extension("JSON"), json!({})),
        };
        let pointer = self.pointer(&name);
        self.done.insert(name, body);
        pointer
    }
}

/// `com.example.stable.v1.CronTab`: the group's labels reversed.
fn custom_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').rev().filter(|p| !p.is_empty()).collect();
    parts.extend([version, kind]);
    parts.join(".")
}
