//! Checks of `metadata` that hold for every kind: name, labels, annotations,
//! owner references, finalizers. What the server itself sets (uid,
//! resourceVersion, managedFields) is the handler's.

use crate::check::{Errors, Path};
use crate::names;
use crate::rules::NameRule;
use crate::tree::Tree;
use serde_json::Value;
use skiff_api::FieldError;

/// All annotations of an object together, keys and values.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// What is wrong with a name under the rule; none if all is well.
pub fn name_errors(name: &str, rule: NameRule) -> Vec<String> {
    match rule {
        NameRule::Subdomain => names::dns_subdomain(name),
        NameRule::Label => names::dns_label(name),
        NameRule::Service => names::dns_1035_label(name),
        NameRule::PathSegment => names::path_segment(name),
        NameRule::Any => Vec::new(),
    }
}

pub fn validate(object: &Value, rule: NameRule) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let path = Path::new("metadata");
    let metadata = object.at("metadata");
    let name = metadata.text("name");
    if rule != NameRule::Any {
        if name.is_empty() {
            errors.required(&path.of("name"), "name or generateName is required");
        } else {
            errors.all(&path.of("name"), name, name_errors(name, rule));
        }
    }
    labels(metadata.at("labels"), &path.of("labels"), &mut errors);
    annotations(metadata.at("annotations"), &path.of("annotations"), &mut errors);
    owners(
        metadata.items("ownerReferences"),
        &path.of("ownerReferences"),
        &mut errors,
    );
    for finalizer in metadata.items("finalizers").iter().filter_map(Value::as_str) {
        errors.all(&path.of("finalizers"), finalizer, names::qualified_name(finalizer));
    }
    errors.0
}

pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if !old.has("metadata.deletionTimestamp") {
        return errors.0;
    }
    // Once deletion began, finalizers may only go.
    let before = old.items("metadata.finalizers");
    for added in new.items("metadata.finalizers").iter().filter(|f| !before.contains(f)) {
        let text = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{added}}}"
        );
        errors.forbidden(&Path::new("metadata.finalizers"), &text);
    }
    errors.0
}

pub(crate) fn labels(labels: &Value, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.all(path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or("");
        errors.all(path, value, names::label_value(value));
    }
}

pub(crate) fn annotations(annotations: &Value, path: &Path, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        errors.all(path, key, names::qualified_name(&key.to_lowercase()));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn owners(owners: &[Value], path: &Path, errors: &mut Errors) {
    let mut controllers = 0;
    for (i, owner) in owners.iter().enumerate() {
        let path = path.at(i);
        if owner.text("apiVersion").is_empty() {
            errors.invalid(&path.of("apiVersion"), "", "version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if owner.text(key).is_empty() {
                errors.invalid(&path.of(key), "", "must not be empty");
            }
        }
        controllers += usize::from(owner.flag("controller"));
    }
    if controllers > 1 {
        errors.invalid(path, Value::Null, "Only one reference can have Controller set to true");
    }
}
