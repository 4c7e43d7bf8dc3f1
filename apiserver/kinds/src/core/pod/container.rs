//! Checks of containers: names, images, ports, restarts, and what differs between
//! the three lists.

use super::probe::{self, OfPod, PROBES};
use super::{env, mounts, security};
use crate::check::{Errors, Path};
use crate::core::resources;
use crate::names;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use super::probe::port_or_name;

/// Valid volumes of the pod by name.
pub(crate) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

/// The lists of containers, in upstream's order of visiting.
pub(crate) const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

/// What containers need to know of their pod.
pub(super) struct Context<'a> {
    pub volumes: Volumes<'a>,
    pub claims: BTreeSet<&'a str>,
    pub pod: OfPod<'a>,
    pub restart_policy: &'a str,
    pub host_users: bool,
}

pub(super) fn all(spec: &Value, path: &Path, context: &Context, errors: &mut Errors) {
    regular(spec, &path.of("containers"), context, errors);
    init(spec, &path.of("initContainers"), context, errors);
    ephemeral(spec, &path.of("ephemeralContainers"), context, errors);
}

fn regular(spec: &Value, list: &Path, context: &Context, errors: &mut Errors) {
    if spec.items("containers").is_empty() {
        errors.required(list, "");
        return;
    }
    let mut names = BTreeSet::new();
    for (i, container) in spec.items("containers").iter().enumerate() {
        let path = list.at(i);
        common(container, &path, context, errors);
        if !names.insert(container.text("name")) {
            errors.duplicate(&path.of("name"), container.text("name"));
        }
        probe::all(container, &path, context.pod, errors);
        restarts(container, &path, errors);
    }
    let mut host_ports = BTreeSet::new();
    for (i, container) in spec.items("containers").iter().enumerate() {
        conflicts(
            container.items("ports"),
            &list.at(i).of("ports"),
            &mut host_ports,
            errors,
        );
    }
}

fn init(spec: &Value, list: &Path, context: &Context, errors: &mut Errors) {
    let mut names: BTreeSet<&str> = spec.items("containers").iter().map(|c| c.text("name")).collect();
    for (i, container) in spec.items("initContainers").iter().enumerate() {
        let path = list.at(i);
        common(container, &path, context, errors);
        restarts(container, &path, errors);
        let name = container.text("name");
        if !name.is_empty() && !names.insert(name) {
            errors.duplicate(&path.of("name"), name);
        }
        // They run one by one, so each conflicts with itself only.
        conflicts(
            container.items("ports"),
            &path.of("ports"),
            &mut BTreeSet::new(),
            errors,
        );
        if is_sidecar(container) {
            probe::all(container, &path, context.pod, errors);
            continue;
        }
        for key in ["lifecycle"].into_iter().chain(PROBES) {
            if container.has(key) {
                errors.forbidden(
                    &path.of(key),
                    "may not be set for init containers without restartPolicy=Always",
                );
            }
        }
    }
}

/// An init container that keeps running beside the others.
pub(crate) fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

const NOT_EPHEMERAL: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

fn ephemeral(spec: &Value, list: &Path, context: &Context, errors: &mut Errors) {
    const FORBIDDEN: &str = "cannot be set for an Ephemeral Container";
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|l| spec.items(l))
        .map(|c| c.text("name"))
        .collect();
    let mut names = others.clone();
    for (i, container) in spec.items("ephemeralContainers").iter().enumerate() {
        let path = list.at(i);
        common(container, &path, context, errors);
        trimmed_image(container, &path, errors);
        if !names.insert(container.text("name")) {
            errors.duplicate(&path.of("name"), container.text("name"));
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&path.of("targetContainerName"), target);
        }
        for key in NOT_EPHEMERAL {
            let value = container.at(key);
            let empty = value.is_null()
                || value.as_object().is_some_and(serde_json::Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty);
            if !empty {
                errors.forbidden(&path.of(key), FORBIDDEN);
            }
        }
        let mounts = path.of("volumeMounts");
        for (j, mount) in container.items("volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"] {
                if !mount.text(key).is_empty() {
                    errors.forbidden(&mounts.at(j).of(key), FORBIDDEN);
                }
            }
        }
    }
}

/// Images of real pods have no spaces around them; templates may.
pub(super) fn trimmed_image(container: &Value, path: &Path, errors: &mut Errors) {
    let image = container.text("image");
    if image.trim() != image {
        errors.invalid(&path.of("image"), image, "must not have leading or trailing whitespace");
    }
}

fn common(container: &Value, path: &Path, context: &Context, errors: &mut Errors) {
    let name = container.text("name");
    if name.is_empty() {
        errors.required(&path.of("name"), "");
    } else {
        errors.all(&path.of("name"), name, names::dns_label(name));
    }
    errors.text_required(container, path, "image");
    errors.choice(
        container,
        path,
        "terminationMessagePolicy",
        &["File", "FallbackToLogsOnError"],
    );
    ports(container.items("ports"), &path.of("ports"), errors);
    env::check(container, path, errors);
    mounts::check(container, path, &context.volumes, errors);
    errors.choice(container, path, "imagePullPolicy", PULL_POLICIES);
    resources::requirements(
        container.at("resources"),
        resources::Of::Container,
        &context.claims,
        &path.of("resources"),
        errors,
    );
    resize_policy(
        container.items("resizePolicy"),
        &path.of("resizePolicy"),
        context,
        errors,
    );
    security::of_container(
        container.at("securityContext"),
        context.host_users,
        &path.of("securityContext"),
        errors,
    );
}

fn ports(ports: &[Value], path: &Path, errors: &mut Errors) {
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
        if let Some(host) = port.int("hostPort").filter(|p| *p != 0) {
            errors.port(&path.of("hostPort"), host);
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

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

/// A container's own restart policy and its rules.
fn restarts(container: &Value, path: &Path, errors: &mut Errors) {
    errors.optional_choice(container, path, "restartPolicy", &["Always", "Never", "OnFailure"]);
    let rules = container.items("restartPolicyRules");
    if rules.is_empty() {
        return;
    }
    if container.text("restartPolicy").is_empty() {
        errors.required(
            &path.of("restartPolicy"),
            "must specify restartPolicy when restart rules are used",
        );
    }
    let list = path.of("restartPolicyRules");
    if rules.len() > RULES_MAX {
        errors.too_many(&list, rules.len(), RULES_MAX);
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = list.at(i);
        let action = rule.text("action");
        if !matches!(action, "Restart" | "RestartAllContainers") {
            errors.not_supported(&path.of("action"), action, &["Restart", "RestartAllContainers"]);
        }
        let at = path.of("exitCodes");
        let codes = rule.at("exitCodes");
        if codes.is_null() {
            errors.required(&at, "must be specified");
            continue;
        }
        let operator = codes.text("operator");
        if !matches!(operator, "In" | "NotIn") {
            errors.not_supported(&at.of("operator"), operator, &["In", "NotIn"]);
        }
        let count = codes.items("values").len();
        if count > EXIT_CODES_MAX {
            errors.too_many(&at.of("values"), count, EXIT_CODES_MAX);
        }
    }
}

fn resize_policy(policies: &[Value], path: &Path, context: &Context, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, policy) in policies.iter().enumerate() {
        let (resource, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if !seen.insert(resource) {
            errors.duplicate(&path.at(i), resource);
        }
        match resource {
            "cpu" | "memory" => {}
            "" => errors.required(path, ""),
            other => errors.not_supported(path, other, &["cpu", "memory"]),
        }
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.required(path, ""),
            other => errors.not_supported(path, other, &["NotRequired", "RestartContainer"]),
        }
        if context.restart_policy == "Never" && restart != "NotRequired" {
            errors.invalid(path, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}
