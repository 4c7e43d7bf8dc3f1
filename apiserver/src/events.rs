//! Watch events as bytes, each encoded once per media type and shared by all
//! watchers through a bounded cache.

use crate::codec;
use crate::metrics::Watching;
use crate::request::{Encoding, Form, Negotiated};
use crate::respond::{self, View};
use bytes::Bytes;
use serde_json::{Value, json};
use skiff_api::ApiError;
use skiff_kinds::KindRef;
use skiff_store::{Entry, Revision};
use std::collections::HashMap;
use std::sync::Mutex;

/// Bytes of encoded events that are kept for the next watcher. Watchers of one
/// event ask within milliseconds of one another, so a little is enough.
const CACHED_BYTES_MAX: usize = 1 << 20;

/// How one watch wants its events.
pub(crate) struct WatchFormat {
    pub kind: KindRef,
    pub version: &'static str,
    pub negotiated: Negotiated,
    pub include_object: String,
    /// Counts what is sent.
    pub watching: Watching,
}

/// What makes two encoded events the same bytes.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct EventKey {
    key: Bytes,
    revision: Revision,
    what: &'static str,
    version: &'static str,
    group: &'static str,
    negotiated: Negotiated,
    include_object: String,
    /// The first table of a watch carries the column definitions.
    columns: bool,
    /// A changed definition shows the same bytes in another way.
    definition: u64,
}

impl EventKey {
    pub fn new(what: &'static str, entry: &Entry, revision: Revision, format: &WatchFormat, first: bool) -> Self {
        Self {
            key: entry.key_bytes(),
            revision,
            what,
            version: format.version,
            group: format.kind.group,
            negotiated: format.negotiated,
            include_object: format.include_object.clone(),
            columns: first && format.negotiated.form == Form::Table,
            definition: format.kind.custom.as_ref().map_or(0, |custom| custom.since),
        }
    }
}

/// Encoded events by what they are.
#[derive(Default)]
pub(crate) struct EventCache {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_key: HashMap<EventKey, Bytes>,
    bytes: usize,
}

impl EventCache {
    pub fn encoded(&self, key: EventKey, format: &WatchFormat, entry: &Entry) -> Result<Bytes, ApiError> {
        format.watching.sent();
        if let Some(bytes) = self
            .inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .by_key
            .get(&key)
        {
            return Ok(bytes.clone());
        }
        let bytes = format.event(&key, entry)?;
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if inner.bytes + bytes.len() > CACHED_BYTES_MAX {
            inner.by_key = HashMap::new();
            inner.bytes = 0;
        }
        inner.bytes += bytes.len();
        inner.by_key.insert(key, bytes.clone());
        Ok(bytes)
    }
}

impl WatchFormat {
    fn event(&self, key: &EventKey, entry: &Entry) -> Result<Bytes, ApiError> {
        let view = View {
            kind: &self.kind,
            version: self.version,
            negotiated: self.negotiated,
            include_object: &self.include_object,
        };
        let mut out = Vec::with_capacity(entry.body().len() + 80);
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(key.what.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        if view.append_json(&mut out, entry, key.revision) {
            out.extend_from_slice(b"}\n");
            return Ok(Bytes::from(out));
        }
        let mut object = view.shaped(entry, key.revision)?;
        if self.negotiated.form == Form::Table && !key.columns {
            object["columnDefinitions"] = Value::Null;
        }
        self.frame(key.what, &object)
    }

    /// A bookmark at a revision; `None` if this form has none.
    pub fn bookmark(&self, revision: Revision, initial_end: bool) -> Option<Bytes> {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let meta_version = self.negotiated.meta_version();
        let partial =
            || json!({"kind": "PartialObjectMetadata", "apiVersion": meta_version, "metadata": metadata.clone()});
        let whole = || json!({"kind": self.kind.kind, "apiVersion": codec::api_version(self.kind.group, self.version), "metadata": metadata.clone()});
        let object = match self.negotiated.form {
            Form::Metadata => partial(),
            Form::Table => {
                let object = match self.include_object.as_str() {
                    "None" => Value::Null,
                    "Object" => whole(),
                    _ => partial(),
                };
                json!({"kind": "Table", "apiVersion": meta_version, "metadata": {"resourceVersion": revision.to_string()},
                    "columnDefinitions": null, "rows": [{"cells": [], "object": object}]})
            }
            _ => whole(),
        };
        self.frame("BOOKMARK", &object).ok()
    }

    pub fn error(&self, error: &ApiError) -> Bytes {
        self.frame("ERROR", &respond::status(error)).unwrap_or_default()
    }

    fn frame(&self, what: &str, object: &Value) -> Result<Bytes, ApiError> {
        match self.negotiated.encoding {
            Encoding::Protobuf => Ok(codec::protobuf_event(what, &codec::to_protobuf(object)?)),
            _ => {
                let mut out = format!("{{\"type\":\"{what}\",\"object\":").into_bytes();
                serde_json::to_writer(&mut out, object).map_err(ApiError::internal)?;
                out.extend_from_slice(b"}\n");
                Ok(Bytes::from(out))
            }
        }
    }
}
