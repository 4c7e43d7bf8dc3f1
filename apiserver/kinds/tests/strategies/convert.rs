use crate::kind;
use serde_json::{Value, json};
use skiff_kinds::{convert, storage_api_version};

#[test]
fn round_trips() {
    let hpa = json!({
        "apiVersion": "autoscaling/v2", "metadata": {"name": "h"},
        "spec": {
            "maxReplicas": 3, "behavior": {"scaleUp": {"selectPolicy": "Max"}},
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 60}}},
            ],
        },
        "status": {"currentReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]},
    });
    let event = json!({
        "apiVersion": "v1", "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"}, "message": "m",
        "source": {"component": "kubelet"}, "count": 2, "firstTimestamp": "2026-01-01T00:00:00Z", "reportingComponent": "r",
    });
    for (name, object, stored, other) in [
        (
            "horizontalpodautoscalers.autoscaling",
            hpa,
            "autoscaling/v2",
            "autoscaling/v1",
        ),
        ("events.events.k8s.io", event, "v1", "events.k8s.io/v1"),
    ] {
        assert_eq!(storage_api_version(kind(name)), stored);
        let mut there = object.clone();
        convert(kind(name), stored, other, &mut there).expect("known");
        assert_eq!(there["apiVersion"], other);
        assert_ne!(there, object);
        convert(kind(name), other, stored, &mut there).expect("known");
        // Annotations that carried what the other version lacks leave an empty map.
        if there["metadata"]["annotations"] == json!({}) {
            there["metadata"].as_object_mut().expect("object").remove("annotations");
        }
        assert_eq!(there, object, "{name}");
    }
}

#[test]
fn what_the_other_version_calls_it() {
    let mut event = json!({"involvedObject": {"name": "p"}, "message": "m", "source": {}});
    convert(kind("events"), "v1", "events.k8s.io/v1", &mut event).expect("known");
    assert_eq!(
        event,
        json!({"apiVersion": "events.k8s.io/v1", "regarding": {"name": "p"}, "note": "m", "deprecatedSource": {}})
    );
    let mut hpa = json!({"spec": {"targetCPUUtilizationPercentage": 70}});
    let row = kind("horizontalpodautoscalers.autoscaling");
    convert(row, "autoscaling/v1", "autoscaling/v2", &mut hpa).expect("known");
    assert_eq!(
        hpa["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        70
    );
    assert!(convert(kind("pods"), "v1", "v2", &mut Value::Null).is_err());
}
