//! Filling in `default`s, top down, so that what a default brings is completed by the
//! defaults below it. A null where null is not allowed is
//! as good as nothing there.

use crate::schema::Schema;
use serde_json::Value;

/// Fills in the defaults of an object; idempotent.
pub fn fill(schema: &Schema, value: &mut Value) {
    if schema.has_defaults {
        node(schema, value);
    }
}

fn node(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, inner) in schema.properties().filter(|(_, inner)| inner.has_defaults) {
                let missing = match map.get(name) {
                    None => true,
                    Some(Value::Null) => !inner.nullable,
                    Some(_) => false,
                };
                match &inner.default {
                    Some(default) if missing => drop(map.insert(name.to_string(), (**default).clone())),
                    _ => {}
                }
                if let Some(value) = map.get_mut(name) {
                    node(inner, value);
                }
            }
            if let Some(inner) = schema.additional() {
                for (name, value) in map.iter_mut() {
                    if schema.property(name).is_some() {
                        continue;
                    }
                    if value.is_null()
                        && !inner.nullable
                        && let Some(default) = &inner.default
                    {
                        *value = (**default).clone();
                    }
                    if inner.has_defaults {
                        node(inner, value);
                    }
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = schema.items.as_deref().filter(|i| i.has_defaults) else {
                return;
            };
            for item in items {
                if item.is_null()
                    && !inner.nullable
                    && let Some(default) = &inner.default
                {
                    *item = (**default).clone();
                }
                node(inner, item);
            }
        }
        _ => {}
    }
}

/// Drops nulls where null is not allowed: nothing was meant there.
pub fn drop_nulls(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| match schema.member(name) {
                Some(inner) if value.is_null() => inner.nullable,
                Some(inner) => {
                    drop_nulls(inner, value);
                    true
                }
                None => true,
            });
        }
        Value::Array(items) => {
            if let Some(inner) = &schema.items {
                for item in items {
                    drop_nulls(inner, item);
                }
            }
        }
        _ => {}
    }
}
