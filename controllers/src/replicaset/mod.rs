//! ReplicaSet and ReplicationController: keep the wanted number of pods. One shell serves both kinds; a
//! small adapter per kind reads the desired state and writes the status.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use tokio::task::JoinSet;

use crate::cache::Cache;
use crate::claim::{Claimant, claim};
use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::expectations::Expectations;
use crate::key::{Key, controller_of, controller_reference, name, namespace, uid};
use crate::pods::{NewPod, create_in_batches, from_template, is_active, is_terminating, node_name};
use crate::queue::Queue;
use crate::selector;
use crate::shared::{Shared, orphans_in, owned_by};
use crate::worker::work;

use plan::{Action, Desired, Failure, Observed};

const WORKERS: usize = 5;

/// What the shell needs to know of a kind.
trait ReplicaOwner:
    Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + serde::Serialize
    + Send
    + Sync
    + 'static
{
    const KIND: &'static str;
    const API_VERSION: &'static str;
    const QUEUE: &'static str;
    fn cache(shared: &Shared) -> &Arc<Cache<Self>>;
    fn desired(&self) -> Option<Desired>;
    fn selector(&self) -> LabelSelector;
    fn status(&self) -> ReplicaSetStatus;
    fn set_status(&mut self, status: ReplicaSetStatus);
}

impl ReplicaOwner for ReplicaSet {
    const KIND: &'static str = "ReplicaSet";
    const API_VERSION: &'static str = "apps/v1";
    const QUEUE: &'static str = "replicaset";

    fn cache(shared: &Shared) -> &Arc<Cache<Self>> {
        &shared.replica_sets
    }

    fn desired(&self) -> Option<Desired> {
        let spec = self.spec.as_ref()?;
        Some(Desired {
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            generation: self.metadata.generation.unwrap_or(0),
            template: spec.template.clone().unwrap_or_default(),
            deleting: self.metadata.deletion_timestamp.is_some(),
        })
    }

    fn selector(&self) -> LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }

    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }

    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(status);
    }
}

impl ReplicaOwner for ReplicationController {
    const KIND: &'static str = "ReplicationController";
    const API_VERSION: &'static str = "v1";
    const QUEUE: &'static str = "replicationmanager";

    fn cache(shared: &Shared) -> &Arc<Cache<Self>> {
        &shared.replication_controllers
    }

    fn desired(&self) -> Option<Desired> {
        let spec = self.spec.as_ref()?;
        Some(Desired {
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            generation: self.metadata.generation.unwrap_or(0),
            template: spec.template.clone().unwrap_or_default(),
            deleting: self.metadata.deletion_timestamp.is_some(),
        })
    }

    fn selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: self.spec.as_ref().and_then(|spec| spec.selector.clone()),
            match_expressions: None,
        }
    }

    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            terminating_replicas: None,
            conditions: status.conditions.map(|conditions| {
                let convert =
                    |condition: ReplicationControllerCondition| k8s_openapi::api::apps::v1::ReplicaSetCondition {
                        type_: condition.type_,
                        status: condition.status,
                        reason: condition.reason,
                        message: condition.message,
                        last_transition_time: condition.last_transition_time,
                    };
                conditions.into_iter().map(convert).collect()
            }),
        }
    }

    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|conditions| {
                let convert =
                    |condition: k8s_openapi::api::apps::v1::ReplicaSetCondition| ReplicationControllerCondition {
                        type_: condition.type_,
                        status: condition.status,
                        reason: condition.reason,
                        message: condition.message,
                        last_transition_time: condition.last_transition_time,
                    };
                conditions.into_iter().map(convert).collect()
            }),
        });
    }
}

pub fn start(replica_sets: Context, replication_controllers: Context, tasks: &mut JoinSet<()>) {
    start_kind::<ReplicaSet>(replica_sets, tasks);
    start_kind::<ReplicationController>(replication_controllers, tasks);
}

struct Controller<K> {
    context: Context,
    queue: Arc<Queue<Key>>,
    expectations: Expectations,
    kind: std::marker::PhantomData<fn() -> K>,
}

fn start_kind<K: ReplicaOwner>(context: Context, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::new(K::QUEUE));
    let controller = Arc::new(Controller::<K> {
        context: context.clone(),
        queue: queue.clone(),
        expectations: Expectations::default(),
        kind: std::marker::PhantomData,
    });
    let shared = &context.shared;
    K::cache(shared).on_change({
        let controller = controller.clone();
        move |change| {
            let Some(object) = change.object() else { return };
            let key = Key::of(object.meta());
            if change.new.is_none() {
                controller.expectations.forget(&key);
            }
            controller.queue.add(key);
        }
    });
    shared.pods.on_change({
        let controller = controller.clone();
        move |change| controller.pod_changed(change.old.map(AsRef::as_ref), change.new.map(AsRef::as_ref))
    });
    tasks.spawn(async move {
        K::cache(&context.shared).synced().await;
        context.shared.pods.synced().await;
        let reconcile = |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

impl<K: ReplicaOwner> Controller<K> {
    fn owner_key(&self, meta: &ObjectMeta) -> Option<Key> {
        let owner = controller_of(meta).filter(|owner| owner.kind == K::KIND)?;
        let key = Key::new(namespace(meta), &owner.name);
        let found = K::cache(&self.context.shared).get(&key)?;
        (uid(found.meta()) == owner.uid).then_some(key)
    }

    fn pod_changed(&self, old: Option<&Pod>, new: Option<&Pod>) {
        let old_owner = old.and_then(|pod| self.owner_key(&pod.metadata));
        let new_owner = new.and_then(|pod| self.owner_key(&pod.metadata));
        if let (Some(owner), Some(pod)) = (&new_owner, new) {
            if old.is_none() {
                self.expectations.created(owner);
            }
            if is_terminating(pod) {
                self.expectations.deleted(owner, uid(&pod.metadata));
            }
        }
        if let (Some(owner), None, Some(pod)) = (&old_owner, new, old) {
            self.expectations.deleted(owner, uid(&pod.metadata));
        }
        // An orphan interests every set that might adopt it.
        if let Some(pod) = new
            && controller_of(&pod.metadata).is_none()
            && !is_terminating(pod)
        {
            let candidates = K::cache(&self.context.shared).in_namespace(namespace(&pod.metadata));
            for candidate in candidates {
                let wanted = candidate.selector();
                if !selector::is_empty(&wanted) && selector::matches(&wanted, pod.labels.as_deref()) {
                    self.queue.add(Key::of(candidate.meta()));
                }
            }
        }
        let changed = [
            old_owner.clone().filter(|owner| Some(owner) != new_owner.as_ref()),
            new_owner,
        ];
        for owner in changed.into_iter().flatten() {
            self.queue.add(owner);
        }
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let shared = &self.context.shared;
        let Some(owner) = K::cache(shared).get(&key) else {
            self.expectations.forget(&key);
            return Ok(());
        };
        let Some(desired) = owner.desired() else { return Ok(()) };
        let settled = self.expectations.satisfied(&key);
        let pods = self.claim_pods(&owner, &desired).await?;
        let neighbours = neighbours(shared, owner.meta(), &pods);
        let old_status = owner.status();
        let observed = Observed {
            desired: &desired,
            status: &old_status,
            pods: &pods,
            neighbours: &neighbours,
            settled,
        };
        let now = Timestamp::now();
        let failure = match plan::reconcile(&observed, now) {
            Some(Action::Create(count)) => self.create(&owner, &desired, count).await,
            Some(Action::Delete(doomed)) => self.delete(&owner, doomed).await,
            None => None,
        };
        let reported = failure.as_ref().map(|(creating, error)| Failure {
            creating: *creating,
            message: error.message(),
        });
        let status = plan::status(&observed, reported.as_ref(), now);
        if !plan::same_status(&status, &old_status) {
            self.write_status(&owner, status).await?;
        }
        if let Some(seconds) = plan::look_again_in(&observed, now) {
            self.queue
                .add_after(key, Duration::from_secs(u64::try_from(seconds).unwrap_or(1)));
        }
        match failure {
            Some((_, error)) if !error.is_namespace_terminating() => Err(error),
            _ => Ok(()),
        }
    }

    async fn claim_pods(&self, owner: &Arc<K>, desired: &Desired) -> Result<Vec<Arc<Pod>>, Error> {
        let client = &self.context.client;
        let shared = &self.context.shared;
        let wanted = owner.selector();
        let mut candidates = shared.pods.indexed(&owned_by(uid(owner.meta())));
        if !selector::is_empty(&wanted) {
            let orphans = shared.pods.indexed(&orphans_in(namespace(owner.meta())));
            let orphans = orphans
                .into_iter()
                .filter(|pod| is_active(pod) && selector::matches(&wanted, pod.labels.as_deref()));
            candidates.extend(orphans);
        }
        let reference = controller_reference(K::API_VERSION, K::KIND, owner.meta());
        let matches = |pod: &Pod| selector::matches(&wanted, pod.labels.as_deref());
        let claimant = Claimant {
            reference: &reference,
            finalizer: None,
            deleting: desired.deleting,
        };
        claim(client, candidates, claimant, matches, async || {
            let api: Api<K> = Api::namespaced(client.clone(), namespace(owner.meta()));
            let live = api
                .get_opt(name(owner.meta()))
                .await
                .doing(|| format!("read {}", name(owner.meta())))?;
            Ok(
                live.is_some_and(|live| {
                    live.meta().uid == owner.meta().uid && live.meta().deletion_timestamp.is_none()
                }),
            )
        })
        .await
    }

    async fn create(&self, owner: &Arc<K>, desired: &Desired, count: usize) -> Option<(bool, Error)> {
        let key = Key::of(owner.meta());
        let reference = controller_reference(K::API_VERSION, K::KIND, owner.meta());
        let pod = from_template(&desired.template, &key.namespace, &key.name, reference);
        let api: Api<NewPod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        self.expectations.expect(&key, count, []);
        let (api, pod, expectations, context) = (&api, &pod, &self.expectations, &self.context);
        let expected = &key;
        let attempted = std::sync::atomic::AtomicUsize::new(0);
        let attempts = &attempted;
        let (_, error) = create_in_batches(count, |_| async move {
            attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match api
                .create(&PostParams::default(), pod)
                .await
                .doing(|| format!("create a pod for {expected}"))
            {
                Ok(made) => {
                    let message = format!("Created pod: {}", name(&made.metadata));
                    context.normal(owner.as_ref(), "SuccessfulCreate", message);
                    Ok(())
                }
                Err(error) => {
                    expectations.created(expected);
                    if !error.is_namespace_terminating() {
                        let message = format!("Error creating: {}", error.message());
                        context.warning(owner.as_ref(), "FailedCreate", message);
                    }
                    Err(error)
                }
            }
        })
        .await;
        for _ in attempted.into_inner()..count {
            self.expectations.created(&key);
        }
        error.map(|error| (true, error))
    }

    async fn delete(&self, owner: &Arc<K>, doomed: Vec<(String, String)>) -> Option<(bool, Error)> {
        let key = Key::of(owner.meta());
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        self.expectations
            .expect(&key, 0, doomed.iter().map(|(uid, _)| uid.clone()));
        let (api, key, context) = (&api, &key, &self.context);
        let deletions = doomed.iter().map(|(pod_uid, pod_name)| async move {
            let parameters = DeleteParams::default().preconditions(Preconditions {
                uid: Some(pod_uid.clone()),
                resource_version: None,
            });
            match api
                .delete(pod_name, &parameters)
                .await
                .doing(|| format!("delete pod {pod_name}"))
            {
                Ok(_) => {
                    let message = format!("Deleted pod: {pod_name}");
                    context.normal(owner.as_ref(), "SuccessfulDelete", message);
                    None
                }
                Err(error) => {
                    self.expectations.deleted(key, pod_uid);
                    if error.is_not_found() {
                        return None;
                    }
                    let message = format!("Error deleting: {}", error.message());
                    context.warning(owner.as_ref(), "FailedDelete", message);
                    Some((false, error))
                }
            }
        });
        futures::future::join_all(deletions).await.into_iter().flatten().next()
    }

    async fn write_status(&self, owner: &Arc<K>, status: ReplicaSetStatus) -> Result<(), Error> {
        let client: Client = self.context.client.clone();
        let api: Api<K> = Api::namespaced(client, namespace(owner.meta()));
        let mut updated = K::clone(owner);
        updated.set_status(status);
        let name = name(owner.meta());
        let written = api.replace_status(name, &PostParams::default(), &updated).await;
        gone_is_fine(written.doing(|| format!("write the status of {} {name}", K::KIND)))
    }
}

/// Active pods per node of this set and of the sets with the same owner, so that scaling down during a
/// rollout thins out crowded nodes.
fn neighbours(shared: &Shared, owner: &ObjectMeta, pods: &[Arc<Pod>]) -> HashMap<String, usize> {
    let mut related: Vec<Arc<Pod>> = pods.to_vec();
    if let Some(parent) = controller_of(owner) {
        for sibling in shared.replica_sets.indexed(&owned_by(&parent.uid)) {
            if sibling.metadata.uid != owner.uid {
                related.extend(shared.pods.indexed(&owned_by(uid(&sibling.metadata))));
            }
        }
    }
    let mut count = HashMap::new();
    for pod in related.iter().filter(|pod| is_active(pod)) {
        if let Some(node) = node_name(pod) {
            *count.entry(node.to_string()).or_insert(0) += 1;
        }
    }
    count
}
