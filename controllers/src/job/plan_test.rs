//! Tables for a Job's decisions.

use super::super::pod::{Failures, INDEX, TRACKING, pod as build};
use super::*;
use crate::key::controller_reference;
use crate::pods::testing::{at, pod as bare, seen};
use k8s_openapi::api::batch::v1::JobSpec;
use serde_json::{Value, json};

fn job(spec: Value) -> Job {
    let mut full = json!({"template": {}, "completions": 1, "parallelism": 1});
    full.as_object_mut()
        .expect("a map")
        .extend(spec.as_object().expect("a map").clone());
    serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": full})).expect("a job")
}

fn tracked(name: &str, phase: &str) -> Arc<Pod> {
    let mut made = bare(name, phase, Some("n"), None);
    made.metadata.finalizers = Some(vec![TRACKING.to_string()]);
    Arc::new(made)
}

/// A pod as the Job would make it for this index, in this phase.
fn indexed(job: &Job, new: &New, phase: &str) -> Arc<Pod> {
    let mut made = build(job, new, controller_reference("batch/v1", "Job", &job.metadata));
    let name = format!(
        "p-{}-{}",
        new.index.unwrap_or(0),
        new.failures.unwrap_or_default().counted
    );
    made.metadata.uid = Some(format!("uid-{name}"));
    made.metadata.name = Some(name);
    let mut made = seen(made);
    made.status = bare("x", phase, None, None).status;
    Arc::new(made)
}

fn at_index(index: i32, counted: i32) -> New {
    New {
        index: Some(index),
        failures: Some(Failures { counted, ignored: 0 }),
    }
}

fn reason(status: &JobStatus, kind: &str) -> Option<String> {
    condition(status, kind).and_then(|known| known.reason.clone())
}

#[test]
fn a_finished_pod_is_noted_then_counted_once() {
    let mut job = job(json!({}));
    let first = reconcile(&job, &[], true, at(1));
    assert_eq!(first.actions, [Action::Create(vec![New::default()])]);
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
    let mut job = job(json!({"completions": 3, "parallelism": 2, "backoffLimit": 1}));
    job.status = Some(JobStatus {
        failed: Some(2),
        ..Default::default()
    });
    let active = tracked("a", "Running");
    let plan = reconcile(&job, std::slice::from_ref(&active), true, at(9));
    assert_eq!(
        plan.actions,
        [Action::Delete(vec![active.clone()]), Action::Release(vec![active])],
        "it counts as failed"
    );
    let noted = plan
        .status
        .uncounted_terminated_pods
        .clone()
        .and_then(|notes| notes.failed);
    assert_eq!(noted, Some(vec!["uid-a".to_string()]));
    assert!(condition(&plan.status, "FailureTarget").is_some());
    assert!(condition(&plan.status, "Failed").is_none(), "a pod still runs");
}

#[test]
fn restarts_count_where_pods_restart_in_place() {
    let job = job(json!({"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure", "containers": []}}}));
    let with = |restarts: i32| {
        let mut pod = Pod::clone(&tracked("a", "Running"));
        let status = json!([{"name": "c", "ready": false, "image": "", "imageID": "", "restartCount": restarts}]);
        pod.status.as_mut().expect("a status").container_statuses = serde_json::from_value(status).ok();
        reason(&reconcile(&job, &[Arc::new(pod)], true, at(9)).status, "FailureTarget")
    };
    assert_eq!(with(1), None);
    assert_eq!(with(2).as_deref(), Some("BackoffLimitExceeded"));
}

#[test]
fn suspended_pods_do_not_count() {
    let mut job = job(json!({"suspend": true}));
    let active = tracked("a", "Running");
    let plan = reconcile(&job, std::slice::from_ref(&active), true, at(9));
    assert_eq!(plan.actions, [Action::Dismiss(vec![active])]);
    assert_eq!(plan.status.start_time, None);
    job.status = Some(plan.status);
    job.spec.get_or_insert_with(JobSpec::default).suspend = Some(false);
    let resumed = reconcile(&job, &[], true, at(20)).status;
    assert_eq!(resumed.start_time, Some(time(at(20))));
    assert!(condition(&resumed, "Suspended").is_none());
}

#[test]
fn a_pod_on_its_way_out_is_replaced_by_policy() {
    let mut leaving = Pod::clone(&tracked("a", "Running"));
    leaving.metadata.deletion_timestamp = Some(time(at(5)));
    let leaving = Arc::new(leaving);
    let by_default = reconcile(&job(json!({})), std::slice::from_ref(&leaving), true, at(30));
    let notes = by_default.status.uncounted_terminated_pods.expect("notes");
    assert_eq!(notes.failed.map(|failed| failed.len()), Some(1), "counted at once");
    assert!(by_default.actions.contains(&Action::Create(vec![New::default()])));
    let waits = reconcile(
        &job(json!({"podReplacementPolicy": "Failed"})),
        &[leaving],
        true,
        at(30),
    );
    assert_eq!(waits.actions, []);
    assert_eq!(waits.status.terminating, Some(1));
}

#[test]
fn indexes_are_filled() {
    let mut job = job(json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"}));
    job.status = Some(JobStatus {
        completed_indexes: Some("1".to_string()),
        ..Default::default()
    });
    let wanted = |index| New {
        index: Some(index),
        failures: None,
    };
    let plan = reconcile(&job, &[], true, at(1));
    assert_eq!(plan.actions, [Action::Create(vec![wanted(0), wanted(2)])]);
    // Fewer completions: what is beyond them no longer counts.
    job.spec.get_or_insert_with(JobSpec::default).completions = Some(1);
    assert_eq!(
        reconcile(&job, &[], true, at(1)).actions,
        [Action::Create(vec![wanted(0)])]
    );
}

#[test]
fn each_index_has_its_own_limit() {
    let mut job =
        job(json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1}));
    let failed = indexed(&job, &at_index(0, 0), "Failed");
    let other = indexed(&job, &at_index(1, 0), "Running");
    let plan = reconcile(&job, &[failed.clone(), other.clone()], true, at(100));
    // It is held until its successor knows its number.
    assert_eq!(plan.actions, [Action::Create(vec![at_index(0, 1)])]);
    let next = indexed(&job, &at_index(0, 1), "Running");
    let plan = reconcile(&job, &[failed.clone(), next, other], true, at(101));
    assert_eq!(plan.actions, [Action::Release(vec![failed.clone()])]);
    let next = indexed(&job, &at_index(0, 1), "Failed");
    let done = indexed(&job, &at_index(1, 0), "Succeeded");
    let plan = reconcile(&job, &[next, done], true, at(102));
    assert_eq!(plan.status.failed_indexes.as_deref(), Some("0"));
    assert_eq!(reason(&plan.status, "FailureTarget").as_deref(), Some("FailedIndexes"));
    job.spec.get_or_insert_with(JobSpec::default).max_failed_indexes = Some(0);
    let twice = indexed(&job, &at_index(0, 1), "Failed");
    let plan = reconcile(&job, &[twice], true, at(103));
    assert_eq!(
        reason(&plan.status, "FailureTarget").as_deref(),
        Some("MaxFailedIndexesExceeded")
    );
}

#[test]
fn policies_end_jobs_early() {
    let rules = json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onPodConditions": [{"type": "Ready", "status": "False"}]}]}});
    let plan = reconcile(&job(rules), &[tracked("a", "Failed")], true, at(9));
    assert_eq!(
        reason(&plan.status, "FailureTarget").as_deref(),
        Some("PodFailurePolicy")
    );
    let job = job(json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]}}));
    let new = |index| New {
        index: Some(index),
        failures: None,
    };
    let pods = [indexed(&job, &new(0), "Succeeded"), indexed(&job, &new(1), "Running")];
    assert_eq!(
        pods[0]
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(INDEX))
            .map(String::as_str),
        Some("0")
    );
    let plan = reconcile(&job, &pods, true, at(9));
    assert_eq!(
        reason(&plan.status, "SuccessCriteriaMet").as_deref(),
        Some("SuccessPolicy")
    );
    assert!(
        plan.actions.contains(&Action::Dismiss(vec![pods[1].clone()])),
        "it does not count"
    );
}

#[test]
fn one_pod_an_index_and_none_beyond() {
    let job = job(json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed"}));
    let new = |index| New {
        index: Some(index),
        failures: None,
    };
    let twin = |pod: &Arc<Pod>| {
        let mut twin = Pod::clone(pod);
        twin.metadata.uid = Some("twin".to_string());
        twin.metadata.creation_timestamp = Some(time(at(5)));
        Arc::new(twin)
    };
    let (first, second) = (indexed(&job, &new(0), "Running"), indexed(&job, &new(1), "Running"));
    let (double, beyond) = (twin(&first), indexed(&job, &new(2), "Running"));
    let mut without = Pod::clone(&second);
    (without.metadata.annotations, without.metadata.uid) = (None, Some("without".to_string()));
    let pods = [first, second, double, beyond, Arc::new(without)];
    let plan = reconcile(&job, &pods, true, at(9));
    let Some(Action::Dismiss(doomed)) = plan.actions.first() else {
        panic!("{:?}", plan.actions);
    };
    let mut uids: Vec<_> = doomed.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
    uids.sort();
    assert_eq!(uids, ["twin", "uid-p-2-0", "without"]);
}

#[test]
fn a_job_that_is_over_changes_no_more() {
    let mut job = job(json!({"completions": 1}));
    job.status = serde_json::from_value(json!({"succeeded": 1, "conditions": [
        {"type": "Complete", "status": "True", "lastTransitionTime": "1970-01-01T00:00:01Z"}]}))
    .ok();
    let plan = reconcile(&job, &[tracked("a", "Failed")], true, at(9));
    assert_eq!(Some(&plan.status), job.status.as_ref());
    assert!(matches!(&plan.actions[..], [Action::Release(pods)] if pods.len() == 1));
}

#[test]
fn failures_slow_the_job_down() {
    let failed = |name: &str, second: i64| {
        let mut pod = Pod::clone(&tracked(name, "Failed"));
        let status = json!([{"name": "c", "ready": false, "image": "", "imageID": "", "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, "finishedAt": time(at(second))}}}]);
        pod.status.as_mut().expect("a status").container_statuses = serde_json::from_value(status).ok();
        Arc::new(pod)
    };
    let job = job(json!({}));
    assert_eq!(
        reconcile(&job, &[failed("a", 100)], true, at(103)).look_again_seconds,
        Some(7)
    );
    assert_eq!(
        reconcile(&job, &[failed("a", 100), failed("b", 103)], true, at(103)).look_again_seconds,
        Some(20)
    );
    assert_eq!(
        reconcile(&job, &[failed("a", 100)], true, at(110)).look_again_seconds,
        None
    );
}
