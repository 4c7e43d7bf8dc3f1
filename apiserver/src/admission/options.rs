//! The options of a request as admission shows them. Pure.

use crate::handler::{DeleteOptions, ServerCall};
use crate::request::{FieldValidation, Propagation};
use serde_json::{Value, json};

/// `CreateOptions` or `UpdateOptions` of a call; a patch is one of these to admission.
pub(crate) fn write_options(call: &ServerCall, kind: &str) -> Value {
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if call.options.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    if !call.options.field_manager.is_empty() {
        options["fieldManager"] = call.options.field_manager.as_str().into();
    }
    // What was not asked for is not shown, though it has a default.
    if call.query.contains("fieldValidation=") {
        options["fieldValidation"] = match call.options.field_validation {
            FieldValidation::Ignore => "Ignore",
            FieldValidation::Warn => "Warn",
            FieldValidation::Strict => "Strict",
        }
        .into();
    }
    options
}

/// `DeleteOptions` of a deletion.
pub(crate) fn delete_options(given: &DeleteOptions) -> Value {
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
    if let Some(seconds) = given.grace_period_seconds {
        options["gracePeriodSeconds"] = seconds.into();
    }
    for (key, value) in [("uid", &given.uid), ("resourceVersion", &given.resource_version)] {
        if let Some(value) = value {
            options["preconditions"][key] = value.as_str().into();
        }
    }
    if let Some(orphan) = given.orphan_dependents {
        options["orphanDependents"] = orphan.into();
    }
    if let Some(policy) = given.propagation {
        options["propagationPolicy"] = match policy {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        }
        .into();
    }
    if given.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}
