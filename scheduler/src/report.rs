//! What users see of decisions: events and the PodScheduled condition.

use crate::snapshot::{PodKey, key_of};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A longer message is cut, as upstream does (events refuse more).
const NOTE_BYTES_MAX: usize = 1024;

type Event = k8s_openapi::api::events::v1::Event;

/// What was last said of a pod.
#[derive(Debug, Clone)]
struct Said {
    event: String,
    message: String,
    count: i32,
}

#[derive(Clone)]
pub struct Reporter {
    client: kube::Client,
    name: String,
    said: Arc<Mutex<BTreeMap<PodKey, Said>>>,
}

impl Reporter {
    pub fn new(client: kube::Client, name: String) -> Self {
        Self {
            client,
            name,
            said: Arc::default(),
        }
    }

    pub fn forget(&self, key: &PodKey) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    pub async fn scheduled(&self, pod: &Pod, node: &str) {
        let (namespace, name) = key_of(pod);
        self.forget(&key_of(pod));
        let note = format!("Successfully assigned {namespace}/{name} to {node}");
        self.post(pod, "Normal", "Scheduled", "Binding", &note).await;
    }

    /// In the background: the next decision need not wait for it.
    pub fn unschedulable(&self, pod: &Arc<Pod>, message: String) {
        let (this, pod) = (self.clone(), pod.clone());
        tokio::spawn(async move {
            this.condition(&pod, &message).await;
            let key = key_of(&pod);
            let before = this
                .said
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&key)
                .cloned();
            let said = match before {
                Some(said) if said.message == message => this.repeat(&key, said).await,
                _ => {
                    let event = this
                        .post(&pod, "Warning", "FailedScheduling", "Scheduling", &message)
                        .await;
                    Said {
                        event,
                        message,
                        count: 1,
                    }
                }
            };
            this.said
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(key, said);
        });
    }

    async fn repeat(&self, key: &PodKey, said: Said) -> Said {
        let count = said.count.saturating_add(1);
        let series = json!({"series": {"count": count, "lastObservedTime": micro_now()}});
        let events: Api<Event> = Api::namespaced(self.client.clone(), &key.0);
        if let Err(error) = events
            .patch(&said.event, &PatchParams::default(), &Patch::Merge(series))
            .await
        {
            tracing::debug!(%error, "an event could not be repeated");
        }
        Said { count, ..said }
    }

    async fn condition(&self, pod: &Pod, message: &str) {
        let current = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .find(|condition| condition.type_ == "PodScheduled");
        if current.is_some_and(|condition| condition.status == "False" && condition.message.as_deref() == Some(message))
        {
            return;
        }
        let (namespace, name) = key_of(pod);
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastProbeTime": null, "lastTransitionTime": seconds_now()});
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = pods
            .patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            tracing::debug!(namespace, pod = name, %error, "the condition could not be set");
        }
    }

    /// The event's name.
    async fn post(&self, pod: &Pod, kind: &str, reason: &str, action: &str, note: &str) -> String {
        let (namespace, name) = key_of(pod);
        let now = k8s_openapi::jiff::Timestamp::now();
        let event_name = format!("{name}.{:x}", now.as_nanosecond());
        let mut end = note.len().min(NOTE_BYTES_MAX);
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        let event: Value = json!({
            "metadata": {"name": event_name, "namespace": namespace},
            "eventTime": micro_now(), "type": kind, "reason": reason, "action": action, "note": note[..end],
            "reportingController": self.name, "reportingInstance": self.name,
            "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": pod.metadata.uid,
                "resourceVersion": pod.metadata.resource_version},
        });
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let posted = match serde_json::from_value(event) {
            Ok(event) => events.create(&PostParams::default(), &event).await,
            Err(error) => Err(kube::Error::SerdeError(error)),
        };
        if let Err(error) = posted {
            tracing::debug!(namespace, pod = name, %error, "an event could not be written");
        }
        event_name
    }
}

fn micro_now() -> String {
    k8s_openapi::jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        .to_string()
}

fn seconds_now() -> String {
    k8s_openapi::jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}
