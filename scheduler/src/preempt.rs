//! Making room: which pods of lower priority would have to go so that a pod
//! fits, and from which node. Pure; nothing is evicted here.

use crate::filter::Candidate;
use crate::pod::{PodInfo, PodKey};
use crate::round::Round;
use crate::rules::Code;
use crate::schedule::Unschedulable;
use crate::selector::Selector;
use crate::snapshot::{Slot, Snapshot, State};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Of the nodes where room could be made, so many are compared: a tenth, and not
/// fewer than this (upstream's minCandidateNodesPercentage and -Absolute).
const COMPARED_MIN: usize = 100;

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
    let Snapshot { state, memo } = snapshot;
    if let Some(message) = ineligible(state, candidate, why) {
        return Err(NoPreemption {
            message: message.into(),
            clear_nomination: false,
        });
    }
    let budgets: Vec<Allowance<'_>> = budgets.iter().map(Allowance::of).collect();
    let mut failures = Failures::default();
    let mut found = 0;
    let mut best: Option<(Rank, Slot, Room)> = None;
    // Nobody anywhere is of lower priority: there is no need to look.
    if state
        .lowest_priority()
        .is_none_or(|lowest| lowest >= candidate.info.priority)
    {
        failures.without_victims = why.resolvable.len();
    } else {
        let round = Round::new(state, memo, candidate);
        let compared_max = COMPARED_MIN.max(why.resolvable.len() / 10);
        for slot in why.resolvable.iter().copied() {
            match room_on(&round, slot, &budgets) {
                Err(None) => failures.without_victims += 1,
                Err(Some(code)) => failures.add(code),
                Ok(room) => {
                    found += 1;
                    let rank = room.rank();
                    if best.as_ref().is_none_or(|(known, at, _)| (&rank, slot) < (known, *at)) {
                        best = Some((rank, slot, room));
                    }
                }
            }
            if found == compared_max {
                break;
            }
        }
    }
    match best {
        Some((_, slot, room)) => Ok(room.preemption(state, candidate, slot)),
        None => Err(NoPreemption {
            message: failures.message(candidate, why),
            clear_nomination: true,
        }),
    }
}

fn ineligible(state: &State, candidate: &Candidate, why: &Unschedulable) -> Option<&'static str> {
    let spec = candidate.spec()?;
    if spec.preemption_policy.as_deref() == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let slot = state.slot_of(candidate.nominated()?)?;
    if !why.resolvable.contains(&slot) {
        return None;
    }
    let mut here = state.slots[slot as usize].pods.iter();
    let waiting = here.any(|pod| pod.priority < candidate.info.priority && pod.terminating && pod.preempted);
    waiting.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// Why no room can be made, as counts of nodes.
#[derive(Default)]
struct Failures {
    without_victims: usize,
    codes: Vec<(Code, usize)>,
}

impl Failures {
    fn add(&mut self, code: Code) {
        match self.codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.codes.push((code, 1)),
        }
    }

    fn message(self, candidate: &Candidate, why: &Unschedulable) -> String {
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        let mut add = |text: &str, count: usize| {
            if count > 0 {
                *reasons.entry(text.to_string()).or_default() += count;
            }
        };
        let hopeless = why.nodes - why.resolvable.len();
        add("Preemption is not helpful for scheduling", hopeless);
        add("No preemption victims found for incoming pod", self.without_victims);
        for (code, count) in self.codes {
            code.reasons(candidate).iter().for_each(|reason| add(reason, count));
        }
        let message = Unschedulable {
            reasons,
            nodes: why.nodes,
            ..Unschedulable::default()
        };
        message.to_string()
    }
}

/// The pods that would go from one node.
struct Room {
    /// Most important first.
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// The less, the better: budgets violated, the highest priority among the
/// victims, the sum of priorities, their number, then the latest start.
type Rank = (usize, i32, i64, usize, Reverse<i64>);

impl Room {
    fn rank(&self) -> Rank {
        let victims = &self.victims;
        let highest = victims.first().map_or(0, |pod| pod.priority);
        // None counts as negative, so that fewer are better whatever their priority.
        let weights = victims.iter().map(|pod| i64::from(pod.priority) - i64::from(i32::MIN));
        let highest_ones = victims.iter().filter(|pod| pod.priority == highest);
        let earliest = highest_ones.map(|pod| pod.started).min();
        (
            self.violations,
            highest,
            weights.sum(),
            victims.len(),
            Reverse(earliest.unwrap_or(i64::MAX)),
        )
    }

    fn preemption(self, state: &State, candidate: &Candidate, slot: Slot) -> Preemption {
        let node = state.name_of(slot).to_string();
        let others = state.nominated_to(&node);
        let lower = others.filter(|pod| pod.priority < candidate.info.priority);
        let victims = self.victims.iter().map(|pod| Victim {
            key: pod.key.clone(),
            uid: pod.uid.clone(),
            terminating: pod.terminating,
        });
        Preemption {
            victims: victims.collect(),
            violations: self.violations,
            denominated: lower.map(|pod| pod.key.clone()).collect(),
            node,
        }
    }
}

/// `Err(None)`: nobody there may be asked to go.
fn room_on(round: &Round<'_>, slot: Slot, budgets: &[Allowance<'_>]) -> Result<Room, Option<Code>> {
    let node = &round.state.slots[slot as usize];
    let priority = round.candidate.info.priority;
    if node.lowest_priority.is_none_or(|lowest| lowest >= priority) {
        return Err(None);
    }
    let lower = node.pods.iter().filter(|pod| pod.priority < priority);
    let mut lower: Vec<Arc<PodInfo>> = lower.cloned().collect();
    lower.sort_by(|a, b| importance(a).cmp(&importance(b)));
    let mut trial = round.trial(slot);
    lower.iter().for_each(|pod| trial.goes(round, pod));
    match trial.code(round) {
        Code::Fits => {}
        code => return Err(Some(code)),
    }
    // Who can stay, stays: first those whose budgets ask for it, then the most important.
    let (violating, sparing) = by_budget(lower, budgets);
    let mut room = Room {
        victims: Vec::new(),
        violations: 0,
    };
    let violating = violating.into_iter().map(|pod| (pod, 1));
    let all = violating.chain(sparing.into_iter().map(|pod| (pod, 0)));
    for (pod, violation) in all {
        trial.comes(round, &pod);
        if trial.code(round) != Code::Fits {
            trial.goes(round, &pod);
            room.violations += violation;
            room.victims.push(pod);
        }
    }
    room.victims.sort_by(|a, b| importance(a).cmp(&importance(b)));
    Ok(room)
}

/// More important pods first: of higher priority, then longer running.
fn importance(pod: &PodInfo) -> (Reverse<i32>, i64, &PodKey) {
    (Reverse(pod.priority), pod.started, &pod.key)
}

struct Allowance<'a> {
    budget: &'a Budget,
    selector: Selector,
}

impl<'a> Allowance<'a> {
    fn of(budget: &'a Budget) -> Self {
        Self {
            budget,
            selector: Selector::new(budget.selector.as_ref()),
        }
    }

    /// A budget that selects everything protects nobody here, as upstream has it.
    fn counts(&self, pod: &PodInfo) -> bool {
        !pod.labels.is_empty()
            && self.budget.namespace == pod.namespace
            && !self.selector.is_empty()
            && self.selector.selects(&pod.labels)
            && !self.budget.disrupted.contains(&pod.key.1)
    }
}

/// Pods whose budgets do not allow for their disruption, and the others; each in
/// the order given.
fn by_budget(pods: Vec<Arc<PodInfo>>, budgets: &[Allowance<'_>]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut left: Vec<i32> = budgets.iter().map(|budget| budget.budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut violated = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            if budget.counts(pod) {
                *left = left.saturating_sub(1);
                violated |= *left < 0;
            }
        }
        violated
    })
}

#[cfg(test)]
#[path = "preempt_test.rs"]
mod tests;
