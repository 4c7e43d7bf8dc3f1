//! Rules between pods, parsed: which pods a term is about, and how they count. Pure.

use crate::selector::{Labels, Selector};
use k8s_openapi::api::core::v1::{Affinity, PodAffinityTerm};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of namespaces by name.
pub type Namespaces = BTreeMap<String, Labels>;

/// The pods that a term or constraint is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Crowd {
    pub namespaces: BTreeSet<String>,
    /// Further namespaces, by their labels.
    pub namespace_selector: Option<Selector>,
    pub pods: Selector,
}

impl Crowd {
    /// In one namespace.
    pub fn within(namespace: &str, pods: Selector) -> Self {
        Self {
            namespaces: BTreeSet::from([namespace.to_string()]),
            namespace_selector: None,
            pods,
        }
    }

    pub fn includes(&self, namespaces: &Namespaces, namespace: &str, labels: &Labels) -> bool {
        self.reaches(namespaces, namespace) && self.pods.selects(labels)
    }

    fn reaches(&self, namespaces: &Namespaces, namespace: &str) -> bool {
        if self.namespaces.contains(namespace) {
            return true;
        }
        let Some(selector) = &self.namespace_selector else {
            return false;
        };
        match namespaces.get(namespace) {
            Some(labels) => selector.selects(labels),
            None => selector.selects(&Labels::new()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term {
    pub topology_key: String,
    pub crowd: Crowd,
}

impl Term {
    fn new(namespace: &str, term: &PodAffinityTerm) -> Self {
        let named = term.namespaces.as_deref().unwrap_or_default();
        let own = named.is_empty() && term.namespace_selector.is_none();
        Self {
            topology_key: term.topology_key.clone(),
            crowd: Crowd {
                namespaces: if own {
                    BTreeSet::from([namespace.to_string()])
                } else {
                    named.iter().cloned().collect()
                },
                namespace_selector: term
                    .namespace_selector
                    .as_ref()
                    .map(|selector| Selector::new(Some(selector))),
                pods: Selector::new(term.label_selector.as_ref()),
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pull {
    /// Required affinity.
    Needs,
    /// Required anti-affinity.
    Bars,
    /// Preferred affinity, with its weight; anti-affinity has a negative one.
    Prefers(i32),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodTerm {
    pub pull: Pull,
    pub term: Term,
}

/// The rules of a pod in `namespace`.
pub fn pod_terms(namespace: &str, affinity: &Affinity) -> Vec<PodTerm> {
    let term = |pull, term: &PodAffinityTerm| PodTerm {
        pull,
        term: Term::new(namespace, term),
    };
    let mut out = Vec::new();
    if let Some(affinity) = &affinity.pod_affinity {
        let required = affinity.required_during_scheduling_ignored_during_execution.iter();
        out.extend(required.flatten().map(|one| term(Pull::Needs, one)));
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter();
        out.extend(
            preferred
                .flatten()
                .map(|one| term(Pull::Prefers(one.weight), &one.pod_affinity_term)),
        );
    }
    if let Some(anti) = &affinity.pod_anti_affinity {
        let required = anti.required_during_scheduling_ignored_during_execution.iter();
        out.extend(required.flatten().map(|one| term(Pull::Bars, one)));
        let preferred = anti.preferred_during_scheduling_ignored_during_execution.iter();
        out.extend(
            preferred
                .flatten()
                .map(|one| term(Pull::Prefers(-one.weight), &one.pod_affinity_term)),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_term_reaches_its_namespaces() {
        let namespaces = Namespaces::from([("red".to_string(), Labels::from([("team".into(), "a".into())]))]);
        let labels = Labels::from([("app".into(), "web".into())]);
        for (extra, own, red, blue) in [
            (json!({}), true, false, false),
            (json!({"namespaces": ["blue"]}), false, false, true),
            (json!({"namespaceSelector": {}}), true, true, true),
            (
                json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}),
                false,
                true,
                false,
            ),
            (
                json!({"namespaces": ["blue"], "namespaceSelector": {"matchLabels": {"team": "a"}}}),
                false,
                true,
                true,
            ),
        ] {
            let mut value = json!({"topologyKey": "k", "labelSelector": {"matchLabels": {"app": "web"}}});
            for (key, field) in extra.as_object().expect("an object") {
                value[key] = field.clone();
            }
            let term = Term::new("own", &serde_json::from_value(value).expect("a term"));
            let got = ["own", "red", "blue"].map(|namespace| term.crowd.includes(&namespaces, namespace, &labels));
            assert_eq!(got, [own, red, blue], "{extra}");
            assert!(!term.crowd.includes(&namespaces, "own", &Labels::new()), "{extra}");
        }
    }

    #[test]
    fn preferences_against_weigh_negative() {
        let term = json!({"topologyKey": "k"});
        let both = json!({
            "requiredDuringSchedulingIgnoredDuringExecution": [term],
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "podAffinityTerm": term}],
        });
        let affinity = json!({"podAffinity": both, "podAntiAffinity": both});
        let terms = pod_terms("d", &serde_json::from_value(affinity).expect("an affinity"));
        let pulls: Vec<Pull> = terms.iter().map(|term| term.pull).collect();
        assert_eq!(pulls, [Pull::Needs, Pull::Prefers(7), Pull::Bars, Pull::Prefers(-7)]);
    }
}
