//! Makes the claims of pods' own volumes (`ephemeral`), which live as long as their pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{self, PersistentVolumeClaim};
use kube::Api;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error};
use crate::key::{Key, controller_of, controller_reference, name, namespace, uid};
use crate::queue::Queue;
use crate::slim::Pod;
use crate::worker::work;

/// Upstream's number.
const WORKERS: usize = 10;

/// Names of the pod's volumes of this kind; of none that is going. Pure.
fn volumes_of(pod: &Pod) -> Vec<&str> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let own = volumes.filter(|volume| volume.ephemeral.is_some());
    own.map(|volume| volume.name.as_str()).collect()
}

/// The claim that is made for a pod's volume; none for a volume of another kind. Pure.
fn claim_for(pod: &ObjectMeta, volume: &v1::Volume) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let said = template.metadata.clone().unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", name(pod), volume.name)),
            namespace: pod.namespace.clone(),
            labels: said.labels,
            annotations: said.annotations,
            owner_references: Some(vec![controller_reference("v1", "Pod", pod)]),
            ..Default::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    })
}

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("ephemeral_volume"));
    let shared = context.shared.clone();
    shared.pods.on_change({
        let queue = queue.clone();
        move |change| {
            // What a pod's volumes are never changes.
            if let (None, Some(pod)) = (change.old, change.new)
                && !volumes_of(pod).is_empty()
            {
                queue.add(Key::of(&pod.metadata));
            }
        }
    });
    shared.claims.on_change({
        let (queue, pods) = (queue.clone(), shared.pods.clone());
        move |change| {
            let (Some(claim), None) = (change.old, change.new) else {
                return;
            };
            let Some(owner) = controller_of(&claim.metadata).filter(|owner| owner.kind == "Pod") else {
                return;
            };
            let key = Key::new(namespace(&claim.metadata), &owner.name);
            if pods.get(&key).is_some() {
                queue.add(key);
            }
        }
    });
    tasks.spawn(async move {
        shared.pods.synced().await;
        shared.claims.synced().await;
        let reconcile = |key: Key| {
            let context = context.clone();
            async move { reconcile(&context, key).await }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

async fn reconcile(context: &Context, key: Key) -> Result<(), Error> {
    let shared = &context.shared;
    let Some(known) = shared.pods.get(&key) else {
        return Ok(());
    };
    let mut missing = false;
    for volume in volumes_of(&known) {
        let claim = Key::new(&key.namespace, &format!("{}-{volume}", key.name));
        match shared.claims.get(&claim) {
            None => missing = true,
            Some(claim) => check_owner(&known, &claim)?,
        }
    }
    if !missing {
        return Ok(());
    }
    // The cache does not keep templates.
    let pods: Api<v1::Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let pod = pods.get_opt(&key.name).await.doing(|| format!("read pod {key}"))?;
    let Some(pod) = pod.filter(|pod| pod.metadata.uid == known.metadata.uid) else {
        return Ok(());
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let Some(claim) = claim_for(&pod.metadata, volume) else {
            continue;
        };
        let made = claims.create(&PostParams::default(), &claim).await;
        match made.doing(|| format!("create claim {}", name(&claim.metadata))) {
            // The cache lagged; whose it is shows at the next look.
            Err(error) if error.is_already_exists() => {}
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            made => drop(made?),
        }
    }
    Ok(())
}

fn check_owner(pod: &Pod, claim: &PersistentVolumeClaim) -> Result<(), Error> {
    if controller_of(&claim.metadata).is_some_and(|owner| owner.uid == uid(&pod.metadata)) {
        return Ok(());
    }
    let (of, pod, claim) = (namespace(&pod.metadata), name(&pod.metadata), name(&claim.metadata));
    Err(Error::Again(format!(
        "PVC {of}/{claim} was not created for pod {of}/{pod} (pod is not owner)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_the_templates_and_the_pods() {
        let pod: ObjectMeta =
            serde_json::from_value(json!({"name": "p", "namespace": "n", "uid": "u"})).expect("metadata");
        let volume = |volume: serde_json::Value| -> v1::Volume { serde_json::from_value(volume).expect("a volume") };
        let own = volume(json!({"name": "data", "ephemeral": {"volumeClaimTemplate": {
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}));
        let claim = claim_for(&pod, &own).expect("one of its own");
        assert_eq!(
            serde_json::to_value(&claim).expect("written"),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "p-data", "namespace": "n", "labels": {"a": "b"}, "annotations": {"c": "d"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u",
                        "controller": true, "blockOwnerDeletion": true}]},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        );
        assert_eq!(claim_for(&pod, &volume(json!({"name": "x", "emptyDir": {}}))), None);
        let of = |uid: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": uid}})).expect("a pod")
        };
        assert!(check_owner(&of("u"), &claim).is_ok());
        let error = check_owner(&of("v"), &claim).expect_err("another pod's");
        assert_eq!(
            error.to_string(),
            "PVC n/p-data was not created for pod n/p (pod is not owner)"
        );
    }

    #[test]
    fn a_pod_that_goes_gets_none() {
        let pod = |extra: serde_json::Value| -> Pod {
            let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "volumes": [
                {"name": "a", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}, {"name": "b", "emptyDir": {}}]}});
            pod["metadata"]["deletionTimestamp"] = extra;
            serde_json::from_value(pod).expect("a pod")
        };
        assert_eq!(volumes_of(&pod(json!(null))), ["a"]);
        assert!(volumes_of(&pod(json!("2026-01-01T00:00:00Z"))).is_empty());
    }
}
