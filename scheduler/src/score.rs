//! Scores of the nodes that fit: 0 to 100 per rule, weighted by the profile. Pure.

use crate::memo::Memo;
use crate::plugin::Plugin;
use crate::round::Round;
use crate::rules::{SCORE_MAX, between, fit, image, share, spread};
use crate::snapshot::Slot;

/// Upstream's weights.
const TAINT_TOLERATION: i64 = 3;
const NODE_AFFINITY: i64 = 2;
const POD_TOPOLOGY_SPREAD: i64 = 2;
const INTER_POD_AFFINITY: i64 = 2;
const OTHERS: i64 = 1;

/// A plugin's share of a node's total: `score * weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginScore {
    pub plugin: Plugin,
    /// 0 to 100, after normalisation over the nodes that fit.
    pub score: i64,
    pub weight: i64,
}

/// What is the same for all nodes, computed once.
pub struct Scores<'r, 'a> {
    round: &'r Round<'a>,
    nodes: &'r [Slot],
    taints_most: i64,
    preference_most: i64,
    images: Option<Vec<u8>>,
    spread: Option<Vec<i64>>,
    between: Option<Vec<i64>>,
    balances: bool,
}

impl<'r, 'a> Scores<'r, 'a> {
    pub fn new(round: &'r Round<'a>, memo: &mut Memo, nodes: &'r [Slot]) -> Self {
        let (state, candidate) = (round.state, round.candidate);
        let (mut taints_most, mut preference_most) = (0, 0);
        for slot in nodes.iter().filter(|_| round.any_soft()) {
            let verdict = round.selection(*slot);
            taints_most = taints_most.max(verdict.taints);
            preference_most = preference_most.max(verdict.preference);
        }
        Self {
            round,
            nodes,
            taints_most: i64::from(taints_most),
            preference_most: i64::from(preference_most),
            images: image::scores(state, &candidate.node.images),
            spread: spread::soft_scores(state, memo, candidate, nodes),
            between: between::soft_scores(state, memo, candidate, nodes),
            balances: !fit::asks_for_nothing(&round.demand, &candidate.profile),
        }
    }

    /// Of the node at that place of the list.
    fn all(&self, at: usize) -> [PluginScore; 7] {
        let slot = self.nodes[at];
        let (verdict, fit) = (self.round.selection(slot), self.round.fit(slot));
        let listed = |list: &Option<Vec<i64>>| list.as_ref().map_or(0, |list| list[at]);
        let one = |plugin, score, weight| PluginScore { plugin, score, weight };
        let taints = SCORE_MAX - share(i64::from(verdict.taints), self.taints_most);
        let preference = share(i64::from(verdict.preference), self.preference_most);
        let balance = if self.balances { i64::from(fit.balance) } else { 0 };
        let image = self.images.as_ref().map_or(0, |list| i64::from(list[slot as usize]));
        [
            one(Plugin::TaintToleration, taints, TAINT_TOLERATION),
            one(Plugin::NodeAffinity, preference, NODE_AFFINITY),
            one(Plugin::NodeResourcesFit, i64::from(fit.fit), OTHERS),
            one(Plugin::PodTopologySpread, listed(&self.spread), POD_TOPOLOGY_SPREAD),
            one(Plugin::InterPodAffinity, listed(&self.between), INTER_POD_AFFINITY),
            one(Plugin::NodeResourcesBalancedAllocation, balance, OTHERS),
            one(Plugin::ImageLocality, image, OTHERS),
        ]
    }

    /// As `of` says, without a list.
    pub fn total(&self, at: usize) -> i64 {
        let slot = self.nodes[at];
        let fit = self.round.fit(slot);
        let listed = |list: &Option<Vec<i64>>| list.as_ref().map_or(0, |list| list[at]);
        let balance = if self.balances { i64::from(fit.balance) } else { 0 };
        let image = self.images.as_ref().map_or(0, |list| i64::from(list[slot as usize]));
        let wide = POD_TOPOLOGY_SPREAD * listed(&self.spread) + INTER_POD_AFFINITY * listed(&self.between);
        let near = OTHERS * (i64::from(fit.fit) + balance + image);
        if self.taints_most == 0 && self.preference_most == 0 {
            return TAINT_TOLERATION * SCORE_MAX + near + wide;
        }
        let verdict = self.round.selection(slot);
        let taints = SCORE_MAX - share(i64::from(verdict.taints), self.taints_most);
        let preference = share(i64::from(verdict.preference), self.preference_most);
        TAINT_TOLERATION * taints + NODE_AFFINITY * preference + near + wide
    }

    /// Those of rules that the pod is subject to.
    pub fn of(&self, at: usize) -> Vec<PluginScore> {
        let wants = &self.round.candidate.node;
        let subject = |one: &PluginScore| match one.plugin {
            Plugin::NodeAffinity => !wants.preferred.is_empty(),
            Plugin::PodTopologySpread => self.spread.is_some(),
            Plugin::InterPodAffinity => self.between.is_some(),
            Plugin::NodeResourcesBalancedAllocation => self.balances,
            _ => true,
        };
        self.all(at).into_iter().filter(subject).collect()
    }
}
