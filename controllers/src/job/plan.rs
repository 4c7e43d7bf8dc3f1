//! How many pods a Job starts or stops, which finished pods it counts, and when it is over. Pure.
//!
//! A finished pod is counted exactly once: its uid is first noted in the status, then its finalizer is
//! taken away, and only then it moves from the notes to the counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::key::{annotation, created, name, namespace, seconds_between, time, uid};
use crate::pods::{from_template, is_active, is_finished, is_ready, is_terminating, node_name, phase};

pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// First wait after a failed pod; doubled per failure up to [`BACKOFF_MAX_SECONDS`].
const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_MAX_SECONDS: i64 = 600;
/// Pods started or stopped in one pass; upstream's limit.
const BURST_MAX: usize = 500;

#[derive(Debug, PartialEq)]
pub enum Action {
    /// One pod per entry; the index where the Job is indexed.
    Create(Vec<Option<i32>>),
    Delete(Vec<Arc<Pod>>),
    /// Take the finalizer away; only after the status is written.
    Release(Vec<Arc<Pod>>),
}

#[derive(Debug)]
pub struct Plan {
    pub status: JobStatus,
    pub actions: Vec<Action>,
    pub look_again_seconds: Option<i64>,
}

pub fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|known| known == TRACKING)
}

/// Finished, or on its way out without any node that could still finish it.
fn is_over(pod: &Pod) -> bool {
    is_finished(pod) || is_terminating(pod) && node_name(pod).is_none()
}

pub fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
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

/// `1,3-5` to numbers.
fn parse_indexes(text: &str) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<i32>(), to.parse::<i32>()) {
            indexes.extend(from..=to);
        }
    }
    indexes
}

/// Numbers to `1,3-5`; two neighbours stay apart, as upstream writes them.
fn format_indexes(indexes: &BTreeSet<i32>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut run: Option<(i32, i32)> = None;
    let mut flush = |run: Option<(i32, i32)>| match run {
        Some((from, to)) if to > from + 1 => parts.push(format!("{from}-{to}")),
        Some((from, to)) => parts.extend((from..=to).map(|index| index.to_string())),
        None => {}
    };
    for &index in indexes {
        run = match run {
            Some((from, to)) if index == to + 1 => Some((from, index)),
            other => {
                flush(other);
                Some((index, index))
            }
        };
    }
    flush(run);
    parts.join(",")
}

fn index_of(pod: &Pod) -> Option<i32> {
    annotation(&pod.metadata, INDEX)?.parse().ok()
}

pub fn reconcile(job: &Job, pods: &[Arc<Pod>], settled: bool, now: Timestamp) -> Plan {
    let spec = job.spec.clone().unwrap_or_default();
    let mut status = job.status.clone().unwrap_or_default();
    let mut actions = Vec::new();
    let was_over = finished_at(job).is_some();
    let suspended = spec.suspend == Some(true);
    if status.start_time.is_none() && !suspended {
        status.start_time = Some(time(now));
    }
    count(job, pods, &mut status, &mut actions);
    let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
    let terminating = pods
        .iter()
        .filter(|pod| is_terminating(pod) && !is_finished(pod))
        .count();
    if was_over {
        status.active = None;
        status.ready = Some(0);
        status.terminating = Some(i32::try_from(terminating).unwrap_or(i32::MAX));
        if !active.is_empty() {
            actions.push(Action::Delete(active));
        }
        return Plan {
            status,
            actions,
            look_again_seconds: None,
        };
    }
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let noted = |list: &Option<Vec<String>>| i32::try_from(list.as_ref().map_or(0, Vec::len)).unwrap_or(i32::MAX);
    let failed = status.failed.unwrap_or(0) + noted(&uncounted.failed);
    let succeeded = if is_indexed(job) {
        i32::try_from(parse_indexes(status.completed_indexes.as_deref().unwrap_or("")).len()).unwrap_or(i32::MAX)
    } else {
        status.succeeded.unwrap_or(0) + noted(&uncounted.succeeded)
    };
    let mut look_again_seconds = None;
    let deadline = spec
        .active_deadline_seconds
        .zip(status.start_time.as_ref().map(|time| time.0));
    let left = deadline.map(|(seconds, since)| seconds - seconds_between(since, now));
    let complete = match spec.completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && active.is_empty(),
    };
    let failure = if failed > spec.backoff_limit.unwrap_or(6) {
        Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit"))
    } else if left.is_some_and(|left| left <= 0) && !suspended {
        Some(("DeadlineExceeded", "Job was active longer than specified deadline"))
    } else {
        None
    };
    let mut running = active.len();
    if complete || failure.is_some() {
        running = 0;
        let (early, late, reason, message) = match failure {
            Some((reason, message)) if !complete => ("FailureTarget", "Failed", reason, message),
            _ => (
                "SuccessCriteriaMet",
                "Complete",
                "CompletionsReached",
                "Reached expected number of succeeded pods",
            ),
        };
        set_condition(&mut status, early, "True", reason, message, now);
        if active.is_empty() && terminating == 0 && noted(&uncounted.failed) + noted(&uncounted.succeeded) == 0 {
            set_condition(&mut status, late, "True", reason, message, now);
            if late == "Complete" {
                status.completion_time = Some(time(now));
            }
        }
        if !active.is_empty() {
            actions.push(Action::Delete(active.clone()));
        }
    } else if suspended {
        running = 0;
        status.start_time = None;
        set_condition(&mut status, "Suspended", "True", "JobSuspended", "Job suspended", now);
        if !active.is_empty() {
            actions.push(Action::Delete(active.clone()));
        }
    } else {
        if condition(&status, "Suspended").is_some() {
            set_condition(&mut status, "Suspended", "False", "JobResumed", "Job resumed", now);
        }
        look_again_seconds = left;
        if settled {
            let wait = manage(job, &status, pods, &active, (succeeded, failed), &mut actions, now);
            look_again_seconds = [look_again_seconds, wait].into_iter().flatten().min();
        }
    }
    status.active = (running > 0).then(|| i32::try_from(running).unwrap_or(i32::MAX));
    let ready = active.iter().filter(|pod| is_ready(pod)).count();
    status.ready = Some(if running > 0 {
        i32::try_from(ready).unwrap_or(i32::MAX)
    } else {
        0
    });
    status.terminating = Some(i32::try_from(terminating).unwrap_or(i32::MAX));
    Plan {
        status,
        actions,
        look_again_seconds,
    }
}

/// Moves finished pods through the notes into the counts.
fn count(job: &Job, pods: &[Arc<Pod>], status: &mut JobStatus, actions: &mut Vec<Action>) {
    let mut notes = status.uncounted_terminated_pods.take().unwrap_or_default();
    let held: BTreeSet<&str> = pods
        .iter()
        .filter(|pod| has_finalizer(pod))
        .map(|pod| uid(&pod.metadata))
        .collect();
    let settle = |list: &mut Option<Vec<String>>, counter: &mut Option<i32>| {
        let before = list.take().unwrap_or_default();
        let (waiting, counted): (Vec<String>, Vec<String>) =
            before.into_iter().partition(|uid| held.contains(uid.as_str()));
        if !counted.is_empty() {
            *counter = Some(counter.unwrap_or(0) + i32::try_from(counted.len()).unwrap_or(0));
        }
        *list = (!waiting.is_empty()).then_some(waiting);
    };
    settle(&mut notes.succeeded, &mut status.succeeded);
    settle(&mut notes.failed, &mut status.failed);
    let mut indexes = parse_indexes(status.completed_indexes.as_deref().unwrap_or(""));
    let mut release = Vec::new();
    for pod in pods.iter().filter(|pod| has_finalizer(pod) && is_over(pod)) {
        let pod_uid = uid(&pod.metadata).to_string();
        let succeeded = phase(pod) == "Succeeded";
        let list = if succeeded {
            &mut notes.succeeded
        } else {
            &mut notes.failed
        };
        if !list.iter().flatten().any(|known| *known == pod_uid) {
            // An index that succeeded twice counts once.
            let again = succeeded && index_of(pod).is_some_and(|index| is_indexed(job) && !indexes.insert(index));
            if !again {
                list.get_or_insert_default().push(pod_uid);
            }
        }
        release.push(pod.clone());
    }
    if is_indexed(job) && !indexes.is_empty() {
        status.completed_indexes = Some(format_indexes(&indexes));
    }
    let empty = notes.succeeded.is_none() && notes.failed.is_none();
    status.uncounted_terminated_pods = Some(if empty {
        UncountedTerminatedPods::default()
    } else {
        notes
    });
    if !release.is_empty() {
        actions.push(Action::Release(release));
    }
}

/// Starts or stops pods; returns the seconds to wait where failures slow the Job down.
fn manage(
    job: &Job,
    status: &JobStatus,
    pods: &[Arc<Pod>],
    active: &[Arc<Pod>],
    (succeeded, failed): (i32, i32),
    actions: &mut Vec<Action>,
    now: Timestamp,
) -> Option<i64> {
    let spec = job.spec.as_ref()?;
    let parallelism = spec.parallelism.unwrap_or(1);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - succeeded),
        // Without a number of completions, one success lets the rest run out.
        None if succeeded > 0 => i32::try_from(active.len()).unwrap_or(i32::MAX).min(parallelism),
        None => parallelism,
    };
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if active.len() > wanted {
        let mut surplus = active.to_vec();
        surplus.sort_by_key(|pod| {
            (
                is_ready(pod),
                std::cmp::Reverse(created(&pod.metadata)),
                name(&pod.metadata).to_string(),
            )
        });
        surplus.truncate((active.len() - wanted).min(BURST_MAX));
        actions.push(Action::Delete(surplus));
        return None;
    }
    // A pod on its way out may still do its work; its place is filled when it is over.
    let leaving = pods.iter().filter(|pod| is_terminating(pod) && !is_over(pod)).count();
    let missing = wanted.saturating_sub(active.len() + leaving).min(BURST_MAX);
    if missing == 0 {
        return None;
    }
    if let Some(wait) = backoff(pods, failed, now) {
        return Some(wait);
    }
    let create = if is_indexed(job) {
        let mut taken = parse_indexes(status.completed_indexes.as_deref().unwrap_or(""));
        taken.extend(pods.iter().filter(|pod| !is_over(pod)).filter_map(|pod| index_of(pod)));
        let completions = spec.completions.unwrap_or(0);
        (0..completions)
            .filter(|index| !taken.contains(index))
            .take(missing)
            .map(Some)
            .collect()
    } else {
        vec![None; missing]
    };
    actions.push(Action::Create(create));
    None
}

fn backoff(pods: &[Arc<Pod>], failed: i32, now: Timestamp) -> Option<i64> {
    let ended = |pod: &Arc<Pod>| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let ends = statuses
            .iter()
            .filter_map(|container| container.state.as_ref()?.terminated.as_ref());
        ends.filter_map(|end| end.finished_at.as_ref()).map(|time| time.0).max()
    };
    let last = pods
        .iter()
        .filter(|pod| phase(pod) == "Failed")
        .filter_map(ended)
        .max()?;
    let doublings = u32::try_from(failed - 1).unwrap_or(0).min(20);
    let wait = (BACKOFF_SECONDS << doublings).min(BACKOFF_MAX_SECONDS);
    let left = wait - seconds_between(last, now);
    (left > 0).then_some(left)
}

pub fn pod(job: &Job, index: Option<i32>, owner: OwnerReference) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let own_name = name(&job.metadata);
    let mut pod = from_template(&template, namespace(&job.metadata), own_name, owner);
    pod.metadata
        .finalizers
        .get_or_insert_default()
        .push(TRACKING.to_string());
    let labels = pod.metadata.labels.get_or_insert_default();
    for prefix in ["", "batch.kubernetes.io/"] {
        labels.insert(format!("{prefix}controller-uid"), uid(&job.metadata).to_string());
        labels.insert(format!("{prefix}job-name"), own_name.to_string());
    }
    let Some(index) = index else { return pod };
    labels.insert(INDEX.to_string(), index.to_string());
    pod.metadata
        .annotations
        .get_or_insert_default()
        .insert(INDEX.to_string(), index.to_string());
    pod.metadata.generate_name = Some(format!("{own_name}-{index}-"));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname.get_or_insert_with(|| format!("{own_name}-{index}"));
    let variable = EnvVar {
        name: "JOB_COMPLETION_INDEX".to_string(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..Default::default()
        }),
    };
    let containers = spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten());
    for container in containers {
        container.env.get_or_insert_default().push(variable.clone());
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::{at, pod as bare};
    use k8s_openapi::api::batch::v1::JobSpec;

    fn job(completions: i32, parallelism: i32) -> Job {
        Job {
            spec: Some(JobSpec {
                completions: Some(completions),
                parallelism: Some(parallelism),
                backoff_limit: Some(1),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn tracked(name: &str, phase: &str) -> Arc<Pod> {
        let mut made = bare(name, phase, Some("n"), None);
        made.metadata.finalizers = Some(vec![TRACKING.to_string()]);
        Arc::new(made)
    }

    #[test]
    fn a_finished_pod_is_noted_then_counted_once() {
        let mut job = job(1, 1);
        let first = reconcile(&job, &[], true, at(1));
        assert_eq!(first.actions, [Action::Create(vec![None])]);
        let done = tracked("a", "Succeeded");
        let second = reconcile(&job, std::slice::from_ref(&done), true, at(2));
        assert_eq!(second.actions, [Action::Release(vec![done.clone()])]);
        assert_eq!(second.status.succeeded, None, "only noted so far");
        assert!(condition(&second.status, "Complete").is_none());
        job.status = Some(second.status);
        let again = reconcile(&job, &[done], true, at(3));
        assert_eq!(Some(&again.status), job.status.as_ref(), "noting twice changes nothing");
        let third = reconcile(&job, &[], true, at(4));
        assert_eq!(third.status.succeeded, Some(1));
        assert!(condition(&third.status, "Complete").is_some());
        job.status = Some(third.status);
        assert_eq!(reconcile(&job, &[], true, at(5)).actions, []);
    }

    #[test]
    fn too_many_failures_end_the_job() {
        let mut job = job(3, 2);
        job.status = Some(JobStatus {
            failed: Some(2),
            ..Default::default()
        });
        let active = tracked("a", "Running");
        let plan = reconcile(&job, std::slice::from_ref(&active), true, at(9));
        assert_eq!(plan.actions, [Action::Delete(vec![active])]);
        assert!(condition(&plan.status, "FailureTarget").is_some());
        assert!(condition(&plan.status, "Failed").is_none(), "a pod still runs");
    }

    #[test]
    fn indexes() {
        assert_eq!(format_indexes(&parse_indexes("0,2-4,6,7")), "0,2-4,6,7");
        let mut indexed = job(3, 3);
        indexed.spec.get_or_insert_default().completion_mode = Some("Indexed".to_string());
        indexed.status = Some(JobStatus {
            completed_indexes: Some("1".to_string()),
            ..Default::default()
        });
        assert_eq!(
            reconcile(&indexed, &[], true, at(1)).actions,
            [Action::Create(vec![Some(0), Some(2)])]
        );
    }
}
