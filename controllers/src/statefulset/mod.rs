//! StatefulSets: pods with stable names and volumes, created, replaced and removed in order.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::expectations::Expectations;
use crate::key::{Key, controller_reference, name, uid};
use crate::owned;
use crate::pods::{NewPod, next_available_in};
use crate::queue::Queue;
use crate::revisions;
use crate::shared::owned_by;
use crate::worker::work;

use plan::{Action, Observed, Version};

const WORKERS: usize = 5;

struct Controller {
    context: Context,
    queue: Arc<Queue<Key>>,
}

fn selector_of(set: &StatefulSet) -> LabelSelector {
    set.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
}

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::new("statefulset"));
    let shared = context.shared.clone();
    // Stable names make a repeated creation harmless: nothing needs to be expected.
    let expectations = Arc::new(Expectations::default());
    owned::watch(
        &context,
        "StatefulSet",
        &shared.stateful_sets,
        &queue,
        &expectations,
        selector_of,
    );
    let controller = Arc::new(Controller {
        context: context.clone(),
        queue: queue.clone(),
    });
    tasks.spawn(async move {
        shared.stateful_sets.synced().await;
        shared.pods.synced().await;
        shared.controller_revisions.synced().await;
        shared.claims.synced().await;
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
        let Some(set) = shared.stateful_sets.get(&key) else {
            return Ok(());
        };
        let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
            return Ok(());
        };
        let reference = controller_reference("apps/v1", "StatefulSet", &set.metadata);
        let history = shared.controller_revisions.indexed(&owned_by(uid(&set.metadata)));
        let planned = revisions::plan(&set.metadata, reference.clone(), &spec.template, &history);
        let update = match revisions::sync(&self.context, planned).await {
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            other => other?,
        };
        let current = self.current(&set, &history, &update);
        let current_template = revisions::template_of(&current).unwrap_or_else(|| spec.template.clone());
        let (current_hash, update_hash) = (revisions::hash_of(&current), revisions::hash_of(&update));
        let pods = owned::claim_pods(&self.context, set.as_ref(), &reference, &spec.selector).await?;
        let observed = Observed {
            set: &set,
            pods: &pods,
            current: Version {
                hash: &current_hash,
                template: &current_template,
            },
            update: Version {
                hash: &update_hash,
                template: &spec.template,
            },
        };
        let now = Timestamp::now();
        for pod in &pods {
            self.own_claims(&set, pod).await?;
        }
        let mut result = Ok(());
        for action in plan::reconcile(&observed, now) {
            result = self.act(&observed, action).await;
            if result.is_err() {
                break;
            }
        }
        let status = plan::status(&observed, name(&current.metadata), name(&update.metadata), now);
        if set.status.as_ref() != Some(&status) {
            self.write_status(&set, status).await?;
        }
        let mut live: Vec<String> = pods
            .iter()
            .filter_map(|pod| revisions::pod_hash(pod))
            .map(Into::into)
            .collect();
        live.extend([current_hash, update_hash]);
        revisions::truncate(
            &self.context,
            &history,
            &live,
            spec.revision_history_limit.unwrap_or(10),
        )
        .await?;
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        if let Some(seconds) = next_available_in(pods.iter().map(AsRef::as_ref), min_ready, now) {
            self.queue
                .add_after(key, Duration::from_secs(u64::try_from(seconds).unwrap_or(1)));
        }
        match result {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            other => other,
        }
    }

    /// The revision that the status calls current; at first that is the one to update to.
    fn current(
        &self,
        set: &StatefulSet,
        history: &[Arc<ControllerRevision>],
        update: &ControllerRevision,
    ) -> ControllerRevision {
        let wanted = set
            .status
            .as_ref()
            .and_then(|status| status.current_revision.as_deref());
        let found = history.iter().find(|known| Some(name(&known.metadata)) == wanted);
        found.map_or_else(|| update.clone(), |found| ControllerRevision::clone(found))
    }

    async fn act(&self, observed: &Observed<'_>, action: Action) -> Result<(), Error> {
        let set = observed.set;
        let key = Key::of(&set.metadata);
        let pods: Api<NewPod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        match action {
            Action::Create { ordinal, updated } => {
                self.create_claims(set, ordinal).await?;
                let version = if updated { &observed.update } else { &observed.current };
                let reference = controller_reference("apps/v1", "StatefulSet", &set.metadata);
                let pod = plan::pod(set, ordinal, version, reference);
                let pod_name = name(&pod.metadata);
                match pods
                    .create(&PostParams::default(), &pod)
                    .await
                    .doing(|| format!("create pod {pod_name}"))
                {
                    Ok(_) => {
                        let message = format!("create Pod {pod_name} in StatefulSet {} successful", key.name);
                        self.context.normal(set, "SuccessfulCreate", message);
                        Ok(())
                    }
                    // The watch has yet to show it.
                    Err(error) if error.is_already_exists() => Ok(()),
                    Err(error) => {
                        let why = error.message();
                        let message = format!("create Pod {pod_name} in StatefulSet {} failed error: {why}", key.name);
                        self.context.warning(set, "FailedCreate", message);
                        Err(error)
                    }
                }
            }
            Action::Delete(pod) => {
                let pod_name = name(&pod.metadata);
                let parameters = DeleteParams::default().preconditions(Preconditions {
                    uid: pod.metadata.uid.clone(),
                    resource_version: None,
                });
                let deleted = pods.delete(pod_name, &parameters).await;
                gone_is_fine(deleted.doing(|| format!("delete pod {pod_name}")))?;
                let message = format!("delete Pod {pod_name} in StatefulSet {} successful", key.name);
                self.context.normal(set, "SuccessfulDelete", message);
                Ok(())
            }
        }
    }

    async fn create_claims(&self, set: &StatefulSet, ordinal: i32) -> Result<(), Error> {
        for claim in plan::claims(set, ordinal) {
            let claim_key = Key::of(&claim.metadata);
            if self.context.shared.claims.get(&claim_key).is_some() {
                continue;
            }
            let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), &claim_key.namespace);
            let made = api.create(&PostParams::default(), &claim).await;
            match made.doing(|| format!("create claim {claim_key}")) {
                Ok(_) => {}
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Before a pod goes, so that its claims go with it where the policy says so.
    async fn own_claims(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        for claim_name in plan::claim_names(set, pod) {
            let key = Key::new(crate::key::namespace(&set.metadata), &claim_name);
            let Some(claim) = self.context.shared.claims.get(&key) else {
                continue;
            };
            let Some(owners) = plan::claim_owners(set, pod, &claim) else {
                continue;
            };
            let mut updated = PersistentVolumeClaim::clone(&claim);
            updated.metadata.owner_references = Some(owners);
            let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), &key.namespace);
            let written = api.replace(&claim_name, &PostParams::default(), &updated).await;
            gone_is_fine(written.doing(|| format!("set the owners of claim {key}")))?;
        }
        Ok(())
    }

    async fn write_status(
        &self,
        set: &StatefulSet,
        status: k8s_openapi::api::apps::v1::StatefulSetStatus,
    ) -> Result<(), Error> {
        let key = Key::of(&set.metadata);
        let api: Api<StatefulSet> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let mut updated = set.clone();
        updated.status = Some(status);
        let written = api.replace_status(&key.name, &PostParams::default(), &updated).await;
        gone_is_fine(written.doing(|| format!("write the status of stateful set {key}")))
    }
}
