//! Which finished pods of a Job are counted, and which may go. Pure.
//!
//! A pod that succeeded at an index is counted by the index; any other is noted by its uid first and moves to
//! the counts once its finalizer is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::slim::Pod;
use k8s_openapi::api::batch::v1::JobStatus;

use crate::key::uid;
use crate::pods::phase;

use super::finish::Ending;
use super::indexes;
use super::plan::{condition, count_of};
use super::pod::{has_finalizer, index_of};
use super::policy::{Verdict, verdict};
use super::view::View;

/// Uids in the notes of a status at one time; upstream's limit, so that a status stays small.
const NOTED_MAX: usize = 500;

/// Moves finished pods through the notes into the counts; returns those whose finalizer may go once the
/// status is written.
pub fn count(view: &View<'_>, status: &mut JobStatus) -> Vec<Arc<Pod>> {
    settle(view, status);
    let mut completed = view.completed(status);
    if view.is_indexed() {
        // An index that succeeded is known before its failures are judged.
        let succeeded = view
            .pods
            .iter()
            .filter(|pod| phase(pod) == "Succeeded" && has_finalizer(pod));
        completed.extend(succeeded.filter_map(|pod| view.valid_index(pod)));
    }
    let failed_indexes = view
        .limit_per_index()
        .map(|limit| fail_indexes(view, status, &completed, limit));
    let kept = match &failed_indexes {
        Some(failed) => still_needed(view, &completed, failed, status),
        None => BTreeSet::new(),
    };
    if view.is_indexed() {
        let listed = !completed.is_empty() || status.completed_indexes.is_some();
        status.completed_indexes = listed.then(|| indexes::format(&completed));
        status.succeeded = (!completed.is_empty() || status.succeeded.is_some()).then(|| count_of(completed.len()));
    }
    if let Some(failed_indexes) = failed_indexes {
        status.failed_indexes = Some(indexes::format(&failed_indexes));
    }
    let over = view.pods.iter().filter(|pod| has_finalizer(pod) && view.is_over(pod));
    let over = over.filter(|pod| !kept.contains(uid(&pod.metadata)));
    let mut release = Vec::new();
    for pod in over {
        if !note(view, pod, phase(pod) == "Succeeded", status) {
            break;
        }
        release.push(pod.clone());
    }
    release
}

/// What was noted, and whose finalizer is gone, is counted.
fn settle(view: &View<'_>, status: &mut JobStatus) {
    let held: BTreeSet<&str> = view
        .pods
        .iter()
        .filter(|pod| has_finalizer(pod))
        .map(|pod| uid(&pod.metadata))
        .collect();
    let settle = |list: &mut Option<Vec<String>>, counter: &mut Option<i32>| {
        let before = list.take().unwrap_or_default();
        let (waiting, counted): (Vec<String>, Vec<String>) =
            before.into_iter().partition(|uid| held.contains(uid.as_str()));
        if !counted.is_empty() {
            *counter = Some(counter.unwrap_or(0) + count_of(counted.len()));
        }
        *list = (!waiting.is_empty()).then_some(waiting);
    };
    let mut notes = status.uncounted_terminated_pods.take().unwrap_or_default();
    settle(&mut notes.succeeded, &mut status.succeeded);
    settle(&mut notes.failed, &mut status.failed);
    status.uncounted_terminated_pods = Some(notes);
}

/// Notes a pod where it counts; false where there is no room for it now.
fn note(view: &View<'_>, pod: &Pod, succeeded: bool, status: &mut JobStatus) -> bool {
    let notes = status.uncounted_terminated_pods.get_or_insert_default();
    let length = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
    if length(&notes.succeeded) + length(&notes.failed) >= NOTED_MAX {
        return false;
    }
    let pod_uid = uid(&pod.metadata);
    let known = |list: &Option<Vec<String>>| list.iter().flatten().any(|known| known == pod_uid);
    if known(&notes.succeeded) || known(&notes.failed) {
        return true;
    }
    let indexed = view.is_indexed();
    let valid = !indexed || view.valid_index(pod).is_some();
    if succeeded && !indexed {
        notes.succeeded.get_or_insert_default().push(pod_uid.to_string());
    } else if !succeeded && valid && verdict(view.job, pod) != Verdict::Ignore {
        notes.failed.get_or_insert_default().push(pod_uid.to_string());
    }
    true
}

/// Pods of a Job that ends, or is deleted, are held no longer. Where it fails, whatever has not succeeded
/// counts as failed.
pub fn release_rest(
    view: &View<'_>,
    ending: Option<Ending>,
    mut release: Vec<Arc<Pod>>,
    status: &mut JobStatus,
) -> Vec<Arc<Pod>> {
    if ending.is_none() && view.job.metadata.deletion_timestamp.is_none() {
        return release;
    }
    let chosen: BTreeSet<String> = release.iter().map(|pod| uid(&pod.metadata).to_string()).collect();
    let rest = view.pods.iter().filter(|pod| has_finalizer(pod));
    for pod in rest.filter(|pod| !chosen.contains(uid(&pod.metadata))) {
        if view.is_over(pod) || ending == Some(Ending::Failed) {
            if !note(view, pod, phase(pod) == "Succeeded", status) {
                break;
            }
        } else if ending == Some(Ending::Complete) && view.active.contains(pod) {
            // It goes with its finalizer.
            continue;
        }
        release.push(pod.clone());
    }
    release
}

/// The indexes that are not tried again.
fn fail_indexes(view: &View<'_>, status: &JobStatus, completed: &BTreeSet<i32>, limit: i32) -> BTreeSet<i32> {
    let mut failed = view.failed_indexes(status);
    for pod in view.pods.iter().filter(|pod| view.failed_its_index(pod)) {
        let Some(index) = view.valid_index(pod) else { continue };
        let told = verdict(view.job, pod) == Verdict::FailIndex;
        if !completed.contains(&index) && (told || view.failures_after(pod).counted > limit) {
            failed.insert(index);
        }
    }
    failed
}

/// Failed pods that alone know how often their index has failed: they are held until their successor, which
/// takes that number over, is there.
fn still_needed(
    view: &View<'_>,
    completed: &BTreeSet<i32>,
    failed: &BTreeSet<i32>,
    status: &JobStatus,
) -> BTreeSet<String> {
    let ends = ["FailureTarget", "SuccessCriteriaMet"];
    if ends.iter().any(|kind| condition(status, kind).is_some()) {
        return BTreeSet::new();
    }
    let alive: BTreeSet<i32> = view
        .pods
        .iter()
        .filter(|pod| !view.is_over(pod))
        .filter_map(|pod| index_of(pod))
        .collect();
    let settled = |index: &i32| alive.contains(index) || completed.contains(index) || failed.contains(index);
    view.last_failures()
        .into_iter()
        .filter(|(index, _)| !settled(index))
        .map(|(_, (_, pod))| uid(&pod.metadata).to_string())
        .collect()
}
