//! Built-in admission, in upstream's order; each plugin is a module of pure
//! functions over the request and the objects at one revision. The first
//! refusal ends the chain. Webhooks and policies are the API server's, between
//! `mutate` and `validate`. So is quota: it writes the usage it counts in the
//! transaction that uses it.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>.

mod certificates;
mod defaults;
mod escalation;
mod limit_ranger;
mod namespace;
mod node_restriction;
mod pod_resize;
mod pod_security;
mod priority;
mod runtime_class;
mod service_account;
mod service_account_secrets;
mod storage;

use crate::authorization::Authorizers;
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::text;
use serde_json::Value;
use skiff_api::ApiError;
use skiff_api::quantity::Quantity;

/// `suffix`: five random characters for a generated volume name.
pub fn mutate(r: &mut AdmissionRequest, objects: &dyn Objects, suffix: &str) -> Admitted {
    namespace::lifecycle(r, objects)?;
    namespace::label(r);
    limit_ranger::mutate(r, objects)?;
    service_account::mutate(r, objects, suffix)?;
    defaults::taint_new_node(r);
    priority::mutate(r, objects)?;
    defaults::toleration_seconds(r);
    storage::default_class(r, objects);
    storage::protection_finalizers(r);
    runtime_class::mutate(r, objects)?;
    certificates::requester(r);
    defaults::ingress_class(r, objects);
    defaults::topology_labels(r, objects);
    Ok(())
}

pub fn validate(r: &mut AdmissionRequest, objects: &dyn Objects, authorizers: &Authorizers) -> Admitted {
    namespace::lifecycle(r, objects)?;
    limit_ranger::validate(r, objects)?;
    service_account::validate(r, objects)?;
    node_restriction::validate(r, objects)?;
    pod_security::validate(r, objects)?;
    priority::validate(r, objects)?;
    storage::resize(r, objects)?;
    runtime_class::validate(r, objects)?;
    certificates::validate(r, objects, authorizers)?;
    escalation::validate(r, objects, authorizers)?;
    pod_resize::validate(r, objects)
}

/// Whether the request is about a resource itself (no subresource).
fn is(r: &AdmissionRequest, operation: Operation, group: &str, resource: &str) -> bool {
    r.operation == operation && r.group == group && r.resource == resource && r.subresource.is_empty()
}

/// 403 in upstream's words: `pods "web" is forbidden: ...`.
fn forbidden(r: &AdmissionRequest, why: &str) -> ApiError {
    ApiError::forbidden(r.group, r.resource, shown_name(r), why)
}

/// The name, or what it will be generated from.
fn shown_name<'a>(r: &'a AdmissionRequest) -> &'a str {
    let of_object = |pointer: &str| text(r.object, pointer);
    [r.name, of_object("/metadata/name"), of_object("/metadata/generateName")]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or("")
}

/// `spec` of the new object; `None` if there is no map.
fn spec_mut<'a>(r: &'a mut AdmissionRequest) -> Option<&'a mut Value> {
    r.object.get_mut("spec").filter(|spec| spec.is_object())
}

/// Quantities are written as text, but numbers are taken too.
fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// A pod that stands for a static pod of a node.
fn is_mirror_pod(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror")
        .is_some()
}

#[cfg(test)]
mod tests;
