//! Label selectors and node selector terms, parsed once and compared by value. Pure.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
    /// What cannot be read matches nothing.
    Unknown,
}

impl Operator {
    fn parse(text: &str) -> Self {
        match text {
            "In" => Self::In,
            "NotIn" => Self::NotIn,
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            "Gt" => Self::Gt,
            "Lt" => Self::Lt,
            _ => Self::Unknown,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    fn new(key: &str, operator: &str, values: Option<&Vec<String>>) -> Self {
        Self {
            key: key.to_string(),
            operator: Operator::parse(operator),
            values: values.cloned().unwrap_or_default(),
        }
    }

    fn is(key: &str, value: &str) -> Self {
        Self {
            key: key.to_string(),
            operator: Operator::In,
            values: vec![value.to_string()],
        }
    }

    fn holds(&self, value: Option<&String>) -> bool {
        let number = |text: &String| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(number);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => !value.is_some_and(|value| self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => matches!((value.and_then(number), bound()), (Some(have), Some(bound)) if have > bound),
            Operator::Lt => matches!((value.and_then(number), bound()), (Some(have), Some(bound)) if have < bound),
            Operator::Unknown => false,
        }
    }
}

/// A label selector. Selectors that say the same in another order are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    /// `None`: selects nothing.
    requirements: Option<BTreeSet<Requirement>>,
}

impl Selector {
    /// An absent selector selects nothing, an empty one everything.
    pub fn new(selector: Option<&LabelSelector>) -> Self {
        let requirements = selector.map(|selector| {
            let labels = selector.match_labels.iter().flatten();
            let equal = labels.map(|(key, value)| Requirement::is(key, value));
            let rules = selector.match_expressions.iter().flatten();
            let others = rules.map(|rule| Requirement::new(&rule.key, &rule.operator, rule.values.as_ref()));
            equal.chain(others).collect()
        });
        Self { requirements }
    }

    /// Adds that a label must have this value. What selected nothing still does.
    pub fn and_label(mut self, key: &str, value: &str) -> Self {
        if let Some(requirements) = &mut self.requirements {
            requirements.insert(Requirement::is(key, value));
        }
        self
    }

    pub fn selects(&self, labels: &Labels) -> bool {
        let Some(requirements) = &self.requirements else {
            return false;
        };
        requirements.iter().all(|rule| rule.holds(labels.get(&rule.key)))
    }

    /// It selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.as_ref().is_some_and(BTreeSet::is_empty)
    }
}

/// For once; an absent selector selects nothing, an empty one everything.
pub fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    Selector::new(selector).selects(labels)
}

/// One of a node selector's alternatives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl NodeTerm {
    pub fn new(term: &NodeSelectorTerm) -> Self {
        let parse = |rules: &Option<Vec<NodeSelectorRequirement>>| {
            let rules = rules.iter().flatten();
            rules
                .map(|rule| Requirement::new(&rule.key, &rule.operator, rule.values.as_ref()))
                .collect()
        };
        Self {
            labels: parse(&term.match_expressions),
            fields: parse(&term.match_fields),
        }
    }

    /// A term without requirements matches nothing. The only field is the name.
    pub fn matches(&self, name: &String, labels: &Labels) -> bool {
        !(self.labels.is_empty() && self.fields.is_empty())
            && self.labels.iter().all(|rule| rule.holds(labels.get(&rule.key)))
            && self
                .fields
                .iter()
                .all(|rule| rule.key == "metadata.name" && rule.holds(Some(name)))
    }

    /// The names of the nodes that alone can match, if the term says them.
    pub fn names(&self) -> Option<BTreeSet<String>> {
        let named = self
            .fields
            .iter()
            .filter(|rule| rule.key == "metadata.name" && rule.operator == Operator::In);
        let sets = named.map(|rule| rule.values.iter().cloned().collect::<BTreeSet<String>>());
        sets.reduce(|all, one| all.intersection(&one).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
            ("Exists", None, vec![], false),
            ("DoesNotExist", some, vec![], false),
            ("DoesNotExist", None, vec![], true),
            ("Gt", some, list(&["4"]), true),
            ("Gt", some, list(&["5"]), false),
            ("Gt", some, list(&["x"]), false),
            ("Gt", None, list(&["4"]), false),
            ("Lt", some, list(&["6"]), true),
            ("Lt", some, list(&["5"]), false),
            ("Nonsense", some, list(&["5"]), false),
        ] {
            let rule = Requirement::new("k", operator, Some(&values));
            assert_eq!(rule.holds(have), expected, "{operator} {have:?} {values:?}");
        }
    }

    #[test]
    fn selectors() {
        let parse = |value: serde_json::Value| serde_json::from_value::<LabelSelector>(value).expect("a selector");
        let labels = Labels::from([("app".into(), "web".into()), ("tier".into(), "1".into())]);
        assert!(!Selector::new(None).selects(&labels), "absent");
        assert!(Selector::new(Some(&parse(json!({})))).selects(&labels), "empty");
        for (selector, expected) in [
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "web", "tier": "2"}}), false),
            (
                json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["2"]}]}),
                true,
            ),
        ] {
            let got = Selector::new(Some(&parse(selector.clone()))).selects(&labels);
            assert_eq!(got, expected, "{selector}");
        }
        let one = parse(json!({"matchLabels": {"a": "1"}}));
        let other = parse(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}));
        assert_eq!(Selector::new(Some(&one)), Selector::new(Some(&other)));
    }

    #[test]
    fn node_terms() {
        let labels = Labels::from([("zone".into(), "east".into()), ("cores".into(), "8".into())]);
        let name = "n1".to_string();
        let named = |values: serde_json::Value| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]});
        for (term, matches, names) in [
            (json!({}), false, None),
            (named(json!(["n1", "n2"])), true, Some(2)),
            (named(json!(["n2"])), false, Some(1)),
            (
                json!({"matchFields": [{"key": "metadata.uid", "operator": "In", "values": ["n1"]}]}),
                false,
                None,
            ),
            (
                json!({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}),
                false,
                None,
            ),
            (
                json!({"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]}),
                true,
                None,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["west"]}]}),
                false,
                None,
            ),
            (
                json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]},
                    {"key": "metadata.name", "operator": "In", "values": ["n2"]}]}),
                false,
                Some(0),
            ),
        ] {
            let parsed = NodeTerm::new(&serde_json::from_value(term.clone()).expect("a term"));
            assert_eq!(parsed.matches(&name, &labels), matches, "{term}");
            assert_eq!(parsed.names().map(|names| names.len()), names, "{term}");
        }
    }
}
