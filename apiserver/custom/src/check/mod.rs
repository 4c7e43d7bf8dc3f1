//! Whether an `openAPIV3Schema` may be the schema of a version: structural, of known
//! keywords, its defaults sound, its rules compiling and cheap enough.

mod defaults;
pub mod field_path;
pub(crate) mod json;
mod rules;
mod structural;

#[cfg(test)]
mod tests;

use crate::cel::Costs;
use crate::path::Path;
use crate::schema::Schema;
use json::Json;
use serde_json::Value;
use skiff_api::FieldError;

/// The keywords that may stand at the root beside a status subresource: the schema of
/// the status is taken out of it, and nothing of it may be lost.
const AT_ROOT_WITH_STATUS: [(&str, &str); 22] = [
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// What is wrong with a schema at `path`.
pub fn check(schema: &Value, path: &Path, status: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if status {
        root_with_status(schema, path, &mut errors);
    }
    if schema.flag("nullable") {
        errors.push(FieldError::forbidden(
            path.of("nullable").field(),
            "nullable cannot be true at the root",
        ));
    }
    let mut found = structural::check(schema, path);
    let compiled = if found.is_empty() {
        let compiled = Schema::new(schema);
        found = defaults::check(&compiled, path);
        Some(compiled).filter(|_| found.is_empty())
    } else {
        None
    };
    errors.append(&mut found);
    let mut costs = Costs::default();
    let mut of_rules = Vec::new();
    let mut found = rules::check(schema, path, &mut |node| {
        if compiled.is_some() {
            let uncorrelatable = node.uncorrelatable.as_deref();
            costs.node(
                node.schema,
                node.path,
                node.root,
                node.times,
                uncorrelatable,
                &mut of_rules,
            );
        }
    });
    errors.append(&mut found);
    errors.append(&mut of_rules);
    costs.finish(path, &mut errors);
    errors
}

/// Whether the schema is structural.
pub fn is_structural(schema: &Value) -> bool {
    structural::check(schema, &Path::ROOT).is_empty()
}

/// What keeps the schema from being structural.
pub fn structural_errors(schema: &Value, path: &Path) -> Vec<FieldError> {
    structural::check(schema, path)
}

fn root_with_status(schema: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let kind = schema.text("type");
    if !matches!(kind, "" | "object") {
        let why =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(path.of("type").field(), &kind.into(), why));
        return;
    }
    let known = |key: &str| AT_ROOT_WITH_STATUS.iter().any(|(name, _)| *name == key);
    let set = |value: &Value| !value.is_null() && *value != Value::Bool(false);
    let other = schema
        .as_object()
        .is_some_and(|map| map.iter().any(|(key, value)| set(value) && !known(key)));
    if other {
        let names: Vec<&str> = AT_ROOT_WITH_STATUS.iter().map(|(_, name)| *name).collect();
        let why = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        errors.push(FieldError::invalid(path.field(), schema, &why));
    }
}
