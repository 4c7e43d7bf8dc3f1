//! How many pods a Job starts or stops, and how long failures make it wait. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::slim::Pod;
use jiff::Timestamp;

use crate::key::{created, name, seconds_between, uid};
use crate::pods::{is_ready, is_terminating, node_name, phase};

use super::finish::succeeded;
use super::plan::{Action, Plan, count_of};
use super::pod::{New, index_of};
use super::view::View;

/// First wait after a failed pod; doubled per failure up to [`BACKOFF_MAX_SECONDS`].
const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_MAX_SECONDS: i64 = 600;
/// Pods started or stopped in one pass; upstream's limit.
const BURST_MAX: usize = 500;

/// Starts or stops pods; returns the seconds to wait where failures slow the Job down.
pub fn manage(view: &View<'_>, plan: &mut Plan) -> Option<i64> {
    let spec = view.job.spec.as_ref()?;
    let parallelism = spec.parallelism.unwrap_or(1);
    let succeeded = succeeded(view, &plan.status);
    let lost = count_of(view.failed_indexes(&plan.status).len());
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - succeeded - lost),
        // Without a number of completions, one success lets the rest run out.
        None if succeeded > 0 => count_of(view.active.len()),
        None => parallelism,
    };
    let wanted = usize::try_from(wanted).unwrap_or(0);
    let surplus = surplus(view, wanted);
    if !surplus.is_empty() {
        plan.actions.push(Action::Dismiss(surplus));
        return None;
    }
    // A pod on its way out that may still end well keeps its place until it is over.
    let leaving = view
        .pods
        .iter()
        .filter(|pod| is_terminating(pod) && !view.is_over(pod))
        .count();
    let missing = wanted.saturating_sub(view.active.len() + leaving).min(BURST_MAX);
    if missing == 0 {
        return None;
    }
    if !view.is_indexed() {
        if let Some(wait) = backoff(view, None) {
            return Some(wait);
        }
        plan.actions.push(Action::Create(vec![New::default(); missing]));
        return None;
    }
    create_indexed(view, missing, plan)
}

/// Active pods to send away: those of no index that the Job has, all but one of an index, and then as many as
/// there are too many; the least useful first.
fn surplus(view: &View<'_>, wanted: usize) -> Vec<Arc<Pod>> {
    let mut order = view.active.clone();
    order.sort_by_key(|pod| {
        (
            node_name(pod).is_some(),
            phase(pod) != "Pending",
            is_ready(pod),
            Reverse(created(&pod.metadata)),
            name(&pod.metadata).to_string(),
        )
    });
    let mut doomed = BTreeSet::new();
    if view.is_indexed() {
        // From the most useful one: the first of an index stays.
        let mut taken = BTreeSet::new();
        for pod in order.iter().rev() {
            if !view.valid_index(pod).is_some_and(|index| taken.insert(index)) {
                doomed.insert(uid(&pod.metadata).to_string());
            }
        }
    }
    let rest: Vec<String> = order
        .iter()
        .map(|pod| uid(&pod.metadata).to_string())
        .filter(|uid| !doomed.contains(uid))
        .collect();
    let too_many = rest.len().saturating_sub(wanted);
    doomed.extend(rest.into_iter().take(too_many));
    order.retain(|pod| doomed.contains(uid(&pod.metadata)));
    order.truncate(BURST_MAX);
    order
}

fn create_indexed(view: &View<'_>, missing: usize, plan: &mut Plan) -> Option<i64> {
    let per_index = view.limit_per_index().is_some();
    if !per_index && let Some(wait) = backoff(view, None) {
        return Some(wait);
    }
    let mut taken = view.completed(&plan.status);
    taken.extend(view.failed_indexes(&plan.status));
    taken.extend(
        view.pods
            .iter()
            .filter(|pod| !view.is_over(pod))
            .filter_map(|pod| index_of(pod)),
    );
    let failures = if per_index {
        view.last_failures()
    } else {
        BTreeMap::new()
    };
    let mut wait: Option<i64> = None;
    let free = (0..view.completions().unwrap_or(0)).filter(|index| !taken.contains(index));
    let due = free.filter(|index| match backoff(view, Some(*index)).filter(|_| per_index) {
        Some(seconds) => {
            wait = Some(wait.map_or(seconds, |known| known.min(seconds)));
            false
        }
        None => true,
    });
    let create: Vec<New> = due
        .take(missing)
        .map(|index| New {
            index: Some(index),
            failures: per_index.then(|| failures.get(&index).map(|(failures, _)| *failures).unwrap_or_default()),
        })
        .collect();
    if !create.is_empty() {
        plan.actions.push(Action::Create(create));
    }
    wait
}

fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let ends = statuses.filter_map(|container| container.state.as_ref()?.terminated.as_ref());
    let last = ends.filter_map(|end| end.finished_at.as_ref()).map(|time| time.0).max();
    // A pod that never ran has no containers that ended.
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unready = conditions.find(|known| known.type_ == "Ready" && known.status == "False");
    let unready = unready.and_then(|known| known.last_transition_time.as_ref());
    last.or(unready.map(|time| time.0))
        .or(pod.metadata.deletion_timestamp.as_ref().map(|time| time.0))
        .or(Some(created(&pod.metadata)))
}

/// Seconds to wait after the failures since the last success, of one index or of all.
fn backoff(view: &View<'_>, index: Option<i32>) -> Option<i64> {
    let concerned = || view.pods.iter().filter(|pod| index.is_none() || index_of(pod) == index);
    let succeeded = concerned().filter(|pod| phase(pod) == "Succeeded");
    let last_success = succeeded.filter_map(|pod| ended_at(pod)).max();
    let failed = concerned()
        .filter(|pod| phase(pod) == "Failed")
        .filter_map(|pod| ended_at(pod));
    let failed: Vec<Timestamp> = failed
        .filter(|at| last_success.is_none_or(|success| *at > success))
        .collect();
    let last = *failed.iter().max()?;
    let doublings = u32::try_from(failed.len() - 1).unwrap_or(20).min(20);
    let wait = (BACKOFF_SECONDS << doublings).min(BACKOFF_MAX_SECONDS);
    let left = wait - seconds_between(last, view.now);
    (left > 0).then_some(left)
}
