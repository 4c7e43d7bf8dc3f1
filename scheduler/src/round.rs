//! One decision: what the rules say of each node, and of a node as it would be if
//! pods came or went. Pure.

use crate::devices::{Wants, wants};
use crate::filter::Candidate;
use crate::memo::Memo;
use crate::plugin::Plugin;
use crate::pod::PodInfo;
use crate::rules::between::{self, Between};
use crate::rules::selection::{self, Selection};
use crate::rules::spread::Hard;
use crate::rules::volume::{self, Claims};
use crate::rules::{Code, fit};
use crate::snapshot::{Slot, State};
use std::sync::Arc;

/// Pods that name at most so many nodes have only those looked at, without columns.
const FEW: usize = 8;

pub struct Round<'a> {
    pub state: &'a State,
    pub candidate: &'a Candidate,
    pub demand: fit::Demand,
    columns: Option<Columns>,
    claims: Claims<'a>,
    pub devices: Wants<'a>,
    /// Claims that one pod at a time may use, and how many do.
    exclusive: (Vec<String>, i64),
    hard: Hard,
    between: Between,
    /// Nodes with room made for pods that this one has to leave it to.
    nominated: Vec<(Slot, Arc<PodInfo>)>,
}

struct Columns {
    selection: Arc<Selection>,
    fits: Arc<fit::Fits>,
}

/// A node as it would be.
#[derive(Clone)]
pub struct Trial {
    slot: Slot,
    account: fit::Account,
    /// Kept only if the pod wants ports.
    gone: Vec<Arc<PodInfo>>,
    come: Vec<Arc<PodInfo>>,
    /// How many more use the pod's exclusive claims.
    users: i64,
    spread: Vec<i64>,
    between: between::Delta,
}

impl<'a> Round<'a> {
    pub fn new(state: &'a State, memo: &mut Memo, candidate: &'a Candidate) -> Self {
        memo.start();
        let demand = fit::Demand::of(&candidate.info.shape, &candidate.profile);
        let named = candidate.node.named.as_ref();
        let few = named.is_some_and(|names| names.len() <= FEW);
        let columns = (!few).then(|| Columns {
            selection: memo.selection(state, &candidate.node),
            fits: memo.fits(state, candidate, &demand),
        });
        let waits_for = |(node, pod): &(String, Arc<PodInfo>)| {
            let other = pod.key != candidate.info.key && pod.priority >= candidate.info.priority;
            state.slot_of(node).filter(|_| other).map(|slot| (slot, pod.clone()))
        };
        let exclusive = volume::exclusive(state, candidate);
        let users = exclusive.iter().map(|claim| {
            let key = (candidate.info.namespace.clone(), claim.clone());
            i64::try_from(state.users_of(&key)).unwrap_or(i64::MAX)
        });
        let users = users.sum();
        Self {
            state,
            candidate,
            exclusive: (exclusive, users),
            demand,
            columns,
            claims: volume::claims(state, candidate),
            devices: wants(state.devices.as_ref(), memo, candidate),
            hard: Hard::count(state, memo, candidate),
            between: Between::count(state, memo, candidate),
            nominated: state.nominated.values().filter_map(waits_for).collect(),
        }
    }

    /// What keeps the pod from all nodes alike, whatever they are.
    pub fn blocked(&self) -> Option<(Plugin, String)> {
        if self.candidate.node.named.as_ref().is_some_and(|names| names.is_empty()) {
            return Some((Plugin::NodeAffinity, "pod affinity terms conflict".into()));
        }
        match (&self.claims, &self.devices) {
            (Claims::Waiting(plugin, text), _) => Some((*plugin, text.clone())),
            (_, Wants::Waiting(text)) => Some((Plugin::DynamicResources, text.clone())),
            _ => None,
        }
    }

    /// What is wrong with the pod's claims of devices, as far as looking at nodes showed it.
    pub fn broken(&self) -> Option<String> {
        match &self.devices {
            Wants::Nodes(plan) => plan.broken(),
            _ => None,
        }
    }

    /// The nodes to look at, each with what the filters say.
    pub fn codes(&self) -> impl Iterator<Item = (Slot, Code)> {
        let named = self.candidate.node.named.as_ref();
        let some = named.into_iter().flatten();
        let some = some.filter_map(|name| self.state.slot_of(name));
        let all = self.state.existing().filter(move |_| named.is_none());
        some.chain(all).map(|slot| (slot, self.code(slot)))
    }

    /// The nodes that the pod fits; the others are told why not.
    pub fn fitting(&self, mut refused: impl FnMut(Slot, Code)) -> Vec<Slot> {
        let mut fitting = Vec::new();
        let columns = self.columns.as_ref().filter(|_| self.candidate.node.named.is_none());
        let Some(columns) = columns.filter(|_| self.nominated.is_empty()) else {
            for (slot, code) in self.codes() {
                match code {
                    Code::Fits => fitting.push(slot),
                    code => refused(slot, code),
                }
            }
            return fitting;
        };
        // The same, in few passes over narrow columns.
        let near_only = !matches!(self.claims, Claims::Nodes(_))
            && !matches!(self.devices, Wants::Nodes(_))
            && self.exclusive.1 == 0
            && self.hard.is_empty()
            && self.between.is_empty();
        let pairs = columns.selection.open().iter().zip(columns.fits.ready());
        for (slot, (open, ready)) in (0..).zip(pairs) {
            let code = match open & ready {
                true if near_only => Code::Fits,
                true => self.beyond(slot, 0, &[], None),
                false if self.state.exists[slot as usize] => self.code(slot),
                false => continue,
            };
            match code {
                Code::Fits => fitting.push(slot),
                code => refused(slot, code),
            }
        }
        fitting
    }

    /// Whether taints or preferences could tell nodes apart.
    pub fn any_soft(&self) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.selection.any_soft)
    }

    pub fn selection(&self, slot: Slot) -> selection::Verdict {
        match &self.columns {
            Some(columns) => *columns.selection.at(slot),
            None => selection::look(self.state, slot, &self.candidate.node),
        }
    }

    pub fn fit(&self, slot: Slot) -> fit::Verdict {
        match &self.columns {
            Some(columns) => *columns.fits.at(slot),
            None => fit::look(self.state, slot, &self.demand, &self.candidate.profile),
        }
    }

    /// With and without the pods that room was made for: either may be so.
    pub fn code(&self, slot: Slot) -> Code {
        let plain = || {
            let code = self.selection(slot).code;
            if code != Code::Fits {
                return code;
            }
            let fit = self.fit(slot);
            if fit.port_taken {
                return Code::PortTaken;
            }
            if !fit.lacking.nothing() {
                return Code::Lacking(fit.lacking);
            }
            self.beyond(slot, 0, &[], None)
        };
        if self.is_nominated_to(slot) {
            self.trial(slot).code(self)
        } else {
            plain()
        }
    }

    fn is_nominated_to(&self, slot: Slot) -> bool {
        self.nominated.iter().any(|(at, _)| *at == slot)
    }

    /// The rules that look further than the node.
    fn beyond(&self, slot: Slot, users: i64, spread: &[i64], between: Option<&between::Delta>) -> Code {
        if self.exclusive.1 + users > 0 {
            return Code::InUse;
        }
        if let Claims::Nodes(needs) = &self.claims {
            let code = volume::check(self.state, needs, slot);
            if code != Code::Fits {
                return code;
            }
        }
        let mut code = self.hard.check(slot, spread);
        if code == Code::Fits {
            code = self.between.check(self.state, slot, between);
        }
        match &self.devices {
            Wants::Nodes(plan) if code == Code::Fits => {
                let node = &self.state.slots[slot as usize];
                plan.check(&node.name, &node.labels)
            }
            _ => code,
        }
    }

    pub fn trial(&self, slot: Slot) -> Trial {
        Trial {
            slot,
            account: fit::Account::of(self.state, slot, &self.demand.requests),
            gone: Vec::new(),
            come: Vec::new(),
            users: 0,
            spread: vec![0; self.hard.len()],
            between: between::Delta::default(),
        }
    }
}

impl Trial {
    pub fn goes(&mut self, round: &Round<'_>, pod: &Arc<PodInfo>) {
        self.change(round, pod, -1);
        if round.demand.ports.is_empty() {
            return;
        }
        match self.come.iter().position(|come| come.key == pod.key) {
            Some(at) => drop(self.come.remove(at)),
            None => self.gone.push(pod.clone()),
        }
    }

    pub fn comes(&mut self, round: &Round<'_>, pod: &Arc<PodInfo>) {
        self.change(round, pod, 1);
        if round.demand.ports.is_empty() {
            return;
        }
        match self.gone.iter().position(|gone| gone.key == pod.key) {
            Some(at) => drop(self.gone.remove(at)),
            None => self.come.push(pod.clone()),
        }
    }

    fn change(&mut self, round: &Round<'_>, pod: &PodInfo, sign: i64) {
        self.account.change(pod, &round.demand.requests, sign);
        if pod.namespace == round.candidate.info.namespace {
            let shared = round.exclusive.0.iter().filter(|claim| pod.claims.contains(claim));
            self.users += sign * i64::try_from(shared.count()).unwrap_or(0);
        }
        if self.spread.is_empty() && round.between.is_empty() && pod.terms.is_empty() {
            return;
        }
        let verdict = round.selection(self.slot);
        round
            .hard
            .change(round.state, &verdict, self.slot, pod, sign, &mut self.spread);
        round
            .between
            .change(round.state, round.candidate, pod, sign, &mut self.between);
    }

    pub fn code(&self, round: &Round<'_>) -> Code {
        if !round.is_nominated_to(self.slot) {
            return self.alone(round);
        }
        let mut full = self.clone();
        for (_, pod) in round.nominated.iter().filter(|(slot, _)| *slot == self.slot) {
            full.comes(round, pod);
        }
        match full.alone(round) {
            Code::Fits => self.alone(round),
            code => code,
        }
    }

    fn alone(&self, round: &Round<'_>) -> Code {
        let code = round.selection(self.slot).code;
        if code != Code::Fits {
            return code;
        }
        let here = round.state.slots[self.slot as usize].pods.iter();
        let stay = here.filter(|pod| !self.gone.iter().any(|gone| gone.key == pod.key));
        let pods = stay.chain(&self.come).map(|pod| &**pod);
        if fit::port_taken(&round.demand.ports, pods) {
            return Code::PortTaken;
        }
        let lacking = self.account.lacking(&round.demand.requests, &round.candidate.profile);
        if !lacking.nothing() {
            return Code::Lacking(lacking);
        }
        round.beyond(self.slot, self.users, &self.spread, Some(&self.between))
    }
}
