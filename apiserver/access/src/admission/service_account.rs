//! ServiceAccount: every pod has a service account that exists, and a volume
//! with its token unless it declines.
//! Source: <https://kubernetes.io/docs/concepts/security/service-accounts/>.

use super::{forbidden, is, is_mirror_pod, service_account_secrets};
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::{flag, items, list_mut, text};
use serde_json::{Value, json};
use skiff_api::ApiError;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// A little over an hour: the API server knows a default volume's request by it.
const EXPIRATION_SECONDS: i64 = 3607;

pub fn mutate(r: &mut AdmissionRequest, objects: &dyn Objects, suffix: &str) -> Admitted {
    if !is(r, Operation::Create, "", "pods") || is_mirror_pod(r.object) {
        return Ok(());
    }
    let named = [
        text(r.object, "/spec/serviceAccountName"),
        text(r.object, "/spec/serviceAccount"),
    ];
    let name = named
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or("default")
        .to_string();
    let Some(account) = objects.get("", "serviceaccounts", r.namespace, &name) else {
        return Err(missing(r, &name));
    };
    let Some(spec) = super::spec_mut(r) else { return Ok(()) };
    spec["serviceAccountName"] = name.as_str().into();
    spec["serviceAccount"] = name.as_str().into();
    let automount = flag(spec, "/automountServiceAccountToken")
        .or_else(|| flag(&account, "/automountServiceAccountToken"))
        .unwrap_or(true);
    if automount {
        mount_token(spec, suffix);
    }
    let pull_secrets = items(&account, "/imagePullSecrets");
    if items(spec, "/imagePullSecrets").is_empty() && !pull_secrets.is_empty() {
        spec["imagePullSecrets"] = pull_secrets.to_vec().into();
    }
    Ok(())
}

fn missing(r: &AdmissionRequest, name: &str) -> ApiError {
    let why = format!(
        "error looking up service account {}/{name}: serviceaccount {name:?} not found",
        r.namespace
    );
    forbidden(r, &why)
}

fn mount_token(spec: &mut Value, suffix: &str) {
    let existing = items(spec, "/volumes")
        .iter()
        .find(|volume| text(volume, "/name").starts_with(VOLUME_PREFIX) && volume.get("projected").is_some())
        .map(|volume| text(volume, "/name").to_string());
    let name = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{suffix}"));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            if items(container, "/volumeMounts")
                .iter()
                .any(|mount| text(mount, "/mountPath") == MOUNT_PATH)
            {
                continue;
            }
            if let Some(mounts) = list_mut(container, "volumeMounts") {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                needed = true;
            }
        }
    }
    if needed
        && existing.is_none()
        && let Some(volumes) = list_mut(spec, "volumes")
    {
        volumes.push(token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
        ]}},
    ]}})
}

/// Mirror pods exist before the API server knows them: they may depend on nothing in it.
pub fn validate(r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    let debugged = r.operation == Operation::Update && (r.resource, r.subresource) == ("pods", "ephemeralcontainers");
    if !is(r, Operation::Create, "", "pods") && !debugged {
        return Ok(());
    }
    if !is_mirror_pod(r.object) {
        let name = text(r.object, "/spec/serviceAccountName");
        return match objects.get("", "serviceaccounts", r.namespace, name) {
            Some(account) if service_account_secrets::is_enforced(&account) => {
                service_account_secrets::validate(r, &account)
            }
            Some(_) => Ok(()),
            None if debugged || name.is_empty() => Ok(()),
            None => Err(missing(r, name)),
        };
    }
    if !text(r.object, "/spec/serviceAccountName").is_empty() {
        return Err(forbidden(r, "a mirror pod may not reference service accounts"));
    }
    for volume in items(r.object, "/spec/volumes") {
        if volume.get("secret").is_some() {
            return Err(forbidden(r, "a mirror pod may not reference secrets"));
        }
        if items(volume, "/projected/sources")
            .iter()
            .any(|source| source.get("serviceAccountToken").is_some())
        {
            return Err(forbidden(
                r,
                "a mirror pod may not use service account token projections",
            ));
        }
    }
    Ok(())
}
