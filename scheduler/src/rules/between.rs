//! Affinity and anti-affinity between pods, both ways. Pure.

use super::{Code, SCORE_MAX};
use crate::affinity::{PodTerm, Pull};
use crate::filter::Candidate;
use crate::memo::{Memo, TopologyColumn};
use crate::pod::PodInfo;
use crate::snapshot::{Entry, Slot, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The required rules with what they count.
#[derive(Debug, Default)]
pub struct Between {
    /// The pod's affinity: where pods are that all of its terms are about.
    needs: Vec<Counted>,
    /// The pod itself is such a one: it may be the first.
    needs_self: bool,
    any_needed: i64,
    /// The pod's anti-affinity: where pods are that a term is about.
    bars: Vec<Counted>,
    /// Anti-affinity of placed pods that is about this one, by topology key.
    barred: Vec<(String, Counted)>,
}

#[derive(Debug)]
struct Counted {
    column: Arc<TopologyColumn>,
    /// By value.
    counts: Vec<i64>,
}

/// What is to be taken to be more (or less) on one node.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// Pods that all affinity terms are about.
    needed: i64,
    bars: Vec<i64>,
    barred: BTreeMap<String, i64>,
}

impl Counted {
    fn new(column: Arc<TopologyColumn>) -> Self {
        let counts = vec![0; column.width()];
        Self { column, counts }
    }

    fn add(&mut self, slot: Slot, pods: i64) {
        // Nodes without the label are at 0, which nobody asks for.
        self.counts[self.column.at(slot) as usize] += pods;
    }

    /// `None`: the node has no such label.
    fn at(&self, slot: Slot) -> Option<i64> {
        let value = self.column.at(slot);
        (value != 0).then(|| self.counts[value as usize])
    }

    fn any(&self) -> i64 {
        self.counts.iter().skip(1).sum()
    }
}

fn own_terms(candidate: &Candidate, pull: Pull) -> Vec<&PodTerm> {
    let terms = candidate.info.shape.terms.iter();
    terms.filter(|term| term.pull == pull).collect()
}

fn about(state: &State, term: &PodTerm, pod: &PodInfo) -> bool {
    term.term.crowd.includes(&state.namespaces, &pod.namespace, &pod.labels)
}

fn everyone(entry: &Entry) -> impl Iterator<Item = (Slot, i64)> {
    entry.at.iter().map(|share| (share.slot, i64::from(share.pods)))
}

impl Between {
    pub fn count(state: &State, memo: &mut Memo, candidate: &Candidate) -> Self {
        let mut out = Self::default();
        out.count_needs(state, memo, candidate);
        for term in own_terms(candidate, Pull::Bars) {
            let mut counted = Counted::new(memo.topology(state, &term.term.topology_key));
            let members = memo.members(state, &term.term.crowd);
            for (slot, pods) in members.entries(&state.shapes).flat_map(everyone) {
                counted.add(slot, pods);
            }
            out.bars.push(counted);
        }
        let pulls = memo.pulls(state, candidate);
        let mut barred: BTreeMap<&String, Counted> = BTreeMap::new();
        for (id, at, _) in pulls.found.iter().filter(|(_, _, pull)| *pull == Pull::Bars) {
            let Some(entry) = state.shapes.get(*id) else { continue };
            let key = &entry.shape.terms[*at].term.topology_key;
            let counted = barred
                .entry(key)
                .or_insert_with(|| Counted::new(memo.topology(state, key)));
            everyone(entry).for_each(|(slot, pods)| counted.add(slot, pods));
        }
        out.barred = barred
            .into_iter()
            .map(|(key, counted)| (key.clone(), counted))
            .collect();
        out
    }

    fn count_needs(&mut self, state: &State, memo: &mut Memo, candidate: &Candidate) {
        let terms = own_terms(candidate, Pull::Needs);
        let Some(first) = terms.first() else { return };
        self.needs_self = terms.iter().all(|term| about(state, term, &candidate.info));
        let keys = terms.iter().map(|term| &term.term.topology_key);
        self.needs = keys.map(|key| Counted::new(memo.topology(state, key))).collect();
        let members = memo.members(state, &first.term.crowd);
        for entry in members.entries(&state.shapes) {
            let shape = &entry.shape;
            let all = terms[1..].iter().all(|term| {
                let crowd = &term.term.crowd;
                crowd.includes(&state.namespaces, &shape.namespace, &shape.labels)
            });
            if all {
                for (slot, pods) in everyone(entry) {
                    self.needs.iter_mut().for_each(|counted| counted.add(slot, pods));
                }
            }
        }
        self.any_needed = self.needs.iter().map(Counted::any).sum();
    }

    /// There is nothing to check, whatever comes or goes but what `nominated` pods bring.
    pub fn is_empty(&self) -> bool {
        self.needs.is_empty() && self.bars.is_empty() && self.barred.is_empty()
    }

    /// As if the pod came to the node (1) or went from it (-1).
    pub fn change(&self, state: &State, candidate: &Candidate, pod: &PodInfo, sign: i64, delta: &mut Delta) {
        let needs = own_terms(candidate, Pull::Needs);
        if !needs.is_empty() && needs.iter().all(|term| about(state, term, pod)) {
            delta.needed += sign;
        }
        let bars = own_terms(candidate, Pull::Bars);
        delta.bars.resize(bars.len(), 0);
        for (term, delta) in bars.iter().zip(&mut delta.bars) {
            *delta += if about(state, term, pod) { sign } else { 0 };
        }
        for term in pod.terms.iter().filter(|term| term.pull == Pull::Bars) {
            if about(state, term, &candidate.info) {
                *delta.barred.entry(term.term.topology_key.clone()).or_default() += sign;
            }
        }
    }

    pub fn check(&self, state: &State, slot: Slot, delta: Option<&Delta>) -> Code {
        let needed = delta.map_or(0, |delta| delta.needed);
        if !self.needs_met(slot, needed) {
            return Code::NotAmong;
        }
        for (at, counted) in self.bars.iter().enumerate() {
            let more = delta.and_then(|delta| delta.bars.get(at)).copied().unwrap_or(0);
            if counted.at(slot).is_some_and(|count| count + more > 0) {
                return Code::TooNear;
            }
        }
        let more = |key: &String| delta.and_then(|delta| delta.barred.get(key)).copied().unwrap_or(0);
        for (key, counted) in &self.barred {
            if counted.at(slot).is_some_and(|count| count + more(key) > 0) {
                return Code::Barred;
            }
        }
        // Rules that only pods have which are yet to come.
        let known = |key: &String| self.barred.iter().any(|(known, _)| known == key);
        let labels = &state.slots[slot as usize].labels;
        let mut new = delta.into_iter().flat_map(|delta| &delta.barred);
        if new.any(|(key, count)| *count > 0 && !known(key) && labels.contains_key(key)) {
            return Code::Barred;
        }
        Code::Fits
    }

    fn needs_met(&self, slot: Slot, more: i64) -> bool {
        let mut all = true;
        let mut labelled: i64 = 0;
        for counted in &self.needs {
            let Some(count) = counted.at(slot) else { return false };
            labelled += 1;
            all &= count + more > 0;
        }
        // Nobody anywhere: then the first of its kind may start where the labels are.
        all || (self.needs_self && self.any_needed + more * labelled == 0)
    }
}

/// What preferences make of nodes, 0 to 100, in the order given; `None`: there are
/// none. Preferences of placed pods about this one count as its own, and their
/// requirements a little.
pub fn soft_scores(state: &State, memo: &mut Memo, candidate: &Candidate, nodes: &[Slot]) -> Option<Vec<i64>> {
    let mut scores: BTreeMap<String, Counted> = BTreeMap::new();
    let preferred = candidate.info.shape.terms.iter();
    let mut any_own = false;
    for term in preferred {
        let Pull::Prefers(weight) = term.pull else { continue };
        any_own = true;
        let key = &term.term.topology_key;
        let members = memo.members(state, &term.term.crowd);
        let counted = scores
            .entry(key.clone())
            .or_insert_with(|| Counted::new(memo.topology(state, key)));
        for (slot, pods) in members.entries(&state.shapes).flat_map(everyone) {
            counted.add(slot, pods * i64::from(weight));
        }
    }
    let profile = &candidate.profile;
    let ignored = profile.ignore_preferred_terms_of_existing_pods && !any_own;
    let pulls = memo.pulls(state, candidate);
    for (id, at, pull) in pulls.found.iter().filter(|_| !ignored) {
        let weight = match pull {
            Pull::Bars => continue,
            Pull::Needs => profile.hard_pod_affinity_weight,
            Pull::Prefers(weight) => *weight,
        };
        let Some(entry) = state.shapes.get(*id) else { continue };
        let key = &entry.shape.terms[*at].term.topology_key;
        let counted = scores
            .entry(key.clone())
            .or_insert_with(|| Counted::new(memo.topology(state, key)));
        everyone(entry).for_each(|(slot, pods)| counted.add(slot, pods * i64::from(weight)));
    }
    if scores.is_empty() {
        return None;
    }
    let raw = nodes
        .iter()
        .map(|slot| scores.values().filter_map(|counted| counted.at(*slot)).sum::<i64>());
    let raw: Vec<i64> = raw.collect();
    let (least, most) = (raw.iter().min().copied()?, raw.iter().max().copied()?);
    let score = |score: i64| match most - least {
        0 => 0,
        range => (SCORE_MAX as f64 * ((score - least) as f64 / range as f64)) as i64,
    };
    Some(raw.into_iter().map(score).collect())
}
