//! When a Job is over, and why. Pure.

use crate::pods::phase;
use k8s_openapi::api::batch::v1::JobStatus;

use crate::key::time;

use super::plan::{condition, count_of, set_condition};
use super::pod::has_finalizer;
use super::policy::{Verdict, succeeded as success_policy, verdict};
use super::view::View;

/// How a Job that is over, or about to be, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Complete,
    Failed,
}

/// Why a Job ends.
enum End {
    Success(&'static str, String),
    Failure(&'static str, String),
}

pub fn noted(list: Option<&Vec<String>>) -> i32 {
    list.map_or(0, |list| count_of(list.len()))
}

/// Whether the Job is over or about to be; says so in the conditions. `left`: seconds until its deadline.
pub fn finish(view: &View<'_>, left: Option<i64>, settled: bool, status: &mut JobStatus) -> Option<Ending> {
    // What was decided stays decided.
    let decided = |kind: &str| {
        let known = condition(status, kind)?;
        Some((
            known.reason.clone().unwrap_or_default(),
            known.message.clone().unwrap_or_default(),
        ))
    };
    let (ending, reason, message) = if let Some((reason, message)) = decided("SuccessCriteriaMet") {
        (Ending::Complete, reason, message)
    } else if let Some((reason, message)) = decided("FailureTarget") {
        (Ending::Failed, reason, message)
    } else {
        match end(view, left, status)? {
            End::Failure(reason, message) => (Ending::Failed, reason.to_string(), message),
            End::Success(reason, message) => (Ending::Complete, reason.to_string(), message),
        }
    };
    let (early, late) = match ending {
        Ending::Complete => ("SuccessCriteriaMet", "Complete"),
        Ending::Failed => ("FailureTarget", "Failed"),
    };
    let now = view.now;
    set_condition(status, early, "True", &reason, &message, now);
    let notes = status.uncounted_terminated_pods.as_ref();
    let uncounted = notes.map_or(0, |notes| {
        noted(notes.failed.as_ref()) + noted(notes.succeeded.as_ref())
    });
    let held = view.pods.iter().any(|pod| has_finalizer(pod));
    if settled && view.active.is_empty() && status.terminating == Some(0) && uncounted == 0 && !held {
        set_condition(status, late, "True", &reason, &message, now);
        if ending == Ending::Complete {
            status.completion_time = Some(time(now));
        }
    }
    Some(ending)
}

fn end(view: &View<'_>, left: Option<i64>, status: &JobStatus) -> Option<End> {
    let spec = view.job.spec.as_ref()?;
    let notes = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let failed = status.failed.unwrap_or(0) + noted(notes.failed.as_ref());
    let completed = view.completed(status);
    let failed_indexes = view.failed_indexes(status);
    let failures = view.pods.iter().filter(|pod| view.has_failed(pod));
    let fatal = failures
        .filter(|pod| has_finalizer(pod))
        .find_map(|pod| match verdict(view.job, pod) {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        });
    if let Some(message) = fatal {
        return Some(End::Failure("PodFailurePolicy", message));
    }
    let default_limit = if spec.backoff_limit_per_index.is_some() {
        i32::MAX
    } else {
        6
    };
    let limit = spec.backoff_limit.unwrap_or(default_limit);
    if failed > limit || restarts_exceed(view, limit) {
        let message = "Job has reached the specified backoff limit".to_string();
        return Some(End::Failure("BackoffLimitExceeded", message));
    }
    if left.is_some_and(|left| left <= 0) {
        let message = "Job was active longer than specified deadline".to_string();
        return Some(End::Failure("DeadlineExceeded", message));
    }
    if view.is_indexed() {
        if spec
            .max_failed_indexes
            .is_some_and(|limit| count_of(failed_indexes.len()) > limit)
        {
            let message = "Job has exceeded the specified maximal number of failed indexes".to_string();
            return Some(End::Failure("MaxFailedIndexesExceeded", message));
        }
        let all = completed.len() + failed_indexes.len();
        if !failed_indexes.is_empty() && spec.completions.is_some_and(|wanted| count_of(all) >= wanted) {
            return Some(End::Failure("FailedIndexes", "Job has failed indexes".to_string()));
        }
        if let Some(message) = success_policy(view.job, &completed) {
            return Some(End::Success("SuccessPolicy", message));
        }
    }
    let succeeded = succeeded(view, status);
    let complete = match spec.completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0,
    };
    // Pods that are too many are sent away before.
    (complete && view.active.is_empty()).then(|| {
        End::Success(
            "CompletionsReached",
            "Reached expected number of succeeded pods".to_string(),
        )
    })
}

pub fn succeeded(view: &View<'_>, status: &JobStatus) -> i32 {
    if view.is_indexed() {
        return count_of(view.completed(status).len());
    }
    let notes = status.uncounted_terminated_pods.as_ref();
    status.succeeded.unwrap_or(0) + notes.map_or(0, |notes| noted(notes.succeeded.as_ref()))
}

/// Pods that restart their containers in place never fail; their restarts count instead.
fn restarts_exceed(view: &View<'_>, limit: i32) -> bool {
    let template = view.job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let restarts: i32 = view
        .pods
        .iter()
        .filter(|pod| matches!(phase(pod), "Running" | "Pending"))
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|status| {
            let main = status.container_statuses.iter().flatten();
            main.chain(status.init_container_statuses.iter().flatten())
        })
        .map(|container| container.restart_count)
        .sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}
