//! Making room: which pods of lower priority would have to go so that a pod
//! fits, and from which node. Pure; nothing is evicted here.

use crate::filter::{self, Candidate, Neighbours};
use crate::schedule::Unschedulable;
use crate::selector;
use crate::snapshot::{PodInfo, PodKey, Snapshot};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A PodDisruptionBudget as preemption sees it.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    pub namespace: String,
    pub selector: Option<LabelSelector>,
    /// `status.disruptionsAllowed`.
    pub allowed: i32,
    /// Names in `status.disruptedPods`: accounted for already.
    pub disrupted: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    pub key: PodKey,
    pub uid: String,
    /// Being deleted already: nothing is left to do to it.
    pub terminating: bool,
}

/// Where room can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preemption {
    pub node: String,
    /// Most important first.
    pub victims: Vec<Victim>,
    /// How many of them their budgets do not spare.
    pub violations: usize,
    /// Pods of lower priority nominated to the node, which may no longer fit:
    /// their nomination is to be cleared.
    pub denominated: Vec<PodKey>,
}

/// Why no room can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoPreemption {
    /// In upstream's words, without `preemption: `.
    pub message: String,
    /// The pod's own nomination is of no use any more: clear it. Otherwise it stays.
    pub clear_nomination: bool,
}

/// Looks for the node where making room for the pod hurts least. `why` is what
/// `schedule` said of the pod just now, with the same snapshot.
pub fn preempt(
    snapshot: &mut Snapshot,
    candidate: &Candidate,
    why: &Unschedulable,
    budgets: &[Budget],
) -> Result<Preemption, NoPreemption> {
    if let Some(message) = ineligible(snapshot, candidate, why) {
        return Err(NoPreemption {
            message: message.into(),
            clear_nomination: false,
        });
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<(Rank, Preemption)> = None;
    for node in &why.resolvable {
        match victims_on(snapshot, candidate, node, budgets) {
            Ok((victims, violations)) => {
                let rank = rank(&victims, violations);
                if best.as_ref().is_none_or(|(known, _)| rank < *known) {
                    let preemption = Preemption {
                        node: node.clone(),
                        victims: victims.iter().map(|pod| victim(pod)).collect(),
                        violations,
                        denominated: Vec::new(),
                    };
                    best = Some((rank, preemption));
                }
            }
            Err(texts) => texts
                .into_iter()
                .for_each(|text| *reasons.entry(text).or_default() += 1),
        }
    }
    if let Some((_, found)) = best {
        return Ok(found);
    }
    let hopeless = why.nodes - why.resolvable.len();
    if hopeless > 0 {
        *reasons
            .entry("Preemption is not helpful for scheduling".into())
            .or_default() += hopeless;
    }
    let message = Unschedulable {
        reasons,
        nodes: why.nodes,
        ..Unschedulable::default()
    };
    Err(NoPreemption {
        message: message.to_string(),
        clear_nomination: true,
    })
}

fn victim(pod: &PodInfo) -> Victim {
    Victim {
        key: pod.key.clone(),
        uid: pod.uid.clone(),
        terminating: pod.terminating,
    }
}

fn ineligible(snapshot: &Snapshot, candidate: &Candidate, why: &Unschedulable) -> Option<&'static str> {
    let spec = candidate.spec()?;
    if spec.preemption_policy.as_deref() == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = candidate.nominated()?;
    if !why.resolvable.contains(nominated) {
        return None;
    }
    let waiting = snapshot
        .pods_on(nominated)
        .any(|pod| pod.priority < candidate.info.priority && pod.terminating && pod.preempted);
    waiting.then_some("not eligible due to a terminating pod on the nominated node.")
}

type Rank = (usize, i32, i64, usize, std::cmp::Reverse<i64>);

/// The less, the better: budgets violated, the highest priority among the
/// victims, the sum of priorities, their number, then the latest start.
fn rank(victims: &[Arc<PodInfo>], violations: usize) -> Rank {
    let highest = victims.first().map_or(0, |pod| pod.priority);
    let sum = victims
        .iter()
        .map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1)
        .sum();
    let earliest = victims
        .iter()
        .filter(|pod| pod.priority == highest)
        .map(|pod| pod.started)
        .min();
    (
        violations,
        highest,
        sum,
        victims.len(),
        std::cmp::Reverse(earliest.unwrap_or(i64::MAX)),
    )
}

fn victims_on(
    snapshot: &Snapshot,
    candidate: &Candidate,
    node: &str,
    budgets: &[Budget],
) -> Result<(Vec<Arc<PodInfo>>, usize), Vec<String>> {
    let mut trial = snapshot.clone();
    let mut lower: Vec<Arc<PodInfo>> = snapshot
        .pods_on(node)
        .filter(|pod| pod.priority < candidate.info.priority)
        .cloned()
        .collect();
    if lower.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".into()]);
    }
    lower.sort_by(|a, b| b.priority.cmp(&a.priority).then(a.started.cmp(&b.started)));
    for pod in &lower {
        trial.remove_pod(&pod.key);
    }
    if let Some(refusal) = refusal(&trial, candidate, node) {
        return Err(refusal);
    }
    let (violating, sparing) = by_budget(lower, budgets);
    let mut violations = 0;
    let mut victims = Vec::new();
    for (pod, violates) in violating
        .into_iter()
        .map(|pod| (pod, true))
        .chain(sparing.into_iter().map(|pod| (pod, false)))
    {
        trial.set_pod(node, pod.clone());
        if refusal(&trial, candidate, node).is_some() {
            trial.remove_pod(&pod.key);
            violations += usize::from(violates);
            victims.push(pod);
        }
    }
    victims.sort_by(|a, b| b.priority.cmp(&a.priority).then(a.started.cmp(&b.started)));
    Ok((victims, violations))
}

fn refusal(snapshot: &Snapshot, candidate: &Candidate, node: &str) -> Option<Vec<String>> {
    let neighbours = Neighbours::look(snapshot, candidate);
    let node = snapshot.nodes.get(node)?;
    filter::refusal(candidate, node, &neighbours).map(|refusal| refusal.reasons)
}

/// Pods whose budgets do not allow for their disruption, and the others; each in
/// the order given.
fn by_budget(pods: Vec<Arc<PodInfo>>, budgets: &[Budget]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut violated = false;
        for (budget, allowed) in budgets.iter().zip(&mut allowed) {
            let empty = budget
                .selector
                .as_ref()
                .is_none_or(|selector| *selector == LabelSelector::default());
            if pod.labels.is_empty()
                || budget.namespace != pod.key.0
                || empty
                || !selector::selects(budget.selector.as_ref(), &pod.labels)
                || budget.disrupted.contains(&pod.key.1)
            {
                continue;
            }
            *allowed -= 1;
            violated |= *allowed < 0;
        }
        violated
    })
}
