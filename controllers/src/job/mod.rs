//! Jobs: run pods to completion, and delete Jobs whose time to live after that is over.

mod count;
mod finish;
mod indexes;
mod manage;
mod orphans;
mod plan;
mod pod;
mod policy;
mod view;
#[cfg(test)]
mod world_test;

use std::sync::Arc;
use std::time::Duration;

use crate::slim::Pod;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::expectations::Expectations;
use crate::key::{Key, controller_reference, name, seconds_between, uid};
use crate::owned;
use crate::pods::{NewPod, create_in_batches};
use crate::queue::Queue;
use crate::worker::work;
use crate::written::Written;

use plan::Action;
use pod::{New, TRACKING, has_finalizer};

const WORKERS: usize = 5;
/// Pods of one Job that are deleted or released at a time.
const AT_ONCE: usize = 16;

struct Controller {
    context: Context,
    queue: Arc<Queue<Key>>,
    expectations: Arc<Expectations>,
    written: Written,
}

fn selector_of(job: &Job) -> LabelSelector {
    job.spec
        .as_ref()
        .and_then(|spec| spec.selector.clone())
        .unwrap_or_default()
}

pub fn start(jobs: Context, cleaner: Context, tasks: &mut JoinSet<()>) {
    start_cleaner(cleaner, tasks);
    let queue = Arc::new(Queue::new("job"));
    let expectations = Arc::new(Expectations::default());
    let shared = jobs.shared.clone();
    owned::watch(&jobs, "Job", &shared.jobs, &queue, &expectations, selector_of);
    orphans::start(&jobs, tasks);
    let controller = Arc::new(Controller {
        context: jobs.clone(),
        queue: queue.clone(),
        expectations,
        written: Written::default(),
    });
    tasks.spawn(async move {
        shared.jobs.synced().await;
        shared.pods.synced().await;
        let reconcile = |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        };
        work(jobs.name, queue, WORKERS, jobs.shutdown.clone(), reconcile).await;
    });
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(job) = self.context.shared.jobs.get(&key) else {
            self.written.forget(&key);
            return Ok(());
        };
        // The counts of an older state would have pods made again that were counted since.
        if self.written.is_behind(&job.metadata) {
            return Ok(());
        }
        let managed_elsewhere = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
        if managed_elsewhere.is_some_and(|manager| manager != "kubernetes.io/job-controller") {
            return Ok(());
        }
        let settled = self.expectations.satisfied(&key) && job.metadata.deletion_timestamp.is_none();
        let reference = controller_reference("batch/v1", "Job", &job.metadata);
        let wanted = selector_of(&job);
        let pods = owned::claim_pods(&self.context, job.as_ref(), &reference, &wanted, Some(TRACKING)).await?;
        let plan = plan::reconcile(&job, &pods, settled, Timestamp::now());
        let before = job.status.clone().unwrap_or_default();
        let mut result = Ok(());
        // Pods come and go first, so that the status is written once; what counts is written before any
        // finalizer goes.
        for action in plan
            .actions
            .iter()
            .filter(|action| !matches!(action, Action::Release(_)))
        {
            result = self.act(&job, action).await;
            if result.is_err() {
                break;
            }
        }
        if plan.status != before {
            let api: Api<Job> = Api::namespaced(self.context.client.clone(), &key.namespace);
            let mut updated = Job::clone(&job);
            updated.status = Some(plan.status.clone());
            let written = api.replace_status(&key.name, &PostParams::default(), &updated).await;
            let written = written.doing(|| format!("write the status of job {key}"))?;
            self.written.note(&written.metadata);
            self.announce(&job, &before, &plan.status);
        }
        for action in plan
            .actions
            .iter()
            .filter(|action| matches!(action, Action::Release(_)))
        {
            self.act(&job, action).await?;
        }
        if let Some(seconds) = plan.look_again_seconds {
            self.queue
                .add_after(key, Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1)));
        }
        match result {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            other => other,
        }
    }

    fn announce(
        &self,
        job: &Job,
        before: &k8s_openapi::api::batch::v1::JobStatus,
        after: &k8s_openapi::api::batch::v1::JobStatus,
    ) {
        let fresh = |kind| plan::condition(after, kind).filter(|_| plan::condition(before, kind).is_none());
        if fresh("Complete").is_some() {
            let wanted = job.spec.as_ref().and_then(|spec| spec.completions);
            if wanted.is_some_and(|wanted| after.succeeded.unwrap_or(0) > wanted) {
                let message = "Too many succeeded pods running after completion count reached";
                self.context.warning(job, "TooManySucceededPods", message.to_string());
            }
            self.context.normal(job, "Completed", "Job completed".to_string());
        }
        if let Some(failed) = fresh("Failed") {
            let reason = failed.reason.clone().unwrap_or_default();
            self.context
                .warning(job, &reason, failed.message.clone().unwrap_or_default());
        }
        if fresh("Suspended").is_some() {
            self.context.normal(job, "Suspended", "Job suspended".to_string());
        }
        if plan::condition(before, "Suspended").is_some() && plan::condition(after, "Suspended").is_none() {
            self.context.normal(job, "Resumed", "Job resumed".to_string());
        }
    }

    async fn act(&self, job: &Arc<Job>, action: &Action) -> Result<(), Error> {
        let key = Key::of(&job.metadata);
        let api: Api<NewPod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        match action {
            Action::Create(wanted) => self.create(job, &api, wanted).await,
            Action::Delete(pods) | Action::Dismiss(pods) => {
                // A Job that failed deletes without having seen all that it created.
                if matches!(action, Action::Dismiss(_)) {
                    let doomed = pods.iter().map(|pod| uid(&pod.metadata).to_string());
                    self.expectations.expect(&key, 0, doomed);
                }
                let counts = matches!(action, Action::Delete(_));
                each(pods, |pod| self.delete(job, &api, pod, counts)).await
            }
            Action::Release(pods) => each(pods, |pod| release(&api, pod)).await,
        }
    }

    /// `counts`: the pod counts as failed, so its finalizer stays until that is noted.
    async fn delete(&self, job: &Arc<Job>, api: &Api<NewPod>, pod: &Pod, counts: bool) -> Result<(), Error> {
        let (key, pod_name) = (Key::of(&job.metadata), name(&pod.metadata));
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        });
        let released = if counts || !has_finalizer(pod) {
            Ok(())
        } else {
            release(api, pod).await
        };
        let deleted = match released {
            Ok(()) => api.delete(pod_name, &parameters).await.map(|_| ()),
            Err(error) => {
                self.expectations.deleted(&key, uid(&pod.metadata));
                return Err(error);
            }
        };
        let deleted = deleted.doing(|| format!("delete pod {pod_name}"));
        match &deleted {
            Ok(()) => {
                let message = format!("Deleted pod: {pod_name}");
                self.context.normal(job.as_ref(), "SuccessfulDelete", message);
            }
            Err(error) => {
                self.expectations.deleted(&key, uid(&pod.metadata));
                if !error.is_not_found() {
                    let message = format!("Error deleting: {}", error.message());
                    self.context.warning(job.as_ref(), "FailedDelete", message);
                }
            }
        }
        gone_is_fine(deleted)
    }

    async fn create(&self, job: &Arc<Job>, api: &Api<NewPod>, wanted: &[New]) -> Result<(), Error> {
        let key = &Key::of(&job.metadata);
        let reference = &controller_reference("batch/v1", "Job", &job.metadata);
        self.expectations.expect(key, wanted.len(), []);
        let attempts = &std::sync::atomic::AtomicUsize::new(0);
        let (_, error) = create_in_batches(wanted.len(), |number| async move {
            attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let pod = pod::pod(job, &wanted[number], reference.clone());
            match api
                .create(&PostParams::default(), &pod)
                .await
                .doing(|| format!("create a pod for job {key}"))
            {
                Ok(made) => {
                    let message = format!("Created pod: {}", name(&made.metadata));
                    self.context.normal(job.as_ref(), "SuccessfulCreate", message);
                    Ok(())
                }
                Err(error) => {
                    self.expectations.created(key);
                    if !error.is_namespace_terminating() {
                        let message = format!("Error creating: {}", error.message());
                        self.context.warning(job.as_ref(), "FailedCreate", message);
                    }
                    Err(error)
                }
            }
        })
        .await;
        for _ in attempts.load(std::sync::atomic::Ordering::Relaxed)..wanted.len() {
            self.expectations.created(key);
        }
        error.map_or(Ok(()), Err)
    }
}

/// Does it to all pods, some at a time; all are tried, and the first failure is told.
async fn each<'a, Fut>(pods: &'a [Arc<Pod>], act: impl Fn(&'a Pod) -> Fut) -> Result<(), Error>
where
    Fut: Future<Output = Result<(), Error>>,
{
    let acts: Vec<Fut> = pods.iter().map(|pod| act(pod)).collect();
    let done: Vec<Result<(), Error>> = futures::stream::iter(acts).buffered(AT_ONCE).collect().await;
    done.into_iter().collect()
}

/// Takes the tracking finalizer away.
async fn release(api: &Api<NewPod>, pod: &Pod) -> Result<(), Error> {
    let pod_name = name(&pod.metadata);
    let patch = Patch::Strategic(json!({"metadata": {
        "uid": uid(&pod.metadata),
        "$deleteFromPrimitiveList/finalizers": [TRACKING],
    }}));
    let written = api.patch(pod_name, &PatchParams::default(), &patch).await;
    gone_is_fine(written.doing(|| format!("release pod {pod_name}")))
}

fn start_cleaner(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("ttl_jobs_to_delete"));
    let jobs = context.shared.jobs.clone();
    let has_ttl = |job: &Job| job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    jobs.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(job) = change
                .new
                .filter(|job| has_ttl(job).is_some() && plan::finished_at(job).is_some())
            {
                queue.add(Key::of(&job.metadata));
            }
        }
    });
    tasks.spawn(async move {
        jobs.synced().await;
        let reconcile = |key: Key| {
            let (context, queue) = (context.clone(), queue.clone());
            async move {
                let Some(job) = context.shared.jobs.get(&key) else {
                    return Ok(());
                };
                let Some((ttl, since)) = has_ttl(&job).zip(plan::finished_at(&job)) else {
                    return Ok(());
                };
                let left = i64::from(ttl) - seconds_between(since, Timestamp::now());
                if left > 0 {
                    queue.add_after(key, Duration::from_secs(u64::try_from(left).unwrap_or(1)));
                    return Ok(());
                }
                let api: Api<Job> = Api::namespaced(context.client.clone(), &key.namespace);
                let parameters = DeleteParams::foreground().preconditions(Preconditions {
                    uid: job.metadata.uid.clone(),
                    resource_version: job.metadata.resource_version.clone(),
                });
                gone_is_fine(
                    api.delete(&key.name, &parameters)
                        .await
                        .doing(|| format!("delete finished job {key}")),
                )
            }
        };
        work(context.name, queue.clone(), 1, context.shutdown.clone(), reconcile).await;
    });
}
