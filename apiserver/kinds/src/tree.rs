//! Reading and filling the value tree by path. A path is dotted member names
//! (`spec.template`); members whose own name has a dot are read by index.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

pub(crate) trait Tree {
    /// The value at the path, or null.
    fn at(&self, path: &str) -> &Value;
    /// The text at the path, or empty.
    fn text(&self, path: &str) -> &str;
    fn int(&self, path: &str) -> Option<i64>;
    fn flag(&self, path: &str) -> bool;
    /// The items of the list at the path, none if it is absent.
    fn items(&self, path: &str) -> &[Value];
    fn map(&self, path: &str) -> Option<&Map<String, Value>>;
    /// Present and not null.
    fn has(&self, path: &str) -> bool {
        !self.at(path).is_null()
    }
}

impl Tree for Value {
    fn at(&self, path: &str) -> &Value {
        let mut value = self;
        for name in path.split('.') {
            match value.get(name) {
                Some(inner) => value = inner,
                None => return &NULL,
            }
        }
        value
    }

    fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or("")
    }

    fn int(&self, path: &str) -> Option<i64> {
        self.at(path).as_i64()
    }

    fn flag(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or(false)
    }

    fn items(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map_or(&[], Vec::as_slice)
    }

    fn map(&self, path: &str) -> Option<&Map<String, Value>> {
        self.at(path).as_object()
    }
}

/// The object at `key`, made if absent; `None` if something else is there.
pub(crate) fn object<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let map = parent.as_object_mut()?;
    let slot = map.entry(key.to_string()).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.is_object().then_some(slot)
}

/// The object at `key` if it is there.
pub(crate) fn existing<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    parent.get_mut(key).filter(|v| v.is_object())
}

/// The items of the list at `key`, none if it is absent.
pub(crate) fn each<'a>(parent: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Sets `key` where it is absent or null.
pub(crate) fn set_default(parent: &mut Value, key: &str, value: impl Into<Value>) {
    let Some(map) = parent.as_object_mut() else { return };
    match map.get_mut(key) {
        Some(Value::Null) => drop(map.insert(key.to_string(), value.into())),
        Some(_) => {}
        None => drop(map.insert(key.to_string(), value.into())),
    }
}

/// Sets `key` where it is absent, null or the empty text: Go's zero value.
pub(crate) fn set_text(parent: &mut Value, key: &str, value: &str) {
    if parent.get(key).is_none_or(|v| v.is_null() || v.as_str() == Some(""))
        && let Some(map) = parent.as_object_mut()
    {
        map.insert(key.to_string(), value.into());
    }
}

/// Sets `key` where it is absent, null or zero.
pub(crate) fn set_int(parent: &mut Value, key: &str, value: i64) {
    if parent.get(key).is_none_or(|v| v.is_null() || v.as_i64() == Some(0))
        && let Some(map) = parent.as_object_mut()
    {
        map.insert(key.to_string(), value.into());
    }
}
