//! How many pods a Job starts or stops, which finished pods it counts, and when it is over. Pure.
//!
//! A finished pod is counted exactly once: its uid is first noted in the status, then its finalizer is
//! taken away, and only then it moves from the notes to the counts.

use std::sync::Arc;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};

use crate::key::{seconds_between, time};
use crate::pods::{is_active, is_finished, is_ready, is_terminating};

use super::count::{count, release_rest};
use super::finish::{Ending, finish};
use super::manage::manage;
use super::pod::{New, has_finalizer};
use super::view::View;

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(Vec<New>),
    /// Because the Job has failed: they count as failed.
    Delete(Vec<Arc<Pod>>),
    /// Because fewer are wanted, or no more: they do not count, so the finalizer goes first.
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

pub fn count_of(length: usize) -> i32 {
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

pub fn set_condition(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
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

/// `settled`: every pod that was created or deleted is seen.
pub fn reconcile(job: &Job, pods: &[Arc<Pod>], settled: bool, now: Timestamp) -> Plan {
    let view = &View {
        job,
        pods,
        active: pods.iter().filter(|pod| is_active(pod)).cloned().collect(),
        now,
    };
    if finished_at(job).is_some() {
        return leave(view);
    }
    let spec = job.spec.clone().unwrap_or_default();
    let mut plan = Plan {
        status: job.status.clone().unwrap_or_default(),
        actions: Vec::new(),
        look_again_seconds: None,
    };
    let suspended = spec.suspend == Some(true);
    if plan.status.start_time.is_none() && !suspended {
        plan.status.start_time = Some(time(now));
    }
    let release = count(view, &mut plan.status);
    let leaving = pods
        .iter()
        .filter(|pod| is_terminating(pod) && !is_finished(pod))
        .count();
    plan.status.terminating = Some(count_of(leaving));
    let started = plan.status.start_time.as_ref().map(|time| time.0);
    let deadline = spec.active_deadline_seconds.zip(started).filter(|_| !suspended);
    let left = deadline.map(|(seconds, since)| seconds - seconds_between(since, now));
    let ending = finish(view, left, settled, &mut plan.status);
    let release = release_rest(view, ending, release, &mut plan.status);
    let mut running = 0;
    match ending {
        Some(_) if view.active.is_empty() => {}
        Some(Ending::Failed) => plan.actions.push(Action::Delete(view.active.clone())),
        Some(Ending::Complete) => plan.actions.push(Action::Dismiss(view.active.clone())),
        None => {
            plan.look_again_seconds = left;
            if settled {
                running = go_on(view, suspended, &mut plan);
            } else {
                running = view.active.len();
            }
        }
    }
    if !release.is_empty() {
        plan.actions.push(Action::Release(release));
    }
    plan.status.active = (running > 0).then(|| count_of(running));
    let ready = view.active.iter().filter(|pod| is_ready(pod)).count();
    plan.status.ready = Some(if running > 0 { count_of(ready) } else { 0 });
    plan
}

/// A Job that is over changes no more; nor does it hold pods.
fn leave(view: &View<'_>) -> Plan {
    let held: Vec<Arc<Pod>> = view.pods.iter().filter(|pod| has_finalizer(pod)).cloned().collect();
    Plan {
        status: view.job.status.clone().unwrap_or_default(),
        actions: if held.is_empty() {
            Vec::new()
        } else {
            vec![Action::Release(held)]
        },
        look_again_seconds: None,
    }
}

/// What a Job does that is not over; returns how many of its pods stay.
fn go_on(view: &View<'_>, suspended: bool, plan: &mut Plan) -> usize {
    let now = view.now;
    if suspended {
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
        return 0;
    }
    if condition(&plan.status, "Suspended").is_some() {
        set_condition(&mut plan.status, "Suspended", "False", "JobResumed", "Job resumed", now);
        // The deadline counts from when the Job went on.
        plan.status.start_time = Some(time(now));
    }
    let wait = manage(view, plan);
    plan.look_again_seconds = [plan.look_again_seconds, wait].into_iter().flatten().min();
    view.active.len()
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
