//! What a pod wants of a node by itself: its labels, name and taints. Pure.

use super::Code;
use crate::filter::NodeWants;
use crate::selector::NodeTerm;
use crate::snapshot::{NodeSlot, Slot, State};
use crate::tolerations::{bars, tolerates, unschedulable_taint};

/// By slot; kept true by looking again at nodes that changed.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    seen: Option<u64>,
    verdicts: Vec<Verdict>,
    /// Where the verdict is that the pod fits.
    open: Vec<bool>,
    /// Some node has a soft taint that is not tolerated, or a preferred term matches it.
    pub any_soft: bool,
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
        match self.seen.and_then(|seen| state.statics.since(seen)) {
            Some(changed) => {
                self.resize(state.slots.len());
                changed.for_each(|slot| self.look_again(state, slot, wants));
            }
            None => {
                self.resize(state.slots.len());
                self.any_soft = false;
                let slots = u32::try_from(state.slots.len()).unwrap_or(u32::MAX);
                (0..slots).for_each(|slot| self.look_again(state, slot, wants));
            }
        }
        self.seen = Some(state.statics.now());
    }

    pub fn is_fresh(&self, state: &State) -> bool {
        self.seen == Some(state.statics.now())
    }

    fn resize(&mut self, len: usize) {
        self.verdicts.resize(len, ABSENT);
        self.open.resize(len, false);
    }

    fn look_again(&mut self, state: &State, slot: Slot, wants: &NodeWants) {
        let verdict = look(state, slot, wants);
        self.any_soft |= verdict.taints != 0 || verdict.preference != 0;
        self.open[slot as usize] = verdict.code == Code::Fits;
        self.verdicts[slot as usize] = verdict;
    }

    pub fn open(&self) -> &[bool] {
        &self.open
    }

    pub fn at(&self, slot: Slot) -> &Verdict {
        &self.verdicts[slot as usize]
    }
}

pub fn look(state: &State, slot: Slot, wants: &NodeWants) -> Verdict {
    if !state.exists[slot as usize] {
        return ABSENT;
    }
    let node = &state.slots[slot as usize];
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
