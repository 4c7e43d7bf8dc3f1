//! Writes Event objects. Controllers hand events over without waiting; one task writes what the
//! [correlator](Correlator) leaves of them. Losing events under pressure is allowed, blocking is not.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::key::time;
use skiff_events::{About, Correlator, Decision, Written};

/// Events waiting to be written; more are dropped, as upstream drops them.
const WAITING_MAX: usize = 1000;
struct Entry {
    client: Client,
    component: &'static str,
    object: ObjectReference,
    kind: String,
    reason: String,
    message: String,
    at: Timestamp,
}

#[derive(Clone)]
pub struct Recorder {
    entries: mpsc::Sender<Entry>,
}

impl Recorder {
    pub fn start(shutdown: CancellationToken) -> Self {
        let (entries, mut waiting) = mpsc::channel::<Entry>(WAITING_MAX);
        tokio::spawn(async move {
            let mut correlator = Correlator::default();
            loop {
                let entry = tokio::select! {
                    () = shutdown.cancelled() => return,
                    entry = waiting.recv() => entry,
                };
                let Some(entry) = entry else { return };
                if let Err(error) = write(&mut correlator, &entry).await {
                    tracing::debug!(%error, reason = entry.reason, "an event was not written");
                }
            }
        });
        Self { entries }
    }

    pub fn record(
        &self,
        client: &Client,
        component: &'static str,
        object: ObjectReference,
        kind: &str,
        reason: &str,
        message: String,
    ) {
        let entry = Entry {
            client: client.clone(),
            component,
            object,
            kind: kind.to_string(),
            reason: reason.to_string(),
            message,
            at: Timestamp::now(),
        };
        if self.entries.try_send(entry).is_err() {
            tracing::debug!(reason, "too many events waiting; one was dropped");
        }
    }
}

async fn write(correlator: &mut Correlator, entry: &Entry) -> Result<(), kube::Error> {
    let object = &entry.object;
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let about = About {
        component: entry.component,
        object: [&object.kind, &object.namespace, &object.name, &object.uid]
            .map(text)
            .join("/"),
        part: text(&object.field_path),
        kind: entry.kind.clone(),
        reason: entry.reason.clone(),
    };
    let (decision, identity) = correlator.decide(&about, &entry.message, entry.at);
    let message = match decision {
        Decision::Drop => return Ok(()),
        Decision::Write { message } => message,
        Decision::Raise { message, known } => {
            let api: Api<Event> = Api::namespaced(entry.client.clone(), &known.namespace);
            let count = known.count + 1;
            let patch = json!({"count": count, "lastTimestamp": time(entry.at), "message": message});
            match api
                .patch(&known.name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
            {
                Ok(_) => {
                    correlator.note(identity, Written { count, ..known }, entry.at);
                    return Ok(());
                }
                // It has expired.
                Err(kube::Error::Api(status)) if status.code == 404 => message,
                Err(error) => return Err(error),
            }
        }
    };
    let event = event_of(entry, message);
    let written = Written {
        namespace: event.metadata.namespace.clone().unwrap_or_default(),
        name: event.metadata.name.clone().unwrap_or_default(),
        count: 1,
    };
    let api: Api<Event> = Api::namespaced(entry.client.clone(), &written.namespace);
    api.create(&PostParams::default(), &event).await?;
    correlator.note(identity, written, entry.at);
    Ok(())
}

fn event_of(entry: &Entry, message: String) -> Event {
    let namespace = match entry.object.namespace.as_deref() {
        None | Some("") => "default",
        Some(namespace) => namespace,
    };
    Event {
        metadata: ObjectMeta {
            // The name upstream gives: the object's name and the time in hexadecimal.
            name: Some(format!(
                "{}.{:x}",
                entry.object.name.as_deref().unwrap_or(""),
                entry.at.as_nanosecond()
            )),
            namespace: Some(namespace.to_string()),
            ..Default::default()
        },
        involved_object: entry.object.clone(),
        reason: Some(entry.reason.clone()),
        message: Some(message),
        type_: Some(entry.kind.clone()),
        count: Some(1),
        first_timestamp: Some(time(entry.at)),
        last_timestamp: Some(time(entry.at)),
        source: Some(EventSource {
            component: Some(entry.component.to_string()),
            host: None,
        }),
        reporting_component: Some(entry.component.to_string()),
        reporting_instance: Some(String::new()),
        ..Default::default()
    }
}
