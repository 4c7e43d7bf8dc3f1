//! Whether the defaults of a schema are values that the schema allows, with nothing in
//! them that it does not know.

use crate::path::Path;
use crate::schema::Schema;
use crate::{meta, prune, validate};
use serde_json::{Value, json};
use skiff_api::FieldError;

/// Deeper than this no schema is compiled.
const DEPTH_MAX: usize = 120;

/// What is wrong with the defaults below.
pub fn check(schema: &Schema, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    node(schema, path, &Within::new(schema, true), &mut Vec::new(), &mut errors);
    errors
}

/// The resource a schema is part of, and whether the schema describes its metadata.
struct Within<'a> {
    resource: &'a Schema,
    /// The schema here is that of a resource.
    root: bool,
    inside_meta: bool,
}

impl<'a> Within<'a> {
    fn new(resource: &'a Schema, root: bool) -> Self {
        Self {
            resource,
            root,
            inside_meta: false,
        }
    }
}

fn node<'a>(schema: &'a Schema, path: &Path, within: &Within<'a>, at: &mut Vec<&'a str>, errors: &mut Vec<FieldError>) {
    if !schema.has_defaults || at.len() > DEPTH_MAX {
        return;
    }
    let own = Within::new(schema, true);
    let mut fresh = Vec::new();
    let (within, at) = if schema.embedded {
        (&own, &mut fresh)
    } else {
        (within, at)
    };
    if let Some(default) = &schema.default {
        let path = path.of("default");
        if within.inside_meta {
            inside_meta(schema, default, &path, within.resource, at, errors);
        } else {
            plain(schema, default, &path, errors);
        }
    }
    let inside = |name: &str| within.inside_meta || (within.root && prune::is_meta(name));
    if let Some(items) = &schema.items {
        let below = Within { root: false, ..*within };
        at.push("[]");
        node(items, &path.of("items"), &below, at, errors);
        at.pop();
    }
    let properties = path.of("properties");
    for (name, inner) in schema.properties() {
        let below = Within {
            resource: within.resource,
            root: false,
            inside_meta: inside(name),
        };
        at.push(name);
        node(inner, &properties.key(name), &below, at, errors);
        at.pop();
    }
}

fn plain(schema: &Schema, default: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let mut value = default.clone();
    if prune::prune_value(schema, &mut value) {
        errors.push(FieldError::invalid(
            path.field(),
            default,
            "must not have unknown fields",
        ));
    }
    let mut value = default.clone();
    let mut found = match meta::coerce_node(schema, schema.embedded, &mut value, path, &mut Vec::new()) {
        Err(error) => vec![error],
        Ok(()) => meta::validate(schema, &value, schema.embedded, path),
    };
    if found.is_empty() {
        found = values(schema, &value, path);
    }
    errors.append(&mut found);
}

/// A default in the metadata of a resource is looked at in a resource made of it alone.
fn inside_meta(
    schema: &Schema,
    default: &Value,
    path: &Path,
    resource: &Schema,
    at: &[&str],
    errors: &mut Vec<FieldError>,
) {
    let mut object = at.iter().rev().fold(default.clone(), |inner, name| match *name {
        "[]" => json!([inner]),
        name => json!({ name: inner }),
    });
    for (key, value) in [("apiVersion", "validation/v1"), ("kind", "Validation")] {
        if object.get(key).is_none() {
            object[key] = value.into();
        }
    }
    let wrong = match meta::coerce(resource, &mut object, true) {
        Err(error) => Some(error.to_string()),
        Ok(_) => {
            let found = meta::validate(resource, &object, true, &Path::ROOT);
            let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
            match texts.as_slice() {
                [] => None,
                [one] => Some(one.clone()),
                many => Some(format!("[{}]", many.join(", "))),
            }
        }
    };
    match wrong {
        Some(why) => {
            let why = format!("must result in valid metadata: {why}");
            errors.push(FieldError::invalid(path.field(), default, &why));
        }
        None => errors.extend(values(schema, default, path)),
    }
}

/// Faults of the value itself: they are told from the default down.
fn values(schema: &Schema, value: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = validate::validate(schema, value, &Path::ROOT);
    for error in &mut errors {
        error.field = match error.field.as_str() {
            "<nil>" => path.field(),
            below if below.starts_with('[') => format!("{path}{below}"),
            below => format!("{path}.{below}"),
        };
    }
    errors
}
