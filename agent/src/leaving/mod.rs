//! The machine goes down: its pods end in order, with the time that the administrator
//! gives them, and are told as Failed, so that others take their place (KEP-2000).
//!
//! ```text
//! leaving --> no pod is let in, the node is not Ready
//!        \--> groups, one after another --End--> supervisor --> all over, or time is up --> shutdown
//! ```

pub mod plan;

use crate::eviction::Ending;
use crate::manifest;
use crate::pod::node::Shared;
use crate::pod::plan::Verdict;
use crate::pod::spec;
use k8s_openapi::api::core::v1::Pod;
use plan::Group;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Why the node is not Ready.
pub const NOT_READY: &str = "node is shutting down";
const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// How often it is looked whether a group is over; this happens once in a node's life.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a pod is not let in any more: reason and message.
pub fn refusal() -> (String, String) {
    let message = "Pod was rejected as the node is shutting down.";
    ("NodeShutdown".to_owned(), message.to_owned())
}

/// Waits for the machine to go down; ends the pods, then the agent.
pub async fn run(shared: Arc<Shared>, endings: mpsc::Sender<Ending>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = shared.leaving.cancelled() => {}
    }
    let grace = shared.config.shutdown_grace;
    tracing::info!(grace_s = grace.all.as_secs(), "the machine goes down");
    let text = "Shutdown manager detected shutdown event".to_owned();
    shared
        .recorder
        .node(&shared.config.node_name, false, "NodeShutdown", text);
    let runs = |pod: &Arc<Pod>| !spec::phase_is_final(pod) && shared.ledger.holds(spec::uid(pod));
    let pods: Vec<Arc<Pod>> = shared.cache.pods().into_values().filter(runs).collect();
    if !grace.all.is_zero() {
        for group in plan::groups(pods, grace) {
            let ended = end(&shared, &endings, &group);
            if tokio::time::timeout(group.within + LOOK_EVERY * 10, ended)
                .await
                .is_err()
            {
                tracing::warn!("not all pods ended in the time that they had");
            }
        }
    }
    shutdown.cancel();
}

/// Ends these pods and waits until the API has heard of it.
async fn end(shared: &Shared, endings: &mpsc::Sender<Ending>, group: &Group) {
    for (pod, grace_s) in &group.pods {
        let verdict = Verdict {
            reason: REASON.to_owned(),
            message: MESSAGE.to_owned(),
            disruption: Some(("TerminationByKubelet".to_owned(), MESSAGE.to_owned())),
            grace_s: Some(*grace_s),
            ..Verdict::default()
        };
        if endings.send((spec::uid(pod).to_owned(), verdict)).await.is_err() {
            return;
        }
    }
    let over = |pod: &Pod| {
        let known = shared.cache.pod(&spec::key(pod));
        let same = known.filter(|known| spec::uid(known) == spec::uid(pod));
        // The likeness of a pod of the node's own is told by somebody else.
        let told = same.is_none_or(|known| manifest::is_static(&known) || spec::phase_is_final(&known));
        told && !shared.ledger.holds(spec::uid(pod))
    };
    while !group.pods.iter().all(|(pod, _)| over(pod)) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
