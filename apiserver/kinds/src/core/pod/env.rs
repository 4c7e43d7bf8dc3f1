//! Checks of a container's environment and of the references that fill it: fields
//! and resources of the pod, keys of config maps, secrets and files.

use crate::check::{Errors, Path};
use crate::names;
use crate::quantity;
use crate::tree::Tree;
use serde_json::Value;

/// Fields of the pod that a variable can take.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of the pod that a file can take.
pub(super) const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Fields that the downward API knows at all.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTE_DIVISORS: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];
const SOURCES: [&str; 5] = [
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

pub(super) fn check(container: &Value, path: &Path, errors: &mut Errors) {
    let list = path.of("env");
    for (i, var) in container.items("env").iter().enumerate() {
        let path = list.at(i);
        let name = var.text("name");
        if name.is_empty() {
            errors.required(&path.of("name"), "");
        } else {
            errors.all(&path.of("name"), name, names::env_name(name));
        }
        if let Some(source) = var.get("valueFrom").filter(|v| v.is_object()) {
            value_from(source, !var.text("value").is_empty(), &path.of("valueFrom"), errors);
        }
    }
    let list = path.of("envFrom");
    for (i, from) in container.items("envFrom").iter().enumerate() {
        let path = list.at(i);
        errors.name_at(from, &path, "prefix", names::env_name);
        let mut count = 0;
        for key in ["configMapRef", "secretRef"] {
            if let Some(source) = from.get(key).filter(|s| s.is_object()) {
                count += 1;
                errors.text_required(source, &path.of(key), "name");
                errors.name_at(source, &path.of(key), "name", names::dns_subdomain);
            }
        }
        if count == 0 {
            errors.invalid(&list, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if count > 1 {
            errors.invalid(&list, "", "may not have more than one field specified at a time");
        }
    }
}

fn value_from(source: &Value, has_value: bool, path: &Path, errors: &mut Errors) {
    if let Some(field) = source.get("fieldRef").filter(|f| f.is_object()) {
        field_ref(field, &path.of("fieldRef"), ENV_FIELDS, errors);
    }
    if let Some(field) = source.get("resourceFieldRef").filter(|f| f.is_object()) {
        resource_field_ref(field, &path.of("resourceFieldRef"), false, errors);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = source.get(key).filter(|r| r.is_object()) {
            let path = path.of(key);
            let name = reference.text("name");
            errors.all(&path.of("name"), name, names::dns_subdomain(name));
            match reference.text("key") {
                "" => errors.required(&path.of("key"), ""),
                text => errors.all(&path.of("key"), text, names::config_key(text)),
            }
        }
    }
    if let Some(file) = source.get("fileKeyRef").filter(|r| r.is_object()) {
        file_key(file, &path.of("fileKeyRef"), errors);
    }
    let count = SOURCES.iter().filter(|k| source.has(k)).count();
    if count == 0 {
        let text =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", text);
    } else if has_value {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

/// A variable out of a file that an earlier container wrote into a volume.
fn file_key(file: &Value, path: &Path, errors: &mut Errors) {
    let volume = file.text("volumeName");
    if volume.is_empty() {
        errors.required(&path.of("volumeName"), "");
    } else {
        errors.all(&path.of("volumeName"), volume, names::dns_label(volume));
    }
    match file.text("key") {
        "" => errors.required(&path.of("key"), ""),
        key => errors.all(&path.of("key"), key, names::env_name(key)),
    }
    super::volume::required_local_path(file.text("path"), &path.of("path"), errors);
}

/// `metadata.labels['key']`, as path and subscript.
fn subscripted(text: &str) -> Option<(&str, &str)> {
    let (path, rest) = text.split_once("['")?;
    Some((path, rest.strip_suffix("']")?))
}

pub(super) fn field_ref(field: &Value, path: &Path, allowed: &[&str], errors: &mut Errors) {
    let version = field.text("apiVersion");
    let text = field.text("fieldPath");
    if version.is_empty() {
        errors.required(&path.of("apiVersion"), "");
    } else if text.is_empty() {
        errors.required(&path.of("fieldPath"), "");
    } else if version != "v1" {
        let why = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.invalid(&path.of("fieldPath"), text, &why);
    } else if let Some((name, key)) = subscripted(text) {
        match name {
            "metadata.annotations" => errors.all(path, key, names::qualified_name(&key.to_lowercase())),
            "metadata.labels" => errors.all(path, key, names::qualified_name(key)),
            _ => errors.invalid(
                &path.of("fieldPath"),
                text,
                &format!("error converting fieldPath: field label does not support subscript: {text}"),
            ),
        }
    } else if !KNOWN_FIELDS.contains(&text) {
        let why = format!("error converting fieldPath: field label not supported: {text}");
        errors.invalid(&path.of("fieldPath"), text, &why);
    } else if !allowed.contains(&text) {
        errors.not_supported(&path.of("fieldPath"), text, allowed);
    }
}

/// A resource of a container; a file's must say of which.
pub(super) fn resource_field_ref(field: &Value, path: &Path, file: bool, errors: &mut Errors) {
    let resource = field.text("resource");
    let pages = ["limits.hugepages-", "requests.hugepages-"]
        .iter()
        .any(|p| resource.starts_with(p));
    if file && field.text("containerName").is_empty() {
        errors.required(&path.of("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.of("resource"), "");
    } else if !RESOURCES.contains(&resource) && !pages {
        errors.not_supported(&path.of("resource"), resource, RESOURCES);
    }
    let Some(divisor) = quantity::parse(field.at("divisor")).filter(|d| !d.is_zero()) else {
        return;
    };
    let divisor = divisor.to_string();
    let what = match resource {
        "limits.cpu" | "requests.cpu" => {
            if !matches!(divisor.as_str(), "1m" | "1") {
                let why = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.invalid(&path.of("divisor"), resource, why);
            }
            return;
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if pages => "hugepages",
        _ => return,
    };
    if !BYTE_DIVISORS.contains(&divisor.as_str()) {
        let why = format!(
            "only divisor's values {} are supported with the {what} resource",
            BYTE_DIVISORS.join(", ")
        );
        errors.invalid(&path.of("divisor"), resource, &why);
    }
}
