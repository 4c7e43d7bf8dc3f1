//! What operations and their groups are called, which clients are generated from.

use super::Resource;

/// `core_v1`, `rbacAuthorization_v1`.
pub(super) fn tag(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("core_{}", resource.version)
    } else {
        format!("{}_{}", camel(&resource.group, false), resource.version)
    }
}

/// `NamespacedPod`, `Node`.
pub(super) fn scoped(resource: &Resource, what: &str) -> String {
    let scope = if resource.namespaced { "Namespaced" } else { "" };
    format!("{scope}{what}")
}

/// `createAppsV1NamespacedDeployment`, `patchCoreV1NodeStatus`.
pub(super) fn operation_id(resource: &Resource, verb: &str, middle: &str, what: &str) -> String {
    let (group, version) = group_words(&resource.group, &resource.version);
    format!("{verb}{group}{version}{middle}{what}")
}

pub(super) fn group_words(group: &str, version: &str) -> (String, String) {
    let group = if group.is_empty() {
        "Core".to_string()
    } else {
        camel(group, true)
    };
    (group, camel(version, true))
}

/// `rbac.authorization.k8s.io` to `RbacAuthorization`.
pub(super) fn camel(text: &str, upper: bool) -> String {
    let text = text.trim_end_matches(".k8s.io");
    let mut out = String::with_capacity(text.len());
    let mut raise = upper;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(if raise { c.to_ascii_uppercase() } else { c });
            raise = false;
        } else {
            raise = true;
        }
    }
    out
}
