//! Lets claims, volumes and classes of their attributes that are being deleted go once nothing uses
//! them: takes their protecting finalizers away. Admission puts these on.

use std::fmt::Debug;
use std::sync::Arc;

use crate::slim::Pod;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::Api;
use kube::Resource;
use kube::api::{ListParams, PostParams};
use kube::core::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, name, namespace};
use crate::pods::node_name;
use crate::queue::Queue;
use crate::worker::work;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const ATTRIBUTES_FINALIZER: &str = "kubernetes.io/vac-protection";
const WORKERS: usize = 4;

pub fn start(claims: Context, volumes: Context, attributes: Context, tasks: &mut JoinSet<()>) {
    start_claims(claims, tasks);
    start_volumes(volumes, tasks);
    start_attributes(attributes, tasks);
}

fn waits(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().any(|known| known == finalizer)
}

/// Names of the claims that a pod mounts, also those made for it alone. Pure.
pub fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            let claim = volume.persistent_volume_claim.as_ref();
            let made = volume.ephemeral.as_ref();
            claim
                .map(|claim| claim.claim_name.clone())
                .or_else(|| made.map(|_| format!("{}-{}", name(&pod.metadata), volume.name)))
        })
        .collect()
}

/// A pod that has no node yet will not start with a claim that is going; any other holds it while it exists.
fn uses(pod: &Pod, claim: &str) -> bool {
    node_name(pod).is_some() && claims_of(pod).iter().any(|used| used == claim)
}

fn start_claims(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("pvcprotection"));
    let shared = context.shared.clone();
    shared.claims.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(claim) = change.new.filter(|claim| waits(&claim.metadata, CLAIM_FINALIZER)) {
                queue.add(Key::of(&claim.metadata));
            }
        }
    });
    shared.pods.on_change({
        let (queue, claims) = (queue.clone(), shared.claims.clone());
        move |change| {
            let (Some(pod), None) = (change.old, change.new) else {
                return;
            };
            for claim in claims_of(pod) {
                let key = Key::new(namespace(&pod.metadata), &claim);
                if claims
                    .get(&key)
                    .is_some_and(|claim| waits(&claim.metadata, CLAIM_FINALIZER))
                {
                    queue.add(key);
                }
            }
        }
    });
    tasks.spawn(async move {
        shared.claims.synced().await;
        shared.pods.synced().await;
        let reconcile = |key: Key| {
            let context = context.clone();
            async move { release_claim(&context, key).await }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

async fn release_claim(context: &Context, key: Key) -> Result<(), Error> {
    let shared = &context.shared;
    let Some(claim) = shared
        .claims
        .get(&key)
        .filter(|claim| waits(&claim.metadata, CLAIM_FINALIZER))
    else {
        return Ok(());
    };
    let mut known = shared.pods.in_namespace(&key.namespace).into_iter();
    if known.any(|pod| uses(&pod, &key.name)) {
        return Ok(());
    }
    // The cache may lag, and losing data is worse than one more list.
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let pods = pods.list(&ListParams::default()).await;
    let pods = pods.doing(|| format!("look for pods that use claim {key}"))?;
    if pods.items.iter().any(|pod| uses(pod, &key.name)) {
        return Ok(());
    }
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    release(&api, claim.as_ref(), CLAIM_FINALIZER).await
}

fn start_volumes(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("pvprotection"));
    let volumes = context.shared.volumes.clone();
    volumes.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(volume) = change.new.filter(|volume| waits(&volume.metadata, VOLUME_FINALIZER)) {
                queue.add(Key::of(&volume.metadata));
            }
        }
    });
    tasks.spawn(async move {
        volumes.synced().await;
        let reconcile = |key: Key| {
            let context = context.clone();
            async move {
                let Some(volume) = context.shared.volumes.get(&key) else {
                    return Ok(());
                };
                let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
                if phase == Some("Bound") || !waits(&volume.metadata, VOLUME_FINALIZER) {
                    return Ok(());
                }
                let api: Api<PersistentVolume> = Api::all(context.client.clone());
                release(&api, volume.as_ref(), VOLUME_FINALIZER).await
            }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

/// The classes of attributes that a claim has, had, or is to get. Pure.
fn attributes_of_claim(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let status = claim.status.as_ref();
    let changing = status.and_then(|status| status.modify_volume_status.as_ref());
    let asked = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = changing.and_then(|changing| changing.target_volume_attributes_class_name.as_deref());
    let names = [asked, current, target].into_iter().flatten();
    names.filter(|name| !name.is_empty()).collect()
}

fn attributes_of_volume(volume: &PersistentVolume) -> Option<&str> {
    let spec = volume.spec.as_ref()?;
    spec.volume_attributes_class_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

fn start_attributes(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("vacprotection"));
    let shared = context.shared.clone();
    let waiting = {
        let classes = shared.volume_attributes_classes.clone();
        move |name: &str| {
            let key = Key::new("", name);
            let known = classes.get(&key);
            known
                .is_some_and(|class| waits(&class.metadata, ATTRIBUTES_FINALIZER))
                .then_some(key)
        }
    };
    shared.volume_attributes_classes.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(class) = change.new.filter(|class| waits(&class.metadata, ATTRIBUTES_FINALIZER)) {
                queue.add(Key::of(&class.metadata));
            }
        }
    });
    // Only what lets go of a class matters, and it is looked at again then.
    shared.claims.on_change({
        let (queue, waiting) = (queue.clone(), waiting.clone());
        move |change| {
            let before = change.old.iter().flat_map(|claim| attributes_of_claim(claim));
            before.filter_map(&waiting).for_each(|key| queue.add(key));
        }
    });
    shared.volumes.on_change({
        let queue = queue.clone();
        move |change| {
            let before = change.old.and_then(|volume| attributes_of_volume(volume));
            before.and_then(&waiting).into_iter().for_each(|key| queue.add(key));
        }
    });
    tasks.spawn(async move {
        shared.volume_attributes_classes.synced().await;
        shared.claims.synced().await;
        shared.volumes.synced().await;
        let reconcile = |key: Key| {
            let context = context.clone();
            async move { release_attributes(&context, key).await }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

async fn release_attributes(context: &Context, key: Key) -> Result<(), Error> {
    let shared = &context.shared;
    let class = shared.volume_attributes_classes.get(&key);
    let Some(class) = class.filter(|class| waits(&class.metadata, ATTRIBUTES_FINALIZER)) else {
        return Ok(());
    };
    let name = key.name.as_str();
    let mut claims = shared.claims.list().into_iter();
    let mut volumes = shared.volumes.list().into_iter();
    if claims.any(|claim| attributes_of_claim(&claim).contains(&name))
        || volumes.any(|volume| attributes_of_volume(&volume) == Some(name))
    {
        return Ok(());
    }
    let api: Api<VolumeAttributesClass> = Api::all(context.client.clone());
    release(&api, class.as_ref(), ATTRIBUTES_FINALIZER).await
}

async fn release<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let own_name = name(object.meta());
    let mut updated = object.clone();
    if let Some(finalizers) = &mut updated.meta_mut().finalizers {
        finalizers.retain(|known| known != finalizer);
    }
    let written = api.replace(own_name, &PostParams::default(), &updated).await;
    gone_is_fine(written.doing(|| format!("let {} {own_name} go", K::kind(&()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_and_volumes_hold_their_classes_of_attributes() {
        let claim =
            |claim: serde_json::Value| -> PersistentVolumeClaim { serde_json::from_value(claim).expect("a claim") };
        let all = claim(
            serde_json::json!({"metadata": {}, "spec": {"volumeAttributesClassName": "new"}, "status": {
            "currentVolumeAttributesClassName": "old",
            "modifyVolumeStatus": {"status": "Pending", "targetVolumeAttributesClassName": "next"}}}),
        );
        assert_eq!(attributes_of_claim(&all), ["new", "old", "next"]);
        let none = claim(serde_json::json!({"metadata": {}, "spec": {"volumeAttributesClassName": ""}, "status": {}}));
        assert!(attributes_of_claim(&none).is_empty());
        let volume = serde_json::json!({"metadata": {}, "spec": {"volumeAttributesClassName": "old"}});
        let volume: PersistentVolume = serde_json::from_value(volume).expect("a volume");
        assert_eq!(attributes_of_volume(&volume), Some("old"));
    }

    #[test]
    fn a_pod_on_a_node_holds_its_claims() {
        let pod = |node: Option<&str>| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "p"},
                "spec": {"nodeName": node, "containers": [], "volumes": [
                    {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "b", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
                    {"name": "c", "emptyDir": {}},
                ]},
            }))
            .expect("a pod")
        };
        assert_eq!(claims_of(&pod(None)), ["data", "p-b"]);
        assert!(uses(&pod(Some("n")), "data") && uses(&pod(Some("n")), "p-b"));
        assert!(!uses(&pod(None), "data") && !uses(&pod(Some("n")), "other"));
    }
}
