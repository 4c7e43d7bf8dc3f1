//! Deletes pods whose node has a NoExecute taint that they do not tolerate, or no longer tolerate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, name, uid};
use crate::pods::{is_finished, is_terminating, node_name};
use crate::queue::Queue;
use crate::shared::on_node;
use crate::worker::work;

use super::health::{Eviction, eviction};

const WORKERS: usize = 8;
const NAME: &str = "taint-eviction-controller";

fn taints(node: Option<&Arc<Node>>) -> Vec<Taint> {
    let all = node
        .and_then(|node| node.spec.as_ref())
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    all.into_iter().filter(|taint| taint.effect == "NoExecute").collect()
}

/// Pods that wait for the end of what they tolerate, with their uids and since when.
type Doomed = HashMap<Key, (String, Timestamp)>;

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let context = Context { name: NAME, ..context };
    let queue = Arc::new(Queue::new("noexec_taint_pod"));
    let shared = context.shared.clone();
    shared.nodes.on_change({
        let (queue, shared) = (queue.clone(), shared.clone());
        move |change| {
            let Some(node) = change.new else { return };
            if taints(change.old) != taints(change.new) {
                for pod in shared.pods.indexed(&on_node(name(&node.metadata))) {
                    queue.add(Key::of(&pod.metadata));
                }
            }
        }
    });
    shared.pods.on_change({
        let (queue, shared) = (queue.clone(), shared.clone());
        move |change| {
            let Some(pod) = change.new else { return };
            let Some(node) = node_name(pod) else { return };
            let tolerated = |pod: &Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
            let changed = change
                .old
                .is_none_or(|old| node_name(old) != Some(node) || tolerated(old) != tolerated(pod));
            if changed && !taints(shared.nodes.get(&Key::new("", node)).as_ref()).is_empty() {
                queue.add(Key::of(&pod.metadata));
            }
        }
    });
    let doomed: Arc<Mutex<Doomed>> = Arc::default();
    shared.pods.on_change({
        let doomed = doomed.clone();
        move |change| {
            if let (Some(pod), None) = (change.old, change.new) {
                forget(&doomed, &Key::of(&pod.metadata));
            }
        }
    });
    tasks.spawn(async move {
        shared.nodes.synced().await;
        shared.pods.synced().await;
        let reconcile = |key| {
            let (context, queue, doomed) = (context.clone(), queue.clone(), doomed.clone());
            async move { evict(&context, &queue, &doomed, key).await }
        };
        work(NAME, queue.clone(), WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

/// Whether the pod was waiting.
fn forget(doomed: &Mutex<Doomed>, key: &Key) -> bool {
    let mut doomed = doomed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    doomed.remove(key).is_some()
}

/// Since when this pod waits.
fn since(doomed: &Mutex<Doomed>, key: &Key, pod: &Pod) -> Option<Timestamp> {
    let doomed = doomed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (of, since) = doomed.get(key)?;
    (of == uid(&pod.metadata)).then_some(*since)
}

async fn evict(context: &Context, queue: &Queue<Key>, doomed: &Mutex<Doomed>, key: Key) -> Result<(), Error> {
    let Some(pod) = context.shared.pods.get(&key) else {
        return Ok(());
    };
    if is_terminating(&pod) || is_finished(&pod) {
        return Ok(());
    }
    let Some(node) = node_name(&pod) else { return Ok(()) };
    let now = Timestamp::now();
    let seen = since(doomed, &key, &pod).unwrap_or(now);
    let at = match eviction(
        &pod,
        &taints(context.shared.nodes.get(&Key::new("", node)).as_ref()),
        seen,
        now,
    ) {
        Eviction::Never => {
            if forget(doomed, &key) {
                let message = format!("Cancelling deletion of Pod {key}");
                context.normal(pod.as_ref(), "TaintManagerEviction", message);
            }
            return Ok(());
        }
        Eviction::At(at) => at,
    };
    if at > now {
        let wait = at.duration_since(now).unsigned_abs();
        doomed
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .insert(key.clone(), (uid(&pod.metadata).to_string(), seen));
        queue.add_after(key, wait.max(Duration::from_millis(1)));
        return Ok(());
    }
    forget(doomed, &key);
    context.normal(
        pod.as_ref(),
        "TaintManagerEviction",
        format!("Marking for deletion Pod {key}"),
    );
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [{
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": crate::key::time(now),
    }]}});
    let marked = api
        .patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    gone_is_fine(marked.doing(|| format!("mark pod {key} for eviction")))?;
    let parameters = DeleteParams::default().preconditions(Preconditions {
        uid: pod.metadata.uid.clone(),
        resource_version: None,
    });
    let deleted = api.delete(&key.name, &parameters).await;
    gone_is_fine(deleted.doing(|| format!("evict pod {key}")))
}
