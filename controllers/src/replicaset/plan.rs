//! How many pods a ReplicaSet or ReplicationController creates or deletes, and what its status says. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::key::{time, uid};
use crate::pods::{is_active, is_available, is_ready, is_terminating, next_available_in, rank_for_deletion};
use crate::selector::contains;

/// Pods created or deleted in one pass; upstream's burst.
pub const BURST_MAX: usize = 500;

/// What the two kinds have in common.
#[derive(Clone, Debug)]
pub struct Desired {
    pub replicas: i32,
    pub min_ready_seconds: i32,
    pub generation: i64,
    pub template: PodTemplateSpec,
    pub deleting: bool,
}

pub struct Observed<'a> {
    pub desired: &'a Desired,
    pub status: &'a ReplicaSetStatus,
    /// Every pod this set owns, active or not.
    pub pods: &'a [Arc<Pod>],
    /// Active pods per node that belong to the same family of sets.
    pub neighbours: &'a HashMap<String, usize>,
    /// Nothing that was asked for is still unseen.
    pub settled: bool,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(usize),
    /// Uids and names.
    Delete(Vec<(String, String)>),
}

pub fn reconcile(observed: &Observed<'_>, now: Timestamp) -> Option<Action> {
    if !observed.settled || observed.desired.deleting {
        return None;
    }
    let mut active: Vec<Arc<Pod>> = observed.pods.iter().filter(|pod| is_active(pod)).cloned().collect();
    let wanted = usize::try_from(observed.desired.replicas).unwrap_or(0);
    if active.len() < wanted {
        return Some(Action::Create((wanted - active.len()).min(BURST_MAX)));
    }
    if active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST_MAX);
        rank_for_deletion(&mut active, observed.neighbours, now);
        let doomed = active[..surplus]
            .iter()
            .map(|pod| {
                (
                    uid(&pod.metadata).to_string(),
                    pod.metadata.name.clone().unwrap_or_default(),
                )
            })
            .collect();
        return Some(Action::Delete(doomed));
    }
    None
}

/// The failure of this pass's creations or deletions.
pub struct Failure {
    pub creating: bool,
    pub message: String,
}

pub fn status(observed: &Observed<'_>, failure: Option<&Failure>, now: Timestamp) -> ReplicaSetStatus {
    let desired = observed.desired;
    let active: Vec<&Arc<Pod>> = observed.pods.iter().filter(|pod| is_active(pod)).collect();
    let count = |test: &dyn Fn(&Pod) -> bool| i32::try_from(active.iter().filter(|pod| test(pod)).count()).unwrap_or(0);
    let template_labels = desired
        .template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default();
    let terminating = observed.pods.iter().filter(|pod| is_terminating(pod)).count();
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: Some(count(&|pod| contains(pod.labels.as_deref(), &template_labels))),
        ready_replicas: Some(count(&is_ready)),
        available_replicas: Some(count(&|pod| is_available(pod, desired.min_ready_seconds, now))),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: Some(desired.generation),
        conditions: conditions(observed.status, failure, now),
    }
}

fn conditions(
    status: &ReplicaSetStatus,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = status.conditions.clone().unwrap_or_default();
    let known = conditions.iter().any(|condition| condition.type_ == "ReplicaFailure");
    match failure {
        Some(failure) if !known => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_string(),
            status: "True".to_string(),
            reason: Some(
                if failure.creating {
                    "FailedCreate"
                } else {
                    "FailedDelete"
                }
                .to_string(),
            ),
            message: Some(failure.message.clone()),
            last_transition_time: Some(time(now)),
        }),
        None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
        Some(_) => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// Whether two statuses say the same; absent counts are zero.
pub fn same_status(a: &ReplicaSetStatus, b: &ReplicaSetStatus) -> bool {
    let counts = |status: &ReplicaSetStatus| {
        [
            status.replicas,
            status.fully_labeled_replicas.unwrap_or(0),
            status.ready_replicas.unwrap_or(0),
            status.available_replicas.unwrap_or(0),
            status.terminating_replicas.unwrap_or(0),
        ]
    };
    counts(a) == counts(b)
        && a.observed_generation == b.observed_generation
        && a.conditions.as_deref().unwrap_or_default() == b.conditions.as_deref().unwrap_or_default()
}

/// When a ready pod next becomes available without any event, in seconds.
pub fn look_again_in(observed: &Observed<'_>, now: Timestamp) -> Option<i64> {
    let active = observed.pods.iter().filter(|pod| is_active(pod)).map(AsRef::as_ref);
    next_available_in(active, observed.desired.min_ready_seconds, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::{at, pod};

    fn desired(replicas: i32) -> Desired {
        Desired {
            replicas,
            min_ready_seconds: 0,
            generation: 1,
            template: PodTemplateSpec::default(),
            deleting: false,
        }
    }

    fn decide(replicas: i32, pods: &[Arc<Pod>], settled: bool) -> Option<Action> {
        let desired = desired(replicas);
        let observed = Observed {
            desired: &desired,
            status: &ReplicaSetStatus::default(),
            pods,
            neighbours: &HashMap::new(),
            settled,
        };
        reconcile(&observed, at(100))
    }

    #[test]
    fn creates_what_is_missing_and_deletes_surplus() {
        let running = Arc::new(pod("a", "Running", Some("n"), Some(1)));
        let pending = Arc::new(pod("b", "Pending", None, None));
        let finished = Arc::new(pod("c", "Failed", Some("n"), None));
        let pods = [running, pending, finished];
        assert_eq!(decide(5, &pods, true), Some(Action::Create(3)));
        assert_eq!(decide(2, &pods, true), None);
        assert_eq!(
            decide(1, &pods, true),
            Some(Action::Delete(vec![("uid-b".to_string(), "b".to_string())]))
        );
        assert_eq!(decide(5, &pods, false), None, "unseen creations are outstanding");
        assert_eq!(decide(2000, &pods, true), Some(Action::Create(BURST_MAX)));
    }

    #[test]
    fn a_failure_is_a_condition_until_it_passes() {
        let desired = desired(1);
        let empty = ReplicaSetStatus::default();
        let neighbours = HashMap::new();
        let mut observed = Observed {
            desired: &desired,
            status: &empty,
            pods: &[],
            neighbours: &neighbours,
            settled: true,
        };
        let failure = Failure {
            creating: true,
            message: "quota".to_string(),
        };
        let failed = status(&observed, Some(&failure), at(5));
        let condition = &failed.conditions.as_ref().expect("has a condition")[0];
        assert_eq!(
            (condition.type_.as_str(), condition.reason.as_deref()),
            ("ReplicaFailure", Some("FailedCreate"))
        );
        observed.status = &failed;
        let again = status(&observed, Some(&failure), at(9));
        assert!(same_status(&failed, &again), "time alone changes nothing");
        assert_eq!(status(&observed, None, at(9)).conditions, None);
    }
}
