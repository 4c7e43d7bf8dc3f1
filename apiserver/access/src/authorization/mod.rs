//! Authorizers: may this user do this? In order: the masters' group, the Node
//! authorizer, RBAC; the first to allow ends it. Nobody denies outright.

pub mod node;
pub mod rbac;
pub mod rules;

use crate::authentication::MASTERS;
use crate::contract::{Attributes, Decision, Objects, UserInfo};
use arc_swap::ArcSwapOption;
use rbac::Index;
use rules::Rule;
use serde_json::{Value, json};
use std::sync::Arc;

/// Authorizers with the compiled RBAC index they share.
#[derive(Default)]
pub struct Authorizers {
    index: ArcSwapOption<Index>,
    node_rules: Vec<Rule>,
}

impl Authorizers {
    /// `node_rules`: what every node may do, beyond what the graph gives it.
    pub fn new(node_rules: Vec<Rule>) -> Self {
        Self {
            index: ArcSwapOption::empty(),
            node_rules,
        }
    }

    pub fn authorize(&self, a: &Attributes, objects: &dyn Objects) -> Decision {
        if a.user.groups.iter().any(|group| group == MASTERS) {
            return Decision::Allow { reason: String::new() };
        }
        let mut refused = Vec::new();
        if let Some(name) = node::node_name(a.user) {
            match node::authorize(name, a, objects, &self.node_rules) {
                Ok(()) => return Decision::Allow { reason: String::new() },
                Err(reason) => refused.push(reason),
            }
        }
        let index = self.index(objects);
        match index.allows(a) {
            Some(reason) => Decision::Allow { reason },
            None => {
                let namespace = if a.path.is_empty() { a.namespace } else { "" };
                refused.extend(aggregated(&index.faults(a.user, namespace)).map(|faults| format!("RBAC: {faults}")));
                refused.retain(|reason| !reason.is_empty());
                Decision::Deny {
                    reason: refused.join(", "),
                }
            }
        }
    }

    /// Status of a SelfSubjectRulesReview.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str, objects: &dyn Objects) -> Value {
        let mut resource_rules = Vec::new();
        let mut url_rules = Vec::new();
        let index = self.index(objects);
        for rule in index.rules_of(user, namespace) {
            if !rule.resources.is_empty() {
                let mut shown = json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
                if !rule.names.is_empty() {
                    shown["resourceNames"] = json!(rule.names);
                }
                resource_rules.push(shown);
            }
            if !rule.urls.is_empty() {
                url_rules.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls}));
            }
        }
        let mut status = json!({"resourceRules": resource_rules, "nonResourceRules": url_rules, "incomplete": false});
        let mut faults = index.faults(user, namespace);
        if node::node_name(user).is_some() {
            status["incomplete"] = true.into();
            faults.insert(0, "node authorizer does not support user rule resolution".into());
        }
        if let Some(faults) = aggregated(&faults) {
            status["evaluationError"] = faults.into();
        }
        status
    }

    /// The RBAC index for the roles and bindings as they are now.
    pub fn index(&self, objects: &dyn Objects) -> Arc<Index> {
        let generations = rbac::RESOURCES.map(|resource| objects.generation(rbac::GROUP, resource));
        if let Some(index) = self.index.load_full()
            && index.generations == generations
        {
            return index;
        }
        let index = Arc::new(Index::build(objects, generations));
        self.index.store(Some(Arc::clone(&index)));
        index
    }
}

/// Several errors as one text, as Go's aggregates print.
fn aggregated(faults: &[String]) -> Option<String> {
    match faults {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests;
