//! Warnings about pods and their templates: what is accepted and likely not meant.

use super::annotations::{APP_ARMOR, SECCOMP_CONTAINER, SECCOMP_POD};
use super::container::LISTS;
use crate::core::node;
use crate::quantity;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// Warnings of a pod, or of the template at `at` (`spec.template`).
pub(crate) fn of(holder: &Value, at: &str) -> Vec<String> {
    let below = |path: &str| {
        if at.is_empty() {
            path.to_string()
        } else {
            format!("{at}.{path}")
        }
    };
    let spec = holder.at("spec");
    let annotations = holder.at("metadata.annotations");
    let mut out = Vec::new();
    node_labels(spec, &below("spec"), &mut out);
    old_annotations(annotations, &below("metadata.annotations"), &mut out);
    volumes(spec, &below("spec.volumes"), &mut out);
    super::overlaps::check(spec, &mut out);
    repeated(spec, &below("spec"), &mut out);
    fractions(spec.at("overhead"), below("spec.overhead"), &mut out);
    profiles(spec, annotations, at, &mut out);
    for (path, container) in containers(spec, &below("spec")) {
        for list in ["limits", "requests"] {
            fractions(
                container.at("resources").at(list),
                format_args!("{path}.resources.{list}"),
                &mut out,
            );
        }
        environment(container, &path, &mut out);
    }
    ports(spec, &below("spec"), &mut out);
    if spec.int("terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        out.push(format!(
            "{}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            below("spec")
        ));
    }
    pod_affinity(spec, &below("spec.affinity"), &mut out);
    out
}

fn containers<'a>(spec: &'a Value, at: &str) -> Vec<(String, &'a Value)> {
    let of = |list: &'static str| {
        spec.items(list)
            .iter()
            .enumerate()
            .map(move |(i, container)| (format!("{at}.{list}[{i}]"), container))
    };
    LISTS.into_iter().flat_map(of).collect()
}

fn node_labels(spec: &Value, at: &str, out: &mut Vec<String>) {
    for key in spec.map("nodeSelector").into_iter().flatten().map(|(k, _)| k) {
        if let Some(why) = node::deprecated_label(key) {
            out.push(format!("{at}.nodeSelector[{key}]: {why}"));
        }
    }
    let affinity = spec.at("affinity.nodeAffinity");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let at_node = format!("{at}.affinity.nodeAffinity");
    for (i, term) in affinity.at(required).items("nodeSelectorTerms").iter().enumerate() {
        node::term_warnings(
            term,
            false,
            &format!("{at_node}.{required}.nodeSelectorTerms[{i}]"),
            out,
        );
    }
    for (i, term) in affinity.items(preferred).iter().enumerate() {
        node::term_warnings(
            term.at("preference"),
            true,
            &format!("{at_node}.{preferred}[{i}].preference"),
            out,
        );
    }
    for (i, constraint) in spec.items("topologySpreadConstraints").iter().enumerate() {
        let path = format!("{at}.topologySpreadConstraints[{i}]");
        let key = constraint.text("topologyKey");
        if let Some(why) = node::deprecated_label(key) {
            out.push(format!("{path}.topologyKey: {key} is {why}"));
        }
        no_selector(constraint, &path, out);
    }
}

fn no_selector(holder: &Value, path: &str, out: &mut Vec<String>) {
    if !holder.has("labelSelector") {
        out.push(format!(
            "{path}.labelSelector: a null labelSelector results in matching no pod"
        ));
    }
}

fn pod_affinity(spec: &Value, at: &str, out: &mut Vec<String>) {
    for key in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.at("affinity").at(key);
        let list = "requiredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in affinity.items(list).iter().enumerate() {
            no_selector(term, &format!("{at}.{key}.{list}[{i}]"), out);
        }
        let list = "preferredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in affinity.items(list).iter().enumerate() {
            no_selector(
                term.at("podAffinityTerm"),
                &format!("{at}.{key}.{list}[{i}].podAffinityTerm"),
                out,
            );
        }
    }
}

fn old_annotations(annotations: &Value, at: &str, out: &mut Vec<String>) {
    for (key, why) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
    ] {
        if annotations.get(key).is_some() {
            out.push(format!("{at}[{key}]: {why}"));
        }
    }
}

fn volumes(spec: &Value, at: &str, out: &mut Vec<String>) {
    const GONE: [(&str, &str, &str); 9] = [
        (
            "photonPersistentDisk",
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        ("gitRepo", "gitRepo", "deprecated in v1.11"),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
        (
            "storageos",
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
        (
            "glusterfs",
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    for (i, volume) in spec.items("volumes").iter().enumerate() {
        for (key, shown, why) in GONE {
            if volume.has(key) {
                out.push(format!("{at}[{i}].{shown}: {why}"));
            }
        }
        let claim = volume.at("ephemeral.volumeClaimTemplate.spec");
        claim_size(claim, format_args!("{at}[{i}].ephemeral.volumeClaimTemplate.spec"), out);
    }
}

/// A claim of a fraction of a byte.
pub(crate) fn claim_size(spec: &Value, at: impl Display, out: &mut Vec<String>) {
    fraction(
        spec.at("resources.requests").get("storage"),
        format_args!("{at}.resources.requests[storage]"),
        out,
    );
}

/// The path is written out for who is warned only: most are not.
fn fraction(amount: Option<&Value>, at: impl Display, out: &mut Vec<String>) {
    if let Some(n) = amount.and_then(quantity::parse)
        && n.milli_value() % 1000 != 0
    {
        out.push(format!(
            "{at}: fractional byte value \"{n}\" is invalid, must be an integer"
        ));
    }
}

fn fractions(amounts: &Value, at: impl Display, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        fraction(amounts.get(name), format_args!("{at}[{name}]"), out);
    }
}

fn repeated(spec: &Value, at: &str, out: &mut Vec<String>) {
    for (list, key) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = BTreeSet::new();
        for (i, item) in spec.items(list).iter().enumerate() {
            let text = item.text(key);
            if !seen.insert(text) {
                out.push(format!("{at}.{list}[{i}].{key}: duplicate {key} {text:?}"));
            }
        }
    }
    for (i, secret) in spec.items("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            out.push(format!("{at}.imagePullSecrets[{i}].name: invalid empty name \"\""));
        }
    }
}

/// Annotations that fields have replaced.
fn profiles(spec: &Value, annotations: &Value, at: &str, out: &mut Vec<String>) {
    if annotations.as_object().is_none_or(serde_json::Map::is_empty) {
        return;
    }
    let path = if at.is_empty() {
        "metadata.annotations".to_string()
    } else {
        format!("{at}.metadata.annotations")
    };
    let mut gone = |key: &str| {
        if annotations.get(key).is_some() {
            out.push(format!(
                "{path}[{key}]: non-functional in v1.27+; use the \"seccompProfile\" field instead"
            ));
        }
    };
    if !spec.has("securityContext.seccompProfile") {
        gone(SECCOMP_POD);
    }
    for list in LISTS {
        for container in spec.items(list) {
            if !container.has("securityContext.seccompProfile") {
                gone(&format!("{SECCOMP_CONTAINER}{}", container.text("name")));
            }
        }
    }
    for container in LISTS.iter().flat_map(|l| spec.items(l)) {
        let key = format!("{APP_ARMOR}{}", container.text("name"));
        let by_field = spec.has("securityContext.appArmorProfile") || container.has("securityContext.appArmorProfile");
        if !by_field && annotations.get(&key).is_some() {
            out.push(format!(
                "{path}[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            ));
        }
    }
}

fn environment(container: &Value, path: &str, out: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (i, var) in container.items("env").iter().enumerate() {
        let name = var.text("name");
        if seen.insert(name) {
            continue;
        }
        // It may build on the one before: `$(NAME):more`.
        let reference = format!("$({name})");
        let value = var.text("value");
        if var.has("valueFrom") || value == reference || !value.contains(&reference) {
            out.push(format!(
                "{path}.env[{i}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

fn ports(spec: &Value, at: &str, out: &mut Vec<String>) {
    let mut numbers: BTreeMap<(i64, &str), Vec<(String, &Value)>> = BTreeMap::new();
    let mut named: BTreeMap<&str, String> = BTreeMap::new();
    let mut names = Vec::new();
    for (path, container) in containers(spec, at) {
        let beside = !path.contains(".initContainers[") || super::container::is_sidecar(container);
        for (i, port) in container.items("ports").iter().enumerate() {
            let path = format!("{path}.ports[{i}]");
            let (ip, host) = (port.text("hostIP"), port.int("hostPort").unwrap_or(0));
            if !ip.is_empty() && host == 0 {
                out.push(format!("{path}: hostIP set without hostPort: {}", as_go(port)));
            }
            let key = (port.int("containerPort").unwrap_or(0), port.text("protocol"));
            let others = numbers.entry(key).or_default();
            for (other, twin) in others.iter() {
                let (other_ip, other_host) = (twin.text("hostIP"), twin.int("hostPort").unwrap_or(0));
                if ip == other_ip && host == other_host {
                    out.push(format!("{path}: duplicate port definition with {other}"));
                } else if host == 0 || other_host == 0 {
                    out.push(format!("{path}: overlapping port definition with {other}"));
                } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                    out.push(format!("{path}: dangerously ambiguous port definition with {other}"));
                }
            }
            others.push((path.clone(), port));
            let name = port.text("name");
            if name.is_empty() || !beside {
                continue;
            }
            match named.get(name) {
                Some(other) => names.push(format!(
                    "{path}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
                )),
                None => drop(named.insert(name, path)),
            }
        }
    }
    out.append(&mut names);
}

/// A port as Go prints the struct.
fn as_go(port: &Value) -> String {
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        port.text("name"),
        port.int("hostPort").unwrap_or(0),
        port.int("containerPort").unwrap_or(0),
        port.text("protocol"),
        port.text("hostIP"),
    )
}
