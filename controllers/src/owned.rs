//! Turns pod events into work for a controller that owns pods, and settles its expectations.

use std::sync::Arc;

use crate::slim::Pod;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::claim::{Claimant, claim};
use crate::context::{Context, Doing, Error};
use crate::expectations::Expectations;
use crate::key::{Key, controller_of, name, namespace, uid};
use crate::pods::is_terminating;
use crate::queue::Queue;
use crate::selector;
use crate::shared::{orphans_in, owned_by};

/// Queues an owner when it, or a pod that is or could be its own, changes.
pub fn watch<K>(
    context: &Context,
    kind: &'static str,
    owners: &Arc<Cache<K>>,
    queue: &Arc<Queue<Key>>,
    expectations: &Arc<Expectations>,
    selector_of: fn(&K) -> LabelSelector,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    owners.on_change({
        let (queue, expectations) = (queue.clone(), expectations.clone());
        move |change| {
            let Some(object) = change.object() else { return };
            let key = Key::of(object.meta());
            if change.new.is_none() {
                expectations.forget(&key);
            }
            queue.add(key);
        }
    });
    let (owners, queue, expectations) = (owners.clone(), queue.clone(), expectations.clone());
    context.shared.pods.on_change(move |change| {
        let owner_key = |pod: &Arc<Pod>| {
            let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == kind)?;
            let key = Key::new(namespace(&pod.metadata), &owner.name);
            (uid(owners.get(&key)?.meta()) == owner.uid).then_some(key)
        };
        if let Some(pod) = change.new
            && let Some(owner) = owner_key(pod)
        {
            if change.old.is_none() {
                expectations.created(&owner);
            }
            if is_terminating(pod) {
                expectations.deleted(&owner, uid(&pod.metadata));
            }
            queue.add(owner);
        }
        if let Some(pod) = change.old
            && let Some(owner) = owner_key(pod)
        {
            if change.new.is_none() {
                expectations.deleted(&owner, uid(&pod.metadata));
            }
            queue.add(owner);
        }
        let Some(orphan) = change.new.filter(|pod| controller_of(&pod.metadata).is_none()) else {
            return;
        };
        for owner in owners.in_namespace(namespace(&orphan.metadata)) {
            let wanted = selector_of(&owner);
            if !selector::is_empty(&wanted) && selector::matches(&wanted, orphan.labels.as_deref()) {
                queue.add(Key::of(owner.meta()));
            }
        }
    });
}

/// The pods that this owner has, after adopting and releasing. `finalizer`: by which it holds them.
pub async fn claim_pods<K>(
    context: &Context,
    owner: &K,
    reference: &OwnerReference,
    wanted: &LabelSelector,
    finalizer: Option<&str>,
) -> Result<Vec<Arc<Pod>>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let meta = owner.meta();
    let shared = &context.shared;
    let mut candidates = shared.pods.indexed(&owned_by(uid(meta)));
    if !selector::is_empty(wanted) {
        let orphans = shared.pods.indexed(&orphans_in(namespace(meta)));
        let orphans = orphans
            .into_iter()
            .filter(|pod| selector::matches(wanted, pod.labels.as_deref()));
        candidates.extend(orphans);
    }
    let matches = |pod: &Pod| selector::matches(wanted, pod.labels.as_deref());
    claim(
        &context.client,
        candidates,
        Claimant {
            reference,
            finalizer,
            deleting: meta.deletion_timestamp.is_some(),
        },
        matches,
        async || {
            let api: Api<K> = Api::namespaced(context.client.clone(), namespace(meta));
            let live = api
                .get_opt(name(meta))
                .await
                .doing(|| format!("read {} {}", K::kind(&()), name(meta)))?;
            Ok(live.is_some_and(|live| live.meta().uid == meta.uid && live.meta().deletion_timestamp.is_none()))
        },
    )
    .await
}
