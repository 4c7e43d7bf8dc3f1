//! Checks of volumes in a pod spec: what only pods have. Sources that persistent
//! volumes have too are in `core/source.rs`.

use super::container::Volumes;
use super::env::{FILE_FIELDS, field_ref, resource_field_ref};
use super::validate::Of;
use crate::check::{Errors, Path};
use crate::core::{claim, source};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeSet;

/// All sources in upstream's order of checking; what is not first is refused, under
/// the second name where upstream has one of its own.
const SOURCES: [(&str, &str); 30] = [
    ("emptyDir", "emptyDir"),
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];

/// Checks all volumes and answers those that are valid, by name.
pub(super) fn all<'a>(volumes: &'a [Value], of: Of, path: &Path, errors: &mut Errors) -> Volumes<'a> {
    let pod = match of {
        Of::Pod(name) => name,
        Of::Template => "",
    };
    let made: BTreeSet<String> = volumes
        .iter()
        .filter(|v| !pod.is_empty() && v.has("ephemeral"))
        .map(|v| format!("{pod}-{}", v.text("name")))
        .collect();
    let mut known = Volumes::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.at(i);
        let mut own = Errors::default();
        let name = volume.text("name");
        source(volume, of, pod, &path, &mut own);
        if name.is_empty() {
            own.required(&path.of("name"), "");
        } else {
            own.all(&path.of("name"), name, names::dns_label(name));
        }
        if known.contains_key(name) {
            own.duplicate(&path.of("name"), name);
        }
        if own.0.is_empty() {
            known.insert(name, volume);
        } else {
            errors.append(own);
        }
        let claim = volume.text("persistentVolumeClaim.claimName");
        if made.contains(claim) {
            let at = path.of("persistentVolumeClaim");
            errors.invalid(
                &at.of("claimName"),
                claim,
                "must not reference a PVC that gets created for an ephemeral volume",
            );
        }
    }
    known
}

fn source(volume: &Value, of: Of, pod: &str, path: &Path, errors: &mut Errors) {
    let mut present = SOURCES.iter().filter(|(key, _)| volume.has(key));
    let Some((key, _)) = present.next() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    check(key, volume, of, pod, path, errors);
    for (_, shown) in present {
        errors.forbidden(&path.of(shown), "may not specify more than 1 volume type");
    }
}

fn check(key: &str, volume: &Value, of: Of, pod: &str, parent: &Path, errors: &mut Errors) {
    let (source, path) = (volume.at(key), parent.of(key));
    match key {
        "emptyDir" => {
            let size = crate::quantity::parse(source.at("sizeLimit"));
            if size.is_some_and(|s| s.sign() < 0) {
                errors.forbidden(
                    &path.of("sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                );
            }
        }
        "gitRepo" => {
            errors.text_required(source, &path, "repository");
            descending_path(source.text("directory"), &path.of("directory"), errors);
        }
        "configMap" => {
            errors.text_required(source, &path, "name");
            files(source, &path, errors);
        }
        "secret" => {
            errors.text_required(source, &path, "secretName");
            files(source, &path, errors);
        }
        "persistentVolumeClaim" => errors.text_required(source, &path, "claimName"),
        "downwardAPI" => {
            mode(source, &path, "defaultMode", errors);
            for item in source.items("items") {
                downward(item, &path, errors);
            }
        }
        "projected" => projected(source, &path, errors),
        "ephemeral" => {
            let template = source.at("volumeClaimTemplate");
            let at = path.of("volumeClaimTemplate");
            if template.is_null() {
                errors.required(&at, "");
            } else {
                claim::template(template, &at, errors);
            }
            let name = volume.text("name");
            if !pod.is_empty() && !name.is_empty() {
                let claim = format!("{pod}-{name}");
                for fault in names::dns_subdomain(&claim) {
                    errors.invalid(&parent.of("name"), name, &format!("PVC name {claim:?}: {fault}"));
                }
            }
        }
        "image" => {
            if matches!(of, Of::Pod(_)) {
                errors.text_required(source, &path, "reference");
            }
            errors.choice(source, &path, "pullPolicy", &["Always", "IfNotPresent", "Never"]);
        }
        _ => source::check(key, source, source::Of::Pod(volume.text("name")), parent, errors),
    }
}

fn mode(holder: &Value, path: &Path, key: &str, errors: &mut Errors) {
    if let Some(mode) = holder.int(key).filter(|m| !(0..=0o777).contains(m)) {
        errors.invalid(
            &path.of(key),
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

/// A path without steps back.
pub(crate) fn no_backsteps(text: &str, path: &Path, errors: &mut Errors) {
    if text.split('/').any(|p| p == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}

/// A relative path that stays below where it starts.
pub(crate) fn descending_path(text: &str, path: &Path, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(text, path, errors);
}

/// As `descending_path`, and not with the prefix that atomic updates use.
fn local_path(text: &str, path: &Path, errors: &mut Errors) {
    descending_path(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.invalid(path, text, "must not start with '..'");
    }
}

pub(super) fn required_local_path(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
    }
    local_path(text, path, errors);
}

fn key_to_path(item: &Value, path: &Path, errors: &mut Errors) {
    errors.text_required(item, path, "key");
    required_local_path(item.text("path"), &path.of("path"), errors);
    mode(item, path, "mode", errors);
}

/// `defaultMode` and `items` of config maps and secrets.
fn files(source: &Value, path: &Path, errors: &mut Errors) {
    mode(source, path, "defaultMode", errors);
    let list = path.of("items");
    for (i, item) in source.items("items").iter().enumerate() {
        key_to_path(item, &list.at(i), errors);
    }
}

/// One file of the downward API; upstream names the source, not the item.
fn downward(item: &Value, path: &Path, errors: &mut Errors) {
    required_local_path(item.text("path"), &path.of("path"), errors);
    let (field, resource) = (item.at("fieldRef"), item.at("resourceFieldRef"));
    if field.is_object() {
        field_ref(field, &path.of("fieldRef"), FILE_FIELDS, errors);
        if resource.is_object() {
            errors.invalid(
                path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            );
        }
    } else if resource.is_object() {
        resource_field_ref(resource, &path.of("resourceFieldRef"), true, errors);
    } else {
        errors.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    mode(item, path, "mode", errors);
}

const PROJECTIONS: [&str; 6] = [
    "secret",
    "configMap",
    "downwardAPI",
    "serviceAccountToken",
    "clusterTrustBundle",
    "podCertificate",
];

fn projected(source: &Value, path: &Path, errors: &mut Errors) {
    mode(source, path, "defaultMode", errors);
    let list = path.of("sources");
    let mut paths = BTreeSet::new();
    for (i, projection) in source.items("sources").iter().enumerate() {
        let at = list.at(i);
        for key in PROJECTIONS.into_iter().filter(|k| projection.has(k)) {
            let mut places = Places {
                parent: path,
                paths: &mut paths,
            };
            self::projection(key, projection.at(key), &at.of(key), &mut places, errors);
        }
        if PROJECTIONS.iter().filter(|k| projection.has(k)).count() > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

/// Paths that projections have taken so far; a second taker is an error of the whole.
struct Places<'a, 'p> {
    parent: &'a Path<'a>,
    paths: &'a mut BTreeSet<&'p str>,
}

impl<'p> Places<'_, 'p> {
    fn take(&mut self, path: &'p str, shown: &str, errors: &mut Errors) {
        if !path.is_empty() && !self.paths.insert(path) {
            errors.invalid(self.parent, shown, "conflicting duplicate paths");
        }
    }
}

fn projection<'p>(key: &str, inner: &'p Value, path: &Path, places: &mut Places<'_, 'p>, errors: &mut Errors) {
    match key {
        "secret" | "configMap" => {
            errors.text_required(inner, path, "name");
            let list = path.of("items");
            for (i, item) in inner.items("items").iter().enumerate() {
                key_to_path(item, &list.at(i), errors);
                places.take(item.text("path"), inner.text("name"), errors);
            }
        }
        "downwardAPI" => {
            for item in inner.items("items") {
                downward(item, path, errors);
                places.take(item.text("path"), item.text("path"), errors);
            }
        }
        "serviceAccountToken" => {
            let seconds = inner.int("expirationSeconds").unwrap_or(3600);
            let at = path.of("expirationSeconds");
            if seconds < 600 {
                errors.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
            } else if seconds > 1 << 32 {
                errors.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            let at = places.parent.of("path");
            match inner.text("path") {
                "" => errors.required(&at, ""),
                text => local_path(text, &at, errors),
            }
        }
        "clusterTrustBundle" => {
            super::certificates::trust_bundle(inner, path, errors);
            required_local_path(inner.text("path"), &path.of("path"), errors);
            places.take(inner.text("path"), inner.text("path"), errors);
        }
        "podCertificate" => {
            super::certificates::certificate(inner, path, errors);
            let mut files = 0;
            for key in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                let file = inner.text(key);
                if !file.is_empty() {
                    files += 1;
                    local_path(file, &path.of(key), errors);
                    places.take(file, file, errors);
                }
            }
            if files == 0 {
                errors.required(
                    path,
                    "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
                );
            }
        }
        _ => {}
    }
}
