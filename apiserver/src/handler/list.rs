//! LIST: selectors, pages, revisions.

use super::identity::ServerCall;
use super::route::Target;
use crate::body::ApiBody;
use crate::registry::{Filter, key_of, prefix_of};
use crate::request::{Continue, RvMatch, parse_revision};
use crate::respond::{self, ListMeta};
use crate::server::ApiServer;
use bytes::Bytes;
use http::Response;
use serde_json::json;
use skiff_api::ApiError;
use skiff_store::{Entry, Snapshot, StoreError};
use std::sync::Arc;

/// Keys looked at in one step while a selector thins a limited list out.
const SCAN_STEP: usize = 1000;

impl ApiServer {
    pub(crate) async fn list(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let view = self.view(call, target)?;
        let (entries, meta) = self.select(call, target).await?;
        let entries = self.in_version(&target.kind, target.version, entries).await?;
        view.list(entries, &meta, call.accepts_gzip())
    }

    /// The entries that a list shows, and its metadata.
    pub(crate) async fn select(&self, call: &ServerCall, target: &Target) -> Result<(Vec<Entry>, ListMeta), ApiError> {
        let kind = &*target.kind;
        let o = &call.options;
        o.check_list()?;
        let filter = Filter::parse(&target.kind, &o.label_selector, &o.field_selector)?;
        let resumed = (!o.continue_token.is_empty())
            .then(|| Continue::decode(&o.continue_token))
            .transpose()?;
        let snapshot = match &resumed {
            Some(token) => self.continued(token, &o.resource_version)?,
            None => {
                self.list_snapshot(o.resource_version.as_str(), o.resource_version_match, o.limit)
                    .await?
            }
        };
        let namespace = if kind.namespaced && call.info.namespace.is_empty() {
            filter.namespace().unwrap_or("")
        } else {
            call.info.namespace.as_str()
        };
        let root = prefix_of(kind, "");
        let mut meta = ListMeta {
            revision: snapshot.revision(),
            ..ListMeta::default()
        };
        if let Some(name) = filter.name()
            && (!kind.namespaced || !namespace.is_empty())
        {
            let entry = snapshot
                .get(&key_of(kind, namespace, name))
                .filter(|e| filter.matches(e));
            return Ok((entry.into_iter().collect(), meta));
        }
        let prefix = prefix_of(kind, namespace);
        let start = resumed.map(|token| [&root[..], token.after.as_bytes()].concat());
        let (entries, remaining) = scan(&*snapshot, &prefix, start, o.limit, &filter);
        if let Some(remaining) = remaining {
            let last = entries
                .last()
                .map_or(&[][..], |e| &e.key()[root.len().min(e.key().len())..]);
            let next = Continue {
                revision: Some(meta.revision),
                after: String::from_utf8_lossy(last).into_owned(),
            };
            meta.continue_token = next.encode();
            meta.remaining = filter.is_everything().then_some(remaining);
        }
        Ok((entries, meta))
    }

    fn continued(&self, token: &Continue, resource_version: &str) -> Result<Arc<dyn Snapshot>, ApiError> {
        if !matches!(resource_version, "" | "0") {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let Some(revision) = token.revision else {
            return Ok(self.store.snapshot());
        };
        self.store.snapshot_at(revision).map_err(|error| match error {
            StoreError::Compacted { .. } => page_expired(token),
            other => respond::store_error(other),
        })
    }

    async fn list_snapshot(
        &self,
        rv: &str,
        matching: Option<RvMatch>,
        limit: usize,
    ) -> Result<Arc<dyn Snapshot>, ApiError> {
        let snapshot = self.read_snapshot(rv).await?;
        let exact = match (matching, rv) {
            (_, "" | "0") | (Some(RvMatch::NotOlderThan), _) => false,
            (Some(RvMatch::Exact), _) => true,
            // Without a match, pages begin at the revision that is asked for.
            (None, _) => limit > 0,
        };
        if !exact {
            return Ok(snapshot);
        }
        self.store
            .snapshot_at(parse_revision(rv)?)
            .map_err(respond::store_error)
    }
}

/// 410 with a token that goes on at the same place in whatever is newest.
fn page_expired(token: &Continue) -> ApiError {
    let inconsistent = Continue {
        revision: None,
        after: token.after.clone(),
    };
    let mut gone = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list.",
    );
    // Picked up again where the Status is written: it belongs into its metadata.
    gone.details = Some(json!({ respond::CONTINUE_DETAIL: inconsistent.encode() }));
    gone
}

/// Up to `limit` matching entries behind `start`; the number of keys that are
/// left if the list goes on.
fn scan(
    snapshot: &dyn Snapshot,
    prefix: &Bytes,
    start: Option<Vec<u8>>,
    limit: usize,
    filter: &Filter,
) -> (Vec<Entry>, Option<usize>) {
    if limit == 0 || filter.is_everything() {
        let page = snapshot.range(prefix, start.as_deref(), limit);
        let mut entries = page.entries;
        if !filter.is_everything() {
            entries.retain(|e| filter.matches(e));
        }
        return (entries, (limit > 0 && page.remaining > 0).then_some(page.remaining));
    }
    let mut found: Vec<Entry> = Vec::new();
    let mut after = start;
    loop {
        let page = snapshot.range(prefix, after.as_deref(), SCAN_STEP);
        let Some(last) = page.entries.last() else {
            return (found, None);
        };
        after = Some(last.key().to_vec());
        for entry in page.entries {
            if !filter.matches(&entry) {
                continue;
            }
            // One more than asked for proves that the list goes on.
            if found.len() == limit {
                return (found, Some(1));
            }
            found.push(entry);
        }
        if page.remaining == 0 {
            return (found, None);
        }
    }
}
