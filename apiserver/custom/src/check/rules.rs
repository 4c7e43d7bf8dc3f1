//! What a schema may contain, apart from being structural: the keywords, list and map
//! types, defaults, and the form of validation rules.

use super::field_path;
use super::json::{Json, members};
use crate::path::Path;
use serde_json::Value;
use skiff_api::FieldError;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// Where the walk is.
#[derive(Clone, Default)]
struct Place<'a> {
    /// Why no default may be here.
    no_default: Option<String>,
    inside_meta: bool,
    root: bool,
    /// The topmost schema whose values cannot be told again in an older object.
    uncorrelatable: Option<&'a Path<'a>>,
    /// How often values may stand here in one object; `None`: any number of times.
    times: Option<u64>,
}

/// A node with rules that is sound itself and below.
pub struct Node<'a> {
    pub schema: &'a Value,
    pub path: &'a Path<'a>,
    pub root: bool,
    /// How often its values may stand in one object; `None`: any number of times.
    pub times: Option<u64>,
    /// Where in the schema rules cannot look back any more.
    pub uncorrelatable: Option<String>,
}

/// Everything wrong with the schema; `rules` is called for each node that has rules.
pub fn check(schema: &Value, path: &Path, rules: &mut dyn FnMut(&Node<'_>)) -> Vec<FieldError> {
    let mut walk = Walk {
        errors: Vec::new(),
        rules,
    };
    let place = Place {
        root: true,
        times: Some(1),
        ..Place::default()
    };
    walk.node(schema, path, &place, true);
    walk.errors
}

struct Walk<'a> {
    errors: Vec<FieldError>,
    rules: &'a mut dyn FnMut(&Node<'_>),
}

/// How often the elements of a value may stand in one object.
fn times(place: &Place<'_>, schema: &Value, bound: &str) -> Option<u64> {
    let bound = schema.get(bound)?.as_i64()?.max(0).cast_unsigned();
    Some(place.times?.saturating_mul(bound))
}

impl Walk<'_> {
    fn forbid(&mut self, path: &Path, why: &str) {
        self.errors.push(FieldError::forbidden(path.field(), why));
    }

    fn require(&mut self, path: &Path, why: &str) {
        self.errors.push(FieldError::required(path.field(), why));
    }

    fn invalid(&mut self, path: &Path, value: impl Into<Value>, why: &str) {
        self.errors.push(FieldError::invalid(path.field(), &value.into(), why));
    }

    /// `spine`: not below a junctor, where rules are looked at.
    fn node(&mut self, schema: &Value, path: &Path, place: &Place<'_>, spine: bool) {
        let before = self.errors.len();
        self.keywords(schema, path, place);
        let inner = Place {
            root: false,
            ..place.clone()
        };
        self.additional(schema, path, &inner, spine);
        self.properties(schema, path, place, spine);
        if let Some(not) = schema.node("not") {
            self.node(not, &path.of("not"), &inner, false);
        }
        for key in ["allOf", "oneOf", "anyOf"] {
            let list = path.of(key);
            for (i, schema) in schema.items(key).iter().enumerate() {
                self.node(schema, &list.at(i), &inner, false);
            }
        }
        if let Some(items) = schema.node("items") {
            let mut inner = inner.clone();
            inner.times = times(place, schema, "maxItems");
            if schema.text("x-kubernetes-list-type") != "map" {
                inner.uncorrelatable = inner.uncorrelatable.or(Some(path));
            }
            self.node(items, &path.of("items"), &inner, spine);
        }
        self.map_type(schema, path);
        self.list_type(schema, path);
        self.list_keys(schema, path);
        self.keys_are_there(schema, path);
        self.rule_form(schema, path);
        if spine && self.errors.len() == before && !schema.items("x-kubernetes-validations").is_empty() {
            (self.rules)(&Node {
                schema,
                path,
                root: place.root,
                times: place.times,
                uncorrelatable: place.uncorrelatable.map(|p| p.field()),
            });
        }
    }

    fn keywords(&mut self, schema: &Value, path: &Path, place: &Place<'_>) {
        let kind = schema.text("type");
        if !kind.is_empty() && !TYPES.contains(&kind) {
            let at = path.of("type").field();
            self.errors.push(FieldError::not_supported(at, &kind.into(), &TYPES));
        }
        if schema.has("default")
            && let Some(why) = &place.no_default
        {
            self.forbid(&path.of("default"), &format!("must not be set {why}"));
        }
        for key in [
            "id",
            "additionalItems",
            "patternProperties",
            "definitions",
            "dependencies",
            "$ref",
        ] {
            if schema.has(key) {
                self.forbid(&path.of(key), &format!("{key} is not supported"));
            }
        }
        if kind == "null" {
            self.forbid(
                &path.of("type"),
                "type cannot be set to null, use nullable as an alternative",
            );
        }
        if schema.get("items").is_some_and(Value::is_array) {
            self.forbid(&path.of("items"), "items must be a schema object and not an array");
        }
        if place.inside_meta && schema.flag("x-kubernetes-embedded-resource") {
            self.forbid(
                &path.of("x-kubernetes-embedded-resource"),
                "must not be used inside of resource meta",
            );
        }
        if schema.flag("uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(&path.of("uniqueItems"), why);
        }
        if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let at = path.of("x-kubernetes-preserve-unknown-fields");
            self.invalid(&at, false, "must be true or undefined");
        }
    }

    fn additional(&mut self, schema: &Value, path: &Path, place: &Place<'_>, spine: bool) {
        let Some(additional) = schema.get("additionalProperties").filter(|a| !a.is_null()) else {
            return;
        };
        let at = path.of("additionalProperties");
        if members(schema, "properties").next().is_some() && *additional != Value::Bool(true) {
            self.forbid(&at, "additionalProperties and properties are mutual exclusive");
        }
        if additional.is_object() {
            let mut place = place.clone();
            place.times = times(&place, schema, "maxProperties");
            if place.inside_meta {
                place.no_default = Some("inside additionalProperties applying to object metadata".into());
            }
            self.node(additional, &at, &place, spine);
        }
    }

    fn properties(&mut self, schema: &Value, path: &Path, place: &Place<'_>, spine: bool) {
        let resource = place.root || schema.flag("x-kubernetes-embedded-resource");
        let at = path.of("properties");
        for (name, inner) in members(schema, "properties") {
            let mut below = Place {
                root: false,
                ..place.clone()
            };
            if schema.text("x-kubernetes-map-type") == "atomic" {
                below.uncorrelatable = below.uncorrelatable.or(Some(path));
            }
            if resource && crate::prune::is_meta(name) {
                below.inside_meta = true;
                if place.root {
                    below.no_default = Some(format!("in top-level {name}"));
                }
            }
            self.node(inner, &at.key(name), &below, spine);
        }
    }

    fn map_type(&mut self, schema: &Value, path: &Path) {
        if !schema.has("x-kubernetes-map-type") {
            return;
        }
        let (kind, map_type) = (schema.text("type"), schema.text("x-kubernetes-map-type"));
        const WHY: &str = "must be object if x-kubernetes-map-type is specified";
        match kind {
            "object" => {}
            "" => self.require(&path.of("type"), WHY),
            _ => self.invalid(&path.of("type"), kind, WHY),
        }
        const MAP_TYPES: [&str; 2] = ["atomic", "granular"];
        if !MAP_TYPES.contains(&map_type) {
            let at = path.of("x-kubernetes-map-type").field();
            self.errors
                .push(FieldError::not_supported(at, &map_type.into(), &MAP_TYPES));
        }
    }

    fn list_type(&mut self, schema: &Value, path: &Path) {
        if !schema.has("x-kubernetes-list-type") {
            return;
        }
        let (kind, list_type) = (schema.text("type"), schema.text("x-kubernetes-list-type"));
        const WHY: &str = "must be array if x-kubernetes-list-type is specified";
        match kind {
            "array" if list_type == "set" => self.set_items(schema, path),
            "array" => {}
            "" => self.require(&path.of("type"), WHY),
            _ => self.invalid(&path.of("type"), kind, WHY),
        }
        const LIST_TYPES: [&str; 3] = ["atomic", "set", "map"];
        if !LIST_TYPES.contains(&list_type) {
            let at = path.of("x-kubernetes-list-type").field();
            self.errors
                .push(FieldError::not_supported(at, &list_type.into(), &LIST_TYPES));
        }
    }

    /// Members of sets are compared as a whole.
    fn set_items(&mut self, schema: &Value, path: &Path) {
        let Some(items) = schema.node("items") else { return };
        const WHY: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let at = path.of("items");
        let shown = |key: &str| items.get(key).cloned().unwrap_or_else(|| "null".into());
        let list_type = items.text("x-kubernetes-list-type");
        match items.text("type") {
            "array" if !matches!(list_type, "" | "atomic") => {
                self.invalid(&at.of("x-kubernetes-list-type"), list_type, WHY);
            }
            "object" if items.text("x-kubernetes-map-type") != "atomic" => {
                self.invalid(&at.of("x-kubernetes-map-type"), shown("x-kubernetes-list-type"), WHY);
            }
            _ => {}
        }
    }

    fn list_keys(&mut self, schema: &Value, path: &Path) {
        let keys = schema.items("x-kubernetes-list-map-keys");
        let list_type = schema.text("x-kubernetes-list-type");
        let at = path.of("x-kubernetes-list-map-keys");
        if !keys.is_empty() && list_type != "map" {
            const WHY: &str = "must be map if x-kubernetes-list-map-keys is non-empty";
            let at = path.of("x-kubernetes-list-type");
            match list_type {
                "" => self.require(&at, WHY),
                _ => self.invalid(&at, list_type, WHY),
            }
        }
        if list_type != "map" {
            return;
        }
        if keys.is_empty() {
            self.require(&at, "must not be empty if x-kubernetes-list-type is map");
        }
        let list = path.of("items");
        let Some(items) = schema.node("items") else {
            if !schema.has("items") {
                self.require(&list, "must have a schema if x-kubernetes-list-type is map");
            }
            return;
        };
        if items.text("type") != "object" {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            return self.invalid(&list.of("type"), items.text("type"), why);
        }
        let mut seen: Vec<&str> = Vec::new();
        for key in keys.iter().filter_map(Value::as_str) {
            match items.node("properties").and_then(|p| p.get(key)) {
                Some(found) if matches!(found.text("type"), "array" | "object") => {
                    let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    let properties = list.of("properties");
                    self.invalid(&properties.key(key).of("type"), items.text("type"), why);
                }
                Some(_) => {}
                None => self.invalid(&at, keys.to_vec(), "entries must all be names of item properties"),
            }
            if seen.contains(&key) {
                self.invalid(&at, keys.to_vec(), "must not contain duplicate entries");
            }
            seen.push(key);
        }
    }

    fn keys_are_there(&mut self, schema: &Value, path: &Path) {
        let list_type = schema.text("x-kubernetes-list-type");
        let Some(items) = schema.node("items").filter(|_| matches!(list_type, "set" | "map")) else {
            return;
        };
        let list = path.of("items");
        if items.flag("nullable") {
            let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            self.forbid(&list.of("nullable"), &why);
        }
        if list_type != "map" {
            return;
        }
        let properties = list.of("properties");
        for key in schema.items("x-kubernetes-list-map-keys") {
            let name = key.as_str().unwrap_or_default();
            let Some(found) = items.node("properties").and_then(|p| p.get(name)) else {
                continue;
            };
            let at = properties.key(name);
            if !items.items("required").contains(key) && !found.has("default") {
                let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.require(&at.of("default"), why);
            }
            if found.flag("nullable") {
                let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.forbid(&at.of("nullable"), why);
            }
        }
    }

    fn rule_form(&mut self, schema: &Value, path: &Path) {
        let list = path.of("x-kubernetes-validations");
        let lines = |text: &str| text.contains(['\n', '\r']);
        for (i, rule) in schema.items("x-kubernetes-validations").iter().enumerate() {
            let at = list.at(i);
            let (message, trimmed) = (rule.text("message"), rule.text("message").trim());
            let text = rule.text("rule").trim();
            if text.is_empty() {
                self.require(&at.of("rule"), "rule is not specified");
            } else if !message.is_empty() && trimmed.is_empty() {
                self.invalid(&at.of("message"), message, "message must be non-empty if specified");
            } else if lines(trimmed) {
                self.invalid(&at.of("message"), message, "message must not contain line breaks");
            } else if lines(text) && trimmed.is_empty() {
                let why = "message must be specified if rule contains line breaks";
                self.require(&at.of("message"), why);
            }
            let expression = rule.text("messageExpression");
            if !expression.is_empty() && expression.trim().is_empty() {
                let why = "messageExpression must be non-empty if specified";
                self.require(&at.of("messageExpression"), why);
            }
            if rule.has("reason") && !REASONS.contains(&rule.text("reason")) {
                let at = at.of("reason").field();
                let reason = rule.text("reason");
                self.errors
                    .push(FieldError::not_supported(at, &reason.into(), &REASONS));
            }
            self.field_path_form(schema, rule.text("fieldPath"), &at.of("fieldPath"));
        }
    }

    fn field_path_form(&mut self, schema: &Value, field: &str, at: &Path) {
        if field.is_empty() {
            return;
        }
        if field.trim().is_empty() {
            self.invalid(at, field, "fieldPath must be non-empty if specified");
        }
        if field.contains(['\n', '\r']) {
            self.invalid(at, field, "fieldPath must not contain line breaks");
        }
        if field_path::follow(field, schema, true).is_err() {
            self.invalid(at, field, "fieldPath must be a valid path");
        }
    }
}
