//! Events about pods and the node, as upstream words them. Repeats are counted
//! on the first one, and one pod cannot say more than upstream lets it. Best effort: an event is
//! never waited for.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use skiff_events::{About, Correlator, Decision, Written};
use tokio::sync::mpsc;

/// Beyond that the node is too noisy for anybody to read; new ones are dropped.
const QUEUE_MAX: usize = 512;
/// Who the events are from; what people search for is upstream's name.
const COMPONENT: &str = "kubelet";

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
    let mut correlator = Correlator::default();
    while let Some(entry) = entries.recv().await {
        let now = Timestamp::now();
        let about = about(&entry);
        let (decision, identity) = correlator.decide(&about, &entry.message, now);
        let written = match decision {
            Decision::Drop => continue,
            Decision::Write { message } => create(&client, &node_name, entry, message, now).await,
            Decision::Raise { message, known } => match raise(&client, &message, known, now).await {
                // It has expired.
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    create(&client, &node_name, entry, message, now).await
                }
                raised => raised,
            },
        };
        match written {
            Ok(written) => correlator.note(identity, written, now),
            Err(error) => tracing::debug!(%error, "an event was not recorded"),
        }
    }
}

/// What an event is about for its count: the containers of a pod count apart, and share what the
/// pod may say.
fn about(entry: &Entry) -> About {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let object = &entry.about;
    About {
        component: COMPONENT,
        object: [&object.kind, &object.namespace, &object.name, &object.uid]
            .map(text)
            .join("/"),
        part: text(&object.field_path),
        kind: kind(entry.warning).to_owned(),
        reason: entry.reason.clone(),
    }
}

fn kind(warning: bool) -> &'static str {
    if warning { "Warning" } else { "Normal" }
}

fn whole(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

async fn raise(client: &Client, message: &str, known: Written, now: Timestamp) -> Result<Written, kube::Error> {
    let api: Api<Event> = Api::namespaced(client.clone(), &known.namespace);
    let count = known.count + 1;
    let patch = json!({"count": count, "lastTimestamp": whole(now).to_string(), "message": message});
    let params = PatchParams::default();
    api.patch(&known.name, &params, &Patch::Merge(&patch)).await?;
    Ok(Written { count, ..known })
}

async fn create(
    client: &Client,
    node_name: &str,
    entry: Entry,
    message: String,
    now: Timestamp,
) -> Result<Written, kube::Error> {
    let namespace = entry.about.namespace.clone().unwrap_or_else(|| "default".into());
    let object = entry.about.name.clone().unwrap_or_default();
    let name = format!("{object}.{:x}", now.as_nanosecond());
    let time = Some(Time(whole(now)));
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: entry.about,
        type_: Some(kind(entry.warning).into()),
        reason: Some(entry.reason),
        message: Some(message),
        count: Some(1),
        first_timestamp: time.clone(),
        last_timestamp: time,
        source: Some(EventSource {
            component: Some(COMPONENT.into()),
            host: Some(node_name.to_owned()),
        }),
        reporting_component: Some(COMPONENT.into()),
        reporting_instance: Some(node_name.to_owned()),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    api.create(&PostParams::default(), &event).await?;
    Ok(Written {
        namespace,
        name,
        count: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A probe that fails with another text each second must not fill the store.
    #[test]
    fn a_pod_may_say_only_so_much() {
        let mut correlator = Correlator::default();
        let mut written = 0;
        for number in 0..1_000 {
            let entry = Entry {
                about: ObjectReference {
                    name: Some("p".into()),
                    field_path: Some(format!("spec.containers{{c{}}}", number % 2)),
                    ..ObjectReference::default()
                },
                warning: true,
                reason: "Unhealthy".into(),
                message: format!("failed: {number}"),
            };
            let now = Timestamp::from_second(1_000).expect("in range");
            let (decision, identity) = correlator.decide(&about(&entry), &entry.message, now);
            if decision != Decision::Drop {
                written += 1;
                let known = Written {
                    namespace: "n".into(),
                    name: number.to_string(),
                    count: 1,
                };
                correlator.note(identity, known, now);
            }
        }
        assert_eq!(written, 25);
    }
}
