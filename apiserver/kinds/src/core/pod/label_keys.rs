//! `matchLabelKeys` and `mismatchLabelKeys`: a pod's own values of these labels become part of the selectors
//! that name them, once, when the pod is made. Whoever reads the pod later need know of the selectors alone.
//! Sources: KEP-3633 (pod affinity), KEP-3243 (topology spread).

use crate::tree::{Tree, each, existing};
use serde_json::{Map, Value, json};

pub(super) fn merge(pod: &mut Value) {
    if !pod.has("spec.affinity") && !pod.has("spec.topologySpreadConstraints") {
        return;
    }
    let labels = pod.map("metadata.labels").cloned().unwrap_or_default();
    let Some(spec) = existing(pod, "spec") else { return };
    for constraint in each(spec, "topologySpreadConstraints") {
        into_selector(constraint, &labels);
    }
    let Some(affinity) = existing(spec, "affinity") else {
        return;
    };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(rules) = existing(affinity, kind) else {
            continue;
        };
        for term in each(rules, "requiredDuringSchedulingIgnoredDuringExecution") {
            into_selector(term, &labels);
        }
        for weighted in each(rules, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = existing(weighted, "podAffinityTerm") {
                into_selector(term, &labels);
            }
        }
    }
}

/// Keys that the pod has no label for are passed over, and all of them where there is no selector.
fn into_selector(term: &mut Value, labels: &Map<String, Value>) {
    let mut expressions = Vec::new();
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term.items(list).iter().filter_map(Value::as_str);
        for (key, value) in keys.filter_map(|key| Some((key, labels.get(key)?))) {
            expressions.push(json!({"key": key, "operator": operator, "values": [value]}));
        }
    }
    let Some(selector) = existing(term, "labelSelector").filter(|_| !expressions.is_empty()) else {
        return;
    };
    match selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
        Some(list) => list.append(&mut expressions),
        None => selector["matchExpressions"] = expressions.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_pod_become_part_of_its_selectors() {
        let labels = json!({"app": "web", "hash": "h1", "tenant": "a"});
        let term = |selector: Value| {
            json!({"topologyKey": "z", "labelSelector": selector,
                "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["tenant"]})
        };
        let merged = json!([
            {"key": "hash", "operator": "In", "values": ["h1"]},
            {"key": "tenant", "operator": "NotIn", "values": ["a"]},
        ]);
        let mut pod = json!({"metadata": {"labels": labels}, "spec": {
            "topologySpreadConstraints": [{"matchLabelKeys": ["hash"], "labelSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}],
            "affinity": {
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(json!({"matchLabels": {"app": "web"}})), term(Value::Null)]},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term(json!({}))}]},
            },
        }});
        merge(&mut pod);
        let spec = &pod["spec"];
        assert_eq!(
            spec["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"],
            json!([{"key": "x", "operator": "Exists"}, {"key": "hash", "operator": "In", "values": ["h1"]}])
        );
        let required = &spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(
            required[0]["labelSelector"],
            json!({"matchLabels": {"app": "web"}, "matchExpressions": merged})
        );
        assert_eq!(required[1]["labelSelector"], Value::Null);
        let preferred = &spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(
            preferred[0]["podAffinityTerm"]["labelSelector"]["matchExpressions"],
            merged
        );
        let mut bare = json!({"spec": {"containers": []}});
        merge(&mut bare);
        assert_eq!(bare, json!({"spec": {"containers": []}}));
    }
}
