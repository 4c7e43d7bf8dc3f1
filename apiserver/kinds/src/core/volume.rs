//! Persistent volumes and claims.

use crate::check::{Errors, Path, same};
use crate::contract::Column;
use crate::core::pod::{container::quantity_at, gather, scheduling, volume_defaults};
use crate::names;
use crate::quantity;
use crate::row::{AGE, NAME, cell, text, wide};
use crate::rules::{Rules, copy};
use crate::tree::{Tree, existing, object, set_default, set_text};
use serde_json::{Value, json};
use skiff_api::FieldError;

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const CLASS: Column = text("StorageClass", "Storage class.");
const ATTRIBUTES: Column = text("VolumeAttributesClass", "Volume attributes class.");
const MODE: Column = wide("VolumeMode", "File system or block device.");

fn access_modes(modes: &[Value]) -> Value {
    let mut short: Vec<&str> = Vec::new();
    for (long, abbreviation) in [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ] {
        if modes.iter().any(|m| m == long) {
            short.push(abbreviation);
        }
    }
    short.join(",").into()
}

fn phase(o: &Value) -> Value {
    if o.has("metadata.deletionTimestamp") {
        "Terminating".into()
    } else {
        cell::text(o, "status.phase")
    }
}

fn check_modes(spec: &Value, path: &Path, errors: &mut Errors) {
    let modes = spec.items("accessModes");
    if modes.is_empty() {
        errors.required(&path.of("accessModes"), "at least 1 access mode is required");
    }
    for mode in modes.iter().filter_map(Value::as_str).filter(|m| !MODES.contains(m)) {
        errors.not_supported(&path.of("accessModes"), mode, MODES);
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        errors.forbidden(
            &path.of("accessModes"),
            "may not use ReadWriteOncePod with other access modes",
        );
    }
    errors.optional_choice(spec, path, "volumeMode", VOLUME_MODES);
}

pub(super) mod persistent_volume {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Capacity", "Size."),
        text("Access Modes", "How it can be mounted."),
        text("Reclaim Policy", "What becomes of it when its claim goes."),
        text("Status", "Phase."),
        text("Claim", "Claim it is bound to."),
        CLASS,
        ATTRIBUTES,
        text("Reason", "Why it is in its phase."),
        AGE,
        MODE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            let Some(spec) = object(o, "spec") else { return };
            set_text(spec, "persistentVolumeReclaimPolicy", "Retain");
            set_text(spec, "volumeMode", "Filesystem");
            volume_defaults::shared_sources(spec);
        },
        prepare_create: |o| {
            if o.is_object() {
                o["status"] = json!({"phase": "Pending"});
            }
        },
        validate,
        validate_update: |sub, new, old| {
            gather(|errors| {
                if !sub.is_empty() {
                    return;
                }
                let source = source_key(old.at("spec"));
                if let Some(key) = source
                    && !same(new.at("spec").at(key), old.at("spec").at(key))
                {
                    errors.forbidden(
                        &Path::new("spec.persistentvolumesource"),
                        "spec.persistentvolumesource is immutable after creation",
                    );
                }
                errors.immutable(new, old, "spec.volumeMode");
                if old.has("spec.nodeAffinity") {
                    errors.immutable(new, old, "spec.nodeAffinity");
                }
            })
        },
        row: |o, now| {
            let claim = o.at("spec.claimRef");
            let claim = if claim.is_object() {
                format!("{}/{}", claim.text("namespace"), claim.text("name"))
            } else {
                String::new()
            };
            vec![
                cell::name(o),
                cell::text(o, "spec.capacity.storage"),
                access_modes(o.items("spec.accessModes")),
                cell::text(o, "spec.persistentVolumeReclaimPolicy"),
                phase(o),
                claim.into(),
                cell::text(o, "spec.storageClassName"),
                cell::text_or(o, "spec.volumeAttributesClassName", "<unset>"),
                cell::text(o, "status.reason"),
                cell::age(o, now),
                cell::text_or(o, "spec.volumeMode", "<unset>"),
            ]
        },
        ..Rules::STATUS
    };

    const PLAIN: [&str; 9] = [
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];

    fn source_key(spec: &Value) -> Option<&str> {
        spec.as_object()?
            .iter()
            .find(|(k, v)| !PLAIN.contains(&k.as_str()) && !v.is_null())
            .map(|(k, _)| k.as_str())
    }

    fn validate(o: &Value) -> Vec<FieldError> {
        gather(|errors| {
            let path = Path::new("spec");
            let spec = o.at("spec");
            check_modes(spec, &path, errors);
            let capacity = path.of("capacity");
            match spec.map("capacity") {
                None => errors.required(&capacity, ""),
                Some(map) if map.is_empty() => errors.required(&capacity, ""),
                Some(map) => {
                    for (name, amount) in map {
                        match quantity::parse(amount) {
                            Some(n) if n.sign() > 0 => {}
                            Some(_) => errors.invalid(&capacity.key(name), amount.clone(), "must be greater than zero"),
                            None => errors.invalid(&capacity.key(name), amount.clone(), quantity::INVALID),
                        }
                    }
                }
            }
            errors.optional_choice(
                spec,
                &path,
                "persistentVolumeReclaimPolicy",
                &["Delete", "Recycle", "Retain"],
            );
            match source_key(spec) {
                None => errors.required(&path, "must specify a volume type"),
                Some("hostPath") => {
                    crate::core::pod::volume::host_path(spec.at("hostPath"), &path.of("hostPath"), errors);
                }
                Some("local") => {
                    errors.text_required(spec.at("local"), &path.of("local"), "path");
                    if !spec.has("nodeAffinity") {
                        errors.required(
                            &Path::new("metadata.annotations"),
                            "Local volume requires node affinity",
                        );
                    }
                }
                Some("csi") => {
                    for key in ["driver", "volumeHandle"] {
                        errors.text_required(spec.at("csi"), &path.of("csi"), key);
                    }
                }
                Some(_) => {}
            }
            if let Some(required) = spec.get("nodeAffinity").and_then(|a| a.get("required")) {
                let at = path.of("nodeAffinity");
                scheduling::node_selector(required, &at.of("required"), errors);
            }
        })
    }
}

pub(super) mod persistent_volume_claim {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
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

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            let Some(spec) = object(o, "spec") else { return };
            set_text(spec, "volumeMode", "Filesystem");
            set_default(spec, "resources", json!({}));
            data_source(spec);
        },
        prepare_create: |o| {
            if o.is_object() {
                o["status"] = json!({"phase": "Pending"});
            }
        },
        validate,
        validate_update: |sub, new, old| {
            gather(|errors| {
                if sub.is_empty() {
                    update(new, old, errors);
                }
            })
        },
        row: |o, now| {
            let bound = !o.text("spec.volumeName").is_empty();
            let modes = if bound {
                access_modes(o.items("status.accessModes"))
            } else {
                "".into()
            };
            let capacity = if bound {
                cell::text(o, "status.capacity.storage")
            } else {
                "".into()
            };
            vec![
                cell::name(o),
                phase(o),
                cell::text(o, "spec.volumeName"),
                capacity,
                modes,
                cell::text(o, "spec.storageClassName"),
                cell::text_or(o, "spec.volumeAttributesClassName", "<unset>"),
                cell::age(o, now),
                cell::text_or(o, "spec.volumeMode", "<unset>"),
            ]
        },
        ..Rules::STATUS
    };

    /// `dataSource` and `dataSourceRef` mirror each other within a namespace.
    fn data_source(spec: &mut Value) {
        let (old, new) = (spec.at("dataSource").clone(), spec.at("dataSourceRef").clone());
        if old.is_object() && new.is_null() {
            spec["dataSourceRef"] = old;
        } else if new.is_object() && old.is_null() && new.text("namespace").is_empty() {
            spec["dataSource"] = new;
        }
    }

    fn validate(o: &Value) -> Vec<FieldError> {
        gather(|errors| {
            let path = Path::new("spec");
            let spec = o.at("spec");
            check_modes(spec, &path, errors);
            let at = path.of("resources");
            let requests = at.of("requests");
            match spec.at("resources.requests").get("storage") {
                None => errors.required(&at.key("storage"), ""),
                Some(amount) => match quantity::parse(amount) {
                    Some(n) if n.is_zero() => {
                        errors.invalid(&requests.key("storage"), amount.clone(), "must be greater than zero")
                    }
                    _ => quantity_at(amount, &requests.key("storage"), errors),
                },
            }
            crate::selector::validate(spec.at("selector"), &path.of("selector"), errors);
            let class = spec.text("storageClassName");
            if !class.is_empty() {
                errors.all(&path.of("storageClassName"), class, names::dns_subdomain(class));
            }
        })
    }

    fn update(new: &Value, old: &Value, errors: &mut Errors) {
        let mut rest = new.at("spec").clone();
        let before = old.at("spec");
        if let Some(resources) = existing(&mut rest, "resources") {
            copy(resources, before.at("resources"), "requests");
        }
        copy(&mut rest, before, "volumeAttributesClassName");
        // Binding writes the name once; a class may be filled in later.
        if before.text("volumeName").is_empty() {
            copy(&mut rest, before, "volumeName");
        }
        if !before.has("storageClassName") {
            copy(&mut rest, before, "storageClassName");
        }
        if !same(&rest, before) {
            errors.forbidden(&Path::new("spec"), "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims");
        }
        let size = |o: &Value| o.at("spec.resources.requests").get("storage").and_then(quantity::parse);
        let status = old.at("status.capacity").get("storage").and_then(quantity::parse);
        match (size(new), size(old)) {
            (Some(n), Some(o)) if n < o && status.is_none_or(|s| n <= s) => {
                errors.forbidden(
                    &Path::new("spec.resources.requests.storage"),
                    "field can not be less than status.capacity",
                );
            }
            (Some(n), Some(o)) if n > o && old.text("status.phase") != "Bound" => {
                errors.forbidden(&Path::new("spec"), "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims");
            }
            _ => {}
        }
    }
}
