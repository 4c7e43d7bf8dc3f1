//! Persistent volume claims.

use super::claim;
use super::persistent_volume::{
    ATTRIBUTES, CLASS, CLASS_ANNOTATION, MODE, access_modes, class, class_annotation, phase,
};
use crate::check::{Errors, IMMUTABLE, Path, same};
use crate::contract::Column;
use crate::core::pod::{gather, warnings::claim_size};
use crate::core::resources;
use crate::names;
use crate::quantity::{self, Quantity};
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{Rules, copy};
use crate::tree::{Tree, existing, object};
use serde_json::{Value, json};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Status", "Phase."),
    text("Volume", "Volume it is bound to."),
    text("Capacity", "Size of the volume."),
    text("Access Modes", "How it can be mounted."),
    CLASS,
    ATTRIBUTES,
    AGE,
    MODE,
];

pub(super) static STRATEGY: Rules = Rules {
    default: |o| {
        let Some(spec) = object(o, "spec") else { return };
        claim::default_spec(spec);
        data_source(spec);
    },
    prepare_create: |o| {
        if o.is_object() {
            o["status"] = json!({"phase": "Pending"});
        }
    },
    validate: |o| gather(|errors| claim::spec(o.at("spec"), &Path::new("spec"), errors)),
    validate_update: |sub, new, old| {
        gather(|errors| match sub {
            "" => update(new, old, errors),
            "status" => status(new, errors),
            _ => {}
        })
    },
    warnings: |o| {
        let mut out = Vec::new();
        class_annotation(o, &mut out);
        claim_size(o.at("spec"), "spec", &mut out);
        out
    },
    row,
    ..Rules::STATUS
};

fn row(o: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let bound = !o.text("spec.volumeName").is_empty();
    let (modes, capacity) = if bound {
        (
            access_modes(o.items("status.accessModes")),
            cell::text_or(o, "status.capacity.storage", "0"),
        )
    } else {
        ("".into(), "".into())
    };
    vec![
        cell::name(o),
        phase(o),
        cell::text(o, "spec.volumeName"),
        capacity,
        modes,
        class(o),
        cell::text_or(o, "spec.volumeAttributesClassName", "<unset>"),
        cell::age(o, now),
        cell::text_or(o, "spec.volumeMode", "<unset>"),
    ]
}

/// `dataSource` and `dataSourceRef` mirror each other within a namespace.
fn data_source(spec: &mut Value) {
    let (old, new) = (spec.at("dataSource").clone(), spec.at("dataSourceRef").clone());
    if old.is_object() && new.is_null() {
        spec["dataSourceRef"] = old;
    } else if new.is_object() && old.is_null() && new.text("namespace").is_empty() {
        spec["dataSource"] = new;
    }
}

const CHANGED: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let mut rest = new.at("spec").clone();
    let before = old.at("spec");
    // Binding writes the name once.
    if before.text("volumeName").is_empty() {
        copy(&mut rest, before, "volumeName");
    }
    storage_class(&mut rest, new, old, errors);
    if new.text("status.phase") == "Bound" {
        if let Some(requests) = existing(&mut rest, "resources").and_then(|r| existing(r, "requests")) {
            copy(requests, before.at("resources.requests"), "storage");
        }
        if rest.has("volumeAttributesClassName") {
            copy(&mut rest, before, "volumeAttributesClassName");
        }
    }
    if !same(&rest, before) {
        errors.forbidden(&Path::new("spec"), CHANGED);
    }
    let size = |o: &Value, path: &str| {
        let amount = o.at(path).get("storage").and_then(quantity::parse);
        amount.unwrap_or(Quantity::ZERO)
    };
    let asked = size(new, "spec.resources.requests");
    // What failed to grow may ask for less again, but not for less than it has.
    if asked < size(old, "spec.resources.requests") && asked <= size(old, "status.capacity") {
        errors.forbidden(
            &Path::new("spec.resources.requests.storage"),
            "field can not be less than status.capacity",
        );
    }
    if !same(new.at("spec.volumeMode"), old.at("spec.volumeMode")) {
        errors.invalid(&Path::new("volumeMode"), new.at("spec.volumeMode").clone(), IMMUTABLE);
    }
    if before.has("volumeAttributesClassName") {
        let at = Path::new("spec.volumeAttributesClassName");
        match new.at("spec.volumeAttributesClassName").as_str() {
            None => errors.forbidden(&at, "update from non-nil value to nil is forbidden"),
            Some("") if !before.text("volumeAttributesClassName").is_empty() => {
                errors.forbidden(&at, "update from non-nil value to an empty string is forbidden");
            }
            Some(_) => {}
        }
    }
}

/// A claim without a class may be given one, and one with the old annotation the
/// field that says the same.
fn storage_class(rest: &mut Value, new: &Value, old: &Value, errors: &mut Errors) {
    let annotation = |o: &Value| {
        let value = o.at("metadata.annotations").get(CLASS_ANNOTATION);
        value.and_then(Value::as_str).map(str::to_string)
    };
    let (was, is) = (annotation(old), annotation(new));
    let class = new.at("spec.storageClassName").as_str();
    let unset = !old.has("spec.storageClassName");
    let upgraded = unset && was.is_some() && class == was.as_deref() && (is.is_none() || is == was);
    if upgraded {
        copy(rest, old.at("spec"), "storageClassName");
        return;
    }
    if is != was {
        let at = format!("metadata.annotations.{CLASS_ANNOTATION}");
        errors.invalid(&Path::new(&at), is.unwrap_or_default(), IMMUTABLE);
    }
    if unset && class.is_some() && (was.is_none() || class == was.as_deref()) {
        copy(rest, old.at("spec"), "storageClassName");
    }
}

const RESIZE_STATES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

fn status(new: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let capacity = path.of("capacity");
    for (name, amount) in new.map("status.capacity").into_iter().flatten() {
        not_negative(amount, &capacity.key(name), errors);
    }
    let at = path.of("allocatedResourceStatus");
    for (name, state) in new.map("status.allocatedResourceStatuses").into_iter().flatten() {
        resource_key(name, &at, errors);
        if !RESIZE_STATES.contains(&state.as_str().unwrap_or("")) {
            errors.not_supported(&at, name, RESIZE_STATES);
        }
    }
    let at = path.of("allocatedResources");
    for (name, amount) in new.map("status.allocatedResources").into_iter().flatten() {
        if resource_key(name, &at, errors) {
            not_negative(amount, &at.key(name), errors);
        }
    }
}

fn not_negative(amount: &Value, path: &Path, errors: &mut Errors) {
    if let Some(n) = quantity::parse(amount).filter(|n| n.value() < 0) {
        errors.invalid(path, n.value(), "must be a valid resource quantity");
    }
}

/// Of Kubernetes' own resources a claim has storage only.
fn resource_key(name: &str, path: &Path, errors: &mut Errors) -> bool {
    let faults = names::qualified_name(name);
    let fine = faults.is_empty();
    errors.all(path, name, faults);
    if fine && name != "storage" && !resources::is_extended(name) {
        errors.not_supported(path, name, &["storage"]);
        return false;
    }
    fine
}
