//! On which nodes a DaemonSet's pods run, which pods come and go, and its status. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

use crate::deployment::resolve;
use crate::key::{created, name};
use crate::node::tolerates;
use crate::pods::{is_available, is_finished, is_ready, is_terminating, node_name};
use crate::revisions::pod_hash;
use crate::selector::contains;

/// Conditions of a node that must not keep its daemons away.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NETWORK_UNAVAILABLE: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

pub struct Observed<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    pub pods: &'a [Arc<Pod>],
    /// Hash of the current template's revision.
    pub hash: &'a str,
}

#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Names of nodes that need a pod.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// Finished pods with their nodes: they go too, the failed ones after a back-off.
    pub finished: Vec<(String, Arc<Pod>)>,
}

/// The template's spec with what every daemon tolerates, bound to one node by affinity.
pub fn pod_spec(spec: &PodSpec, node: &str) -> PodSpec {
    let mut spec = spec.clone();
    spec.tolerations = Some(tolerations(&spec));
    let only = NodeSelectorRequirement {
        key: "metadata.name".to_string(),
        operator: "In".to_string(),
        values: Some(vec![node.to_string()]),
    };
    let affinity = spec
        .affinity
        .get_or_insert_default()
        .node_affinity
        .get_or_insert_default();
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector {
            node_selector_terms: Vec::new(),
        });
    required.node_selector_terms = vec![NodeSelectorTerm {
        match_fields: Some(vec![only]),
        match_expressions: None,
    }];
    spec
}

fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let host = (spec.host_network == Some(true)).then_some(NETWORK_UNAVAILABLE);
    for (key, effect) in TOLERATED.into_iter().chain(host) {
        let wanted = Toleration {
            key: Some(key.to_string()),
            operator: Some("Exists".to_string()),
            effect: Some(effect.to_string()),
            ..Default::default()
        };
        if !all.contains(&wanted) {
            all.push(wanted);
        }
    }
    all
}

/// The node a daemon pod is meant for, also before it is bound.
pub fn target_node(pod: &Pod) -> Option<&str> {
    if let Some(node) = node_name(pod) {
        return Some(node);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let mut named = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    named.next()?.values.as_ref()?.first().map(String::as_str)
}

fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|known| known == value));
    let compared = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(value, bound)| value > bound),
        "Lt" => compared().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

fn selects(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    if spec
        .node_name
        .as_deref()
        .is_some_and(|wanted| !wanted.is_empty() && wanted != name(&node.metadata))
    {
        return false;
    }
    if !spec
        .node_selector
        .as_ref()
        .is_none_or(|wanted| contains(labels, wanted))
    {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| {
            let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
            let expressions = term.match_expressions.as_deref().unwrap_or_default();
            let fields = term.match_fields.as_deref().unwrap_or_default();
            (!expressions.is_empty() || !fields.is_empty())
                && expressions
                    .iter()
                    .all(|wanted| requirement_holds(wanted, label(&wanted.key)))
                && fields
                    .iter()
                    .all(|wanted| requirement_holds(wanted, Some(name(&node.metadata))))
        })
    })
}

/// Whether a pod should start on the node, and whether one that runs there may stay.
pub fn fits(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let Some(spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else {
        return (false, false);
    };
    if !selects(spec, node) {
        return (false, false);
    }
    let tolerations = tolerations(spec);
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let untolerated = |taint: &&Taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint));
    let mut untolerated = taints.iter().filter(untolerated).peekable();
    if untolerated.clone().any(|taint| taint.effect == "NoExecute") {
        return (false, false);
    }
    let blocked = untolerated.any(|taint| taint.effect == "NoSchedule");
    (!blocked, true)
}

fn by_node<'a>(observed: &Observed<'a>) -> BTreeMap<&'a str, Vec<&'a Arc<Pod>>> {
    let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in observed.pods {
        if let Some(node) = target_node(pod) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    by_node
}

/// Bound pods first, then the oldest.
fn by_age(pods: &mut [&Arc<Pod>]) {
    pods.sort_by_key(|pod| (node_name(pod).is_none(), created(&pod.metadata), name(&pod.metadata)));
}

/// Brings every node its pod and takes away what is too much.
pub fn manage(observed: &Observed<'_>, now: Timestamp) -> Changes {
    let mut changes = Changes::default();
    let mut by_node = by_node(observed);
    for node in observed.nodes {
        let pods = by_node.remove(name(&node.metadata)).unwrap_or_default();
        let (starts, stays) = fits(observed.set, node);
        let live: Vec<&Arc<Pod>> = pods.iter().copied().filter(|pod| !is_terminating(pod)).collect();
        if !stays {
            changes.delete.extend(live.into_iter().cloned());
            continue;
        }
        let (finished, mut running): (Vec<_>, Vec<_>) = live.into_iter().partition(|pod| is_finished(pod));
        let own_name = name(&node.metadata);
        changes
            .finished
            .extend(finished.into_iter().map(|pod| (own_name.to_string(), pod.clone())));
        by_age(&mut running);
        changes.delete.extend(leftovers(observed, &running, now));
        // A terminating pod holds its place until it is gone.
        if pods.is_empty() && starts {
            changes.create.push(own_name.to_string());
        }
    }
    // Pods for nodes that are gone will never start.
    let lost = by_node.into_values().flatten();
    let lost = lost.filter(|pod| node_name(pod).is_none() && !is_terminating(pod));
    changes.delete.extend(lost.cloned());
    changes
}

/// Those of a node's pods, oldest first, that are too many: all but the oldest; but while a new pod may start
/// beside the old one, one of each until either the new one is available or the old one does not work.
fn leftovers(observed: &Observed<'_>, running: &[&Arc<Pod>], now: Timestamp) -> Vec<Arc<Pod>> {
    if surge(observed.set, 1) == 0 {
        return running.iter().skip(1).map(|pod| (*pod).clone()).collect();
    }
    let (new, old): (Vec<_>, Vec<_>) = running
        .iter()
        .copied()
        .partition(|pod| pod_hash(pod) == Some(observed.hash));
    let mut leftovers: Vec<&Arc<Pod>> = new.iter().skip(1).chain(old.iter().skip(1)).copied().collect();
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (!is_ready(old) || is_available(new, min_ready(observed), now))
    {
        leftovers.push(old);
    }
    leftovers.into_iter().cloned().collect()
}

fn min_ready(observed: &Observed<'_>) -> i32 {
    let spec = observed.set.spec.as_ref();
    spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

/// On how many of `total` nodes a new pod may start beside the old one.
fn surge(set: &DaemonSet, total: i32) -> i32 {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.filter(|strategy| strategy.type_.as_deref() != Some("OnDelete"));
    let limit = rolling.and_then(|strategy| strategy.rolling_update.as_ref()?.max_surge.as_ref());
    limit.map_or(0, |limit| resolve(Some(limit), total, true))
}

/// The next step of a rollout.
pub fn roll(observed: &Observed<'_>, now: Timestamp) -> Changes {
    let total = observed.nodes.iter().filter(|node| fits(observed.set, node).0).count();
    let surge = surge(observed.set, i32::try_from(total).unwrap_or(i32::MAX));
    if surge > 0 {
        return roll_with_surge(observed, surge, now);
    }
    Changes {
        delete: roll_in_place(observed, now),
        ..Default::default()
    }
}

/// New pods start beside old ones on at most `surge` nodes; the old one goes once the new one is available.
fn roll_with_surge(observed: &Observed<'_>, surge: i32, now: Timestamp) -> Changes {
    let mut changes = Changes::default();
    let min_ready = min_ready(observed);
    let (mut surging, mut candidates) = (0, Vec::new());
    for (node, pods) in by_node(observed) {
        let live = || pods.iter().filter(|pod| !is_terminating(pod) && !is_finished(pod));
        let new = live().find(|pod| pod_hash(pod) == Some(observed.hash));
        let old = live().find(|pod| pod_hash(pod) != Some(observed.hash));
        let leaves = pods.iter().any(|pod| is_terminating(pod));
        let fits = observed
            .nodes
            .iter()
            .any(|known| name(&known.metadata) == node && fits(observed.set, known).0);
        match (new, old) {
            (Some(new), Some(old)) if is_available(new, min_ready, now) => changes.delete.push((**old).clone()),
            (Some(_), Some(_)) => surging += 1,
            // What does not work anyway may be replaced at once.
            (None, Some(old)) if fits && !is_available(old, min_ready, now) => changes.create.push(node.to_string()),
            (None, Some(_)) if fits => candidates.push(node.to_string()),
            _ => surging += i32::from(leaves),
        }
    }
    let room = usize::try_from(surge - surging).unwrap_or(0);
    changes.create.extend(candidates.into_iter().take(room));
    changes
}

/// Pods of old revisions that may go now, so that no more than `maxUnavailable` nodes lack their daemon.
fn roll_in_place(observed: &Observed<'_>, now: Timestamp) -> Vec<Arc<Pod>> {
    let Some(spec) = &observed.set.spec else {
        return Vec::new();
    };
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return Vec::new();
    }
    let by_node = by_node(observed);
    let wanted: Vec<&str> = observed
        .nodes
        .iter()
        .filter(|node| fits(observed.set, node).0)
        .map(|node| name(&node.metadata))
        .collect();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let total = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
    let configured = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    let allowed = configured.map_or(1, |value| resolve(Some(value), total, true)).max(1);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let available = |pod: &Pod| is_available(pod, min_ready, now) && !is_terminating(pod);
    let mut unavailable = 0;
    let (mut broken, mut working) = (Vec::new(), Vec::new());
    for node in wanted {
        let pods = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        if !pods.iter().any(|pod| available(pod)) {
            unavailable += 1;
        }
        for pod in pods
            .iter()
            .filter(|pod| !is_terminating(pod) && pod_hash(pod) != Some(observed.hash))
        {
            let side = if available(pod) { &mut working } else { &mut broken };
            side.push((*pod).clone());
        }
    }
    // What does not work anyway costs nothing.
    let room = usize::try_from(allowed - unavailable).unwrap_or(0);
    broken.extend(working.into_iter().take(room));
    broken
}

pub fn status(observed: &Observed<'_>, now: Timestamp) -> DaemonSetStatus {
    let by_node = by_node(observed);
    let old = observed.set.status.clone().unwrap_or_default();
    let min_ready = min_ready(observed);
    let (mut desired, mut current, mut misscheduled) = (0, 0, 0);
    let (mut ready, mut available, mut updated) = (0, 0, 0);
    for node in observed.nodes {
        let mut pods = by_node.get(name(&node.metadata)).cloned().unwrap_or_default();
        pods.retain(|pod| !(is_terminating(pod) && is_finished(pod)));
        let (starts, _) = fits(observed.set, node);
        if !starts {
            misscheduled += i32::from(!pods.is_empty());
            continue;
        }
        desired += 1;
        by_age(&mut pods);
        let Some(pod) = pods.first() else { continue };
        current += 1;
        ready += i32::from(is_ready(pod));
        available += i32::from(is_available(pod, min_ready, now));
        updated += i32::from(pod_hash(pod) == Some(observed.hash));
    }
    DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_misscheduled: misscheduled,
        number_ready: ready,
        number_available: Some(available),
        number_unavailable: Some(desired - available),
        updated_number_scheduled: Some(updated),
        observed_generation: observed.set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
    }
}

pub fn same_status(a: &DaemonSetStatus, b: &DaemonSetStatus) -> bool {
    let counts = |status: &DaemonSetStatus| {
        [
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_misscheduled,
            status.number_ready,
            status.number_available.unwrap_or(0),
            status.number_unavailable.unwrap_or(0),
            status.updated_number_scheduled.unwrap_or(0),
        ]
    };
    counts(a) == counts(b) && a.observed_generation == b.observed_generation
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
