//! Storage classes and volume attributes classes.

use crate::check::{Errors, Path, same};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, boolean, cell, text};
use crate::rules::Rules;
use crate::tree::{Tree, set_text};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// How many parameters a class may have, and how large they may be together.
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

pub(crate) const STORAGE_COLUMNS: &[Column] = &[
    NAME,
    text("Provisioner", "Who makes the volumes."),
    text("ReclaimPolicy", "What becomes of a volume when its claim goes."),
    text("VolumeBindingMode", "When claims are bound."),
    boolean("AllowVolumeExpansion", "Whether volumes can grow."),
    AGE,
];

pub(crate) static STORAGE: Rules = Rules {
    default: |o| {
        set_text(o, "reclaimPolicy", "Delete");
        set_text(o, "volumeBindingMode", "Immediate");
    },
    validate: |o| {
        gather(|errors| {
            provisioner(o.text("provisioner"), &Path::new("provisioner"), errors);
            parameters(o.map("parameters"), true, errors);
            let choices = [
                ("reclaimPolicy", ["Delete", "Retain"]),
                ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"]),
            ];
            for (key, allowed) in choices {
                let value = o.text(key);
                if !allowed.contains(&value) {
                    errors.not_supported(&Path::new(key), value, &allowed);
                }
            }
            topologies(o.items("allowedTopologies"), errors);
        })
    },
    validate_update: |_, new, old| {
        gather(|errors| {
            unchanged(new, old, &["parameters", "provisioner", "reclaimPolicy"], errors);
            errors.immutable(new, old, "volumeBindingMode");
        })
    },
    row: |o, now| {
        vec![
            name(o, "storageclass.kubernetes.io/is-default-class"),
            cell::text(o, "provisioner"),
            cell::text_or(o, "reclaimPolicy", "Delete"),
            cell::text_or(o, "volumeBindingMode", "Immediate"),
            o.flag("allowVolumeExpansion").into(),
            cell::age(o, now),
        ]
    },
    ..Rules::BASE
};

pub(crate) const ATTRIBUTES_COLUMNS: &[Column] = &[NAME, text("DriverName", "Driver."), AGE];

pub(crate) static ATTRIBUTES: Rules = Rules {
    validate: |o| {
        gather(|errors| {
            provisioner(o.text("driverName"), &Path::new("driverName"), errors);
            parameters(o.map("parameters"), false, errors);
        })
    },
    validate_update: |_, new, old| gather(|errors| unchanged(new, old, &["driverName", "parameters"], errors)),
    row: |o, now| {
        vec![
            name(o, "volumeattributesclass.alpha.kubernetes.io/is-default-class"),
            cell::text(o, "driverName"),
            cell::age(o, now),
        ]
    },
    ..Rules::BASE
};

/// The name, marked if the annotation says that the class is the default one.
fn name(o: &Value, annotation: &str) -> Value {
    let is_default = o
        .at("metadata.annotations")
        .get(annotation)
        .is_some_and(|v| v == "true");
    let mark = if is_default { " (default)" } else { "" };
    format!("{}{mark}", o.text("metadata.name")).into()
}

fn unchanged(new: &Value, old: &Value, keys: &[&str], errors: &mut Errors) {
    for key in keys {
        if !same(new.at(key), old.at(key)) {
            errors.forbidden(&Path::new(key), &format!("updates to {key} are forbidden."));
        }
    }
}

fn provisioner(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let lower = name.to_lowercase();
    errors.all(path, &lower, names::qualified_name(&lower));
}

fn parameters(parameters: Option<&Map<String, Value>>, may_be_empty: bool, errors: &mut Errors) {
    let path = Path::new("parameters");
    let count = parameters.map_or(0, Map::len);
    if count > PARAMETERS_MAX {
        return errors.too_long(&path, PARAMETERS_MAX);
    }
    let mut bytes = 0;
    for (key, value) in parameters.into_iter().flatten() {
        if key.is_empty() {
            errors.invalid(&path, "", "field can not be empty.");
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > PARAMETERS_BYTES_MAX {
        errors.too_long(&path, PARAMETERS_BYTES_MAX);
    }
    if count == 0 && !may_be_empty {
        errors.required(&path, "must contain at least one key/value pair");
    }
}

fn topologies(terms: &[Value], errors: &mut Errors) {
    let list = Path::new("allowedTopologies");
    let mut seen: BTreeSet<BTreeMap<&str, BTreeSet<&str>>> = BTreeSet::new();
    for (i, term) in terms.iter().enumerate() {
        let path = list.at(i);
        let at = path.of("matchLabelExpressions");
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (j, expression) in term.items("matchLabelExpressions").iter().enumerate() {
            let path = at.at(j);
            let (key, values_at) = (expression.text("key"), path.of("values"));
            let mut values = BTreeSet::new();
            if expression.items("values").is_empty() {
                errors.required(&values_at, "");
            }
            for (k, value) in expression.items("values").iter().enumerate() {
                let value = value.as_str().unwrap_or("");
                if !values.insert(value) {
                    errors.duplicate(&values_at.at(k), value);
                }
            }
            errors.all(&path.of("key"), key, names::qualified_name(key));
            if labels.insert(key, values).is_some() {
                errors.duplicate(&path.of("key"), key);
            }
        }
        // A term without labels says as much as no term.
        if labels.is_empty() || !seen.insert(labels) {
            errors.duplicate(&at, "");
        }
    }
}
