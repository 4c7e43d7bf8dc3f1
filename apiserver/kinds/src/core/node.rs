//! Nodes.

use crate::check::Path;
use crate::contract::Column;
use crate::core::pod::gather;
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
    validate_update: |sub, new, old| {
        gather(|errors| {
            let before = old.text("spec.providerID");
            if sub.is_empty() && !before.is_empty() && new.text("spec.providerID") != before {
                errors.forbidden(
                    &Path::new("spec.providerID"),
                    "node updates may not change providerID except from \"\" to valid",
                );
            }
            if sub.is_empty()
                && !old.items("spec.podCIDRs").is_empty()
                && new.at("spec.podCIDRs") != old.at("spec.podCIDRs")
            {
                errors.forbidden(
                    &Path::new("spec.podCIDRs"),
                    "node updates may not change podCIDR except from \"\" to valid",
                );
            }
        })
    },
    row,
    fields: |o| vec![("spec.unschedulable", o.flag("spec.unschedulable").to_string())],
    field_names: &["spec.unschedulable"],
    ..Rules::STATUS_AT_CREATION
};

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec.taints");
        let mut seen = BTreeSet::new();
        for (i, taint) in o.items("spec.taints").iter().enumerate() {
            let path = path.at(i);
            let key = taint.text("key");
            errors.all(&path.of("key"), key, names::qualified_name(key));
            errors.all(
                &path.of("value"),
                taint.text("value"),
                names::label_value(taint.text("value")),
            );
            errors.choice(taint, &path, "effect", &["NoExecute", "NoSchedule", "PreferNoSchedule"]);
            if !seen.insert((key, taint.text("effect"))) {
                errors.duplicate(&path, taint.clone());
            }
        }
        for (i, cidr) in o.items("spec.podCIDRs").iter().enumerate() {
            let cidr = cidr.as_str().unwrap_or("");
            if !names::is_cidr(cidr) {
                errors.invalid(&Path::new("spec.podCIDRs").at(i), cidr, names::NOT_A_CIDR);
            }
        }
    })
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
