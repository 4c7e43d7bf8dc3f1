//! Checks of a pod spec, in pods and in templates.

use super::{container, scheduling, volume};
use crate::check::{Errors, Path};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeSet;

/// Where the spec stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Pod,
    Template,
}

const DNS_POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];

pub(crate) fn spec(spec: &Value, path: &Path, of: Of, errors: &mut Errors) {
    let volumes = volume::all(spec.items("volumes"), &path.of("volumes"), errors);
    container::all(spec, path, &volumes, errors);
    errors.choice(spec, path, "restartPolicy", RESTART_POLICIES);
    errors.choice(spec, path, "dnsPolicy", DNS_POLICIES);
    errors.optional_choice(spec, path, "preemptionPolicy", &["Never", "PreemptLowerPriority"]);
    if let Some(n) = spec
        .int("activeDeadlineSeconds")
        .filter(|n| !(1..=i64::from(i32::MAX)).contains(n))
    {
        errors.invalid(
            &path.of("activeDeadlineSeconds"),
            n,
            "must be between 1 and 2147483647, inclusive",
        );
    }
    identity(spec, path, errors);
    crate::meta::labels(spec.at("nodeSelector"), &path.of("nodeSelector"), errors);
    scheduling::tolerations(spec.items("tolerations"), &path.of("tolerations"), errors);
    scheduling::affinity(spec.at("affinity"), &path.of("affinity"), errors);
    let spread = path.of("topologySpreadConstraints");
    scheduling::topology_spread(spec.items("topologySpreadConstraints"), &spread, errors);
    scheduling::gates(spec.items("schedulingGates"), &path.of("schedulingGates"), errors);
    for (i, gate) in spec.items("readinessGates").iter().enumerate() {
        let kind = gate.text("conditionType");
        errors.all(
            &path.of("readinessGates").at(i).of("conditionType"),
            kind,
            names::qualified_name(kind),
        );
    }
    security(spec, path, errors);
    dns(spec, path, errors);
    if of == Of::Pod && !spec.text("nodeName").is_empty() && !spec.items("schedulingGates").is_empty() {
        errors.forbidden(
            &path.of("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        );
    }
}

fn identity(spec: &Value, path: &Path, errors: &mut Errors) {
    errors.name_at(spec, path, "serviceAccountName", names::dns_subdomain);
    errors.name_at(spec, path, "nodeName", names::dns_subdomain);
    errors.name_at(spec, path, "hostname", names::dns_label);
    errors.name_at(spec, path, "subdomain", names::dns_label);
    errors.name_at(spec, path, "priorityClassName", names::dns_subdomain);
    errors.name_at(spec, path, "runtimeClassName", names::dns_subdomain);
    errors.name_at(spec, path, "schedulerName", names::qualified_name);
    if let Some(os) = spec.get("os") {
        errors.choice(os, &path.of("os"), "name", &["linux", "windows"]);
    }
    let secrets = path.of("imagePullSecrets");
    for (i, secret) in spec.items("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            errors.required(&secrets.at(i).of("name"), "");
        }
    }
    let aliases = path.of("hostAliases");
    for (i, alias) in spec.items("hostAliases").iter().enumerate() {
        let path = aliases.at(i);
        let ip = alias.text("ip");
        if !names::is_ip(ip) {
            errors.invalid(&path.of("ip"), ip, names::NOT_AN_IP);
        }
        let hosts = path.of("hostnames");
        for (j, host) in alias.items("hostnames").iter().enumerate() {
            let host = host.as_str().unwrap_or("");
            errors.all(&hosts.at(j), host, names::dns_subdomain(host));
        }
    }
}

fn security(spec: &Value, path: &Path, errors: &mut Errors) {
    let context = spec.at("securityContext");
    let path = path.of("securityContext");
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        errors.range(context, &path, key, 0, i64::from(i32::MAX));
    }
    for (i, group) in context.items("supplementalGroups").iter().enumerate() {
        if group.as_i64().is_none_or(|g| !(0..=i64::from(i32::MAX)).contains(&g)) {
            errors.invalid(
                &path.of("supplementalGroups").at(i),
                group.clone(),
                "must be between 0 and 2147483647, inclusive",
            );
        }
    }
    errors.optional_choice(context, &path, "fsGroupChangePolicy", &["Always", "OnRootMismatch"]);
    errors.optional_choice(context, &path, "supplementalGroupsPolicy", &["Merge", "Strict"]);
    if spec.flag("hostPID") && spec.flag("shareProcessNamespace") {
        errors.invalid(
            &path.of("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    let mut seen = BTreeSet::new();
    for (i, sysctl) in context.items("sysctls").iter().enumerate() {
        let path = path.of("sysctls");
        let path = path.at(i);
        let name = sysctl.text("name");
        let part = |p: &str| {
            let b = p.as_bytes();
            let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
            !b.is_empty()
                && edge(b[0])
                && edge(b[b.len() - 1])
                && b.iter().all(|&c| edge(c) || matches!(c, b'-' | b'_'))
        };
        if name.is_empty() {
            errors.required(&path.of("name"), "");
        } else if name.len() > names::SUBDOMAIN_MAX || !name.split(['.', '/']).all(part) {
            let text = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&path.of("name"), name, text);
        } else if !seen.insert(name) {
            errors.duplicate(&path.of("name"), name);
        }
    }
    seccomp(context, &path, errors);
}

pub(super) fn seccomp(context: &Value, path: &Path, errors: &mut Errors) {
    for key in ["seccompProfile", "appArmorProfile"] {
        let Some(profile) = context.get(key).filter(|p| p.is_object()) else {
            continue;
        };
        let path = path.of(key);
        errors.choice(profile, &path, "type", &["Localhost", "RuntimeDefault", "Unconfined"]);
        let local = profile.text("localhostProfile");
        match (profile.text("type"), local.is_empty()) {
            ("Localhost", true) => errors.required(
                &path.of("localhostProfile"),
                &format!("must be set when {key} type is Localhost"),
            ),
            (kind, false) if kind != "Localhost" => {
                errors.invalid(
                    &path.of("localhostProfile"),
                    local,
                    "can only be set when type is Localhost",
                );
            }
            _ => {}
        }
    }
}

fn dns(spec: &Value, path: &Path, errors: &mut Errors) {
    let config = spec.at("dnsConfig");
    let at = path.of("dnsConfig");
    let servers = config.items("nameservers");
    if spec.text("dnsPolicy") == "None" {
        if config.is_null() {
            errors.required(&at, "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if servers.is_empty() {
            errors.required(
                &at.of("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
        }
    }
    if servers.len() > 3 {
        errors.invalid(
            &at.of("nameservers"),
            servers.to_vec(),
            "must not have more than 3 nameservers",
        );
    }
    for (i, server) in servers.iter().enumerate() {
        let text = server.as_str().unwrap_or("");
        if !names::is_ip(text) {
            errors.invalid(&at.of("nameservers").at(i), text, names::NOT_AN_IP);
        }
    }
    let searches = config.items("searches");
    if searches.len() > 32 {
        errors.invalid(
            &at.of("searches"),
            searches.to_vec(),
            "must not have more than 32 search paths",
        );
    }
    for (i, search) in searches.iter().enumerate() {
        let text = search.as_str().unwrap_or("");
        if text != "." {
            // Underscores are common in search paths, and a trailing dot is fine.
            let plain = text.strip_suffix('.').unwrap_or(text).replace('_', "-");
            errors.all(
                &at.of("searches").at(i),
                text,
                names::dns_subdomain(plain.trim_start_matches('-')),
            );
        }
    }
    for (i, option) in config.items("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(&at.of("options").at(i), "must not be empty");
        }
    }
}
