//! Writes Event objects. Controllers hand events over without waiting; one task writes them, counting up
//! what repeats instead of writing it again. Losing events under pressure is allowed, blocking is not.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::key::time;

/// Events waiting to be written; more are dropped, as upstream drops them.
const WAITING_MAX: usize = 1000;
/// Distinct events remembered for counting; upstream's cache size.
const REMEMBERED_MAX: usize = 4096;
/// A repeated event within this time raises the count of the first.
const REPEAT_WINDOW_SECONDS: i64 = 600;

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

struct Written {
    namespace: String,
    name: String,
    count: i32,
    last: Timestamp,
}

impl Recorder {
    pub fn start(shutdown: CancellationToken) -> Self {
        let (entries, mut waiting) = mpsc::channel::<Entry>(WAITING_MAX);
        tokio::spawn(async move {
            let mut written: HashMap<[String; 5], Written> = HashMap::new();
            loop {
                let entry = tokio::select! {
                    () = shutdown.cancelled() => return,
                    entry = waiting.recv() => entry,
                };
                let Some(entry) = entry else { return };
                if written.len() >= REMEMBERED_MAX {
                    written.clear();
                }
                if let Err(error) = write(&mut written, &entry).await {
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

async fn write(written: &mut HashMap<[String; 5], Written>, entry: &Entry) -> Result<(), kube::Error> {
    let identity = [
        entry.component.to_string(),
        format!(
            "{}/{}/{}",
            entry.object.kind.as_deref().unwrap_or(""),
            entry.object.namespace.as_deref().unwrap_or(""),
            entry.object.name.as_deref().unwrap_or("")
        ),
        entry.object.uid.clone().unwrap_or_default(),
        entry.reason.clone(),
        entry.message.clone(),
    ];
    if let Some(known) = written.get_mut(&identity)
        && entry.at.as_second() - known.last.as_second() < REPEAT_WINDOW_SECONDS
    {
        let api: Api<Event> = Api::namespaced(entry.client.clone(), &known.namespace);
        let patch = json!({"count": known.count + 1, "lastTimestamp": time(entry.at)});
        match api
            .patch(&known.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Ok(_) => {
                known.count += 1;
                known.last = entry.at;
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let event = event_of(entry);
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let name = event.metadata.name.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(entry.client.clone(), &namespace);
    api.create(&PostParams::default(), &event).await?;
    written.insert(
        identity,
        Written {
            namespace,
            name,
            count: 1,
            last: entry.at,
        },
    );
    Ok(())
}

fn event_of(entry: &Entry) -> Event {
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
        message: Some(entry.message.clone()),
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
