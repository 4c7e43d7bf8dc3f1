//! The flow schemas and priority levels that exist from the start, as upstream: the
//! mandatory ones always are what they are; the suggested ones are kept up to date
//! while their annotation says so. Pure.

use crate::registry::text_at;
use serde_json::{Value, json};
use std::sync::Arc;

/// `true`: the server keeps the spec as it suggests.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// An object that should be there.
pub struct Wanted {
    pub object: Value,
    pub mandatory: bool,
}

/// Levels before the schemas that lead to them.
pub fn wanted() -> Vec<Wanted> {
    let mut all = levels();
    all.extend(schemas());
    all
}

fn object(kind: &str, name: &str, spec: Value) -> Wanted {
    Wanted {
        object: json!({
            "apiVersion": VERSION, "kind": kind,
            "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
            "spec": spec,
        }),
        mandatory: matches!(name, "exempt" | "catch-all"),
    }
}

fn levels() -> Vec<Wanted> {
    let level = |name: &str, shares: u32, lendable: u32, queues: u32, hand: u32| {
        let response =
            json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}});
        limited(name, shares, lendable, &response)
    };
    vec![
        object(
            "PriorityLevelConfiguration",
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        limited("catch-all", 5, 0, &json!({"type": "Reject"})),
        level("system", 30, 33, 64, 6),
        level("node-high", 40, 25, 64, 6),
        level("leader-election", 10, 0, 16, 4),
        level("workload-high", 40, 50, 128, 6),
        level("workload-low", 100, 90, 128, 6),
        level("global-default", 20, 50, 128, 6),
    ]
}

fn limited(name: &str, shares: u32, lendable: u32, response: &Value) -> Wanted {
    object(
        "PriorityLevelConfiguration",
        name,
        json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response,
        }}),
    )
}

fn groups(names: &[&str]) -> Vec<Value> {
    names
        .iter()
        .map(|n| json!({"kind": "Group", "group": {"name": n}}))
        .collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names
        .iter()
        .map(|n| json!({"kind": "User", "user": {"name": n}}))
        .collect()
}

/// Of kube-system.
fn accounts(names: &[&str]) -> Vec<Value> {
    let account =
        |name: &&str| json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}});
    names.iter().map(account).collect()
}

fn everything(subjects: &[Value]) -> Value {
    json!([{
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }])
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn schemas() -> Vec<Wanted> {
    let schema = |name: &str, level: &str, precedence: u32, method: &str, rules: Value| {
        let mut spec =
            json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": rules});
        if !method.is_empty() {
            spec["distinguisherMethod"] = json!({"type": method});
        }
        object("FlowSchema", name, spec)
    };
    let everybody = groups(&["system:unauthenticated", "system:authenticated"]);
    let nodes = groups(&["system:nodes"]);
    let write = ["get", "create", "update"];
    let leases = resources(&write, "coordination.k8s.io", &["leases"], false);
    let managers = [
        users(&["system:kube-controller-manager", "system:kube-scheduler"]),
        accounts(&["*"]),
    ]
    .concat();
    let endpoint_writers = [
        users(&["system:kube-controller-manager"]),
        accounts(&["endpoint-controller", "endpointslicemirroring-controller"]),
    ]
    .concat();
    let (by_user, by_namespace) = ("ByUser", "ByNamespace");
    vec![
        schema("exempt", "exempt", 1, "", everything(&groups(&["system:masters"]))),
        schema("catch-all", "catch-all", 10000, by_user, everything(&everybody)),
        schema("system-nodes", "system", 500, by_user, everything(&nodes)),
        schema(
            "system-node-high",
            "node-high",
            400,
            by_user,
            json!([{"subjects": nodes, "resourceRules": [
                resources(&["*"], "", &["nodes", "nodes/status"], true),
                resources(&["*"], "coordination.k8s.io", &["leases"], false),
            ]}]),
        ),
        schema(
            "probes",
            "exempt",
            2,
            "",
            json!([{"subjects": everybody, "nonResourceRules": [
                {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]},
            ]}]),
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            by_user,
            json!([{"subjects": managers, "resourceRules": [leases.clone()]}]),
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            by_user,
            json!([{"subjects": accounts(&["*"]), "resourceRules": [leases]}]),
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            by_user,
            json!([{"subjects": endpoint_writers, "resourceRules": [resources(&write, "", &["endpoints"], false)]}]),
        ),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            by_namespace,
            everything(&users(&["system:kube-controller-manager"])),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            by_namespace,
            everything(&users(&["system:kube-scheduler"])),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            by_namespace,
            everything(&accounts(&["*"])),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            by_user,
            everything(&groups(&["system:serviceaccounts"])),
        ),
        schema(
            "global-default",
            "global-default",
            9900,
            by_user,
            everything(&everybody),
        ),
    ]
}

/// The objects to be written, from those that are there: what is missing, and what the
/// server keeps and is not as it should be. Suggested ones that somebody deleted come
/// back only at a start.
pub fn plan(existing: &[Arc<Value>], starting: bool) -> Vec<Value> {
    let mut steps = Vec::new();
    for Wanted { object, mandatory } in wanted() {
        let name = text_at(&object, &["metadata", "name"]);
        let found = existing
            .iter()
            .find(|o| o["kind"] == object["kind"] && text_at(o, &["metadata", "name"]) == name);
        let Some(found) = found else {
            if mandatory || starting {
                steps.push(object);
            }
            continue;
        };
        let annotation = found["metadata"]["annotations"][AUTO_UPDATE].as_str();
        let first_generation = found["metadata"]["generation"].as_i64() == Some(1);
        // Without the annotation, one that nobody has changed is still the server's.
        let kept = mandatory || annotation.map_or(first_generation, |text| text == "true");
        let mut spec = object["spec"].clone();
        if name == "exempt" && object["kind"] == "PriorityLevelConfiguration" && annotation != Some("true") {
            // What it lends is the administrator's.
            spec["exempt"] = found["spec"]["exempt"].clone();
        }
        let annotated = annotation.is_some() || !kept;
        if kept && (found["spec"] != spec || !annotated) {
            let mut updated = (**found).clone();
            updated["spec"] = spec;
            if annotation.is_none() {
                updated["metadata"]["annotations"][AUTO_UPDATE] = "true".into();
            }
            steps.push(updated);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Arc<Value>> {
        plan(&[], true).into_iter().map(Arc::new).collect()
    }

    #[test]
    fn what_is_right_stays() {
        assert_eq!(all().len(), 21);
        assert_eq!(plan(&all(), true), Vec::<Value>::new());
    }

    #[test]
    fn all_of_them_pass_their_own_checks() {
        for object in all() {
            let kind = skiff_kinds::find_kind("flowcontrol.apiserver.k8s.io", text_at(&object, &["kind"])).unwrap();
            let mut defaulted = (*object).clone();
            kind.strategy().default(&mut defaulted);
            assert_eq!(defaulted, *object, "defaults change nothing");
            assert_eq!(kind.strategy().validate(&object), vec![], "{object}");
        }
    }

    #[test]
    fn mandatory_ones_are_set_right_and_suggested_ones_may_be_ones_own() {
        let position = |name: &str| {
            all()
                .iter()
                .position(|o| o["kind"] == "FlowSchema" && o["metadata"]["name"] == name)
                .unwrap()
        };
        let changed = |name: &str, annotation: &str| {
            let mut objects = all();
            let object = Arc::make_mut(&mut objects[position(name)]);
            object["spec"]["matchingPrecedence"] = 77.into();
            object["metadata"]["annotations"][AUTO_UPDATE] = annotation.into();
            plan(&objects, false)
        };
        assert_eq!(changed("exempt", "false").len(), 1);
        assert_eq!(changed("probes", "true")[0]["spec"]["matchingPrecedence"], 2);
        assert!(changed("probes", "false").is_empty());
        let mut without = all();
        without.remove(position("probes"));
        assert!(plan(&without, false).is_empty());
        assert_eq!(plan(&without, true).len(), 1);
        let mut without = all();
        without.remove(position("catch-all"));
        assert_eq!(plan(&without, false).len(), 1);
    }
}
