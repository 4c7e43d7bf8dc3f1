//! Takes back that a pod is about to be disrupted where, some time later, nobody has deleted it.

use std::sync::Arc;
use std::time::Duration;

use crate::slim::Pod;
use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, seconds_between, time, uid};
use crate::pods::{is_finished, is_terminating};
use crate::queue::Queue;
use crate::worker::work;

const TARGET: &str = "DisruptionTarget";
/// Whoever said so had this long to delete the pod; upstream's time.
const STALE_SECONDS: i64 = 120;

/// Seconds until the condition is stale; none where it is not there, or a kubelet's, which takes its time. Pure.
fn stale_in(pod: &Pod, now: Timestamp) -> Option<i64> {
    if is_terminating(pod) || is_finished(pod) {
        return None;
    }
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let known = conditions.find(|known| known.type_ == TARGET && known.status == "True")?;
    if known.reason.as_deref() == Some("TerminationByKubelet") {
        return None;
    }
    let since = known.last_transition_time.as_ref()?.0;
    Some((STALE_SECONDS - seconds_between(since, now)).max(0))
}

pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("stale_pod_disruption"));
    context.shared.pods.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(pod) = change.new
                && let Some(seconds) = stale_in(pod, Timestamp::now())
            {
                let wait = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                queue.add_after(Key::of(&pod.metadata), wait);
            }
        }
    });
    let context = context.clone();
    tasks.spawn(async move {
        context.shared.pods.synced().await;
        let reconcile = |key| {
            let (context, queue) = (context.clone(), queue.clone());
            async move { take_back(&context, &queue, key).await }
        };
        work(context.name, queue.clone(), 1, context.shutdown.clone(), reconcile).await;
    });
}

async fn take_back(context: &Context, queue: &Queue<Key>, key: Key) -> Result<(), Error> {
    let now = Timestamp::now();
    let Some(pod) = context.shared.pods.get(&key) else {
        return Ok(());
    };
    let Some(seconds) = stale_in(&pod, now) else {
        return Ok(());
    };
    if seconds > 0 {
        queue.add_after(key, Duration::from_secs(u64::try_from(seconds).unwrap_or(1)));
        return Ok(());
    }
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let patch = json!({"metadata": {"uid": uid(&pod.metadata)}, "status": {"conditions": [
        {"type": TARGET, "status": "False", "lastTransitionTime": time(now)},
    ]}});
    let written = api
        .patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    gone_is_fine(written.doing(|| format!("take back the disruption of pod {key}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::{at, pod};
    use crate::slim::PodCondition;

    #[test]
    fn only_what_nobody_acts_on_is_taken_back() {
        let marked = |status: &str, reason: &str| {
            let mut marked = pod("p", "Running", Some("n"), Some(1));
            let condition = PodCondition {
                type_: TARGET.to_string(),
                status: status.to_string(),
                reason: Some(reason.to_string()),
                last_transition_time: Some(time(at(100))),
            };
            let status = marked.status.get_or_insert_default();
            status.conditions.get_or_insert_default().push(condition);
            marked
        };
        assert_eq!(stale_in(&pod("p", "Running", None, None), at(500)), None);
        assert_eq!(stale_in(&marked("True", "EvictionByEvictionAPI"), at(150)), Some(70));
        assert_eq!(stale_in(&marked("True", "EvictionByEvictionAPI"), at(500)), Some(0));
        assert_eq!(stale_in(&marked("True", "TerminationByKubelet"), at(500)), None);
        assert_eq!(stale_in(&marked("False", "EvictionByEvictionAPI"), at(500)), None);
        let mut leaving = marked("True", "EvictionByEvictionAPI");
        leaving.metadata.deletion_timestamp = Some(time(at(101)));
        assert_eq!(stale_in(&leaving, at(500)), None);
    }
}
