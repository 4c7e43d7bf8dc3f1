//! NamespaceLifecycle: nothing is created where there is no namespace or where
//! it is going away, and some namespaces never go away. And the name label.

use super::{forbidden, is};
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::{map_mut, text};
use serde_json::json;
use skiff_api::ApiError;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub fn lifecycle(r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    let about_namespace = r.group.is_empty() && r.resource == "namespaces";
    if about_namespace {
        if is(r, Operation::Delete, "", "namespaces") && IMMORTAL.contains(&r.name) {
            return Err(forbidden(r, "this namespace may not be deleted"));
        }
        return Ok(());
    }
    // What an answer would tell of the namespace is nobody's business who may only ask.
    let review = r.group == "authorization.k8s.io" && r.resource == "localsubjectaccessreviews";
    if r.namespace.is_empty() || review || matches!(r.operation, Operation::Delete | Operation::Connect) {
        return Ok(());
    }
    let Some(namespace) = objects.get("", "namespaces", "", r.namespace) else {
        return Err(ApiError::not_found("", "namespaces", r.namespace));
    };
    if r.operation != Operation::Create || text(&namespace, "/status/phase") != "Terminating" {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {} because it is being terminated",
        r.namespace
    );
    let mut error = forbidden(r, &why);
    if let Some(details) = &mut error.details {
        details["causes"] = json!([{
            "reason": "NamespaceTerminating", "field": "metadata.namespace",
            "message": format!("namespace {} is being terminated", r.namespace),
        }]);
    }
    Err(error)
}

/// Namespaces can be selected by name: they carry it as a label.
pub fn label(r: &mut AdmissionRequest) {
    let about_namespace = r.group.is_empty() && r.resource == "namespaces";
    if !about_namespace || !matches!(r.operation, Operation::Create | Operation::Update) {
        return;
    }
    let name = text(r.object, "/metadata/name").to_string();
    if name.is_empty() {
        return;
    }
    if let Some(labels) = r
        .object
        .get_mut("metadata")
        .and_then(|metadata| map_mut(metadata, "labels"))
    {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
}
