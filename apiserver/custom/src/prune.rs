//! Dropping what a schema does not know. `apiVersion`, `kind` and `metadata` of objects
//! (the whole one and embedded ones) are always known; see [`crate::meta`] for them.

use crate::path::Path;
use crate::schema::{Additional, Schema};
use serde_json::Value;

/// No more unknown fields are reported.
const REPORTED_MAX: usize = 100;

/// Drops unknown fields below; the answer lists their paths, in order.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut pruned = Pruned::default();
    if schema.open {
        pruned.below_open(Some(schema), true, object, &Path::ROOT);
    } else {
        pruned.node(Some(schema), true, object, &Path::ROOT);
    }
    pruned.paths.sort();
    pruned.paths
}

/// As [`prune`] for a value within an object: a default.
pub fn prune_value(schema: &Schema, value: &mut Value) -> bool {
    let mut pruned = Pruned::default();
    pruned.node(Some(schema), schema.embedded, value, &Path::ROOT);
    pruned.any
}

#[derive(Default)]
struct Pruned {
    paths: Vec<String>,
    any: bool,
}

impl Pruned {
    fn node(&mut self, schema: Option<&Schema>, resource: bool, value: &mut Value, path: &Path) {
        if schema.is_some_and(|s| s.open) {
            return self.below_open(schema, resource, value, path);
        }
        match value {
            Value::Object(map) => {
                map.retain(|name, value| {
                    if resource && is_meta(name) {
                        return true;
                    }
                    let path = path.of(name);
                    match schema.map(|s| (s.property(name), &s.additional)) {
                        Some((Some(inner), _)) => self.node(Some(inner), inner.embedded, value, &path),
                        Some((None, Additional::Schema(inner))) => {
                            self.node(Some(inner), inner.embedded, value, &path);
                        }
                        Some((None, Additional::Any | Additional::Forbidden)) => self.node(None, false, value, &path),
                        Some((None, Additional::None)) | None => {
                            self.note(&path);
                            return false;
                        }
                    }
                    true
                });
            }
            Value::Array(items) => {
                let inner = schema.and_then(|s| s.items.as_deref());
                for (i, item) in items.iter_mut().enumerate() {
                    self.node(inner, inner.is_some_and(|s| s.embedded), item, &path.at(i));
                }
            }
            _ => {}
        }
    }

    /// Nothing is unknown here, but below what is named it may be.
    fn below_open(&mut self, schema: Option<&Schema>, resource: bool, value: &mut Value, path: &Path) {
        let Some(schema) = schema else { return };
        match value {
            Value::Object(map) => {
                for (name, value) in map.iter_mut() {
                    if resource && is_meta(name) {
                        continue;
                    }
                    let inner = schema.member(name);
                    if let Some(inner) = inner {
                        self.node(Some(inner), inner.embedded, value, &path.of(name));
                    } else if matches!(schema.additional, Additional::Any | Additional::Forbidden) {
                        self.node(None, false, value, &path.of(name));
                    }
                }
            }
            Value::Array(items) => {
                let inner = schema.items.as_deref();
                for (i, item) in items.iter_mut().enumerate() {
                    self.below_open(inner, inner.is_some_and(|s| s.embedded), item, &path.at(i));
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, path: &Path) {
        self.any = true;
        if self.paths.len() < REPORTED_MAX {
            self.paths.push(path.to_string());
        }
    }
}

pub(crate) fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}
