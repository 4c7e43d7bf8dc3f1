//! Persistent volumes.

use super::{claim, node, resources, source};
use crate::check::{Errors, IMMUTABLE, Path, same};
use crate::contract::Column;
use crate::core::pod::{gather, scheduling, volume_defaults};
use crate::names;
use crate::quantity;
use crate::row::{AGE, NAME, cell, text, wide};
use crate::rules::Rules;
use crate::tree::{Tree, object, set_text};
use serde_json::{Value, json};
use skiff_api::FieldError;

pub(super) const CLASS: Column = text("StorageClass", "Storage class.");
pub(super) const ATTRIBUTES: Column = text("VolumeAttributesClass", "Volume attributes class.");
pub(super) const MODE: Column = wide("VolumeMode", "File system or block device.");
/// What named the class before there was a field.
pub(super) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) const COLUMNS: &[Column] = &[
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

pub(super) static STRATEGY: Rules = Rules {
    default: |o| {
        let Some(spec) = object(o, "spec") else { return };
        set_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        set_text(spec, "volumeMode", "Filesystem");
        volume_defaults::shared_sources(spec);
    },
    prepare_create: |o| {
        if o.is_object() {
            let mut status = json!({"phase": "Pending"});
            let created = o.at("metadata.creationTimestamp");
            if created.is_string() {
                status["lastPhaseTransitionTime"] = created.clone();
            }
            o["status"] = status;
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
    warnings,
    row,
    ..Rules::STATUS
};

pub(super) fn access_modes(modes: &[Value]) -> Value {
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

pub(super) fn phase(o: &Value) -> Value {
    if o.has("metadata.deletionTimestamp") {
        "Terminating".into()
    } else {
        cell::text(o, "status.phase")
    }
}

/// The class by annotation, or else by field.
pub(super) fn class(o: &Value) -> Value {
    match o.at("metadata.annotations").get(CLASS_ANNOTATION) {
        Some(class) => class.clone(),
        None => cell::text(o, "spec.storageClassName"),
    }
}

fn row(o: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let claim = o.at("spec.claimRef");
    let claim = if claim.is_object() {
        format!("{}/{}", claim.text("namespace"), claim.text("name"))
    } else {
        String::new()
    };
    vec![
        cell::name(o),
        cell::text_or(o, "spec.capacity.storage", "0"),
        access_modes(o.items("spec.accessModes")),
        cell::text(o, "spec.persistentVolumeReclaimPolicy"),
        phase(o),
        claim.into(),
        class(o),
        cell::text_or(o, "spec.volumeAttributesClassName", "<unset>"),
        cell::text(o, "status.reason"),
        cell::age(o, now),
        cell::text_or(o, "spec.volumeMode", "<unset>"),
    ]
}

/// All sources in upstream's order of checking, with the name under which one too
/// many is refused.
const SOURCES: [(&str, &str); 22] = [
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephFS"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
    ("csi", "csi"),
];

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec");
        let spec = o.at("spec");
        if spec.items("accessModes").is_empty() {
            errors.required(&path.of("accessModes"), "");
        }
        claim::access_modes(spec, &path, errors);
        capacity(spec, &path.of("capacity"), errors);
        errors.optional_choice(
            spec,
            &path,
            "persistentVolumeReclaimPolicy",
            &["Delete", "Recycle", "Retain"],
        );
        if let Some(affinity) = spec.get("nodeAffinity").filter(|a| a.is_object()) {
            let at = path.of("nodeAffinity");
            match affinity.get("required").filter(|r| r.is_object()) {
                Some(required) => scheduling::node_selector(required, &at.of("required"), errors),
                None => errors.required(&at.of("required"), "must specify required node constraints"),
            }
        }
        sources(o, spec, &path, errors);
        errors.name_at(spec, &path, "storageClassName", names::dns_subdomain);
        claim::volume_mode(spec, &path, errors);
        if let Some(class) = spec.get("volumeAttributesClassName").and_then(Value::as_str) {
            let at = path.of("volumeAttributesClassName");
            if class.is_empty() {
                errors.required(&at, "an empty string is disallowed");
            } else {
                errors.all(&at, class, names::dns_subdomain(class));
            }
            if !spec.has("csi") {
                errors.required(
                    &path.of("csi"),
                    "has to be specified when using volumeAttributesClassName",
                );
            }
        }
    })
}

fn capacity(spec: &Value, path: &Path, errors: &mut Errors) {
    let amounts = spec.at("capacity");
    let count = amounts.as_object().map_or(0, serde_json::Map::len);
    if count == 0 {
        errors.required(path, "");
    }
    if count > 1 || amounts.get("storage").is_none() {
        let shown = if count == 0 { Value::Null } else { amounts.clone() };
        errors.not_supported_value(path, &shown, &["storage"]);
    }
    for (name, amount) in amounts.as_object().into_iter().flatten() {
        let path = path.key(name);
        if let Some(n) = quantity::parse(amount).filter(|n| n.sign() < 0) {
            errors.invalid(&path, n.value(), "must be a valid resource quantity");
        }
        resources::positive(amount, &path, errors);
    }
}

fn sources(o: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let mut present = SOURCES.iter().filter(|(key, _)| spec.has(key));
    let Some((key, _)) = present.next() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    let of = source::Of::Volume(o.text("metadata.name"));
    source::check(key, spec.at(key), of, path, errors);
    if *key == "local" && !spec.has("nodeAffinity") {
        errors.required(&path.of("nodeAffinity"), "Local volume requires node affinity");
    }
    for (_, shown) in present {
        errors.forbidden(&path.of(shown), "may not specify more than 1 volume type");
    }
    let root = spec.text("hostPath.path");
    let is_root = root.starts_with('/') && root.split('/').all(|p| matches!(p, "" | "."));
    if is_root && spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        errors.forbidden(
            &path.of("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
}

fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (is, was) = (new.at("spec"), old.at("spec"));
    let mut csi = is.at("csi").clone();
    // The secret for growing may be filled in later.
    if was.has("csi")
        && !was.has("csi.controllerExpandSecretRef")
        && let Some(map) = csi.as_object_mut()
    {
        map.remove("controllerExpandSecretRef");
    }
    let changed = SOURCES.iter().any(|(key, _)| {
        let now = if *key == "csi" { &csi } else { is.at(key) };
        now.is_null() != was.at(key).is_null() || !same(now, was.at(key))
    });
    if changed {
        errors.forbidden(
            &Path::new("spec.persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation",
        );
    }
    if !same(is.at("volumeMode"), was.at("volumeMode")) {
        errors.invalid(&Path::new("volumeMode"), is.at("volumeMode").clone(), IMMUTABLE);
    }
    if was.has("nodeAffinity") && !same(&with_stable_labels(is.at("nodeAffinity"), was), was.at("nodeAffinity")) {
        let text = format!("{IMMUTABLE}, except for updating from beta label to GA");
        errors.invalid(&Path::new("nodeAffinity"), is.at("nodeAffinity").clone(), &text);
    }
    if was.has("volumeAttributesClassName") && !is.has("volumeAttributesClassName") {
        errors.forbidden(
            &Path::new("spec.volumeAttributesClassName"),
            "update from non-nil value to nil is forbidden",
        );
    }
}

/// The affinity with each stable label that took the place of a beta one put back.
fn with_stable_labels(affinity: &Value, was: &Value) -> Value {
    const RENAMED: [(&str, &str); 5] = [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        (
            "failure-domain.beta.kubernetes.io/region",
            "topology.kubernetes.io/region",
        ),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    let mut affinity = affinity.clone();
    let before = was.items("nodeAffinity.required.nodeSelectorTerms");
    let terms = affinity
        .get_mut("required")
        .and_then(|r| r.get_mut("nodeSelectorTerms"))
        .and_then(Value::as_array_mut);
    for (term, old) in terms.into_iter().flatten().zip(before) {
        let expressions = term.get_mut("matchExpressions").and_then(Value::as_array_mut);
        for (new, old) in expressions.into_iter().flatten().zip(old.items("matchExpressions")) {
            if RENAMED.contains(&(old.text("key"), new.text("key"))) {
                new["key"] = old.at("key").clone();
            }
        }
    }
    affinity
}

fn warnings(o: &Value) -> Vec<String> {
    let mut out = Vec::new();
    class_annotation(o, &mut out);
    let spec = o.at("spec");
    let terms = spec.items("nodeAffinity.required.nodeSelectorTerms");
    for (i, term) in terms.iter().enumerate() {
        node::term_warnings(
            term,
            false,
            &format!("spec.nodeAffinity.required.nodeSelectorTerms[{i}]"),
            &mut out,
        );
    }
    if spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        out.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
    }
    for (key, shown, why) in [
        (
            "photonPersistentDisk",
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        (
            "storageos",
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "glusterfs",
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if spec.has(key) {
            out.push(format!("spec.{shown}: {why}"));
        }
    }
    out
}

pub(super) fn class_annotation(o: &Value, out: &mut Vec<String>) {
    if o.at("metadata.annotations").get(CLASS_ANNOTATION).is_some() {
        out.push(format!(
            "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
}
