//! PATCH: JSON patch, merge patch, strategic merge patch, applied to the object
//! in the version of the request, then checked as an update.

use super::identity::ServerCall;
use super::route::Target;
use super::update::UpdateArgs;
use crate::body::ApiBody;
use crate::codec::{self, Patch};
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::json;
use skiff_api::ApiError;

impl ApiServer {
    pub(crate) async fn patch(&self, call: &ServerCall, target: Target) -> Result<Response<ApiBody>, ApiError> {
        let view = self.view(call, target)?;
        let kind = target.kind;
        let patch = Patch::read(call.header(http::header::CONTENT_TYPE), &call.body)?;
        let options = json!({"kind": "PatchOptions", "apiVersion": "meta.k8s.io/v1"});
        let args = UpdateArgs {
            target,
            namespace: &call.info.namespace,
            name: &call.info.name,
            user: &call.user,
            dry_run: call.options.dry_run,
            options: &options,
            patch: true,
        };
        let mut warnings = Vec::new();
        let validation = call.options.field_validation;
        let written = self
            .modify(
                kind,
                &call.info.namespace,
                &call.info.name,
                call.options.dry_run,
                |old, objects| {
                    let mut seen = codec::to_version(old.clone(), kind, target.version);
                    patch.apply(kind, target.version, &mut seen)?;
                    let mut texts = Vec::new();
                    let new = codec::check_object(seen, kind, target.version, validation, &mut texts)?;
                    warnings = texts;
                    self.updated(&args, new, old, objects, &mut warnings)
                },
            )
            .await?;
        respond::bytes(
            200,
            view.media_type(),
            view.entry(&written.entry, written.entry.mod_revision)?,
            &warnings,
            false,
        )
    }
}
