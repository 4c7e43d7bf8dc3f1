//! The decision: filters, then scores, over one snapshot. Pure; the seed breaks
//! ties, so that equal nodes share the load.

use crate::explain::{NodeVerdict, Verdict};
use crate::filter::{self, Candidate, Neighbours};
use crate::plugin::Plugin;
use crate::preempt::NoPreemption;
use crate::score;
use crate::snapshot::{NodeInfo, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub node: String,
    pub score: i64,
}

/// Why no node would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unschedulable {
    /// Number of nodes by reason.
    pub reasons: BTreeMap<String, usize>,
    pub nodes: usize,
    /// Which rules refused a node: what must change for the pod to get a chance.
    pub plugins: BTreeSet<Plugin>,
    /// Names of the nodes where removing pods might help.
    pub resolvable: BTreeSet<String>,
    /// What came of trying to make room, if it was tried in vain.
    pub preemption: Option<String>,
}

impl Unschedulable {
    /// Adds what `preempt` said to the message.
    pub fn without_preemption(mut self, why: &NoPreemption) -> Self {
        self.preemption = Some(why.message.clone());
        self
    }
}

impl fmt::Display for Unschedulable {
    /// As upstream words it: `0/2 nodes are available: 1 Insufficient cpu, ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return write!(f, "no nodes available to schedule pods");
        }
        let mut parts: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        parts.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, parts.join(", "))?;
        match &self.preemption {
            // The first half is of the plugin for devices, which goes before.
            Some(tail) => write!(f, " no new claims to deallocate, preemption: {tail}"),
            None => Ok(()),
        }
    }
}

/// Where the pod goes. The snapshot changes only in what it remembers of earlier decisions.
pub fn schedule(snapshot: &mut Snapshot, candidate: &Candidate, seed: u64) -> Result<Placement, Unschedulable> {
    let mut failure = Unschedulable::default();
    let mut fitting: Vec<(String, i64)> = Vec::new();
    for NodeVerdict { node, verdict } in evaluate(snapshot, candidate) {
        failure.nodes += 1;
        match verdict {
            Verdict::Fits { total, .. } => fitting.push((node, total)),
            Verdict::Refused(refusal) => {
                failure.plugins.insert(refusal.plugin);
                for reason in refusal.reasons {
                    *failure.reasons.entry(reason).or_default() += 1;
                }
                if !refusal.unresolvable {
                    failure.resolvable.insert(node);
                }
            }
        }
    }
    let Some(best) = fitting.iter().map(|(_, score)| *score).max() else {
        return Err(failure);
    };
    fitting.retain(|(_, score)| *score == best);
    let chosen = usize::try_from(seed % fitting.len() as u64).unwrap_or(0);
    let (node, score) = fitting.swap_remove(chosen);
    Ok(Placement { node, score })
}

/// Every node, with what refuses it or its scores.
pub fn evaluate(snapshot: &Snapshot, candidate: &Candidate) -> Vec<NodeVerdict> {
    let neighbours = Neighbours::look(snapshot, candidate);
    let mut verdicts: Vec<NodeVerdict> = Vec::new();
    let mut fitting: Vec<(usize, &NodeInfo)> = Vec::new();
    for (at, node) in snapshot.nodes.values().filter(|node| node.exists).enumerate() {
        let verdict = match filter::refusal(candidate, node, &neighbours) {
            Some(refusal) => Verdict::Refused(refusal),
            None => {
                fitting.push((at, node));
                Verdict::Fits {
                    scores: Vec::new(),
                    total: 0,
                }
            }
        };
        verdicts.push(NodeVerdict {
            node: node.name.clone(),
            verdict,
        });
    }
    let nodes: Vec<&NodeInfo> = fitting.iter().map(|(_, node)| *node).collect();
    let scores = score::scores(snapshot, candidate, &nodes);
    for ((at, _), total) in fitting.iter().zip(scores) {
        verdicts[*at].verdict = Verdict::Fits {
            scores: Vec::new(),
            total,
        };
    }
    verdicts
}

#[cfg(test)]
#[path = "schedule_test.rs"]
mod tests;
