//! Lists that are sets or keyed: nothing may be in them twice. Source:
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy>.

use crate::path::Path;
use crate::schema::{List, Schema};
use serde_json::{Map, Value};
use skiff_api::FieldError;
use std::collections::{BTreeMap, HashMap};

/// Faults of all sets and keyed lists below; a list is reported at its first hundred
/// duplicates.
pub fn validate(schema: &Schema, value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    const ERRORS_MAX: usize = 100;
    if errors.len() >= ERRORS_MAX {
        return;
    }
    match value {
        Value::Array(items) => {
            match &schema.list {
                List::Set => set(items, path, errors),
                List::Map(keys) => keyed(schema, keys, items, path, errors),
                List::Atomic => {}
            }
            if let Some(inner) = &schema.items {
                for (i, item) in items.iter().enumerate() {
                    validate(inner, item, &path.at(i), errors);
                }
            }
        }
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(inner) = schema.property(name) {
                    validate(inner, value, &path.of(name), errors);
                } else if let Some(inner) = schema.additional() {
                    validate(inner, value, &path.key(name), errors);
                }
            }
        }
        _ => {}
    }
}

fn set(items: &[Value], path: &Path, errors: &mut Vec<FieldError>) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        // Keys of objects are ordered: equal values have equal texts.
        let count = seen.entry(item.to_string()).or_default();
        *count += 1;
        if *count == 2 {
            errors.push(FieldError::duplicate(path.at(i).field(), item));
        }
    }
}

fn keyed(schema: &Schema, keys: &[Box<str>], items: &[Value], path: &Path, errors: &mut Vec<FieldError>) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let Value::Object(map) = item else { continue };
        let key = key_of(schema, keys, map);
        let count = seen.entry(Value::Object(key.clone()).to_string()).or_default();
        *count += 1;
        if *count == 2 {
            errors.push(FieldError::duplicate(path.at(i).field(), &Value::Object(key)));
        }
    }
}

/// The members of an item that tell it from others.
fn key_of(schema: &Schema, keys: &[Box<str>], item: &Map<String, Value>) -> Map<String, Value> {
    let default = |key: &str| schema.items.as_ref()?.property(key)?.default.as_deref();
    keys.iter()
        .filter_map(|key| {
            let value = item.get(key.as_ref()).or_else(|| default(key))?;
            Some((key.to_string(), value.clone()))
        })
        .collect()
}

/// The items of a keyed list by their keys.
pub struct Keyed<'a> {
    schema: &'a Schema,
    items: BTreeMap<String, Option<&'a Value>>,
}

impl<'a> Keyed<'a> {
    /// `None` where the list is not keyed.
    pub fn new(schema: &'a Schema, list: &'a Value) -> Option<Self> {
        let List::Map(keys) = &schema.list else { return None };
        let mut items = BTreeMap::new();
        for item in list.as_array()? {
            let key = Value::Object(key_of(schema, keys, item.as_object()?)).to_string();
            // Two of the same key stand for nothing.
            items.entry(key).and_modify(|found| *found = None).or_insert(Some(item));
        }
        Some(Self { schema, items })
    }

    /// The item of the same key.
    pub fn find(&self, item: &Value) -> Option<&'a Value> {
        let List::Map(keys) = &self.schema.list else {
            return None;
        };
        let key = Value::Object(key_of(self.schema, keys, item.as_object()?)).to_string();
        *self.items.get(&key)?
    }
}
