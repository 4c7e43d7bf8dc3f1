//! Whether a node has what a pod asks for, and how it would look afterwards. Pure.

use super::SCORE_MAX;
use crate::pod::{HostPort, PodInfo, Shape};
use crate::profile::{Profile, ScoringKind};
use crate::resources::Resources;
use crate::snapshot::{Amount, Slot, State};
use std::collections::BTreeMap;

/// What a node lacks: a bit each for pods, CPU, memory, ephemeral storage, then the
/// pod's extended resources in order, and whether it is more than the node ever has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lacking(u64);

const PODS: u64 = 1;
const PLAIN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const EXTENDED_FIRST: u32 = 4;
/// A pod that lacks more than this many kinds is told of so many.
const EXTENDED_MAX: usize = 58;
const UNRESOLVABLE: u64 = 1 << 63;

/// Percentages of this do not overflow.
const TAKEN_MAX: i64 = i64::MAX / 128;

impl Lacking {
    pub fn nothing(self) -> bool {
        self.0 == 0
    }

    pub fn unresolvable(self) -> bool {
        self.0 & UNRESOLVABLE != 0
    }

    pub fn reasons(self, requests: &Resources) -> Vec<String> {
        let mut out = Vec::new();
        if self.0 & PODS != 0 {
            out.push("Too many pods".to_string());
        }
        let names = PLAIN
            .into_iter()
            .chain(requests.extended.keys().map(String::as_str).take(EXTENDED_MAX));
        for (at, name) in (1u32..).zip(names) {
            if self.0 & (1 << at) != 0 {
                out.push(format!("Insufficient {name}"));
            }
        }
        out
    }
}

/// What pods of one kind ask for; those that differ in nothing else share a column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Demand {
    pub requests: Resources,
    pub scored: (i64, i64),
    pub ports: Vec<HostPort>,
    /// Profiles differ in name.
    pub profile: String,
}

impl Demand {
    pub fn of(shape: &Shape, profile: &Profile) -> Self {
        Self {
            requests: shape.requests.clone(),
            scored: shape.scored,
            ports: shape.ports.clone(),
            profile: profile.name.clone(),
        }
    }
}

/// By slot; kept true by looking again at nodes that changed.
#[derive(Debug, Clone, Default)]
pub struct Fits {
    seen: Option<u64>,
    verdicts: Vec<Verdict>,
    /// Where nothing is lacking and no port is taken.
    ready: Vec<bool>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Verdict {
    pub lacking: Lacking,
    pub port_taken: bool,
    pub fit: u8,
    pub balance: u8,
}

impl Fits {
    pub fn refresh(&mut self, state: &State, demand: &Demand, profile: &Profile) {
        let slots = u32::try_from(state.slots.len()).unwrap_or(u32::MAX);
        match self.seen.and_then(|seen| state.dynamics.since(seen)) {
            Some(changed) => {
                self.resize(slots as usize);
                changed.for_each(|slot| self.look_again(state, slot, demand, profile));
            }
            None => {
                self.resize(slots as usize);
                (0..slots).for_each(|slot| self.look_again(state, slot, demand, profile));
            }
        }
        self.seen = Some(state.dynamics.now());
    }

    pub fn is_fresh(&self, state: &State) -> bool {
        self.seen == Some(state.dynamics.now())
    }

    fn resize(&mut self, len: usize) {
        self.verdicts.resize(len, Verdict::default());
        self.ready.resize(len, false);
    }

    fn look_again(&mut self, state: &State, slot: Slot, demand: &Demand, profile: &Profile) {
        let verdict = look(state, slot, demand, profile);
        self.ready[slot as usize] = verdict.lacking.nothing() && !verdict.port_taken;
        self.verdicts[slot as usize] = verdict;
    }

    pub fn ready(&self) -> &[bool] {
        &self.ready
    }

    pub fn at(&self, slot: Slot) -> &Verdict {
        &self.verdicts[slot as usize]
    }
}

pub fn look(state: &State, slot: Slot, demand: &Demand, profile: &Profile) -> Verdict {
    let account = Account::of(state, slot, &demand.requests);
    let pods = state.slots[slot as usize].pods.iter();
    Verdict {
        lacking: account.lacking(&demand.requests, profile),
        port_taken: port_taken(&demand.ports, pods.map(|pod| &**pod)),
        fit: u8::try_from(fit_score(&account, demand, profile)).unwrap_or(0),
        balance: u8::try_from(balance_score(&account, demand, profile)).unwrap_or(0),
    }
}

pub fn port_taken<'a>(wanted: &[HostPort], mut pods: impl Iterator<Item = &'a PodInfo>) -> bool {
    !wanted.is_empty()
        && pods.any(|pod| {
            let mut taken = pod.ports.iter();
            taken.any(|taken| wanted.iter().any(|wanted| wanted.clashes(taken)))
        })
}

/// One node's amounts, as far as a pod is interested in them.
#[derive(Debug, Clone)]
pub struct Account {
    pods: Amount,
    plain: [Amount; 3],
    scored: (i64, i64),
    /// In the order of the pod's extended resources.
    extended: Vec<Amount>,
}

impl Account {
    pub fn of(state: &State, slot: Slot, requests: &Resources) -> Self {
        let amounts = &state.amounts;
        let names = requests.extended.keys();
        Self {
            pods: amounts.pods.at(slot),
            plain: [
                amounts.cpu.at(slot),
                amounts.memory.at(slot),
                amounts.ephemeral.at(slot),
            ],
            scored: (amounts.scored_cpu[slot as usize], amounts.scored_memory[slot as usize]),
            extended: names.map(|name| amounts.extended(slot, name)).collect(),
        }
    }

    /// As if a pod came (1) or went (-1). `requests` is the candidate's.
    pub fn change(&mut self, pod: &Shape, requests: &Resources, sign: i64) {
        let other = [
            pod.requests.milli_cpu,
            pod.requests.memory_bytes,
            pod.requests.ephemeral_bytes,
        ];
        self.pods.used += sign;
        for (amount, other) in self.plain.iter_mut().zip(other) {
            amount.used = amount.used.wrapping_add(sign * other);
        }
        for (amount, name) in self.extended.iter_mut().zip(requests.extended.keys()) {
            let other = pod.requests.extended.get(name).copied().unwrap_or(0);
            amount.used = amount.used.wrapping_add(sign * other);
        }
    }

    pub fn lacking(&self, wanted: &Resources, profile: &Profile) -> Lacking {
        let mut lacking = 0;
        if self.pods.used >= self.pods.have {
            lacking |= PODS;
        }
        let mut check = |bit: u32, wanted: i64, amount: &Amount| {
            if wanted > 0 && wanted > amount.have.saturating_sub(amount.used) {
                lacking |= 1 << bit;
                if wanted > amount.have {
                    lacking |= UNRESOLVABLE;
                }
            }
        };
        let plain = [wanted.milli_cpu, wanted.memory_bytes, wanted.ephemeral_bytes];
        for ((bit, wanted), amount) in (1..).zip(plain).zip(&self.plain) {
            check(bit, wanted, amount);
        }
        for (at, ((name, wanted), amount)) in wanted.extended.iter().zip(&self.extended).enumerate() {
            if !ignored(profile, name) {
                let at = u32::try_from(at.min(EXTENDED_MAX - 1)).unwrap_or(0);
                check(EXTENDED_FIRST + at, *wanted, amount);
            }
        }
        Lacking(lacking)
    }

    /// (has, would be taken), for scoring; nothing if it does not count.
    fn after(&self, name: &str, demand: &Demand, floors: bool) -> (i64, i64) {
        let requests = &demand.requests;
        let plus = |have: i64, used: i64, more: i64| (have, used.saturating_add(more).clamp(0, TAKEN_MAX));
        let sum = |amount: &Amount, more: i64| plus(amount.have, amount.used, more);
        match name {
            "cpu" if floors => plus(self.plain[0].have, self.scored.0, demand.scored.0),
            "memory" if floors => plus(self.plain[1].have, self.scored.1, demand.scored.1),
            "cpu" => sum(&self.plain[0], requests.milli_cpu),
            "memory" => sum(&self.plain[1], requests.memory_bytes),
            "ephemeral-storage" => sum(&self.plain[2], requests.ephemeral_bytes),
            _ => {
                let mut own = requests.extended.iter().zip(&self.extended);
                let found = own.find(|((own, wanted), _)| *own == name && **wanted > 0);
                found.map_or((0, 0), |((_, wanted), amount)| sum(amount, *wanted))
            }
        }
    }
}

fn ignored(profile: &Profile, resource: &str) -> bool {
    let group = resource.split_once('/').map_or("", |(group, _)| group);
    profile.ignored_resources.iter().any(|name| name == resource)
        || profile.ignored_resource_groups.iter().any(|name| name == group)
}

/// How full the node would be, as the profile likes it.
pub fn fit_score(account: &Account, demand: &Demand, profile: &Profile) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for resource in &profile.scoring.resources {
        let (have, taken) = account.after(&resource.name, demand, true);
        if have <= 0 {
            continue;
        }
        let score = match &profile.scoring.kind {
            ScoringKind::LeastAllocated if taken > have => 0,
            ScoringKind::LeastAllocated => (have - taken) * SCORE_MAX / have,
            ScoringKind::MostAllocated => taken.min(have) * SCORE_MAX / have,
            ScoringKind::RequestedToCapacityRatio(points) => {
                let percent = if taken > have { 100 } else { taken * 100 / have };
                match broken_line(points, percent) {
                    // What scores nothing does not count.
                    0 => continue,
                    score => score,
                }
            }
        };
        sum += score * resource.weight;
        weights += resource.weight;
    }
    match (&profile.scoring.kind, weights) {
        (_, 0) => 0,
        (ScoringKind::RequestedToCapacityRatio(_), _) => (2 * sum + weights).div_euclid(2 * weights),
        _ => sum / weights,
    }
}

/// Straight lines between points (percent, score 0 to 10).
fn broken_line(points: &[(i64, i64)], percent: i64) -> i64 {
    let score = |at: usize| points[at].1 * SCORE_MAX / 10;
    for at in 0..points.len() {
        if percent <= points[at].0 {
            if at == 0 {
                return score(0);
            }
            let (run, rise) = (points[at].0 - points[at - 1].0, score(at) - score(at - 1));
            return score(at - 1) + rise * (percent - points[at - 1].0) / run.max(1);
        }
    }
    if points.is_empty() { 0 } else { score(points.len() - 1) }
}

/// The more alike the use of the resources, the better. Pods that ask for none of
/// them are not scored, or all would go to the node that is most in balance.
pub fn balance_score(account: &Account, demand: &Demand, profile: &Profile) -> i64 {
    if asks_for_nothing(demand, profile) {
        return 0;
    }
    let fractions = profile.balanced.iter().filter_map(|resource| {
        let (have, taken) = account.after(&resource.name, demand, false);
        (have > 0).then(|| (taken as f64 / have as f64).min(1.0))
    });
    let fractions: Vec<f64> = fractions.collect();
    let deviation = match fractions.as_slice() {
        [] | [_] => 0.0,
        [one, other] => ((one - other) / 2.0).abs(),
        all => {
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let squares: f64 = all.iter().map(|one| (one - mean) * (one - mean)).sum();
            (squares / all.len() as f64).sqrt()
        }
    };
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}

pub fn asks_for_nothing(demand: &Demand, profile: &Profile) -> bool {
    let requests = &demand.requests;
    let amount = |list: &BTreeMap<String, i64>, name: &str| list.get(name).copied().unwrap_or(0);
    profile.balanced.iter().all(|resource| {
        0 == match resource.name.as_str() {
            "cpu" => requests.milli_cpu,
            "memory" => requests.memory_bytes,
            "ephemeral-storage" => requests.ephemeral_bytes,
            name => amount(&requests.extended, name),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_line_joins_its_points() {
        let points = [(20, 0), (60, 10), (100, 5)];
        for (percent, expected) in [(0, 0), (20, 0), (40, 50), (60, 100), (80, 75), (100, 50), (120, 50)] {
            assert_eq!(broken_line(&points, percent), expected, "{percent}");
        }
        assert_eq!(broken_line(&[], 50), 0);
    }

    fn account(cpu: (i64, i64), memory: (i64, i64)) -> Account {
        let amount = |(have, used)| Amount { have, used };
        Account {
            pods: amount((110, 0)),
            plain: [amount(cpu), amount(memory), amount((0, 0))],
            scored: (cpu.1, memory.1),
            extended: Vec::new(),
        }
    }

    fn demand(cpu: i64, memory: i64) -> Demand {
        Demand {
            requests: Resources {
                milli_cpu: cpu,
                memory_bytes: memory,
                ..Resources::default()
            },
            scored: (cpu, memory),
            ports: Vec::new(),
            profile: String::new(),
        }
    }

    #[test]
    fn strategies_score_as_upstream_documents() {
        let ratio = ScoringKind::RequestedToCapacityRatio(vec![(0, 0), (100, 10)]);
        for (strategy, expected) in [
            // CPU 6000 of 10000, memory 5000 of 20000 afterwards.
            (ScoringKind::LeastAllocated, (40 + 75) / 2),
            (ScoringKind::MostAllocated, (60 + 25) / 2),
            (ratio, 43),
        ] {
            let mut profile = Profile::default();
            profile.scoring.kind = strategy.clone();
            let account = account((10000, 3000), (20000, 0));
            assert_eq!(
                fit_score(&account, &demand(3000, 5000), &profile),
                expected,
                "{strategy:?}"
            );
        }
        let profile = Profile::default();
        let full = account((1000, 1000), (0, 0));
        assert_eq!(fit_score(&full, &demand(1, 1), &profile), 0, "more than there is");
        let none = account((0, 0), (0, 0));
        assert_eq!(fit_score(&none, &demand(1, 1), &profile), 0, "nothing to score");
    }

    #[test]
    fn balance_is_one_minus_the_deviation() {
        let profile = Profile::default();
        for (cpu, memory, expected) in [
            ((10, 4), (10, 4), 100),
            // 0.6 and 0.2 afterwards.
            ((10, 5), (10, 1), 80),
            ((10, 50), (10, 4), 75),
            ((10, 4), (0, 0), 100),
        ] {
            let got = balance_score(&account(cpu, memory), &demand(1, 1), &profile);
            assert_eq!(got, expected, "{cpu:?} {memory:?}");
        }
        assert_eq!(balance_score(&account((10, 5), (10, 1)), &demand(0, 0), &profile), 0);
    }

    #[test]
    fn what_is_lacking_is_named_and_what_never_fits_is_known() {
        let profile = Profile::default();
        let account = account((10, 5), (10, 1));
        for (cpu, memory, reasons, unresolvable) in [
            (5, 9, vec![], false),
            (6, 9, vec!["Insufficient cpu"], false),
            (11, 10, vec!["Insufficient cpu", "Insufficient memory"], true),
            (0, 0, vec![], false),
        ] {
            let demand = demand(cpu, memory);
            let lacking = account.lacking(&demand.requests, &profile);
            assert_eq!(lacking.reasons(&demand.requests), reasons, "{cpu} {memory}");
            assert_eq!(
                (lacking.nothing(), lacking.unresolvable()),
                (reasons.is_empty(), unresolvable)
            );
        }
    }
}
