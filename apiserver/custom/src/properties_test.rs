//! Whatever is written: nothing panics, and doing it twice changes nothing.

use crate::cel::Rules;
use crate::check::{check, field_path};
use crate::jsonpath::JsonPath;
use crate::{Path, Schema, defaults, definition, listtype, meta, pattern, prune, types, validate};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Keys that schemas give a meaning, and some that they do not.
const KEYS: [&str; 34] = [
    "type",
    "properties",
    "items",
    "additionalProperties",
    "default",
    "nullable",
    "enum",
    "required",
    "pattern",
    "format",
    "minimum",
    "maxLength",
    "maxItems",
    "maxProperties",
    "multipleOf",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
    "rule",
    "messageExpression",
    "fieldPath",
    "metadata",
    "apiVersion",
    "a",
    "b",
    "spec",
];
const WORDS: [&str; 16] = [
    "object",
    "array",
    "string",
    "integer",
    "boolean",
    "number",
    "map",
    "set",
    "atomic",
    "a",
    "^(a|b)+$",
    "[",
    "date-time",
    "self.a == oldSelf.a",
    ".a['b']",
    "ü\u{0}",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![prop::sample::select(&WORDS[..]).prop_map(String::from), ".{0,12}"]
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|x| json!(x)),
        (-3_i64..4).prop_map(Value::from),
        word().prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        let key = prop::sample::select(&KEYS[..]).prop_map(String::from);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(key, inner, 0..7).prop_map(|map| Value::Object(Map::from_iter(map))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_schema_and_any_object(json in tree(), object in tree(), old in tree()) {
        check(&json, &Path::new("s"), true);
        let schema = Schema::new(&json);
        types::object_type(&schema, "g.example.com", "v1", "K");
        validate::validate(&schema, &object, &Path::ROOT);
        // What is as it was has no faults.
        prop_assert!(validate::validate_update(&schema, &object, &object, &Path::ROOT).is_empty());
        validate::validate_update(&schema, &object, &old, &Path::ROOT);
        meta::validate(&schema, &object, true, &Path::ROOT);
        listtype::validate(&schema, &object, &Path::ROOT, &mut Vec::new());
        if let Some(rules) = Rules::new(&json, &schema, true) {
            rules.validate(&schema, &object, Some(&old));
        }
        let mut made = object.clone();
        prune::prune(&schema, &mut made);
        let pruned = made.clone();
        prop_assert!(prune::prune(&schema, &mut made).is_empty());
        prop_assert_eq!(&made, &pruned);
        defaults::drop_nulls(&schema, &mut made);
        defaults::fill(&schema, &mut made);
        let filled = made.clone();
        defaults::fill(&schema, &mut made);
        prop_assert_eq!(&made, &filled);
        // Metadata may be of a wrong type.
        let _ = meta::coerce(&schema, &mut made, true);
    }

    #[test]
    fn any_definition(spec in tree(), status in tree()) {
        let crd = json!({"metadata": {"name": "x"}, "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": spec}}]}, "status": status});
        definition::validate(&crd);
        definition::validate_update(&crd, &json!({"spec": {"versions": []}}));
        definition::non_structural(&crd);
        definition::accept(&crd, &definition::Names::default());
    }

    #[test]
    fn any_text(text in prop_oneof![word(), "[\\[\\].'\"?@$*:(){},=<>a1\\\\ -]{0,20}"], object in tree()) {
        if let Ok(path) = JsonPath::parse(&text) {
            path.find(&object);
        }
        if let Ok(regex) = pattern::compile(&text) {
            regex.is_match(&text);
        }
        let _ = field_path::follow(&text, &object, true);
        for format in ["uri", "email", "uuid", "date-time", "duration", "isbn", "cidr", "mac", "ssn", "rgbcolor", "hostname"] {
            crate::format::is(format, &text);
        }
    }
}
