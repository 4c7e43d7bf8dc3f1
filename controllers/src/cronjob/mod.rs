//! CronJobs: start Jobs when their time has come.

mod plan;
pub(crate) mod schedule;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, controller_of, name, namespace, uid};
use crate::queue::Queue;
use crate::shared::owned_by;
use crate::worker::work;
use crate::written::Written;

const WORKERS: usize = 5;

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("cronjob"));
    let shared = context.shared.clone();
    shared.cron_jobs.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(cron) = change.new {
                queue.add(Key::of(&cron.metadata));
            }
        }
    });
    shared.jobs.on_change({
        let queue = queue.clone();
        move |change| {
            let Some(job) = change.object() else { return };
            if let Some(owner) = controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob") {
                queue.add(Key::new(namespace(&job.metadata), &owner.name));
            }
        }
    });
    let written = Arc::new(Written::default());
    tasks.spawn(async move {
        shared.cron_jobs.synced().await;
        shared.jobs.synced().await;
        let reconcile = |key| {
            let (context, queue, written) = (context.clone(), queue.clone(), written.clone());
            async move { reconcile(&context, &queue, &written, key).await }
        };
        work(
            context.name,
            queue.clone(),
            WORKERS,
            context.shutdown.clone(),
            reconcile,
        )
        .await;
    });
}

async fn reconcile(context: &Context, queue: &Queue<Key>, own: &Written, key: Key) -> Result<(), Error> {
    let Some(cron) = context.shared.cron_jobs.get(&key) else {
        own.forget(&key);
        return Ok(());
    };
    // An older state does not list the Jobs that were started since.
    if own.is_behind(&cron.metadata) {
        return Ok(());
    }
    let jobs = owned_jobs(context, &cron).await?;
    let now = Timestamp::now();
    let plan = plan::plan(&cron, &jobs, now);
    for note in &plan.notes {
        let kind = if note.warning { "Warning" } else { "Normal" };
        context.event(cron.as_ref(), kind, note.reason, note.message.clone());
    }
    for job in &plan.delete {
        delete(context, &cron, job).await?;
    }
    let mut status = plan.status;
    if let Some((job, at)) = &plan.create {
        // What was settled is kept even if the creation fails.
        match create(context, &cron, job).await {
            Ok(Some(job)) => plan::started(&mut status, &job, *at),
            Ok(None) => {}
            Err(error) => {
                write_status(context, own, &cron, status).await?;
                return Err(error);
            }
        }
    }
    write_status(context, own, &cron, status).await?;
    if let Some(at) = plan.look_again {
        let wait = at.duration_since(now).unsigned_abs();
        queue.add_after(key, wait + Duration::from_millis(10));
    }
    Ok(())
}

/// The cache's Jobs of this CronJob, and those just created that it does not show yet.
async fn owned_jobs(context: &Context, cron: &CronJob) -> Result<Vec<Arc<Job>>, Error> {
    let mut jobs = context.shared.jobs.indexed(&owned_by(uid(&cron.metadata)));
    let active = cron.status.iter().flat_map(|status| status.active.iter().flatten());
    for listed in active {
        if jobs.iter().any(|job| job.metadata.uid == listed.uid) {
            continue;
        }
        let api: Api<Job> = Api::namespaced(context.client.clone(), namespace(&cron.metadata));
        let job_name = listed.name.as_deref().unwrap_or("");
        let found = api
            .get_opt(job_name)
            .await
            .doing(|| format!("look for job {job_name}"))?;
        jobs.extend(found.filter(|job| job.metadata.uid == listed.uid).map(Arc::new));
    }
    Ok(jobs)
}

async fn delete(context: &Context, cron: &CronJob, job: &Job) -> Result<(), Error> {
    let job_name = name(&job.metadata);
    let api: Api<Job> = Api::namespaced(context.client.clone(), namespace(&cron.metadata));
    let parameters = DeleteParams::background().preconditions(Preconditions {
        uid: job.metadata.uid.clone(),
        resource_version: None,
    });
    let deleted = api.delete(job_name, &parameters).await;
    gone_is_fine(deleted.doing(|| format!("delete job {job_name}")))?;
    context.normal(cron, "SuccessfulDelete", format!("Deleted job {job_name}"));
    Ok(())
}

async fn create(context: &Context, cron: &CronJob, job: &Job) -> Result<Option<Job>, Error> {
    let job_name = name(&job.metadata);
    let api: Api<Job> = Api::namespaced(context.client.clone(), namespace(&cron.metadata));
    let made = api.create(&PostParams::default(), job).await;
    match made.doing(|| format!("create job {job_name}")) {
        Ok(made) => {
            context.normal(cron, "SuccessfulCreate", format!("Created job {job_name}"));
            Ok(Some(made))
        }
        Err(error) if error.is_already_exists() => {
            let found = api.get_opt(job_name).await.doing(|| format!("read job {job_name}"))?;
            Ok(found.filter(|job| controller_of(&job.metadata).is_some_and(|owner| owner.uid == uid(&cron.metadata))))
        }
        Err(error) if error.is_namespace_terminating() => Ok(None),
        Err(error) => {
            let message = format!("Error creating job: {}", error.message());
            context.warning(cron, "FailedCreate", message);
            Err(error)
        }
    }
}

async fn write_status(context: &Context, own: &Written, cron: &CronJob, status: CronJobStatus) -> Result<(), Error> {
    if cron.status.clone().unwrap_or_default() == status {
        return Ok(());
    }
    let key = Key::of(&cron.metadata);
    let api: Api<CronJob> = Api::namespaced(context.client.clone(), &key.namespace);
    let mut updated = cron.clone();
    updated.status = Some(status);
    let written = api.replace_status(&key.name, &PostParams::default(), &updated).await;
    let written = written.doing(|| format!("write the status of cron job {key}"));
    if let Ok(written) = &written {
        own.note(&written.metadata);
    }
    gone_is_fine(written)
}
