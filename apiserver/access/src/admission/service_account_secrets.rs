//! Secrets of a pod whose service account lists those that its pods may use
//! (`kubernetes.io/enforce-mountable-secrets`). Part of the ServiceAccount plugin.

use super::forbidden;
use crate::contract::{AdmissionRequest, Admitted};
use crate::tree::{items, text};
use serde_json::Value;
use std::collections::BTreeSet;

/// Whether the account asks for it.
pub fn is_enforced(account: &Value) -> bool {
    let value = text(
        account,
        "/metadata/annotations/kubernetes.io~1enforce-mountable-secrets",
    );
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

pub fn validate(r: &AdmissionRequest, account: &Value) -> Admitted {
    let listed = |key: &str| -> BTreeSet<&str> { items(account, key).iter().map(|item| text(item, "/name")).collect() };
    let (secrets, pull_secrets) = (listed("/secrets"), listed("/imagePullSecrets"));
    let name = text(account, "/metadata/name");
    for volume in items(r.object, "/spec/volumes") {
        let secret = text(volume, "/secret/secretName");
        if !secret.is_empty() && !secrets.contains(secret) {
            let why = format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {name} does not reference that secret"
            );
            return Err(forbidden(r, &why));
        }
    }
    let lists = [
        ("init container", "/spec/initContainers"),
        ("container", "/spec/containers"),
        ("ephemeral container", "/spec/ephemeralContainers"),
    ];
    for (kind, list) in lists {
        for container in items(r.object, list) {
            for variable in items(container, "/env") {
                let secret = text(variable, "/valueFrom/secretKeyRef/name");
                if !secret.is_empty() && !secrets.contains(secret) {
                    let why = format!(
                        "{kind} {} with envVar {} referencing secret.secretName=\"{secret}\" is not allowed because service account {name} does not reference that secret",
                        text(container, "/name"),
                        text(variable, "/name")
                    );
                    return Err(forbidden(r, &why));
                }
            }
        }
    }
    for (i, reference) in items(r.object, "/spec/imagePullSecrets").iter().enumerate() {
        let secret = text(reference, "/name");
        if !pull_secrets.contains(secret) {
            let why = format!(
                "imagePullSecrets[{i}].name=\"{secret}\" is not allowed because service account {name} does not reference that imagePullSecret"
            );
            return Err(forbidden(r, &why));
        }
    }
    Ok(())
}
