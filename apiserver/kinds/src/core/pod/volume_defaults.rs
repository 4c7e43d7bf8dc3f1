//! Defaults of volumes in a pod spec and of what volume sources share with
//! persistent volumes.

use super::defaults::pull_policy;
use crate::tree::{Tree, each, existing, set_default, set_int, set_text};
use serde_json::{Value, json};

/// Mode of files that config maps, secrets and the downward API project: 0644.
const FILE_MODE: i64 = 0o644;

pub(crate) fn volume(volume: &mut Value) {
    let Some(map) = volume.as_object_mut() else { return };
    if !map.iter().any(|(key, source)| key != "name" && !source.is_null()) {
        map.insert("emptyDir".into(), json!({}));
    }
    for key in ["configMap", "secret"] {
        if let Some(source) = existing(volume, key) {
            set_default(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = existing(volume, "downwardAPI") {
        set_default(source, "defaultMode", FILE_MODE);
        downward_items(source);
    }
    if let Some(projected) = existing(volume, "projected") {
        set_default(projected, "defaultMode", FILE_MODE);
        each(projected, "sources").for_each(projection);
    }
    if let Some(claim) = existing(volume, "ephemeral").and_then(|e| existing(e, "volumeClaimTemplate"))
        && let Some(spec) = existing(claim, "spec")
    {
        set_text(spec, "volumeMode", "Filesystem");
        set_default(spec, "resources", json!({}));
    }
    if let Some(image) = existing(volume, "image") {
        let policy = pull_policy(image.text("reference"));
        set_text(image, "pullPolicy", policy);
    }
    shared_sources(volume);
}

/// Sources that persistent volumes have too.
pub(crate) fn shared_sources(holder: &mut Value) {
    if let Some(path) = existing(holder, "hostPath") {
        set_default(path, "type", "");
    }
    if let Some(iscsi) = existing(holder, "iscsi") {
        set_text(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = existing(holder, "rbd") {
        set_text(rbd, "pool", "rbd");
        set_text(rbd, "user", "admin");
        set_text(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = existing(holder, "azureDisk") {
        set_text(disk, "cachingMode", "ReadWrite");
        set_text(disk, "kind", "Shared");
        set_text(disk, "fsType", "ext4");
        set_default(disk, "readOnly", false);
    }
    if let Some(io) = existing(holder, "scaleIO") {
        set_text(io, "storageMode", "ThinProvisioned");
        set_text(io, "fsType", "xfs");
    }
}

fn projection(source: &mut Value) {
    if let Some(token) = existing(source, "serviceAccountToken") {
        set_int(token, "expirationSeconds", 3600);
    }
    if let Some(downward) = existing(source, "downwardAPI") {
        downward_items(downward);
    }
    if let Some(certificate) = existing(source, "podCertificate") {
        set_int(certificate, "maxExpirationSeconds", 86400);
    }
}

fn downward_items(source: &mut Value) {
    for item in each(source, "items") {
        if let Some(field) = existing(item, "fieldRef") {
            set_text(field, "apiVersion", "v1");
        }
        if let Some(field) = existing(item, "resourceFieldRef") {
            set_default(field, "divisor", "0");
        }
    }
}
