//! `apiVersion`, `kind` and `metadata` of objects, whole or embedded: what is in them
//! is ObjectMeta whatever the schema says, so it is read as that type is read, and
//! checked as far as it can be checked without knowing the kind.

use crate::path::Path;
use crate::schema::Schema;
use serde_json::Value;
use skiff_api::codec::{FieldValidation, check};
use skiff_api::schema::{META_V1, Type, lookup, split_api_version};
use skiff_api::{FieldError, names};

/// All annotations of an object together, keys and values.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

fn object_meta() -> Option<&'static Type> {
    lookup(&format!("{META_V1}.ObjectMeta"))
}

/// Reads a `metadata` in place: unknown fields go (their paths are answered), what has
/// the wrong type is an error in Go's words, times and empty fields become as Go writes them.
pub fn coerce_metadata(metadata: &mut Value, path: &Path) -> Result<Vec<String>, String> {
    let Some(ty) = object_meta() else { return Ok(Vec::new()) };
    if metadata.is_null() {
        *metadata = Value::Object(serde_json::Map::new());
    }
    let report = check::check_raw(ty, metadata, FieldValidation::Strict)?;
    Ok(report.unknown.iter().map(|u| path.of(u).to_string()).collect())
}

/// Reads the metadata of embedded resources; the object's own when `root`. Answers the
/// paths of unknown fields.
pub fn coerce(schema: &Schema, object: &mut Value, root: bool) -> Result<Vec<String>, FieldError> {
    let mut unknown = Vec::new();
    coerce_node(schema, root, object, &Path::ROOT, &mut unknown)?;
    unknown.sort();
    Ok(unknown)
}

pub(crate) fn coerce_node(
    schema: &Schema,
    resource: bool,
    value: &mut Value,
    path: &Path,
    unknown: &mut Vec<String>,
) -> Result<(), FieldError> {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                let path = path.of(name);
                match name.as_str() {
                    "apiVersion" | "kind" if resource && !value.is_string() => {
                        return Err(FieldError::invalid(path.field(), value, "must be a string"));
                    }
                    "metadata" if resource => {
                        let shown = value.clone();
                        let found = coerce_metadata(value, &path)
                            .map_err(|why| FieldError::invalid(path.field(), &shown, &why))?;
                        unknown.extend(found);
                    }
                    _ => {}
                }
                if let Some(inner) = schema.member(name) {
                    coerce_node(inner, inner.embedded, value, &path, unknown)?;
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return Ok(()) };
            for (i, item) in items.iter_mut().enumerate() {
                coerce_node(inner, inner.embedded, item, &path.at(i), unknown)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Faults of embedded resources; of the object itself too when `root`.
pub fn validate(schema: &Schema, object: &Value, root: bool, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_node(schema, root, object, path, &mut errors);
    errors
}

fn validate_node(schema: &Schema, resource: bool, value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            if resource {
                type_meta(value, path, errors);
            }
            for (name, value) in map {
                if resource && name == "metadata" {
                    metadata(value, &path.of(name), errors);
                }
                if let Some(inner) = schema.property(name) {
                    validate_node(inner, inner.embedded, value, &path.of(name), errors);
                } else if let Some(inner) = schema.additional() {
                    validate_node(inner, inner.embedded, value, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return };
            for (i, item) in items.iter().enumerate() {
                validate_node(inner, inner.embedded, item, &path.at(i), errors);
            }
        }
        _ => {}
    }
}

fn type_meta(object: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let at = path.of("apiVersion");
    match object.get("apiVersion").map(|v| v.as_str().unwrap_or_default()) {
        None => errors.push(FieldError::required(at.field(), "must not be empty")),
        Some("") => errors.push(FieldError::invalid(at.field(), &"".into(), "must not be empty")),
        Some(text) if text.matches('/').count() > 1 => {
            let why = format!("unexpected GroupVersion string: {text}");
            errors.push(FieldError::invalid(at.field(), &text.into(), &why));
        }
        Some(_) => {}
    }
    let at = path.of("kind");
    match object.get("kind").map(|v| v.as_str().unwrap_or_default()) {
        None => errors.push(FieldError::required(at.field(), "must not be empty")),
        Some("") => errors.push(FieldError::invalid(at.field(), &"".into(), "must not be empty")),
        Some(text) => {
            let wrong = names::dns1035_label(&text.to_lowercase());
            if !wrong.is_empty() {
                let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                errors.push(FieldError::invalid(at.field(), &text.into(), &why));
            }
        }
    }
}

fn metadata(metadata: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut all = |path: Path, value: &str, wrong: Vec<String>| {
        for why in wrong {
            errors.push(FieldError::invalid(path.field(), &value.into(), &why));
        }
    };
    let (name, generate) = (text("name"), text("generateName"));
    if !generate.is_empty() {
        all(path.of("generateName"), generate, names::path_segment(generate));
    }
    if !name.is_empty() {
        all(path.of("name"), name, names::path_segment(name));
    }
    let namespace = text("namespace");
    if !namespace.is_empty() {
        all(path.of("namespace"), namespace, names::dns1123_label(namespace));
    }
    let labels = path.of("labels");
    for (key, value) in metadata.get("labels").and_then(Value::as_object).into_iter().flatten() {
        all(labels, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        all(labels, value, names::label_value(value));
    }
    let annotations = path.of("annotations");
    let mut bytes = 0;
    for (key, value) in metadata
        .get("annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        all(annotations, key, names::qualified_name(&key.to_lowercase()));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    for finalizer in metadata
        .get("finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let finalizer = finalizer.as_str().unwrap_or_default();
        all(path.of("finalizers"), finalizer, names::qualified_name(finalizer));
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(annotations.field(), ANNOTATIONS_BYTES_MAX));
    }
    owners(metadata, path, errors);
}

fn owners(metadata: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let list = path.of("ownerReferences");
    let owners = metadata.get("ownerReferences").and_then(Value::as_array);
    for (i, owner) in owners.into_iter().flatten().enumerate() {
        let path = list.at(i);
        let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        if split_api_version(text("apiVersion")).1.is_empty() {
            let why = "version must not be empty";
            errors.push(FieldError::invalid(
                path.of("apiVersion").field(),
                &text("apiVersion").into(),
                why,
            ));
        }
        for key in ["kind", "name", "uid"] {
            if text(key).is_empty() {
                errors.push(FieldError::invalid(
                    path.of(key).field(),
                    &"".into(),
                    "must not be empty",
                ));
            }
        }
    }
}
