//! Objects of custom kinds in the version that is asked for: converted here or by the
//! definition's webhook, and completed by the schema as it is now.
//!
//! Built-in kinds pass through untouched, and so does what was stored in the asked
//! version since the definition last changed: those bytes are the answer.

use crate::codec::api_version;
use crate::registry::{decode, encode, type_prefix};
use crate::server::ApiServer;
use crate::webhook::Webhook;
use serde_json::Value;
use skiff_api::ApiError;
use skiff_custom::conversion;
use skiff_kinds::Kind;
use skiff_kinds::custom::{Conversion, CustomKind};
use skiff_store::{Entry, Event};
use std::sync::Arc;
use std::time::Duration;

/// How long a conversion may take, as upstream.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An answer may be somewhat larger than the largest list that is asked about at once.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Objects that one review asks about; longer lists are asked about in parts.
const REVIEW_OBJECTS_MAX: usize = 500;

impl ApiServer {
    /// Entries as they are shown in a version.
    pub(crate) async fn in_version(
        &self,
        kind: &Kind,
        version: &str,
        mut entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, ApiError> {
        let Some(custom) = &kind.custom else { return Ok(entries) };
        let prefix = type_prefix(kind.group, version, kind.kind);
        let stale =
            |entry: &Entry| entry.mod_revision() <= custom.since || !entry.body().starts_with(prefix.as_bytes());
        let places: Vec<usize> = (0..entries.len()).filter(|i| stale(&entries[*i])).collect();
        if places.is_empty() {
            return Ok(entries);
        }
        let mut objects = Vec::with_capacity(places.len());
        for at in &places {
            objects.push(decode(&entries[*at], entries[*at].mod_revision())?);
        }
        let objects = self.converted(kind, custom, version, objects).await?;
        for (at, object) in places.into_iter().zip(objects) {
            let record = encode(kind, &object)?;
            if record.body != entries[at].body() {
                entries[at] = entries[at].with(&record);
            }
        }
        Ok(entries)
    }

    /// One entry as it is shown in a version.
    pub(crate) async fn shown(&self, kind: &Kind, version: &str, entry: &Entry) -> Result<Entry, ApiError> {
        if kind.custom.is_none() {
            return Ok(entry.clone());
        }
        let mut entries = self.in_version(kind, version, vec![entry.clone()]).await?;
        Ok(entries.pop().unwrap_or_else(|| entry.clone()))
    }

    /// Events with their objects as they are shown in a version.
    pub(crate) async fn events_in(
        &self,
        kind: &Kind,
        version: &str,
        events: Vec<Arc<Event>>,
    ) -> Result<Vec<Arc<Event>>, ApiError> {
        if kind.custom.is_none() {
            return Ok(events);
        }
        let mut made = Vec::with_capacity(events.len());
        for event in events {
            let there: Vec<Entry> = event.entry.iter().chain(&event.previous).cloned().collect();
            let shown = self.in_version(kind, version, there.clone()).await?;
            if shown.iter().zip(&there).all(|(a, b)| a.is(b)) {
                made.push(event);
                continue;
            }
            let mut shown = shown.into_iter();
            made.push(Arc::new(Event {
                revision: event.revision,
                entry: event.entry.as_ref().and_then(|_| shown.next()),
                previous: event.previous.as_ref().and_then(|_| shown.next()),
            }));
        }
        Ok(made)
    }

    /// A stored object as it is worked on in a version.
    pub(crate) async fn object_in(
        &self,
        kind: &Kind,
        version: &str,
        object: Arc<Value>,
    ) -> Result<Arc<Value>, ApiError> {
        let Some(custom) = &kind.custom else { return Ok(object) };
        let made = self
            .converted(kind, custom, version, vec![Value::clone(&object)])
            .await?;
        Ok(made.into_iter().next().map_or(object, Arc::new))
    }

    /// An object as it is stored, from whatever version it was worked on in.
    pub(crate) async fn to_stored(&self, kind: &Kind, object: Value) -> Result<Value, ApiError> {
        match &kind.custom {
            Some(custom) if object["apiVersion"] != custom.storage_api_version().as_str() => {
                let made = self.converted(kind, custom, kind.storage_version, vec![object]).await?;
                made.into_iter()
                    .next()
                    .ok_or_else(|| ApiError::internal("a conversion answered nothing"))
            }
            _ => Ok(object),
        }
    }

    /// Objects in a version, complete; in the same order.
    async fn converted(
        &self,
        kind: &Kind,
        custom: &CustomKind,
        version: &str,
        mut objects: Vec<Value>,
    ) -> Result<Vec<Value>, ApiError> {
        let to = api_version(kind.group, version);
        let foreign: Vec<usize> = (0..objects.len())
            .filter(|i| !custom.converts_here(&objects[*i], &to))
            .collect();
        for part in foreign.chunks(REVIEW_OBJECTS_MAX) {
            let asked: Vec<Value> = part.iter().map(|i| objects[*i].take()).collect();
            let made = self.ask_webhook(custom, &to, &asked).await?;
            for (at, object) in part.iter().zip(made) {
                objects[*at] = object;
            }
        }
        for object in &mut objects {
            custom.convert(&to, object).map_err(ApiError::internal)?;
            custom.complete(object);
        }
        Ok(objects)
    }

    async fn ask_webhook(&self, custom: &CustomKind, to: &str, asked: &[Value]) -> Result<Vec<Value>, ApiError> {
        let Conversion::Webhook(config) = &custom.conversion else {
            return Err(ApiError::internal("a conversion without a webhook"));
        };
        let failed = |why: String| {
            let about = asked.first().unwrap_or(&Value::Null);
            plain(format!(
                "conversion webhook for {}, Kind={} failed: {why}",
                about["apiVersion"].as_str().unwrap_or(""),
                about["kind"].as_str().unwrap_or("")
            ))
        };
        let version = conversion::review_version(config)
            .ok_or_else(|| failed("no recognized ConversionReview version".into()))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let review = conversion::review(version, &uid, to, asked);
        let body = serde_json::to_vec(&review).map_err(ApiError::internal)?;
        let webhook = Webhook::of(&config["clientConfig"]).map_err(failed)?;
        let objects = self.objects(self.store.snapshot());
        let answer = self
            .customs
            .webhooks
            .post(&webhook, &objects, body, TIMEOUT, ANSWER_BYTES_MAX)
            .await
            .map_err(failed)?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| failed(error.to_string()))?;
        conversion::answered(version, &uid, to, asked, answer).map_err(plain)
    }
}

/// An error that upstream passes on as it is: no reason, only a text.
fn plain(message: String) -> ApiError {
    ApiError::new(500, "", message)
}
