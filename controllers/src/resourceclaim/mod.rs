//! Claims of devices (dynamic resource allocation): makes those that pods have templates for, takes pods that
//! ended out of `status.reservedFor`, and the devices back when nobody is left there.
//!
//! ```text
//! pods ----> reconcile_pod ----> claims made, pod status, reservations of pods that no scheduler placed
//! claims --> reconcile_claim --> reservedFor, allocation, finalizer; claims of pods that ended are deleted
//! ```

mod plan;

pub use plan::used;

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, name, namespace, uid};
use crate::pods::{is_terminating, node_name};
use crate::queue::Queue;
use crate::shared::{claiming, owned_by};
use crate::slim::Pod;
use crate::worker::work;
use plan::Fate;

/// Upstream's number.
const WORKERS: usize = 10;
const MANAGER: &str = "ResourceClaimController";
/// Pods that may use one claim at once.
const CONSUMERS_MAX: usize = 256;

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let pods: Arc<Queue<Key>> = Arc::new(Queue::new("resource_claim_pods"));
    let claims: Arc<Queue<Key>> = Arc::new(Queue::new("resource_claim"));
    let shared = context.shared.clone();
    shared.pods.on_change({
        let (pods, claims, known) = (pods.clone(), claims.clone(), shared.resource_claims.clone());
        move |change| {
            let Some(pod) = change.object().filter(|pod| !plan::entries(pod).is_empty()) else {
                return;
            };
            let key = Key::of(&pod.metadata);
            if change.new.is_some() && !plan::is_done(pod) {
                return pods.add(key);
            }
            for name in plan::used(pod) {
                claims.add(Key::new(&key.namespace, name));
            }
            for claim in known.indexed(&owned_by(uid(&pod.metadata))) {
                claims.add(Key::of(&claim.metadata));
            }
        }
    });
    shared.resource_claims.on_change({
        let (pods, claims, known) = (pods.clone(), claims.clone(), shared.pods.clone());
        move |change| {
            let Some(claim) = change.object() else { return };
            let key = Key::of(&claim.metadata);
            for pod in known.indexed(&claiming(&key)) {
                pods.add(Key::of(&pod.metadata));
            }
            if change.new.is_some() {
                claims.add(key);
            }
        }
    });
    for (queue, of_pods) in [(pods, true), (claims, false)] {
        let context = context.clone();
        tasks.spawn(async move {
            context.shared.pods.synced().await;
            context.shared.resource_claims.synced().await;
            let reconcile = |key: Key| {
                let context = context.clone();
                async move {
                    match of_pods {
                        true => reconcile_pod(&context, key).await,
                        false => reconcile_claim(&context, key).await,
                    }
                }
            };
            work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
        });
    }
}

async fn reconcile_pod(context: &Context, key: Key) -> Result<(), Error> {
    let Some(pod) = context.shared.pods.get(&key) else {
        return Ok(());
    };
    if is_terminating(&pod) || plan::is_done(&pod) {
        return Ok(());
    }
    let mut statuses = Vec::new();
    let mut news = false;
    for entry in plan::entries(&pod) {
        let Some(template) = &entry.resource_claim_template_name else {
            continue;
        };
        let known = plan::made(&pod, &entry.name);
        let named = match made(context, &pod, &entry.name, template).await {
            Ok(named) => named,
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => {
                let text = match &error {
                    Error::Api { .. } => format!("create ResourceClaim : {}", error.message()),
                    other => other.to_string(),
                };
                let text = format!("PodResourceClaim {}: {text}", entry.name);
                context.warning(&*pod, "FailedResourceClaimCreation", text);
                return Err(error);
            }
        };
        news |= known != Some(named.as_str());
        statuses.push(match named.as_str() {
            "" => json!({"name": entry.name}),
            claim => json!({"name": entry.name, "resourceClaimName": claim}),
        });
    }
    if news {
        let api: Api<v1::Pod> = Api::namespaced(context.client.clone(), &key.namespace);
        let status = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid(&pod.metadata)},
            "status": {"resourceClaimStatuses": statuses}});
        let parameters = PatchParams::apply(MANAGER).force();
        let applied = api.patch_status(&key.name, &parameters, &Patch::Apply(&status)).await;
        return gone_is_fine(applied.doing(|| format!("update pod {key} ResourceClaimStatuses")));
    }
    if node_name(&pod).is_some() {
        return reserve(context, &pod).await;
    }
    // The scheduler reserves.
    Ok(())
}

/// The name of the claim that an entry has, perhaps from now on.
async fn made(context: &Context, pod: &Pod, entry: &str, template: &str) -> Result<String, Error> {
    let of = namespace(&pod.metadata);
    let claims = &context.shared.resource_claims;
    match plan::made(pod, entry) {
        Some("") => return Ok(String::new()),
        // It may have been deleted by accident: then it is made anew.
        Some(claim) => {
            let known = claims.get(&Key::new(of, claim));
            if known.is_some_and(|known| plan::is_for(&pod.metadata, &known)) {
                return Ok(claim.into());
            }
        }
        None => {}
    }
    let own = claims.indexed(&owned_by(uid(&pod.metadata)));
    if let Some(orphan) = plan::orphan(own.iter().map(|claim| &**claim), entry) {
        return Ok(name(&orphan.metadata).into());
    }
    let templates: Api<ResourceClaimTemplate> = Api::namespaced(context.client.clone(), of);
    let found = templates.get_opt(template).await;
    let Some(found) = found.doing(|| format!("read resource claim template {of}/{template}"))? else {
        return Err(Error::Again(format!(
            "resource claim template \"{template}\": resourceclaimtemplate.resource.k8s.io \"{template}\" not found"
        )));
    };
    // The cache may lag behind what this controller did just now.
    let api: Api<ResourceClaim> = Api::namespaced(context.client.clone(), of);
    let claim = plan::claim_for(&pod.metadata, entry, &found);
    let made = api.create(&PostParams::default(), &claim).await;
    let made = made.doing(|| format!("create ResourceClaim for pod {}", Key::of(&pod.metadata)))?;
    Ok(name(&made.metadata).into())
}

/// A pod that was given a node by somebody else than the scheduler uses claims that are allocated.
async fn reserve(context: &Context, pod: &Pod) -> Result<(), Error> {
    let of = namespace(&pod.metadata);
    for claim in plan::used(pod) {
        let Some(known) = context.shared.resource_claims.get(&Key::new(of, claim)) else {
            continue;
        };
        let consumers = plan::consumers(&known);
        let reserved = consumers.iter().any(|one| one.uid == uid(&pod.metadata));
        if reserved || !plan::is_allocated(&known) || consumers.len() >= CONSUMERS_MAX {
            continue;
        }
        let mut new = ResourceClaim::clone(&known);
        let status = new.status.get_or_insert_default();
        status
            .reserved_for
            .get_or_insert_default()
            .push(ResourceClaimConsumerReference {
                api_group: None,
                resource: "pods".into(),
                name: name(&pod.metadata).into(),
                uid: uid(&pod.metadata).into(),
            });
        write_status(context, &new).await?;
    }
    Ok(())
}

async fn write_status(context: &Context, claim: &ResourceClaim) -> Result<ResourceClaim, Error> {
    let (of, name) = (namespace(&claim.metadata), name(&claim.metadata));
    let api: Api<ResourceClaim> = Api::namespaced(context.client.clone(), of);
    let written = api.replace_status(name, &PostParams::default(), claim).await;
    written.doing(|| format!("update the status of resource claim {of}/{name}"))
}

async fn reconcile_claim(context: &Context, key: Key) -> Result<(), Error> {
    let Some(known) = context.shared.resource_claims.get(&key) else {
        return Ok(());
    };
    let mut left = Vec::new();
    for consumer in plan::consumers(&known) {
        if consumer.resource != "pods" || consumer.api_group.as_deref().is_some_and(|group| !group.is_empty()) {
            return Err(Error::Again(format!("unsupported ReservedFor entry: {consumer:?}")));
        }
        if stays(context, &key.namespace, consumer).await? {
            left.push(consumer.clone());
        }
    }
    let api: Api<ResourceClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    let mut claim = ResourceClaim::clone(&known);
    let new = plan::status(&claim, &left);
    let changed = new.is_some();
    if let Some(new) = new {
        match write_status(context, &new).await {
            Err(error) if error.is_not_found() => return Ok(()),
            written => claim = written?,
        }
    }
    if let Some(new) = plan::released(&claim, changed) {
        let released = api.replace(&key.name, &PostParams::default(), &new).await;
        gone_is_fine(released.doing(|| format!("release resource claim {key}")))?;
    }
    if left.is_empty() {
        delete_unused(context, &key, &claim).await?;
    }
    Ok(())
}

async fn stays(context: &Context, of: &str, consumer: &ResourceClaimConsumerReference) -> Result<bool, Error> {
    let key = Key::new(of, &consumer.name);
    match plan::fate(consumer, context.shared.pods.get(&key).as_deref()) {
        Fate::Stays => return Ok(true),
        Fate::Goes => return Ok(false),
        Fate::Unknown => {}
    }
    // It may be too new for the cache, and the scheduler at it.
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), of);
    let pod = pods.get_opt(&consumer.name).await.doing(|| format!("read pod {key}"))?;
    Ok(pod.is_some_and(|pod| plan::fate(consumer, Some(&pod)) == Fate::Stays))
}

/// A claim that was made for a pod which will not run any more. That of a pod which is gone is the garbage
/// collector's.
async fn delete_unused(context: &Context, key: &Key, claim: &ResourceClaim) -> Result<(), Error> {
    let Some((pod, of)) = plan::owner(claim).filter(|_| claim.metadata.deletion_timestamp.is_none()) else {
        return Ok(());
    };
    let Some(pod) = context.shared.pods.get(&Key::new(&key.namespace, pod)) else {
        return Ok(());
    };
    if uid(&pod.metadata) == of && !plan::is_done(&pod) {
        return Ok(());
    }
    let api: Api<ResourceClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: claim.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let deleted = api.delete(&key.name, &parameters).await;
    gone_is_fine(deleted.map(drop).doing(|| format!("delete claim {key}")))
}
