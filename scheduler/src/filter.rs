//! Filters: why a pod cannot run on a node, in upstream's words. Pure. Order
//! and wording: Kubernetes' default plugins.

use crate::plugin::{Plugin, Refusal};
use crate::profile::Profile;
use crate::selector::{self, Labels};
use crate::snapshot::{HostPort, NodeInfo, PodInfo, Snapshot};
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pod to be placed, with what is computed once for all nodes.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub pod: Arc<Pod>,
    pub info: Arc<PodInfo>,
    /// How pods of its `spec.schedulerName` are scheduled.
    pub profile: Arc<Profile>,
    /// What its Services and its owner select, for the profile's default spreading;
    /// `None` where nothing selects it, or it spreads by constraints of its own.
    pub kin: Option<Arc<LabelSelector>>,
}

impl Candidate {
    /// With the default profile, owned by nothing.
    pub fn new(pod: Arc<Pod>) -> Self {
        Self::with(pod, Arc::default(), None)
    }

    pub fn with(pod: Arc<Pod>, profile: Arc<Profile>, kin: Option<Arc<LabelSelector>>) -> Self {
        let info = Arc::new(PodInfo::new(&pod));
        Self {
            pod,
            info,
            profile,
            kin,
        }
    }

    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// The node that room was made on for this pod.
    pub fn nominated(&self) -> Option<&String> {
        let status = self.pod.status.as_ref()?;
        status.nominated_node_name.as_ref().filter(|name| !name.is_empty())
    }
}

/// What inter-pod rules need to know of the whole cluster, computed once a decision.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// `(topology key, value)` where a pod runs whose anti-affinity refuses this one.
    refused: BTreeSet<(String, String)>,
    /// Per required term of this pod: the topology values with a matching pod.
    affine: Vec<BTreeSet<String>>,
    anti: Vec<BTreeSet<String>>,
    /// The pod matches its own affinity and nobody else does: it may be the first.
    first_of_its_kind: bool,
    /// Per hard spread constraint: matching pods by topology value.
    spread: Vec<BTreeMap<String, i64>>,
}

impl Neighbours {
    pub fn look(snapshot: &Snapshot, candidate: &Candidate) -> Self {
        let mut out = Self::default();
        let namespace = &candidate.info.key.0;
        if snapshot.with_anti_affinity > 0 {
            for node in snapshot.nodes.values() {
                for pod in node.pods.values().filter(|pod| !pod.anti_affinity.is_empty()) {
                    for term in &pod.anti_affinity {
                        if let Some(value) = node.labels.get(&term.topology_key)
                            && term_selects(snapshot, term, &pod.key.0, namespace, &candidate.info.labels)
                        {
                            out.refused.insert((term.topology_key.clone(), value.clone()));
                        }
                    }
                }
            }
        }
        let affine = affinity_terms(candidate);
        out.affine = affine
            .iter()
            .map(|term| values_with(snapshot, term, namespace))
            .collect();
        out.anti = candidate
            .info
            .anti_affinity
            .iter()
            .map(|term| values_with(snapshot, term, namespace))
            .collect();
        out.first_of_its_kind = out.affine.iter().all(BTreeSet::is_empty)
            && affine
                .iter()
                .all(|term| term_selects(snapshot, term, namespace, namespace, &candidate.info.labels));
        for constraint in hard_constraints(candidate) {
            let mut counts = BTreeMap::new();
            for node in snapshot
                .nodes
                .values()
                .filter(|node| node.exists && eligible(candidate, node))
            {
                let Some(value) = node.labels.get(&constraint.topology_key) else {
                    continue;
                };
                let matching = node.pods.values().filter(|pod| {
                    !pod.terminating
                        && pod.key.0 == *namespace
                        && selector::selects(constraint.label_selector.as_ref(), &pod.labels)
                });
                *counts.entry(value.clone()).or_insert(0) += i64::try_from(matching.count()).unwrap_or(i64::MAX);
            }
            out.spread.push(counts);
        }
        out
    }
}

/// `None`: the node will do. Otherwise every reason of the first filter that refuses.
pub fn refusal(candidate: &Candidate, node: &NodeInfo, neighbours: &Neighbours) -> Option<Refusal> {
    let spec = candidate.spec()?;
    let refused = |plugin, unresolvable, text: &str| {
        Some(Refusal {
            plugin,
            reasons: vec![text.to_string()],
            unresolvable,
        })
    };
    if node.unschedulable && !tolerates(spec, &unschedulable_taint()) {
        return refused(Plugin::NodeUnschedulable, true, "node(s) were unschedulable");
    }
    if untolerated(spec, node).is_some() {
        return refused(Plugin::TaintToleration, true, "node(s) had untolerated taint(s)");
    }
    if !node_affinity(spec, node) {
        let text = "node(s) didn't match Pod's node affinity/selector";
        return refused(Plugin::NodeAffinity, true, text);
    }
    if candidate.info.ports.iter().any(|wanted| {
        node.pods
            .values()
            .any(|pod| pod.ports.iter().any(|taken| clash(wanted, taken)))
    }) {
        let text = "node(s) didn't have free ports for the requested pod ports";
        return refused(Plugin::NodePorts, false, text);
    }
    let lacking = insufficient(candidate, node);
    if !lacking.is_empty() {
        return Some(Refusal {
            plugin: Plugin::NodeResourcesFit,
            reasons: lacking,
            unresolvable: false,
        });
    }
    inter_pod(candidate, node, neighbours).and_then(|(plugin, unresolvable, text)| refused(plugin, unresolvable, text))
}

fn unschedulable_taint() -> Taint {
    Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    }
}

fn untolerated<'a>(spec: &PodSpec, node: &'a NodeInfo) -> Option<&'a Taint> {
    node.taints
        .iter()
        .find(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !tolerates(spec, taint))
}

pub fn tolerates(spec: &PodSpec, taint: &Taint) -> bool {
    spec.tolerations
        .iter()
        .flatten()
        .any(|toleration| tolerates_one(toleration, taint))
}

fn tolerates_one(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == taint.effect)
        && ((key.is_empty() && exists) || key == taint.key)
        && (exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
}

pub fn node_affinity(spec: &PodSpec, node: &NodeInfo) -> bool {
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| node.labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| selector::node_matches(required, &node.name, &node.labels))
}

fn clash(wanted: &HostPort, taken: &HostPort) -> bool {
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    wanted.port == taken.port
        && wanted.protocol == taken.protocol
        && (wanted.ip == taken.ip || any(&wanted.ip) || any(&taken.ip))
}

fn insufficient(candidate: &Candidate, node: &NodeInfo) -> Vec<String> {
    let wanted = &candidate.info.requests;
    let (have, used) = (&node.allocatable, &node.requested);
    let mut lacking = Vec::new();
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.pods_max {
        lacking.push("Too many pods".to_string());
    }
    let plain = [
        ("cpu", wanted.milli_cpu, have.milli_cpu - used.milli_cpu),
        ("memory", wanted.memory_bytes, have.memory_bytes - used.memory_bytes),
        (
            "ephemeral-storage",
            wanted.ephemeral_bytes,
            have.ephemeral_bytes - used.ephemeral_bytes,
        ),
    ];
    for (name, wanted, free) in plain {
        if wanted > 0 && wanted > free {
            lacking.push(format!("Insufficient {name}"));
        }
    }
    for (name, wanted) in &wanted.extended {
        let amount = |list: &BTreeMap<String, i64>| list.get(name).copied().unwrap_or(0);
        if *wanted > 0 && *wanted > amount(&have.extended) - amount(&used.extended) {
            lacking.push(format!("Insufficient {name}"));
        }
    }
    lacking
}

fn inter_pod(candidate: &Candidate, node: &NodeInfo, neighbours: &Neighbours) -> Option<(Plugin, bool, &'static str)> {
    use Plugin::{InterPodAffinity, PodTopologySpread};
    let here = |key: &str| node.labels.get(key);
    for (constraint, counts) in hard_constraints(candidate).zip(&neighbours.spread) {
        let Some(value) = here(&constraint.topology_key) else {
            let text = "node(s) didn't match pod topology spread constraints (missing required label)";
            return Some((PodTopologySpread, true, text));
        };
        let domains = i32::try_from(counts.len()).unwrap_or(i32::MAX);
        let least = if constraint.min_domains.is_some_and(|min| domains < min) {
            0
        } else {
            counts.values().copied().min().unwrap_or(0)
        };
        let own = i64::from(selector::selects(
            constraint.label_selector.as_ref(),
            &candidate.info.labels,
        ));
        if counts.get(value).copied().unwrap_or(0) + own - least > i64::from(constraint.max_skew) {
            return Some((
                PodTopologySpread,
                false,
                "node(s) didn't match pod topology spread constraints",
            ));
        }
    }
    let affine = affinity_terms(candidate)
        .iter()
        .zip(&neighbours.affine)
        .all(|(term, values)| match here(&term.topology_key) {
            Some(value) => values.contains(value) || neighbours.first_of_its_kind,
            None => false,
        });
    if !affine {
        return Some((InterPodAffinity, true, "node(s) didn't match pod affinity rules"));
    }
    let apart = candidate
        .info
        .anti_affinity
        .iter()
        .zip(&neighbours.anti)
        .all(|(term, values)| here(&term.topology_key).is_none_or(|value| !values.contains(value)));
    if !apart {
        return Some((InterPodAffinity, false, "node(s) didn't match pod anti-affinity rules"));
    }
    let refused = neighbours.refused.iter().any(|(key, value)| here(key) == Some(value));
    let text = "node(s) didn't satisfy existing pods anti-affinity rules";
    refused.then_some((InterPodAffinity, false, text))
}

fn affinity_terms(candidate: &Candidate) -> &[PodAffinityTerm] {
    candidate
        .spec()
        .and_then(|spec| spec.affinity.as_ref())
        .and_then(|affinity| affinity.pod_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

fn hard_constraints(
    candidate: &Candidate,
) -> impl Iterator<Item = &k8s_openapi::api::core::v1::TopologySpreadConstraint> {
    candidate
        .spec()
        .into_iter()
        .flat_map(|spec| spec.topology_spread_constraints.iter().flatten())
        .filter(|constraint| constraint.when_unsatisfiable == "DoNotSchedule")
}

/// Nodes that count for spreading: by default those the pod's node affinity allows.
fn eligible(candidate: &Candidate, node: &NodeInfo) -> bool {
    candidate.spec().is_some_and(|spec| node_affinity(spec, node))
}

fn values_with(snapshot: &Snapshot, term: &PodAffinityTerm, own_namespace: &str) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    for node in snapshot.nodes.values() {
        let Some(value) = node.labels.get(&term.topology_key) else {
            continue;
        };
        if node
            .pods
            .values()
            .any(|pod| term_selects(snapshot, term, own_namespace, &pod.key.0, &pod.labels))
        {
            values.insert(value.clone());
        }
    }
    values
}

/// Whether a term of a pod in `owner` selects a pod with `labels` in `namespace`.
fn term_selects(snapshot: &Snapshot, term: &PodAffinityTerm, owner: &str, namespace: &str, labels: &Labels) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    let in_scope = match &term.namespace_selector {
        Some(_) => {
            let none = Labels::new();
            named.iter().any(|name| name == namespace)
                || selector::selects(
                    term.namespace_selector.as_ref(),
                    snapshot.namespaces.get(namespace).unwrap_or(&none),
                )
        }
        None if named.is_empty() => owner == namespace,
        None => named.iter().any(|name| name == namespace),
    };
    in_scope && selector::selects(term.label_selector.as_ref(), labels)
}
