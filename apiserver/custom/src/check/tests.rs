//! Schemas that may be and that may not be, with what is said of them.

use super::*;
use serde_json::json;

fn faults(schema: &Value) -> Vec<String> {
    let path = Path::new("s");
    check(schema, &path, false).iter().map(ToString::to_string).collect()
}

fn with_spec(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

#[test]
fn sound_schemas_pass() {
    let table = [
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        json!({"type": "object", "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": {
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "port2": {"x-kubernetes-int-or-string": true,
                    "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "^a"}]},
                "replicas": {"type": "integer", "default": 1, "minimum": 0},
                "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                    "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "x-kubernetes-preserve-unknown-fields": true,
                    "default": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}},
            }, "oneOf": [{"required": ["port"]}, {"required": ["ports"]}]},
        }}),
        json!({"type": "object", "properties": {"metadata": {"type": "object",
            "properties": {"name": {"type": "string", "maxLength": 5}}}}}),
    ];
    for schema in table {
        assert_eq!(faults(&schema), Vec::<String>::new(), "{schema}");
    }
}

#[test]
fn what_is_not_structural_is_told() {
    let table: Vec<(Value, &[&str])> = vec![
        (json!({}), &["s.type: Required value: must not be empty at the root"]),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            &["s.type: Invalid value: \"array\": must be object at the root"],
        ),
        (
            with_spec(json!({})),
            &["s.properties[spec].type: Required value: must not be empty for specified object fields"],
        ),
        (
            with_spec(json!({"type": "array"})),
            &["s.properties[spec].items: Required value: must be specified"],
        ),
        (
            with_spec(json!({"type": "array", "items": {}})),
            &["s.properties[spec].items.type: Required value: must not be empty for specified array items"],
        ),
        (
            with_spec(json!({"type": "object", "anyOf": [{"type": "object", "description": "x", "default": {}}]})),
            &[
                "s.properties[spec].anyOf[0].default: Forbidden: must be undefined to be structural",
                "s.properties[spec].anyOf[0].description: Forbidden: must be empty to be structural",
                "s.properties[spec].anyOf[0].type: Forbidden: must be empty to be structural",
            ],
        ),
        (
            json!({"type": "object", "allOf": [{"properties": {"a": {"minimum": 1}}}]}),
            &["s.properties[a]: Required value: because it is defined in s.allOf[0].properties[a]"],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object",
                "properties": {"labels": {"type": "object"}}}}}),
            &[
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            &["s.additionalProperties: Forbidden: must not be used at the root"],
        ),
        (
            with_spec(json!({"type": "string", "pattern": "("})),
            &[
                "s.properties[spec].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`",
            ],
        ),
        (
            with_spec(json!({"type": "object", "x-kubernetes-embedded-resource": true})),
            &[
                "s.properties[spec].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ],
        ),
    ];
    for (schema, expected) in table {
        assert_eq!(faults(&schema), expected, "{schema}");
    }
}

#[test]
fn what_is_not_allowed_is_told() {
    let table: Vec<(Value, &[&str])> = vec![
        (
            with_spec(json!({"type": "text"})),
            &[
                "s.properties[spec].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
            ],
        ),
        (
            with_spec(json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}})),
            &[
                "s.properties[spec].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (
            with_spec(
                json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            ),
            &[
                "s.properties[spec].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        ),
        (
            with_spec(json!({"type": "object", "$ref": "x"})),
            &["s.properties[spec].$ref: Forbidden: $ref is not supported"],
        ),
        (
            with_spec(json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}})),
            &[
                "s.properties[spec].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ],
        ),
        (
            with_spec(
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"],
                "items": {"type": "object", "properties": {"a": {"type": "string", "nullable": true}}}}),
            ),
            &[
                "s.properties[spec].items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                "s.properties[spec].items.properties[a].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            ],
        ),
        (
            with_spec(
                json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object", "x-kubernetes-map-type": "granular"}}),
            ),
            &[
                "s.properties[spec].items.x-kubernetes-map-type: Invalid value: \"null\": must be atomic as item of a list with x-kubernetes-list-type=set",
            ],
        ),
        (
            with_spec(json!({"type": "string", "x-kubernetes-list-type": "set"})),
            &[
                "s.properties[spec].type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
            ],
        ),
        (
            with_spec(
                json!({"type": "object", "x-kubernetes-validations": [{"rule": " "}, {"rule": "a\nb"},
                {"rule": "true", "reason": "Other", "fieldPath": ".nope"}]}),
            ),
            &[
                "s.properties[spec].x-kubernetes-validations[0].rule: Required value: rule is not specified",
                "s.properties[spec].x-kubernetes-validations[1].message: Required value: message must be specified if rule contains line breaks",
                "s.properties[spec].x-kubernetes-validations[2].reason: Unsupported value: \"Other\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
                "s.properties[spec].x-kubernetes-validations[2].fieldPath: Invalid value: \".nope\": fieldPath must be a valid path",
            ],
        ),
    ];
    for (schema, expected) in table {
        assert_eq!(faults(&schema), expected, "{schema}");
    }
}

#[test]
fn defaults_are_sound() {
    let table: Vec<(Value, &[&str])> = vec![
        (
            with_spec(json!({"type": "integer", "default": "x"})),
            &["s.properties[spec].default: Invalid value: \"string\":  in body must be of type integer: \"string\""],
        ),
        (
            with_spec(json!({"type": "object", "default": {"b": 1}, "properties": {"a": {"type": "string"}}})),
            &["s.properties[spec].default: Invalid value: {\"b\":1}: must not have unknown fields"],
        ),
        (
            with_spec(json!({"type": "object", "default": {"a": 1}, "properties": {"a": {"type": "string"}}})),
            &[
                "s.properties[spec].default.a: Invalid value: \"integer\": a in body must be of type string: \"integer\"",
            ],
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "string", "default": "X"}}}),
            &["s.properties[kind].default: Forbidden: must not be set in top-level kind"],
        ),
    ];
    for (schema, expected) in table {
        assert_eq!(faults(&schema), expected, "{schema}");
    }
}

#[test]
fn little_may_stand_at_the_root_beside_a_status() {
    let schema = json!({"type": "object", "anyOf": [{"required": ["a"]}]});
    let errors = check(&schema, &Path::new("s"), true);
    assert!(errors[0].detail.contains("only [Description Type Format"), "{errors:?}");
    assert!(check(&json!({"type": "object", "description": "d"}), &Path::new("s"), true).is_empty());
}
