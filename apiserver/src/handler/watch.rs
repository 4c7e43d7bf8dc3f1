//! WATCH: initial objects, then changes as they are committed.
//!
//! ```text
//! store.watch -> batches -> filter (old, new) -> encoded once (EventCache) -> body chunks
//! ```
//!
//! A watcher is a cursor and a filter, polled by its own connection: no task,
//! no queue of its own. It costs nothing while nothing changes, but for a
//! bookmark a minute where those are asked for.

use super::identity::ServerCall;
use super::route::Target;
use super::websocket;
use crate::body::ApiBody;
use crate::events::{EventKey, WatchFormat};
use crate::registry::{Filter, key_of, prefix_of};
use crate::request::{Encoding, parse_revision};
use crate::respond;
use crate::server::ApiServer;
use bytes::Bytes;
use http::{Response, header};
use skiff_api::ApiError;
use skiff_store::{Entry, Event, Revision, Snapshot, StoreError, Watch};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Watches without `timeoutSeconds` last this long to twice as long, so that
/// clients spread over servers again; upstream's `--min-request-timeout`.
const DEFAULT_TIMEOUT_SECONDS: u64 = 1800;
/// How often a bookmark is sent, as upstream.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Chunks joined before they are handed on: big enough to spare system calls,
/// small enough not to hold memory.
const CHUNK_BYTES: usize = 64 * 1024;

struct Watcher {
    server: Arc<ApiServer>,
    format: WatchFormat,
    filter: Filter,
    source: Option<Box<dyn Watch>>,
    initial: VecDeque<Entry>,
    /// Sent after the initial objects: the bookmark that ends them.
    initial_end: bool,
    bookmarks: bool,
    /// Everything up to here has been sent.
    revision: Revision,
    /// The single key this watch is about, if it is.
    only_key: Option<Bytes>,
    deadline: Instant,
    next_bookmark: Instant,
    failed: Option<ApiError>,
    first_event: bool,
    /// A custom kind has gone or changed.
    ended: tokio_util::sync::CancellationToken,
}

impl ApiServer {
    pub(crate) async fn watch(
        self: &Arc<Self>,
        call: &ServerCall,
        target: &Target,
    ) -> Result<Response<ApiBody>, ApiError> {
        let kind = &*target.kind;
        let o = &call.options;
        let negotiated = self.view(call, target)?.negotiated;
        o.check_watch()?;
        let filter = Filter::parse(&target.kind, &o.label_selector, &o.field_selector)?;
        if call.info.named && !o.field_selector.is_empty() && filter.name() != Some(&call.info.name) {
            return Err(ApiError::bad_request(
                "fieldSelector metadata.name doesn't match requested name",
            ));
        }
        let wants_initial = o
            .send_initial_events
            .unwrap_or(matches!(o.resource_version.as_str(), "" | "0"));
        let namespace = if call.info.namespace.is_empty() {
            filter.namespace().unwrap_or("")
        } else {
            call.info.namespace.as_str()
        };
        let name = if call.info.name.is_empty() {
            filter.name()
        } else {
            Some(call.info.name.as_str())
        };
        let only_key = name
            .filter(|_| !kind.namespaced || !namespace.is_empty())
            .map(|n| key_of(kind, namespace, n));
        let prefix = only_key.clone().unwrap_or_else(|| prefix_of(kind, namespace));

        let start = self.watch_start(&o.resource_version, wants_initial).await?;
        let mut initial = VecDeque::new();
        let opened = start.and_then(|start| {
            let entries = match (start.state, &only_key) {
                (Some(state), Some(key)) => state.get(key).into_iter().collect(),
                (Some(state), None) => state.range(&prefix, None, 0).entries,
                (None, _) => Vec::new(),
            };
            initial.extend(entries.into_iter().filter(|e| filter.matches(e)));
            let source = self.store.watch(prefix, start.from).map_err(watch_error)?;
            Ok((start.seen, source))
        });
        let (seen, source, failed) = match opened {
            Ok((seen, source)) => (seen, Some(source), None),
            Err(error) => (0, None, Some(error)),
        };
        let shown = self.in_version(kind, target.version, initial.into()).await;
        let (initial, failed) = match shown {
            Ok(initial) => (initial.into(), failed),
            Err(error) => (VecDeque::new(), Some(error)),
        };
        let timeout = o
            .timeout_seconds
            .unwrap_or_else(|| DEFAULT_TIMEOUT_SECONDS + u64::from(rand::random::<u16>()) % DEFAULT_TIMEOUT_SECONDS);
        let now = Instant::now();
        let watcher = Watcher {
            server: self.clone(),
            format: WatchFormat {
                watching: self.metrics.watching(&call.info, target),
                kind: target.kind.clone(),
                version: target.version,
                negotiated,
                include_object: o.include_object.clone(),
            },
            filter,
            source,
            initial,
            initial_end: wants_initial && o.send_initial_events == Some(true) && o.allow_watch_bookmarks,
            bookmarks: o.allow_watch_bookmarks,
            revision: seen,
            only_key,
            deadline: now + Duration::from_secs(timeout),
            next_bookmark: now + BOOKMARK_EVERY,
            failed,
            first_event: true,
            ended: self.customs.ended(kind),
        };
        let media_type = match negotiated.encoding {
            Encoding::Json => "application/json",
            Encoding::Yaml => {
                return Err(ApiError::not_acceptable(
                    "only the following media types are accepted: application/json;stream=watch, \
                     application/vnd.kubernetes.protobuf;stream=watch",
                ));
            }
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        };
        let stream = futures::stream::unfold(watcher, |mut watcher| async move {
            watcher.next_chunk().await.map(|chunk| (Ok(chunk), watcher))
        });
        if websocket::asked(&call.headers) {
            return websocket::serve(call, stream, negotiated.encoding);
        }
        Response::builder()
            .status(200)
            .header(header::CONTENT_TYPE, media_type)
            .body(ApiBody::stream(stream))
            .map_err(ApiError::internal)
    }

    /// Where a watch begins. What fails behind the checks of the options is told in the
    /// stream, as upstream.
    async fn watch_start(&self, asked: &str, initial: bool) -> Result<Result<Start, ApiError>, ApiError> {
        let now = matches!(asked, "" | "0");
        let revision = if now { 0 } else { parse_revision(asked)? };
        if !now && !initial {
            // A revision that is still to come is waited for in the stream.
            return Ok(Ok(Start {
                from: revision.min(self.store.snapshot().revision()),
                seen: revision,
                state: None,
            }));
        }
        Ok(self.read_snapshot(asked).await.map(|snapshot| Start {
            from: snapshot.revision(),
            seen: snapshot.revision(),
            state: initial.then_some(snapshot),
        }))
    }
}

/// The beginning of a watch.
struct Start {
    /// Changes are read from behind this revision on, ...
    from: Revision,
    /// ... and shown from behind this one on.
    seen: Revision,
    /// What is shown first.
    state: Option<Arc<dyn Snapshot>>,
}

/// What a watcher is told when it cannot start: upstream answers 200 and an
/// ERROR event for a revision that is too old.
fn watch_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { asked, oldest } => {
            ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
        }
        other => respond::store_error(other),
    }
}

impl Watcher {
    /// The next bytes to send; `None` ends the response.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        if let Some(error) = self.failed.take() {
            self.source = None;
            return Some(self.format.error(&error));
        }
        if let Some(chunk) = self.initial_chunk() {
            return Some(chunk);
        }
        let mut out = Vec::new();
        while out.is_empty() {
            let closing = self.server.closing.clone();
            let ended = self.ended.clone();
            let source = self.source.as_mut()?;
            let wake = self.deadline.min(if self.bookmarks {
                self.next_bookmark
            } else {
                self.deadline
            });
            tokio::select! {
                biased;
                () = closing.cancelled() => return None,
                () = ended.cancelled() => return None,
                batch = source.next() => {
                    let batch = batch?;
                    let format = &self.format;
                    let events = match self.server.events_in(&format.kind, format.version, batch.events).await {
                        Ok(events) => events,
                        Err(error) => {
                            self.source = None;
                            return Some(self.format.error(&error));
                        }
                    };
                    for event in &events {
                        self.append(&mut out, event);
                    }
                    self.revision = self.revision.max(batch.revision);
                }
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= self.deadline {
                        self.source = None;
                        return self.bookmarks.then(|| self.format.bookmark(self.revision, false)).flatten();
                    }
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    out.extend_from_slice(&self.format.bookmark(self.revision, false).unwrap_or_default());
                }
            }
        }
        Some(Bytes::from(out))
    }

    fn initial_chunk(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES {
            let Some(entry) = self.initial.pop_front() else { break };
            let revision = entry.mod_revision();
            self.push(&mut out, "ADDED", &entry, revision);
        }
        if self.initial.is_empty() && std::mem::take(&mut self.initial_end) {
            out.extend_from_slice(&self.format.bookmark(self.revision, true).unwrap_or_default());
        }
        (!out.is_empty()).then(|| Bytes::from(out))
    }

    /// Adds what this watcher sees of a change: objects that enter its selector
    /// are ADDED, those that leave it DELETED, carrying the old object.
    fn append(&mut self, out: &mut Vec<u8>, event: &Event) {
        // Before the revision that was asked for: it was still to come.
        if event.revision <= self.revision || self.only_key.as_ref().is_some_and(|key| **key != *event.key()) {
            return;
        }
        let new = event.entry.as_ref().filter(|e| self.filter.matches(e));
        let old = event.previous.as_ref().filter(|e| self.filter.matches(e));
        match (new, old) {
            (Some(new), Some(_)) => self.push(out, "MODIFIED", new, event.revision),
            (Some(new), None) => self.push(out, "ADDED", new, event.revision),
            (None, Some(old)) => self.push(out, "DELETED", old, event.revision),
            (None, None) => {}
        }
    }

    fn push(&mut self, out: &mut Vec<u8>, what: &'static str, entry: &Entry, revision: Revision) {
        let key = EventKey::new(
            what,
            entry,
            revision,
            &self.format,
            std::mem::take(&mut self.first_event),
        );
        match self.server.events.encoded(key, &self.format, entry) {
            Ok(bytes) => out.extend_from_slice(&bytes),
            Err(error) => out.extend_from_slice(&self.format.error(&error)),
        }
    }
}
