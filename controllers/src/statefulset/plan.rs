//! Which ordinal of a StatefulSet comes, goes or is replaced next, and its status. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::deployment::resolve;
use crate::key::name;
use crate::pods::{is_available, is_finished, is_ready, is_terminating, phase};
use crate::revisions::pod_hash;

use super::pod::lacks_identity;

/// One of the two revisions that a StatefulSet runs.
pub struct Version<'a> {
    /// Of the revision; its pods carry it.
    pub name: &'a str,
    pub template: &'a PodTemplateSpec,
}

pub struct Observed<'a> {
    pub set: &'a StatefulSet,
    pub pods: &'a [Arc<Pod>],
    pub current: Version<'a>,
    pub update: Version<'a>,
    /// Ordinals without a pod whose claims still go with the pod before.
    pub waiting: &'a BTreeSet<i32>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create {
        ordinal: i32,
        updated: bool,
    },
    /// The pod waits for claims; those that are missing are made again.
    Claims(i32),
    /// Gives the pod the labels of its place.
    Label {
        pod: Arc<Pod>,
        ordinal: i32,
    },
    Delete(Arc<Pod>),
}

/// The ordinals that the set should have.
pub fn range(set: &StatefulSet) -> Range<i32> {
    let ordinals = set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref());
    let start = ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0);
    start..start.saturating_add(replicas(set))
}

pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The number at the end of the pod's name, when the rest is the set's.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let rest = name(&pod.metadata)
        .strip_prefix(name(&set.metadata))?
        .strip_prefix('-')?;
    rest.parse().ok().filter(|ordinal| rest == format!("{ordinal}"))
}

fn partition(set: &StatefulSet) -> i32 {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
}

fn on_delete(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete")
}

/// The next steps: one at a time for `OrderedReady`, all that can go together for `Parallel`.
pub fn reconcile(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let by_ordinal: BTreeMap<i32, &Arc<Pod>> = observed
        .pods
        .iter()
        .filter_map(|pod| Some((ordinal(observed.set, pod)?, pod)))
        .collect();
    let spec = observed.set.spec.as_ref();
    let pass = Pass {
        observed,
        by_ordinal,
        ordered: spec.and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel"),
        min_ready: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
        now,
    };
    let mut actions = Vec::new();
    if pass.keep(&mut actions) && pass.thin_out(&mut actions) && !on_delete(observed.set) {
        pass.roll(&mut actions);
    }
    actions
}

/// One look at the set.
struct Pass<'a> {
    observed: &'a Observed<'a>,
    by_ordinal: BTreeMap<i32, &'a Arc<Pod>>,
    ordered: bool,
    min_ready: i32,
    now: Timestamp,
}

impl Pass<'_> {
    fn is_healthy(&self, pod: &Pod) -> bool {
        phase(pod) == "Running" && is_available(pod, self.min_ready, self.now) && !is_terminating(pod)
    }

    /// Every wanted ordinal has its pod; false where the rest has to wait.
    fn keep(&self, actions: &mut Vec<Action>) -> bool {
        let set = self.observed.set;
        let mut changed = false;
        for ordinal in range(set) {
            let waits = match self.by_ordinal.get(&ordinal) {
                None if self.observed.waiting.contains(&ordinal) => true,
                // Below the partition the old template is kept while it still is the current one.
                None => {
                    let updated = ordinal >= range(set).start + partition(set) || is_settled(self.observed);
                    actions.push(Action::Create { ordinal, updated });
                    changed = true;
                    true
                }
                Some(pod) if is_finished(pod) => {
                    if !is_terminating(pod) {
                        actions.push(Action::Delete((*pod).clone()));
                        changed = true;
                    }
                    true
                }
                Some(pod) => {
                    if phase(pod) == "Pending" && !is_terminating(pod) {
                        actions.push(Action::Claims(ordinal));
                    }
                    let healthy = self.is_healthy(pod);
                    if (healthy || !self.ordered) && lacks_identity(pod, ordinal) {
                        let pod = (*pod).clone();
                        actions.push(Action::Label { pod, ordinal });
                    }
                    !healthy
                }
            };
            if waits && self.ordered {
                return false;
            }
        }
        !changed
    }

    /// Pods beyond the wanted ordinals go from the top down; in order, an unhealthy one only where no other
    /// below it is unhealthy too. False where the rest has to wait.
    fn thin_out(&self, actions: &mut Vec<Action>) -> bool {
        let wanted = range(self.observed.set);
        let beyond = || self.by_ordinal.iter().filter(|(ordinal, _)| !wanted.contains(ordinal));
        let sick = |pod: &Pod| !self.is_healthy(pod);
        let first_sick = beyond().find(|(_, pod)| sick(pod)).map(|(ordinal, _)| *ordinal);
        for (ordinal, pod) in beyond().rev() {
            let may_go = !is_terminating(pod);
            // One that has finished gets no better by waiting.
            let blocked = sick(pod) && first_sick != Some(*ordinal) && !is_finished(pod);
            if self.ordered && (!may_go || blocked) {
                return false;
            }
            if may_go {
                actions.push(Action::Delete((*pod).clone()));
            }
            if self.ordered {
                return false;
            }
        }
        !actions.iter().any(|action| matches!(action, Action::Delete(_)))
    }

    /// Pods of old templates are replaced from the highest ordinal down, as many as may be unavailable
    /// together. One that does not work anyway costs nothing, and would else stand in the way for ever.
    fn roll(&self, actions: &mut Vec<Action>) {
        let set = self.observed.set;
        let wanted = range(set);
        let pods = || {
            wanted
                .clone()
                .rev()
                .map(|ordinal| (ordinal, self.by_ordinal.get(&ordinal)))
        };
        let unavailable = pods().filter(|(_, pod)| pod.is_none_or(|pod| !self.is_healthy(pod)));
        let mut room = max_unavailable(set).saturating_sub(i32::try_from(unavailable.count()).unwrap_or(i32::MAX));
        let first = wanted.start.saturating_add(partition(set));
        for (_, pod) in pods().take_while(|(ordinal, _)| *ordinal >= first) {
            let Some(pod) = pod else { continue };
            if pod_hash(pod) == Some(self.observed.update.name) || is_terminating(pod) {
                continue;
            }
            if self.is_healthy(pod) {
                if room <= 0 {
                    continue;
                }
                room -= 1;
            }
            actions.push(Action::Delete((*pod).clone()));
        }
    }
}

/// At least one; of the wanted replicas where it is a percentage.
fn max_unavailable(set: &StatefulSet) -> i32 {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let limit = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    limit
        .map_or(1, |limit| resolve(Some(limit), replicas(set), true))
        .max(1)
}

/// No rollout is going on.
fn is_settled(observed: &Observed<'_>) -> bool {
    observed.current.name == observed.update.name
}

pub fn status(observed: &Observed<'_>, now: Timestamp) -> StatefulSetStatus {
    let set = observed.set;
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let old = set.status.clone().unwrap_or_default();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(observed.pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let running = |pod: &Pod| phase(pod) == "Running" && is_ready(pod);
    let of = |revision: &str, pod: &Pod| !is_terminating(pod) && pod_hash(pod) == Some(revision);
    let updated = count(&|pod| of(observed.update.name, pod));
    let ready = count(&|pod| running(pod));
    let all = count(&|_| true);
    // The rollout is over when all are updated and ready: the new revision becomes the current one.
    let wanted = replicas(set);
    let finished = !on_delete(set) && updated == wanted && ready == wanted && all == wanted;
    let current = if finished {
        observed.update.name
    } else {
        observed.current.name
    };
    StatefulSetStatus {
        replicas: all,
        ready_replicas: Some(ready),
        available_replicas: Some(count(&|pod| running(pod) && is_available(pod, min_ready, now))),
        current_replicas: Some(count(&|pod| of(current, pod))),
        updated_replicas: Some(updated),
        current_revision: Some(current.to_string()),
        update_revision: Some(observed.update.name.to_string()),
        observed_generation: set.metadata.generation,
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions,
    }
}

/// Whether two statuses say the same; absent counts are zero.
pub fn same_status(a: &StatefulSetStatus, b: &StatefulSetStatus) -> bool {
    let plain = |status: &StatefulSetStatus| StatefulSetStatus {
        ready_replicas: Some(status.ready_replicas.unwrap_or(0)),
        available_replicas: Some(status.available_replicas.unwrap_or(0)),
        current_replicas: Some(status.current_replicas.unwrap_or(0)),
        updated_replicas: Some(status.updated_replicas.unwrap_or(0)),
        collision_count: Some(status.collision_count.unwrap_or(0)),
        ..status.clone()
    };
    plain(a) == plain(b)
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
