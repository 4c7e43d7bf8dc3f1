//! What a pod worker asks of the API server and of the node's disk on a pod's behalf.

use super::node::Shared;
use super::observed::Observed;
use super::spec::Key;
use super::{cgroup, links, resources, sandbox, spec};
use crate::error::Error;
use crate::image::pull;
use crate::leftovers;
use crate::manifest;
use crate::runtime::config::Layout;
use crate::volume;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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

pub async fn patch_status(shared: &Shared, pod: &Pod, status: &PodStatus) -> Result<Pod, Refused> {
    if !manifest::is_static(pod) {
        return patch(shared, pod, spec::uid(pod), status).await;
    }
    // What happens to the likeness does not happen to the pod.
    let uid = shared.cache.mirror_uid(pod);
    let uid = uid.ok_or_else(|| Refused::Later("it has no mirror".into()))?;
    match patch(shared, pod, &uid, status).await {
        Ok(held) => Ok(manifest::mirror::shown(pod, Some(&held))),
        Err(Refused::Gone) => Err(Refused::Later("its mirror is gone".into())),
        other => other,
    }
}

async fn patch(shared: &Shared, pod: &Pod, uid: &str, status: &PodStatus) -> Result<Pod, Refused> {
    /// A server that is cut off must not hold up what is newer.
    const ANSWER_MAX: Duration = Duration::from_secs(10);
    let before = pod.status.as_ref();
    let (api, name) = pods(shared, pod);
    let mut value = serde_json::to_value(status).map_err(|e| Refused::Later(e.to_string()))?;
    // Lists merged by address would keep an address that a new sandbox has given up.
    let ips = |s: &PodStatus| s.pod_ips.clone().unwrap_or_default();
    if before.is_some_and(|b| !ips(b).is_empty() && ips(b) != ips(status))
        && let Some(list) = value.get_mut("podIPs").and_then(Value::as_array_mut)
    {
        list.insert(0, json!({"$patch": "replace"}));
    }
    // A merge keeps what the patch leaves out.
    for name in ["reason", "message", "podIP"] {
        if let Some(object) = value.as_object_mut() {
            object.entry(name).or_insert(Value::Null);
        }
    }
    let kinds = |s: &PodStatus| -> Vec<String> { s.conditions.iter().flatten().map(|c| c.type_.clone()).collect() };
    let (held, kept) = (kinds(&super::status::owned(before)), kinds(status));
    if let Some(conditions) = value.get_mut("conditions").and_then(Value::as_array_mut) {
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            for name in ["reason", "message"] {
                condition.entry(name).or_insert(Value::Null);
            }
        }
        let gone = held.iter().filter(|kind| !kept.contains(kind));
        conditions.extend(gone.map(|kind| json!({"$patch": "delete", "type": kind})));
    }
    let patch = json!({"metadata": {"uid": uid}, "status": value});
    let params = PatchParams::default();
    let patch = Patch::Strategic(&patch);
    let sent = tokio::time::timeout(ANSWER_MAX, api.patch_status(&name, &params, &patch));
    match sent.await {
        Ok(result) => {
            if result.is_ok() {
                crate::stats::own::written(pod, status);
            }
            let lean = |mut pod: Pod| {
                // Of no use here, and larger than all the rest.
                pod.metadata.managed_fields = None;
                pod
            };
            result.map(lean).map_err(refused)
        }
        Err(_) => Err(Refused::Later("the API server does not answer".into())),
    }
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

/// The handler of the pod's RuntimeClass; empty where it names none.
pub async fn runtime_handler(shared: &Shared, pod: &Pod) -> Result<String, Error> {
    let name = pod.spec.as_ref().and_then(|s| s.runtime_class_name.as_deref());
    let Some(name) = name.filter(|n| !n.is_empty()) else {
        return Ok(String::new());
    };
    let api: Api<RuntimeClass> = Api::all(shared.client.clone());
    match api.get(name).await {
        Ok(class) => Ok(class.handler),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            Err(Error::Pod(format!("runtimeclass.node.k8s.io {name:?} not found")))
        }
        Err(error) => Err(Error::Pod(format!("failed to lookup RuntimeClass {name}: {error}"))),
    }
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
    for name in pull::secret_names(pod) {
        secrets.insert((namespace.clone(), name.to_owned()));
    }
    (maps, secrets)
}

/// Makes the pod's volumes. The cache reminds of tokens; the worker keeps no timer.
pub async fn mount_volumes(shared: &Arc<Shared>, pod: &Arc<Pod>, ips: Vec<String>) -> Result<Option<Timestamp>, Error> {
    volume::setup::mount_volumes(shared, pod, ips).await.map(|()| None)
}

/// Everything of the pod that is left on the node. Carries on past failures.
pub async fn tear_down(shared: &Arc<Shared>, pod: &Arc<Pod>, seen: &Observed) -> Result<(), Error> {
    let (uid, mut first) = (spec::uid(pod), None);
    let mut sandboxes: BTreeSet<String> = seen.sandboxes.iter().map(|s| s.id.clone()).collect();
    let mut containers: BTreeSet<String> = seen.all().map(|c| c.id.clone()).collect();
    // Of those whose making was cut short nobody was told.
    match tokio::try_join!(shared.runtime.sandboxes_of(uid), shared.runtime.containers_of(uid)) {
        Ok((more_sandboxes, more_containers)) => {
            sandboxes.extend(more_sandboxes);
            containers.extend(more_containers);
        }
        Err(error) => first = Some(error),
    }
    for id in &sandboxes {
        // Also ends it where it runs, and removes its containers.
        if let Err(error) = shared.runtime.remove_sandbox(id).await {
            first.get_or_insert(error);
        }
    }
    if first.is_none()
        && let Err(error) = shared.devices.unprepare(uid).await
    {
        first = Some(error);
    }
    let cleaned = volume::teardown::tear_down(shared, pod).await;
    let layout = Layout::new(&shared.config.data_dir);
    let left = if first.is_none() {
        leftovers::of_ended(&layout, containers.iter().chain(&sandboxes).map(String::as_str))
    } else {
        Vec::new()
    };
    let (shared, pod) = (shared.clone(), pod.clone());
    let work = move || {
        let _ = std::fs::remove_dir_all(sandbox::log_directory(&shared.config, &pod));
        let (links_dir, logs_dir) = (&shared.config.container_logs_dir, &shared.config.pod_logs_dir);
        links::sweep(links_dir, logs_dir, Some(&spec::key(&pod)));
        let Some(pod_spec) = &pod.spec else { return };
        let (root, class) = (&shared.config.cgroup_root, resources::qos(pod_spec));
        let group = resources::cgroup_path(root, class, spec::uid(&pod));
        for id in &left {
            leftovers::remove_container(&layout, &group, id);
        }
        // Whatever still runs there has lost its runtime.
        leftovers::end_processes(Path::new(group.trim_start_matches('/')));
        cgroup::remove(&group);
        leftovers::network::release(&shared.config, spec::uid(&pod));
    };
    let _ = tokio::task::spawn_blocking(work).await;
    match first {
        Some(error) => Err(error),
        None => cleaned,
    }
}
