//! What a node's heartbeat means for its conditions and taints, and which pods a taint evicts when. Pure.

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint, Toleration};

use crate::key::{created, time};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that only the node itself can know.
const NODE_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Condition, the status that taints, the taint.
const CONDITION_TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind)
}

/// `True`, `False` or `Unknown`; a node that never said is `Unknown`.
pub fn ready(node: &Node) -> &str {
    condition(node, "Ready").map_or("Unknown", |ready| ready.status.as_str())
}

/// The conditions to write for a node that has been silent for too long.
pub fn lost_conditions(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let lost = |kind: &&str| match condition(node, kind) {
        None => Some(NodeCondition {
            type_: (*kind).to_string(),
            status: "Unknown".to_string(),
            reason: Some("NodeStatusNeverUpdated".to_string()),
            message: Some("Kubelet never posted node status.".to_string()),
            last_heartbeat_time: Some(time(created(&node.metadata))),
            last_transition_time: Some(time(now)),
        }),
        Some(known) if known.status != "Unknown" => Some(NodeCondition {
            status: "Unknown".to_string(),
            reason: Some("NodeStatusUnknown".to_string()),
            message: Some("Kubelet stopped posting node status.".to_string()),
            last_transition_time: Some(time(now)),
            ..known.clone()
        }),
        Some(_) => None,
    };
    NODE_CONDITIONS.iter().filter_map(lost).collect()
}

/// The node's taints as its state demands, keeping all that are not ours; none where they are right.
///
/// `evict`: whether the pods of a lost node may be evicted.
pub fn taints(node: &Node, evict: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let current = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (kind, status, key) in CONDITION_TAINTS {
        if condition(node, kind).is_some_and(|condition| condition.status == status) {
            wanted.push((key, "NoSchedule"));
            if kind == "Ready" && evict {
                wanted.push((key, "NoExecute"));
            }
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |taint: &Taint| {
        let by_condition = CONDITION_TAINTS.iter().any(|(_, _, key)| taint.key == *key);
        (by_condition || taint.key == UNSCHEDULABLE) && taint.effect == "NoSchedule"
            || (taint.key == NOT_READY || taint.key == UNREACHABLE) && taint.effect == "NoExecute"
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut result: Vec<Taint> = current
        .iter()
        .filter(|taint| !ours(taint) || is_wanted(taint))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !result.iter().any(|taint| taint.key == key && taint.effect == effect) {
            result.push(Taint {
                key: key.to_string(),
                effect: effect.to_string(),
                value: None,
                time_added: Some(time(now)),
            });
        }
    }
    (result != current).then_some(result)
}

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    let key = toleration.key.as_deref().unwrap_or("");
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
        _ => false,
    }
}

/// Whether the node has one of the taints that evict for its loss.
pub fn is_given_up(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let ours = |taint: &Taint| taint.effect == "NoExecute" && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
    taints.into_iter().any(ours)
}

#[derive(Debug, PartialEq)]
pub enum Eviction {
    Never,
    At(Timestamp),
}

/// When this pod has to leave its node because of NoExecute taints. `seen`: since when it is known to be among
/// them; taints that people put on have no time of their own.
pub fn eviction(pod: &Pod, taints: &[Taint], seen: Timestamp, now: Timestamp) -> Eviction {
    let taints: Vec<&Taint> = taints.iter().filter(|taint| taint.effect == "NoExecute").collect();
    if taints.is_empty() {
        return Eviction::Never;
    }
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .map_or(&[][..], Vec::as_slice);
    let mut shortest: Option<i64> = None;
    for taint in &taints {
        let mut tolerating = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .peekable();
        if tolerating.peek().is_none() {
            return Eviction::At(now);
        }
        for seconds in tolerating.filter_map(|toleration| toleration.toleration_seconds) {
            shortest = Some(shortest.map_or(seconds, |known| known.min(seconds)).max(0));
        }
    }
    let Some(seconds) = shortest else {
        return Eviction::Never;
    };
    // Counted from when the pod met the taint: whichever of the two came last.
    let tainted = taints
        .iter()
        .filter_map(|taint| taint.time_added.as_ref())
        .map(|time| time.0)
        .max();
    let scheduled = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|condition| condition.type_ == "PodScheduled")
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map_or(created(&pod.metadata), |time| time.0);
    let since = tainted.unwrap_or(seen).max(scheduled);
    Eviction::At(
        since
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::{at, pod};
    use k8s_openapi::api::core::v1::NodeStatus;

    fn node(ready: &str) -> Node {
        let ready = NodeCondition {
            type_: "Ready".to_string(),
            status: ready.to_string(),
            ..Default::default()
        };
        Node {
            status: Some(NodeStatus {
                conditions: Some(vec![ready]),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn shown(taints: Option<Vec<Taint>>) -> Vec<String> {
        taints
            .into_iter()
            .flatten()
            .map(|taint| format!("{}:{}", taint.key, taint.effect))
            .collect()
    }

    #[test]
    fn taints_follow_readiness_and_settle() {
        let mut lost = node("Unknown");
        let wanted = taints(&lost, true, at(1));
        assert_eq!(
            shown(wanted.clone()),
            [
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute"
            ]
        );
        lost.spec.get_or_insert_default().taints = wanted;
        assert_eq!(taints(&lost, true, at(9)), None, "already so");
        assert_eq!(
            shown(taints(&lost, false, at(9))),
            ["node.kubernetes.io/unreachable:NoSchedule"]
        );
        let mut well = node("True");
        well.spec = lost.spec.clone();
        assert_eq!(taints(&well, true, at(9)), Some(vec![]));
    }

    #[test]
    fn silent_nodes_become_unknown_once() {
        let mut lost = node("True");
        let conditions = lost_conditions(&lost, at(5));
        assert_eq!(conditions.len(), 4);
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(conditions[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        lost.status.get_or_insert_default().conditions = Some(conditions);
        assert_eq!(lost_conditions(&lost, at(9)), []);
    }

    #[test]
    fn eviction_waits_for_the_shortest_toleration() {
        let taint = Taint {
            key: NOT_READY.to_string(),
            effect: "NoExecute".to_string(),
            time_added: Some(time(at(100))),
            value: None,
        };
        let mut tolerant = pod("a", "Running", Some("n"), None);
        assert_eq!(eviction(&tolerant, &[], at(500), at(500)), Eviction::Never);
        assert_eq!(
            eviction(&tolerant, std::slice::from_ref(&taint), at(500), at(500)),
            Eviction::At(at(500))
        );
        let toleration = |seconds| Toleration {
            key: Some(NOT_READY.to_string()),
            operator: Some("Exists".to_string()),
            effect: Some("NoExecute".to_string()),
            toleration_seconds: seconds,
            value: None,
        };
        tolerant.spec.get_or_insert_default().tolerations = Some(vec![toleration(Some(300)), toleration(None)].into());
        assert_eq!(
            eviction(&tolerant, std::slice::from_ref(&taint), at(500), at(500)),
            Eviction::At(at(400))
        );
        tolerant.spec.get_or_insert_default().tolerations = Some(vec![toleration(None)].into());
        assert_eq!(
            eviction(&tolerant, std::slice::from_ref(&taint), at(500), at(500)),
            Eviction::Never
        );
        let timeless = Taint {
            time_added: None,
            ..taint
        };
        tolerant.spec.get_or_insert_default().tolerations = Some(vec![toleration(Some(300))].into());
        assert_eq!(
            eviction(&tolerant, &[timeless], at(500), at(700)),
            Eviction::At(at(800)),
            "each look does not begin anew"
        );
    }
}
