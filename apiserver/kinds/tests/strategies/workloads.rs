//! Deployments and their kin, jobs and cron jobs: rules, status rules and warnings.

use crate::groups::{Row, check, created, set, table, updated};
use crate::{kind, template};
use serde_json::{Value, json};

fn named(name: &str, rest: Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template()});
    for (key, value) in rest.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": name, "namespace": "default", "uid": "u-1", "generation": 1}, "spec": spec})
}

fn job(rest: Value) -> Value {
    let mut job = named("x", rest);
    job["spec"].as_object_mut().expect("a spec").remove("selector");
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    job
}

#[test]
fn deployments() {
    let rows: &[Row] = &[
        (
            "/spec/strategy",
            json!({"type": "Bogus"}),
            &["spec.strategy: Unsupported value"],
        ),
        (
            "/spec/strategy",
            json!({"type": "Recreate", "rollingUpdate": {}}),
            &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
            &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"],
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
            &["must not be greater than 100%"],
        ),
        (
            "/spec/minReadySeconds",
            json!(600),
            &["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"],
        ),
        (
            "/spec/selector",
            json!({"matchLabels": {"a": "c"}}),
            &[
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            "/spec/selector",
            json!({}),
            &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
        ),
        (
            "/spec/template/spec/activeDeadlineSeconds",
            json!(1),
            &[
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ],
        ),
    ];
    table("deployments.apps", &named("d", json!({})), rows);
}

#[test]
fn stateful_and_daemon_sets() {
    let rows: &[Row] = &[
        (
            "/metadata/name",
            json!("a.b"),
            &["metadata.name: Invalid value: \"a.b\""],
        ),
        (
            "/spec/podManagementPolicy",
            json!("Bogus"),
            &["spec.podManagementPolicy: Invalid value: \"Bogus\": must be 'OrderedReady' or 'Parallel'"],
        ),
        (
            "/spec/updateStrategy",
            json!({"type": "OnDelete", "rollingUpdate": {}}),
            &["spec.updateStrategy.rollingUpdate: Invalid value: {}: only allowed for updateStrategy 'RollingUpdate'"],
        ),
        (
            "/spec/updateStrategy",
            json!({"rollingUpdate": {"partition": -1, "maxUnavailable": 0}}),
            &[
                "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1",
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
            ],
        ),
        (
            "/spec/ordinals",
            json!({"start": -1}),
            &["spec.ordinals.start: Invalid value: -1"],
        ),
        (
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"whenScaled": "Keep"}),
            &["spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Keep\""],
        ),
        (
            "/spec/volumeClaimTemplates",
            json!([{"metadata": {"name": "v"}, "spec": {"accessModes": []}}]),
            &[
                "spec.volumeClaimTemplates[0].spec.accessModes: Required value",
                "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
            ],
        ),
    ];
    table("statefulsets.apps", &named("s", json!({"serviceName": "s"})), rows);
    let rows: &[Row] = &[
        (
            "/spec/updateStrategy",
            json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}),
            &["may not be set when"],
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("OnFailure"),
            &["spec.template.spec.restartPolicy: Unsupported value"],
        ),
        (
            "/spec/revisionHistoryLimit",
            json!(-1),
            &["spec.revisionHistoryLimit: Invalid value: -1"],
        ),
    ];
    table("daemonsets.apps", &named("d", json!({})), rows);
}

/// Counts that cannot be are refused, and the status is told apart from the spec.
#[test]
fn status_counts() {
    let rows: &[(&str, Value, Value, &[&str])] = &[
        (
            "deployments.apps",
            json!({}),
            json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3}),
            &[
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
            ],
        ),
        (
            "deployments.apps",
            json!({"collisionCount": 2}),
            json!({"collisionCount": 1}),
            &["status.collisionCount: Invalid value: 1: cannot be decremented"],
        ),
        (
            "replicasets.apps",
            json!({}),
            json!({"replicas": 1, "fullyLabeledReplicas": 2, "observedGeneration": -1}),
            &[
                "status.observedGeneration: Invalid value: -1: must be greater than or equal to 0",
                "status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas",
            ],
        ),
        (
            "statefulsets.apps",
            json!({}),
            json!({"replicas": 1, "readyReplicas": 0, "availableReplicas": 1}),
            &["status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas"],
        ),
        (
            "daemonsets.apps",
            json!({}),
            json!({"numberReady": -1}),
            &["status.numberReady: Invalid value: -1"],
        ),
        (
            "replicationcontrollers",
            json!({}),
            json!({"replicas": 1, "readyReplicas": 2}),
            &["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
        ),
    ];
    for (name, before, after, want) in rows {
        let mut old = named("x", json!({}));
        if *name == "replicationcontrollers" {
            old["spec"]["selector"] = json!({"a": "b"});
        }
        old["status"] = before.clone();
        let mut new = old.clone();
        new["status"] = after.clone();
        new["spec"]["template"] = json!(null);
        let (errors, made) = updated(name, "status", &old, &new);
        check(&errors, want, after);
        assert!(
            made["spec"]["template"].is_object(),
            "{name}: a status write changed the spec"
        );
    }
}

#[test]
fn what_may_change_and_what_bumps() {
    let rows: &[(&str, &str, Value, i64, &[&str])] = &[
        ("deployments.apps", "/metadata/annotations", json!({"a": "b"}), 2, &[]),
        ("deployments.apps", "/metadata/labels", json!({"a": "b"}), 1, &[]),
        ("deployments.apps", "/spec/replicas", json!(4), 2, &[]),
        ("replicasets.apps", "/metadata/annotations", json!({"a": "b"}), 1, &[]),
        ("replicasets.apps", "/spec/replicas", json!(4), 2, &[]),
        ("daemonsets.apps", "/metadata/annotations", json!({"a": "b"}), 1, &[]),
        (
            "deployments.apps",
            "/spec/selector",
            json!({"matchLabels": {"a": "b", "c": "d"}}),
            2,
            &["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"c\":\"d\"}}: field is immutable"],
        ),
        (
            "statefulsets.apps",
            "/spec/serviceName",
            json!("other"),
            2,
            &["spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals'"],
        ),
        ("statefulsets.apps", "/spec/ordinals", json!({"start": 3}), 2, &[]),
    ];
    for (name, pointer, value, generation, want) in rows {
        let old = named("x", json!({}));
        let new = set(&old, pointer, value.clone());
        let (errors, made) = updated(name, "", &old, &new);
        check(&errors, want, &new);
        assert_eq!(made["metadata"]["generation"], *generation, "{name} {pointer}");
    }
}

#[test]
fn controller_revisions() {
    let old = json!({"metadata": {"name": "x"}, "data": {"a": 1}, "revision": 1});
    assert!(created("controllerrevisions.apps", old.clone()).is_empty());
    let (errors, _) = updated(
        "controllerrevisions.apps",
        "",
        &old,
        &set(&old, "/data", json!({"a": 2})),
    );
    check(&errors, &["data: Invalid value: {\"a\":2}: field is immutable"], &old);
    let (errors, _) = updated("controllerrevisions.apps", "", &old, &set(&old, "/revision", json!(7)));
    check(&errors, &[], &old);
    let none = json!({"metadata": {"name": "x"}, "revision": -1});
    check(
        &created("controllerrevisions.apps", none.clone()),
        &["data: Required value: data is mandatory", "revision: Invalid value: -1"],
        &none,
    );
}

#[test]
fn jobs() {
    let rows: &[Row] = &[
        (
            "/spec/template/spec/restartPolicy",
            json!("Always"),
            &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
        ),
        (
            "/spec/backoffLimitPerIndex",
            json!(1),
            &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
        ),
        (
            "/spec/maxFailedIndexes",
            json!(1),
            &[
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
            ],
        ),
        (
            "/spec/managedBy",
            json!("nobody"),
            &["spec.managedBy: Invalid value: \"nobody\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
        ),
        ("/spec/managedBy", json!("a.b/c"), &[]),
        (
            "/spec/podReplacementPolicy",
            json!("Never"),
            &["spec.podReplacementPolicy: Unsupported value: \"Never\""],
        ),
        (
            "/spec/podFailurePolicy",
            json!({"rules": [{"action": "Ignore"}]}),
            &["spec.podFailurePolicy.rules[0]: Invalid value"],
        ),
        (
            "/spec/podFailurePolicy",
            json!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "containerName": "z", "values": [0, 1, 1]}}]}),
            &[
                "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"z\": must be one of the container or initContainer names in the pod template",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 1",
            ],
        ),
        (
            "/spec/successPolicy",
            json!({"rules": [{"succeededCount": 1}]}),
            &["spec.successPolicy: Invalid value"],
        ),
        ("/spec/completionMode", json!("Indexed"), &[]),
    ];
    table("jobs.batch", &job(json!({})), rows);
    let indexed = job(json!({"completionMode": "Indexed", "completions": 4}));
    let rows: &[Row] = &[
        (
            "/spec/successPolicy",
            json!({"rules": []}),
            &[
                "spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified",
            ],
        ),
        (
            "/spec/successPolicy",
            json!({"rules": [{"succeededIndexes": "0-9"}]}),
            &["spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-9\""],
        ),
        (
            "/spec/successPolicy",
            json!({"rules": [{"succeededIndexes": "0,1", "succeededCount": 3}]}),
            &["spec.successPolicy.rules[0].succeededCount: Invalid value: 3"],
        ),
        (
            "/spec/successPolicy",
            json!({"rules": [{"succeededIndexes": "0,2-3", "succeededCount": 3}]}),
            &[],
        ),
        (
            "/spec/maxFailedIndexes",
            json!(9),
            &[
                "spec.backoffLimitPerIndex: Required value",
                "spec.maxFailedIndexes: Invalid value: 9: must be less than or equal to completions",
            ],
        ),
    ];
    table("jobs.batch", &indexed, rows);
}

/// The server makes selector and labels; a hand that changes them is refused.
#[test]
fn jobs_are_tied_to_their_pods() {
    let mut made = job(json!({}));
    let strategy = kind("jobs.batch").strategy;
    strategy.default(&mut made);
    strategy.prepare_create(&mut made);
    let labels = &made["spec"]["template"]["metadata"]["labels"];
    for (key, value) in [
        ("controller-uid", "u-1"),
        ("batch.kubernetes.io/controller-uid", "u-1"),
        ("job-name", "x"),
        ("batch.kubernetes.io/job-name", "x"),
    ] {
        assert_eq!(labels[key], value);
    }
    let select = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}});
    assert_eq!(made["spec"]["selector"], select);
    let own = set(&job(json!({})), "/spec/selector", json!({"matchLabels": {"a": "b"}}));
    check(
        &created("jobs.batch", own.clone()),
        &["`selector` not auto-generated"],
        &own,
    );
    let own = set(&own, "/spec/manualSelector", json!(true));
    check(&created("jobs.batch", own.clone()), &[], &own);
}

#[test]
fn updates_of_jobs() {
    let mut old = job(json!({"suspend": true}));
    kind("jobs.batch").strategy.default(&mut old);
    kind("jobs.batch").strategy.prepare_create(&mut old);
    let mut steered = old.clone();
    steered["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
    check(&updated("jobs.batch", "", &old, &steered).0, &[], &steered);
    let mut started = old.clone();
    started["status"]["startTime"] = json!("2026-01-01T00:00:00Z");
    let mut late = steered.clone();
    late["status"] = started["status"].clone();
    let errors = updated("jobs.batch", "", &started, &late).0;
    check(&errors, &["spec.template: Invalid value"], &late);
    assert!(errors[0].ends_with("field is immutable"));
    // What pods ask for, likewise; and once more when the last pod of a suspended job is gone.
    let mut sized = steered.clone();
    sized["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}});
    check(&updated("jobs.batch", "", &old, &sized).0, &[], &sized);
    let mut other_image = sized.clone();
    other_image["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
    check(
        &updated("jobs.batch", "", &old, &other_image).0,
        &["spec.template: Invalid value"],
        &other_image,
    );
    let suspended = json!([{"type": "Suspended", "status": "True"}]);
    for (active, suspend, faults) in [(0, true, 0), (1, true, 1), (0, false, 1)] {
        let mut before = started.clone();
        before["spec"]["suspend"] = json!(suspend);
        before["status"]["conditions"] = suspended.clone();
        before["status"]["active"] = json!(active);
        let mut after = sized.clone();
        after["spec"]["suspend"] = json!(suspend);
        after["status"] = before["status"].clone();
        assert_eq!(
            updated("jobs.batch", "", &before, &after).0.len(),
            faults,
            "{active} {suspend}"
        );
    }
    let more = set(&old, "/spec/completions", json!(3));
    check(
        &updated("jobs.batch", "", &old, &more).0,
        &["spec.completions: Invalid value: 3: field is immutable"],
        &more,
    );
    let by = set(&old, "/spec/managedBy", json!("a.b/c"));
    check(
        &updated("jobs.batch", "", &old, &by).0,
        &["spec.managedBy: Invalid value: \"a.b/c\": field is immutable"],
        &by,
    );
}

#[test]
fn status_of_jobs() {
    let on = |kinds: &[&str]| -> Value { kinds.iter().map(|k| json!({"type": k, "status": "True"})).collect() };
    let (start, end) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
    let done =
        json!({"startTime": start, "completionTime": end, "conditions": on(&["SuccessCriteriaMet", "Complete"])});
    let rows: &[(Value, Value, &[&str])] = &[
        (json!({"startTime": start}), done.clone(), &[]),
        (
            json!({"startTime": start}),
            json!({"startTime": start, "completionTime": end, "conditions": on(&["Complete"])}),
            &["cannot set Complete=True condition without the SuccessCriteriaMet=true condition"],
        ),
        (
            json!({"startTime": start}),
            json!({"startTime": start, "conditions": on(&["Failed"])}),
            &["cannot set Failed=True condition without the FailureTarget=true condition"],
        ),
        (
            json!({"startTime": start}),
            json!({"startTime": start, "active": 1, "conditions": on(&["FailureTarget", "Failed"])}),
            &["status.active: Invalid value: 1: active>0 is invalid for finished job"],
        ),
        (
            json!({}),
            json!({"active": 1, "ready": 2}),
            &["status.ready: Invalid value: 2: cannot set more ready pods than active"],
        ),
        (
            json!({"failed": 2}),
            json!({"failed": 1}),
            &["status.failed: Invalid value: 1: cannot decrease the failed counter"],
        ),
        (
            json!({"startTime": start}),
            json!({"startTime": start, "completionTime": end}),
            &["cannot set completionTime when there is no Complete=True condition"],
        ),
        (
            done.clone(),
            json!({"startTime": start, "completionTime": end}),
            &[
                "cannot disable the terminal Complete=True condition",
                "cannot disable the SuccessCriteriaMet=True condition",
                "status.completionTime: Invalid value",
            ],
        ),
        (
            json!({}),
            json!({"uncountedTerminatedPods": {"succeeded": ["a", "b"], "failed": ["b", ""]}}),
            &[
                "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"b\"",
                "status.uncountedTerminatedPods.failed[1]: Invalid value: \"\": must not be empty",
            ],
        ),
        (
            json!({}),
            json!({"completedIndexes": "0"}),
            &["status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed"],
        ),
    ];
    for (before, after, want) in rows {
        let mut old = job(json!({}));
        old["status"] = before.clone();
        let mut new = old.clone();
        new["status"] = after.clone();
        check(&updated("jobs.batch", "status", &old, &new).0, want, after);
    }
}

#[test]
fn cron_jobs() {
    let base = json!({"metadata": {"name": "c"}, "spec": {
        "schedule": "*/5 * * * *",
        "jobTemplate": {"spec": job(json!({}))["spec"]},
    }});
    let rows: &[Row] = &[
        ("/spec/schedule", json!(""), &["spec.schedule: Required value"]),
        ("/spec/schedule", json!("@every 1h30m"), &[]),
        ("/spec/schedule", json!("@daily"), &[]),
        (
            "/spec/schedule",
            json!("61 * * * *"),
            &["spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61"],
        ),
        (
            "/spec/schedule",
            json!("TZ=UTC 0 * * * *"),
            &["cannot use TZ or CRON_TZ in schedule, use timeZone field instead"],
        ),
        ("/spec/timeZone", json!("Europe/Vienna"), &[]),
        (
            "/spec/timeZone",
            json!("Nowhere"),
            &["spec.timeZone: Invalid value: \"Nowhere\": unknown time zone Nowhere"],
        ),
        (
            "/spec/timeZone",
            json!(""),
            &["timeZone must be nil or non-empty string"],
        ),
        (
            "/spec/concurrencyPolicy",
            json!("Maybe"),
            &["spec.concurrencyPolicy: Unsupported value: \"Maybe\""],
        ),
        (
            "/metadata/name",
            json!("a".repeat(53)),
            &["must be no more than 52 characters"],
        ),
        (
            "/spec/jobTemplate/spec/manualSelector",
            json!(true),
            &["spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\""],
        ),
        (
            "/spec/successfulJobsHistoryLimit",
            json!(-1),
            &["spec.successfulJobsHistoryLimit: Invalid value: -1"],
        ),
    ];
    table("cronjobs.batch", &base, rows);
    let long = set(&base, "/metadata/name", json!("a".repeat(53)));
    check(&updated("cronjobs.batch", "", &long, &long).0, &[], &long);
}
