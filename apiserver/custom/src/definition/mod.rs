//! CustomResourceDefinitions themselves: what may be written in one, and what becomes
//! of its names. Objects are trees of `apiextensions.k8s.io/v1`.
//!
//! Paths in messages are those of upstream's internal form, where what all versions
//! have in common stands once: `spec.validation.openAPIV3Schema` is the schema of the
//! one version there is.

mod approval;
mod conversion;
mod hoist;
mod spec;
mod state;
mod version;

#[cfg(test)]
mod tests;

pub use approval::{Approval, approval};
pub use state::{Condition, Names, accept, condition, is_true, non_structural, set_condition};

use crate::Path;
use crate::check::json::Json;
use serde_json::Value;
use skiff_api::FieldError;

/// The version that objects are stored in.
pub fn storage_version(definition: &Value) -> &str {
    let versions = definition["spec"].items("versions");
    versions
        .iter()
        .find(|v| v.flag("storage"))
        .map_or("", |v| v.text("name"))
}

/// What is wrong with a new definition.
pub fn validate(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    name(definition, &mut errors);
    spec::check(&definition["spec"], None, &mut errors);
    status(definition, &mut errors);
    approval::check(definition, None, &mut errors);
    preserve_unknown_fields(definition, None, &mut errors);
    errors
}

/// What is wrong with a changed definition.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    spec::check(&new["spec"], Some(&old["spec"]), &mut errors);
    let (before, after) = (&old["spec"], &new["spec"]);
    let mut keep = |at: &str, old: &Value, new: &Value| {
        if old != new {
            errors.push(FieldError::invalid(at, new, "field is immutable"));
        }
    };
    if is_true(old, "Established") {
        keep("spec.scope", &before["scope"], &after["scope"]);
        keep("spec.names.kind", &before["names"]["kind"], &after["names"]["kind"]);
    }
    keep("spec.group", &before["group"], &after["group"]);
    keep(
        "spec.names.plural",
        &before["names"]["plural"],
        &after["names"]["plural"],
    );
    status(new, &mut errors);
    approval::check(new, Some(old), &mut errors);
    preserve_unknown_fields(new, Some(old), &mut errors);
    errors
}

/// What is wrong with a changed status.
pub fn validate_status(new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    spec::names(
        &new["status"]["acceptedNames"],
        &Path::new("status.acceptedNames"),
        &mut errors,
    );
    errors
}

fn name(definition: &Value, errors: &mut Vec<FieldError>) {
    let spec = &definition["spec"];
    let name = definition["metadata"].text("name");
    if name != format!("{}.{}", spec["names"].text("plural"), spec.text("group")) {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", &name.into(), why));
    }
}

fn status(definition: &Value, errors: &mut Vec<FieldError>) {
    let status = &definition["status"];
    spec::names(&status["acceptedNames"], &Path::new("status.acceptedNames"), errors);
    let at = Path::new("status.storedVersions");
    let stored = status.items("storedVersions");
    if stored.is_empty() {
        let why = "must have at least one stored version";
        errors.push(FieldError::invalid(at.field(), &Value::Array(Vec::new()), why));
        return;
    }
    let versions = definition["spec"].items("versions");
    for version in versions.iter().filter(|v| v.flag("storage")) {
        if !stored.contains(&version["name"]) {
            let why = format!("must have the storage version {}", version.text("name"));
            errors.push(FieldError::invalid(at.field(), &stored.to_vec().into(), &why));
        }
    }
    for (i, name) in stored.iter().enumerate() {
        if !versions.iter().any(|v| v["name"] == *name) {
            let shown = name.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {shown} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {shown} and removes {shown} from status.storedVersions"
            );
            errors.push(FieldError::invalid(at.at(i).field(), name, &why));
        }
    }
}

fn preserve_unknown_fields(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let set = |definition: &Value| definition["spec"].flag("preserveUnknownFields");
    if set(new) && !old.is_some_and(set) {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", &true.into(), why));
    }
}
