//! What a pod wants of a node by itself: its labels, name and taints. Pure.

use super::Code;
use crate::filter::NodeWants;
use crate::selector::NodeTerm;
use crate::snapshot::{NodeSlot, Slot, State};
use crate::tolerations::{bars, tolerates, unschedulable_taint};

/// By slot; kept true by looking again at nodes that changed.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    seen: u64,
    verdicts: Vec<Verdict>,
}

#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    pub code: Code,
    /// For spreading: whether node affinity and taints alone would let the pod in.
    pub affine: bool,
    pub tolerated: bool,
    /// PreferNoSchedule taints that the pod does not tolerate.
    pub taints: i32,
    /// Sum of the weights of preferred terms that match.
    pub preference: i32,
}

const ABSENT: Verdict = Verdict {
    code: Code::NodeName,
    affine: false,
    tolerated: false,
    taints: 0,
    preference: 0,
};

impl Selection {
    pub fn refresh(&mut self, state: &State, wants: &NodeWants) {
        let known = self.verdicts.len();
        match state.statics.since(self.seen).filter(|_| known > 0) {
            Some(changed) => {
                self.verdicts.resize(state.slots.len(), ABSENT);
                for slot in changed {
                    self.verdicts[slot as usize] = look(&state.slots[slot as usize], wants);
                }
            }
            None => self.verdicts = state.slots.iter().map(|node| look(node, wants)).collect(),
        }
        self.seen = state.statics.now();
    }

    pub fn at(&self, slot: Slot) -> &Verdict {
        &self.verdicts[slot as usize]
    }
}

pub fn look(node: &NodeSlot, wants: &NodeWants) -> Verdict {
    if !node.exists {
        return ABSENT;
    }
    let tolerated = node
        .taints
        .iter()
        .all(|taint| !bars(taint) || tolerates(&wants.tolerations, taint));
    let selected = wants
        .selector
        .iter()
        .all(|(key, value)| node.labels.get(key) == Some(value));
    let affine = selected && any_matches(wants.required.as_deref(), node);
    let code = if node.unschedulable && !tolerates(&wants.tolerations, &unschedulable_taint()) {
        Code::Unschedulable
    } else if !(wants.name.is_empty() || wants.name == node.name) {
        Code::NodeName
    } else if !tolerated {
        Code::Tainted
    } else if !any_matches(wants.enforced.as_deref(), node) {
        Code::NotEnforced
    } else if !affine {
        Code::NotSelected
    } else {
        Code::Fits
    };
    let against = |taint: &&_| is_soft(taint) && !tolerates(&wants.tolerations, taint);
    let preferred = wants
        .preferred
        .iter()
        .filter(|(_, term)| term.matches(&node.name, &node.labels));
    Verdict {
        code,
        affine,
        tolerated,
        taints: i32::try_from(node.taints.iter().filter(against).count()).unwrap_or(i32::MAX),
        preference: preferred.map(|(weight, _)| *weight).fold(0, i32::saturating_add),
    }
}

fn is_soft(taint: &k8s_openapi::api::core::v1::Taint) -> bool {
    taint.effect == "PreferNoSchedule"
}

fn any_matches(terms: Option<&[NodeTerm]>, node: &NodeSlot) -> bool {
    terms.is_none_or(|terms| terms.iter().any(|term| term.matches(&node.name, &node.labels)))
}
