//! Spreading pods over topologies: how many of a crowd are in each domain. Pure.
//! Source: KEP-895, KEP-3022 (minDomains), KEP-3094 (inclusion policies).

use super::{Code, SCORE_MAX};
use crate::affinity::Crowd;
use crate::filter::{Candidate, Constraint};
use crate::memo::{Memo, TopologyColumn};
use crate::pod::PodInfo;
use crate::rules::selection;
use crate::selector::Selector;
use crate::snapshot::{Entry, Slot, State};
use std::sync::Arc;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// The DoNotSchedule constraints with their counts.
#[derive(Debug, Default)]
pub struct Hard {
    constraints: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    constraint: Constraint,
    crowd: Crowd,
    column: Arc<TopologyColumn>,
    /// By value. Only nodes that are included count.
    counts: Vec<i64>,
    domains: i64,
    /// The emptiest domain, its count, and the count of the next.
    emptiest: (u32, i64),
    next: i64,
}

/// Whom a constraint counts; `None`: the pod has no kin to be spread among.
fn crowd_of(candidate: &Candidate, constraint: &Constraint) -> Option<Crowd> {
    let kin = || {
        let selector = Selector::new(Some(candidate.kin.as_ref()?));
        (!selector.is_empty()).then(|| Crowd::within(&candidate.info.namespace, selector))
    };
    constraint.crowd.clone().or_else(kin)
}

fn included(constraint: &Constraint, verdict: &selection::Verdict) -> bool {
    (verdict.affine || !constraint.honor_affinity) && (verdict.tolerated || !constraint.honor_taints)
}

/// A pod of the crowd that is on its way out does not count.
fn staying(entry: &Entry) -> impl Iterator<Item = (Slot, i64)> {
    let shares = entry.at.iter();
    shares.map(|share| (share.slot, i64::from(share.pods - share.leaving)))
}

impl Hard {
    pub fn count(state: &State, memo: &mut Memo, candidate: &Candidate) -> Self {
        let constraints = &candidate.spread.hard;
        if constraints.is_empty() {
            return Self::default();
        }
        let columns: Vec<_> = constraints.iter().map(|one| memo.topology(state, &one.key)).collect();
        let selection = memo.selection(state, &candidate.node);
        let has_all = |slot| columns.iter().all(|column| column.at(slot) != 0);
        let mut counted = Vec::new();
        for (constraint, column) in constraints.iter().zip(&columns) {
            let Some(crowd) = crowd_of(candidate, constraint) else {
                continue;
            };
            let counts_here = |slot| has_all(slot) && included(constraint, selection.at(slot));
            // Negative: no domain.
            let mut counts = vec![-1; column.width()];
            for slot in state.existing().filter(|slot| counts_here(*slot)) {
                counts[column.at(slot) as usize] = 0;
            }
            let members = memo.members(state, &crowd);
            let shares = members.entries(&state.shapes).flat_map(staying);
            for (slot, pods) in shares.filter(|(slot, _)| counts_here(*slot)) {
                counts[column.at(slot) as usize] += pods;
            }
            counted.push(Counted::new(constraint.clone(), crowd, column.clone(), counts));
        }
        Self { constraints: counted }
    }

    pub fn is_empty(&self) -> bool {
        self.constraints.is_empty()
    }

    pub fn len(&self) -> usize {
        self.constraints.len()
    }

    /// How much more (or less) each constraint counts on a node if the pod comes (or goes).
    pub fn change(
        &self,
        state: &State,
        verdict: &selection::Verdict,
        slot: Slot,
        pod: &PodInfo,
        sign: i64,
        delta: &mut [i64],
    ) {
        let keys = self.constraints.iter();
        if pod.terminating || keys.clone().any(|one| one.column.at(slot) == 0) {
            return;
        }
        for (counted, delta) in keys.zip(delta) {
            if included(&counted.constraint, verdict) && counted.includes(state, pod) {
                *delta += sign;
            }
        }
    }

    /// `delta`: what the counts of the node's domains are to be taken to be more.
    pub fn check(&self, slot: Slot, delta: &[i64]) -> Code {
        for (at, counted) in self.constraints.iter().enumerate() {
            let value = counted.column.at(slot);
            if value == 0 {
                return Code::NoSpreadLabel;
            }
            if counted.skew(value, delta.get(at).copied().unwrap_or(0)) > counted.constraint.max_skew {
                return Code::Skewed;
            }
        }
        Code::Fits
    }
}

impl Counted {
    fn new(constraint: Constraint, crowd: Crowd, column: Arc<TopologyColumn>, counts: Vec<i64>) -> Self {
        let mut emptiest = (0, i64::MAX);
        let mut next = i64::MAX;
        let mut domains = 0;
        for (value, count) in (0u32..).zip(&counts) {
            if *count < 0 {
                continue;
            }
            domains += 1;
            if *count < emptiest.1 {
                next = emptiest.1;
                emptiest = (value, *count);
            } else {
                next = next.min(*count);
            }
        }
        Self {
            constraint,
            crowd,
            column,
            counts,
            domains,
            emptiest,
            next,
        }
    }

    fn includes(&self, state: &State, pod: &PodInfo) -> bool {
        self.crowd.includes(&state.namespaces, &pod.namespace, &pod.labels)
    }

    fn skew(&self, value: u32, delta: i64) -> i64 {
        let counted = self.counts[value as usize];
        let here = counted.max(0) + delta;
        let others = if self.emptiest.0 == value {
            self.next
        } else {
            self.emptiest.1
        };
        let least = if self.domains < self.constraint.min_domains {
            0
        } else if counted < 0 {
            others
        } else {
            others.min(here)
        };
        here + i64::from(self.constraint.own) - least
    }
}

/// What the ScheduleAnyway constraints make of nodes, 0 to 100, in the order
/// given; `None`: there are none.
pub fn soft_scores(state: &State, memo: &mut Memo, candidate: &Candidate, nodes: &[Slot]) -> Option<Vec<i64>> {
    let constraints = &candidate.spread.soft;
    if constraints.is_empty() {
        return None;
    }
    let crowds = constraints.iter().map(|one| crowd_of(candidate, one));
    let crowds = crowds.collect::<Option<Vec<_>>>()?;
    let columns: Vec<_> = constraints.iter().map(|one| memo.topology(state, &one.key)).collect();
    let selection = memo.selection(state, &candidate.node);
    let usable = |slot| !candidate.spread.all_keys || columns.iter().all(|column| column.at(slot) != 0);
    let usable_nodes = nodes.iter().filter(|slot| usable(**slot)).count();
    let mut sums = vec![0.0; nodes.len()];
    for ((constraint, crowd), column) in constraints.iter().zip(&crowds).zip(&columns) {
        let members = memo.members(state, crowd);
        let by_host = constraint.key == HOSTNAME;
        // By slot for hosts, otherwise by value; negative: no node is of that value.
        let (mut counts, domains) = if by_host {
            (vec![0; state.slots.len()], usable_nodes)
        } else {
            domains(column, nodes.iter().copied().filter(|slot| usable(*slot)))
        };
        for (slot, pods) in members.entries(&state.shapes).flat_map(staying) {
            if by_host {
                counts[slot as usize] += pods;
            } else if state.exists[slot as usize] && usable(slot) && included(constraint, selection.at(slot)) {
                let count = &mut counts[column.at(slot) as usize];
                *count += if *count < 0 { 0 } else { pods };
            }
        }
        let weight = ((domains + 2) as f64).ln();
        for (slot, sum) in nodes.iter().zip(&mut sums) {
            let value = column.at(*slot);
            if value != 0 {
                let at = if by_host { *slot } else { value };
                *sum += counts[at as usize] as f64 * weight + (constraint.max_skew - 1) as f64;
            }
        }
    }
    let raw: Vec<Option<i64>> = nodes
        .iter()
        .zip(&sums)
        .map(|(slot, sum)| usable(*slot).then(|| sum.round() as i64))
        .collect();
    Some(normalise(&raw))
}

fn domains(column: &TopologyColumn, nodes: impl Iterator<Item = Slot>) -> (Vec<i64>, usize) {
    let mut counts = vec![-1; column.width()];
    let mut domains = 0;
    for slot in nodes {
        let count = &mut counts[column.at(slot) as usize];
        domains += usize::from(*count < 0);
        *count = 0;
    }
    (counts, domains)
}

/// Fewer is better. Nodes that are not compared get nothing.
fn normalise(raw: &[Option<i64>]) -> Vec<i64> {
    let compared = || raw.iter().flatten().copied();
    let (least, most) = (compared().min().unwrap_or(0), compared().max().unwrap_or(0).max(0));
    let score = |score: i64| match most {
        0 => SCORE_MAX,
        _ => SCORE_MAX * (most + least - score) / most,
    };
    raw.iter().map(|one| one.map_or(0, score)).collect()
}
