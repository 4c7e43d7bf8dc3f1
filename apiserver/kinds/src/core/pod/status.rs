//! What a pod's status may say, and how containers' states may change.

use super::container;
use crate::check::{Errors, Path};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeSet;

/// Statuses of containers, each with where their specs are.
const STATUSES: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

pub(super) fn check(new: &Value, old: &Value, errors: &mut Errors) {
    conditions(new, errors);
    let path = Path::new("status");
    let nominated = new.text("status.nominatedNodeName");
    if nominated != old.text("status.nominatedNodeName") {
        errors.name_at(new.at("status"), &path, "nominatedNodeName", names::dns_subdomain);
    }
    if new.text("status.qosClass") != old.text("status.qosClass") {
        errors.invalid(
            &path.of("qosClass"),
            new.text("status.qosClass"),
            crate::check::IMMUTABLE,
        );
    }
    for (list, specs) in STATUSES {
        transitions(new, old, list, specs, errors);
    }
    claims(new, &path.of("resourceClaimStatuses"), errors);
    addresses(new.items("status.podIPs"), &path.of("podIPs"), errors);
    host_addresses(new, &path, errors);
    for (list, specs) in STATUSES {
        let at = path.of(list);
        for (i, status) in new.at("status").items(list).iter().enumerate() {
            user(new, status, &at.at(i), errors);
            devices(new.at("spec").items(specs), list, status, &at.at(i), errors);
        }
    }
}

fn conditions(pod: &Value, errors: &mut Errors) {
    let list = Path::new("metadata.conditions");
    for (i, condition) in pod.items("status.conditions").iter().enumerate() {
        let kind = condition.text("type");
        errors.all(&list.at(i).of("Type"), kind, names::qualified_name(kind));
        if condition.int("observedGeneration").is_some_and(|g| g < 0) {
            errors.invalid(
                &list.at(i).of("observedGeneration"),
                condition.at("observedGeneration").clone(),
                "must be greater than or equal to 0",
            );
        }
    }
}

/// Whether some container's rules restart all of the pod's.
fn restarts_all(pod: &Value) -> bool {
    let lists = ["spec.initContainers", "spec.containers"].into_iter();
    let mut rules = lists
        .flat_map(|list| pod.items(list))
        .flat_map(|container| container.items("restartPolicyRules"));
    rules.any(|rule| rule.text("action") == "RestartAllContainers")
}

/// A container that ended for good stays ended.
fn transitions(new: &Value, old: &Value, list: &str, specs: &str, errors: &mut Errors) {
    let pod_policy = if specs == "ephemeralContainers" {
        "Never"
    } else {
        old.text("spec.restartPolicy")
    };
    // Where one container's end begins all anew, no end is for good; but ephemeral ones stay.
    if specs != "ephemeralContainers" && restarts_all(old) {
        return;
    }
    let path = Path::new("status");
    let at = path.of(list);
    for (i, was) in old.at("status").items(list).iter().enumerate() {
        let ended = was.at("state.terminated");
        if ended.is_null() {
            continue;
        }
        let name = was.text("name");
        let spec = old.at("spec").items(specs).iter().find(|c| c.text("name") == name);
        let own = spec.map_or("", |c| c.text("restartPolicy"));
        let ruled = spec.is_some_and(|c| !c.items("restartPolicyRules").is_empty());
        let policy = if own.is_empty() { pod_policy } else { own };
        let may_restart = policy == "Always"
            || ruled
            || (policy == "OnFailure" && ended.int("exitCode").unwrap_or(0) != 0)
            || spec.is_some_and(|c| specs == "initContainers" && container::is_sidecar(c));
        if may_restart {
            continue;
        }
        let revived = new
            .at("status")
            .items(list)
            .iter()
            .filter(|s| s.text("name") == name && s.at("state.terminated").is_null());
        for _ in revived {
            errors.forbidden(&at.at(i).of("state"), "may not be transitioned to non-terminated state");
        }
    }
}

fn claims(pod: &Value, list: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, status) in pod.items("status.resourceClaimStatuses").iter().enumerate() {
        let item = list.at(i);
        let path = item.of("name");
        let name = status.text("name");
        let known = pod.items("spec.resourceClaims").iter().any(|c| c.text("name") == name);
        if !known {
            errors.invalid(&path, name, "must match the name of an entry in `spec.resourceClaims`");
        }
        if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
        if let Some(claim) = status.get("resourceClaimName").and_then(Value::as_str) {
            errors.all(&path, claim, names::dns_subdomain(claim));
        }
    }
}

/// Addresses of a pod or its host: valid, of both families at most once.
fn addresses(addresses: &[Value], list: &Path, errors: &mut Errors) {
    let ips: Vec<&str> = addresses.iter().map(|a| a.text("ip")).collect();
    for (i, ip) in ips.iter().enumerate() {
        errors.all(&list.at(i), ip, names::ip(ip));
    }
    if ips.len() < 2 {
        return;
    }
    if ips.len() > 2 || !names::is_dual_stack(&ips) {
        errors.invalid(
            list,
            addresses.to_vec(),
            "may specify no more than one IP for each IP family",
        );
    }
    let mut seen = BTreeSet::new();
    for (i, ip) in ips.iter().enumerate() {
        if !seen.insert(ip) {
            errors.duplicate(&list.at(i), addresses[i].clone());
        }
    }
}

fn host_addresses(pod: &Value, path: &Path, errors: &mut Errors) {
    let ips = pod.items("status.hostIPs");
    let list = path.of("hostIPs");
    let Some(first) = ips.first() else { return };
    if first.text("ip") != pod.text("status.hostIP") {
        errors.invalid(&list.at(0).of("ip"), first.text("ip"), "must be equal to `hostIP`");
    }
    addresses(ips, &list, errors);
}

fn user(pod: &Value, status: &Value, path: &Path, errors: &mut Errors) {
    let Some(linux) = status.at("user").get("linux").filter(|u| u.is_object()) else {
        return;
    };
    let path = path.of("linux");
    if pod.text("spec.os.name") == "windows" {
        errors.forbidden(&path, "cannot be set for a windows pod");
        return;
    }
    const ID_MAX: i64 = i32::MAX as i64;
    for key in ["uid", "gid"] {
        errors.range(linux, &path, key, 0, ID_MAX);
    }
    for (i, group) in linux.items("supplementalGroups").iter().enumerate() {
        if group.as_i64().is_none_or(|g| !(0..=ID_MAX).contains(&g)) {
            errors.invalid(
                &path.of("supplementalGroups").at(i),
                group.clone(),
                "must be between 0 and 2147483647, inclusive",
            );
        }
    }
}

/// The health of devices is reported under a name that the container asked for.
fn devices(specs: &[Value], list: &str, status: &Value, path: &Path, errors: &mut Errors) {
    let reports = status.items("allocatedResourcesStatus");
    let path = path.of("allocatedResourcesStatus");
    if list == "ephemeralContainerStatuses" {
        if !reports.is_empty() {
            errors.forbidden(&path, "must not be specified in container status");
        }
        return;
    }
    let spec = specs.iter().find(|c| c.text("name") == status.text("name"));
    for (i, report) in reports.iter().enumerate() {
        let at = path.at(i);
        if let Some(spec) = spec {
            asked_for(spec, report.text("name"), &at.of("name"), errors);
        }
        let resources = at.of("resources");
        let mut seen = BTreeSet::new();
        for (j, resource) in report.items("resources").iter().enumerate() {
            let at = resources.at(j);
            let health = resource.text("health");
            if !matches!(health, "Healthy" | "Unhealthy" | "Unknown") {
                errors.not_supported(&at.of("health"), health, &["Healthy", "Unhealthy", "Unknown"]);
            }
            let id = resource.text("resourceID");
            if !seen.insert(id) {
                errors.duplicate(&at.of("resourceID"), id);
            }
        }
    }
}

fn asked_for(spec: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let (found, why) = match name.strip_prefix("claim:") {
        Some(wanted) => {
            let found = spec
                .items("resources.claims")
                .iter()
                .any(|c| match (c.text("name"), c.text("request")) {
                    (claim, "") => wanted == claim,
                    (claim, request) => wanted.split_once('/') == Some((claim, request)),
                });
            (
                found,
                "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty",
            )
        }
        None => (
            spec.at("resources.requests").get(name).is_some(),
            "must match one of the container's resource requests",
        ),
    };
    if !found {
        errors.invalid(path, name, why);
    }
}
