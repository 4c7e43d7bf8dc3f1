//! Metrics as autoscaling/v1 writes them into annotations: the names that they had
//! before v2, flat where v2 nests.

use crate::tree::Tree;
use serde_json::{Map, Value, json};

/// A metric's source as v1 calls its parts.
struct Names {
    /// The amount of the whole, for each pod, and in percent.
    value: &'static str,
    average: &'static str,
    utilization: &'static str,
}

/// Upstream's names differ by source and by side (`target` or `current`).
fn names(kind: &str, side: &str) -> Names {
    match (kind, side) {
        ("object", "target") => Names {
            value: "targetValue",
            average: "averageValue",
            utilization: "",
        },
        ("object", _) => Names {
            value: "currentValue",
            average: "averageValue",
            utilization: "",
        },
        (_, "target") => Names {
            value: "targetValue",
            average: "targetAverageValue",
            utilization: "targetAverageUtilization",
        },
        _ => Names {
            value: "currentValue",
            average: "currentAverageValue",
            utilization: "currentAverageUtilization",
        },
    }
}

const KINDS: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];

fn member(metric: &Value) -> Option<&'static str> {
    KINDS.iter().find(|(t, _)| *t == metric.text("type")).map(|(_, m)| *m)
}

fn selector(kind: &str) -> &'static str {
    if kind == "external" {
        "metricSelector"
    } else {
        "selector"
    }
}

fn insert(map: &mut Map<String, Value>, key: &str, value: &Value) {
    if !value.is_null() && !key.is_empty() {
        map.insert(key.into(), value.clone());
    }
}

/// One metric, of the spec (`target`) or the status (`current`), from v2 to v1's form.
pub(super) fn metric_to_v1(metric: &Value, side: &str) -> Value {
    let Some(kind) = member(metric) else {
        return metric.clone();
    };
    let (source, names) = (metric.at(kind), names(kind, side));
    let amounts = source.at(side);
    let mut old = Map::new();
    insert(&mut old, "target", source.at("describedObject"));
    insert(&mut old, "metricName", source.at("metric.name"));
    insert(&mut old, selector(kind), source.at("metric.selector"));
    insert(&mut old, "name", source.at("name"));
    insert(&mut old, "container", source.at("container"));
    insert(&mut old, names.value, amounts.at("value"));
    insert(&mut old, names.average, amounts.at("averageValue"));
    insert(&mut old, names.utilization, amounts.at("averageUtilization"));
    json!({"type": metric.at("type"), kind: old})
}

/// And back: a target's type follows from which amount it gives.
pub(super) fn metric_to_v2(metric: &Value, side: &str) -> Value {
    let Some(kind) = member(metric) else {
        return metric.clone();
    };
    let (old, names) = (metric.at(kind), names(kind, side));
    let mut amounts = Map::new();
    insert(&mut amounts, "value", old.at(names.value));
    insert(&mut amounts, "averageValue", old.at(names.average));
    if !names.utilization.is_empty() {
        insert(&mut amounts, "averageUtilization", old.at(names.utilization));
    }
    if side == "target" {
        let by = if amounts.contains_key("averageUtilization") {
            "Utilization"
        } else if amounts.contains_key("averageValue") {
            "AverageValue"
        } else {
            "Value"
        };
        amounts.insert("type".into(), by.into());
    }
    let mut source = Map::new();
    insert(&mut source, "describedObject", old.at("target"));
    insert(&mut source, "name", old.at("name"));
    insert(&mut source, "container", old.at("container"));
    let mut identifier = Map::new();
    insert(&mut identifier, "name", old.at("metricName"));
    insert(&mut identifier, "selector", old.at(selector(kind)));
    if !identifier.is_empty() {
        source.insert("metric".into(), identifier.into());
    }
    source.insert(side.into(), amounts.into());
    json!({"type": metric.at("type"), kind: source})
}

fn renamed(value: &Value, rename: fn(&str) -> String) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(k, v)| (rename(k), renamed(v, rename))).collect(),
        Value::Array(items) => items.iter().map(|v| renamed(v, rename)).collect(),
        other => other.clone(),
    }
}

fn with_first(text: &str, change: fn(char) -> char) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(change);
    first.into_iter().chain(chars).collect()
}

/// The behavior goes into its annotation under the names of Go's fields.
pub(super) fn capitalised(behavior: &Value) -> Value {
    renamed(behavior, |k| with_first(k, |c| c.to_ascii_uppercase()))
}

pub(super) fn uncapitalised(behavior: &Value) -> Value {
    renamed(behavior, |k| with_first(k, |c| c.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_go_there_and_back() {
        for (new, old) in [
            (
                json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}),
                json!({"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}),
            ),
            (
                json!({"type": "Pods", "pods": {"metric": {"name": "rps", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "AverageValue", "averageValue": "10"}}}),
                json!({"type": "Pods", "pods": {"metricName": "rps", "selector": {"matchLabels": {"a": "b"}}, "targetAverageValue": "10"}}),
            ),
            (
                json!({"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "hits"}, "target": {"type": "Value", "value": "5"}}}),
                json!({"type": "Object", "object": {"target": {"kind": "Service", "name": "s"}, "metricName": "hits", "targetValue": "5"}}),
            ),
            (
                json!({"type": "External", "external": {"metric": {"name": "q", "selector": {}}, "target": {"type": "Value", "value": "5"}}}),
                json!({"type": "External", "external": {"metricName": "q", "metricSelector": {}, "targetValue": "5"}}),
            ),
        ] {
            assert_eq!(metric_to_v1(&new, "target"), old);
            assert_eq!(metric_to_v2(&old, "target"), new);
        }
        let behavior = json!({"scaleUp": {"policies": [{"type": "Pods", "periodSeconds": 15}]}});
        let shown = json!({"ScaleUp": {"Policies": [{"Type": "Pods", "PeriodSeconds": 15}]}});
        assert_eq!(capitalised(&behavior), shown);
        assert_eq!(uncapitalised(&shown), behavior);
    }
}
