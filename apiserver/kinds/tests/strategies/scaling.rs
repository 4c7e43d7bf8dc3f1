//! Autoscalers, disruption budgets and priority classes: rules, cells, status rules.

use crate::groups::{Row, check, created, set, table, updated};
use crate::kind;
use serde_json::{Value, json};
use skiff_kinds::convert;

const HPA: &str = "horizontalpodautoscalers.autoscaling";

fn autoscaler(spec: Value) -> Value {
    let mut o = json!({"metadata": {"name": "h"}, "spec": {
        "maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
    }});
    for (key, value) in spec.as_object().into_iter().flatten() {
        o["spec"][key] = value.clone();
    }
    o
}

fn metric(kind: &str, key: &str, source: Value) -> Value {
    json!([{"type": kind, key: source}])
}

#[test]
fn bounds_and_behavior_of_autoscalers() {
    let rows: &[Row] = &[
        (
            "/spec/minReplicas",
            json!(0),
            &["spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"],
        ),
        (
            "/spec/minReplicas",
            json!(4),
            &["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"],
        ),
        (
            "/spec/scaleTargetRef/kind",
            json!(""),
            &["spec.scaleTargetRef.kind: Required value"],
        ),
        (
            "/spec/scaleTargetRef/name",
            json!("a/b"),
            &["spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'"],
        ),
        (
            "/spec/behavior",
            json!({"scaleUp": {"stabilizationWindowSeconds": 3601}}),
            &[
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
            ],
        ),
        (
            "/spec/behavior",
            json!({"scaleDown": {"policies": [{"type": "Some", "value": 0, "periodSeconds": 1801}]}}),
            &[
                "spec.behavior.scaleDown.policies[0].type: Unsupported value: \"Some\"",
                "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ],
        ),
        (
            "/spec/behavior",
            json!({"scaleUp": {"selectPolicy": "Any"}}),
            &[
                "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Any\": supported values: \"Disabled\", \"Max\", \"Min\"",
            ],
        ),
    ];
    table(HPA, &autoscaler(json!({})), rows);
}

#[test]
fn metrics_of_autoscalers() {
    let at = "spec.metrics[0]";
    let rows: &[(Value, &[&str])] = &[
        (
            metric(
                "Resource",
                "resource",
                json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 0}}),
            ),
            &[".resource.target.averageUtilization: Invalid value: 0: must be greater than 0"],
        ),
        (
            metric(
                "Resource",
                "resource",
                json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1, "averageValue": "1"}}),
            ),
            &[".resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization"],
        ),
        (
            metric(
                "Pods",
                "resource",
                json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}}),
            ),
            &[".pods: Required value: must populate information for the given metric source"],
        ),
        (
            metric(
                "Pods",
                "pods",
                json!({"metric": {"name": ""}, "target": {"type": "AverageValue"}}),
            ),
            &[
                ".pods.metric.name: Required value: must specify a metric name",
                ".pods.target.averageValue: Required value: must specify a positive target averageValue",
            ],
        ),
        (
            metric(
                "External",
                "external",
                json!({"metric": {"name": "m"}, "target": {"type": "Value", "value": "1", "averageValue": "1"}}),
            ),
            &[".external.target.value: Forbidden: may not set both a target value for metric and a per-pod target"],
        ),
        (
            metric(
                "Object",
                "object",
                json!({"metric": {"name": "m"}, "target": {"type": "Value", "value": "-1"}, "describedObject": {"kind": "Pod"}}),
            ),
            &[
                ".object.describedObject.name: Required value",
                ".object.target.value: Invalid value: \"-1\": must be positive",
            ],
        ),
        (
            metric(
                "ContainerResource",
                "containerResource",
                json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}}),
            ),
            &[".containerResource.container: Required value: must specify a container"],
        ),
    ];
    for (metrics, want) in rows {
        let object = autoscaler(json!({"metrics": metrics}));
        let want: Vec<String> = want.iter().map(|w| format!("{at}{w}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(&created(HPA, object.clone()), &want, &object);
    }
}

#[test]
fn targets_are_shown_with_what_is_now() {
    let external = |target: Value| json!({"type": "External", "external": {"metric": {"name": "m"}, "target": target}});
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
    let rows: &[(Value, Value, &str)] = &[
        (json!([]), json!([]), "<none>"),
        (json!([cpu]), json!([]), "cpu: <unknown>/80%"),
        (
            json!([cpu]),
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 5, "averageValue": "5m"}}}]),
            "cpu: 5%/80%",
        ),
        (
            json!([external(json!({"averageValue": "10"}))]),
            json!([]),
            "<unknown>/10 (avg)",
        ),
        (
            json!([external(json!({"value": "10"}))]),
            json!([{"type": "External", "external": {"current": {"value": "3"}}}]),
            "3/10",
        ),
        (
            json!([cpu, cpu, cpu]),
            json!([]),
            "cpu: <unknown>/80%, cpu: <unknown>/80% + 1 more...",
        ),
    ];
    for (metrics, now, want) in rows {
        let mut object = autoscaler(json!({"metrics": metrics}));
        object["status"] = json!({"currentMetrics": now});
        let row = kind(HPA)
            .strategy
            .row(&object, "2026-01-01T00:00:00Z".parse().expect("a time"));
        assert_eq!(row[2], *want);
    }
}

/// In v1 what it lacks is carried by annotations, in the form that upstream gives them.
#[test]
fn the_first_version_keeps_the_rest_in_annotations() {
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    let mut o = autoscaler(json!({"metrics": [memory]}));
    o["status"] = json!({"conditions": [{"type": "AbleToScale", "status": "True"}]});
    o["apiVersion"] = json!("autoscaling/v2");
    convert(kind(HPA), "autoscaling/v2", "autoscaling/v1", &mut o).expect("known");
    let note = |key: &str| -> Value {
        let text = o["metadata"]["annotations"][format!("autoscaling.alpha.kubernetes.io/{key}")].as_str();
        serde_json::from_str(text.expect("an annotation")).expect("JSON")
    };
    assert_eq!(
        note("metrics"),
        json!([{"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}])
    );
    assert_eq!(note("conditions")[0]["type"], "AbleToScale");
}

#[test]
fn disruption_budgets() {
    let base = json!({"metadata": {"name": "p", "generation": 1}, "spec": {"minAvailable": 1, "selector": {}}});
    let rows: &[Row] = &[
        (
            "/spec/maxUnavailable",
            json!(1),
            &["minAvailable and maxUnavailable cannot be both set"],
        ),
        (
            "/spec/minAvailable",
            json!("101%"),
            &["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"],
        ),
        (
            "/spec/minAvailable",
            json!(-1),
            &["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"],
        ),
        ("/spec/unhealthyPodEvictionPolicy", json!("AlwaysAllow"), &[]),
        (
            "/spec/unhealthyPodEvictionPolicy",
            json!("Sometimes"),
            &[
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Sometimes\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ],
        ),
    ];
    table("poddisruptionbudgets.policy", &base, rows);
    let new = set(
        &base,
        "/status",
        json!({"disruptionsAllowed": -1, "conditions": [{"type": "DisruptionAllowed", "status": "Yes"}]}),
    );
    let (errors, made) = updated("poddisruptionbudgets.policy", "status", &base, &new);
    let want = [
        "status.conditions[0].status: Unsupported value: \"Yes\"",
        "status.conditions[0].lastTransitionTime: Required value",
        "status.conditions[0].reason: Required value",
        "status.disruptionsAllowed: Invalid value: -1",
    ];
    check(&errors, &want, &new);
    assert_eq!(made["metadata"]["generation"], 1);
}

#[test]
fn priority_classes() {
    let base = json!({"metadata": {"name": "mine"}, "value": 10});
    let rows: &[Row] = &[
        (
            "/value",
            json!(1_000_000_001),
            &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        ),
        (
            "/metadata/name",
            json!("system-mine"),
            &[
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class",
            ],
        ),
        (
            "/metadata/name",
            json!("system-node-critical"),
            &["error: value of system-node-critical PriorityClass must be 2000001000"],
        ),
        (
            "/preemptionPolicy",
            json!("Maybe"),
            &["preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"PreemptLowerPriority\", \"Never\""],
        ),
    ];
    table("priorityclasses.scheduling.k8s.io", &base, rows);
    let old = json!({"metadata": {"name": "mine", "generation": 1}, "value": 10});
    for (pointer, value, want) in [
        (
            "/value",
            json!(11),
            "value: Forbidden: may not be changed in an update.",
        ),
        (
            "/preemptionPolicy",
            json!("Never"),
            "preemptionPolicy: Invalid value: \"Never\": field is immutable",
        ),
    ] {
        let (errors, made) = updated(
            "priorityclasses.scheduling.k8s.io",
            "",
            &old,
            &set(&old, pointer, value),
        );
        check(&errors, &[want], &old);
        assert_eq!(made["metadata"]["generation"], 1);
    }
}
