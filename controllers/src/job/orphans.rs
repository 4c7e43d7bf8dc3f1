//! Frees pods that carry a Job's finalizer but belong to no Job any more: nobody counts them.

use std::sync::Arc;

use crate::slim::Pod;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error};
use crate::key::{Key, controller_of, namespace, uid};
use crate::pods::NewPod;
use crate::queue::Queue;
use crate::shared::{Shared, owned_by};
use crate::worker::work;

use super::pod::has_finalizer;
use super::release;

const WORKERS: usize = 2;

/// The Job that manages the pod, as far as its reference says; none where another kind does.
fn job_of(pod: &Pod) -> Option<(Key, String)> {
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "Job")?;
    Some((Key::new(namespace(&pod.metadata), &owner.name), owner.uid.clone()))
}

fn is_orphan(shared: &Shared, pod: &Pod) -> bool {
    has_finalizer(pod)
        && job_of(pod).is_none_or(|(key, wanted)| {
            let job = shared.jobs.get(&key);
            job.is_none_or(|job| uid(&job.metadata) != wanted)
        })
}

pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("job_orphan_pod"));
    let shared = context.shared.clone();
    shared.pods.on_change({
        let (queue, shared) = (queue.clone(), shared.clone());
        move |change| {
            if let Some(pod) = change.new.filter(|pod| is_orphan(&shared, pod)) {
                queue.add(Key::of(&pod.metadata));
            }
        }
    });
    shared.jobs.on_change({
        let (queue, shared) = (queue.clone(), shared.clone());
        move |change| {
            let (Some(job), None) = (change.old, change.new) else {
                return;
            };
            for pod in shared.pods.indexed(&owned_by(uid(&job.metadata))) {
                queue.add(Key::of(&pod.metadata));
            }
        }
    });
    let context = context.clone();
    tasks.spawn(async move {
        shared.jobs.synced().await;
        shared.pods.synced().await;
        let reconcile = |key| {
            let context = context.clone();
            async move { free(&context, key).await }
        };
        work("job-orphan-pods", queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

async fn free(context: &Context, key: Key) -> Result<(), Error> {
    let shared = &context.shared;
    let Some(pod) = shared.pods.get(&key).filter(|pod| is_orphan(shared, pod)) else {
        return Ok(());
    };
    if let Some((job, wanted)) = job_of(&pod) {
        // Our cache of Jobs may be behind that of pods.
        let api: Api<Job> = Api::namespaced(context.client.clone(), &job.namespace);
        let live = api.get_opt(&job.name).await.doing(|| format!("look for job {job}"))?;
        if live.is_some_and(|live| uid(&live.metadata) == wanted) {
            return Ok(());
        }
    }
    let api: Api<NewPod> = Api::namespaced(context.client.clone(), &key.namespace);
    release(&api, &pod).await
}
