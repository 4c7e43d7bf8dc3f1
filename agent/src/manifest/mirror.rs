//! The likeness in the API of a pod that the node runs of itself.

use super::{HASH, MIRROR, annotation, is_mirror};
use crate::pod::node::Shared;
use crate::pod::spec::{self, Key};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use std::sync::Arc;
use std::time::Duration;

/// What the API must be asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Create(Box<Pod>),
    /// The one with this UID.
    Delete(String),
}

/// `own`: what the node runs. `held`: what the API has by that name.
pub fn step(own: Option<&Pod>, held: Option<&Pod>, node: Option<&Node>) -> Option<Step> {
    match (own, held) {
        (Some(own), None) => Some(Step::Create(Box::new(likeness(own, node?)))),
        (Some(own), Some(held)) => {
            let good = is_mirror(held)
                && held.metadata.deletion_timestamp.is_none()
                && annotation(held, MIRROR) == annotation(own, HASH);
            (!good).then(|| Step::Delete(spec::uid(held).to_owned()))
        }
        (None, Some(held)) if is_mirror(held) => Some(Step::Delete(spec::uid(held).to_owned())),
        (None, _) => None,
    }
}

fn likeness(own: &Pod, node: &Node) -> Pod {
    let mut pod = own.clone();
    let hash = annotation(own, HASH).unwrap_or_default().to_owned();
    pod.metadata.uid = None;
    pod.metadata
        .annotations
        .get_or_insert_default()
        .insert(MIRROR.to_owned(), hash);
    pod.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    pod.status = None;
    pod
}

/// The node's pod with what the API knows of it: its status and its version.
pub fn shown(own: &Pod, held: Option<&Pod>) -> Pod {
    let mut pod = own.clone();
    if let Some(held) = held.filter(|held| annotation(held, MIRROR) == annotation(own, HASH)) {
        pod.status.clone_from(&held.status);
        pod.metadata.generation = held.metadata.generation;
        pod.metadata
            .resource_version
            .clone_from(&held.metadata.resource_version);
        pod.metadata
            .creation_timestamp
            .clone_from(&held.metadata.creation_timestamp);
    }
    pod
}

/// Makes the API show what the node runs. Whatever changes about it asks again.
pub fn keep(shared: &Arc<Shared>, key: &Key) {
    /// The API may not be there.
    const RETRY: Duration = Duration::from_secs(5);
    /// Clients that wait for the end of a pod must be able to see that it is gone.
    const GONE: Duration = Duration::from_secs(1);
    let (own, held) = shared.cache.own_and_held(key);
    let node = shared
        .cache
        .view()
        .borrow()
        .nodes
        .get(&shared.config.node_name)
        .cloned();
    if own.is_none() && held.is_none() {
        return;
    }
    let step = step(own.as_deref(), held.as_deref(), node.as_deref());
    if step.is_none() && (node.is_some() || held.is_some()) {
        return;
    }
    if !shared.cache.begin_mirroring(key) {
        return;
    }
    let (shared, key) = (shared.clone(), key.clone());
    let deletes = matches!(step, Some(Step::Delete(_)));
    tokio::spawn(async move {
        let outcome = match step {
            Some(step) => ask(&shared, &key, step).await,
            None => Err("the node is not known yet".to_owned()),
        };
        if let Err(error) = &outcome {
            tracing::debug!(error, pod = %format!("{}/{}", key.0, key.1), "a mirror pod is not as it should be");
            tokio::time::sleep(RETRY).await;
        } else if deletes {
            tokio::time::sleep(GONE).await;
        }
        shared.cache.end_mirroring(&key, deletes || outcome.is_err());
    });
}

async fn ask(shared: &Shared, key: &Key, step: Step) -> Result<(), String> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &key.0);
    let outcome = match step {
        Step::Create(pod) => api.create(&PostParams::default(), &pod).await.map(drop),
        Step::Delete(uid) => {
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions {
                    uid: Some(uid),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            api.delete(&key.1, &params).await.map(drop)
        }
    };
    match outcome {
        // The watch tells of it.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(uid: &str, annotations: Value, deleted: bool) -> Pod {
        let mut metadata = json!({"name": "web-n", "namespace": "default", "uid": uid, "annotations": annotations});
        if deleted {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let status = json!({"phase": "Running"});
        let value = json!({"metadata": metadata, "spec": {"containers": [{"name": "a"}]}, "status": status});
        serde_json::from_value(value).expect("valid")
    }

    #[test]
    fn mirrors_come_go_and_are_made_anew() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n", "uid": "nu"}})).expect("valid");
        let own = pod("h1", json!({HASH: "h1"}), false);
        let mirror = |hash: &str, deleted| pod("m1", json!({MIRROR: hash, HASH: hash}), deleted);
        let delete = Some(Step::Delete("m1".into()));
        for (own, held, expected) in [
            (Some(&own), Some(mirror("h1", false)), None),
            (Some(&own), Some(mirror("h2", false)), delete.clone()),
            (Some(&own), Some(mirror("h1", true)), delete.clone()),
            (Some(&own), Some(pod("m1", json!({}), false)), delete.clone()),
            (None, Some(mirror("h1", false)), delete),
            (None, Some(pod("m1", json!({}), false)), None),
            (None, None, None),
        ] {
            assert_eq!(step(own, held.as_ref(), Some(&node)), expected, "{held:?}");
        }
        assert_eq!(step(Some(&own), None, None), None, "its owner is not known");
        let Some(Step::Create(made)) = step(Some(&own), None, Some(&node)) else {
            panic!("none is made")
        };
        assert_eq!(
            (annotation(&made, MIRROR), made.metadata.uid.as_deref()),
            (Some("h1"), None)
        );
        let owner = &made.metadata.owner_references.as_ref().expect("one")[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
            ("Node", "nu", Some(true))
        );
        assert_eq!(
            step(Some(&own), Some(&made), Some(&node)),
            None,
            "what was made is good"
        );
    }

    #[test]
    fn the_status_of_an_older_mirror_is_not_taken() {
        let own = pod("h1", json!({HASH: "h1"}), false);
        let mut own = own;
        own.status = None;
        let phase = |held: &Pod| shown(&own, Some(held)).status.and_then(|s| s.phase);
        assert_eq!(
            phase(&pod("m", json!({MIRROR: "h1"}), false)).as_deref(),
            Some("Running")
        );
        assert_eq!(phase(&pod("m", json!({MIRROR: "h2"}), false)), None);
    }
}
