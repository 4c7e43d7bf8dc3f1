//! Deletes pods that nobody else will: those of nodes that are gone or out of service, finished ones beyond a
//! limit, and terminating ones that never got a node.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, created, name};
use crate::node::node_is_ready;
use crate::pods::{is_finished, is_terminating, node_name, phase};
use crate::queue::Queue;
use crate::shared::on_node;
use crate::worker::work;

const NAME: &str = "pod-garbage-collector";
/// A node may be gone from the watch only for a moment; upstream's quarantine.
const QUARANTINE: Duration = Duration::from_secs(40);
const WORKERS: usize = 4;
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// The queue key that means the count of finished pods.
const FINISHED: &str = "";

/// The finished pods beyond the threshold: first those that were evicted, then the oldest. Pure.
fn surplus(pods: &[Arc<Pod>], threshold: usize) -> Vec<Arc<Pod>> {
    let mut finished: Vec<Arc<Pod>> = pods
        .iter()
        .filter(|pod| is_finished(pod) && !is_terminating(pod))
        .cloned()
        .collect();
    let surplus = finished.len().saturating_sub(threshold);
    finished.sort_by_key(|pod| (!is_evicted(pod), created(&pod.metadata), Key::of(&pod.metadata)));
    finished.truncate(surplus);
    finished
}

fn is_evicted(pod: &Pod) -> bool {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
    phase(pod) == "Failed" && reason == Some("Evicted")
}

/// Somebody vouches that the node is off, so its pods will not end by themselves. Pure.
fn is_out_of_service(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let mut taints = spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.key == OUT_OF_SERVICE) && node_is_ready(node) != "True"
}

pub fn start(context: Context, threshold: usize, tasks: &mut JoinSet<()>) {
    // Node names, pod keys ("namespace/name") and FINISHED.
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("pod_garbage_collector"));
    let shared = context.shared.clone();
    shared.nodes.on_change({
        let queue = queue.clone();
        move |change| {
            if let (Some(node), None) = (change.old, change.new) {
                queue.add_after(Key::new("", name(&node.metadata)), QUARANTINE);
            }
            if let Some(node) = change.new.filter(|node| is_out_of_service(node)) {
                queue.add(Key::new("", name(&node.metadata)));
            }
        }
    });
    shared.pods.on_change({
        let (queue, shared) = (queue.clone(), shared.clone());
        move |change| {
            let Some(pod) = change.new else { return };
            match node_name(pod) {
                None if is_terminating(pod) => queue.add(Key::of(&pod.metadata)),
                None => {}
                Some(node) => {
                    let new = change.old.and_then(|old| node_name(old)).is_none();
                    match shared.nodes.get(&Key::new("", node)) {
                        None if new => queue.add_after(Key::new("", node), QUARANTINE),
                        Some(found) if is_terminating(pod) && is_out_of_service(&found) => {
                            queue.add(Key::new("", node));
                        }
                        _ => {}
                    }
                }
            }
            let was_finished = change.old.is_some_and(|old| is_finished(old));
            if is_finished(pod) && !was_finished && shared.pods.len() > threshold {
                queue.add_after(Key::new("", FINISHED), Duration::from_secs(1));
            }
        }
    });
    tasks.spawn(async move {
        shared.nodes.synced().await;
        shared.pods.synced().await;
        // Nodes that went while nobody looked.
        let known: HashSet<String> = shared
            .nodes
            .list()
            .iter()
            .map(|node| name(&node.metadata).to_string())
            .collect();
        for pod in shared.pods.list() {
            if let Some(node) = node_name(&pod).filter(|node| !known.contains(*node)) {
                queue.add_after(Key::new("", node), QUARANTINE);
            }
        }
        let reconcile = |key: Key| {
            let context = context.clone();
            async move { collect(&context, threshold, key).await }
        };
        work(NAME, queue.clone(), WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

async fn collect(context: &Context, threshold: usize, key: Key) -> Result<(), Error> {
    let shared = &context.shared;
    if !key.namespace.is_empty() {
        let pod = shared
            .pods
            .get(&key)
            .filter(|pod| is_terminating(pod) && node_name(pod).is_none());
        if let Some(pod) = pod {
            fail_and_delete(context, &pod, None).await?;
        }
        return Ok(());
    }
    if key.name == FINISHED {
        for pod in surplus(&shared.pods.list(), threshold) {
            delete(context, &pod).await?;
        }
        return Ok(());
    }
    if let Some(node) = shared.nodes.get(&key) {
        if is_out_of_service(&node) {
            let pods = shared.pods.indexed(&on_node(&key.name));
            for pod in pods.iter().filter(|pod| is_terminating(pod)) {
                fail_and_delete(context, pod, None).await?;
            }
        }
        return Ok(());
    }
    // The cache may lag: the node itself is asked for before its pods go.
    let nodes: Api<Node> = Api::all(context.client.clone());
    if nodes
        .get_opt(&key.name)
        .await
        .doing(|| format!("look for node {key}"))?
        .is_some()
    {
        return Ok(());
    }
    for pod in shared.pods.indexed(&on_node(&key.name)) {
        let orphaned = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": crate::key::time(Timestamp::now()),
        });
        fail_and_delete(context, &pod, Some(orphaned)).await?;
    }
    Ok(())
}

/// A pod that has not finished counts as failed from now on, also for whoever holds it by a finalizer.
async fn fail_and_delete(context: &Context, pod: &Pod, condition: Option<serde_json::Value>) -> Result<(), Error> {
    if !is_finished(pod) {
        let key = Key::of(&pod.metadata);
        let api: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
        let mut patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Failed"}});
        if let Some(condition) = condition {
            patch["status"]["conditions"] = json!([condition]);
        }
        let marked = api
            .patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        gone_is_fine(marked.doing(|| format!("mark pod {key} as failed")))?;
    }
    delete(context, pod).await
}

/// Without grace: no node is there to grant it.
async fn delete(context: &Context, pod: &Pod) -> Result<(), Error> {
    let key = Key::of(&pod.metadata);
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let parameters = DeleteParams::default().grace_period(0).preconditions(Preconditions {
        uid: pod.metadata.uid.clone(),
        resource_version: None,
    });
    gone_is_fine(
        api.delete(&key.name, &parameters)
            .await
            .doing(|| format!("delete pod {key}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn a_node_is_out_of_service_when_it_is_said_and_seen() {
        let node = |taint: &str, ready: &str| -> Node {
            serde_json::from_value(json!({
                "spec": {"taints": [{"key": taint, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .expect("a node")
        };
        assert!(is_out_of_service(&node(OUT_OF_SERVICE, "Unknown")));
        assert!(!is_out_of_service(&node(OUT_OF_SERVICE, "True")));
        assert!(!is_out_of_service(&node("other", "False")));
    }

    #[test]
    fn only_the_oldest_finished_pods_are_surplus() {
        let mut pods = vec![Arc::new(pod("running", "Running", Some("n"), None))];
        for index in 0..4 {
            let mut done = pod(&format!("p{index}"), "Succeeded", Some("n"), None);
            done.metadata.creation_timestamp = Some(crate::key::time(crate::pods::testing::at(100 - index)));
            pods.push(Arc::new(done));
        }
        let names: Vec<_> = surplus(&pods, 2)
            .iter()
            .map(|pod| name(&pod.metadata).to_string())
            .collect();
        assert_eq!(names, ["p3", "p2"]);
        let mut evicted = pod("evicted", "Failed", Some("n"), None);
        evicted.metadata.creation_timestamp = Some(crate::key::time(crate::pods::testing::at(500)));
        evicted.status.get_or_insert_default().reason = Some("Evicted".to_string());
        pods.push(Arc::new(evicted));
        assert_eq!(
            name(&surplus(&pods, 4)[0].metadata),
            "evicted",
            "though it is the newest"
        );
        pods.pop();
        assert!(surplus(&pods, 4).is_empty());
    }
}
