//! Checks of volumes in a pod spec.

use super::container::{Volumes, field_ref, resource_field_ref};
use crate::check::{Errors, Path};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;

const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const HOST_PATH_TYPES: &[&str] = &[
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Checks all volumes and answers those with a name.
pub(super) fn all<'a>(volumes: &'a [Value], path: &Path, errors: &mut Errors) -> Volumes<'a> {
    let mut known = Volumes::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.at(i);
        let name = volume.text("name");
        if name.is_empty() {
            errors.required(&path.of("name"), "");
        } else {
            errors.all(&path.of("name"), name, names::dns_label(name));
            if known.insert(name, volume).is_some() {
                errors.duplicate(&path.of("name"), name);
            }
        }
        source(volume, &path, errors);
    }
    known
}

fn source(volume: &Value, path: &Path, errors: &mut Errors) {
    let sources = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(k, v)| *k != "name" && !v.is_null());
    let keys: Vec<&str> = sources.map(|(k, _)| k.as_str()).collect();
    let Some((&key, more)) = keys.split_first() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    for extra in more {
        errors.forbidden(&path.of(extra), "may not specify more than 1 volume type");
    }
    let (source, path) = (volume.at(key), path.of(key));
    match key {
        "hostPath" => host_path(source, &path, errors),
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
            downward(source, &path, errors);
        }
        "projected" => projected(source, &path, errors),
        "emptyDir" => {
            if let Some(size) = source.get("sizeLimit").filter(|s| !s.is_null()) {
                super::container::quantity_at(size, &path.of("sizeLimit"), errors);
            }
        }
        "nfs" => {
            errors.text_required(source, &path, "server");
            errors.text_required(source, &path, "path");
        }
        "csi" => errors.text_required(source, &path, "driver"),
        "ephemeral" if !source.has("volumeClaimTemplate") => errors.required(&path.of("volumeClaimTemplate"), ""),
        "image" => errors.optional_choice(source, &path, "pullPolicy", &["Always", "IfNotPresent", "Never"]),
        _ => {}
    }
}

pub(crate) fn host_path(source: &Value, path: &Path, errors: &mut Errors) {
    let text = source.text("path");
    if text.is_empty() {
        errors.required(&path.of("path"), "");
    } else if text.split('/').any(|p| p == "..") {
        errors.invalid(&path.of("path"), text, "must not contain '..'");
    }
    errors.optional_choice(source, path, "type", HOST_PATH_TYPES);
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

fn relative(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
    } else if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    } else if text.split('/').any(|p| p == "..") {
        errors.invalid(path, text, "must not contain '..'");
    } else if text.starts_with("..") {
        errors.invalid(path, text, "must not start with '..'");
    }
}

/// `defaultMode` and `items` of config maps and secrets.
fn files(source: &Value, path: &Path, errors: &mut Errors) {
    mode(source, path, "defaultMode", errors);
    let list = path.of("items");
    for (i, item) in source.items("items").iter().enumerate() {
        let path = list.at(i);
        errors.text_required(item, &path, "key");
        relative(item.text("path"), &path.of("path"), errors);
        mode(item, &path, "mode", errors);
    }
}

fn downward(source: &Value, path: &Path, errors: &mut Errors) {
    let list = path.of("items");
    for (i, item) in source.items("items").iter().enumerate() {
        let path = list.at(i);
        relative(item.text("path"), &path.of("path"), errors);
        mode(item, &path, "mode", errors);
        match (
            item.get("fieldRef").filter(|f| f.is_object()),
            item.get("resourceFieldRef").filter(|f| f.is_object()),
        ) {
            (Some(_), Some(_)) => {
                errors.invalid(
                    &path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
            (Some(field), None) => field_ref(field, &path.of("fieldRef"), FILE_FIELDS, errors),
            (None, Some(field)) => {
                let path = path.of("resourceFieldRef");
                errors.text_required(field, &path, "containerName");
                resource_field_ref(field, &path, errors);
            }
            (None, None) => errors.required(&path, "one of fieldRef and resourceFieldRef is required"),
        }
    }
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
    for (i, projection) in source.items("sources").iter().enumerate() {
        let path = list.at(i);
        let present: Vec<&str> = PROJECTIONS.into_iter().filter(|k| projection.has(k)).collect();
        if present.is_empty() {
            errors.required(&path, "at least one source is required");
        }
        for extra in present.iter().skip(1) {
            errors.forbidden(&path.of(extra), "may not specify more than 1 volume type per source");
        }
        let Some(&key) = present.first() else { continue };
        let (inner, path) = (projection.at(key), path.of(key));
        match key {
            "secret" | "configMap" => {
                errors.text_required(inner, &path, "name");
                files(inner, &path, errors);
            }
            "downwardAPI" => downward(inner, &path, errors),
            "serviceAccountToken" => {
                let seconds = inner.int("expirationSeconds").unwrap_or(3600);
                if seconds < 600 {
                    errors.invalid(
                        &path.of("expirationSeconds"),
                        seconds,
                        "may not specify a duration less than 10 minutes",
                    );
                } else if seconds > 1 << 32 {
                    errors.invalid(
                        &path.of("expirationSeconds"),
                        seconds,
                        "may not specify a duration larger than 2^32 seconds",
                    );
                }
                relative(inner.text("path"), &path.of("path"), errors);
            }
            _ => {}
        }
    }
}
