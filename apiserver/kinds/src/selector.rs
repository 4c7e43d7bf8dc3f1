//! Label selectors: checking them, matching labels, and writing them as text.

use crate::check::{Errors, Path};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;

/// Checks a `LabelSelector`.
pub(crate) fn validate(selector: &Value, path: &Path, errors: &mut Errors) {
    crate::meta::labels(selector.at("matchLabels"), &path.of("matchLabels"), errors);
    let list = path.of("matchExpressions");
    for (i, expression) in selector.items("matchExpressions").iter().enumerate() {
        let path = list.at(i);
        match expression.text("operator") {
            "In" | "NotIn" => {
                if expression.items("values").is_empty() {
                    errors.required(
                        &path.of("values"),
                        "must be specified when `operator` is 'In' or 'NotIn'",
                    );
                }
            }
            "Exists" | "DoesNotExist" => {
                if !expression.items("values").is_empty() {
                    errors.forbidden(
                        &path.of("values"),
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    );
                }
            }
            other => errors.invalid(&path.of("operator"), other, "not a valid selector operator"),
        }
        let key = expression.text("key");
        errors.all(&path.of("key"), key, names::qualified_name(key));
        let values = path.of("values");
        for (j, value) in expression.items("values").iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            errors.all(&values.at(j), value, names::label_value(value));
        }
    }
}

pub(crate) fn is_empty(selector: &Value) -> bool {
    selector.map("matchLabels").is_none_or(serde_json::Map::is_empty) && selector.items("matchExpressions").is_empty()
}

/// Whether a `LabelSelector` selects the labels.
pub(crate) fn matches(selector: &Value, labels: &Value) -> bool {
    let equal = selector
        .map("matchLabels")
        .into_iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v));
    equal
        && selector.items("matchExpressions").iter().all(|e| {
            let value = labels.get(e.text("key"));
            let listed = value.is_some_and(|v| e.items("values").contains(v));
            match e.text("operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// A `LabelSelector` as kubectl prints it; `<none>` if it selects everything.
pub(crate) fn text(selector: &Value) -> String {
    if selector.is_null() || is_empty(selector) {
        return "<none>".to_string();
    }
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector.map("matchLabels").into_iter().flatten() {
        parts.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or(""))));
    }
    for e in selector.items("matchExpressions") {
        let key = e.text("key");
        let mut values: Vec<&str> = e.items("values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let shown = match e.text("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_string(),
        };
        parts.push((key.to_string(), shown));
    }
    parts.sort();
    parts.into_iter().map(|(_, shown)| shown).collect::<Vec<_>>().join(",")
}

/// A map of labels as kubectl prints it.
pub(crate) fn labels_text(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    if pairs.is_empty() {
        "<none>".to_string()
    } else {
        pairs.join(",")
    }
}
