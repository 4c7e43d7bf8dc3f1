//! Deployments: observes a Deployment with its ReplicaSets, carries out [`plan::reconcile`].

mod plan;
mod revision;
#[cfg(test)]
mod rollout_test;
mod size;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::task::JoinSet;

use crate::claim::{Claimant, claim};
use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, controller_of, controller_reference, name, namespace, uid};
use crate::pods::is_finished;
use crate::queue::Queue;
use crate::selector;
use crate::shared::owned_by;
use crate::worker::work;

pub use revision::template_hash;
pub use size::resolve;

use plan::{Action, Observed};
use size::{Size, spec_replicas};

const WORKERS: usize = 5;

struct Controller {
    context: Context,
    queue: Arc<Queue<Key>>,
}

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::new("deployment"));
    let controller = Arc::new(Controller {
        context: context.clone(),
        queue: queue.clone(),
    });
    let shared = context.shared.clone();
    shared.deployments.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(object) = change.object() {
                queue.add(Key::of(&object.metadata));
            }
        }
    });
    shared.replica_sets.on_change({
        let controller = controller.clone();
        move |change| {
            for set in [change.old, change.new].into_iter().flatten() {
                controller.set_changed(&set.metadata);
            }
        }
    });
    // A Recreate rollout waits for the last old pod to be gone.
    shared.pods.on_change({
        let controller = controller.clone();
        move |change| {
            if let (Some(pod), None) = (change.old, change.new) {
                controller.pod_gone(&pod.metadata);
            }
        }
    });
    tasks.spawn(async move {
        shared.deployments.synced().await;
        shared.replica_sets.synced().await;
        shared.pods.synced().await;
        let reconcile = |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

impl Controller {
    fn set_changed(&self, set: &ObjectMeta) {
        match controller_of(set) {
            Some(owner) if owner.kind == "Deployment" => self.queue.add(Key::new(namespace(set), &owner.name)),
            Some(_) => {}
            None => {
                for deployment in self.context.shared.deployments.in_namespace(namespace(set)) {
                    let Some(spec) = &deployment.spec else { continue };
                    if !selector::is_empty(&spec.selector) && selector::matches(&spec.selector, set.labels.as_ref()) {
                        self.queue.add(Key::of(&deployment.metadata));
                    }
                }
            }
        }
    }

    fn pod_gone(&self, pod: &ObjectMeta) {
        let shared = &self.context.shared;
        let Some(owner) = controller_of(pod).filter(|owner| owner.kind == "ReplicaSet") else {
            return;
        };
        let Some(set) = shared.replica_sets.get(&Key::new(namespace(pod), &owner.name)) else {
            return;
        };
        let Some(parent) = controller_of(&set.metadata) else {
            return;
        };
        let key = Key::new(namespace(pod), &parent.name);
        if shared
            .deployments
            .get(&key)
            .is_some_and(|deployment| !Size::of(&deployment).rolling)
        {
            self.queue.add(key);
        }
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(deployment) = self.context.shared.deployments.get(&key) else {
            return Ok(());
        };
        let observed = self.observe(&deployment).await?;
        let now = Timestamp::now();
        let written = deployment.status.clone().unwrap_or_default();
        let actions = plan::without_idle_status(plan::reconcile(&observed, now), &written);
        let mut latest = Deployment::clone(&deployment);
        for action in actions {
            self.act(&mut latest, action).await?;
        }
        let status = latest.status.clone().unwrap_or_default();
        if let Some(seconds) = status::deadline_in(&latest, &status, now) {
            self.queue
                .add_after(key, Duration::from_secs(u64::try_from(seconds + 1).unwrap_or(1).max(1)));
        }
        Ok(())
    }

    async fn observe(&self, deployment: &Arc<Deployment>) -> Result<Observed, Error> {
        let shared = &self.context.shared;
        let meta = &deployment.metadata;
        let wanted = deployment
            .spec
            .as_ref()
            .map(|spec| spec.selector.clone())
            .unwrap_or_default();
        let mut sets = Vec::new();
        if !selector::is_empty(&wanted) {
            let candidates = shared.replica_sets.in_namespace(namespace(meta));
            let owner = controller_reference("apps/v1", "Deployment", meta);
            let deleting = meta.deletion_timestamp.is_some();
            let matches = |set: &ReplicaSet| selector::matches(&wanted, set.metadata.labels.as_ref());
            sets = claim(
                &self.context.client,
                candidates,
                Claimant {
                    reference: &owner,
                    finalizer: None,
                    deleting,
                },
                matches,
                async || {
                    let api: Api<Deployment> = Api::namespaced(self.context.client.clone(), namespace(meta));
                    let live = api
                        .get_opt(name(meta))
                        .await
                        .doing(|| format!("read deployment {}", name(meta)))?;
                    Ok(live.is_some_and(|live| {
                        live.metadata.uid == meta.uid && live.metadata.deletion_timestamp.is_none()
                    }))
                },
            )
            .await?;
        }
        let with_pods = sets
            .iter()
            .filter(|set| {
                shared
                    .pods
                    .indexed(&owned_by(uid(&set.metadata)))
                    .iter()
                    .any(|pod| !is_finished(pod))
            })
            .map(|set| uid(&set.metadata).to_string())
            .collect();
        Ok(Observed {
            deployment: Deployment::clone(deployment),
            sets: sets.iter().map(|set| ReplicaSet::clone(set)).collect(),
            with_pods,
        })
    }

    fn sets(&self, namespace: &str) -> Api<ReplicaSet> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    fn deployments(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    async fn act(&self, latest: &mut Deployment, action: Action) -> Result<(), Error> {
        let namespace = namespace(&latest.metadata).to_string();
        let deployment_name = name(&latest.metadata).to_string();
        match action {
            Action::Create(set) => self.create(latest, &set).await,
            Action::Update { set, from } => {
                let set_name = name(&set.metadata);
                let written = self
                    .sets(&namespace)
                    .replace(set_name, &PostParams::default(), &set)
                    .await;
                written.doing(|| format!("update replica set {set_name}"))?;
                self.announce_scaling(latest, set_name, from, spec_replicas(&set));
                Ok(())
            }
            Action::Delete(meta) => {
                let parameters = DeleteParams::background().preconditions(Preconditions {
                    uid: meta.uid.clone(),
                    resource_version: None,
                });
                let deleted = self.sets(&namespace).delete(name(&meta), &parameters).await;
                gone_is_fine(deleted.doing(|| format!("delete replica set {}", name(&meta))))
            }
            Action::SetRevision(revision) => {
                latest
                    .metadata
                    .annotations
                    .get_or_insert_default()
                    .insert(revision::REVISION.to_string(), revision);
                let written = self
                    .deployments(&namespace)
                    .replace(&deployment_name, &PostParams::default(), latest)
                    .await;
                let written = written.doing(|| format!("note the revision of deployment {deployment_name}"))?;
                // The update bumps the resourceVersion that the status is written against.
                let status = latest.status.take();
                *latest = written;
                latest.status = status;
                Ok(())
            }
            Action::SetStatus(status) => {
                latest.status = Some(*status);
                let written = self
                    .deployments(&namespace)
                    .replace_status(&deployment_name, &PostParams::default(), latest)
                    .await;
                gone_is_fine(written.doing(|| format!("write the status of deployment {deployment_name}")))
            }
            Action::Warn { reason, message } => {
                self.context.warning(latest, reason, message.to_string());
                Ok(())
            }
        }
    }

    fn announce_scaling(&self, deployment: &Deployment, set: &str, from: i32, to: i32) {
        if from != to {
            let direction = if to > from { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
            self.context.normal(deployment, "ScalingReplicaSet", message);
        }
    }

    async fn create(&self, deployment: &mut Deployment, set: &ReplicaSet) -> Result<(), Error> {
        let set_name = name(&set.metadata);
        let api = self.sets(namespace(&deployment.metadata));
        let created = api
            .create(&PostParams::default(), set)
            .await
            .doing(|| format!("create replica set {set_name}"));
        match created {
            Ok(_) => {
                self.announce_scaling(deployment, set_name, 0, spec_replicas(set));
                Ok(())
            }
            Err(error) if error.is_already_exists() => self.resolve_collision(deployment, set).await,
            // Nothing can be created any more, and nothing needs to be.
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                let message = format!("Failed to create new replica set {set_name:?}: {}", error.message());
                self.context
                    .warning(deployment, "ReplicaSetCreateError", message.clone());
                if status::progress_deadline(deployment).is_some() {
                    let wanted = status::new_condition(
                        status::PROGRESSING,
                        "False",
                        "ReplicaSetCreateError",
                        message,
                        Timestamp::now(),
                    );
                    status::set_condition(deployment.status.get_or_insert_default(), wanted);
                    self.write_own_status(deployment).await?;
                }
                Err(error)
            }
        }
    }

    /// A set of that name exists. Either our cache lags and it is ours, or its template hashes alike: then
    /// the collision count changes the hash.
    async fn resolve_collision(&self, deployment: &mut Deployment, set: &ReplicaSet) -> Result<(), Error> {
        let set_name = name(&set.metadata);
        let api = self.sets(namespace(&deployment.metadata));
        let existing = api
            .get_opt(set_name)
            .await
            .doing(|| format!("read replica set {set_name}"))?;
        let template = |set: &ReplicaSet| {
            set.spec
                .as_ref()
                .and_then(|spec| spec.template.clone())
                .unwrap_or_default()
        };
        let ours = existing.is_some_and(|existing| {
            controller_of(&existing.metadata).is_some_and(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
                && revision::same_template(&template(&existing), &template(set))
        });
        if ours {
            return Err(Error::Again(format!("replica set {set_name} is not in the cache yet")));
        }
        let status = deployment.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.write_own_status(deployment).await?;
        Err(Error::Again(format!(
            "replica set name {set_name} is taken by another template"
        )))
    }

    async fn write_own_status(&self, deployment: &Deployment) -> Result<(), Error> {
        let own_name = name(&deployment.metadata);
        let api = self.deployments(namespace(&deployment.metadata));
        let written = api.replace_status(own_name, &PostParams::default(), deployment).await;
        gone_is_fine(written.doing(|| format!("write the status of deployment {own_name}")))
    }
}
