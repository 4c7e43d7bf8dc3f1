//! Label selectors over label maps. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub type Labels = BTreeMap<String, String>;

pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// As people write selectors: `app=web,tier in (a,b)`.
pub fn show(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let mut parts: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    for requirement in selector.match_expressions.iter().flatten() {
        let (key, values) = (
            &requirement.key,
            requirement.values.clone().unwrap_or_default().join(","),
        );
        parts.push(match requirement.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        });
    }
    parts.join(",")
}

/// Whether the labels satisfy every requirement; an empty selector matches everything, an unknown operator
/// nothing.
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, wanted)| value(key) == Some(wanted))
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let has = value(&requirement.key);
            let listed = has.is_some_and(|has| requirement.values.iter().flatten().any(|value| value == has));
            match requirement.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => has.is_some(),
                "DoesNotExist" => has.is_none(),
                _ => false,
            }
        })
}

/// A plain map selector, as Services and ReplicationControllers have it.
pub fn contains(labels: Option<&Labels>, wanted: &Labels) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    #[test]
    fn requirements() {
        let labels = Labels::from([("app".to_string(), "web".to_string())]);
        let check = |key: &str, operator: &str, values: &[&str], expected: bool| {
            let selector = LabelSelector {
                match_expressions: Some(vec![LabelSelectorRequirement {
                    key: key.to_string(),
                    operator: operator.to_string(),
                    values: Some(values.iter().map(ToString::to_string).collect()),
                }]),
                match_labels: None,
            };
            assert_eq!(
                matches(&selector, Some(&labels)),
                expected,
                "{key} {operator} {values:?}"
            );
        };
        check("app", "In", &["web", "db"], true);
        check("app", "NotIn", &["web"], false);
        check("tier", "NotIn", &["web"], true);
        check("app", "Exists", &[], true);
        check("tier", "DoesNotExist", &[], true);
        check("app", "Bogus", &[], false);
    }
}
