//! What is missing in a stored role or binding of the bootstrap policy: rules and
//! subjects that were taken away come back at start, what was added stays. Pure.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#auto-reconciliation>.

use crate::authorization::rbac::{GROUP, rules_of_role};
use crate::authorization::rules::{Rule, compact, uncovered};
use crate::tree::{items, text};
use serde_json::{Map, Value};

const AUTOUPDATE: &str = "/metadata/annotations/rbac.authorization.kubernetes.io~1autoupdate";

/// Whether objects of this kind are brought up to date at all.
pub fn is_policy(object: &Value) -> bool {
    text(object, "/apiVersion")
        .split_once('/')
        .is_some_and(|(group, _)| group == GROUP)
}

/// The stored object with what it lacks; `None` if it lacks nothing, or its owner
/// said `autoupdate: "false"`.
pub fn reconciled(stored: &Value, wanted: &Value) -> Option<Value> {
    if text(stored, AUTOUPDATE) == "false" {
        return None;
    }
    let mut new = stored.clone();
    for key in ["annotations", "labels"] {
        merge(&mut new, wanted, key);
    }
    let roleless = text(stored, "/kind").ends_with("Binding");
    if roleless {
        if stored.get("roleRef") != wanted.get("roleRef") {
            new["roleRef"] = wanted["roleRef"].clone();
        }
        append(&mut new, "subjects", missing_items(stored, wanted, "/subjects"));
    } else if wanted.get("aggregationRule").is_some() {
        // Their rules are gathered from other roles.
        let path = "/aggregationRule/clusterRoleSelectors";
        let selectors = missing_items(stored, wanted, path);
        if !selectors.is_empty() {
            if !new["aggregationRule"].is_object() {
                new["aggregationRule"] = Value::Object(Map::new());
            }
            append(&mut new["aggregationRule"], "clusterRoleSelectors", selectors);
        }
    } else {
        let missing = compact(uncovered(&rules_of_role(stored), &rules_of_role(wanted)));
        append(&mut new, "rules", missing.iter().map(Rule::to_value).collect());
    }
    (new != *stored).then_some(new)
}

/// Labels or annotations that are wanted; those that are there keep their values.
fn merge(new: &mut Value, wanted: &Value, key: &str) {
    for (name, value) in wanted["metadata"][key].as_object().into_iter().flatten() {
        if new["metadata"][key][name].is_null() {
            new["metadata"][key][name] = value.clone();
        }
    }
}

fn missing_items(stored: &Value, wanted: &Value, path: &str) -> Vec<Value> {
    let there = items(stored, path);
    let missing = items(wanted, path).iter().filter(|item| !there.contains(item));
    missing.cloned().collect()
}

fn append(object: &mut Value, key: &str, added: Vec<Value>) {
    if added.is_empty() {
        return;
    }
    match object.get_mut(key).and_then(Value::as_array_mut) {
        Some(items) => items.extend(added),
        None => object[key] = added.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role(rules: Value) -> Value {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "r", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
            "rules": rules})
    }

    fn rule(verbs: &[&str], resource: &str) -> Value {
        json!({"verbs": verbs, "apiGroups": [""], "resources": [resource]})
    }

    #[test]
    fn what_was_taken_away_comes_back() {
        let wanted = role(json!([rule(&["get", "list"], "pods")]));
        assert_eq!(reconciled(&wanted, &wanted), None);
        let stored = role(json!([rule(&["get"], "pods"), rule(&["get"], "nodes")]));
        let new = reconciled(&stored, &wanted).unwrap();
        let rules = json!([rule(&["get"], "pods"), rule(&["get"], "nodes"), rule(&["list"], "pods")]);
        assert_eq!(new["rules"], rules);
        assert_eq!(reconciled(&new, &wanted), None, "twice changes nothing");
        assert_eq!(
            reconciled(&role(json!([rule(&["*"], "*")])), &wanted),
            None,
            "more is enough"
        );
    }

    #[test]
    fn owners_may_keep_theirs() {
        let wanted = role(json!([rule(&["get"], "pods")]));
        let mut stored = role(json!([]));
        stored["metadata"]["annotations"] = json!({"rbac.authorization.kubernetes.io/autoupdate": "false"});
        assert_eq!(reconciled(&stored, &wanted), None);
        stored["metadata"] = json!({"name": "r", "labels": {"kubernetes.io/bootstrapping": "mine"}});
        let new = reconciled(&stored, &wanted).unwrap();
        assert_eq!(new["metadata"]["labels"]["kubernetes.io/bootstrapping"], "mine");
        assert_eq!(new["metadata"]["annotations"], wanted["metadata"]["annotations"]);
    }

    #[test]
    fn subjects_and_selectors() {
        let binding = |subjects: Value| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
                "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": subjects})
        };
        let (ann, bob) = (
            json!({"kind": "User", "name": "ann"}),
            json!({"kind": "User", "name": "bob"}),
        );
        let new = reconciled(&binding(json!([bob])), &binding(json!([ann]))).unwrap();
        assert_eq!(new["subjects"], json!([bob, ann]));
        let mut none = binding(json!([]));
        none.as_object_mut().unwrap().remove("subjects");
        assert_eq!(
            reconciled(&none, &binding(json!([ann]))).unwrap()["subjects"],
            json!([ann])
        );
        let selector = json!({"matchLabels": {"a": "true"}});
        let mut wanted = role(json!([rule(&["get"], "pods")]));
        wanted["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
        let new = reconciled(&role(json!([])), &wanted).unwrap();
        assert_eq!(new["aggregationRule"], wanted["aggregationRule"]);
        assert_eq!(new["rules"], json!([]), "rules are gathered, not given");
    }
}
