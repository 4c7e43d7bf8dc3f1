//! What the controllers that own pods share: judging pods, ranking them for deletion, and creating them
//! from a template. The first part is pure; [`create_in_batches`] and [`from_template`]'s callers act.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use crate::slim::{ContainerStatus, Pod};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::context::Error;
use crate::key::{annotation, created, seconds_between, uid};

/// A pod to be made, with all that the API knows of pods.
pub type NewPod = k8s_openapi::api::core::v1::Pod;

/// Lower is deleted first; an integer.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Neither finished nor on its way out.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(pod)
}

pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Since when the pod has been ready; none while it is not.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = pod
        .status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == "Ready")?;
    (ready.status == "True").then(|| {
        ready
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    })
}

pub fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// Ready for at least `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    ready_since(pod)
        .is_some_and(|since| min_ready_seconds == 0 || seconds_between(since, now) >= i64::from(min_ready_seconds))
}

/// Seconds until the first of these ready pods becomes available, if one is going to.
pub fn next_available_in<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<i64> {
    pods.into_iter()
        .filter(|pod| is_ready(pod) && !is_available(pod, min_ready_seconds, now))
        .filter_map(|pod| Some(i64::from(min_ready_seconds) - seconds_between(ready_since(pod)?, now)))
        .min()
        .map(|seconds| seconds.max(1))
}

/// Most restarts of a container, and of a sidecar.
fn restarts(pod: &Pod) -> (i32, i32) {
    let most = |statuses: Option<&Vec<ContainerStatus>>| {
        let counts = statuses.into_iter().flatten().map(|container| container.restart_count);
        counts.max().unwrap_or(0)
    };
    let status = pod.status.as_ref();
    (
        most(status.and_then(|status| status.container_statuses.as_ref())),
        most(status.and_then(|status| status.init_container_statuses.as_ref())),
    )
}

fn deletion_cost(pod: &Pod) -> i32 {
    annotation(&pod.metadata, DELETION_COST)
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

/// Ages that differ by less than a power of two count as equal, so that the choice does not always fall on
/// the newest pod (KEP-2185).
fn age_bucket(since: Timestamp, now: Timestamp) -> u32 {
    let seconds = seconds_between(since, now).max(0);
    64 - u64::try_from(seconds).unwrap_or(0).leading_zeros()
}

/// Puts the pods that should be deleted first to the front. `neighbours` counts, per node, the pods related
/// to these (same Deployment, say): where several share a node, one of them goes first.
pub fn rank_for_deletion(pods: &mut [Arc<Pod>], neighbours: &HashMap<String, usize>, now: Timestamp) {
    let rank = |pod: &Pod| {
        node_name(pod)
            .and_then(|node| neighbours.get(node))
            .copied()
            .unwrap_or(0)
    };
    let phase_rank = |pod: &Pod| match phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    pods.sort_by(|a, b| {
        (node_name(a).is_some().cmp(&node_name(b).is_some()))
            .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
            .then_with(|| is_ready(a).cmp(&is_ready(b)))
            .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
            .then_with(|| rank(b).cmp(&rank(a)))
            .then_with(|| match (ready_since(a), ready_since(b)) {
                (Some(a), Some(b)) => age_bucket(a, now).cmp(&age_bucket(b, now)),
                _ => Ordering::Equal,
            })
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| age_bucket(created(&a.metadata), now).cmp(&age_bucket(created(&b.metadata), now)))
            .then_with(|| uid(&a.metadata).cmp(uid(&b.metadata)))
    });
}

/// A pod as the template describes it, owned by `owner`.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, owner_name: &str, owner: OwnerReference) -> NewPod {
    let metadata = template.metadata.clone().unwrap_or_default();
    NewPod {
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(owner_name)),
            namespace: Some(namespace.to_string()),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The owner's name with a dash, unless that would not be a valid prefix of a name.
fn name_prefix(owner: &str) -> String {
    const NAME_MAX: usize = 253;
    if owner.len() < NAME_MAX {
        format!("{owner}-")
    } else {
        owner.to_string()
    }
}

/// Runs `count` creations in batches of 1, 2, 4, ...: a template that the server refuses costs one refusal
/// instead of hundreds. Returns how many succeeded and the first error.
pub async fn create_in_batches<F, Fut>(count: usize, create: F) -> (usize, Option<Error>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    let (mut done, mut batch) = (0, 1);
    let mut started = 0;
    while started < count {
        let size = batch.min(count - started);
        let results = futures::future::join_all((started..started + size).map(&create)).await;
        started += size;
        batch = size * 2;
        let mut first = None;
        for result in results {
            match result {
                Ok(()) => done += 1,
                Err(error) => first = first.or(Some(error)),
            }
        }
        if first.is_some() {
            return (done, first);
        }
    }
    (done, None)
}

#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::slim::{PodCondition, PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    /// A pod as the API will show it to controllers.
    pub fn seen(pod: NewPod) -> Pod {
        let text = serde_json::to_value(pod).expect("pods are JSON");
        serde_json::from_value(text).expect("what is read is part of what is written")
    }

    pub fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number of seconds")
    }

    pub fn pod(name: &str, phase: &str, node: Option<&str>, ready_at: Option<i64>) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some(name.to_string()),
                namespace: Some("default".to_string()),
                uid: Some(format!("uid-{name}")),
                creation_timestamp: Some(Time(at(0))),
                ..Default::default()
            },
            labels: None,
            spec: Some(PodSpec {
                node_name: node.map(ToString::to_string),
                ..Default::default()
            }),
            status: Some(PodStatus {
                phase: Some(phase.to_string()),
                conditions: Some(vec![PodCondition {
                    type_: "Ready".to_string(),
                    status: if ready_at.is_some() { "True" } else { "False" }.to_string(),
                    last_transition_time: ready_at.map(|second| Time(at(second))),
                    ..Default::default()
                }]),
                ..Default::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{at, pod};
    use super::*;

    #[test]
    fn deletion_takes_the_least_useful_first() {
        let mut cheap = pod("cheap", "Running", Some("n1"), Some(10));
        cheap.metadata.annotations = Some([(DELETION_COST.to_string(), "-5".to_string())].into());
        let mut pods: Vec<Arc<Pod>> = [
            pod("ready-old", "Running", Some("n1"), Some(10)),
            pod("ready-new", "Running", Some("n1"), Some(9000)),
            cheap,
            pod("unready", "Running", Some("n1"), None),
            pod("pending", "Pending", Some("n1"), None),
            pod("unassigned", "Pending", None, None),
            pod("crowded", "Running", Some("n2"), Some(10)),
        ]
        .into_iter()
        .map(Arc::new)
        .collect();
        let neighbours = HashMap::from([("n1".to_string(), 1), ("n2".to_string(), 3)]);
        rank_for_deletion(&mut pods, &neighbours, at(10_000));
        let names: Vec<_> = pods
            .iter()
            .map(|pod| pod.metadata.name.as_deref().unwrap_or(""))
            .collect();
        assert_eq!(
            names,
            [
                "unassigned",
                "pending",
                "unready",
                "cheap",
                "crowded",
                "ready-new",
                "ready-old"
            ]
        );
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let ready = pod("a", "Running", Some("n"), Some(100));
        assert!(is_available(&ready, 0, at(100)));
        assert!(!is_available(&ready, 10, at(105)));
        assert_eq!(next_available_in([&ready], 10, at(105)), Some(5));
        assert!(is_available(&ready, 10, at(110)));
    }

    #[tokio::test]
    async fn batches_stop_at_the_first_refusal() {
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let (done, error) = create_in_batches(100, |index| {
            calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                if index < 3 {
                    Ok(())
                } else {
                    Err(Error::Again("refused".to_string()))
                }
            }
        })
        .await;
        assert_eq!(done, 3);
        assert!(error.is_some());
        assert_eq!(calls.into_inner(), 7, "1 + 2 + 4");
    }
}
