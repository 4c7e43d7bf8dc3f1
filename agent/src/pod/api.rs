//! What a pod worker asks of the API server and of the node's disk on a pod's behalf.

use super::node::Shared;
use super::observed::Observed;
use super::spec::Key;
use super::{cgroup, resources, sandbox, spec};
use crate::error::Error;
use crate::volume::{self, payload};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, PodStatus, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug)]
pub enum Refused {
    /// The pod is not there, or another one has its name.
    Gone,
    Later(String),
}

fn refused(error: kube::Error) -> Refused {
    match &error {
        kube::Error::Api(status) if status.code == 404 || status.code == 409 => Refused::Gone,
        _ => Refused::Later(error.to_string()),
    }
}

fn pods(shared: &Shared, pod: &Pod) -> (Api<Pod>, String) {
    let (namespace, name) = spec::key(pod);
    (Api::namespaced(shared.client.clone(), &namespace), name)
}

pub async fn patch_status(
    shared: &Shared,
    pod: &Pod,
    before: Option<&PodStatus>,
    status: &PodStatus,
) -> Result<(), Refused> {
    let (api, name) = pods(shared, pod);
    let mut value = serde_json::to_value(status).map_err(|e| Refused::Later(e.to_string()))?;
    // Lists merged by address would keep an address that a new sandbox has given up.
    let ips = |s: &PodStatus| s.pod_ips.clone().unwrap_or_default();
    if before.is_some_and(|b| !ips(b).is_empty() && ips(b) != ips(status))
        && let Some(list) = value.get_mut("podIPs").and_then(Value::as_array_mut)
    {
        list.insert(0, json!({"$patch": "replace"}));
    }
    let patch = json!({"metadata": {"uid": spec::uid(pod)}, "status": value});
    let result = api
        .patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch))
        .await;
    result.map(drop).map_err(refused)
}

pub async fn delete(shared: &Shared, pod: &Pod) -> Result<(), Refused> {
    let (api, name) = pods(shared, pod);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(spec::uid(pod).to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    api.delete(&name, &params).await.map(drop).map_err(refused)
}

/// Config maps and secrets that the pod's volumes and variables name.
pub fn references(pod: &Pod) -> (BTreeSet<Key>, BTreeSet<Key>) {
    let namespace = spec::key(pod).0;
    let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    let Some(pod_spec) = &pod.spec else {
        return (maps, secrets);
    };
    let mut map = |name: &str| maps.insert((namespace.clone(), name.to_owned()));
    let mut secret = |name: &str| secrets.insert((namespace.clone(), name.to_owned()));
    for volume in pod_spec.volumes.iter().flatten() {
        if let Some(source) = &volume.config_map {
            map(&source.name);
        }
        if let Some(name) = volume.secret.as_ref().and_then(|s| s.secret_name.as_ref()) {
            secret(name);
        }
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            if let Some(source) = &source.config_map {
                map(&source.name);
            }
            if let Some(source) = &source.secret {
                secret(&source.name);
            }
        }
    }
    for (container, _) in spec::containers(pod_spec) {
        for source in container.env_from.iter().flatten() {
            if let Some(r) = &source.config_map_ref {
                map(&r.name);
            }
            if let Some(r) = &source.secret_ref {
                secret(&r.name);
            }
        }
        for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            if let Some(r) = &source.config_map_key_ref {
                map(&r.name);
            }
            if let Some(r) = &source.secret_key_ref {
                secret(&r.name);
            }
        }
    }
    (maps, secrets)
}

/// Makes the pod's volumes; says when its tokens are to be renewed.
pub async fn mount_volumes(shared: &Arc<Shared>, pod: &Arc<Pod>, ips: Vec<String>) -> Result<Option<Timestamp>, Error> {
    let (maps, secrets) = references(pod);
    let wanted = shared.cache.want(maps, secrets);
    let tokens = tokens(shared, pod);
    let ((), tokens) = tokio::join!(wanted, tokens);
    let (tokens, renew_at) = tokens?;
    let (shared, pod) = (shared.clone(), pod.clone());
    let work = move || {
        let facts = shared.facts(ips);
        let stamp = Timestamp::now().as_nanosecond().to_string();
        volume::mount_all(&shared.config, &pod, shared.cache.as_ref(), &facts, &tokens, &stamp)
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::Volume(e.to_string())))?;
    Ok(renew_at)
}

async fn tokens(
    shared: &Shared,
    pod: &Pod,
) -> Result<(BTreeMap<payload::TokenRequest, String>, Option<Timestamp>), Error> {
    let (namespace, name) = spec::key(pod);
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.clone())
        .unwrap_or_else(|| "default".into());
    let api: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), &namespace);
    let mut issued = BTreeMap::new();
    let mut renew_at: Option<Timestamp> = None;
    for wanted in payload::token_requests(pod) {
        let request: TokenRequest = serde_json::from_value(json!({
            "metadata": {},
            "spec": {
                "audiences": if wanted.audience.is_empty() { json!([]) } else { json!([wanted.audience]) },
                "expirationSeconds": wanted.expiration_s,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": spec::uid(pod)},
            }
        }))
        .map_err(|e| Error::Volume(e.to_string()))?;
        let answer = api
            .create_token_request(&account, &PostParams::default(), &request)
            .await
            .map_err(Error::api("issue a token"))?;
        let status = answer.status.unwrap_or_default();
        let (Some(token), Some(expires)) = (status.token, status.expiration_timestamp) else {
            return Err(Error::Volume("the API server issued an empty token".into()));
        };
        // Renewed after 80 % of its life, as kubelet does, and within a day.
        let life_s = expires.0.duration_since(Timestamp::now()).as_secs();
        let at = Timestamp::now().checked_add(SignedDuration::from_secs((life_s * 8 / 10).clamp(60, 86_400)));
        renew_at = match (renew_at, at.ok()) {
            (Some(known), Some(at)) => Some(known.min(at)),
            (known, at) => known.or(at),
        };
        issued.insert(wanted, token);
    }
    Ok((issued, renew_at))
}

/// Everything of the pod that is left on the node. Carries on past failures.
pub async fn tear_down(shared: &Arc<Shared>, pod: &Arc<Pod>, seen: &Observed) -> Result<(), Error> {
    let mut first = None;
    for sandbox in &seen.sandboxes {
        // Also removes the sandbox's containers.
        if let Err(error) = shared.runtime.remove_sandbox(&sandbox.id).await {
            first.get_or_insert(error);
        }
    }
    let (shared, pod) = (shared.clone(), pod.clone());
    let work = move || {
        let uid = spec::uid(&pod);
        let outcome = volume::unmount_all(&shared.config.pod_dir(uid));
        let _ = std::fs::remove_dir_all(sandbox::log_directory(&shared.config, &pod));
        if let Some(pod_spec) = &pod.spec {
            cgroup::remove(&resources::cgroup_path(
                &shared.config.cgroup_root,
                resources::qos(pod_spec),
                uid,
            ));
        }
        outcome
    };
    let cleaned = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::Volume(e.to_string())));
    match first {
        Some(error) => Err(error),
        None => cleaned,
    }
}
