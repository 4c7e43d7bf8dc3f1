//! Label selectors and node selector terms. Pure.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

pub type Labels = BTreeMap<String, String>;

/// An absent selector selects nothing, an empty one everything.
pub fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|rule| {
            matches(
                &rule.operator,
                labels.get(&rule.key),
                rule.values.as_deref().unwrap_or_default(),
            )
        })
}

/// Terms are alternatives; a term without requirements selects nothing.
pub fn node_matches(selector: &NodeSelector, name: &str, labels: &Labels) -> bool {
    selector
        .node_selector_terms
        .iter()
        .any(|term| term_matches(term, name, labels))
}

pub fn term_matches(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let on_labels = |rule: &NodeSelectorRequirement| {
        matches(
            &rule.operator,
            labels.get(&rule.key),
            rule.values.as_deref().unwrap_or_default(),
        )
    };
    let name = name.to_string();
    let on_fields = |rule: &NodeSelectorRequirement| {
        rule.key == "metadata.name" && matches(&rule.operator, Some(&name), rule.values.as_deref().unwrap_or_default())
    };
    expressions.iter().all(on_labels) && fields.iter().all(on_fields)
}

fn matches(operator: &str, value: Option<&String>, values: &[String]) -> bool {
    let number = |text: &String| text.parse::<i64>().ok();
    let bound = values.first().and_then(number);
    match operator {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => !value.is_some_and(|value| values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => matches!((value.and_then(number), bound), (Some(have), Some(bound)) if have > bound),
        "Lt" => matches!((value.and_then(number), bound), (Some(have), Some(bound)) if have < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let value = "5".to_string();
        let some = Some(&value);
        let list = |items: &[&str]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (operator, have, values, expected) in [
            ("In", some, list(&["5", "6"]), true),
            ("In", None, list(&["5"]), false),
            ("NotIn", None, list(&["5"]), true),
            ("NotIn", some, list(&["5"]), false),
            ("Exists", some, vec![], true),
            ("DoesNotExist", some, vec![], false),
            ("Gt", some, list(&["4"]), true),
            ("Gt", some, list(&["x"]), false),
            ("Lt", some, list(&["5"]), false),
            ("Nonsense", some, list(&["5"]), false),
        ] {
            assert_eq!(
                matches(operator, have, &values),
                expected,
                "{operator} {have:?} {values:?}"
            );
        }
    }
}
