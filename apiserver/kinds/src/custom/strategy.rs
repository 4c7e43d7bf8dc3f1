//! The rules of custom resources: those of metadata, and what their schema says.
//! Objects are in the version of the request, whose schema is asked.

use super::CustomKind;
use super::version::Compiled;
use crate::contract::Strategy;
use crate::meta;
use crate::rules::NameRule;
use crate::tree::Tree;
use serde_json::Value;
use skiff_api::FieldError;
use skiff_custom::{Path, cel, defaults, listtype, validate};

impl Strategy for CustomKind {
    fn default(&self, object: &mut Value) {
        if let Some(version) = self.version_of(object) {
            defaults::fill(&self.compiled(version).schema, object);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if self.version_of(object).is_some_and(|v| v.status)
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        if object["metadata"].is_object() {
            object["metadata"]["generation"] = 1.into();
        }
    }

    fn prepare_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        if subresource == "status" {
            only_status(new, old);
            return;
        }
        if self.version_of(new).is_some_and(|v| v.status) {
            crate::rules::copy(new, old, "status");
        }
        let before = old.int("metadata.generation").unwrap_or(1);
        let bump = i64::from(differs(new, old));
        if new["metadata"].is_object() {
            new["metadata"]["generation"] = (before + bump).into();
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        meta::validate(object, NameRule::Subdomain)
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let Some(version) = self.version_of(object) else {
            return Vec::new();
        };
        let compiled = self.compiled(version);
        let schema = &compiled.schema;
        let mut errors = validate::validate(schema, object, &Path::ROOT);
        self.scale_errors(version.name, object, &mut errors);
        errors.extend(skiff_custom::meta::validate(schema, object, false, &Path::ROOT));
        listtype::validate(schema, object, &Path::ROOT, &mut errors);
        run_rules(compiled, object, None, &mut errors);
        errors
    }

    fn validate_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = meta::validate_update(new, old);
        let Some(version) = self.version_of(new) else {
            return errors;
        };
        let compiled = self.compiled(version);
        let schema = &compiled.schema;
        errors.extend(validate::validate_update(schema, new, old, &Path::ROOT));
        self.scale_errors(version.name, new, &mut errors);
        errors.extend(skiff_custom::meta::validate(schema, new, false, &Path::ROOT));
        let mut twice = Vec::new();
        listtype::validate(schema, new, &Path::ROOT, &mut twice);
        if !twice.is_empty() {
            let mut before = Vec::new();
            listtype::validate(schema, old, &Path::ROOT, &mut before);
            if before.is_empty() {
                errors.append(&mut twice);
            }
        }
        run_rules(compiled, new, Some(old), &mut errors);
        errors
    }

    fn row(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        self.row(self.storage, object, now)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        self.fields
            .iter()
            .map(|(name, way)| {
                let found = way.iter().try_fold(object, |at, name| at.get(name));
                let text = match found {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                };
                (*name, text)
            })
            .collect()
    }

    fn field_names(&self) -> &'static [&'static str] {
        self.field_names
    }
}

impl CustomKind {
    fn scale_errors(&self, version: &str, object: &Value, errors: &mut Vec<FieldError>) {
        let Some(scale) = self.scale(version) else { return };
        for path in [&scale.spec_replicas, &scale.status_replicas] {
            let at = path.iter().try_fold(object, |at, name| at.get(name));
            let Some(n) = at.and_then(Value::as_i64) else { continue };
            let field = path.join(".");
            if n < 0 {
                errors.push(FieldError::invalid(
                    field,
                    &n.into(),
                    "should be a non-negative integer",
                ));
            } else if n > i64::from(i32::MAX) {
                let why = format!("should be less than or equal to {}", i32::MAX);
                errors.push(FieldError::invalid(field, &n.into(), &why));
            }
        }
    }
}

/// Runs the validation rules, unless what is wrong already keeps them from being run.
fn run_rules(compiled: &Compiled, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let Some(rules) = &compiled.rules else { return };
    match cel::blocking(errors) {
        Some(instead) => errors.push(instead),
        None => errors.extend(rules.validate(&compiled.schema, object, old)),
    }
}

/// A write of the status changes the status alone, and who manages it.
fn only_status(new: &mut Value, old: &Value) {
    let status = new.get_mut("status").map(Value::take);
    let managed = new["metadata"].get_mut("managedFields").map(Value::take);
    let api_version = new["apiVersion"].take();
    *new = old.clone();
    if !api_version.is_null() {
        new["apiVersion"] = api_version;
    }
    if let Some(map) = new.as_object_mut() {
        match status {
            Some(status) => drop(map.insert("status".into(), status)),
            None => drop(map.remove("status")),
        }
    }
    if let Some(metadata) = new["metadata"].as_object_mut() {
        match managed {
            Some(managed) => drop(metadata.insert("managedFields".into(), managed)),
            None => drop(metadata.remove("managedFields")),
        }
    }
}

/// Whether anything besides metadata differs.
fn differs(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return new != old;
    };
    let apart = |key: &str| matches!(key, "metadata" | "apiVersion" | "kind");
    new.iter().any(|(k, v)| !apart(k) && old.get(k) != Some(v)) || old.keys().any(|k| !apart(k) && !new.contains_key(k))
}
