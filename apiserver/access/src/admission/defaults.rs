//! Small plugins that only fill something in: TaintNodesByCondition,
//! DefaultTolerationSeconds, DefaultIngressClass, PodTopologyLabels.

use super::is;
use crate::contract::{AdmissionRequest, Objects, Operation};
use crate::tree::{list_mut, map_mut, text};
use serde_json::{Value, json};
use std::sync::Arc;

/// How long pods stay on a node that went away, unless they say otherwise.
const TOLERATION_SECONDS: i64 = 300;
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// A new node takes no pods until it was seen to be ready.
pub fn taint_new_node(r: &mut AdmissionRequest) {
    if !is(r, Operation::Create, "", "nodes") {
        return;
    }
    let Some(object) = r.object.as_object_mut() else { return };
    let spec = object.entry("spec").or_insert_with(|| json!({}));
    let Some(taints) = list_mut(spec, "taints") else { return };
    if !taints
        .iter()
        .any(|t| text(t, "/key") == NOT_READY && text(t, "/effect") == "NoSchedule")
    {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

pub fn toleration_seconds(r: &mut AdmissionRequest) {
    if !is(r, Operation::Create, "", "pods") && !is(r, Operation::Update, "", "pods") {
        return;
    }
    let Some(tolerations) = super::spec_mut(r).and_then(|spec| list_mut(spec, "tolerations")) else {
        return;
    };
    let missing = |tolerations: &[Value], taint: &str| {
        !tolerations.iter().any(|t| {
            let (key, effect) = (text(t, "/key"), text(t, "/effect"));
            (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        })
    };
    let wanted: Vec<&str> = [NOT_READY, UNREACHABLE]
        .into_iter()
        .filter(|taint| missing(tolerations, taint))
        .collect();
    for key in wanted {
        tolerations.push(json!({
            "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS,
        }));
    }
    // An empty list was not there before.
    if tolerations.is_empty()
        && let Some(spec) = super::spec_mut(r).and_then(Value::as_object_mut)
    {
        spec.remove("tolerations");
    }
}

pub fn ingress_class(r: &mut AdmissionRequest, objects: &dyn Objects) {
    if !is(r, Operation::Create, "networking.k8s.io", "ingresses")
        || r.object
            .pointer("/spec/ingressClassName")
            .is_some_and(|name| !name.is_null())
        || r.object
            .pointer("/metadata/annotations/kubernetes.io~1ingress.class")
            .is_some()
    {
        return;
    }
    let classes = objects.list("networking.k8s.io", "ingressclasses", "");
    if let Some(name) = newest_default(&classes, &["ingressclass.kubernetes.io/is-default-class"])
        && let Some(spec) = super::spec_mut(r)
    {
        spec["ingressClassName"] = name.into();
    }
}

/// Of the classes marked as default the newest, then the first by name.
pub fn newest_default(classes: &[Arc<Value>], annotations: &[&str]) -> Option<String> {
    let marked = |class: &Value| {
        let given = class.pointer("/metadata/annotations");
        annotations
            .iter()
            .any(|a| given.and_then(|g| g.get(a)).and_then(Value::as_str) == Some("true"))
    };
    classes
        .iter()
        .filter(|class| marked(class))
        .min_by(|a, b| {
            let created = |v: &Value| text(v, "/metadata/creationTimestamp").to_string();
            created(b)
                .cmp(&created(a))
                .then_with(|| text(a, "/metadata/name").cmp(text(b, "/metadata/name")))
        })
        .map(|class| text(class, "/metadata/name").to_string())
}

/// A pod learns the zone and region of its node when it is bound.
pub fn topology_labels(r: &mut AdmissionRequest, objects: &dyn Objects) {
    let binding = r.operation == Operation::Create
        && r.group.is_empty()
        && (r.resource == "bindings" || (r.resource == "pods" && r.subresource == "binding"));
    if !binding || !matches!(text(r.object, "/target/kind"), "" | "Node") {
        return;
    }
    let node = text(r.object, "/target/name");
    let found: Vec<(&str, Value)> = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"]
        .into_iter()
        .filter_map(|key| Some((key, objects.label("", "nodes", "", node, key)?.into())))
        .collect();
    if found.is_empty() {
        return;
    }
    let Some(object) = r.object.as_object_mut() else { return };
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    if let Some(labels) = map_mut(metadata, "labels") {
        for (key, value) in found {
            labels.insert(key.into(), value);
        }
    }
}
