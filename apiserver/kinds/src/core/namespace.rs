//! Namespaces.

use crate::contract::Column;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{NameRule, Rules, copy};
use crate::tree::{Tree, object};
use serde_json::{Value, json};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Status", "Active, or Terminating while its content goes."),
    AGE,
];

pub(super) static STRATEGY: Rules = Rules {
    name: NameRule::Label,
    apart: &["finalize"],
    default: |o| {
        // The label by which a namespace can be selected by name.
        let name = o.text("metadata.name").to_string();
        if !name.is_empty()
            && let Some(labels) = object(o, "metadata").and_then(|m| object(m, "labels"))
        {
            labels["kubernetes.io/metadata.name"] = name.into();
        }
    },
    prepare_create: |o| {
        if !o.is_object() {
            return;
        }
        o["status"] = json!({"phase": "Active"});
        if let Some(spec) = object(o, "spec") {
            let mut finalizers = spec.items("finalizers").to_vec();
            if !finalizers.contains(&json!("kubernetes")) {
                finalizers.push("kubernetes".into());
            }
            spec["finalizers"] = finalizers.into();
        }
    },
    prepare_update: |sub, new, old| match sub {
        // Finalizers go through their own subresource only.
        "" => copy_finalizers(new, old),
        "finalize" => copy(new, old, "status"),
        _ => {}
    },
    row: |o, now| vec![cell::name(o), cell::text(o, "status.phase"), cell::age(o, now)],
    fields: |o| vec![("status.phase", o.text("status.phase").into())],
    field_names: &["status.phase"],
    ..Rules::STATUS
};

fn copy_finalizers(new: &mut Value, old: &Value) {
    if let Some(spec) = object(new, "spec") {
        copy(spec, old.at("spec"), "finalizers");
    }
}
