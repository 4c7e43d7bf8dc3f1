//! A schema as objects are handled by it: what `openAPIV3Schema` says of each node,
//! without its prose. Compiled once from the definition's JSON, which was found to be
//! structural; what is not understood is left out, never guessed.

use crate::number::Width;
use crate::pattern::Pattern;
use serde_json::{Map, Value};

/// Deeper schemas are cut off: no object nests deeper than the codecs read.
const DEPTH_MAX: usize = 120;

/// One node.
#[derive(Debug, Default)]
pub struct Schema {
    pub kind: Option<Kind>,
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub open: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// `x-kubernetes-map-type: atomic`
    pub atomic: bool,
    pub list: List,
    pub items: Option<Box<Schema>>,
    /// Ordered by name.
    properties: Box<[(Box<str>, Schema)]>,
    pub additional: Additional,
    pub default: Option<Box<Value>>,
    /// `x-kubernetes-validations`
    pub rules: Box<[Rule]>,
    pub checks: Option<Box<Checks>>,
    /// Whether this node or one below has rules, has a default.
    pub has_rules: bool,
    pub has_defaults: bool,
}

/// `type`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// `x-kubernetes-list-type`; without one a list is atomic.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum List {
    #[default]
    Atomic,
    Set,
    Map(Box<[Box<str>]>),
}

/// `additionalProperties`
#[derive(Debug, Default)]
pub enum Additional {
    #[default]
    None,
    Any,
    /// `false`: no other properties.
    Forbidden,
    Schema(Box<Schema>),
}

/// Restrictions of values, apart from their type.
#[derive(Debug, Default)]
pub struct Checks {
    pub format: Option<Box<str>>,
    /// What a numeric format can hold.
    pub width: Option<Width>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<u64>,
    pub min_length: Option<u64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<u64>,
    pub min_items: Option<u64>,
    pub max_properties: Option<u64>,
    pub min_properties: Option<u64>,
    pub required: Box<[Box<str>]>,
    pub allowed: Box<[Value]>,
    pub all_of: Box<[Schema]>,
    pub any_of: Box<[Schema]>,
    pub one_of: Box<[Schema]>,
    pub not: Option<Box<Schema>>,
}

/// A rule of `x-kubernetes-validations`, as it is written.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Rule {
    pub rule: Box<str>,
    pub message: Box<str>,
    pub message_expression: Box<str>,
    pub reason: Box<str>,
    pub field_path: Box<str>,
    pub optional_old_self: Option<bool>,
}

impl Schema {
    /// From the JSON of an `openAPIV3Schema`.
    pub fn new(json: &Value) -> Self {
        Self::at_depth(json, 0)
    }

    fn at_depth(json: &Value, depth: usize) -> Self {
        let Some(map) = json.as_object().filter(|_| depth < DEPTH_MAX) else {
            return Self::default();
        };
        let inner = |value: &Value| Self::at_depth(value, depth + 1);
        let mut schema = Self {
            kind: Kind::of(text(map, "type")),
            nullable: flag(map, "nullable"),
            open: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded: flag(map, "x-kubernetes-embedded-resource"),
            int_or_string: flag(map, "x-kubernetes-int-or-string"),
            atomic: text(map, "x-kubernetes-map-type") == "atomic",
            list: List::of(map),
            items: map.get("items").filter(|i| i.is_object()).map(|i| Box::new(inner(i))),
            // A JSON object's keys come ordered.
            properties: object(map, "properties")
                .map(|(k, v)| (k.as_str().into(), inner(v)))
                .collect(),
            additional: match map.get("additionalProperties") {
                None | Some(Value::Null) => Additional::None,
                Some(Value::Bool(false)) => Additional::Forbidden,
                Some(schema @ Value::Object(_)) => Additional::Schema(Box::new(inner(schema))),
                Some(_) => Additional::Any,
            },
            default: map.get("default").filter(|d| !d.is_null()).map(|d| Box::new(d.clone())),
            rules: list(map, "x-kubernetes-validations").map(Rule::new).collect(),
            checks: Checks::of(map, &inner),
            has_rules: false,
            has_defaults: false,
        };
        schema.has_rules = !schema.rules.is_empty() || schema.children().any(|c| c.has_rules);
        schema.has_defaults = schema.default.is_some() || schema.children().any(|c| c.has_defaults);
        schema
    }

    pub fn property(&self, name: &str) -> Option<&Schema> {
        self.properties
            .binary_search_by(|(key, _)| key.as_ref().cmp(name))
            .ok()
            .map(|at| &self.properties[at].1)
    }

    /// By name.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &Schema)> {
        self.properties.iter().map(|(name, schema)| (name.as_ref(), schema))
    }

    pub fn has_properties(&self) -> bool {
        !self.properties.is_empty()
    }

    /// The schema of values whose names are not listed.
    pub fn additional(&self) -> Option<&Schema> {
        match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        }
    }

    /// Of a member of an object.
    pub fn member(&self, name: &str) -> Option<&Schema> {
        self.property(name).or_else(|| self.additional())
    }

    fn children(&self) -> impl Iterator<Item = &Schema> {
        let named = self.properties.iter().map(|(_, schema)| schema);
        named.chain(self.items.as_deref()).chain(self.additional())
    }

    /// The keys by which items of the list are told apart; none if it is not such a list.
    pub fn map_keys(&self) -> &[Box<str>] {
        match &self.list {
            List::Map(keys) => keys,
            _ => &[],
        }
    }
}

impl Kind {
    pub fn of(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

impl List {
    fn of(map: &Map<String, Value>) -> Self {
        match text(map, "x-kubernetes-list-type") {
            "set" => Self::Set,
            "map" => Self::Map(texts(map, "x-kubernetes-list-map-keys")),
            _ => Self::Atomic,
        }
    }
}

impl Rule {
    pub(crate) fn new(json: &Value) -> Self {
        let at = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().into();
        Self {
            rule: at("rule"),
            message: at("message"),
            message_expression: at("messageExpression"),
            reason: at("reason"),
            field_path: at("fieldPath"),
            optional_old_self: json.get("optionalOldSelf").and_then(Value::as_bool),
        }
    }
}

impl Checks {
    fn of(map: &Map<String, Value>, inner: &dyn Fn(&Value) -> Schema) -> Option<Box<Self>> {
        const KEYS: [&str; 19] = [
            "format",
            "maximum",
            "minimum",
            "multipleOf",
            "maxLength",
            "minLength",
            "pattern",
            "maxItems",
            "minItems",
            "maxProperties",
            "minProperties",
            "required",
            "enum",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "exclusiveMaximum",
            "exclusiveMinimum",
        ];
        if !KEYS.iter().any(|key| map.contains_key(*key)) {
            return None;
        }
        let number = |key: &str| map.get(key).and_then(Value::as_f64);
        // A negative bound of a length holds for everything, or for nothing: as zero does.
        let size = |key: &str| map.get(key).and_then(Value::as_i64).map(|n| n.max(0).cast_unsigned());
        let many = |key: &str| list(map, key).map(inner).collect();
        Some(Box::new(Self {
            format: Some(text(map, "format"))
                .filter(|f| crate::format::supported(f) || Width::of(text(map, "type"), f).is_some())
                .map(Into::into),
            width: Width::of(text(map, "type"), text(map, "format")),
            maximum: number("maximum"),
            exclusive_maximum: flag(map, "exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: flag(map, "exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: size("maxLength"),
            min_length: size("minLength"),
            pattern: Some(text(map, "pattern")).filter(|p| !p.is_empty()).map(Pattern::new),
            max_items: size("maxItems"),
            min_items: size("minItems"),
            max_properties: size("maxProperties"),
            min_properties: size("minProperties"),
            required: texts(map, "required"),
            allowed: list(map, "enum").cloned().collect(),
            all_of: many("allOf"),
            any_of: many("anyOf"),
            one_of: many("oneOf"),
            not: map.get("not").filter(|n| n.is_object()).map(|n| Box::new(inner(n))),
        }))
    }
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn list<'a>(map: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a Value> {
    map.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn texts(map: &Map<String, Value>, key: &str) -> Box<[Box<str>]> {
    list(map, key).filter_map(Value::as_str).map(Into::into).collect()
}

fn object<'a>(map: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    map.get(key).and_then(Value::as_object).into_iter().flatten()
}
