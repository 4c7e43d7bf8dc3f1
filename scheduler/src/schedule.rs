//! The decision: filters, then scores, over one snapshot. Pure; the seed breaks
//! ties, so that equal nodes share the load.

use crate::filter::Candidate;
use crate::memo::Memo;
use crate::plugin::Plugin;
use crate::preempt::NoPreemption;
use crate::round::Round;
use crate::rules::Code;
use crate::score::Scores;
use crate::snapshot::{Slot, Snapshot, State};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub node: String,
    /// 0 if there was no choice.
    pub score: i64,
}

/// Whether claims of devices that the pod cannot use where they are gave them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deallocation {
    /// There was none to be asked.
    #[default]
    Nothing,
    InVain,
    Begun,
}

/// Why no node would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unschedulable {
    /// Number of nodes by reason.
    pub reasons: BTreeMap<String, usize>,
    pub nodes: usize,
    /// Which rules refused a node: what must change for the pod to get a chance.
    pub plugins: BTreeSet<Plugin>,
    /// What keeps it from all nodes alike; the nodes were not even looked at.
    pub blocked: Option<String>,
    /// What came of trying to make room, if it was tried in vain.
    pub preemption: Option<Box<str>>,
    /// What came of taking devices from claims.
    pub claims: Deallocation,
    /// The nodes where removing pods might help.
    pub(crate) resolvable: Box<[Slot]>,
}

impl Unschedulable {
    /// Adds what `preempt` said to the message.
    pub fn without_preemption(mut self, why: &NoPreemption) -> Self {
        self.preemption = Some(why.message.as_str().into());
        self
    }
}

impl fmt::Display for Unschedulable {
    /// As upstream words it: `0/2 nodes are available: 1 Insufficient cpu, ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return write!(f, "no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available: ", self.nodes)?;
        match &self.blocked {
            Some(text) => write!(f, "{text}.")?,
            None => {
                let reasons = self.reasons.iter();
                let mut parts: Vec<String> = reasons.map(|(reason, count)| format!("{count} {reason}")).collect();
                parts.sort();
                write!(f, "{}.", parts.join(", "))?;
            }
        }
        match &self.preemption {
            // The first half is of the plugin for devices, which goes before.
            Some(tail) => {
                let claims = match self.claims {
                    Deallocation::Nothing => "no new claims to deallocate",
                    Deallocation::InVain => "still not schedulable",
                    Deallocation::Begun => "deallocation of ResourceClaim completed",
                };
                write!(f, " {claims}, preemption: {tail}")
            }
            None => Ok(()),
        }
    }
}

/// Where the pod goes. The snapshot changes only in what it remembers of decisions.
pub fn schedule(snapshot: &mut Snapshot, candidate: &Candidate, seed: u64) -> Result<Placement, Unschedulable> {
    let Snapshot { state, memo } = snapshot;
    if state.existing == 0 {
        return Err(Unschedulable::default());
    }
    let round = Round::new(state, memo, candidate);
    if let Some((plugin, text)) = round.blocked() {
        return Err(Unschedulable {
            nodes: state.existing,
            plugins: BTreeSet::from([plugin]),
            blocked: Some(text),
            ..Unschedulable::default()
        });
    }
    // Room was made there for this very pod.
    let nominated = candidate.nominated().and_then(|name| state.slot_of(name));
    if let Some(slot) = nominated.filter(|slot| round.code(*slot) == Code::Fits) {
        return Ok(placement(state, slot, 0));
    }
    let mut refused = Refused::default();
    let fitting = round.fitting(|slot, code| refused.add(slot, code));
    if let Some(text) = round.broken() {
        return Err(Unschedulable {
            nodes: state.existing,
            plugins: BTreeSet::from([Plugin::DynamicResources]),
            blocked: Some(text),
            claims: Deallocation::InVain,
            ..Unschedulable::default()
        });
    }
    match fitting.as_slice() {
        [] => Err(refused.summary(state, candidate)),
        [only] => Ok(placement(state, *only, 0)),
        _ => Ok(best(&round, memo, &fitting, seed)),
    }
}

fn placement(state: &State, slot: Slot, score: i64) -> Placement {
    Placement {
        node: state.name_of(slot).to_string(),
        score,
    }
}

fn best(round: &Round<'_>, memo: &mut Memo, fitting: &[Slot], seed: u64) -> Placement {
    let scores = Scores::new(round, memo, fitting);
    let (mut best, mut equal) = (i64::MIN, Vec::new());
    for (at, slot) in fitting.iter().enumerate() {
        let total = scores.total(at);
        if total > best {
            best = total;
            equal.clear();
        }
        if total == best {
            equal.push(*slot);
        }
    }
    let chosen = usize::try_from(seed % equal.len() as u64).unwrap_or(0);
    placement(round.state, equal[chosen], best)
}

/// Refusals by code: many nodes, few codes.
#[derive(Default)]
struct Refused {
    counts: Vec<(Code, usize)>,
    resolvable: Vec<Slot>,
}

impl Refused {
    fn add(&mut self, slot: Slot, code: Code) {
        match self.counts.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((code, 1)),
        }
        if !code.unresolvable() {
            self.resolvable.push(slot);
        }
    }

    fn summary(self, state: &State, candidate: &Candidate) -> Unschedulable {
        let mut out = Unschedulable {
            nodes: state.existing,
            resolvable: self.resolvable.into(),
            ..Unschedulable::default()
        };
        let looked_at: usize = self.counts.iter().map(|(_, count)| count).sum();
        let mut counts = self.counts;
        if looked_at < state.existing {
            counts.push((Code::NotNamed, state.existing - looked_at));
        }
        if candidate.node.named.is_some() {
            out.plugins.insert(Plugin::NodeAffinity);
        }
        for (code, count) in counts {
            out.plugins.extend(code.plugin());
            for reason in code.reasons(candidate) {
                *out.reasons.entry(reason).or_default() += count;
            }
        }
        out
    }
}

#[cfg(test)]
#[path = "schedule_test.rs"]
mod tests;
