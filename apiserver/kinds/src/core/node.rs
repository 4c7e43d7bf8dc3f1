//! Nodes.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::{gather, scheduling};
use crate::core::resources;
use crate::names;
use crate::row::{AGE, NAME, cell, text, wide};
use crate::rules::Rules;
use crate::tree::{Tree, object, set_default};
use jiff::Timestamp;
use serde_json::Value;
use skiff_api::FieldError;
use std::collections::BTreeSet;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Status", "Whether the node is ready and takes pods."),
    text("Roles", "Roles from the node's labels."),
    AGE,
    text("Version", "Version that the node's agent reports."),
    wide("Internal-IP", "Address inside the cluster."),
    wide("External-IP", "Address outside the cluster."),
    wide("OS-Image", "Operating system."),
    wide("Kernel-Version", "Kernel."),
    wide("Container-Runtime", "Container runtime and its version."),
];

pub(super) static STRATEGY: Rules = Rules {
    default: |o| {
        if let Some(status) = object(o, "status")
            && let Some(capacity) = status.get("capacity").filter(|c| c.is_object()).cloned()
        {
            set_default(status, "allocatable", capacity);
        }
    },
    validate,
    validate_update: |_, new, old| gather(|errors| update(new, old, errors)),
    warnings: |o| {
        let mut out = Vec::new();
        if o.has("spec.configSource") {
            out.push("spec.configSource: the feature is no longer supported".into());
        }
        if !o.text("spec.externalID").is_empty() {
            out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
        }
        out
    },
    row,
    fields: |o| vec![("spec.unschedulable", o.flag("spec.unschedulable").to_string())],
    field_names: &["spec.unschedulable"],
    ..Rules::STATUS_AT_CREATION
};

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        taints(o.items("spec.taints"), errors);
        amounts(o, errors);
        let list = Path::new("spec.podCIDRs");
        let cidrs = o.items("spec.podCIDRs");
        let texts: Vec<&str> = cidrs.iter().map(|c| c.as_str().unwrap_or("")).collect();
        for (i, cidr) in texts.iter().enumerate() {
            errors.all(&list.at(i), cidr, names::cidr(cidr));
        }
        if texts.len() > 1 {
            if texts.len() > 2 || !names::is_dual_stack(&texts) {
                errors.invalid(
                    &list,
                    cidrs.to_vec(),
                    "may specify no more than one CIDR for each IP family",
                );
            }
            let mut seen = BTreeSet::new();
            for (i, cidr) in texts.iter().enumerate() {
                if !seen.insert(cidr) {
                    errors.duplicate(&list.at(i), *cidr);
                }
            }
        }
    })
}

/// Upstream shows taints as if they were metadata.
fn taints(taints: &[Value], errors: &mut Errors) {
    let list = Path::new("metadata.taints");
    let mut seen = BTreeSet::new();
    for (i, taint) in taints.iter().enumerate() {
        let path = list.at(i);
        let key = taint.text("key");
        errors.all(&path.of("key"), key, names::qualified_name(key));
        scheduling::joined(&path.of("value"), taint.text("value"), errors);
        errors.choice(taint, &path, "effect", scheduling::EFFECTS);
        if !seen.insert((key, taint.text("effect"))) {
            errors.duplicate_because(&path, taint.clone(), "taints must be unique by key and effect pair");
        }
    }
}

fn amounts(o: &Value, errors: &mut Errors) {
    for list in ["capacity", "allocatable"] {
        let path = Path::new("status");
        let path = path.of(list);
        for (name, amount) in o.at("status").map(list).into_iter().flatten() {
            resources::amount(name, amount, &path.of(name), errors);
        }
    }
}

fn update(new: &Value, old: &Value, errors: &mut Errors) {
    amounts(new, errors);
    let addresses = new.items("status.addresses");
    let list = Path::new("status.addresses");
    for (i, address) in addresses.iter().enumerate() {
        if addresses[..i].contains(address) {
            errors.duplicate(&list.at(i), address.clone());
        }
    }
    if !old.items("spec.podCIDRs").is_empty() && new.at("spec.podCIDRs") != old.at("spec.podCIDRs") {
        errors.forbidden(
            &Path::new("spec.podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        );
    }
    let before = old.text("spec.providerID");
    if !before.is_empty() && new.text("spec.providerID") != before {
        errors.forbidden(
            &Path::new("spec.providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
    config(new, errors);
    if new.text("spec.externalID") != old.text("spec.externalID") {
        errors.forbidden(&Path::new("spec.externalID"), "may not be updated");
    }
}

/// The configuration that nodes once took from a config map.
fn config(o: &Value, errors: &mut Errors) {
    for (at, stored) in [
        ("spec.configSource", false),
        ("status.config.assigned", true),
        ("status.config.active", true),
        ("status.config.lastKnownGood", true),
    ] {
        let source = o.at(at);
        if source.is_null() {
            continue;
        }
        let path = Path::new(at);
        let map = source.at("configMap");
        if map.is_null() {
            errors.invalid(&path, source.clone(), "exactly one reference subfield must be non-nil");
            continue;
        }
        let path = path.of("configMap");
        for key in ["uid", "resourceVersion"] {
            match (stored, map.text(key).is_empty()) {
                (true, true) => errors.required(&path.of(key), &format!("{key} must be set in status")),
                (false, false) => errors.forbidden(&path.of(key), &format!("{key} must not be set in spec")),
                _ => {}
            }
        }
        let rules: [(&str, fn(&str) -> Vec<String>); 3] = [
            ("namespace", names::dns_label),
            ("name", names::dns_subdomain),
            ("kubeletConfigKey", names::config_key),
        ];
        for (key, rule) in rules {
            if map.text(key).is_empty() {
                errors.required(&path.of(key), &format!("{key} must be set"));
            }
            errors.name_at(map, &path, key, rule);
        }
    }
}

fn roles(o: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in o.map("metadata.labels").into_iter().flatten() {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some("") => {}
            Some(role) => drop(roles.insert(role)),
            None if key == "kubernetes.io/role" => {
                roles.extend(value.as_str().filter(|r| !r.is_empty()));
            }
            None => {}
        }
    }
    if roles.is_empty() {
        "<none>".to_string()
    } else {
        roles.into_iter().collect::<Vec<_>>().join(",")
    }
}

fn row(o: &Value, now: Timestamp) -> Vec<Value> {
    let ready = o.items("status.conditions").iter().find(|c| c.text("type") == "Ready");
    let mut status = match ready.map(|c| c.text("status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_string();
    if o.flag("spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| -> Value {
        let found = o.items("status.addresses").iter().find(|a| a.text("type") == kind);
        found.map_or("<none>", |a| a.text("address")).into()
    };
    let info = |key: &str| cell::text_or(o.at("status.nodeInfo"), key, "<unknown>");
    vec![
        cell::name(o),
        status.into(),
        roles(o).into(),
        cell::age(o, now),
        cell::text(o, "status.nodeInfo.kubeletVersion"),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

/// Why a label of nodes should no longer be used, if so.
pub(crate) fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        _ => return None,
    })
}

/// Warnings of a node selector term; a preference may name values that no label has.
pub(crate) fn term_warnings(term: &Value, values: bool, at: &str, out: &mut Vec<String>) {
    for (i, expression) in term.items("matchExpressions").iter().enumerate() {
        let key = expression.text("key");
        if let Some(why) = deprecated_label(key) {
            out.push(format!("{at}.matchExpressions[{i}].key: {key} is {why}"));
        }
        for (j, value) in expression.items("values").iter().enumerate().filter(|_| values) {
            for fault in names::label_value(value.as_str().unwrap_or("")) {
                out.push(format!("{at}.matchExpressions[{i}].values[{j}]: {fault}"));
            }
        }
    }
}
