//! Whether a schema is structural: every field's type is said outside of value
//! validation, and value validation only restricts. Source:
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.

use super::json::{Json, members};
use crate::path::Path;
use crate::pattern;
use serde_json::Value;
use skiff_api::FieldError;

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What keeps the schema from being structural, ordered by its text.
pub fn check(schema: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, path, &mut errors);
    restrictions(schema, schema, path, path, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors.dedup();
    errors
}

fn invariants(schema: &Value, level: Level, path: &Path, errors: &mut Vec<FieldError>) {
    let kind = schema.text("type");
    let embedded = schema.flag("x-kubernetes-embedded-resource");
    let open = schema.flag("x-kubernetes-preserve-unknown-fields");
    let int_or_string = schema.flag("x-kubernetes-int-or-string");
    match schema.node("items") {
        Some(items) => invariants(items, Level::Item, &path.of("items"), errors),
        None if kind == "array" => errors.push(required(&path.of("items"), "must be specified")),
        None => {}
    }
    let properties = path.of("properties");
    for (name, inner) in members(schema, "properties") {
        invariants(inner, Level::Field, &properties.key(name), errors);
    }
    let additional = path.of("additionalProperties");
    if schema.has("additionalProperties") && level == Level::Root {
        errors.push(forbidden(&additional, "must not be used at the root"));
    }
    if let Some(inner) = schema.node("additionalProperties") {
        invariants(inner, Level::Field, &additional, errors);
    }
    extensions(open, embedded, int_or_string, path, errors);
    let skip = (int_or_string_pattern(schema), first_of_all_is_int_or_string(schema));
    validation(schema, skip, path, errors);
    types(schema, kind, embedded, int_or_string || open, level, path, errors);
    meta(schema, level, embedded, path, errors);
    if embedded && !open && members(schema, "properties").next().is_none() {
        errors.push(required(
            &properties,
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
}

fn extensions(open: bool, embedded: bool, int_or_string: bool, path: &Path, errors: &mut Vec<FieldError>) {
    const WHY: &str = "must be false if x-kubernetes-int-or-string is true";
    for (set, name) in [
        (open, "x-kubernetes-preserve-unknown-fields"),
        (embedded, "x-kubernetes-embedded-resource"),
    ] {
        if int_or_string && set {
            errors.push(FieldError::invalid(path.of(name).field(), &true.into(), WHY));
        }
    }
}

fn types(
    schema: &Value,
    kind: &str,
    embedded: bool,
    untyped: bool,
    level: Level,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    let at = path.of("type");
    if embedded && kind != "object" {
        const WHY: &str = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => required(&at, WHY),
            _ => FieldError::invalid(at.field(), &kind.into(), WHY),
        });
    } else if kind.is_empty() && !untyped {
        errors.push(required(
            &at,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    }
    if embedded && schema.has("additionalProperties") {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(forbidden(&path.of("additionalProperties"), why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(
            at.field(),
            &kind.into(),
            "must be object at the root",
        ));
    }
}

/// What may be said of `kind`, `apiVersion` and `metadata`.
fn meta(schema: &Value, level: Level, embedded: bool, path: &Path, errors: &mut Vec<FieldError>) {
    let resource = level == Level::Root || embedded;
    let properties = path.of("properties");
    let find = |name: &str| schema.node("properties").and_then(|p| p.get(name));
    let mut must_be = |name: &str, inner: &Value, wanted: &str| {
        if resource && inner.text("type") != wanted {
            let at = properties.key(name);
            let why = format!("must be {wanted}");
            errors.push(FieldError::invalid(
                at.of("type").field(),
                &inner.text("type").into(),
                &why,
            ));
        }
    };
    for name in ["kind", "apiVersion"] {
        if let Some(inner) = find(name) {
            must_be(name, inner, "string");
        }
    }
    let Some(metadata) = find("metadata") else { return };
    must_be("metadata", metadata, "object");
    if level == Level::Root && !only_names(metadata) {
        errors.push(forbidden(
            &properties.key("metadata"),
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        ));
    }
}

fn only_names(metadata: &Value) -> bool {
    let names = members(metadata, "properties").all(|(name, _)| matches!(name, "name" | "generateName"));
    let rest = metadata.as_object().into_iter().flatten();
    // Prose restricts nothing, but is specifying too, as upstream has it; the default is
    // refused elsewhere.
    names
        && rest
            .into_iter()
            .all(|(key, _)| matches!(key.as_str(), "type" | "properties" | "default"))
}

fn validation(schema: &Value, skip: (bool, bool), path: &Path, errors: &mut Vec<FieldError>) {
    let (skip_any_of, skip_first_all_of) = skip;
    for (key, skipped) in [("anyOf", skip_any_of), ("allOf", false), ("oneOf", false)] {
        let list = path.of(key);
        for (i, inner) in schema.items(key).iter().enumerate() {
            if !skipped {
                let skip = key == "allOf" && i == 0 && skip_first_all_of;
                nested(inner, skip, &list.at(i), errors);
            }
        }
    }
    if let Some(not) = schema.node("not") {
        nested(not, false, &path.of("not"), errors);
    }
    let text = schema.text("pattern");
    if !text.is_empty()
        && let Err(why) = pattern::compile(text)
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(path.of("pattern").field(), &text.into(), &why));
    }
}

/// Below a junctor nothing may be said but restrictions.
fn nested(schema: &Value, skip_any_of: bool, path: &Path, errors: &mut Vec<FieldError>) {
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    const RULES: [(&str, &str); 13] = [
        ("type", EMPTY),
        ("additionalProperties", UNDEFINED),
        ("default", UNDEFINED),
        ("title", EMPTY),
        ("description", EMPTY),
        ("nullable", FALSE),
        ("externalDocs", UNDEFINED),
        ("x-kubernetes-preserve-unknown-fields", FALSE),
        ("x-kubernetes-embedded-resource", FALSE),
        ("x-kubernetes-int-or-string", FALSE),
        ("x-kubernetes-list-map-keys", EMPTY),
        ("x-kubernetes-list-type", UNDEFINED),
        ("x-kubernetes-map-type", UNDEFINED),
    ];
    validation(schema, (skip_any_of, false), path, errors);
    if let Some(items) = schema.node("items") {
        nested(items, false, &path.of("items"), errors);
    }
    let properties = path.of("properties");
    for (name, inner) in members(schema, "properties") {
        nested(inner, false, &properties.key(name), errors);
    }
    for (key, why) in RULES {
        if schema.has(key) && schema.get(key) != Some(&Value::Bool(false)) {
            errors.push(forbidden(&path.of(key), why));
        }
    }
    if !schema.items("x-kubernetes-validations").is_empty() {
        errors.push(forbidden(&path.of("x-kubernetes-validations"), EMPTY));
    }
    if members(schema, "properties").any(|(name, _)| name == "metadata") {
        let why = "must not be specified in a nested context";
        errors.push(forbidden(&properties.key("metadata"), why));
    }
}

/// What is named in the restrictions of the root is specified outside of restrictions.
fn restrictions(from: &Value, spine: &Value, at: &Path, within: &Path, errors: &mut Vec<FieldError>) {
    if let Some(not) = from.node("not") {
        specified(not, spine, at, &within.of("not"), errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        let list = within.of(key);
        for (i, inner) in from.items(key).iter().enumerate() {
            specified(inner, spine, at, &list.at(i), errors);
        }
    }
}

fn specified(nested: &Value, spine: &Value, at: &Path, within: &Path, errors: &mut Vec<FieldError>) {
    restrictions(nested, spine, at, within, errors);
    if let Some(items) = nested.node("items") {
        let (at, within) = (at.of("items"), within.of("items"));
        match spine.node("items") {
            Some(spine) => specified(items, spine, &at, &within, errors),
            None => errors.push(required(&at, &format!("because it is defined in {within}"))),
        }
    }
    let (at, within) = (at.of("properties"), within.of("properties"));
    for (name, inner) in members(nested, "properties") {
        let (at, within) = (at.key(name), within.key(name));
        match spine.node("properties").and_then(|p| p.get(name)) {
            Some(spine) => specified(inner, spine, &at, &within, errors),
            None => errors.push(required(&at, &format!("because it is defined in {within}"))),
        }
    }
}

/// `anyOf: [{type: integer}, {type: string}]`, the one place for types in restrictions.
fn int_or_string_pattern(schema: &Value) -> bool {
    let one = |v: &Value, kind: &str| v.as_object().is_some_and(|m| m.len() == 1) && v.text("type") == kind;
    matches!(schema.items("anyOf"), [a, b] if one(a, "integer") && one(b, "string"))
}

fn first_of_all_is_int_or_string(schema: &Value) -> bool {
    schema.items("allOf").first().is_some_and(int_or_string_pattern)
}

fn required(path: &Path, why: &str) -> FieldError {
    FieldError::required(path.field(), why)
}

fn forbidden(path: &Path, why: &str) -> FieldError {
    FieldError::forbidden(path.field(), why)
}
