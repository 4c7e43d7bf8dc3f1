//! PodDisruptionBudgets: keeps their status, from which the eviction API decides.

mod plan;
mod stale;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::PostParams;
use kube::core::{DynamicObject, GroupVersion};
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, controller_of, namespace};
use crate::queue::Queue;
use crate::selector;
use crate::worker::work;

const WORKERS: usize = 2;

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let wanted = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    wanted.is_some_and(|wanted| selector::matches(wanted, pod.labels.as_deref()))
}

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    stale::start(&context, tasks);
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("disruption"));
    let shared = context.shared.clone();
    shared.disruption_budgets.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(budget) = change.new {
                queue.add(Key::of(&budget.metadata));
            }
        }
    });
    shared.pods.on_change({
        let (queue, budgets) = (queue.clone(), shared.disruption_budgets.clone());
        move |change| {
            let Some(pod) = change.object() else { return };
            for budget in budgets.in_namespace(namespace(&pod.metadata)) {
                let concerned = |pod: &Arc<Pod>| selects(&budget, pod);
                if change.old.is_some_and(concerned) || change.new.is_some_and(concerned) {
                    queue.add(Key::of(&budget.metadata));
                }
            }
        }
    });
    tasks.spawn(async move {
        shared.disruption_budgets.synced().await;
        shared.pods.synced().await;
        shared.replica_sets.synced().await;
        shared.deployments.synced().await;
        shared.stateful_sets.synced().await;
        shared.replication_controllers.synced().await;
        let reconcile = |key| {
            let (context, queue) = (context.clone(), queue.clone());
            async move { reconcile(&context, &queue, key).await }
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

async fn reconcile(context: &Context, queue: &Queue<Key>, key: Key) -> Result<(), Error> {
    let shared = &context.shared;
    let Some(budget) = shared.disruption_budgets.get(&key) else {
        return Ok(());
    };
    let mut pods = shared.pods.in_namespace(&key.namespace);
    pods.retain(|pod| selects(&budget, pod));
    if pods.is_empty() {
        context.normal(budget.as_ref(), "NoPods", "No matching pods found".to_string());
    }
    let unmanaged = pods.iter().any(|pod| controller_of(&pod.metadata).is_none());
    if plan::needs_scale(&budget) && unmanaged {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status \
             of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these \
             pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
            selector.map(selector::show).unwrap_or_default()
        );
        context.warning(budget.as_ref(), "UnmanagedPods", message);
    }
    let scale = if plan::needs_scale(&budget) {
        scale(context, &key.namespace, &pods).await
    } else {
        Ok(0)
    };
    if let Err(message) = &scale {
        let message = format!("Failed to calculate the number of expected pods: {message}");
        context.warning(budget.as_ref(), "CalculateExpectedPodCountFailed", message);
    }
    let failed = scale.clone().err();
    let now = Timestamp::now();
    let plan = plan::plan(&budget, &pods, scale, now);
    if let Some(at) = plan.look_again {
        let wait = at.duration_since(now).unsigned_abs();
        queue.add_after(key.clone(), wait + Duration::from_millis(10));
    }
    // The controllers of the pods may be seen later than the pods.
    let again = failed.map_or(Ok(()), |message| Err(Error::Again(message)));
    if budget.status.as_ref() == Some(&plan.status) {
        return again;
    }
    let api: Api<PodDisruptionBudget> = Api::namespaced(context.client.clone(), &key.namespace);
    let mut updated = PodDisruptionBudget::clone(&budget);
    updated.status = Some(plan.status);
    let written = api.replace_status(&key.name, &PostParams::default(), &updated).await;
    gone_is_fine(written.doing(|| format!("write the status of disruption budget {key}")))?;
    again
}

/// How many pods the controllers of these pods want in all.
async fn scale(context: &Context, namespace: &str, pods: &[Arc<Pod>]) -> Result<i32, String> {
    let mut owners: Vec<&OwnerReference> = pods.iter().filter_map(|pod| controller_of(&pod.metadata)).collect();
    owners.sort_by(|a, b| a.uid.cmp(&b.uid));
    owners.dedup_by(|a, b| a.uid == b.uid);
    let (mut total, mut counted) = (0, BTreeSet::new());
    for owner in owners {
        let (uid, replicas) = wanted_by(context, namespace, owner).await?;
        if counted.insert(uid) {
            total += replicas;
        }
    }
    Ok(total)
}

/// The uid of what decides the number of pods (a ReplicaSet's Deployment, say), and that number.
async fn wanted_by(context: &Context, namespace: &str, owner: &OwnerReference) -> Result<(String, i32), String> {
    let shared = &context.shared;
    let key = Key::new(namespace, &owner.name);
    let known = match owner.kind.as_str() {
        "ReplicaSet" => shared.replica_sets.get(&key).map(|set| {
            let parent = controller_of(&set.metadata).filter(|parent| parent.kind == "Deployment");
            let deployment = parent.and_then(|parent| shared.deployments.get(&Key::new(namespace, &parent.name)));
            match (parent, deployment) {
                (Some(parent), Some(deployment)) => {
                    let spec = deployment.spec.as_ref();
                    (parent.uid.clone(), spec.and_then(|spec| spec.replicas).unwrap_or(1))
                }
                _ => {
                    let spec = set.spec.as_ref();
                    (owner.uid.clone(), spec.and_then(|spec| spec.replicas).unwrap_or(1))
                }
            }
        }),
        "StatefulSet" => shared.stateful_sets.get(&key).map(|set| {
            let spec = set.spec.as_ref();
            (owner.uid.clone(), spec.and_then(|spec| spec.replicas).unwrap_or(1))
        }),
        "ReplicationController" => shared.replication_controllers.get(&key).map(|set| {
            let spec = set.spec.as_ref();
            (owner.uid.clone(), spec.and_then(|spec| spec.replicas).unwrap_or(1))
        }),
        _ => None,
    };
    if let Some(known) = known {
        return Ok(known);
    }
    let version: GroupVersion = owner.api_version.parse().map_err(|_| {
        let kind = &owner.kind;
        format!(
            "{:?} of owner {kind} {} is no API version",
            owner.api_version, owner.name
        )
    })?;
    scale_of(context, namespace, owner, &version)
        .await
        .map(|replicas| (owner.uid.clone(), replicas))
        .map_err(|error| match error {
            kube::Error::Api(status) if status.code == 404 => {
                format!(
                    "{}.{} does not implement the scale subresource",
                    owner.kind, owner.api_version
                )
            }
            other => other.to_string(),
        })
}

/// Custom kinds say it through their scale subresource.
async fn scale_of(
    context: &Context,
    namespace: &str,
    owner: &OwnerReference,
    version: &GroupVersion,
) -> Result<i32, kube::Error> {
    let (resource, _) = kube::discovery::pinned_kind(&context.client, &version.clone().with_kind(&owner.kind)).await?;
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let scale = api.get_scale(&owner.name).await?;
    Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))
}
