//! autoscaling/v1 and v2: v1 knows a cpu target only; what it cannot say travels in
//! annotations, in upstream's form, so that a round trip loses nothing and what old
//! manifests say in these annotations is heard.

use super::legacy;
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
    let metadata = o.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.remove(key)?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

/// Takes the plain cpu utilization metric out of the list, if it is there.
fn split_cpu(metrics: &Value, side: &str) -> (Option<Value>, Vec<Value>) {
    let mut cpu = None;
    let mut rest = Vec::new();
    for metric in metrics.as_array().into_iter().flatten() {
        let plain = metric.text("type") == "Resource" && metric.text("resource.name") == "cpu";
        let value = metric.at("resource").at(side).at("averageUtilization");
        if plain && cpu.is_none() && value.is_i64() {
            cpu = Some(value.clone());
            // What is reported is kept whole; what is asked for is the field's.
            if side == "target" {
                continue;
            }
        }
        rest.push(metric.clone());
    }
    (cpu, rest)
}

pub(crate) fn v2_to_v1(o: &mut Value) {
    if let Some(metrics) = take(o, "spec", "metrics") {
        let (cpu, rest) = split_cpu(&metrics, "target");
        if let Some(cpu) = cpu {
            put(o, "spec", "targetCPUUtilizationPercentage", cpu);
        }
        if !rest.is_empty() {
            let old: Vec<Value> = rest.iter().map(|m| legacy::metric_to_v1(m, "target")).collect();
            annotate(o, METRICS, &old.into());
        }
    }
    if let Some(behavior) = take(o, "spec", "behavior") {
        annotate(o, BEHAVIOR, &legacy::capitalised(&behavior));
    }
    if let Some(metrics) = take(o, "status", "currentMetrics") {
        let (cpu, rest) = split_cpu(&metrics, "current");
        if let Some(cpu) = cpu {
            put(o, "status", "currentCPUUtilizationPercentage", cpu);
        }
        if !rest.is_empty() {
            let old: Vec<Value> = rest.iter().map(|m| legacy::metric_to_v1(m, "current")).collect();
            annotate(o, CURRENT, &old.into());
        }
    }
    if let Some(conditions) = take(o, "status", "conditions") {
        annotate(o, CONDITIONS, &conditions);
    }
}

fn read_metrics(o: &mut Value, key: &str, side: &str) -> Vec<Value> {
    let old = read_annotation(o, key);
    let list = old.as_ref().and_then(Value::as_array).into_iter().flatten();
    list.map(|m| legacy::metric_to_v2(m, side)).collect()
}

pub(crate) fn v1_to_v2(o: &mut Value) {
    let mut metrics = read_metrics(o, METRICS, "target");
    if let Some(cpu) = take(o, "spec", "targetCPUUtilizationPercentage").filter(|c| !c.is_null()) {
        let target = json!({"type": "Utilization", "averageUtilization": cpu});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        metrics.insert(0, metric);
    }
    if !metrics.is_empty() {
        put(o, "spec", "metrics", metrics.into());
    }
    if let Some(behavior) = read_annotation(o, BEHAVIOR) {
        put(o, "spec", "behavior", legacy::uncapitalised(&behavior));
    }
    let mut current = read_metrics(o, CURRENT, "current");
    if let Some(cpu) = take(o, "status", "currentCPUUtilizationPercentage").filter(|c| !c.is_null()) {
        let of_cpu = |m: &Value| m.text("type") == "Resource" && m.text("resource.name") == "cpu";
        if !current.iter().any(of_cpu) {
            let metric =
                json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": cpu}}});
            current.insert(0, metric);
        }
    }
    if !current.is_empty() {
        put(o, "status", "currentMetrics", current.into());
    }
    if let Some(conditions) = read_annotation(o, CONDITIONS) {
        put(o, "status", "conditions", conditions);
    }
}
