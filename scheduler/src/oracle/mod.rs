//! The same decisions, slow and obvious: everything is recounted from lists of
//! objects each time, with nothing of the crate but its names for rules. For tests.

mod random;
mod score;
#[cfg(test)]
mod test;
mod world;

pub use score::scores;
pub use world::World;

use crate::plugin::Plugin;
use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, Taint, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;
pub type Refused = (Plugin, Vec<String>, bool);

pub fn labels(pod: &Pod) -> Labels {
    pod.metadata.labels.clone().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> String {
    pod.metadata.namespace.clone().unwrap_or_default()
}

pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

pub fn node_label<'a>(node: &'a Node, key: &str) -> Option<&'a String> {
    node.metadata.labels.as_ref()?.get(key)
}

fn holds(operator: &str, value: Option<&String>, values: &[String]) -> bool {
    match operator {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.is_some_and(|value| value.parse::<i64>().expect("number") > values[0].parse().expect("number")),
        other => panic!("{other} is not made here"),
    }
}

pub fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector.match_labels.iter().flatten();
    let rules = selector.match_expressions.iter().flatten();
    equal.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && rules.into_iter().all(|rule| {
            let values = rule.values.clone().unwrap_or_default();
            holds(&rule.operator, labels.get(&rule.key), &values)
        })
}

pub fn term_about(world: &World, owner: &str, term: &PodAffinityTerm, pod: &Pod) -> bool {
    let listed = term.namespaces.clone().unwrap_or_default();
    let there = namespace(pod);
    let in_namespace = if listed.is_empty() && term.namespace_selector.is_none() {
        there == owner
    } else {
        let labels = world.namespaces.get(&there).cloned().unwrap_or_default();
        listed.contains(&there)
            || (term.namespace_selector.is_some() && selects(term.namespace_selector.as_ref(), &labels))
    };
    in_namespace && selects(term.label_selector.as_ref(), &labels(pod))
}

pub fn tolerated(pod: &Pod, taint: &Taint) -> bool {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    tolerations.into_iter().any(|toleration: &Toleration| {
        let same_effect = toleration.effect.is_none() || toleration.effect.as_ref() == Some(&taint.effect);
        let exists = toleration.operator.as_deref() == Some("Exists");
        let same_key = toleration.key.is_none() || toleration.key.as_ref() == Some(&taint.key);
        same_effect && same_key && (exists || toleration.value == taint.value)
    })
}

pub fn taints(node: &Node) -> Vec<Taint> {
    node.spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default()
}

pub fn lets_in(pod: &Pod, node: &Node) -> bool {
    let bars = |taint: &Taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
    taints(node).iter().all(|taint| !bars(taint) || tolerated(pod, taint))
}

pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let name = node.metadata.name.clone();
    let on_label = |rule: &NodeSelectorRequirement| {
        let values = rule.values.clone().unwrap_or_default();
        holds(&rule.operator, node_label(node, &rule.key), &values)
    };
    let on_name = |rule: &NodeSelectorRequirement| {
        let values = rule.values.clone().unwrap_or_default();
        holds(&rule.operator, name.as_ref(), &values)
    };
    let expressions = term.match_expressions.clone().unwrap_or_default();
    let fields = term.match_fields.clone().unwrap_or_default();
    (!expressions.is_empty() || !fields.is_empty()) && expressions.iter().all(on_label) && fields.iter().all(on_name)
}

fn required_terms(pod: &Pod) -> Option<Vec<NodeSelectorTerm>> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    Some(required.node_selector_terms.clone())
}

pub fn affine(pod: &Pod, node: &Node) -> bool {
    let selector = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_selector.clone())
        .unwrap_or_default();
    selector.iter().all(|(key, value)| node_label(node, key) == Some(value))
        && required_terms(pod).is_none_or(|terms| terms.iter().any(|term| term_matches(term, node)))
}

/// The nodes that alone may match, if every term names some.
pub fn named(pod: &Pod) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for term in required_terms(pod)? {
        let fields = term.match_fields.unwrap_or_default();
        let mut names: Option<BTreeSet<String>> = None;
        for rule in fields.iter().filter(|rule| rule.operator == "In") {
            let these: BTreeSet<String> = rule.values.clone().unwrap_or_default().into_iter().collect();
            names = Some(names.map_or(these.clone(), |names| &names & &these));
        }
        all.extend(names?);
    }
    Some(all)
}

/// Amounts in these tests are whole: thousandths for CPU, plain numbers otherwise.
pub fn amount(list: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>, name: &str) -> i64 {
    let text = list.get(name).map_or("0", |quantity| quantity.0.as_str());
    text.trim_end_matches('m').parse().expect("a whole number")
}

pub fn asks(pod: &Pod, name: &str) -> i64 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let requests = containers.filter_map(|container| container.resources.as_ref()?.requests.as_ref());
    requests.map(|requests| amount(requests, name)).sum()
}

pub fn has(node: &Node, name: &str) -> i64 {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    allocatable.map_or(0, |allocatable| amount(allocatable, name))
}

fn ports(pod: &Pod) -> Vec<i32> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(|port| port.host_port).collect()
}

pub fn constraints(pod: &Pod, action: &str) -> Vec<TopologySpreadConstraint> {
    let all = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.topology_spread_constraints.clone());
    let mut all = all.unwrap_or_default();
    all.retain(|constraint| constraint.when_unsatisfiable == action);
    all
}

pub fn counted(constraint: &TopologySpreadConstraint, of: &Pod, other: &Pod) -> bool {
    let same_values = constraint.match_label_keys.iter().flatten().all(|key| {
        let own = labels(of).get(key).cloned();
        own.is_none() || labels(other).get(key) == own.as_ref()
    });
    namespace(of) == namespace(other)
        && other.metadata.deletion_timestamp.is_none()
        && same_values
        && selects(constraint.label_selector.as_ref(), &labels(other))
}

pub fn included(constraint: &TopologySpreadConstraint, pod: &Pod, node: &Node) -> bool {
    let honors = |policy: &Option<String>, default: &str| policy.as_deref().unwrap_or(default) == "Honor";
    (!honors(&constraint.node_affinity_policy, "Honor") || affine(pod, node))
        && (!honors(&constraint.node_taints_policy, "Ignore") || lets_in(pod, node))
}

/// What the filters say of one node, in upstream's order; without regard to nominated pods.
fn alone(world: &World, pod: &Pod, name: &str) -> Option<Refused> {
    let node = &world.nodes[name];
    let refuse = |plugin, text: &str, unresolvable| Some((plugin, vec![text.to_string()], unresolvable));
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        return refuse(Plugin::NodeUnschedulable, "node(s) were unschedulable", true);
    }
    if !lets_in(pod, node) {
        return refuse(Plugin::TaintToleration, "node(s) had untolerated taint(s)", true);
    }
    if !affine(pod, node) {
        let text = "node(s) didn't match Pod's node affinity/selector";
        return refuse(Plugin::NodeAffinity, text, true);
    }
    let here: Vec<&Pod> = world.pods_on(name).collect();
    if here
        .iter()
        .any(|other| ports(other).iter().any(|port| ports(pod).contains(port)))
    {
        let text = "node(s) didn't have free ports for the requested pod ports";
        return refuse(Plugin::NodePorts, text, false);
    }
    let mut lacking = Vec::new();
    let mut never = false;
    if here.len() as i64 >= has(node, "pods") {
        lacking.push("Too many pods".to_string());
    }
    for resource in ["cpu", "memory", "ephemeral-storage", "example.com/gpu"] {
        let used: i64 = here.iter().map(|other| asks(other, resource)).sum();
        let wanted = asks(pod, resource);
        if wanted > 0 && wanted > has(node, resource) - used {
            lacking.push(format!("Insufficient {resource}"));
            never |= wanted > has(node, resource);
        }
    }
    if !lacking.is_empty() {
        return Some((Plugin::NodeResourcesFit, lacking, never));
    }
    skewed(world, pod, node).or_else(|| between(world, pod, node))
}

fn skewed(world: &World, pod: &Pod, node: &Node) -> Option<Refused> {
    let text = "node(s) didn't match pod topology spread constraints";
    let all = constraints(pod, "DoNotSchedule");
    for constraint in &all {
        let Some(value) = node_label(node, &constraint.topology_key) else {
            let text = format!("{text} (missing required label)");
            return Some((Plugin::PodTopologySpread, vec![text], true));
        };
        let mut domains: BTreeMap<&String, i64> = BTreeMap::new();
        for (name, other) in &world.nodes {
            let keys = all.iter().all(|one| node_label(other, &one.topology_key).is_some());
            if !keys || !included(constraint, pod, other) {
                continue;
            }
            let value = node_label(other, &constraint.topology_key).expect("checked");
            let count = world
                .pods_on(name)
                .filter(|other| counted(constraint, pod, other))
                .count();
            *domains.entry(value).or_default() += count as i64;
        }
        let too_few = (domains.len() as i32) < constraint.min_domains.unwrap_or(1);
        let least = if too_few {
            0
        } else {
            *domains.values().min().expect("a domain")
        };
        let own = selects(constraint.label_selector.as_ref(), &labels(pod));
        let here = domains.get(value).copied().unwrap_or(0);
        if here + i64::from(own) - least > i64::from(constraint.max_skew) {
            return Some((Plugin::PodTopologySpread, vec![text.to_string()], false));
        }
    }
    None
}

pub fn required(pod: &Pod, anti: bool) -> Vec<PodAffinityTerm> {
    let affinity = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.clone())
        .unwrap_or_default();
    let terms = if anti {
        affinity
            .pod_anti_affinity
            .and_then(|rules| rules.required_during_scheduling_ignored_during_execution)
    } else {
        affinity
            .pod_affinity
            .and_then(|rules| rules.required_during_scheduling_ignored_during_execution)
    };
    terms.unwrap_or_default()
}

fn between(world: &World, pod: &Pod, node: &Node) -> Option<Refused> {
    let refuse = |text: &str, unresolvable| Some((Plugin::InterPodAffinity, vec![text.to_string()], unresolvable));
    let own = namespace(pod);
    let near = |term: &PodAffinityTerm, other: &Node| {
        let value = node_label(node, &term.topology_key);
        value.is_some() && value == node_label(other, &term.topology_key)
    };
    let needs = required(pod, false);
    let fits_all = |other: &Pod| needs.iter().all(|term| term_about(world, &own, term, other));
    let met = needs.iter().all(|term| {
        let mut placed = world.placed();
        placed.any(|(other, there)| fits_all(other) && near(term, there))
    });
    let labelled = needs.iter().all(|term| node_label(node, &term.topology_key).is_some());
    let mut placed = world.placed();
    let nobody = !placed.any(|(other, there)| {
        let mut keys = needs.iter().map(|term| &term.topology_key);
        fits_all(other) && keys.any(|key| node_label(there, key).is_some())
    });
    let may_be_first = labelled && nobody && fits_all(pod);
    if !(met || may_be_first) {
        return refuse("node(s) didn't match pod affinity rules", true);
    }
    for term in required(pod, true) {
        let mut placed = world.placed();
        if placed.any(|(other, there)| term_about(world, &own, &term, other) && near(&term, there)) {
            return refuse("node(s) didn't match pod anti-affinity rules", false);
        }
    }
    for (other, there) in world.placed() {
        let theirs = namespace(other);
        let mut terms = required(other, true).into_iter();
        if terms.any(|term| term_about(world, &theirs, &term, pod) && near(&term, there)) {
            return refuse("node(s) didn't satisfy existing pods anti-affinity rules", false);
        }
    }
    None
}

/// The pod has to fit both with and without the pods that room was made for.
pub fn filter(world: &World, pod: &Pod, name: &str) -> Option<Refused> {
    let mut full = world.clone();
    for (node, other) in &world.nominated {
        if node == name && priority(other) >= priority(pod) && other.metadata.name != pod.metadata.name {
            full.place(node, other.clone());
        }
    }
    alone(&full, pod, name).or_else(|| alone(world, pod, name))
}
