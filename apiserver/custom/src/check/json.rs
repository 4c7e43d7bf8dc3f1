//! Reading the JSON of a definition.

use serde_json::Value;

pub(crate) trait Json {
    fn text(&self, key: &str) -> &str;
    fn flag(&self, key: &str) -> bool;
    fn items(&self, key: &str) -> &[Value];
    /// The object at the key.
    fn node(&self, key: &str) -> Option<&Value>;
    /// There and not null.
    fn has(&self, key: &str) -> bool;
}

impl Json for Value {
    fn text(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or_default()
    }

    fn items(&self, key: &str) -> &[Value] {
        self.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn node(&self, key: &str) -> Option<&Value> {
        self.get(key).filter(|v| v.is_object())
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| !v.is_null())
    }
}

/// The entries of the object at the key, by name.
pub(crate) fn members<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = value.get(key).and_then(Value::as_object);
    map.into_iter().flatten().map(|(name, inner)| (name.as_str(), inner))
}
