//! The objects of `metrics.k8s.io/v1beta1` as clients see them. Pure.

use super::scrape::{Usage, Used};
use crate::registry::text_at;
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::quantity::canonical;

pub const GROUP: &str = "metrics.k8s.io";
pub const VERSION: &str = "v1beta1";
const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// `/apis/metrics.k8s.io/v1beta1`.
pub fn resources() -> Value {
    let row = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]});
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION,
        "resources": [row("nodes", "NodeMetrics", false), row("pods", "PodMetrics", true)]})
}

fn amounts(used: &Used) -> Value {
    // Cores in the coarsest unit that says the same; memory in powers of two.
    let cpu = format!("{}n", used.cpu_nano);
    let bytes = match used.memory_bytes {
        whole if whole > 0 && whole % 1_024 == 0 => format!("{}Ki", whole / 1_024),
        bytes => bytes.to_string(),
    };
    json!({"cpu": canonical(&cpu).unwrap_or(cpu), "memory": canonical(&bytes).unwrap_or(bytes)})
}

/// A span as Go writes it, to the millisecond.
fn window(ns: u64) -> String {
    let ms = (ns + 500_000) / 1_000_000;
    let (minutes, ms) = (ms / 60_000, ms % 60_000);
    let seconds = match ms % 1_000 {
        0 => format!("{}", ms / 1_000),
        rest => format!("{}.{rest:03}", ms / 1_000).trim_end_matches('0').to_owned(),
    };
    match minutes {
        0 => format!("{seconds}s"),
        minutes if minutes >= 60 => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
        minutes => format!("{minutes}m{seconds}s"),
    }
}

fn second(ns: u64) -> String {
    let at = i64::try_from(ns / 1_000_000_000).unwrap_or(0);
    Timestamp::from_second(at).unwrap_or_default().to_string()
}

/// What both kinds have: whose it is, when it was measured and over how long.
fn measured(of: &Value, usage: &Usage, now: Timestamp) -> Value {
    let mut metadata = json!({"name": text_at(of, &["metadata", "name"]),
        "creationTimestamp": second(u64::try_from(now.as_nanosecond()).unwrap_or(0))});
    for key in ["namespace", "labels"] {
        if !of["metadata"][key].is_null() {
            metadata[key] = of["metadata"][key].clone();
        }
    }
    json!({"metadata": metadata, "timestamp": second(usage.at_ns), "window": window(usage.window_ns)})
}

pub fn node(node: &Value, usage: &Usage, now: Timestamp) -> Option<Value> {
    let mut shown = measured(node, usage, now);
    shown["usage"] = amounts(usage.node.as_ref()?);
    Some(shown)
}

pub fn pod(pod: &Value, usage: &Usage, now: Timestamp) -> Option<Value> {
    let name = |key: &str| text_at(pod, &["metadata", key]).to_owned();
    let containers = usage.pods.get(&(name("namespace"), name("name")))?;
    let mut shown = measured(pod, usage, now);
    shown["containers"] = containers
        .iter()
        .map(|(name, used)| json!({"name": name, "usage": amounts(used)}))
        .collect();
    Some(shown)
}

pub fn one(kind: &str, mut object: Value) -> Value {
    object["kind"] = kind.into();
    object["apiVersion"] = API_VERSION.into();
    object
}

pub fn list(kind: &str, items: Vec<Value>) -> Value {
    json!({"kind": format!("{kind}List"), "apiVersion": API_VERSION, "metadata": {}, "items": items})
}

/// For people: what the object or the list has, in rows.
pub fn table(items: &[Value]) -> Value {
    let column = |name: &str, format: &str| json!({"name": name, "type": "string", "format": format, "description": "", "priority": 0});
    let total = |item: &Value, resource: &str| -> String {
        if let Some(text) = item["usage"][resource].as_str() {
            return text.to_owned();
        }
        let each = item["containers"].as_array().into_iter().flatten();
        let each = each.filter_map(|c| {
            c["usage"][resource]
                .as_str()?
                .parse::<skiff_api::quantity::Quantity>()
                .ok()
        });
        match resource {
            "cpu" => format!("{}m", each.map(|q| q.milli_value()).sum::<i64>()),
            _ => format!("{}Ki", each.map(|q| q.value()).sum::<i64>() / 1_024),
        }
    };
    let rows: Vec<Value> = items
        .iter()
        .map(|item| {
            let cells = json!([item["metadata"]["name"], total(item, "cpu"), total(item, "memory"), item["window"]]);
            json!({"cells": cells, "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "rows": rows, "columnDefinitions":
        [column("Name", "name"), column("cpu", ""), column("memory", ""), column("Window", "duration")]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn usage() -> Usage {
        let used = |cpu_nano, memory_bytes| Used { cpu_nano, memory_bytes };
        Usage {
            at_ns: 1_767_225_600_400_000_000,
            window_ns: 15_021_400_000,
            node: Some(used(1_500_000_000, 10_240)),
            pods: BTreeMap::from([(
                ("n".into(), "p".into()),
                vec![("c".into(), used(1_234_567, 1_000)), ("d".into(), used(0, 0))],
            )]),
        }
    }

    #[test]
    fn objects_look_as_metrics_servers_show_them() {
        let now = "2026-01-01T00:00:05Z".parse().expect("a time");
        let object = json!({"metadata": {"name": "p", "namespace": "n", "labels": {"app": "web"}, "uid": "u"}});
        let shown = pod(&object, &usage(), now).expect("known");
        assert_eq!(
            one("PodMetrics", shown),
            json!({
                "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {"name": "p", "namespace": "n", "labels": {"app": "web"}, "creationTimestamp": "2026-01-01T00:00:05Z"},
                "timestamp": "2026-01-01T00:00:00Z", "window": "15.021s",
                "containers": [
                    {"name": "c", "usage": {"cpu": "1234567n", "memory": "1k"}},
                    {"name": "d", "usage": {"cpu": "0", "memory": "0"}},
                ],
            })
        );
        let shown = node(&json!({"metadata": {"name": "node1"}}), &usage(), now).expect("known");
        assert_eq!(shown["usage"], json!({"cpu": "1500m", "memory": "10Ki"}));
        assert!(pod(&json!({"metadata": {"name": "q", "namespace": "n"}}), &usage(), now).is_none());
        let cells = &table(&[shown])["rows"][0]["cells"];
        assert_eq!(cells, &json!(["node1", "1500m", "10Ki", "15.021s"]));
    }

    #[test]
    fn spans_are_written_as_go_does() {
        for (ms, expected) in [
            (1_000, "1s"),
            (15_500, "15.5s"),
            (60_000, "1m0s"),
            (90_250, "1m30.25s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(window(ms * 1_000_000), expected);
        }
    }
}
