//! StatefulSets: pods with stable names and volumes, created, replaced and removed in order.

mod plan;
mod pod;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;
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
use crate::written::Written;

use plan::{Action, Observed, Version};

const WORKERS: usize = 5;

struct Controller {
    context: Context,
    queue: Arc<Queue<Key>>,
    written: Written,
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
        written: Written::default(),
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
            self.written.forget(&key);
            return Ok(());
        };
        if self.written.is_behind(&set.metadata) {
            return Ok(());
        }
        let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
            return Ok(());
        };
        let reference = controller_reference("apps/v1", "StatefulSet", &set.metadata);
        let history = shared.controller_revisions.indexed(&owned_by(uid(&set.metadata)));
        let Some(update) = self.update(&set, reference.clone(), &history).await? else {
            return Ok(());
        };
        let current = self.current(&set, &history, &update);
        let current_template = revisions::template_of(&current).unwrap_or_else(|| spec.template.clone());
        let pods = owned::claim_pods(&self.context, set.as_ref(), &reference, &spec.selector, None).await?;
        let waiting = self.waiting(&set, &pods);
        let observed = Observed {
            set: &set,
            pods: &pods,
            current: Version {
                name: name(&current.metadata),
                template: &current_template,
            },
            update: Version {
                name: name(&update.metadata),
                template: &spec.template,
            },
            waiting: &waiting,
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
        let status = plan::status(&observed, now);
        if !plan::same_status(&status, &set.status.clone().unwrap_or_default()) {
            self.write_status(&set, status).await?;
        }
        let mut live: BTreeSet<&str> = pods.iter().filter_map(|pod| revisions::pod_hash(pod)).collect();
        live.extend([observed.current.name, observed.update.name]);
        let in_use = |known: &ControllerRevision| live.contains(name(&known.metadata));
        let limit = spec.revision_history_limit.unwrap_or(10);
        revisions::truncate(&self.context, &history, in_use, limit).await?;
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

    /// The revision of the template as it is now; none where the namespace takes no more objects.
    async fn update(
        &self,
        set: &StatefulSet,
        reference: OwnerReference,
        history: &[Arc<ControllerRevision>],
    ) -> Result<Option<ControllerRevision>, Error> {
        let Some(spec) = &set.spec else { return Ok(None) };
        let collisions = set
            .status
            .as_ref()
            .and_then(|status| status.collision_count)
            .unwrap_or(0);
        let planned = revisions::plan(
            &set.metadata,
            reference,
            &spec.template,
            history,
            revisions::STATEFUL_HASH,
            (collisions > 0).then_some(collisions),
        );
        match revisions::sync(&self.context, planned).await {
            Err(error) if error.is_namespace_terminating() => Ok(None),
            Err(error) => Err(error),
            Ok(Some(revision)) => Ok(Some(revision)),
            Ok(None) => {
                let mut status = set.status.clone().unwrap_or_default();
                status.collision_count = Some(collisions + 1);
                self.write_status(set, status).await?;
                let key = Key::of(&set.metadata);
                Err(Error::Again(format!("a revision name of stateful set {key} was taken")))
            }
        }
    }

    /// Ordinals without a pod whose claims still go with the pod that was there.
    fn waiting(&self, set: &StatefulSet, pods: &[Arc<Pod>]) -> BTreeSet<i32> {
        let templates = set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_ref());
        if templates.is_none_or(Vec::is_empty) {
            return BTreeSet::new();
        }
        let there: BTreeSet<i32> = pods.iter().filter_map(|pod| plan::ordinal(set, pod)).collect();
        let missing = plan::range(set).filter(|ordinal| !there.contains(ordinal));
        let stale = |ordinal: &i32| {
            let pod_name = pod::pod_name(set, *ordinal);
            pod::claims(set, *ordinal).iter().any(|claim| {
                let known = self.context.shared.claims.get(&Key::of(&claim.metadata));
                known.is_some_and(|known| pod::is_stale(&known, &pod_name))
            })
        };
        missing.filter(stale).collect()
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
            Action::Claims(ordinal) => self.create_claims(set, ordinal).await,
            Action::Label { pod, ordinal } => {
                let pod_name = name(&pod.metadata);
                let labels: serde_json::Map<String, serde_json::Value> = pod::identity(pod_name, ordinal)
                    .into_iter()
                    .map(|(key, value)| (key.to_string(), value.into()))
                    .collect();
                let patch = json!({"metadata": {"uid": uid(&pod.metadata), "labels": labels}});
                let written = pods
                    .patch(pod_name, &PatchParams::default(), &Patch::Strategic(patch))
                    .await;
                gone_is_fine(written.doing(|| format!("label pod {pod_name}")))?;
                let message = format!("update Pod {pod_name} in StatefulSet {} successful", key.name);
                self.context.normal(set, "SuccessfulUpdate", message);
                Ok(())
            }
            Action::Create { ordinal, updated } => {
                self.create_claims(set, ordinal).await?;
                let version = if updated { &observed.update } else { &observed.current };
                let reference = controller_reference("apps/v1", "StatefulSet", &set.metadata);
                let pod = pod::pod(set, ordinal, version, reference);
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
        let pod_name = pod::pod_name(set, ordinal);
        let set_name = name(&set.metadata);
        for claim in pod::claims(set, ordinal) {
            let claim_key = Key::of(&claim.metadata);
            if let Some(known) = self.context.shared.claims.get(&claim_key) {
                if known.metadata.deletion_timestamp.is_some() {
                    return Err(Error::Again(format!("claim {claim_key} is being deleted")));
                }
                continue;
            }
            let claim_name = &claim_key.name;
            let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), &claim_key.namespace);
            let made = api.create(&PostParams::default(), &claim).await;
            match made.doing(|| format!("create claim {claim_key}")) {
                Ok(_) => {
                    let message = format!("create Claim {claim_name} Pod {pod_name} in StatefulSet {set_name} success");
                    self.context.normal(set, "SuccessfulCreate", message);
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let why = error.message();
                    let message = format!(
                        "create Claim {claim_name} for Pod {pod_name} in StatefulSet {set_name} failed error: {why}"
                    );
                    self.context.warning(set, "FailedCreate", message);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Before a pod goes, so that its claims go with it where the policy says so.
    async fn own_claims(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        for claim_name in pod::claim_names(set, pod) {
            let key = Key::new(crate::key::namespace(&set.metadata), &claim_name);
            let Some(claim) = self.context.shared.claims.get(&key) else {
                continue;
            };
            let Some(owners) = pod::claim_owners(set, pod, &claim) else {
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
        let written = written.doing(|| format!("write the status of stateful set {key}"));
        if let Ok(written) = &written {
            self.written.note(&written.metadata);
        }
        gone_is_fine(written)
    }
}
