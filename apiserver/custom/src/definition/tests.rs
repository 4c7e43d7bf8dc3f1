//! Definitions that may be written and that may not, and what becomes of their names.

use super::*;
use serde_json::json;

fn cron_tab() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced", "conversion": {"strategy": "None"},
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList", "shortNames": ["ct"]},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"cronSpec": {"type": "string"}, "replicas": {"type": "integer"}}}}}},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "additionalPrinterColumns": [{"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"}],
                "selectableFields": [{"jsonPath": ".spec.cronSpec"}]}],
        },
        "status": {"acceptedNames": {"plural": "", "kind": ""}, "conditions": [], "storedVersions": ["v1"]},
    })
}

/// The faults after setting a value at a pointer.
fn with(at: &str, value: Value) -> Vec<String> {
    let mut definition = cron_tab();
    let (parent, key) = at.rsplit_once('/').expect("a pointer");
    match definition.pointer_mut(parent).expect("the parent") {
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        other => other[key] = value,
    }
    validate(&definition).iter().map(ToString::to_string).collect()
}

#[test]
fn a_sound_definition_passes() {
    assert_eq!(validate(&cron_tab()), []);
    assert_eq!(storage_version(&cron_tab()), "v1");
}

#[test]
fn faults_are_told_in_upstream_s_words() {
    let table: Vec<(&str, Value, &[&str])> = vec![
        (
            "/metadata/name",
            json!("x.stable.example.com"),
            &["metadata.name: Invalid value: \"x.stable.example.com\": must be spec.names.plural+\".\"+spec.group"],
        ),
        (
            "/spec/scope",
            json!("Any"),
            &["spec.scope: Unsupported value: \"Any\": supported values: \"Cluster\", \"Namespaced\""],
        ),
        (
            "/spec/versions/0/schema",
            json!({}),
            &[
                "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
                "spec.selectableFields: Invalid value: \"\": selectableFields may only be set when version.schema.openAPIV3Schema is not included",
            ],
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/type",
            json!(""),
            &[
                "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
            ],
        ),
        (
            "/spec/versions/0/storage",
            json!(false),
            &["spec.versions: Invalid value: [\"v1\"]: must have exactly one version marked as storage version"],
        ),
        (
            "/spec/versions/0/subresources/scale/specReplicasPath",
            json!(".status.x"),
            &[
                "spec.subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec",
            ],
        ),
        (
            "/spec/versions/0/additionalPrinterColumns/0",
            json!({"name": "A", "type": "text", "jsonPath": "x"}),
            &[
                "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
                "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"x\": must be a simple json path starting with .",
            ],
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec.nope"}, {"jsonPath": ".spec"}, {"jsonPath": ".spec.cronSpec"}, {"jsonPath": ".spec.cronSpec"}]),
            &[
                "spec.selectableFields[0].jsonPath: Invalid value: \".spec.nope\": is an invalid path: does not refer to a valid field",
                "spec.selectableFields[1].jsonPath: Invalid value: \".spec\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
                "spec.selectableFields[3].jsonPath: Duplicate value: \".spec.cronSpec\"",
            ],
        ),
        (
            "/spec/names/kind",
            json!("CronTabList"),
            &["spec.names.listKind: Invalid value: \"CronTabList\": kind and listKind may not be the same"],
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook"}),
            &[
                "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                "spec.conversion.conversionReviewVersions: Required value",
            ],
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v9"], "clientConfig": {"url": "http://a.b"}}}),
            &[
                "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "spec.conversion.conversionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
            ],
        ),
        (
            "/spec/preserveUnknownFields",
            json!(true),
            &[
                "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
            ],
        ),
        (
            "/spec/versions/0/deprecationWarning",
            json!("x"),
            &["spec.versions[0].deprecationWarning: Invalid value: \"x\": can only be set for deprecated versions"],
        ),
    ];
    for (at, value, expected) in table {
        assert_eq!(with(at, value.clone()), expected, "{at} = {value}");
    }
}

#[test]
fn versions_that_differ_are_told_apart() {
    let mut definition = cron_tab();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["type"] = "".into();
    definition["spec"]["versions"]
        .as_array_mut()
        .expect("versions")
        .push(second);
    let texts: Vec<String> = validate(&definition).iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "spec.versions[1].schema.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields"
        ]
    );
}

#[test]
fn updates_keep_what_storage_rests_on() {
    let mut old = cron_tab();
    set_condition(
        &mut old,
        &Condition::new("Established", true, "InitialNamesAccepted", ""),
        "t",
    );
    let mut new = old.clone();
    new["spec"]["scope"] = "Cluster".into();
    new["spec"]["versions"][0]["name"] = "v2".into();
    let texts: Vec<String> = validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(texts[0], "spec.scope: Invalid value: \"Cluster\": field is immutable");
    assert_eq!(
        texts[1],
        "status.storedVersions: Invalid value: [\"v1\"]: must have the storage version v2"
    );
    assert!(
        texts[2].starts_with("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was")
    );
    // What was accepted once is not looked at again.
    let mut old = cron_tab();
    old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"properties": {"cronSpec": {"type": "string"}}});
    assert_eq!(validate_update(&old, &old), []);
}

#[test]
fn protected_groups_ask_for_approval() {
    let mut definition = cron_tab();
    definition["spec"]["group"] = "x.k8s.io".into();
    definition["metadata"]["name"] = "crontabs.x.k8s.io".into();
    let texts = |d: &Value| validate(d).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        texts(&definition),
        [
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111"
        ]
    );
    for text in ["unapproved, for tests", "https://github.com/x/y/pull/1"] {
        definition["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": text});
        assert!(texts(&definition).is_empty(), "{text}");
    }
    definition["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "yes"});
    assert!(texts(&definition)[0].contains("with either a URL or a reason"));
    assert_eq!(approval(&cron_tab()), None);
}

#[test]
fn names_go_to_who_came_first() {
    let mut first = cron_tab();
    let (names, condition) = accept(&first, &Names::default());
    assert_eq!(
        (names["plural"].as_str(), condition.reason),
        (Some("crontabs"), "NoConflicts")
    );
    first["status"]["acceptedNames"] = names;
    let mut others = Names::default();
    others.add(&first);
    let mut second = cron_tab();
    second["spec"]["names"] = json!({"plural": "others", "singular": "other", "kind": "CronTab", "listKind": "OtherList", "shortNames": ["ct", "o"]});
    let (names, condition) = accept(&second, &others);
    assert_eq!(
        (condition.status, condition.reason, condition.message.as_str()),
        (false, "KindConflict", "\"CronTab\" is already in use")
    );
    assert_eq!(
        names,
        json!({"plural": "others", "singular": "other", "listKind": "OtherList", "kind": ""})
    );
    second["spec"]["names"]["kind"] = "Other".into();
    let (_, condition) = accept(&second, &others);
    assert_eq!(
        (condition.reason, condition.message.as_str()),
        ("ShortNamesConflict", "\"ct\" is already in use")
    );
}

#[test]
fn conditions_change_their_time_with_their_status() {
    let mut definition = cron_tab();
    let accepted = Condition::new("NamesAccepted", true, "NoConflicts", "no conflicts found");
    assert!(set_condition(&mut definition, &accepted, "1"));
    assert!(!set_condition(&mut definition, &accepted, "2"));
    assert!(is_true(&definition, "NamesAccepted"));
    let refused = Condition::new("NamesAccepted", false, "KindConflict", "x");
    assert!(set_condition(&mut definition, &refused, "3"));
    assert_eq!(
        condition(&definition, "NamesAccepted").expect("it")["lastTransitionTime"],
        "3"
    );
    assert_eq!(non_structural(&definition), None);
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({});
    assert_eq!(
        non_structural(&definition).expect("a violation").message,
        "spec.versions[0].schema.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields"
    );
}
