//! The `resize` subresource: cpu and memory of running containers.
//! Source: <https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/>.

use super::update::forbidden_whole;
use super::{annotations, container, qos};
use crate::check::{Errors, Path, same};
use crate::quantity;
use crate::rules::copy;
use crate::tree::{Tree, each, object};
use serde_json::Value;

const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Takes resources and resize policies of containers, matched by name, and the
/// resources of the pod.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    let asked = new.at("spec").clone();
    copy(new, old, "spec");
    copy(new, old, "status");
    let Some(spec) = new.get_mut("spec") else { return };
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            let name = container.text("name").to_string();
            if let Some(wanted) = asked.items(list).iter().find(|c| c.text("name") == name) {
                copy(container, wanted, "resources");
                copy(container, wanted, "resizePolicy");
            }
        }
    }
    if asked.has("resources") {
        copy(spec, &asked, "resources");
    }
}

pub(super) fn check(new: &Value, old: &Value, errors: &mut Errors) {
    if annotations::is_mirror(old) {
        forbidden_whole("static pods cannot be resized", errors);
        return;
    }
    if old.text("spec.os.name") == "windows" {
        forbidden_whole("windows pods cannot be resized", errors);
        return;
    }
    let path = Path::new("spec");
    let class = match old.text("status.qosClass") {
        "" => qos::class(old.at("spec")),
        class => class,
    };
    if class != qos::class(new.at("spec")) {
        errors.invalid(
            &path,
            new.text("status.qosClass"),
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    if !node_resizes(old) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    for list in ["initContainers", "containers"] {
        let at = path.of(list);
        let before = old.at("spec").items(list);
        for (i, (now, was)) in new.at("spec").items(list).iter().zip(before).enumerate() {
            if list == "containers" || container::is_sidecar(was) {
                change(now, was, &at.at(i).of("resources"), errors);
            }
        }
    }
    let pod = path.of("resources");
    let (now, was) = (new.at("spec"), old.at("spec"));
    if was.has("resources") {
        change(now, was, &pod, errors);
    } else if now.has("resources") {
        errors.forbidden(&pod, "pod-level resources cannot be added by a resize");
    }
    rest(now, was, &path, errors);
}

/// A node that resizes says what its running containers have.
fn node_resizes(pod: &Value) -> bool {
    let statuses = pod.items("status.containerStatuses");
    match statuses.iter().find(|c| c.has("state.running")) {
        Some(running) => running.has("resources"),
        None => true,
    }
}

/// Requests and limits stay, and memory limits that need no restart may only grow.
fn change(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let (now, was) = (new.at("resources"), old.at("resources"));
    for (list, what) in [("requests", "resource requests"), ("limits", "resource limits")] {
        let removed = was
            .map(list)
            .into_iter()
            .flatten()
            .any(|(name, _)| now.at(list).get(name).is_none());
        if removed {
            errors.forbidden(&path.of(list), &format!("{what} cannot be removed"));
        }
    }
    let restarts = new
        .items("resizePolicy")
        .iter()
        .find(|p| p.text("resourceName") == "memory")
        .is_some_and(|p| p.text("restartPolicy") == "RestartContainer");
    if restarts {
        return;
    }
    let limit = |r: &Value| r.at("limits").get("memory").and_then(quantity::parse);
    let at = path.of("limits");
    if limit(now).is_some() && limit(was).is_none() {
        errors.forbidden(
            &at.key("memory"),
            "memory limits cannot be added unless resizePolicy is RestartContainer",
        );
    }
}

/// Everything but cpu and memory is as it was.
fn rest(now: &Value, was: &Value, path: &Path, errors: &mut Errors) {
    for list in ["containers", "initContainers"] {
        for (new, old) in now.items(list).iter().zip(was.items(list)) {
            let sidecar = container::is_sidecar(old);
            let mut munged = new.clone();
            if list == "containers" || sidecar {
                put_back(&mut munged, old);
            }
            if same(&munged, old) {
                continue;
            }
            let text = match (list, sidecar) {
                ("containers", _) => "only cpu and memory resources are mutable",
                (_, true) => "only cpu and memory resources for sidecar containers are mutable",
                (_, false) => "resources for non-sidecar init containers are immutable",
            };
            errors.forbidden(path, text);
        }
    }
    let mut munged = now.clone();
    put_back(&mut munged, was);
    for list in ["containers", "initContainers"] {
        copy(&mut munged, was, list);
    }
    if !same(&munged, was) {
        errors.forbidden(path, "only cpu and memory resources are mutable");
    }
}

fn put_back(holder: &mut Value, old: &Value) {
    for list in ["limits", "requests"] {
        if old.at("resources").at(list).is_null() {
            if let Some(resources) = holder.get_mut("resources") {
                copy(resources, &Value::Null, list);
            }
            continue;
        }
        let target = object(holder, "resources").and_then(|r| object(r, list));
        if let Some(target) = target {
            for name in RESIZABLE {
                copy(target, old.at("resources").at(list), name);
            }
        }
    }
}
