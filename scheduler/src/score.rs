//! Scores: how well a node would do, 0 to 100 per rule, weighted as upstream's
//! default profile. Pure.

use crate::filter::Candidate;
use crate::selector;
use crate::snapshot::{NodeInfo, Snapshot};

const SCORE_MAX: i64 = 100;
/// Upstream's weights: taints 3, node affinity 2, spread 2, resources 1 each.
const WEIGHT_TAINT: i64 = 3;
const WEIGHT_AFFINITY: i64 = 2;
const WEIGHT_SPREAD: i64 = 2;

/// Total per node, in the order given.
pub fn scores(snapshot: &Snapshot, candidate: &Candidate, nodes: &[&NodeInfo]) -> Vec<i64> {
    let taints: Vec<i64> = nodes.iter().map(|node| intolerable(candidate, node)).collect();
    let affinity: Vec<i64> = nodes.iter().map(|node| preferred(candidate, node)).collect();
    let spread: Vec<i64> = nodes.iter().map(|node| siblings(snapshot, candidate, node)).collect();
    let (taints_most, affinity_most, spread_most) = (most(&taints), most(&affinity), most(&spread));
    nodes
        .iter()
        .enumerate()
        .map(|(at, node)| {
            least_allocated(candidate, node)
                + balanced(candidate, node)
                + WEIGHT_TAINT * (SCORE_MAX - share(taints[at], taints_most))
                + WEIGHT_AFFINITY * share(affinity[at], affinity_most)
                + WEIGHT_SPREAD * (SCORE_MAX - share(spread[at], spread_most))
        })
        .collect()
}

fn most(values: &[i64]) -> i64 {
    values.iter().copied().max().unwrap_or(0)
}

fn share(value: i64, most: i64) -> i64 {
    if most == 0 { 0 } else { value * SCORE_MAX / most }
}

/// The emptier after placing, the better.
fn least_allocated(candidate: &Candidate, node: &NodeInfo) -> i64 {
    let (cpu, memory) = fractions(candidate, node);
    ((SCORE_MAX - cpu).max(0) + (SCORE_MAX - memory).max(0)) / 2
}

/// The more alike the use of CPU and memory, the better.
fn balanced(candidate: &Candidate, node: &NodeInfo) -> i64 {
    let (cpu, memory) = fractions(candidate, node);
    SCORE_MAX - (cpu.min(SCORE_MAX) - memory.min(SCORE_MAX)).abs() / 2
}

/// Percent of CPU and memory in use with the pod placed.
fn fractions(candidate: &Candidate, node: &NodeInfo) -> (i64, i64) {
    let (cpu, memory) = candidate.info.requests.for_scoring();
    let percent = |used: i64, have: i64| {
        if have <= 0 {
            SCORE_MAX
        } else {
            i64::try_from(i128::from(used) * 100 / i128::from(have)).unwrap_or(SCORE_MAX)
        }
    };
    (
        percent(node.scored.0 + cpu, node.allocatable.milli_cpu),
        percent(node.scored.1 + memory, node.allocatable.memory_bytes),
    )
}

/// Number of PreferNoSchedule taints that the pod does not tolerate.
fn intolerable(candidate: &Candidate, node: &NodeInfo) -> i64 {
    let Some(spec) = candidate.spec() else { return 0 };
    let count = node
        .taints
        .iter()
        .filter(|taint| taint.effect == "PreferNoSchedule" && !crate::filter::tolerates(spec, taint))
        .count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Sum of the weights of preferred node affinity terms that match.
fn preferred(candidate: &Candidate, node: &NodeInfo) -> i64 {
    let affinity = candidate
        .spec()
        .and_then(|spec| spec.affinity.as_ref())
        .and_then(|affinity| affinity.node_affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .flatten()
        .filter(|term| selector::term_matches(&term.preference, &node.name, &node.labels))
        .map(|term| i64::from(term.weight))
        .sum()
}

/// Pods of the same controller on the node, plus those in the same zone at half
/// weight: new copies go where there are fewest.
fn siblings(snapshot: &Snapshot, candidate: &Candidate, node: &NodeInfo) -> i64 {
    const ZONE: &str = "topology.kubernetes.io/zone";
    let owner = &candidate.info.controller;
    if owner.is_empty() {
        return 0;
    }
    let count = |node: &NodeInfo| {
        let here = node
            .pods
            .values()
            .filter(|pod| pod.controller == *owner && !pod.terminating)
            .count();
        i64::try_from(here).unwrap_or(i64::MAX)
    };
    let zone = node.labels.get(ZONE).map_or(0, |zone| {
        snapshot
            .nodes
            .values()
            .filter(|other| other.labels.get(ZONE) == Some(zone))
            .map(count)
            .sum::<i64>()
    });
    2 * count(node) + zone
}
