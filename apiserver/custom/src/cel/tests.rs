//! Rules that hold and that do not, and rules that may not be written.

use super::*;
use crate::check::check;
use crate::path::Path;
use serde_json::json;

fn run(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<String> {
    let compiled = Schema::new(schema);
    let rules = Rules::new(schema, &compiled, true).expect("rules");
    let errors = rules.validate(&compiled, object, old);
    errors.iter().map(ToString::to_string).collect()
}

fn spec_with(rules: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": rules, "properties": {
        "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string", "maxLength": 10},
    }}}})
}

#[test]
fn rules_are_told_where_they_fail() {
    let object = json!({"spec": {"min": 5, "max": 3, "name": "a"}});
    let table: Vec<(Value, &[&str])> = vec![
        (json!([{"rule": "self.min >= self.max"}]), &[]),
        (
            json!([{"rule": "self.min <= self.max"}]),
            &["spec: Invalid value: \"object\": failed rule: self.min <= self.max"],
        ),
        (
            json!([{"rule": "self.min <= self.max", "message": "min must not exceed max"}]),
            &["spec: Invalid value: \"object\": min must not exceed max"],
        ),
        (
            json!([{"rule": "self.min <= self.max", "messageExpression": "'min is ' + string(self.min)"}]),
            &["spec: Invalid value: \"object\": min is 5"],
        ),
        (
            json!([{"rule": "self.min <= self.max", "reason": "FieldValueForbidden", "fieldPath": ".max", "message": "m"}]),
            &["spec.max: Forbidden: m"],
        ),
        (
            json!([{"rule": "self.min <= self.max", "reason": "FieldValueRequired", "message": "m"}]),
            &["spec: Required value: m"],
        ),
        (
            json!([{"rule": "self.min / 0 > 1"}]),
            &["spec: Invalid value: \"object\": division by zero evaluating rule: self.min / 0 > 1"],
        ),
    ];
    for (rules, expected) in table {
        assert_eq!(run(&spec_with(rules.clone()), &object, None), expected, "{rules}");
    }
}

#[test]
fn transition_rules_look_back() {
    let schema = spec_with(json!([{"rule": "self.min >= oldSelf.min", "message": "may only grow"}]));
    let at = |min: i64| json!({"spec": {"min": min}});
    assert!(run(&schema, &at(1), None).is_empty());
    assert!(run(&schema, &at(2), Some(&at(1))).is_empty());
    assert_eq!(
        run(&schema, &at(1), Some(&at(2))),
        ["spec: Invalid value: \"object\": may only grow"]
    );
    let optional = spec_with(
        json!([{"rule": "!oldSelf.hasValue() || self.min == oldSelf.value().min", "optionalOldSelf": true, "message": "fixed"}]),
    );
    assert!(run(&optional, &at(1), None).is_empty());
    assert_eq!(
        run(&optional, &at(1), Some(&at(2))),
        ["spec: Invalid value: \"object\": fixed"]
    );
}

#[test]
fn what_did_not_change_is_let_pass() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "x-kubernetes-validations": [{"rule": "self == 'x'", "message": "no"}]},
        "b": {"type": "string"},
        "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == 'x'", "message": "no"}]}},
    }});
    let old = json!({"a": "y", "b": "1", "list": ["y"]});
    assert!(run(&schema, &json!({"a": "y", "b": "2", "list": ["y"]}), Some(&old)).is_empty());
    assert_eq!(
        run(&schema, &json!({"a": "z", "b": "2", "list": ["y", "x"]}), Some(&old)),
        [
            "a: Invalid value: \"string\": no",
            "list[0]: Invalid value: \"string\": no"
        ]
    );
}

#[test]
fn definitions_are_told_of_their_rules() {
    let faults = |schema: &Value| -> Vec<String> {
        let found = check(schema, &Path::new("s"), false);
        found.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        faults(&spec_with(json!([{"rule": "self.min <= self.max"}]))),
        Vec::<String>::new()
    );
    let wrong = faults(&spec_with(json!([{"rule": "self.foo"}])));
    assert_eq!(
        wrong,
        [
            "s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:\"self.foo\", Message:\"\", MessageExpression:\"\", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:\"\", OptionalOldSelf:(*bool)(nil)}: compilation failed: ERROR: <input>:1:5: undefined field 'foo'\n | self.foo\n | ....^"
        ]
    );
    let wrong = faults(&spec_with(
        json!([{"rule": "self.min"}, {"rule": "true", "messageExpression": "1"}, {"rule": "true", "optionalOldSelf": true}]),
    ));
    assert!(
        wrong[0].ends_with("cel expression must evaluate to a bool"),
        "{wrong:?}"
    );
    assert!(
        wrong[1].ends_with("messageExpression must evaluate to a string"),
        "{wrong:?}"
    );
    assert!(
        wrong[2].ends_with("may not be set if oldSelf is not used in rule"),
        "{wrong:?}"
    );
    let list = json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}});
    let wrong = faults(&list);
    assert!(
        wrong.iter().any(|w| w
            .ends_with("oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[l]")),
        "{wrong:?}"
    );
    let dear = json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "array", "items": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y))"}]}}});
    let wrong = faults(&dear);
    assert!(
        wrong[0].contains("Forbidden: estimated rule cost exceeds budget by factor of more than 100x"),
        "{wrong:?}"
    );
    assert!(
        wrong
            .iter()
            .any(|w| w.contains("estimated rule cost total for entire OpenAPIv3 schema")),
        "{wrong:?}"
    );
}
