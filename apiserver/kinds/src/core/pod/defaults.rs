//! Defaults of pods and pod templates.
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>.

use super::volume_defaults;
use crate::core::resources;
use crate::tree::{Tree, each, existing, object, set_default, set_int, set_text};
use serde_json::{Value, json};

pub(crate) const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// A pod: the template's defaults, and those that only a real pod gets.
pub(crate) fn pod(pod: &mut Value) {
    let Some(spec) = object(pod, "spec") else { return };
    self::spec(spec);
    set_default(spec, "enableServiceLinks", true);
    let host_network = spec.flag("hostNetwork");
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            requests_from_limits(container);
            if host_network {
                for port in each(container, "ports") {
                    let number = port.int("containerPort").unwrap_or(0);
                    if number != 0 {
                        set_int(port, "hostPort", number);
                    }
                }
            }
        }
    }
    pod_requests(spec);
}

/// Requests of a pod that sets resources of its own: what its containers ask for
/// together, else its limits.
fn pod_requests(spec: &mut Value) {
    let sets = |list: &str| spec.at("resources").map(list).is_some_and(|m| !m.is_empty());
    if !sets("requests") && !sets("limits") {
        return;
    }
    let together: Vec<(String, String)> = super::validate::aggregate_requests(spec)
        .into_iter()
        .filter(|(name, _)| resources::is_pod_level(name) && resources::may_overcommit(name))
        .map(|(name, amount)| (name.to_string(), amount.to_string()))
        .collect();
    if let Some(requests) = existing(spec, "resources").and_then(|r| object(r, "requests")) {
        for (name, amount) in together {
            set_default(requests, &name, amount);
        }
    }
    let Some(limits) = spec.at("resources.limits").as_object().cloned() else {
        return;
    };
    if let Some(requests) = existing(spec, "resources").and_then(|r| object(r, "requests")) {
        for (name, limit) in limits.into_iter().filter(|(name, _)| resources::is_pod_level(name)) {
            set_default(requests, &name, limit);
        }
    }
}

/// A `PodTemplateSpec`.
pub(crate) fn template(template: &mut Value) {
    if let Some(spec) = existing(template, "spec") {
        self::spec(spec);
    }
}

pub(crate) fn spec(spec: &mut Value) {
    set_text(spec, "dnsPolicy", "ClusterFirst");
    set_text(spec, "restartPolicy", "Always");
    set_text(spec, "schedulerName", "default-scheduler");
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default(spec, "securityContext", json!({}));
    service_account_alias(spec);
    for list in CONTAINER_LISTS {
        each(spec, list).for_each(container);
    }
    each(spec, "volumes").for_each(volume_defaults::volume);
}

/// `serviceAccount` is the deprecated twin of `serviceAccountName`: both are
/// always there, and the name wins.
fn service_account_alias(spec: &mut Value) {
    let name = match (spec.text("serviceAccountName"), spec.text("serviceAccount")) {
        ("", old) => old.to_string(),
        (name, _) => name.to_string(),
    };
    if !name.is_empty() {
        spec["serviceAccountName"] = name.clone().into();
        spec["serviceAccount"] = name.into();
    }
}

pub(crate) fn container(container: &mut Value) {
    if !container.is_object() {
        return;
    }
    let policy = pull_policy(container.text("image"));
    set_text(container, "imagePullPolicy", policy);
    set_text(container, "terminationMessagePath", "/dev/termination-log");
    set_text(container, "terminationMessagePolicy", "File");
    set_default(container, "resources", json!({}));
    for port in each(container, "ports") {
        set_text(port, "protocol", "TCP");
    }
    for env in each(container, "env") {
        if let Some(field) = existing(env, "valueFrom").and_then(|v| existing(v, "fieldRef")) {
            set_text(field, "apiVersion", "v1");
        }
        if let Some(field) = existing(env, "valueFrom").and_then(|v| existing(v, "resourceFieldRef")) {
            set_default(field, "divisor", "0");
        }
        if let Some(file) = existing(env, "valueFrom").and_then(|v| existing(v, "fileKeyRef")) {
            set_default(file, "optional", false);
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = existing(container, key) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = existing(container, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(get) = existing(lifecycle, key).and_then(|h| existing(h, "httpGet")) {
                http_get(get);
            }
        }
    }
}

/// `latest` or no tag: Always; any other tag, or a digest: IfNotPresent.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn probe(probe: &mut Value) {
    set_int(probe, "timeoutSeconds", 1);
    set_int(probe, "periodSeconds", 10);
    set_int(probe, "successThreshold", 1);
    set_int(probe, "failureThreshold", 3);
    if let Some(get) = existing(probe, "httpGet") {
        http_get(get);
    }
    if let Some(grpc) = existing(probe, "grpc") {
        set_default(grpc, "service", "");
    }
}

fn http_get(get: &mut Value) {
    set_text(get, "path", "/");
    set_text(get, "scheme", "HTTP");
}

/// A limit without a request is also the request.
fn requests_from_limits(holder: &mut Value) {
    let Some(limits) = holder.at("resources.limits").as_object().cloned() else {
        return;
    };
    let Some(requests) = existing(holder, "resources").and_then(|r| object(r, "requests")) else {
        return;
    };
    for (name, limit) in limits {
        set_default(requests, &name, limit);
    }
    if requests.as_object().is_some_and(serde_json::Map::is_empty)
        && let Some(resources) = existing(holder, "resources").and_then(Value::as_object_mut)
    {
        resources.remove("requests");
    }
}
