//! The spec of persistent volume claims: in claims, in the templates of stateful
//! sets and in ephemeral volumes.

use crate::check::{Errors, Path};
use crate::core::resources;
use crate::tree::{Tree, set_default, set_text};
use crate::{names, selector};
use serde_json::{Value, json};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

pub(crate) fn default_spec(spec: &mut Value) {
    set_text(spec, "volumeMode", "Filesystem");
    set_default(spec, "resources", json!({}));
}

/// Access modes of claims and volumes; whether there are any is the caller's.
pub(crate) fn access_modes(spec: &Value, path: &Path, errors: &mut Errors) {
    let path = path.of("accessModes");
    let (mut single, mut other) = (false, false);
    for mode in spec.items("accessModes").iter().filter_map(Value::as_str) {
        if !MODES.contains(&mode) {
            errors.not_supported(&path, mode, MODES);
        } else if mode == "ReadWriteOncePod" {
            single = true;
        } else {
            other = true;
        }
    }
    if single && other {
        errors.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

pub(crate) fn volume_mode(spec: &Value, path: &Path, errors: &mut Errors) {
    errors.optional_choice(spec, path, "volumeMode", VOLUME_MODES);
}

pub(crate) fn spec(spec: &Value, path: &Path, errors: &mut Errors) {
    if spec.items("accessModes").is_empty() {
        errors.required(&path.of("accessModes"), "at least 1 access mode is required");
    }
    selector::validate(spec.at("selector"), &path.of("selector"), errors);
    access_modes(spec, path, errors);
    let at = path.of("resources");
    let at = at.key("storage");
    match spec.at("resources.requests").get("storage") {
        None => errors.required(&at, ""),
        Some(size) => resources::positive(size, &at, errors),
    }
    errors.name_at(spec, path, "storageClassName", names::dns_subdomain);
    volume_mode(spec, path, errors);
    data_sources(spec, path, errors);
    errors.name_at(spec, path, "volumeAttributesClassName", names::dns_subdomain);
}

fn data_sources(spec: &Value, path: &Path, errors: &mut Errors) {
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    for (key, value) in [("dataSource", source), ("dataSourceRef", reference)] {
        if !value.is_object() {
            continue;
        }
        let path = path.of(key);
        errors.texts_required(value, &path, &["name", "kind"]);
        let group = value.text("apiGroup");
        if group.is_empty() && value.text("kind") != "PersistentVolumeClaim" {
            errors.invalid(
                &path,
                value.text("kind"),
                "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            );
        }
        errors.name_at(value, &path, "apiGroup", names::dns_subdomain);
        if key == "dataSourceRef" {
            errors.name_at(value, &path, "namespace", names::dns_label);
        }
    }
    let shown = format!("{path}.dataSource");
    if !reference.text("namespace").is_empty() {
        if source.is_object() {
            errors.invalid(
                path,
                shown,
                "may not be specified when dataSourceRef.namespace is specified",
            );
        }
    } else if source.is_object()
        && reference.is_object()
        && ["apiGroup", "kind", "name"]
            .iter()
            .any(|k| source.text(k) != reference.text(k))
    {
        errors.invalid(path, shown, "must match dataSourceRef");
    }
}

/// A claim template of an ephemeral volume: labels and annotations are all the
/// metadata it may have.
pub(crate) fn template(template: &Value, path: &Path, errors: &mut Errors) {
    let at = path.of("metadata");
    crate::meta::annotations(template.at("metadata.annotations"), &at.of("annotations"), errors);
    crate::meta::labels(template.at("metadata.labels"), &at.of("labels"), errors);
    for key in [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "ownerReferences",
        "finalizers",
    ] {
        let value = template.at("metadata").at(key);
        let empty = value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty);
        if !empty {
            errors.forbidden(&at.of(key), "cannot be set");
        }
    }
    spec(template.at("spec"), &path.of("spec"), errors);
}
