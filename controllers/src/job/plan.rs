//! How many pods a Job starts or stops, which finished pods it counts, and when it is over. Pure.
//!
//! A finished pod is counted exactly once: its uid is first noted in the status, then its finalizer is
//! taken away, and only then it moves from the notes to the counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};

use crate::key::{created, name, seconds_between, time, uid};
use crate::pods::{is_active, is_finished, is_ready, is_terminating, node_name, phase};

use super::indexes;
use super::pod::{Failures, New, failures_before, has_finalizer, index_of};
use super::policy::{Verdict, succeeded as success_policy, verdict};

/// First wait after a failed pod; doubled per failure up to [`BACKOFF_MAX_SECONDS`].
const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_MAX_SECONDS: i64 = 600;
/// Pods started or stopped in one pass; upstream's limit.
const BURST_MAX: usize = 500;

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(Vec<New>),
    /// Because the Job is over: they count as failed.
    Delete(Vec<Arc<Pod>>),
    /// Because fewer are wanted: they do not count, so the finalizer goes first.
    Dismiss(Vec<Arc<Pod>>),
    /// Take the finalizer away; only after the status is written.
    Release(Vec<Arc<Pod>>),
}

#[derive(Debug)]
pub struct Plan {
    pub status: JobStatus,
    pub actions: Vec<Action>,
    pub look_again_seconds: Option<i64>,
}

/// The Job and its pods, sorted into what matters here.
struct View<'a> {
    job: &'a Job,
    pods: &'a [Arc<Pod>],
    active: Vec<Arc<Pod>>,
    now: Timestamp,
}

fn count_of(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

pub fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|known| known.type_ == kind && known.status == "True")
}

pub fn finished_at(job: &Job) -> Option<Timestamp> {
    let status = job.status.as_ref()?;
    let over = condition(status, "Complete").or_else(|| condition(status, "Failed"))?;
    over.last_transition_time.as_ref().map(|time| time.0)
}

fn set_condition(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().position(|known| known.type_ == kind);
    if known.is_some_and(|index| conditions[index].status == value) {
        return;
    }
    let wanted = JobCondition {
        type_: kind.to_string(),
        status: value.to_string(),
        reason: Some(reason.to_string()),
        message: Some(message.to_string()),
        last_probe_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    };
    match known {
        Some(index) => conditions[index] = wanted,
        None => conditions.push(wanted),
    }
}

impl View<'_> {
    fn is_indexed(&self) -> bool {
        self.job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
    }

    fn completions(&self) -> Option<i32> {
        self.job.spec.as_ref()?.completions
    }

    fn limit_per_index(&self) -> Option<i32> {
        self.job.spec.as_ref()?.backoff_limit_per_index
    }

    /// Whether a pod on its way out is replaced, and counted, only once it has really failed.
    fn waits_for_failure(&self) -> bool {
        self.job.spec.as_ref().is_some_and(|spec| {
            spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
        })
    }

    fn has_failed(&self, pod: &Pod) -> bool {
        match phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            // Nobody could still finish a pod without a node.
            _ => is_terminating(pod) && (!self.waits_for_failure() || node_name(pod).is_none()),
        }
    }

    fn is_over(&self, pod: &Pod) -> bool {
        phase(pod) == "Succeeded" || self.has_failed(pod)
    }

    fn completed(&self, status: &JobStatus) -> BTreeSet<i32> {
        let text = status.completed_indexes.as_deref().unwrap_or("");
        indexes::parse(text, self.completions().unwrap_or(0))
    }

    fn failed_indexes(&self, status: &JobStatus) -> BTreeSet<i32> {
        let text = status.failed_indexes.as_deref().unwrap_or("");
        indexes::parse(text, self.completions().unwrap_or(0))
    }

    /// Failed, and not merely sent away because fewer pods were wanted.
    fn failed_its_index(&self, pod: &Pod) -> bool {
        self.has_failed(pod) && (has_finalizer(pod) || !is_terminating(pod))
    }

    /// The failures of its index that this failed pod stands for, itself included.
    fn failures_after(&self, pod: &Pod) -> Failures {
        let mut failures = failures_before(pod);
        if verdict(self.job, pod) == Verdict::Ignore {
            failures.ignored += 1;
        } else {
            failures.counted += 1;
        }
        failures
    }

    /// Of each index, the failed pod that knows of the most failures.
    fn last_failures(&self) -> BTreeMap<i32, (Failures, &Arc<Pod>)> {
        let mut last: BTreeMap<i32, (Failures, &Arc<Pod>)> = BTreeMap::new();
        for pod in self.pods.iter().filter(|pod| self.failed_its_index(pod)) {
            let Some(index) = index_of(pod) else { continue };
            let failures = self.failures_after(pod);
            let total = |failures: &Failures| failures.counted + failures.ignored;
            match last.get(&index) {
                Some((known, _)) if total(known) >= total(&failures) => {}
                _ => {
                    last.insert(index, (failures, pod));
                }
            }
        }
        last
    }
}

/// Why a Job ends.
enum End {
    Success(&'static str, String),
    Failure(&'static str, String),
}

pub fn reconcile(job: &Job, pods: &[Arc<Pod>], settled: bool, now: Timestamp) -> Plan {
    let view = &View {
        job,
        pods,
        active: pods.iter().filter(|pod| is_active(pod)).cloned().collect(),
        now,
    };
    let spec = job.spec.clone().unwrap_or_default();
    let mut status = job.status.clone().unwrap_or_default();
    let mut actions = Vec::new();
    let suspended = spec.suspend == Some(true);
    if status.start_time.is_none() && !suspended {
        status.start_time = Some(time(now));
    }
    count(view, &mut status, &mut actions);
    let leaving = pods
        .iter()
        .filter(|pod| is_terminating(pod) && !is_finished(pod))
        .count();
    status.terminating = Some(count_of(leaving));
    let mut plan = Plan {
        status,
        actions,
        look_again_seconds: None,
    };
    let deadline = spec
        .active_deadline_seconds
        .zip(plan.status.start_time.as_ref().map(|time| time.0));
    let left = deadline.map(|(seconds, since)| seconds - seconds_between(since, now));
    let over = finished_at(job).is_some();
    let running = if over || finish(view, left.filter(|_| !suspended), &mut plan) {
        if !view.active.is_empty() {
            plan.actions.push(Action::Delete(view.active.clone()));
        }
        0
    } else if suspended {
        plan.status.start_time = None;
        set_condition(
            &mut plan.status,
            "Suspended",
            "True",
            "JobSuspended",
            "Job suspended",
            now,
        );
        if !view.active.is_empty() {
            plan.actions.push(Action::Dismiss(view.active.clone()));
        }
        0
    } else {
        if condition(&plan.status, "Suspended").is_some() {
            set_condition(&mut plan.status, "Suspended", "False", "JobResumed", "Job resumed", now);
            plan.status.start_time = Some(time(now));
        }
        plan.look_again_seconds = left;
        if settled {
            let wait = manage(view, &mut plan);
            plan.look_again_seconds = [plan.look_again_seconds, wait].into_iter().flatten().min();
        }
        view.active.len()
    };
    plan.status.active = (running > 0).then(|| count_of(running));
    let ready = view.active.iter().filter(|pod| is_ready(pod)).count();
    plan.status.ready = Some(if running > 0 { count_of(ready) } else { 0 });
    plan
}

fn noted(list: Option<&Vec<String>>) -> i32 {
    list.map_or(0, |list| count_of(list.len()))
}

/// Whether the Job is over or about to be; says so in the conditions.
fn finish(view: &View<'_>, left: Option<i64>, plan: &mut Plan) -> bool {
    let status = &mut plan.status;
    // What was decided stays decided.
    let decided = |kind: &str| {
        let known = condition(status, kind)?;
        Some((
            known.reason.clone().unwrap_or_default(),
            known.message.clone().unwrap_or_default(),
        ))
    };
    let (early, late, reason, message) = if let Some((reason, message)) = decided("FailureTarget") {
        ("FailureTarget", "Failed", reason, message)
    } else if let Some((reason, message)) = decided("SuccessCriteriaMet") {
        ("SuccessCriteriaMet", "Complete", reason, message)
    } else {
        match end(view, left, status) {
            None => return false,
            Some(End::Failure(reason, message)) => ("FailureTarget", "Failed", reason.to_string(), message),
            Some(End::Success(reason, message)) => ("SuccessCriteriaMet", "Complete", reason.to_string(), message),
        }
    };
    let now = view.now;
    set_condition(status, early, "True", &reason, &message, now);
    let notes = status.uncounted_terminated_pods.as_ref();
    let uncounted = notes.map_or(0, |notes| {
        noted(notes.failed.as_ref()) + noted(notes.succeeded.as_ref())
    });
    if view.active.is_empty() && status.terminating == Some(0) && uncounted == 0 {
        set_condition(status, late, "True", &reason, &message, now);
        if late == "Complete" {
            status.completion_time = Some(time(now));
        }
    }
    true
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
        if let Some(message) = success_policy(view.job, &completed) {
            return Some(End::Success("SuccessPolicy", message));
        }
        let all = completed.len() + failed_indexes.len();
        if !failed_indexes.is_empty() && spec.completions.is_some_and(|wanted| count_of(all) >= wanted) {
            return Some(End::Failure("FailedIndexes", "Job has failed indexes".to_string()));
        }
    }
    let succeeded = succeeded(view, status);
    let complete = match spec.completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && view.active.is_empty(),
    };
    complete.then(|| {
        End::Success(
            "CompletionsReached",
            "Reached expected number of succeeded pods".to_string(),
        )
    })
}

fn succeeded(view: &View<'_>, status: &JobStatus) -> i32 {
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

/// Moves finished pods through the notes into the counts.
fn count(view: &View<'_>, status: &mut JobStatus, actions: &mut Vec<Action>) {
    let mut notes = status.uncounted_terminated_pods.take().unwrap_or_default();
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
    settle(&mut notes.succeeded, &mut status.succeeded);
    settle(&mut notes.failed, &mut status.failed);
    let indexed = view.is_indexed();
    let mut completed = view.completed(status);
    // An index that succeeded is known before its failures are judged.
    for pod in view
        .pods
        .iter()
        .filter(|pod| indexed && phase(pod) == "Succeeded" && has_finalizer(pod))
    {
        completed.extend(index_of(pod).filter(|index| Some(*index) < view.completions()));
    }
    let failed_indexes = view
        .limit_per_index()
        .map(|limit| fail_indexes(view, status, &completed, limit));
    let kept = if failed_indexes.is_some() {
        still_needed(view, &completed, failed_indexes.as_ref(), status)
    } else {
        BTreeSet::new()
    };
    let mut counted_before = view.completed(status);
    let mut release = Vec::new();
    for pod in view.pods.iter().filter(|pod| has_finalizer(pod) && view.is_over(pod)) {
        let pod_uid = uid(&pod.metadata);
        if kept.contains(pod_uid) {
            continue;
        }
        let succeeded = phase(pod) == "Succeeded";
        let list = if succeeded {
            &mut notes.succeeded
        } else {
            &mut notes.failed
        };
        if !list.iter().flatten().any(|known| known == pod_uid) {
            let counts = match index_of(pod).filter(|_| indexed) {
                // An index that succeeded twice counts once.
                Some(index) if succeeded => completed.contains(&index) && counted_before.insert(index),
                _ => succeeded || verdict(view.job, pod) != Verdict::Ignore,
            };
            if counts {
                list.get_or_insert_default().push(pod_uid.to_string());
            }
        }
        release.push(pod.clone());
    }
    if indexed && (!completed.is_empty() || status.completed_indexes.is_some()) {
        status.completed_indexes = Some(indexes::format(&completed));
    }
    if let Some(failed_indexes) = failed_indexes {
        status.failed_indexes = Some(indexes::format(&failed_indexes));
    }
    status.uncounted_terminated_pods = Some(notes);
    if !release.is_empty() {
        actions.push(Action::Release(release));
    }
}

/// The indexes that are not tried again.
fn fail_indexes(view: &View<'_>, status: &JobStatus, completed: &BTreeSet<i32>, limit: i32) -> BTreeSet<i32> {
    let mut failed = view.failed_indexes(status);
    for pod in view.pods.iter().filter(|pod| view.failed_its_index(pod)) {
        let Some(index) = index_of(pod).filter(|index| Some(*index) < view.completions()) else {
            continue;
        };
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
    failed: Option<&BTreeSet<i32>>,
    status: &JobStatus,
) -> BTreeSet<String> {
    if finished_at(view.job).is_some() || condition(status, "FailureTarget").is_some() {
        return BTreeSet::new();
    }
    let alive: BTreeSet<i32> = view
        .pods
        .iter()
        .filter(|pod| !view.is_over(pod))
        .filter_map(|pod| index_of(pod))
        .collect();
    let settled = |index: &i32| {
        alive.contains(index) || completed.contains(index) || failed.is_some_and(|failed| failed.contains(index))
    };
    view.last_failures()
        .into_iter()
        .filter(|(index, _)| !settled(index))
        .map(|(_, (_, pod))| uid(&pod.metadata).to_string())
        .collect()
}

/// Starts or stops pods; returns the seconds to wait where failures slow the Job down.
fn manage(view: &View<'_>, plan: &mut Plan) -> Option<i64> {
    let spec = view.job.spec.as_ref()?;
    let parallelism = spec.parallelism.unwrap_or(1);
    let succeeded = succeeded(view, &plan.status);
    let lost = count_of(view.failed_indexes(&plan.status).len());
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - succeeded - lost),
        // Without a number of completions, one success lets the rest run out.
        None if succeeded > 0 => count_of(view.active.len()).min(parallelism),
        None => parallelism,
    };
    let wanted = usize::try_from(wanted).unwrap_or(0);
    let beyond = |pod: &Pod| view.is_indexed() && index_of(pod) >= spec.completions;
    if view.active.len() > wanted || view.active.iter().any(|pod| beyond(pod)) {
        let mut surplus = view.active.clone();
        surplus.sort_by_key(|pod| {
            (
                !beyond(pod),
                is_ready(pod),
                std::cmp::Reverse(created(&pod.metadata)),
                name(&pod.metadata).to_string(),
            )
        });
        let outside = surplus.iter().filter(|pod| beyond(pod)).count();
        surplus.truncate(view.active.len().saturating_sub(wanted).max(outside).min(BURST_MAX));
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
    last.or(pod.metadata.deletion_timestamp.as_ref().map(|time| time.0))
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

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
