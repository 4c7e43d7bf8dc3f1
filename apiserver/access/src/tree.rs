//! Short ways to read a value tree. Absent and of another type both read as
//! empty: what must be present was checked by validation.

use serde_json::Value;

/// Text at a JSON pointer, or empty.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// Elements of the list at a JSON pointer, or none.
pub fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Texts of the list at a JSON pointer.
pub fn texts(value: &Value, pointer: &str) -> Vec<String> {
    items(value, pointer)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_string)
        .collect()
}

pub fn flag(value: &Value, pointer: &str) -> Option<bool> {
    value.pointer(pointer).and_then(Value::as_bool)
}

/// `value[key]` as a map, made where it is absent.
pub fn map_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut serde_json::Map<String, Value>> {
    let parent = value.as_object_mut()?;
    let child = parent.entry(key).or_insert_with(|| Value::Object(Default::default()));
    if child.is_null() {
        *child = Value::Object(Default::default());
    }
    child.as_object_mut()
}

/// `value[key]` as a list, made where it is absent.
pub fn list_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Vec<Value>> {
    let parent = value.as_object_mut()?;
    let child = parent.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if child.is_null() {
        *child = Value::Array(Vec::new());
    }
    child.as_array_mut()
}

/// Whether a label selector (`matchLabels`, `matchExpressions`) takes the labels. An
/// empty selector takes everything; an unknown operator takes nothing.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let equal = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| label(key) == value.as_str()));
    equal
        && items(selector, "/matchExpressions").iter().all(|expression| {
            let actual = label(text(expression, "/key"));
            let listed = actual.is_some_and(|a| items(expression, "/values").iter().any(|v| v.as_str() == Some(a)));
            match text(expression, "/operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => actual.is_some(),
                "DoesNotExist" => actual.is_none(),
                _ => false,
            }
        })
}
