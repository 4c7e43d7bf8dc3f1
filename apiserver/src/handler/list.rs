//! LIST: selectors, pages, revisions.

use super::identity::ServerCall;
use super::read::parse_revision;
use super::route::Target;
use crate::body::ApiBody;
use crate::registry::{Filter, key_of, prefix_of};
use crate::request::RvMatch;
use crate::respond::{self, ListMeta};
use crate::server::ApiServer;
use base64::Engine;
use bytes::Bytes;
use http::Response;
use serde_json::json;
use skiff_api::{ApiError, FieldError, FieldErrorKind};
use skiff_store::{Entry, Snapshot, StoreError};
use std::sync::Arc;

/// Keys looked at in one step while a selector thins a limited list out.
const SCAN_STEP: usize = 1000;

/// What a continue token says: the revision of the first page and the last key
/// it showed, relative to the kind's prefix.
#[derive(Debug, PartialEq, Eq)]
struct Continue {
    revision: u64,
    after: String,
}

impl ApiServer {
    pub(crate) async fn list(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        if call.options.send_initial_events.is_some() {
            return Err(ApiError::new(
                422,
                "Invalid",
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ));
        }
        let view = self.view(call, target)?;
        let (entries, meta) = self.select(call, target).await?;
        let parts = view.list(&entries, &meta)?;
        respond::parts(view.media_type(), parts, call.accepts_gzip())
    }

    /// The entries that a list shows, and its metadata.
    pub(crate) async fn select(
        &self,
        call: &ServerCall,
        target: &Target,
    ) -> Result<(Vec<Arc<Entry>>, ListMeta), ApiError> {
        let kind = &*target.kind;
        let o = &call.options;
        let filter = Filter::parse(&target.kind, &o.label_selector, &o.field_selector)?;
        let resumed = (!o.continue_token.is_empty())
            .then(|| decode_continue(&o.continue_token))
            .transpose()?;
        let snapshot = match &resumed {
            Some(token) => self.continued(token, &o.resource_version, o.resource_version_match)?,
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
                .map_or(&[][..], |e| &e.key[root.len().min(e.key.len())..]);
            meta.continue_token = encode_continue(&Continue {
                revision: meta.revision,
                after: String::from_utf8_lossy(last).into_owned(),
            });
            meta.remaining = filter.is_everything().then_some(remaining);
        }
        Ok((entries, meta))
    }

    fn continued(
        &self,
        token: &Continue,
        resource_version: &str,
        matching: Option<RvMatch>,
    ) -> Result<Arc<dyn Snapshot>, ApiError> {
        if !matches!(resource_version, "" | "0") {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        if matching.is_some() {
            return Err(match_forbidden(
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        // Revision 0 marks an inconsistent continuation: whatever is newest.
        if token.revision == 0 {
            return Ok(self.store.snapshot());
        }
        self.store.snapshot_at(token.revision).map_err(|error| match error {
            StoreError::Compacted { .. } => {
                let inconsistent = encode_continue(&Continue { revision: 0, after: token.after.clone() });
                let mut gone = ApiError::expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
                     the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
                     Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
                     deleted between the time the first chunk was returned and now may show up in the list.",
                );
                // Picked up again where the Status is written: it belongs into its metadata.
                gone.details = Some(json!({ respond::CONTINUE_DETAIL: inconsistent }));
                gone
            }
            other => respond::store_error(other),
        })
    }

    async fn list_snapshot(
        &self,
        rv: &str,
        matching: Option<RvMatch>,
        limit: usize,
    ) -> Result<Arc<dyn Snapshot>, ApiError> {
        let exact = match (matching, rv) {
            (Some(_), "") => {
                return Err(match_forbidden(
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            (Some(RvMatch::Exact), "0") => {
                return Err(match_forbidden(
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
            (Some(RvMatch::Exact), _) => true,
            (Some(RvMatch::NotOlderThan), _) | (None, "" | "0") => false,
            (None, _) => limit > 0,
        };
        let snapshot = self.read_snapshot(rv).await?;
        if !exact {
            return Ok(snapshot);
        }
        self.store
            .snapshot_at(parse_revision(rv)?)
            .map_err(respond::store_error)
    }
}

fn match_forbidden(why: &str) -> ApiError {
    let error = FieldError {
        field: "resourceVersionMatch".into(),
        kind: FieldErrorKind::Forbidden,
        detail: format!("Forbidden: {why}"),
    };
    ApiError::invalid("meta.k8s.io", "ListOptions", "", &[error])
}

/// Up to `limit` matching entries behind `start`; the number of keys that are
/// left if the list goes on.
fn scan(
    snapshot: &dyn Snapshot,
    prefix: &Bytes,
    start: Option<Vec<u8>>,
    limit: usize,
    filter: &Filter,
) -> (Vec<Arc<Entry>>, Option<usize>) {
    if limit == 0 || filter.is_everything() {
        let page = snapshot.range(prefix, start.as_deref(), limit);
        let mut entries = page.entries;
        if !filter.is_everything() {
            entries.retain(|e| filter.matches(e));
        }
        return (entries, (limit > 0 && page.remaining > 0).then_some(page.remaining));
    }
    let mut found: Vec<Arc<Entry>> = Vec::new();
    let mut after = start;
    loop {
        let page = snapshot.range(prefix, after.as_deref(), SCAN_STEP);
        let Some(last) = page.entries.last() else {
            return (found, None);
        };
        after = Some(last.key.to_vec());
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

fn encode_continue(token: &Continue) -> String {
    let text = json!({"v": "meta.k8s.io/v1", "rv": token.revision, "start": token.after}).to_string();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

fn decode_continue(text: &str) -> Result<Continue, ApiError> {
    let bad = || ApiError::bad_request("continue key is not valid: the token was not made by this server");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| bad())?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let after = value["start"].as_str().filter(|s| !s.contains("..")).ok_or_else(bad)?;
    Ok(Continue {
        revision: value["rv"].as_u64().ok_or_else(bad)?,
        after: after.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continue_tokens_survive_and_garbage_is_refused() {
        let token = Continue {
            revision: 7,
            after: "default/a".into(),
        };
        assert_eq!(decode_continue(&encode_continue(&token)).unwrap(), token);
        assert_eq!(decode_continue("!!").unwrap_err().code, 400);
        assert_eq!(decode_continue("e30").unwrap_err().code, 400);
    }
}
