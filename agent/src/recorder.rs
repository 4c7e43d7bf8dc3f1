//! Events about pods and the node, as upstream words them. Repeats are counted
//! on the first one. Best effort: an event is never waited for.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Beyond that the node is too noisy for anybody to read; new ones are dropped.
const QUEUE_MAX: usize = 512;
/// Distinct events remembered for counting.
const REMEMBERED_MAX: usize = 1_024;

#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Entry>,
}

#[derive(Debug)]
struct Entry {
    about: ObjectReference,
    warning: bool,
    reason: String,
    message: String,
}

impl Recorder {
    pub fn start(client: Client, node_name: String) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(write(client, node_name, entries));
        Self { queue }
    }

    pub fn pod(&self, pod: &Pod, field_path: Option<String>, warning: bool, reason: &str, message: String) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path,
        };
        let _ = self.queue.try_send(Entry {
            about,
            warning,
            reason: reason.to_owned(),
            message,
        });
    }

    pub fn node(&self, name: &str, warning: bool, reason: &str, message: String) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        let _ = self.queue.try_send(Entry {
            about,
            warning,
            reason: reason.to_owned(),
            message,
        });
    }
}

async fn write(client: Client, node_name: String, mut entries: mpsc::Receiver<Entry>) {
    let mut known: BTreeMap<String, (String, i32)> = BTreeMap::new();
    while let Some(entry) = entries.recv().await {
        let now = Timestamp::now();
        let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let namespace = entry.about.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let key = format!("{:?}{}{}", entry.about.uid, entry.reason, entry.message)
            + entry.about.field_path.as_deref().unwrap_or_default();
        if let Some((name, count)) = known.get_mut(&key) {
            *count += 1;
            let patch = json!({"count": count, "lastTimestamp": whole.to_string()});
            if api
                .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .is_ok()
            {
                continue;
            }
        }
        let object = entry.about.name.clone().unwrap_or_default();
        let name = format!("{object}.{:x}", now.as_nanosecond());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: entry.about,
            type_: Some(if entry.warning { "Warning" } else { "Normal" }.into()),
            reason: Some(entry.reason),
            message: Some(entry.message),
            count: Some(1),
            first_timestamp: Some(Time(whole)),
            last_timestamp: Some(Time(whole)),
            source: Some(EventSource {
                component: Some("kubelet".into()),
                host: Some(node_name.clone()),
            }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(node_name.clone()),
            ..Event::default()
        };
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, "an event was not recorded");
            continue;
        }
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(key, (name, 1));
    }
}
