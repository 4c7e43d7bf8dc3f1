//! What a decision thinks of each node, for people. Pure; from the same
//! functions as the decision.

use crate::filter::Candidate;
use crate::plugin::Refusal;
use crate::round::Round;
use crate::rules::Code;
use crate::score::Scores;
use crate::snapshot::Snapshot;
use std::collections::BTreeMap;

pub use crate::score::PluginScore;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// What keeps the pod from all nodes alike.
    pub blocked: Option<Refusal>,
    /// Every node, by name.
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

pub fn explain(snapshot: &mut Snapshot, candidate: &Candidate) -> Explanation {
    let Snapshot { state, memo } = snapshot;
    let round = Round::new(state, memo, candidate);
    let blocked = round.blocked().map(|(plugin, text)| Refusal {
        plugin,
        reasons: vec![text],
        unresolvable: true,
    });
    let codes: BTreeMap<_, _> = round.codes().collect();
    let fitting = codes.iter().filter(|(_, code)| **code == Code::Fits);
    let fitting: Vec<_> = fitting.map(|(slot, _)| *slot).collect();
    let scores = Scores::new(&round, memo, &fitting);
    let verdict = |slot| {
        let code = codes.get(&slot).copied().unwrap_or(Code::NotNamed);
        match (&blocked, code.refusal(candidate)) {
            (Some(refusal), _) => Verdict::Refused(refusal.clone()),
            (None, Some(refusal)) => Verdict::Refused(refusal),
            (None, None) => {
                let at = fitting.binary_search(&slot).unwrap_or(0);
                Verdict::Fits {
                    scores: scores.of(at),
                    total: scores.total(at),
                }
            }
        }
    };
    let mut nodes: Vec<NodeVerdict> = state
        .existing()
        .map(|slot| NodeVerdict {
            node: state.name_of(slot).to_string(),
            verdict: verdict(slot),
        })
        .collect();
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    Explanation { blocked, nodes }
}
