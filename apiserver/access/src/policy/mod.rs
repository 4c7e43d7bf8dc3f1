//! Bootstrap policy: the objects that exist in every cluster from the start.
//! The roles are tables in a small text form; this reads them. Pure.
//!
//! ```text
//! # comment
//! [role name]  key=value ...       labels=<suffix of aggregate-to->, aggregates=<suffix>, namespace=<ns>
//! bind <binding name or -> <subject> ...         user:NAME group:NAME sa:NAMESPACE/NAME
//! <verbs> <groups> <resources> [<resource names>]
//! <verbs> url <paths>
//! events                           may write events
//! ```
//! Lists are joined by commas. Verbs: R read, W write, RW both, RU read and
//! update. Groups: `core`, `*`, a name with or without its `.k8s.io`.

mod reconcile;
mod table;

pub use reconcile::{is_policy, reconciled};

use crate::authorization::rbac::{GROUP, rules_of_role};
use crate::authorization::rules::Rule;
use crate::tree::{items, selects, text};
use serde_json::{Value, json};
use table::{Binding, Role};

const CLUSTER_ROLES: &str = include_str!("cluster_roles.txt");
const CONTROLLER_ROLES: &str = include_str!("controller_roles.txt");
const NAMESPACE_ROLES: &str = include_str!("namespace_roles.txt");

const NODE_ROLE: &str = "system:node";
const CONTROLLER_PREFIX: &str = "system:controller:";

/// What the Node authorizer lets every node do, beside what the graph gives.
pub fn node_rules() -> Vec<Rule> {
    table::parse(CLUSTER_ROLES)
        .into_iter()
        .filter(|role| role.name == NODE_ROLE)
        .flat_map(|role| role.rules)
        .collect()
}

/// Namespaces first, then what lives in them; creatable in this order.
pub fn bootstrap_objects(trust: &[(&str, String)]) -> Vec<Value> {
    let mut objects = namespaces();
    objects.extend(priority_classes());
    objects.extend(cluster_roles());
    objects.extend(bindings());
    if !trust.is_empty() {
        let data: serde_json::Map<String, Value> = trust
            .iter()
            .map(|(key, value)| ((*key).to_string(), value.as_str().into()))
            .collect();
        objects.push(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": data,
        }));
    }
    objects
}

fn namespaces() -> Vec<Value> {
    ["default", "kube-system", "kube-public", "kube-node-lease"]
        .iter()
        .map(|name| {
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            })
        })
        .collect()
}

fn priority_classes() -> Vec<Value> {
    let class = |name: &str, value: i64, description: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
        })
    };
    vec![
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

/// ClusterRoles and Roles; aggregated ones with the union of what they select.
fn cluster_roles() -> Vec<Value> {
    let mut roles: Vec<Value> = [CLUSTER_ROLES, CONTROLLER_ROLES, NAMESPACE_ROLES]
        .iter()
        .flat_map(|text| table::parse(text))
        .map(|role| role_value(&role))
        .collect();
    // `admin` selects `edit`, which selects `view`: as many rounds as there are steps.
    for _ in 0..3 {
        let before = roles.clone();
        for role in &mut roles {
            aggregate(role, &before);
        }
    }
    roles
}

fn aggregate(role: &mut Value, all: &[Value]) {
    let selectors = items(role, "/aggregationRule/clusterRoleSelectors").to_vec();
    if selectors.is_empty() {
        return;
    }
    let mut rules: Vec<Rule> = Vec::new();
    let nothing = Value::Null;
    for other in all
        .iter()
        .filter(|other| text(other, "/metadata/name") != text(role, "/metadata/name"))
    {
        let labels = other.pointer("/metadata/labels").unwrap_or(&nothing);
        if selectors.iter().any(|selector| selects(selector, labels)) {
            for rule in rules_of_role(other) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    role["rules"] = rules.iter().map(Rule::to_value).collect();
}

fn role_value(role: &Role) -> Value {
    let kind = if role.namespace.is_empty() {
        "ClusterRole"
    } else {
        "Role"
    };
    let mut value = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata(&role.name, &role.namespace),
        "rules": role.rules.iter().map(Rule::to_value).collect::<Vec<_>>(),
    });
    for target in &role.aggregates_to {
        value["metadata"]["labels"][format!("{GROUP}/aggregate-to-{target}")] = "true".into();
    }
    if !role.aggregates.is_empty() {
        let label = format!("{GROUP}/aggregate-to-{}", role.aggregates);
        value["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    }
    value
}

fn metadata(name: &str, namespace: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn bindings() -> Vec<Value> {
    let mut values = Vec::new();
    for role in [CLUSTER_ROLES, NAMESPACE_ROLES]
        .iter()
        .flat_map(|text| table::parse(text))
    {
        values.extend(role.bindings.iter().map(|binding| binding_value(&role, binding)));
    }
    for role in table::parse(CONTROLLER_ROLES) {
        let account = role.name.strip_prefix(CONTROLLER_PREFIX).unwrap_or(&role.name);
        let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": "kube-system"});
        let binding = Binding {
            name: role.name.clone(),
            subjects: vec![subject],
        };
        values.push(binding_value(&role, &binding));
    }
    values
}

fn binding_value(role: &Role, binding: &Binding) -> Value {
    let (kind, of) = if role.namespace.is_empty() {
        ("ClusterRoleBinding", "ClusterRole")
    } else {
        ("RoleBinding", "Role")
    };
    let mut value = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata(&binding.name, &role.namespace),
        "roleRef": {"apiGroup": GROUP, "kind": of, "name": role.name},
    });
    if !binding.subjects.is_empty() {
        value["subjects"] = binding.subjects.clone().into();
    }
    value
}

#[cfg(test)]
mod tests;
