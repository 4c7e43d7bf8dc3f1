//! What an object uses of each quota resource. Pure.
//! Source: <https://kubernetes.io/docs/concepts/policy/resource-quotas/>.

use serde_json::Value;
use skiff_api::quantity::Quantity;
use std::collections::BTreeMap;

/// Amounts by the names that a quota's `hard` uses.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// Core kinds that had a quota resource before `count/` was invented.
const NAMED: [&str; 7] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
/// Resources of a pod that a quota also knows without `requests.`.
const SHORT: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// A quota on one of these obliges every container to state it.
const OBLIGING: [&str; 6] = [
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];

/// What a `ResourceList` says, as amounts; what is no quantity is left out.
pub(crate) fn amounts(list: &Value) -> Amounts {
    let read = |v: &Value| match v {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64().map(Quantity::from_units),
    };
    let map = list.as_object().into_iter().flatten();
    map.filter_map(|(k, v)| Some((k.clone(), read(v)?))).collect()
}

/// A `ResourceList` of amounts.
pub(crate) fn to_value(amounts: &Amounts) -> Value {
    amounts
        .iter()
        .map(|(k, v)| (k.clone(), Value::from(v.to_string())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

pub(crate) fn add(into: &mut Amounts, name: &str, amount: Quantity) {
    let slot = into.entry(name.to_string()).or_insert(Quantity::ZERO);
    *slot = *slot + amount;
}

/// What one object of a kind uses.
pub(crate) fn usage(group: &str, plural: &str, object: &Value) -> Amounts {
    let mut used = Amounts::new();
    let one = Quantity::from_units(1);
    let dot = if group.is_empty() { "" } else { "." };
    add(&mut used, &format!("count/{plural}{dot}{group}"), one);
    match (group, plural) {
        ("", "pods") if is_terminal(object) => {}
        ("", "pods") => {
            add(&mut used, "pods", one);
            pod(&mut used, &object["spec"]);
        }
        ("", "services") => {
            add(&mut used, "services", one);
            service(&mut used, &object["spec"]);
        }
        ("", "persistentvolumeclaims") => claim(&mut used, object),
        ("", named) if NAMED.contains(&named) => add(&mut used, named, one),
        ("resource.k8s.io", "resourceclaims") => devices(&mut used, &object["spec"]["devices"]["requests"]),
        _ => {}
    }
    used
}

/// Group and plural of the objects that a quota resource counts.
pub(crate) fn counted_kind(resource: &str) -> (&str, &str) {
    if let Some(counted) = resource.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return (group, plural);
    }
    match resource {
        "services.nodeports" | "services.loadbalancers" => ("", "services"),
        "requests.storage" => ("", "persistentvolumeclaims"),
        _ if resource.contains(".storageclass.storage.k8s.io/") => ("", "persistentvolumeclaims"),
        _ if resource.ends_with(".deviceclass.resource.k8s.io/devices") => ("resource.k8s.io", "resourceclaims"),
        named if NAMED.contains(&named) => ("", named),
        _ => ("", "pods"),
    }
}

fn is_terminal(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn service(used: &mut Amounts, spec: &Value) {
    let ports = spec["ports"].as_array().map_or(0, Vec::len) as i64;
    let balanced = spec["type"] == "LoadBalancer";
    if balanced {
        add(used, "services.loadbalancers", Quantity::from_units(1));
    }
    if spec["type"] == "NodePort" || balanced && spec["allocateLoadBalancerNodePorts"] != false {
        add(used, "services.nodeports", Quantity::from_units(ports));
    }
}

fn claim(used: &mut Amounts, claim: &Value) {
    let one = Quantity::from_units(1);
    let class = claim["spec"]["storageClassName"].as_str().unwrap_or("");
    let asked = amounts(&claim["spec"]["resources"]["requests"]).remove("storage");
    let allocated = amounts(&claim["status"]["allocatedResources"]).remove("storage");
    add(used, "persistentvolumeclaims", one);
    if !class.is_empty() {
        add(
            used,
            &format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"),
            one,
        );
    }
    if let Some(storage) = asked.max(allocated) {
        add(used, "requests.storage", storage);
        if !class.is_empty() {
            add(
                used,
                &format!("{class}.storageclass.storage.k8s.io/requests.storage"),
                storage,
            );
        }
    }
}

fn devices(used: &mut Amounts, requests: &Value) {
    for request in requests.as_array().into_iter().flatten() {
        let exactly = &request["exactly"];
        if let Some(class) = exactly["deviceClassName"].as_str() {
            let count = exactly["count"].as_i64().unwrap_or(1);
            add(
                used,
                &format!("{class}.deviceclass.resource.k8s.io/devices"),
                Quantity::from_units(count),
            );
        }
    }
}

fn pod(used: &mut Amounts, spec: &Value) {
    for (name, amount) in pod_total(spec, "requests") {
        if SHORT.contains(&name.as_str()) || name.starts_with("hugepages-") {
            add(used, &name, amount);
        }
        add(used, &format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_total(spec, "limits") {
        if SHORT.contains(&name.as_str()) {
            add(used, &format!("limits.{name}"), amount);
        }
    }
}

/// The most that the containers of a pod have at one time: all that run side by
/// side, or an init container with the sidecars started before it; and overhead.
fn pod_total(spec: &Value, key: &str) -> Amounts {
    let mut total = Amounts::new();
    for container in spec["containers"].as_array().into_iter().flatten() {
        plus(&mut total, &amounts(&container["resources"][key]));
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec["initContainers"].as_array().into_iter().flatten() {
        let mut now = amounts(&container["resources"][key]);
        if container["restartPolicy"] == "Always" {
            plus(&mut sidecars, &now);
            now = sidecars.clone();
        } else {
            plus(&mut now, &sidecars);
        }
        at_least(&mut peak, &now);
    }
    plus(&mut total, &sidecars);
    at_least(&mut total, &peak);
    // What the pod as a whole asks for stands instead of what its containers add up to.
    total.extend(amounts(&spec["resources"][key]));
    let overhead = amounts(&spec["overhead"]);
    if key == "requests" {
        plus(&mut total, &overhead);
    } else {
        let limited = overhead.into_iter().filter(|(name, _)| total.contains_key(name));
        let limited: Amounts = limited.collect();
        plus(&mut total, &limited);
    }
    total
}

fn plus(into: &mut Amounts, other: &Amounts) {
    other.iter().for_each(|(name, amount)| add(into, name, *amount));
}

fn at_least(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let slot = into.entry(name.clone()).or_insert(*amount);
        *slot = (*slot).max(*amount);
    }
}

/// What a pod must state under these quota resources and does not, in upstream's words.
pub(crate) fn unstated(pod: &Value, hard: &Amounts) -> Option<String> {
    let spec = &pod["spec"];
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for resource in OBLIGING.iter().filter(|name| hard.contains_key(**name)) {
        let (key, name) = match resource.split_once('.') {
            Some(("limits", name)) => ("limits", name),
            Some((_, name)) => ("requests", name),
            None => ("requests", *resource),
        };
        if !spec["resources"][key][name].is_null() {
            continue;
        }
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array().into_iter().flatten() {
                if container["resources"][key][name].is_null() {
                    let name = container["name"].as_str().unwrap_or("");
                    missing.entry(resource).or_default().push(name);
                }
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    let texts: Vec<String> = missing
        .iter()
        .map(|(resource, containers)| format!("{resource} for: {}", containers.join(",")))
        .collect();
    Some(format!("must specify {}", texts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(amounts: &Amounts) -> String {
        let all: Vec<String> = amounts.iter().map(|(k, v)| format!("{k}={v}")).collect();
        all.join(" ")
    }

    #[test]
    fn what_objects_use() {
        let cases = [
            ("", "secrets", json!({}), "count/secrets=1 secrets=1"),
            ("apps", "replicasets", json!({}), "count/replicasets.apps=1"),
            (
                "",
                "services",
                json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}}),
                "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2",
            ),
            (
                "",
                "services",
                json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{}]}}),
                "count/services=1 services=1 services.loadbalancers=1",
            ),
            (
                "",
                "persistentvolumeclaims",
                json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}),
                "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
                 gold.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi",
            ),
            (
                "",
                "pods",
                json!({"status": {"phase": "Failed"}, "spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}}),
                "count/pods=1",
            ),
            (
                "",
                "pods",
                json!({"spec": {"overhead": {"cpu": "10m"},
                    "initContainers": [{"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                        {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}}],
                    "containers": [{"resources": {"requests": {"cpu": "500m", "example.com/gpu": "1"}}},
                        {"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]}}),
                "count/pods=1 cpu=2110m limits.cpu=2010m memory=1Gi pods=1 requests.cpu=2110m requests.example.com/gpu=1 requests.memory=1Gi",
            ),
        ];
        for (group, plural, object, want) in cases {
            assert_eq!(text(&usage(group, plural, &object)), want, "{plural} {object}");
        }
    }

    #[test]
    fn resources_name_the_kind_they_count() {
        for (resource, want) in [
            ("cpu", ("", "pods")),
            ("requests.example.com/gpu", ("", "pods")),
            ("services.nodeports", ("", "services")),
            ("count/deployments.apps", ("apps", "deployments")),
            ("count/secrets", ("", "secrets")),
            (
                "gold.storageclass.storage.k8s.io/requests.storage",
                ("", "persistentvolumeclaims"),
            ),
            ("configmaps", ("", "configmaps")),
        ] {
            assert_eq!(counted_kind(resource), want, "{resource}");
        }
    }

    #[test]
    fn containers_state_what_a_quota_limits() {
        let pod =
            json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}, {"name": "b"}]}});
        let hard = amounts(&json!({"cpu": "1", "limits.memory": "1", "pods": "1"}));
        assert_eq!(
            unstated(&pod, &hard).as_deref(),
            Some("must specify cpu for: b; limits.memory for: a,b")
        );
        assert_eq!(unstated(&pod, &amounts(&json!({"pods": "1"}))), None);
    }
}
