//! The flow schemas and priority levels that exist from the start, as upstream.
//! Mandatory ones may not be anything else; suggested ones are kept up to date while
//! their annotation says so.

use serde_json::{Value, json};

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
