//! Schemas of types, with everything they refer to.

use super::custom;
use super::{Describe, Resource};
use crate::Value;
use crate::schema::{self, Field, Kind, ListType, META_V1, Shape, Type};
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
    /// Group versions of the document: options and events belong to each of them.
    group_versions: Vec<(String, String)>,
    done: Map<String, Value>,
}

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const APIEXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

impl<'a> Schemas<'a> {
    pub fn new(flavor: Flavor, describe: Describe<'a>, resources: &[&Resource]) -> Self {
        let mut group_versions: Vec<(String, String)> =
            resources.iter().map(|r| (r.group.clone(), r.version.clone())).collect();
        group_versions.push((String::new(), "v1".into()));
        group_versions.sort_unstable();
        group_versions.dedup();
        Self {
            flavor,
            describe,
            group_versions,
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

    /// To a type of `meta/v1`.
    pub fn meta(&mut self, short: &str) -> Value {
        self.reference_name(&format!("{META_V1}.{short}"))
    }

    /// What a patch is: any object.
    pub fn patch(&mut self) -> Value {
        self.named(&format!("{META_V1}.Patch"), json!({"type": "object"}))
    }

    /// A definition that is not made of a descriptor.
    pub fn named(&mut self, name: &str, mut body: Value) -> Value {
        if !self.done.contains_key(name) {
            if let Some(text) = (self.describe)(name, None) {
                body["description"] = text.into();
            }
            self.done.insert(name.to_string(), body);
        }
        self.pointer(name)
    }

    /// The kind of a resource; a custom one is described by its own schema.
    pub fn resource(&mut self, resource: &Resource) -> Value {
        let kind = (
            resource.group.as_str(),
            resource.version.as_str(),
            resource.kind.as_str(),
        );
        match &resource.schema {
            Some(own) => {
                let name = custom::name(kind);
                if !self.done.contains_key(&name) {
                    let body = custom::kind(self, kind, own);
                    self.done.insert(name.clone(), body);
                }
                self.pointer(&name)
            }
            None => self.kind(kind),
        }
    }

    /// The list kind of a resource.
    pub fn list(&mut self, resource: &Resource) -> Value {
        let kind = format!("{}List", resource.kind);
        if let Some(ty) =
            schema::lookup_gvk(&resource.group, &resource.version, &kind).filter(|_| resource.schema.is_none())
        {
            return self.reference(ty);
        }
        let name = custom::name((&resource.group, &resource.version, &kind));
        let body = custom::list(self, resource);
        self.done.insert(name.clone(), body);
        self.pointer(&name)
    }

    /// A built-in kind; one that is not known is any object.
    pub fn kind(&mut self, kind: (&str, &str, &str)) -> Value {
        match schema::lookup_gvk(kind.0, kind.1, kind.2) {
            Some(ty) => self.reference(ty),
            None => self.named(&custom::name(kind), json!({"type": "object"})),
        }
    }

    /// Documentation of a member that all kinds have.
    pub fn described(&self, ty: &str, field: &str) -> Option<String> {
        (self.describe)(ty, Some(field)).map(str::to_string)
    }

    pub(super) fn pointer(&self, name: &str) -> Value {
        let place = match self.flavor {
            Flavor::V2 => "definitions",
            Flavor::V3 => "components/schemas",
        };
        json!({"$ref": format!("#/{place}/{name}")})
    }

    fn add(&mut self, ty: &Type) {
        if self.done.contains_key(ty.name.as_ref()) {
            return;
        }
        // Reserves the place: types refer to themselves.
        self.done.insert(ty.name.to_string(), Value::Null);
        let fields = ty.fields().iter();
        let properties: Map<String, Value> = fields.map(|f| (f.name.to_string(), self.field(ty, f))).collect();
        let mut body = Map::from_iter([("type".to_string(), Value::from("object"))]);
        let mut put = |key: &str, value: Value| body.insert(key.to_string(), value);
        if !properties.is_empty() {
            put("properties", properties.into());
        }
        let required: Vec<&str> = ty
            .fields()
            .iter()
            .filter(|f| f.required)
            .map(|f| f.name.as_ref())
            .collect();
        if !required.is_empty() {
            put("required", required.into());
        }
        if let Some(text) = (self.describe)(&ty.name, None) {
            put("description", text.into());
        } else if let Some(of) = ty.short().strip_suffix("List").filter(|_| ty.is_kind) {
            put("description", format!("{of}List is a list of {of} objects.").into());
        }
        if ty.atomic {
            put("x-kubernetes-map-type", "atomic".into());
        }
        if ty.is_kind {
            let everywhere = matches!(ty.short(), "DeleteOptions" | "WatchEvent");
            let own = [(ty.group.to_string(), ty.version.to_string())];
            let places: &[(String, String)] = if everywhere { &self.group_versions } else { &own };
            let gvk =
                |(group, version): &(String, String)| json!({"group": group, "version": version, "kind": ty.short()});
            put("x-kubernetes-group-version-kind", places.iter().map(gvk).collect());
        }
        self.done.insert(ty.name.to_string(), body.into());
    }

    fn field(&mut self, owner: &Type, field: &Field) -> Value {
        let default = self.default_of(field);
        let described = (self.describe)(&owner.name, Some(&field.name));
        let neighbours = described.is_some() || default.is_some();
        let mut body = match field.shape {
            Shape::One => {
                let one = self.value(field);
                self.beside(one, neighbours)
            }
            Shape::List => json!({"type": "array", "items": self.element(field)}),
            Shape::Map => json!({"type": "object", "additionalProperties": self.element(field)}),
            Shape::MapOfList => {
                json!({"type": "object", "additionalProperties": {"type": "array", "items": self.element(field)}})
            }
        };
        let Some(map) = body.as_object_mut() else { return body };
        let mut put = |key: &str, value: Value| map.insert(key.to_string(), value);
        if let Some(text) = described {
            put("description", text.into());
        }
        if let Some(default) = default {
            put("default", default);
        }
        for (key, value) in extensions(field) {
            put(key, value);
        }
        body
    }

    /// In v3 a reference that has neighbours must stand in an `allOf`.
    fn beside(&self, one: Value, neighbours: bool) -> Value {
        if neighbours && self.flavor == Flavor::V3 && one.get("$ref").is_some() {
            json!({ "allOf": [one] })
        } else {
            one
        }
    }

    /// Elements of lists and values of maps.
    fn element(&mut self, field: &Field) -> Value {
        let one = self.value(field);
        let default = if self.flavor == Flavor::V3 {
            zero_of(&field.kind)
        } else {
            None
        };
        let mut one = self.beside(one, default.is_some());
        if let Some(default) = default {
            one["default"] = default;
        }
        one
    }

    /// v2 shows no defaults at all: its readers would fill them in.
    fn default_of(&self, field: &Field) -> Option<Value> {
        if self.flavor == Flavor::V2 {
            return None;
        }
        let own = field.default.clone();
        own.or_else(|| {
            let is_struct = matches!(field.kind, Kind::Object(_));
            let given = field.shape == Shape::One && !field.pointer && (is_struct || field.always);
            given.then(|| zero_of(&field.kind)).flatten()
        })
    }

    /// A value, element or map value.
    fn value(&mut self, field: &Field) -> Value {
        let mut body = match &field.kind {
            Kind::String | Kind::Duration => json!({"type": "string"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Int32 => json!({"type": "integer", "format": "int32"}),
            Kind::Int64 => json!({"type": "integer", "format": "int64"}),
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            kind @ (Kind::Object(_) | Kind::Owned(_)) => {
                kind.as_type().map_or_else(|| json!({}), |ty| self.reference(ty))
            }
            other => self.well_known(other),
        };
        if !field.allowed.is_empty() {
            body["enum"] = field.allowed.iter().map(|v| Value::from(v.as_ref())).collect();
        }
        body
    }

    fn well_known(&mut self, kind: &Kind) -> Value {
        let either = |a: &str, b: &str| json!({"oneOf": [{"type": a}, {"type": b}]});
        let v3 = self.flavor == Flavor::V3;
        let extension = |name: &str| format!("{APIEXTENSIONS}.{name}");
        let meta = |name: &str| format!("{META_V1}.{name}");
        let (name, body) = match kind {
            Kind::Quantity if v3 => (QUANTITY.to_string(), either("string", "number")),
            Kind::Quantity => (QUANTITY.to_string(), json!({"type": "string"})),
            Kind::IntOrString => {
                let mut body = if v3 {
                    either("integer", "string")
                } else {
                    json!({"type": "string"})
                };
                body["format"] = "int-or-string".into();
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
        self.named(&name, body)
    }
}

/// The zero that v3 shows as the default of what is no pointer.
fn zero_of(kind: &Kind) -> Option<Value> {
    match kind {
        Kind::String => Some("".into()),
        Kind::Bool => Some(false.into()),
        Kind::Int32 | Kind::Int64 | Kind::Double => Some(0.into()),
        Kind::Object(_) => Some(json!({})),
        _ => None,
    }
}

/// How the field is listed, merged and patched.
fn extensions(field: &Field) -> Vec<(&'static str, Value)> {
    let mut found: Vec<(&str, Value)> = Vec::new();
    let list_type = match field.list {
        ListType::Unset => None,
        ListType::Atomic => Some("atomic"),
        ListType::Set => Some("set"),
        ListType::Map => Some("map"),
    };
    if let Some(list_type) = list_type {
        found.push(("x-kubernetes-list-type", list_type.into()));
    }
    if !field.keys.is_empty() {
        let keys = field.keys.iter().map(|k| Value::from(k.as_ref())).collect();
        found.push(("x-kubernetes-list-map-keys", keys));
    }
    if field.atomic {
        found.push(("x-kubernetes-map-type", "atomic".into()));
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
        found.push(("x-kubernetes-patch-strategy", strategies.join(",").into()));
    }
    if let Some(key) = &field.merge_key {
        found.push(("x-kubernetes-patch-merge-key", key.as_ref().into()));
    }
    found
}
