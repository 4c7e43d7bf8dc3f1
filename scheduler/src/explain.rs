//! What a decision thinks of each node, for people. Pure; from the same
//! functions as the decision.

use crate::filter::Candidate;
use crate::plugin::{Plugin, Refusal};
use crate::schedule::evaluate;
use crate::snapshot::Snapshot;

/// Every node, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    pub nodes: Vec<NodeVerdict>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeVerdict {
    pub node: String,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Refused(Refusal),
    Fits { scores: Vec<PluginScore>, total: i64 },
}

/// A plugin's share of a node's total: `score * weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginScore {
    pub plugin: Plugin,
    /// 0 to 100, after normalisation over the nodes that fit.
    pub score: i64,
    pub weight: i64,
}

pub fn explain(snapshot: &mut Snapshot, candidate: &Candidate) -> Explanation {
    let mut nodes = evaluate(snapshot, candidate);
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    Explanation { nodes }
}
