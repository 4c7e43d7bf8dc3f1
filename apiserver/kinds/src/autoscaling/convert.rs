//! autoscaling/v1 and v2: v1 knows a cpu target only; what it cannot say
//! travels in annotations, so that a round trip loses nothing.

use crate::tree::{Tree, object};
use serde_json::{Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn take(o: &mut Value, parent: &str, key: &str) -> Option<Value> {
    o.get_mut(parent)?.as_object_mut()?.remove(key)
}

fn put(o: &mut Value, parent: &str, key: &str, value: Value) {
    if let Some(parent) = object(o, parent) {
        parent[key] = value;
    }
}

fn annotate(o: &mut Value, key: &str, value: &Value) {
    if let Some(annotations) = object(o, "metadata").and_then(|m| object(m, "annotations")) {
        annotations[key] = value.to_string().into();
    }
}

fn read_annotation(o: &mut Value, key: &str) -> Option<Value> {
    let annotations = o.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.remove(key)?;
    serde_json::from_str(text.as_str()?).ok()
}

/// Takes the plain cpu utilization metric out of the list, if it is there.
fn split_cpu(metrics: Value) -> (Option<Value>, Vec<Value>) {
    let mut cpu = None;
    let mut rest = Vec::new();
    for metric in metrics.as_array().cloned().unwrap_or_default() {
        let plain = metric.text("type") == "Resource" && metric.text("resource.name") == "cpu";
        let side = if metric.has("resource.target") {
            "resource.target"
        } else {
            "resource.current"
        };
        let value = metric.at(side).at("averageUtilization").clone();
        if plain && cpu.is_none() && value.is_i64() {
            cpu = Some(value);
            continue;
        }
        rest.push(metric);
    }
    (cpu, rest)
}

pub(crate) fn v2_to_v1(o: &mut Value) {
    if let Some(metrics) = take(o, "spec", "metrics") {
        let (cpu, rest) = split_cpu(metrics);
        if let Some(cpu) = cpu {
            put(o, "spec", "targetCPUUtilizationPercentage", cpu);
        }
        if !rest.is_empty() {
            annotate(o, METRICS, &rest.into());
        }
    }
    if let Some(behavior) = take(o, "spec", "behavior") {
        annotate(o, BEHAVIOR, &behavior);
    }
    if let Some(metrics) = take(o, "status", "currentMetrics") {
        let (cpu, rest) = split_cpu(metrics);
        if let Some(cpu) = cpu {
            put(o, "status", "currentCPUUtilizationPercentage", cpu);
        }
        if !rest.is_empty() {
            annotate(o, CURRENT, &rest.into());
        }
    }
    if let Some(conditions) = take(o, "status", "conditions") {
        annotate(o, CONDITIONS, &conditions);
    }
}

pub(crate) fn v1_to_v2(o: &mut Value) {
    let mut metrics = read_annotation(o, METRICS)
        .and_then(|m| m.as_array().cloned())
        .unwrap_or_default();
    if let Some(cpu) = take(o, "spec", "targetCPUUtilizationPercentage") {
        let target = json!({"type": "Utilization", "averageUtilization": cpu});
        metrics.insert(
            0,
            json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}),
        );
    }
    if !metrics.is_empty() {
        put(o, "spec", "metrics", metrics.into());
    }
    if let Some(behavior) = read_annotation(o, BEHAVIOR) {
        put(o, "spec", "behavior", behavior);
    }
    let mut current = read_annotation(o, CURRENT)
        .and_then(|m| m.as_array().cloned())
        .unwrap_or_default();
    if let Some(cpu) = take(o, "status", "currentCPUUtilizationPercentage") {
        current.insert(
            0,
            json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": cpu}}}),
        );
    }
    if !current.is_empty() {
        put(o, "status", "currentMetrics", current.into());
    }
    if let Some(conditions) = read_annotation(o, CONDITIONS) {
        put(o, "status", "conditions", conditions);
    }
}
