use super::bootstrap::wanted;
use serde_json::{Value, json};

/// What is wrong with an object once its defaults are set.
fn faults(kind: &str, mut object: Value) -> Vec<String> {
    let strategy = crate::find_kind(super::GROUP, kind).unwrap().strategy();
    strategy.default(&mut object);
    strategy.validate(&object).iter().map(ToString::to_string).collect()
}

fn schema() -> Value {
    json!({"metadata": {"name": "x"}, "spec": {
        "priorityLevelConfiguration": {"name": "system"}, "matchingPrecedence": 50, "distinguisherMethod": {"type": "ByUser"},
        "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "jane"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/a", "/b/*"]}],
        }],
    }})
}

fn level() -> Value {
    json!({"metadata": {"name": "x"}, "spec": {"type": "Limited", "limited": {
        "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}}}}})
}

/// The base is fine; with one member changed (or removed), this is wrong.
#[track_caller]
fn check(kind: &str, base: &Value, pointer: &str, value: Value, wanted: &[&str]) {
    assert_eq!(faults(kind, base.clone()), Vec::<String>::new());
    let mut object = base.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    if value.is_null() {
        parent.as_object_mut().unwrap().remove(key);
    } else {
        parent[key] = value;
    }
    assert_eq!(faults(kind, object), wanted, "{pointer}");
}

#[test]
fn flow_schemas() {
    let rule = "/spec/rules/0";
    let resource = format!("{rule}/resourceRules/0");
    let path = format!("{rule}/nonResourceRules/0");
    let cases: Vec<(String, Value, &[&str])> = vec![
        (
            "/spec/matchingPrecedence".into(),
            json!(-1),
            &["spec.matchingPrecedence: Invalid value: -1: must be a positive value"],
        ),
        (
            "/spec/matchingPrecedence".into(),
            json!(10001),
            &["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"],
        ),
        (
            "/spec/matchingPrecedence".into(),
            json!(1),
            &[
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            ],
        ),
        (
            "/spec/distinguisherMethod/type".into(),
            json!("By"),
            &[
                "spec.distinguisherMethod.type: Unsupported value: \"By\": supported values: \"ByNamespace\", \"ByUser\"",
            ],
        ),
        (
            "/spec/priorityLevelConfiguration/name".into(),
            json!(""),
            &["spec.priorityLevelConfiguration.name: Required value: must reference a priority level"],
        ),
        (
            format!("{rule}/subjects"),
            json!([]),
            &["spec.rules[0].subjects: Required value: subjects must contain at least one value"],
        ),
        (
            format!("{rule}/subjects/0/user"),
            Value::Null,
            &["spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'"],
        ),
        (
            format!("{rule}/subjects/0/group"),
            json!({"name": "g"}),
            &["spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'"],
        ),
        (
            format!("{rule}/subjects/0/kind"),
            json!("Robot"),
            &[
                "spec.rules[0].subjects[0].kind: Unsupported value: \"Robot\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
            ],
        ),
        (
            format!("{resource}/verbs"),
            json!([]),
            &["spec.rules[0].resourceRules[0].verbs: Required value: verbs must contain at least one value"],
        ),
        (
            format!("{resource}/apiGroups"),
            json!([]),
            &[
                "spec.rules[0].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group",
            ],
        ),
        (
            format!("{resource}/namespaces"),
            json!([]),
            &[
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
            ],
        ),
        (
            format!("{path}/nonResourceURLs"),
            json!(["a"]),
            &["spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must start with slash"],
        ),
        (
            format!("{path}/nonResourceURLs"),
            json!(["/a*"]),
            &[
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do suffix matching",
            ],
        ),
        (
            format!("{path}/nonResourceURLs"),
            json!(["/", "/a//b"]),
            &[
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"/a//b\": must not contain double slash",
            ],
        ),
    ];
    for (pointer, value, wanted) in cases {
        check("FlowSchema", &schema(), &pointer, value, wanted);
    }
}

#[test]
fn priority_levels() {
    let limited = "/spec/limited";
    let queuing = format!("{limited}/limitResponse/queuing");
    let cases: Vec<(String, Value, &[&str])> = vec![
        (
            "/spec/type".into(),
            json!("Exempt"),
            &[
                "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
                "spec.limited: Forbidden: must be nil if the type is not Limited",
            ],
        ),
        (
            limited.into(),
            Value::Null,
            &["spec.limited: Required value: must not be empty when type is Limited"],
        ),
        (
            format!("{limited}/nominalConcurrencyShares"),
            json!(-1),
            &["spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer"],
        ),
        (
            format!("{limited}/lendablePercent"),
            json!(101),
            &["spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"],
        ),
        (
            format!("{limited}/limitResponse/type"),
            json!("Reject"),
            &[
                "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
            ],
        ),
        (
            queuing.clone(),
            Value::Null,
            &[
                "spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited",
            ],
        ),
        (
            format!("{queuing}/handSize"),
            json!(65),
            &["spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)"],
        ),
        (
            format!("{queuing}/handSize"),
            json!(20),
            &[
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 20: required entropy bits of deckSize 64 and handSize 20 should not be greater than 60",
            ],
        ),
        (
            format!("{queuing}/queues"),
            json!(10_000_001),
            &[
                "spec.limited.limitResponse.queuing.queues: Invalid value: 10000001: must not be greater than 10000000",
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 6: required entropy bits of deckSize 10000001 and handSize 6 should not be greater than 60",
            ],
        ),
    ];
    for (pointer, value, wanted) in cases {
        check("PriorityLevelConfiguration", &level(), &pointer, value, wanted);
    }
}

#[test]
fn mandatory_objects_stay_what_they_are() {
    for one in wanted() {
        let kind = one.object["kind"].as_str().unwrap().to_string();
        assert_eq!(
            faults(&kind, one.object.clone()),
            Vec::<String>::new(),
            "{}",
            one.object
        );
        let mut changed = one.object.clone();
        if kind == "FlowSchema" {
            changed["spec"]["matchingPrecedence"] = 7.into();
        } else if changed["spec"]["limited"].is_object() {
            changed["spec"]["limited"]["nominalConcurrencyShares"] = 7.into();
        } else {
            // What it lends is the administrator's.
            changed["spec"]["exempt"]["lendablePercent"] = 50.into();
            assert_eq!(faults(&kind, changed), Vec::<String>::new());
            continue;
        }
        let found = faults(&kind, changed);
        assert_eq!(found.len(), usize::from(one.mandatory), "{found:?}");
        assert!(
            found.iter().all(|f| f.ends_with("must equal the fixed value")),
            "{found:?}"
        );
    }
}
