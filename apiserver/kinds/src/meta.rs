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
        NameRule::Service => names::dns_label(name),
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
        let base = metadata.text("generateName");
        if !base.is_empty() {
            // What follows the base decides whether its last dash is a fault.
            let masked = base.strip_suffix('-').map_or(base.to_string(), |b| format!("{b}a"));
            errors.all(&path.of("generateName"), base, name_errors(&masked, rule));
        }
        if name.is_empty() {
            errors.required(&path.of("name"), "name or generateName is required");
        } else {
            errors.all(&path.of("name"), name, name_errors(name, rule));
        }
    }
    errors.non_negative(metadata, &path, "generation");
    labels(metadata.at("labels"), &path.of("labels"), &mut errors);
    annotations(metadata.at("annotations"), &path.of("annotations"), &mut errors);
    owners(
        metadata.items("ownerReferences"),
        &path.of("ownerReferences"),
        &mut errors,
    );
    finalizers(metadata.items("finalizers"), &path.of("finalizers"), &mut errors);
    errors.0
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

fn finalizers(finalizers: &[Value], path: &Path, errors: &mut Errors) {
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        errors.all(path, finalizer, names::qualified_name(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has(ORPHAN) && has(FOREGROUND) {
        let text = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.invalid(path, finalizers.to_vec(), &text);
    }
}

/// Built-in kinds take a finalizer without a domain only if it is one of Kubernetes' own.
pub(crate) fn standard_finalizer(name: &str, path: &Path, errors: &mut Errors) {
    if !name.contains('/') && !["kubernetes", ORPHAN, FOREGROUND].contains(&name) {
        errors.invalid(
            path,
            name,
            "name is neither a standard finalizer name nor is it fully qualified",
        );
    }
}

pub(crate) fn standard_finalizers(object: &Value, errors: &mut Errors) {
    let path = Path::new("metadata.finalizers");
    for (i, finalizer) in object.items("metadata.finalizers").iter().enumerate() {
        standard_finalizer(finalizer.as_str().unwrap_or(""), &path.at(i), errors);
    }
}

pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if !old.has("metadata.deletionTimestamp") {
        return errors.0;
    }
    // Once deletion began, finalizers may only go.
    let before = old.items("metadata.finalizers");
    let added: std::collections::BTreeSet<&str> = new
        .items("metadata.finalizers")
        .iter()
        .filter(|f| !before.contains(f))
        .filter_map(Value::as_str)
        .collect();
    if !added.is_empty() {
        let shown: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
        let text = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            shown.join(", ")
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

/// What a text makes of `apiVersion`: the version may not be empty.
fn version_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or(api_version, |(_, version)| version)
}

fn owners(owners: &[Value], path: &Path, errors: &mut Errors) {
    let mut first: Option<String> = None;
    for owner in owners {
        let api_version = owner.text("apiVersion");
        if version_of(api_version).is_empty() {
            errors.invalid(&path.of("apiVersion"), api_version, "version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if owner.text(key).is_empty() {
                errors.invalid(&path.of(key), "", "must not be empty");
            }
        }
        if api_version == "v1" && owner.text("kind") == "Event" {
            errors.invalid(path, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.flag("controller") {
            let shown = format!("{}/{}", owner.text("kind"), owner.text("name"));
            match &first {
                None => first = Some(shown),
                Some(first) => {
                    let text = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {shown}"
                    );
                    errors.invalid(path, owners.to_vec(), &text);
                }
            }
        }
    }
}
