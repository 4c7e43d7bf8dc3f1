//! GET of one object.

use super::identity::ServerCall;
use super::route::Target;
use crate::body::ApiBody;
use crate::registry::key_of;
use crate::request::{Form, negotiate, parse_revision};
use crate::respond::{self, View};
use crate::server::ApiServer;
use http::Response;
use skiff_api::ApiError;
use skiff_store::{Entry, Snapshot};
use std::sync::Arc;
use std::time::Duration;

/// How long a read waits for a revision that this server has not applied yet; upstream's figure.
pub(super) const FUTURE_REVISION_WAIT: Duration = Duration::from_secs(3);

impl ApiServer {
    pub(crate) async fn get(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let view = self.view(call, target)?;
        let snapshot = self.read_snapshot(&call.options.resource_version).await?;
        let entry = self.entry(target, &*snapshot, &call.info.namespace, &call.info.name)?;
        let entry = self.shown(&target.kind, target.version, &entry).await?;
        respond::bytes(
            200,
            view.media_type(),
            view.entry(&entry, entry.mod_revision())?,
            &[],
            call.accepts_gzip(),
        )
    }

    /// How the answer to this call is shaped.
    pub(crate) fn view<'a>(&'a self, call: &'a ServerCall, target: &'a Target) -> Result<View<'a>, ApiError> {
        let negotiated = negotiate(call.header(http::header::ACCEPT), &[Form::Table, Form::Metadata])?;
        negotiated.check_list(matches!(call.info.verb, "list" | "deletecollection"))?;
        let include = call.options.include_object.as_str();
        if negotiated.form == Form::Table && !matches!(include, "" | "None" | "Metadata" | "Object") {
            return Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {include:?}: must be 'Metadata', 'Object', 'None', or empty"
            )));
        }
        Ok(View {
            kind: &target.kind,
            version: target.version,
            negotiated,
            include_object: &call.options.include_object,
        })
    }

    pub(crate) fn entry(
        &self,
        target: &Target,
        snapshot: &dyn Snapshot,
        namespace: &str,
        name: &str,
    ) -> Result<Entry, ApiError> {
        let kind = &*target.kind;
        let namespace = if kind.namespaced { namespace } else { "" };
        snapshot
            .get(&key_of(kind, namespace, name))
            .ok_or_else(|| ApiError::not_found(kind.group, kind.plural, name))
    }

    /// A snapshot that is as fresh as `resourceVersion` asks: unset means
    /// linearizable, `0` whatever is here, a number at least that revision.
    pub(crate) async fn read_snapshot(&self, resource_version: &str) -> Result<Arc<dyn Snapshot>, ApiError> {
        match resource_version {
            "" => self.store.snapshot_linearizable().await.map_err(respond::store_error),
            "0" => Ok(self.store.snapshot()),
            other => {
                let revision = parse_revision(other)?;
                let now = self.store.snapshot();
                if now.revision() >= revision {
                    return Ok(now);
                }
                self.store
                    .wait_for(revision, FUTURE_REVISION_WAIT)
                    .await
                    .map_err(respond::store_error)
            }
        }
    }
}
