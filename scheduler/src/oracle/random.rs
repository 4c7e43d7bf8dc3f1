//! Small worlds full of coincidences, made from a list of numbers (so that a failing
//! one shrinks to a small one).

use super::World;
use crate::filter::Candidate;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};
use std::sync::Arc;

pub struct Choices<'a> {
    numbers: std::slice::Iter<'a, u32>,
}

impl<'a> Choices<'a> {
    pub fn new(numbers: &'a [u32]) -> Self {
        Self {
            numbers: numbers.iter(),
        }
    }

    pub fn over(&self) -> bool {
        self.numbers.len() == 0
    }

    /// 0 when nothing is left to choose from.
    pub fn below(&mut self, most: u32) -> u32 {
        self.numbers.next().map_or(0, |number| number % most)
    }

    fn one_in(&mut self, of: u32) -> bool {
        self.below(of) == of - 1
    }

    fn of<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(u32::try_from(from.len()).expect("small")) as usize].clone()
    }
}

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

pub fn node_name(choices: &mut Choices<'_>) -> String {
    format!("n{}", choices.below(6))
}

pub fn node(choices: &mut Choices<'_>) -> Node {
    let name = node_name(choices);
    let mut labels = json!({});
    if !choices.one_in(6) {
        labels[HOST] = json!(name);
    }
    if !choices.one_in(4) {
        labels[ZONE] = json!(choices.of(&["east", "west"]));
    }
    if choices.one_in(2) {
        labels["size"] = json!(choices.of(&["1", "2", "3"]));
    }
    let mut taints = Vec::new();
    for _ in 0..choices.below(3) {
        let effect = choices.of(&[
            "NoSchedule",
            "PreferNoSchedule",
            "PreferNoSchedule",
            "PreferNoSchedule",
            "NoExecute",
        ]);
        taints.push(json!({"key": choices.of(&["t", "u"]), "value": choices.of(&["1", "2"]), "effect": effect}));
    }
    let keep_clean = choices.one_in(2);
    let mut allocatable = json!({"cpu": format!("{}m", 1000 * (1 + choices.below(4))), "memory": (1 << 30) * u64::from(1 + choices.below(4)),
        "pods": 2 + choices.below(6)});
    if choices.one_in(3) {
        allocatable["example.com/gpu"] = json!(choices.below(3));
    }
    allocatable["memory"] = json!(allocatable["memory"].to_string());
    for name in ["pods", "example.com/gpu"] {
        if let Some(number) = allocatable.get(name).cloned() {
            allocatable[name] = json!(number.to_string());
        }
    }
    let mut images = Vec::new();
    for image in ["img:1", "img:2"] {
        if choices.one_in(3) {
            images.push(json!({"names": [image], "sizeBytes": 100_000_000 * u64::from(1 + choices.below(9))}));
        }
    }
    let value = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"unschedulable": choices.one_in(9), "taints": if keep_clean { vec![] } else { taints }},
        "status": {"allocatable": allocatable, "images": images},
    });
    serde_json::from_value(value).expect("a node")
}

fn selector(choices: &mut Choices<'_>) -> Value {
    match choices.below(5) {
        0 | 1 => json!({"matchLabels": {"app": choices.of(&["x", "y"])}}),
        2 => json!({"matchExpressions": [{"key": "tier", "operator": choices.of(&["Exists", "DoesNotExist"])}]}),
        3 => {
            json!({"matchExpressions": [{"key": "app", "operator": choices.of(&["In", "NotIn"]), "values": ["x", "z"]}]})
        }
        _ => json!({}),
    }
}

fn key(choices: &mut Choices<'_>) -> &'static str {
    choices.of(&[HOST, ZONE, ZONE, "size"])
}

fn pod_term(choices: &mut Choices<'_>) -> Value {
    let mut term = json!({"topologyKey": key(choices), "labelSelector": selector(choices)});
    match choices.below(6) {
        0 => term["namespaces"] = json!([choices.of(&["d", "e"])]),
        1 => term["namespaceSelector"] = json!({}),
        2 => term["namespaceSelector"] = json!({"matchLabels": {"team": choices.of(&["a", "b"])}}),
        _ => {}
    }
    term
}

fn pod_rules(choices: &mut Choices<'_>) -> Value {
    let required: Vec<Value> = (0..choices.of(&[0, 0, 0, 1, 2])).map(|_| pod_term(choices)).collect();
    let preferred: Vec<Value> = (0..choices.below(3))
        .map(|_| json!({"weight": 1 + choices.below(9), "podAffinityTerm": pod_term(choices)}))
        .collect();
    json!({"requiredDuringSchedulingIgnoredDuringExecution": required, "preferredDuringSchedulingIgnoredDuringExecution": preferred})
}

fn node_term(choices: &mut Choices<'_>) -> Value {
    match choices.below(4) {
        0 => json!({"matchExpressions": [{"key": ZONE, "operator": "In", "values": [choices.of(&["east", "west"])]}]}),
        1 => json!({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["1"]}]}),
        2 => json!({"matchExpressions": [{"key": "size", "operator": choices.of(&["Exists", "DoesNotExist"])}]}),
        _ => json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name(choices)]}]}),
    }
}

fn node_rules(choices: &mut Choices<'_>) -> Value {
    let mut rules = json!({});
    if choices.one_in(2) {
        let terms: Vec<Value> = (0..=choices.below(2)).map(|_| node_term(choices)).collect();
        rules["requiredDuringSchedulingIgnoredDuringExecution"] = json!({"nodeSelectorTerms": terms});
    }
    let preferred: Vec<Value> = (0..choices.below(3))
        .map(|_| json!({"weight": 1 + choices.below(9), "preference": node_term(choices)}))
        .collect();
    if !preferred.is_empty() {
        rules["preferredDuringSchedulingIgnoredDuringExecution"] = json!(preferred);
    }
    rules
}

fn constraint(choices: &mut Choices<'_>) -> Value {
    let mut out = json!({"maxSkew": 1 + choices.below(2), "topologyKey": key(choices), "labelSelector": selector(choices),
        "whenUnsatisfiable": choices.of(&["DoNotSchedule", "ScheduleAnyway"])});
    if choices.one_in(3) && out["whenUnsatisfiable"] == "DoNotSchedule" {
        out["minDomains"] = json!(1 + choices.below(4));
    }
    if choices.one_in(4) {
        out["matchLabelKeys"] = json!(["tier"]);
    }
    if choices.one_in(3) {
        out["nodeAffinityPolicy"] = json!(choices.of(&["Honor", "Ignore"]));
        out["nodeTaintsPolicy"] = json!(choices.of(&["Honor", "Ignore"]));
    }
    out
}

pub fn pod_name(choices: &mut Choices<'_>) -> String {
    format!("p{}", choices.below(12))
}

pub fn pod(choices: &mut Choices<'_>, name: &str) -> Pod {
    let mut labels = json!({"app": choices.of(&["x", "y"])});
    if choices.one_in(3) {
        labels["tier"] = json!(choices.of(&["1", "2"]));
    }
    let mut requests = json!({});
    for (resource, unit, most) in [
        ("cpu", "m", 1500),
        ("memory", "", 1_000_000_000),
        ("example.com/gpu", "", 3),
    ] {
        let wanted = choices.below(3);
        if wanted > 0 && (resource != "example.com/gpu" || choices.one_in(4)) {
            requests[resource] = json!(format!("{}{unit}", u64::from(wanted) * most / 4));
        }
    }
    let mut container =
        json!({"name": "c", "image": choices.of(&["img:1", "img:2", "img:3"]), "resources": {"requests": requests}});
    if choices.one_in(5) {
        container["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    }
    let mut spec = json!({"containers": [container], "priority": 5 * choices.below(3)});
    let mut affinity = json!({});
    for (field, rules) in [("podAffinity", 3), ("podAntiAffinity", 3)] {
        if choices.one_in(rules) {
            affinity[field] = pod_rules(choices);
        }
    }
    if choices.one_in(4) {
        affinity["nodeAffinity"] = node_rules(choices);
    }
    spec["affinity"] = affinity;
    if choices.one_in(6) {
        spec["nodeSelector"] = json!({ZONE: choices.of(&["east", "west"])});
    }
    if choices.one_in(3) {
        let toleration = json!([{"key": "t", "operator": "Exists"}, {"key": "u", "value": "1"}]);
        spec["tolerations"] = toleration;
    }
    if choices.one_in(3) {
        let constraints: Vec<Value> = (0..=choices.below(2)).map(|_| constraint(choices)).collect();
        spec["topologySpreadConstraints"] = json!(constraints);
    }
    let mut metadata = json!({"namespace": choices.of(&["d", "e"]), "name": name, "uid": name, "labels": labels});
    let mut status = json!({});
    if choices.one_in(8) {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    if choices.one_in(2) {
        status["startTime"] = json!(format!("2026-01-01T00:00:0{}Z", choices.below(4)));
    }
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).expect("a pod")
}

pub fn candidate(choices: &mut Choices<'_>) -> Candidate {
    let mut pod = pod(choices, "new");
    pod.metadata.deletion_timestamp = None;
    let kin = LabelSelector {
        match_labels: pod.metadata.labels.clone(),
        ..LabelSelector::default()
    };
    let kin = choices.one_in(2).then(|| Arc::new(kin));
    Candidate::with(Arc::new(pod), Arc::default(), kin)
}

/// One thing happens, to both.
pub fn step(choices: &mut Choices<'_>, world: &mut World, snapshot: &mut Snapshot) {
    match choices.below(10) {
        0..=2 => {
            let node = node(choices);
            snapshot.set_node(&node);
            world.nodes.insert(node.metadata.name.clone().expect("a name"), node);
        }
        3..=6 => {
            let (node, name) = (node_name(choices), pod_name(choices));
            let pod = pod(choices, &name);
            // The same name in another namespace is another pod.
            snapshot.set_pod(&node, Arc::new(PodInfo::new(&pod)));
            world.place(&node, pod);
        }
        7 => {
            let key = (choices.of(&["d", "e"]).to_string(), pod_name(choices));
            snapshot.remove_pod(&key);
            world.pods.remove(&key);
        }
        8 => {
            let (name, team) = (choices.of(&["d", "e"]).to_string(), choices.of(&["a", "b"]));
            let labels = super::Labels::from([("team".to_string(), team.to_string())]);
            snapshot.set_namespace(&name, labels.clone());
            world.namespaces.insert(name, labels);
        }
        _ => {
            let name = node_name(choices);
            if choices.one_in(2) {
                snapshot.remove_node(&name);
                world.nodes.remove(&name);
            } else {
                let at = format!("nominated{}", choices.below(2));
                let pod = pod(choices, &at);
                snapshot.denominate(&("d".into(), at.clone()));
                snapshot.denominate(&("e".into(), at.clone()));
                world
                    .nominated
                    .retain(|(_, pod)| pod.metadata.name.as_ref() != Some(&at));
                snapshot.nominate(&name, Arc::new(PodInfo::new(&pod)));
                world.nominated.push((name, pod));
            }
        }
    }
}
