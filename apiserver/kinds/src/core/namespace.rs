//! Namespaces.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{NameRule, Rules, copy};
use crate::tree::{Tree, object};
use crate::{meta, names};
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
    validate_create: |o| {
        gather(|errors| {
            let path = Path::new("spec.finalizers");
            for finalizer in o.items("spec.finalizers").iter().filter_map(Value::as_str) {
                spec_finalizer(finalizer, &path, errors);
            }
        })
    },
    validate_update: |sub, new, _| {
        gather(|errors| match sub {
            "status" => phase(new, errors),
            "finalize" => {
                let list = Path::new("spec.finalizers");
                for (i, finalizer) in new.items("spec.finalizers").iter().enumerate() {
                    spec_finalizer(finalizer.as_str().unwrap_or(""), &list.at(i), errors);
                }
            }
            _ => {}
        })
    },
    row: |o, now| vec![cell::name(o), cell::text(o, "status.phase"), cell::age(o, now)],
    fields: |o| vec![("status.phase", o.text("status.phase").into())],
    field_names: &["status.phase"],
    ..Rules::STATUS
};

fn spec_finalizer(name: &str, path: &Path, errors: &mut Errors) {
    errors.all(path, name, names::qualified_name(name));
    meta::standard_finalizer(name, path, errors);
}

/// The phase follows the deletion, not the writer.
fn phase(o: &Value, errors: &mut Errors) {
    let phase = o.text("status.phase");
    let (wanted, text) = if o.has("metadata.deletionTimestamp") {
        (
            "Terminating",
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        )
    } else {
        ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
    };
    if phase != wanted {
        errors.invalid(&Path::new("status.Phase"), phase, text);
    }
}

fn copy_finalizers(new: &mut Value, old: &Value) {
    if let Some(spec) = object(new, "spec") {
        copy(spec, old.at("spec"), "finalizers");
    }
}
