use super::*;
use crate::pod::PodInfo;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use std::sync::Arc;

fn node(name: &str, spec: Value) -> Node {
    let value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": if name < "c" {"east"} else {"west"}}},
        "spec": spec,
        "status": {"allocatable": {"cpu": "2", "memory": "2Gi", "pods": "3"}},
    });
    serde_json::from_value(value).expect("a node")
}

fn pod(name: &str, spec: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    let value = json!({"metadata": {"namespace": "default", "name": name, "uid": name, "labels": {"app": "web"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "owner", "controller": true}]}, "spec": spec});
    serde_json::from_value(value).expect("a pod")
}

fn asks(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

fn cluster(nodes: &[Node]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for node in nodes {
        snapshot.set_node(node);
    }
    snapshot
}

fn place(snapshot: &mut Snapshot, node: &str, pod: &Pod) {
    snapshot.set_pod(node, Arc::new(PodInfo::new(pod)));
}

fn decide(snapshot: &mut Snapshot, pod: Pod) -> Result<String, String> {
    schedule(snapshot, &Candidate::new(Arc::new(pod)), 0)
        .map(|placement| placement.node)
        .map_err(|failure| failure.to_string())
}

#[test]
fn without_nodes() {
    assert_eq!(
        decide(&mut Snapshot::default(), pod("p", json!({}))),
        Err("no nodes available to schedule pods".into())
    );
}

#[test]
fn every_refusal_is_counted_by_its_reason() {
    let taint = json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]});
    let mut snapshot = cluster(&[
        node("a", json!({})),
        node("b", json!({"unschedulable": true})),
        node("c", taint),
    ]);
    assert_eq!(
        decide(&mut snapshot, pod("p", asks("3"))),
        Err("0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable.".into())
    );
}

#[test]
fn tolerations_open_tainted_nodes() {
    let mut snapshot = cluster(&[node(
        "a",
        json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoExecute"}]}),
    )]);
    for (toleration, fits) in [
        (
            json!({"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute"}),
            true,
        ),
        (json!({"key": "gpu", "operator": "Exists"}), true),
        (json!({"operator": "Exists"}), true),
        (json!({"key": "gpu", "value": "no"}), false),
        (
            json!({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}),
            false,
        ),
    ] {
        let got = decide(&mut snapshot, pod("p", json!({"tolerations": [toleration]})));
        assert_eq!(got.is_ok(), fits, "{toleration}: {got:?}");
    }
}

#[test]
fn resources_ports_and_pod_count_fill_up() {
    let mut snapshot = cluster(&[node("a", json!({}))]);
    place(&mut snapshot, "a", &pod("one", asks("1500m")));
    assert_eq!(
        decide(&mut snapshot, pod("p", asks("600m"))),
        Err("0/1 nodes are available: 1 Insufficient cpu.".into())
    );
    assert_eq!(decide(&mut snapshot, pod("p", asks("500m"))), Ok("a".into()));
    let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    place(&mut snapshot, "a", &pod("two", port.clone()));
    let expected = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    assert_eq!(decide(&mut snapshot, pod("p", port)), Err(expected.into()));
    place(&mut snapshot, "a", &pod("three", json!({})));
    assert_eq!(
        decide(&mut snapshot, pod("p", json!({}))),
        Err("0/1 nodes are available: 1 Too many pods.".into())
    );
    snapshot.remove_pod(&("default".into(), "three".into()));
    assert_eq!(decide(&mut snapshot, pod("p", json!({}))), Ok("a".into()));
}

#[test]
fn selectors_and_affinity_choose_nodes() {
    let mut snapshot = cluster(&[node("a", json!({})), node("b", json!({})), node("c", json!({}))]);
    assert_eq!(
        decide(&mut snapshot, pod("p", json!({"nodeSelector": {"zone": "west"}}))),
        Ok("c".into())
    );
    let required = |operator: &str, values: Value| {
        let term =
            json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": operator, "values": values}]});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
    };
    assert_eq!(
        decide(&mut snapshot, pod("p", required("In", json!(["b"])))),
        Ok("b".into())
    );
    assert_eq!(
        decide(&mut snapshot, pod("p", required("In", json!(["x"])))),
        Err("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.".into())
    );
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 50, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["west"]}]}}]}}});
    assert_eq!(decide(&mut snapshot, pod("p", preferred)), Ok("c".into()));
}

#[test]
fn copies_of_one_owner_spread() {
    let mut snapshot = cluster(&[node("a", json!({})), node("b", json!({})), node("c", json!({}))]);
    let mut seen = std::collections::BTreeSet::new();
    for name in ["one", "two", "three"] {
        let node = decide(&mut snapshot, pod(name, json!({}))).expect("it fits");
        place(&mut snapshot, &node, &pod(name, json!({})));
        seen.insert(node);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn anti_affinity_holds_both_ways() {
    let anti = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}]}}});
    let mut snapshot = cluster(&[node("a", json!({})), node("b", json!({}))]);
    place(&mut snapshot, "a", &pod("first", anti.clone()));
    let own = "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.";
    assert_eq!(decide(&mut snapshot, pod("p", anti)), Err(own.into()));
    let theirs = "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules.";
    assert_eq!(decide(&mut snapshot, pod("p", json!({}))), Err(theirs.into()));
}

#[test]
fn affinity_follows_and_the_first_of_its_kind_may_start() {
    let with = |app: &str| {
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}}]}}})
    };
    let mut snapshot = cluster(&[node("a", json!({})), node("c", json!({}))]);
    assert!(
        decide(&mut snapshot, pod("p", with("web"))).is_ok(),
        "it matches its own rule"
    );
    assert_eq!(
        decide(&mut snapshot, pod("p", with("db"))),
        Err("0/2 nodes are available: 2 node(s) didn't match pod affinity rules.".into())
    );
    place(&mut snapshot, "c", &pod("first", json!({})));
    assert_eq!(decide(&mut snapshot, pod("p", with("web"))), Ok("c".into()));
}

#[test]
fn hard_spreading_bounds_the_skew() {
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let mut snapshot = cluster(&[node("a", json!({})), node("c", json!({}))]);
    place(&mut snapshot, "a", &pod("one", json!({})));
    assert_eq!(decide(&mut snapshot, pod("p", spread.clone())), Ok("c".into()));
    snapshot.set_node(&node("c", json!({"unschedulable": true})));
    let got = decide(&mut snapshot, pod("p", spread)).expect_err("skew 2");
    assert_eq!(
        got,
        "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable."
    );
}

#[test]
fn pods_that_name_their_nodes_are_told_of_the_others() {
    let named = |values: Value| {
        let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
    };
    let mut snapshot = cluster(&[node("a", json!({})), node("b", json!({})), node("c", json!({}))]);
    assert_eq!(decide(&mut snapshot, pod("p", named(json!(["b"])))), Ok("b".into()));
    place(&mut snapshot, "b", &pod("one", asks("2")));
    let mut full = named(json!(["b"]));
    full["containers"] = asks("1")["containers"].clone();
    let message = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].";
    assert_eq!(decide(&mut snapshot, pod("p", full)), Err(message.into()));
    let message = "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity].";
    assert_eq!(
        decide(&mut snapshot, pod("p", named(json!(["x"])))),
        Err(message.into())
    );
    let mut both = named(json!(["a"]));
    let terms = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields";
    let fields = both.pointer_mut(terms).and_then(Value::as_array_mut).expect("fields");
    fields.push(json!({"key": "metadata.name", "operator": "In", "values": ["b"]}));
    let message = "0/3 nodes are available: pod affinity terms conflict.";
    assert_eq!(decide(&mut snapshot, pod("p", both)), Err(message.into()));
}

#[test]
fn a_profile_may_add_affinity() {
    let mut profile = crate::profile::Profile::default();
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["west"]}]});
    let added = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}});
    profile.added_affinity = Some(serde_json::from_value(added).expect("an affinity"));
    let candidate = Candidate::with(Arc::new(pod("p", json!({}))), Arc::new(profile), None);
    let mut snapshot = cluster(&[node("a", json!({}))]);
    let why = schedule(&mut snapshot, &candidate, 0).expect_err("not there");
    let message = "0/1 nodes are available: 1 node(s) didn't match scheduler-enforced node affinity.";
    assert_eq!(why.to_string(), message);
    snapshot.set_node(&node("c", json!({})));
    assert_eq!(
        schedule(&mut snapshot, &candidate, 0).map(|place| place.node),
        Ok("c".into())
    );
}

#[test]
fn kin_spread_over_hosts_though_others_are_emptier() {
    let mut snapshot = cluster(&[node("a", json!({})), node("b", json!({}))]);
    let mut other = pod("other", asks("500m"));
    other.metadata.labels = None;
    place(&mut snapshot, "a", &pod("one", json!({})));
    place(&mut snapshot, "b", &other);
    let new = Arc::new(pod("p", json!({})));
    let kin = json!({"matchLabels": {"app": "web"}});
    let kin = Some(Arc::new(serde_json::from_value(kin).expect("a selector")));
    let mut chosen = |kin| {
        let candidate = Candidate::with(new.clone(), Arc::default(), kin);
        schedule(&mut snapshot, &candidate, 0).expect("it fits").node
    };
    assert_eq!((chosen(None), chosen(kin)), ("a".to_string(), "b".to_string()));
}

#[test]
fn every_reason_of_a_node_is_counted_and_every_plugin_known() {
    let mut snapshot = cluster(&[node("a", json!({})), node("b", json!({"unschedulable": true}))]);
    for name in ["one", "two", "three"] {
        place(&mut snapshot, "a", &pod(name, asks("600m")));
    }
    let new = Candidate::new(Arc::new(pod("p", asks("1"))));
    let why = schedule(&mut snapshot, &new, 0).expect_err("full");
    let message = "0/2 nodes are available: 1 Insufficient cpu, 1 Too many pods, 1 node(s) were unschedulable.";
    assert_eq!(why.to_string(), message);
    let plugins: Vec<&str> = why.plugins.iter().map(|plugin| plugin.name()).collect();
    assert_eq!(plugins, ["NodeUnschedulable", "NodeResourcesFit"]);
}
