//! A Deployment's counts and conditions. Pure.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};

use crate::key::{name, seconds_between, time};

use super::size::{Size, spec_replicas};

pub const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
pub const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";

pub fn condition<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind)
}

pub fn new_condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: Some(reason.to_string()),
        message: Some(message),
        last_update_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    }
}

/// Sets a condition unless it already says so; a transition is a change of status.
pub fn set_condition(status: &mut DeploymentStatus, mut wanted: DeploymentCondition) {
    if let Some(known) = condition(status, &wanted.type_) {
        if known.status == wanted.status && known.reason == wanted.reason {
            return;
        }
        if known.status == wanted.status {
            wanted.last_transition_time = known.last_transition_time.clone();
        }
    }
    remove_condition(status, &wanted.type_);
    status.conditions.get_or_insert_default().push(wanted);
}

fn remove_condition(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}

/// The longest deadline means none.
pub fn progress_deadline(deployment: &Deployment) -> Option<i32> {
    deployment
        .spec
        .as_ref()?
        .progress_deadline_seconds
        .filter(|seconds| *seconds != i32::MAX)
}

/// Counts over the ReplicaSets, with the conditions as they are plus `Available`.
fn counts(
    deployment: &Deployment,
    sets: &[ReplicaSet],
    current: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let total = |field: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
        sets.iter().filter_map(|set| set.status.as_ref()).map(field).sum()
    };
    let replicas = total(|status| status.replicas);
    let available = total(|status| status.available_replicas.unwrap_or(0));
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(replicas),
        updated_replicas: Some(
            current
                .and_then(|set| set.status.as_ref())
                .map_or(0, |status| status.replicas),
        ),
        ready_replicas: Some(total(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: Some(available),
        unavailable_replicas: Some((sets.iter().map(spec_replicas).sum::<i32>() - available).max(0)),
        terminating_replicas: Some(total(|status| status.terminating_replicas.unwrap_or(0))),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let size = Size::of(deployment);
    let wanted = if available >= size.replicas - size.max_unavailable {
        let message = "Deployment has minimum availability.".to_string();
        new_condition(AVAILABLE, "True", "MinimumReplicasAvailable", message, now)
    } else {
        let message = "Deployment does not have minimum availability.".to_string();
        new_condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message, now)
    };
    set_condition(&mut status, wanted);
    status
}

/// Everything updated, everything available, nothing old left.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let replicas = Size::of(deployment).replicas;
    status.updated_replicas.unwrap_or(0) == replicas
        && status.replicas.unwrap_or(0) == replicas
        && status.available_replicas.unwrap_or(0) == replicas
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let updated = |status: &DeploymentStatus| status.updated_replicas.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - updated(status);
    updated(new) > updated(old)
        || outdated(new) < outdated(old)
        || new.ready_replicas.unwrap_or(0) > old.ready_replicas.unwrap_or(0)
        || new.available_replicas.unwrap_or(0) > old.available_replicas.unwrap_or(0)
}

/// Seconds until the progress deadline passes; zero or less when it has.
pub fn deadline_in(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<i64> {
    let deadline = progress_deadline(deployment)?;
    let known = condition(status, PROGRESSING)?;
    if matches!(known.reason.as_deref(), Some(NEW_SET_AVAILABLE | TIMED_OUT)) {
        return None;
    }
    let since = known.last_update_time.as_ref()?.0;
    Some(i64::from(deadline) - seconds_between(since, now))
}

/// The status of a Deployment that is only watched: paused, being scaled or deleted.
pub fn resting(
    deployment: &Deployment,
    sets: &[ReplicaSet],
    current: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    counts(deployment, sets, current, now)
}

/// The status of a Deployment that rolls out.
pub fn rolling(
    deployment: &Deployment,
    sets: &[ReplicaSet],
    current: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = counts(deployment, sets, current, now);
    let known = condition(&old, PROGRESSING).cloned();
    if progress_deadline(deployment).is_none() {
        remove_condition(&mut status, PROGRESSING);
    } else {
        let settled = status.replicas == status.updated_replicas
            && known
                .as_ref()
                .is_some_and(|known| known.reason.as_deref() == Some(NEW_SET_AVAILABLE));
        if !settled {
            judge_progress(deployment, &old, &mut status, current, known, now);
        }
    }
    match failure(sets, current) {
        Some(failed) => set_condition(&mut status, failed),
        None => remove_condition(&mut status, REPLICA_FAILURE),
    }
    status
}

fn judge_progress(
    deployment: &Deployment,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    current: Option<&ReplicaSet>,
    known: Option<DeploymentCondition>,
    now: Timestamp,
) {
    let subject = current.map_or_else(
        || format!("Deployment {:?}", name(&deployment.metadata)),
        |set| format!("ReplicaSet {:?}", name(&set.metadata)),
    );
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set_condition(
            status,
            new_condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message, now),
        );
    } else if has_progressed(old, status) {
        let message = format!("{subject} is progressing.");
        let mut wanted = new_condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
        // Each bit of progress restarts the deadline, so the update time moves even when the reason stays.
        if let Some(known) = known.filter(|known| known.status == "True") {
            wanted.last_transition_time = known.last_transition_time;
        }
        remove_condition(status, PROGRESSING);
        set_condition(status, wanted);
    } else if deadline_in(deployment, status, now).is_some_and(|seconds| seconds < 0) {
        let message = format!("{subject} has timed out progressing.");
        set_condition(status, new_condition(PROGRESSING, "False", TIMED_OUT, message, now));
    }
}

/// The current set's failure, else the first old one's.
fn failure(sets: &[ReplicaSet], current: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    let of = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        let found = conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE)?;
        Some(DeploymentCondition {
            type_: REPLICA_FAILURE.to_string(),
            status: found.status.clone(),
            reason: found.reason.clone(),
            message: found.message.clone(),
            last_update_time: found.last_transition_time.clone(),
            last_transition_time: found.last_transition_time.clone(),
        })
    };
    current.and_then(of).or_else(|| sets.iter().find_map(of))
}

/// Whether two statuses say the same; absent counts are zero.
pub fn same_status(a: &DeploymentStatus, b: &DeploymentStatus) -> bool {
    let counts = |status: &DeploymentStatus| {
        [
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
            status.available_replicas,
            status.unavailable_replicas,
            status.terminating_replicas,
        ]
        .map(|count| count.unwrap_or(0))
    };
    counts(a) == counts(b)
        && a.observed_generation == b.observed_generation
        && a.collision_count == b.collision_count
        && a.conditions.as_deref().unwrap_or_default() == b.conditions.as_deref().unwrap_or_default()
}
