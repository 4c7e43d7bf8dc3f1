//! Checks of containers: names, images, ports, environment, mounts, probes,
//! hooks, resources.

use super::validate::seccomp;
use crate::check::{Errors, Path};
use crate::names;
use crate::quantity;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Volumes of the pod by name, each with whether it is a claim (block or file).
pub(crate) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

pub(super) fn all(spec: &Value, path: &Path, volumes: &Volumes, errors: &mut Errors) {
    if spec.items("containers").is_empty() {
        errors.required(&path.of("containers"), "");
    }
    let mut names_seen = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    let host_network = spec.flag("hostNetwork");
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let at = path.of(list);
        for (i, container) in spec.items(list).iter().enumerate() {
            let path = at.at(i);
            one(container, &path, volumes, errors);
            if !names_seen.insert(container.text("name")) && !container.text("name").is_empty() {
                errors.duplicate(&path.of("name"), container.text("name"));
            }
            ports(container.items("ports"), &path.of("ports"), host_network, errors);
            if list == "containers" {
                conflicts(container.items("ports"), &path.of("ports"), &mut host_ports, errors);
            }
            by_list(list, container, &path, errors);
        }
    }
}

/// What only some of the lists may have.
fn by_list(list: &str, container: &Value, path: &Path, errors: &mut Errors) {
    let sidecar = container.text("restartPolicy") == "Always";
    match list {
        "containers" => {}
        "initContainers" if sidecar => {}
        "initContainers" => {
            for key in PROBES {
                if container.has(key) {
                    errors.forbidden(
                        &path.of(key),
                        "may not be set for init containers without restartPolicy=Always",
                    );
                }
            }
            if container.has("lifecycle") {
                errors.forbidden(
                    &path.of("lifecycle"),
                    "may not be set for init containers without restartPolicy=Always",
                );
            }
        }
        _ => {
            for key in PROBES.into_iter().chain(["ports", "lifecycle"]) {
                if container.has(key) {
                    errors.forbidden(&path.of(key), "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

fn one(container: &Value, path: &Path, volumes: &Volumes, errors: &mut Errors) {
    let name = container.text("name");
    if name.is_empty() {
        errors.required(&path.of("name"), "");
    } else {
        errors.all(&path.of("name"), name, names::dns_label(name));
    }
    let image = container.text("image");
    if image.is_empty() {
        errors.required(&path.of("image"), "");
    } else if image.trim() != image {
        errors.invalid(&path.of("image"), image, "must not have leading or trailing whitespace");
    }
    errors.choice(container, path, "imagePullPolicy", &["Always", "IfNotPresent", "Never"]);
    errors.choice(
        container,
        path,
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
    );
    errors.optional_choice(container, path, "restartPolicy", &["Always", "Never", "OnFailure"]);
    env(container, path, errors);
    mounts(container, path, volumes, errors);
    resources(container.at("resources"), &path.of("resources"), errors);
    for key in PROBES {
        if let Some(probe) = container.get(key).filter(|p| p.is_object()) {
            self::probe(probe, &path.of(key), key != "readinessProbe", errors);
        }
    }
    let lifecycle = path.of("lifecycle");
    for key in ["postStart", "preStop"] {
        if let Some(hook) = container.at("lifecycle").get(key).filter(|h| h.is_object()) {
            handler(hook, &lifecycle.of(key), errors);
        }
    }
    let context = container.at("securityContext");
    let at = path.of("securityContext");
    for key in ["runAsUser", "runAsGroup"] {
        errors.range(context, &at, key, 0, i64::from(i32::MAX));
    }
    if context.flag("privileged") && context.at("allowPrivilegeEscalation") == &Value::Bool(false) {
        errors.invalid(
            &at,
            context.clone(),
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
    seccomp(context, &at, errors);
}

fn ports(ports: &[Value], path: &Path, host_network: bool, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.at(i);
        let name = port.text("name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if !wrong.is_empty() {
                errors.all(&path.of("name"), name, wrong);
            } else if !seen.insert(name) {
                errors.duplicate(&path.of("name"), name);
            }
        }
        match port.int("containerPort").unwrap_or(0) {
            0 => errors.required(&path.of("containerPort"), ""),
            number => errors.port(&path.of("containerPort"), number),
        }
        let host = port.int("hostPort").unwrap_or(0);
        if host != 0 {
            errors.port(&path.of("hostPort"), host);
            if host_network && Some(host) != port.int("containerPort") {
                errors.invalid(
                    &path.of("containerPort"),
                    port.at("containerPort").clone(),
                    "must match `hostPort` when `hostNetwork` is true",
                );
            }
        }
        errors.choice(port, &path, "protocol", &["SCTP", "TCP", "UDP"]);
    }
}

/// No host port twice in one pod.
fn conflicts<'a>(ports: &'a [Value], path: &Path, seen: &mut BTreeSet<(&'a str, &'a str, i64)>, errors: &mut Errors) {
    for (i, port) in ports.iter().enumerate() {
        let host = port.int("hostPort").unwrap_or(0);
        if host != 0 && !seen.insert((port.text("hostIP"), port.text("protocol"), host)) {
            let shown = format!("{}/{}/{host}", port.text("protocol"), port.text("hostIP"));
            errors.duplicate(&path.at(i).of("hostPort"), shown);
        }
    }
}

fn env(container: &Value, path: &Path, errors: &mut Errors) {
    let list = path.of("env");
    for (i, var) in container.items("env").iter().enumerate() {
        let path = list.at(i);
        let name = var.text("name");
        if name.is_empty() {
            errors.required(&path.of("name"), "");
        } else {
            errors.all(&path.of("name"), name, names::env_name(name));
        }
        if let Some(source) = var.get("valueFrom").filter(|v| v.is_object()) {
            value_from(source, !var.text("value").is_empty(), &path.of("valueFrom"), errors);
        }
    }
    let list = path.of("envFrom");
    for (i, from) in container.items("envFrom").iter().enumerate() {
        let path = list.at(i);
        let sources: Vec<&str> = ["configMapRef", "secretRef"]
            .into_iter()
            .filter(|k| from.has(k))
            .collect();
        match sources.as_slice() {
            [] => errors.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`"),
            [key] => {
                if from.at(key).text("name").is_empty() {
                    errors.required(&path.of(key).of("name"), "");
                }
            }
            _ => errors.invalid(&path, "", "may not have more than one field specified at a time"),
        }
        let prefix = from.text("prefix");
        if !prefix.is_empty() {
            errors.all(&path.of("prefix"), prefix, names::env_name(prefix));
        }
    }
}

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn value_from(source: &Value, has_value: bool, path: &Path, errors: &mut Errors) {
    let known = [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ];
    let count = known.iter().filter(|k| source.has(k)).count();
    if count == 0 {
        let text =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", text);
    } else if has_value {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = source.get(key).filter(|r| r.is_object()) {
            let path = path.of(key);
            errors.text_required(reference, &path, "name");
            match reference.text("key") {
                "" => errors.required(&path.of("key"), ""),
                text => errors.all(&path.of("key"), text, names::config_key(text)),
            }
        }
    }
    if let Some(field) = source.get("fieldRef").filter(|f| f.is_object()) {
        field_ref(field, &path.of("fieldRef"), ENV_FIELDS, errors);
    }
    if let Some(field) = source.get("resourceFieldRef").filter(|f| f.is_object()) {
        resource_field_ref(field, &path.of("resourceFieldRef"), errors);
    }
}

pub(super) fn field_ref(field: &Value, path: &Path, allowed: &[&str], errors: &mut Errors) {
    errors.text_required(field, path, "apiVersion");
    let text = field.text("fieldPath");
    let subscript = ["metadata.labels['", "metadata.annotations['"].iter().any(|p| {
        text.strip_prefix(p)
            .and_then(|t| t.strip_suffix("']"))
            .is_some_and(|k| names::qualified_name(&k.to_lowercase()).is_empty())
    });
    if text.is_empty() {
        errors.required(&path.of("fieldPath"), "");
    } else if !subscript && !allowed.contains(&text) {
        errors.not_supported(&path.of("fieldPath"), text, allowed);
    }
}

pub(super) fn resource_field_ref(field: &Value, path: &Path, errors: &mut Errors) {
    let resource = field.text("resource");
    let known = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    if resource.is_empty() {
        errors.required(&path.of("resource"), "");
    } else if !known.contains(&resource) && !resource.contains(".hugepages-") {
        errors.not_supported(&path.of("resource"), resource, &known);
    }
}

fn mounts(container: &Value, path: &Path, volumes: &Volumes, errors: &mut Errors) {
    let mut points = BTreeSet::new();
    let list = path.of("volumeMounts");
    for (i, mount) in container.items("volumeMounts").iter().enumerate() {
        let path = list.at(i);
        let (name, point) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            errors.required(&path.of("name"), "");
        } else if !volumes.contains_key(name) {
            errors.not_found(&path.of("name"), name);
        }
        if point.is_empty() {
            errors.required(&path.of("mountPath"), "");
        } else if !points.insert(point) {
            errors.invalid(&path.of("mountPath"), point, "must be unique");
        }
        for key in ["subPath", "subPathExpr"] {
            let sub = mount.text(key);
            if sub.starts_with('/') {
                errors.invalid(&path.of(key), sub, "must be a relative path");
            } else if sub.split('/').any(|p| p == "..") {
                errors.invalid(&path.of(key), sub, "must not contain '..'");
            }
        }
        if !mount.text("subPath").is_empty() && !mount.text("subPathExpr").is_empty() {
            errors.invalid(
                &path.of("subPathExpr"),
                mount.text("subPathExpr"),
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        errors.optional_choice(
            mount,
            &path,
            "mountPropagation",
            &["Bidirectional", "HostToContainer", "None"],
        );
        if mount.text("mountPropagation") == "Bidirectional" && !container.flag("securityContext.privileged") {
            errors.forbidden(
                &path.of("mountPropagation"),
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
    }
    let list = path.of("volumeDevices");
    for (i, device) in container.items("volumeDevices").iter().enumerate() {
        let path = list.at(i);
        let name = device.text("name");
        errors.text_required(device, &path, "devicePath");
        match volumes.get(name) {
            None => errors.not_found(&path.of("name"), name),
            Some(v) if !v.has("persistentVolumeClaim") && !v.has("ephemeral") => {
                let text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&path.of("name"), name, text);
            }
            Some(_) => {}
        }
    }
}

/// `ResourceRequirements`: quantities, signs, requests within limits.
pub(crate) fn resources(resources: &Value, path: &Path, errors: &mut Errors) {
    for list in ["limits", "requests"] {
        let at = path.of(list);
        for (name, amount) in resources.map(list).into_iter().flatten() {
            let path = at.key(name);
            errors.all(&at, name, names::qualified_name(name));
            if !name.contains('/')
                && !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
                && !name.starts_with("hugepages-")
            {
                errors.invalid(
                    &path,
                    name.as_str(),
                    "must be a standard resource type or fully qualified",
                );
            }
            quantity_at(amount, &path, errors);
        }
    }
    for (name, request) in resources.map("requests").into_iter().flatten() {
        let limit = resources.at("limits").get(name);
        let (Some(request_n), Some(limit_n)) = (quantity::parse(request), limit.and_then(quantity::parse)) else {
            continue;
        };
        let at = path.of("requests");
        if request_n > limit_n {
            let text = format!(
                "must be less than or equal to {name} limit of {}",
                limit.and_then(Value::as_str).unwrap_or("")
            );
            errors.invalid(&at, request.clone(), &text);
        } else if request_n != limit_n
            && (name.starts_with("hugepages-") || (name.contains('/') && !name.contains("kubernetes.io/")))
        {
            errors.invalid(
                &at,
                request.clone(),
                &format!(
                    "must be equal to {name} limit of {}",
                    limit.and_then(Value::as_str).unwrap_or("")
                ),
            );
        }
    }
}

/// A quantity that is not negative.
pub(crate) fn quantity_at(amount: &Value, path: &Path, errors: &mut Errors) {
    match quantity::parse(amount) {
        None => errors.invalid(path, amount.clone(), quantity::INVALID),
        Some(n) if n.sign() < 0 => errors.invalid(path, amount.clone(), "must be greater than or equal to 0"),
        Some(_) => {}
    }
}

fn probe(probe: &Value, path: &Path, one_success: bool, errors: &mut Errors) {
    handler(probe, path, errors);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.non_negative(probe, path, key);
    }
    if one_success && probe.int("successThreshold").is_some_and(|n| n != 1) {
        errors.invalid(
            &path.of("successThreshold"),
            probe.at("successThreshold").clone(),
            "must be 1",
        );
    }
    if let Some(grace) = probe.int("terminationGracePeriodSeconds") {
        if !one_success {
            errors.invalid(
                &path.of("terminationGracePeriodSeconds"),
                grace,
                "must not be set for readinessProbes",
            );
        } else if grace <= 0 {
            errors.invalid(
                &path.of("terminationGracePeriodSeconds"),
                grace,
                "must be greater than 0",
            );
        }
    }
}

/// A probe's or hook's handler: exactly one.
fn handler(holder: &Value, path: &Path, errors: &mut Errors) {
    let present: Vec<&str> = HANDLERS.into_iter().filter(|k| holder.has(k)).collect();
    if present.is_empty() {
        errors.required(path, "must specify a handler type");
    }
    for extra in present.iter().skip(1) {
        errors.forbidden(&path.of(extra), "may not specify more than 1 handler type");
    }
    let Some(&key) = present.first() else { return };
    let (action, path) = (holder.at(key), path.of(key));
    match key {
        "exec" if action.items("command").is_empty() => errors.required(&path.of("command"), ""),
        "httpGet" => {
            errors.text_required(action, &path, "path");
            errors.choice(action, &path, "scheme", &["HTTP", "HTTPS"]);
            port_or_name(action.at("port"), &path.of("port"), errors);
        }
        "tcpSocket" => port_or_name(action.at("port"), &path.of("port"), errors),
        "grpc" => errors.port(&path.of("port"), action.int("port").unwrap_or(0)),
        _ => {}
    }
}

/// A port by number or by name.
pub(crate) fn port_or_name(port: &Value, path: &Path, errors: &mut Errors) {
    match port {
        Value::String(name) => errors.all(path, name, names::port_name(name)),
        number => errors.port(path, number.as_i64().unwrap_or(0)),
    }
}
