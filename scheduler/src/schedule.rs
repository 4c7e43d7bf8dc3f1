//! The decision: filters, then scores, over one snapshot. Pure; the seed breaks
//! ties, so that equal nodes share the load.

use crate::filter::{self, Candidate, Neighbours};
use crate::score;
use crate::snapshot::{NodeInfo, Snapshot};
use std::collections::BTreeMap;
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
        write!(f, "0/{} nodes are available: {}.", self.nodes, parts.join(", "))
    }
}

pub fn schedule(snapshot: &Snapshot, candidate: &Candidate, seed: u64) -> Result<Placement, Unschedulable> {
    let neighbours = Neighbours::look(snapshot, candidate);
    let mut failure = Unschedulable::default();
    let mut fitting: Vec<&NodeInfo> = Vec::new();
    for node in snapshot.nodes.values().filter(|node| node.exists) {
        failure.nodes += 1;
        match filter::refusal(candidate, node, &neighbours) {
            None => fitting.push(node),
            Some(reasons) => {
                for reason in reasons {
                    *failure.reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }
    if fitting.is_empty() {
        return Err(failure);
    }
    let scores = score::scores(snapshot, candidate, &fitting);
    let best = scores.iter().copied().max().unwrap_or(0);
    let equal: Vec<usize> = (0..fitting.len()).filter(|at| scores[*at] == best).collect();
    let chosen = equal[usize::try_from(seed % equal.len() as u64).unwrap_or(0)];
    Ok(Placement {
        node: fitting[chosen].name.clone(),
        score: best,
    })
}

#[cfg(test)]
#[path = "schedule_test.rs"]
mod tests;
