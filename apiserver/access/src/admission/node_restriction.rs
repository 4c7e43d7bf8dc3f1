//! NodeRestriction: a node writes about itself and its own pods only.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>.

use super::{forbidden, is_mirror_pod};
use crate::authorization::node::node_name;
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::{items, text};
use serde_json::{Map, Value};
use skiff_api::ApiError;
use std::collections::BTreeSet;

pub fn validate(r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    let Some(node) = node_name(r.user) else { return Ok(()) };
    match (r.group, r.resource, r.subresource) {
        ("", "pods", "") => pod(node, r, objects),
        ("", "pods", "status") => pod_status(node, r),
        ("", "pods", "eviction") => eviction(node, r, objects),
        ("", "pods", _) => Err(forbidden(
            r,
            &format!(
                "unexpected pod subresource {:?}, only 'status' and 'eviction' are allowed",
                r.subresource
            ),
        )),
        ("", "nodes", _) => own_node(node, r),
        ("", "serviceaccounts", "token") => token(node, r, objects),
        ("", "persistentvolumeclaims", "status") => claim_status(node, r),
        ("", "persistentvolumeclaims", _) => Err(forbidden(
            r,
            &format!("node {node:?} may only update the status of claims"),
        )),
        ("coordination.k8s.io", "leases", _) => lease(node, r),
        ("storage.k8s.io", "csinodes", _) => named_like_node(node, r, "CSINode"),
        ("resource.k8s.io", "resourceslices", _) => resource_slice(node, r),
        _ => Ok(()),
    }
}

fn pod(node: &str, r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    match r.operation {
        Operation::Create => mirror_pod(node, r, objects),
        Operation::Delete => match r.old_object {
            Some(old) if text(old, "/spec/nodeName") != node => Err(forbidden(
                r,
                &format!("node {node:?} can only delete pods with spec.nodeName set to itself"),
            )),
            _ => Ok(()),
        },
        _ => Err(forbidden(
            r,
            &format!("unexpected operation, node {node:?} can only create and delete mirror pods"),
        )),
    }
}

fn mirror_pod(node: &str, r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    let pod = &*r.object;
    let refuse = |why: String| Err(forbidden(r, &why));
    if !is_mirror_pod(pod) {
        return refuse(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        ));
    }
    if text(pod, "/spec/nodeName") != node {
        return refuse(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    let owners = items(pod, "/metadata/ownerReferences");
    let uid = objects
        .get("", "nodes", "", node)
        .map(|node| text(&node, "/metadata/uid").to_string());
    let owned = owners.len() == 1
        && text(&owners[0], "/kind") == "Node"
        && text(&owners[0], "/apiVersion") == "v1"
        && text(&owners[0], "/name") == node
        && uid.as_deref() == Some(text(&owners[0], "/uid"));
    if !owned {
        return refuse(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return refuse(format!(
            "node {node:?} can not create pods that reference a service account"
        ));
    }
    if let Some(what) = reference(pod) {
        return refuse(format!("node {node:?} can not create pods that reference {what}"));
    }
    Ok(())
}

/// Anything in the API that a pod refers to: creating such a pod would let the node read it.
fn reference(pod: &Value) -> Option<&'static str> {
    let lists = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
    for container in lists.iter().flat_map(|list| items(pod, list)) {
        for env in items(container, "/env") {
            if env.pointer("/valueFrom/secretKeyRef").is_some() {
                return Some("secrets");
            }
            if env.pointer("/valueFrom/configMapKeyRef").is_some() {
                return Some("configmaps");
            }
        }
        for source in items(container, "/envFrom") {
            if source.get("secretRef").is_some() {
                return Some("secrets");
            }
            if source.get("configMapRef").is_some() {
                return Some("configmaps");
            }
        }
    }
    // Volumes that need nothing of the API but the pod itself.
    const HARMLESS: [&str; 5] = ["name", "hostPath", "emptyDir", "downwardAPI", "image"];
    let strange = items(pod, "/spec/volumes")
        .iter()
        .filter_map(Value::as_object)
        .any(|volume| {
            volume
                .iter()
                .any(|(key, value)| !HARMLESS.contains(&key.as_str()) && !value.is_null())
        });
    if strange {
        return Some("secrets, configmaps or persistentvolumeclaims in volumes");
    }
    if !items(pod, "/spec/imagePullSecrets").is_empty() {
        return Some("secrets");
    }
    if !items(pod, "/spec/resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    None
}

fn pod_status(node: &str, r: &AdmissionRequest) -> Admitted {
    let Some(old) = r.old_object else { return Ok(()) };
    if text(old, "/spec/nodeName") != node {
        let why = format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself");
        return Err(forbidden(r, &why));
    }
    if labels(old) != labels(r.object) {
        return Err(forbidden(
            r,
            &format!("node {node:?} cannot update labels through pod status"),
        ));
    }
    Ok(())
}

fn eviction(node: &str, r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    let name = if r.name.is_empty() {
        text(r.object, "/metadata/name")
    } else {
        r.name
    };
    match objects.get("", "pods", r.namespace, name) {
        Some(pod) if text(&pod, "/spec/nodeName") == node => Ok(()),
        Some(_) => Err(forbidden(
            r,
            &format!("node {node} can only evict pods with spec.nodeName set to itself"),
        )),
        None => Err(ApiError::not_found("", "pods", name)),
    }
}

fn own_node(node: &str, r: &AdmissionRequest) -> Admitted {
    let name = if r.name.is_empty() {
        text(r.object, "/metadata/name")
    } else {
        r.name
    };
    if name != node {
        return Err(forbidden(
            r,
            &format!("node {node:?} is not allowed to modify node {name:?}"),
        ));
    }
    let refuse = |why: String| Err(forbidden(r, &why));
    match (r.operation, r.old_object) {
        (Operation::Create, _) => {
            let bad = forbidden_labels(&Map::new(), labels(r.object));
            if !bad.is_empty() {
                return refuse(format!(
                    "node {node:?} is not allowed to set the following labels: {}",
                    bad.join(", ")
                ));
            }
            if r.object
                .pointer("/spec/configSource")
                .is_some_and(|source| !source.is_null())
            {
                return refuse(format!(
                    "node {node:?} is not allowed to create a node with a configSource"
                ));
            }
            if !items(r.object, "/metadata/ownerReferences").is_empty() {
                return refuse(format!("node {node:?} is not allowed to set ownerReferences"));
            }
        }
        (Operation::Update, Some(old)) => {
            let bad = forbidden_labels(labels(old), labels(r.object));
            if !bad.is_empty() {
                return refuse(format!("is not allowed to modify labels: {}", bad.join(", ")));
            }
            if items(old, "/spec/taints") != items(r.object, "/spec/taints") {
                return refuse(format!("node {node:?} is not allowed to modify taints"));
            }
            if items(old, "/metadata/ownerReferences") != items(r.object, "/metadata/ownerReferences") {
                return refuse(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
        }
        _ => {}
    }
    Ok(())
}

fn labels(object: &Value) -> &Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    object
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .unwrap_or(&EMPTY)
}

/// Labels that differ and that a node may not set on itself.
fn forbidden_labels(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key) && is_reserved_label(key))
        .cloned()
        .collect()
}

/// Kubernetes' own label prefixes, but for those that describe the machine.
pub fn is_reserved_label(key: &str) -> bool {
    const OF_NODES: [&str; 12] = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    ];
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let within = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    let of_kubernetes = within("kubernetes.io") || within("k8s.io");
    let of_nodes = OF_NODES.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    of_kubernetes && !of_nodes
}

/// A token only for a pod that runs on the node, and only as long as it does.
fn token(node: &str, r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    let reference = r.object.pointer("/spec/boundObjectRef").unwrap_or(&Value::Null);
    if text(reference, "/apiVersion") != "v1"
        || text(reference, "/kind") != "Pod"
        || text(reference, "/name").is_empty()
    {
        return Err(forbidden(r, "node requested token not bound to a pod"));
    }
    let (name, uid) = (text(reference, "/name"), text(reference, "/uid"));
    if uid.is_empty() {
        return Err(forbidden(r, "node requested token with a pod binding without a uid"));
    }
    let Some(pod) = objects.get("", "pods", r.namespace, name) else {
        return Err(ApiError::not_found("", "pods", name));
    };
    if text(&pod, "/metadata/uid") != uid {
        let why = "the UID in the bound object reference does not match the UID in record. \
                   The object might have been deleted and then recreated";
        return Err(forbidden(r, why));
    }
    if text(&pod, "/spec/nodeName") != node {
        return Err(forbidden(
            r,
            "node requested token bound to a pod scheduled on a different node",
        ));
    }
    if text(&pod, "/spec/serviceAccountName") != r.name {
        return Err(forbidden(
            r,
            "node requested token for a service account that its pod does not use",
        ));
    }
    Ok(())
}

fn claim_status(node: &str, r: &AdmissionRequest) -> Admitted {
    let Some(old) = r.old_object else { return Ok(()) };
    if old.get("spec") == r.object.get("spec") && labels(old) == labels(r.object) {
        return Ok(());
    }
    Err(forbidden(
        r,
        &format!("node {node:?} may only change the status of claims"),
    ))
}

fn lease(node: &str, r: &AdmissionRequest) -> Admitted {
    if r.namespace != "kube-node-lease" {
        return Err(forbidden(
            r,
            "can only access leases in the \"kube-node-lease\" system namespace",
        ));
    }
    named_like_node(node, r, "lease")
}

fn named_like_node(node: &str, r: &AdmissionRequest, what: &str) -> Admitted {
    let of_object = text(r.object, "/metadata/name");
    let name = if of_object.is_empty() { r.name } else { of_object };
    if name == node {
        return Ok(());
    }
    Err(forbidden(
        r,
        &format!("can only access {what} with the same name as the requesting node, {node}"),
    ))
}

fn resource_slice(node: &str, r: &AdmissionRequest) -> Admitted {
    let subject = if r.operation == Operation::Delete {
        r.old_object
    } else {
        Some(&*r.object)
    };
    let own = |slice: &Value| text(slice, "/spec/nodeName") == node;
    if subject.is_some_and(own) && r.old_object.is_none_or(own) {
        return Ok(());
    }
    Err(forbidden(
        r,
        "can only create, update and delete ResourceSlices with spec.nodeName set to the requesting node",
    ))
}
