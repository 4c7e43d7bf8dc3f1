//! Objects under schemas: pruning, defaulting, validation, ratcheting.

use crate::{Path, Schema, defaults, listtype, meta, prune, validate};
use serde_json::{Value, json};

fn texts(errors: &[skiff_api::FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn prunes_what_is_not_known() {
    let schema = Schema::new(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "a": {"type": "string"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"y": {"type": "string"}}}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"known": {"type": "object", "properties": {"z": {"type": "string"}}}}},
            "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
        }},
    }}));
    let mut object = json!({
        "apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}, "extra": 1,
        "spec": {"a": "b", "b": 1,
            "list": [{"x": "1", "q": 2}, 3], "map": {"k": {"y": "1", "r": 1}},
            "open": {"any": {"thing": 1}, "known": {"z": "1", "w": 2}},
            "embedded": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "m"}, "spec": {"p": 1}, "status": {}}},
    });
    let pruned = prune::prune(&schema, &mut object);
    assert_eq!(
        pruned,
        [
            "extra",
            "spec.b",
            "spec.embedded.spec.p",
            "spec.embedded.status",
            "spec.list[0].q",
            "spec.map.k.r",
            "spec.open.known.w"
        ]
    );
    assert_eq!(
        object["spec"],
        json!({"a": "b", "list": [{"x": "1"}, 3], "map": {"k": {"y": "1"}},
            "open": {"any": {"thing": 1}, "known": {"z": "1"}},
            "embedded": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "m"}, "spec": {}}})
    );
    let open = Schema::new(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    assert!(prune::prune(&open, &mut json!({"spec": {"x": 1}})).is_empty());
}

#[test]
fn fills_in_defaults() {
    let schema = Schema::new(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "default": {}, "properties": {
            "a": {"type": "string", "default": "A"},
            "n": {"type": "string", "nullable": true, "default": "N"},
            "plain": {"type": "string"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer", "default": 1}}}},
        }},
    }}));
    let table = [
        (json!({}), json!({"spec": {"a": "A", "n": "N"}})),
        (
            json!({"spec": {"a": null, "n": null, "plain": null}}),
            json!({"spec": {"a": "A", "n": null}}),
        ),
        (
            json!({"spec": {"list": [{}, {"x": 2}]}}),
            json!({"spec": {"a": "A", "n": "N", "list": [{"x": 1}, {"x": 2}]}}),
        ),
    ];
    for (mut given, expected) in table {
        defaults::drop_nulls(&schema, &mut given);
        defaults::fill(&schema, &mut given);
        assert_eq!(given, expected);
        let again = given.clone();
        defaults::fill(&schema, &mut given);
        assert_eq!(given, again);
    }
}

#[test]
fn validates_values_in_upstream_s_words() {
    let table: Vec<(Value, Value, &[&str])> = vec![
        (
            json!({"type": "string"}),
            json!(3),
            &["spec.x: Invalid value: \"integer\": spec.x in body must be of type string: \"integer\""],
        ),
        (json!({"type": "integer"}), json!(3.0), &[]),
        (
            json!({"type": "integer"}),
            json!(3.5),
            &["spec.x: Invalid value: \"number\": spec.x in body must be of type integer: \"number\""],
        ),
        (json!({"type": "number"}), json!(3), &[]),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            &["spec.x: Invalid value: \"boolean\": spec.x in body must be of type integer,string: \"boolean\""],
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            &["spec.x: Unsupported value: \"c\": supported values: \"a\", \"b\""],
        ),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 10}),
            json!(11),
            &["spec.x: Invalid value: 11: spec.x in body should be less than or equal to 10"],
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            &["spec.x: Invalid value: 1: spec.x in body should be greater than 1"],
        ),
        (json!({"type": "integer", "format": "int32"}), json!(2_147_483_647), &[]),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(-2_147_483_648.0),
            &[],
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(2_147_483_648_i64),
            &["<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.x"],
        ),
        (
            // A bound that the format cannot hold is a fault of every value.
            json!({"type": "integer", "format": "int32", "maximum": 4_294_967_295_i64}),
            json!(1),
            &["<nil>: Invalid value: \"\": Maximum boundary value must be of type integer with format int32 in spec.x"],
        ),
        (
            json!({"type": "integer", "format": "int64"}),
            json!(9_223_372_036_854_775_807_i64),
            &[],
        ),
        (json!({"type": "integer", "format": "uint32"}), json!(-1), &[]),
        (json!({"type": "number", "format": "float"}), json!(3.4e38), &[]),
        (
            json!({"type": "number", "format": "float"}),
            json!(3.5e38),
            &["<nil>: Invalid value: \"\": Checked value must be of type number with format float in spec.x"],
        ),
        (json!({"type": "number", "format": "double"}), json!(1e300), &[]),
        (
            json!({"type": "number", "multipleOf": 0.5}),
            json!(0.7),
            &["spec.x: Invalid value: 0.7: spec.x in body should be a multiple of 0.5"],
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("äöü"),
            &["spec.x: Too long: may not be more than 2 bytes"],
        ),
        (json!({"type": "string", "maxLength": 3}), json!("äöü"), &[]),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            &["spec.x: Invalid value: \"a\": spec.x in body should be at least 2 chars long"],
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            &["spec.x: Invalid value: \"b\": spec.x in body should match '^a+$'"],
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            json!("x"),
            &["spec.x: Invalid value: \"x\": spec.x in body must be of type ipv4: \"x\""],
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["a", "b"]),
            &["spec.x: Too many: 2: must have at most 1 items"],
        ),
        (
            json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
            json!([]),
            &["spec.x: Invalid value: 0: spec.x in body should have at least 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["a", 1]),
            &["spec.x[1]: Invalid value: \"integer\": spec.x[1] in body must be of type string: \"integer\""],
        ),
        (
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
            json!({}),
            &["spec.x.a: Required value"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": 1}),
            &["spec.x.k: Invalid value: \"integer\": spec.x.k in body must be of type string: \"integer\""],
        ),
        (
            json!({"type": "string", "nullable": false}),
            json!(null),
            &["spec.x: Invalid value: \"null\": spec.x in body must be of type string: \"null\""],
        ),
        (json!({"type": "string", "nullable": true}), json!(null), &[]),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({}),
            &[
                "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found none valid",
                "spec.x.a: Required value",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"a": "1", "b": "2"}),
            &[
                "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ],
        ),
        (
            json!({"type": "string", "not": {"enum": ["a"]}}),
            json!("a"),
            &["<nil>: Invalid value: \"\": \"spec.x\" must not validate the schema (not)"],
        ),
        (
            json!({"type": "integer", "allOf": [{"minimum": 2}, {"maximum": 5}]}),
            json!(1),
            &[
                "spec.x: Invalid value: 1: spec.x in body should be greater than or equal to 2",
                "<nil>: Invalid value: \"\": \"spec.x\" must validate all the schemas (allOf)",
            ],
        ),
    ];
    for (inner, value, expected) in table {
        let schema = Schema::new(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"x": inner.clone()}}}}));
        let object = json!({"spec": {"x": value}});
        let errors = validate::validate(&schema, &object, &Path::ROOT);
        assert_eq!(texts(&errors), expected, "{inner}");
    }
}

#[test]
fn what_did_not_change_is_let_pass() {
    let schema = Schema::new(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "string", "maxLength": 1},
            "b": {"type": "string"},
            "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}}},
            "plain": {"type": "array", "items": {"type": "string", "maxLength": 1}},
        }}}}),
    );
    let check = |old: Value, new: Value| {
        texts(&validate::validate_update(
            &schema,
            &json!({"spec": new}),
            &json!({"spec": old}),
            &Path::ROOT,
        ))
    };
    assert!(check(json!({"a": "long"}), json!({"a": "long", "b": "new"})).is_empty());
    assert_eq!(
        check(json!({"a": "long"}), json!({"a": "longer"})),
        ["spec.a: Too long: may not be more than 1 bytes"]
    );
    assert!(
        check(
            json!({"keyed": [{"k": "1", "v": "long"}]}),
            json!({"keyed": [{"k": "0", "v": "s"}, {"k": "1", "v": "long"}]})
        )
        .is_empty()
    );
    assert_eq!(
        check(json!({"plain": ["long"]}), json!({"plain": ["long", "s"]})),
        ["spec.plain[0]: Too long: may not be more than 1 bytes"]
    );
}

#[test]
fn sets_and_keyed_lists_have_nothing_twice() {
    let schema = Schema::new(&json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "p"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "p": {"type": "string", "default": "TCP"}}}},
    }}));
    let mut errors = Vec::new();
    let object =
        json!({"set": ["a", "b", "a", "a"], "keyed": [{"k": "1"}, {"k": "1", "p": "TCP"}, {"k": "1", "p": "UDP"}]});
    listtype::validate(&schema, &object, &Path::ROOT, &mut errors);
    assert_eq!(
        texts(&errors),
        [
            "keyed[1]: Duplicate value: {\"k\":\"1\",\"p\":\"TCP\"}",
            "set[2]: Duplicate value: \"a\""
        ]
    );
}

#[test]
fn embedded_metadata_is_read_as_metadata() {
    let schema = Schema::new(&json!({"type": "object", "properties": {"t": {"type": "object",
        "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}));
    let mut object =
        json!({"t": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "nope": 1, "labels": {}}}});
    let unknown = meta::coerce(&schema, &mut object, false).expect("sound metadata");
    assert_eq!(unknown, ["t.metadata.nope"]);
    assert_eq!(object["t"]["metadata"], json!({"name": "a"}));
    let errors = meta::validate(
        &schema,
        &json!({"t": {"kind": "a b", "metadata": {"labels": {"x": "a b"}}}}),
        false,
        &Path::ROOT,
    );
    let texts = texts(&errors);
    assert_eq!(texts[0], "t.apiVersion: Required value: must not be empty");
    assert!(
        texts[1].starts_with("t.kind: Invalid value: \"a b\": may have mixed case"),
        "{texts:?}"
    );
    assert!(
        texts[2].starts_with("t.metadata.labels: Invalid value: \"a b\""),
        "{texts:?}"
    );
    assert!(meta::coerce(&schema, &mut json!({"t": {"metadata": {"name": 5}}}), false).is_err());
}

#[test]
fn deep_objects_do_not_exhaust_the_stack() {
    let schema = Schema::new(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"a": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}));
    let mut deep = json!(1);
    for _ in 0..110 {
        deep = json!({ "a": [deep] });
    }
    assert!(validate::validate(&schema, &deep, &Path::ROOT).len() < 5);
    assert!(prune::prune(&schema, &mut deep).is_empty());
}
