//! Which pods belong together: those that the same Services select and the same owner
//! made. Pods without spreading of their own are spread among these. Pure.

use crate::selector;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;
use std::sync::Arc;

type Named = BTreeMap<String, Arc<LabelSelector>>;

/// What selects pods, as the API last said.
#[derive(Debug, Default)]
pub struct Kin {
    /// By namespace and name.
    services: BTreeMap<String, Named>,
    /// By kind, namespace and name.
    owners: BTreeMap<&'static str, BTreeMap<String, Named>>,
}

/// A kind whose selector counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Service,
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

impl Source {
    fn kind(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::ReplicationController => "ReplicationController",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

impl Kin {
    fn of_source(&mut self, source: Source) -> &mut BTreeMap<String, Named> {
        match source {
            Source::Service => &mut self.services,
            other => self.owners.entry(other.kind()).or_default(),
        }
    }

    pub fn set(&mut self, source: Source, namespace: &str, name: &str, selector: Option<LabelSelector>) {
        let Some(selector) = selector.filter(|selector| *selector != LabelSelector::default()) else {
            return self.remove(source, namespace, name);
        };
        let named = self.of_source(source).entry(namespace.to_string()).or_default();
        if named.get(name).is_none_or(|known| **known != selector) {
            named.insert(name.to_string(), Arc::new(selector));
        }
    }

    pub fn remove(&mut self, source: Source, namespace: &str, name: &str) {
        let all = self.of_source(source);
        if let Some(named) = all.get_mut(namespace) {
            named.remove(name);
            if named.is_empty() {
                all.remove(namespace);
            }
        }
    }

    /// All of a source are read anew.
    pub fn clear(&mut self, source: Source) {
        self.of_source(source).clear();
    }

    /// What selects this pod and its like; `None` if nothing does.
    pub fn of(&self, pod: &Pod) -> Option<Arc<LabelSelector>> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let labels = pod.metadata.labels.as_ref();
        let selecting = self
            .services
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|selector| labels.is_some_and(|labels| selector::selects(Some(selector), labels)));
        let owners = pod.metadata.owner_references.iter().flatten();
        let owner = owners
            .into_iter()
            .find(|owner| owner.controller == Some(true))
            .and_then(|owner| self.owners.get(owner.kind.as_str())?.get(namespace)?.get(&owner.name));
        let mut all = selecting.chain(owner);
        let first = all.next()?;
        Some(all.fold(first.clone(), |sum, next| Arc::new(both(&sum, next))))
    }
}

/// Selects what both select.
fn both(a: &LabelSelector, b: &LabelSelector) -> LabelSelector {
    let mut out = a.clone();
    let labels = out.match_labels.get_or_insert_default();
    let mut rules: Vec<LabelSelectorRequirement> = out.match_expressions.take().unwrap_or_default();
    for (key, value) in b.match_labels.iter().flatten() {
        match labels.get(key) {
            Some(known) if known != value => rules.push(LabelSelectorRequirement {
                key: key.clone(),
                operator: "In".into(),
                values: Some(vec![value.clone()]),
            }),
            _ => drop(labels.insert(key.clone(), value.clone())),
        }
    }
    rules.extend(b.match_expressions.iter().flatten().cloned());
    out.match_expressions = (!rules.is_empty()).then_some(rules);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(pairs: serde_json::Value) -> Option<LabelSelector> {
        Some(serde_json::from_value(json!({"matchLabels": pairs})).expect("a selector"))
    }

    fn pod(owner: &str) -> Pod {
        let owners = json!([{"apiVersion": "apps/v1", "kind": owner, "name": "web", "uid": "u", "controller": true}]);
        let meta = json!({"name": "p", "namespace": "d", "labels": {"app": "web", "tier": "front"}, "ownerReferences": owners});
        serde_json::from_value(json!({"metadata": meta})).expect("a pod")
    }

    #[test]
    fn services_and_owner_select_together() {
        let mut kin = Kin::default();
        assert_eq!(kin.of(&pod("ReplicaSet")), None);
        kin.set(Source::Service, "d", "web", labels(json!({"app": "web"})));
        kin.set(Source::Service, "d", "other", labels(json!({"app": "other"})));
        kin.set(Source::Service, "elsewhere", "web", labels(json!({"tier": "front"})));
        kin.set(Source::ReplicaSet, "d", "web", labels(json!({"tier": "front"})));
        let found = |kin: &Kin, owner| kin.of(&pod(owner)).and_then(|selector| selector.match_labels.clone());
        let expect = |pairs| labels(pairs).and_then(|selector| selector.match_labels);
        assert_eq!(
            found(&kin, "ReplicaSet"),
            expect(json!({"app": "web", "tier": "front"}))
        );
        assert_eq!(found(&kin, "StatefulSet"), expect(json!({"app": "web"})));
        kin.clear(Source::Service);
        assert_eq!(found(&kin, "ReplicaSet"), expect(json!({"tier": "front"})));
        kin.set(Source::ReplicaSet, "d", "web", None);
        assert_eq!(found(&kin, "ReplicaSet"), None);
    }

    #[test]
    fn what_contradicts_selects_nothing() {
        let (a, b) = (labels(json!({"app": "a"})), labels(json!({"app": "b"})));
        let sum = both(&a.expect("a selector"), &b.expect("a selector"));
        for app in ["a", "b"] {
            let labels = [("app".to_string(), app.to_string())].into();
            assert!(!selector::selects(Some(&sum), &labels));
        }
    }
}
