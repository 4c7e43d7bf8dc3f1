//! DaemonSets: one pod on every node that fits.

mod backoff;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::slim::Pod;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::expectations::Expectations;
use crate::key::{Key, annotation, controller_reference, name, uid};
use crate::owned;
use crate::pods::{NewPod, create_in_batches, from_template, next_available_in, phase};
use crate::queue::Queue;
use crate::revisions;
use crate::shared::owned_by;
use crate::worker::work;

use backoff::Backoff;
use plan::Observed;

const WORKERS: usize = 2;
/// Pods that are deleted at a time.
const AT_ONCE: usize = 16;
/// The template's generation on the set, and on its pods.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const POD_GENERATION: &str = "pod-template-generation";
/// Pods created or deleted in one pass; upstream's burst.
const BURST_MAX: usize = 250;

struct Controller {
    context: Context,
    queue: Arc<Queue<Key>>,
    expectations: Arc<Expectations>,
    backoff: Backoff,
}

fn selector_of(set: &DaemonSet) -> LabelSelector {
    set.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
}

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::new("daemonset"));
    let expectations = Arc::new(Expectations::default());
    let shared = context.shared.clone();
    owned::watch(
        &context,
        "DaemonSet",
        &shared.daemon_sets,
        &queue,
        &expectations,
        selector_of,
    );
    shared.nodes.on_change({
        let (queue, sets) = (queue.clone(), shared.daemon_sets.clone());
        move |change| {
            if let (Some(old), Some(new)) = (change.old, change.new)
                && old.metadata.labels == new.metadata.labels
                && old.spec == new.spec
            {
                return;
            }
            for set in sets.list() {
                queue.add(Key::of(&set.metadata));
            }
        }
    });
    let controller = Arc::new(Controller {
        context: context.clone(),
        queue: queue.clone(),
        expectations,
        backoff: Backoff::default(),
    });
    tasks.spawn(async move {
        shared.daemon_sets.synced().await;
        shared.nodes.synced().await;
        shared.pods.synced().await;
        shared.controller_revisions.synced().await;
        let reconcile = |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let shared = &self.context.shared;
        let Some(set) = shared.daemon_sets.get(&key) else {
            return Ok(());
        };
        let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
            return Ok(());
        };
        let reference = controller_reference("apps/v1", "DaemonSet", &set.metadata);
        let history = shared.controller_revisions.indexed(&owned_by(uid(&set.metadata)));
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let planned = revisions::plan(
            &set.metadata,
            reference.clone(),
            &spec.template,
            &history,
            revisions::REVISION_HASH,
            collisions,
        );
        let revision = match revisions::sync(&self.context, planned).await {
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            other => other?,
        };
        let Some(revision) = revision else {
            let mut status = set.status.clone().unwrap_or_default();
            status.collision_count = Some(collisions.unwrap_or(0) + 1);
            self.write_status(&set, status).await?;
            return Err(Error::Again(format!("a revision name of daemon set {key} was taken")));
        };
        let hash = revisions::hash_of(&revision);
        let settled = self.expectations.satisfied(&key);
        let pods = owned::claim_pods(&self.context, set.as_ref(), &reference, &spec.selector, None).await?;
        let nodes = shared.nodes.list();
        let observed = Observed {
            set: &set,
            nodes: &nodes,
            pods: &pods,
            hash: &hash,
        };
        let now = Timestamp::now();
        let mut result = Ok(());
        if settled {
            let mut changes = plan::manage(&observed, now);
            self.end_finished(&set, &mut changes, now);
            if changes.create.is_empty() && changes.delete.is_empty() {
                changes = plan::roll(&observed, now);
            }
            result = self.act(&set, &hash, changes).await;
        }
        let status = plan::status(&observed, now);
        if !plan::same_status(&status, &set.status.clone().unwrap_or_default()) {
            self.write_status(&set, status).await?;
        }
        let mut live: BTreeSet<&str> = pods.iter().filter_map(|pod| revisions::pod_hash(pod)).collect();
        live.insert(&hash);
        let in_use = |known: &ControllerRevision| live.contains(revisions::hash_of(known).as_str());
        let limit = spec.revision_history_limit.unwrap_or(10);
        revisions::truncate(&self.context, &history, in_use, limit).await?;
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        if let Some(seconds) = next_available_in(pods.iter().map(AsRef::as_ref), min_ready, now) {
            self.queue
                .add_after(key, std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(1)));
        }
        result
    }

    /// Finished pods are deleted, which makes room for new ones; failed ones not over and over.
    fn end_finished(&self, set: &Arc<DaemonSet>, changes: &mut plan::Changes, now: Timestamp) {
        for (node, pod) in std::mem::take(&mut changes.finished) {
            let key = Key::of(&pod.metadata);
            if phase(&pod) == "Failed" {
                if let Some(wait) = self.backoff.ask(uid(&set.metadata), &node, now) {
                    self.queue.add_after(Key::of(&set.metadata), wait);
                    continue;
                }
                let message = format!("Found failed daemon pod {key} on node {node}, will try to kill it");
                self.context.warning(set.as_ref(), "FailedDaemonPod", message);
            } else {
                let message = format!("Found succeeded daemon pod {key} on node {node}, will try to delete it");
                self.context.normal(set.as_ref(), "SucceededDaemonPod", message);
            }
            changes.delete.push(pod);
        }
    }

    async fn act(&self, set: &Arc<DaemonSet>, hash: &str, mut changes: plan::Changes) -> Result<(), Error> {
        let key = Key::of(&set.metadata);
        let Some(spec) = &set.spec else { return Ok(()) };
        let Some(template) = &spec.template.spec else {
            return Ok(());
        };
        changes.create.truncate(BURST_MAX);
        changes.delete.truncate(BURST_MAX);
        if changes.create.is_empty() && changes.delete.is_empty() {
            return Ok(());
        }
        let api: Api<NewPod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let doomed = changes.delete.iter().map(|pod| uid(&pod.metadata).to_string());
        self.expectations.expect(&key, changes.create.len(), doomed);
        let deletions: Vec<_> = changes
            .delete
            .iter()
            .map(|pod| self.delete(set, &api, &key, pod))
            .collect();
        let deleted: Vec<Result<(), Error>> = futures::stream::iter(deletions).buffered(AT_ONCE).collect().await;
        if let Some(Err(error)) = deleted.into_iter().find(Result::is_err) {
            for _ in &changes.create {
                self.expectations.created(&key);
            }
            return Err(error);
        }
        let reference = controller_reference("apps/v1", "DaemonSet", &set.metadata);
        let attempts = std::sync::atomic::AtomicUsize::new(0);
        let (api, nodes, counted, key) = (&api, &changes.create, &attempts, &key);
        let reference = &reference;
        let (_, error) = create_in_batches(nodes.len(), |index| async move {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut pod = from_template(&spec.template, &key.namespace, &key.name, reference.clone());
            let labels = pod.metadata.labels.get_or_insert_default();
            labels.insert(revisions::REVISION_HASH.to_string(), hash.to_string());
            if let Some(generation) = annotation(&set.metadata, TEMPLATE_GENERATION) {
                labels.insert(POD_GENERATION.to_string(), generation.to_string());
            }
            pod.spec = Some(plan::pod_spec(template, &nodes[index]));
            match api
                .create(&PostParams::default(), &pod)
                .await
                .doing(|| format!("create a pod for {key}"))
            {
                Ok(made) => {
                    let message = format!("Created pod: {}", name(&made.metadata));
                    self.context.normal(set.as_ref(), "SuccessfulCreate", message);
                    Ok(())
                }
                Err(error) => {
                    self.expectations.created(key);
                    if !error.is_namespace_terminating() {
                        let message = format!("Error creating: {}", error.message());
                        self.context.warning(set.as_ref(), "FailedCreate", message);
                    }
                    Err(error)
                }
            }
        })
        .await;
        for _ in attempts.load(std::sync::atomic::Ordering::Relaxed)..nodes.len() {
            self.expectations.created(key);
        }
        match error {
            Some(error) if !error.is_namespace_terminating() => Err(error),
            _ => Ok(()),
        }
    }

    async fn delete(&self, set: &DaemonSet, api: &Api<NewPod>, key: &Key, pod: &Pod) -> Result<(), Error> {
        let pod_name = name(&pod.metadata);
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        });
        let deleted = api
            .delete(pod_name, &parameters)
            .await
            .doing(|| format!("delete pod {pod_name}"));
        match &deleted {
            Ok(_) => {
                let message = format!("Deleted pod: {pod_name}");
                self.context.normal(set, "SuccessfulDelete", message);
            }
            Err(error) => {
                self.expectations.deleted(key, uid(&pod.metadata));
                if !error.is_not_found() {
                    let message = format!("Error deleting: {}", error.message());
                    self.context.warning(set, "FailedDelete", message);
                }
            }
        }
        gone_is_fine(deleted)
    }

    async fn write_status(
        &self,
        set: &DaemonSet,
        status: k8s_openapi::api::apps::v1::DaemonSetStatus,
    ) -> Result<(), Error> {
        let key = Key::of(&set.metadata);
        let api: Api<DaemonSet> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let mut updated = set.clone();
        updated.status = Some(status);
        let written = api.replace_status(&key.name, &PostParams::default(), &updated).await;
        gone_is_fine(written.doing(|| format!("write the status of daemon set {key}")))
    }
}
