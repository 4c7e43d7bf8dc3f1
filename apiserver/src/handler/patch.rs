//! PATCH: JSON patch, merge patch, strategic merge patch, applied to the object
//! in the version of the request, then checked as an update. Server-side apply is in
//! [`super::apply`].

use super::identity::ServerCall;
use super::route::Target;
use super::tracking::{bad_options, manager_of};
use super::update::UpdateArgs;
use crate::admission::write_options;
use crate::body::ApiBody;
use crate::codec::{self, Patch};
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::{Map, Value};
use skiff_api::{ApiError, FieldError};

impl ApiServer {
    pub(crate) async fn patch(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        if call.options.force_given && !codec::is_apply(call.header(http::header::CONTENT_TYPE)) {
            let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
            return Err(bad_options(call, &error));
        }
        if codec::is_apply(call.header(http::header::CONTENT_TYPE)) {
            return self.apply(call, target).await;
        }
        let view = self.view(call, target)?;
        let kind = &*target.kind;
        let patch = Patch::read(call.header(http::header::CONTENT_TYPE), &call.body)?;
        if patch.is_strategic() && kind.custom.is_some() {
            return Err(ApiError::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
                 application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        let manager = manager_of(call)?;
        let options = write_options(call, "UpdateOptions");
        let args = UpdateArgs {
            target,
            namespace: &call.info.namespace,
            name: &call.info.name,
            user: &call.user,
            dry_run: call.options.dry_run,
            options: &options,
            patch: true,
            tracked: Some((&manager, target.sub_name())),
            admitted: false,
        };
        let mut warnings = Vec::new();
        let validation = call.options.field_validation;
        // Entries that the patch does not speak of need not be copied and checked along.
        let speaks_of_entries = mentions(&call.body, b"managedFields");
        let writing = self.modification(kind, args.namespace, args.name, args.dry_run);
        let mut writing = writing.in_version(target.version);
        let written = loop {
            let (old, objects) = writing.read().await?;
            let copy = if speaks_of_entries {
                Value::clone(&old)
            } else {
                without_entries(&old)
            };
            let mut seen = codec::to_version(copy, kind, target.version);
            patch.apply(kind, target.version, &mut seen)?;
            warnings.clear();
            let checked = codec::check_patched(&patch, seen, kind, target.version, validation, &mut warnings);
            let new = checked.map_err(|error| {
                let mut made = codec::to_version(Value::clone(&old), kind, target.version);
                let shown = !patch.is_strategic() && patch.apply(kind, target.version, &mut made).is_ok();
                unreadable(error, shown.then_some(&made), &call.body)
            })?;
            let change = self.updated(&args, new, &old, &objects, &mut warnings).await;
            let change = change.map_err(|error| respond::with_warnings(error, &warnings))?;
            if let Some(written) = writing.write(change).await? {
                break written;
            }
        };
        respond::bytes(
            200,
            view.media_type(),
            view.entry(
                &self.shown(kind, target.version, &written.entry).await?,
                written.entry.mod_revision(),
            )?,
            &warnings,
            false,
        )
    }
}

/// 422 of a patch that makes what the kind cannot be: of a merge or JSON patch
/// upstream shows what it makes, of a strategic one the patch.
fn unreadable(error: ApiError, made: Option<&Value>, patch: &[u8]) -> ApiError {
    if error.code != 400 {
        return error;
    }
    let shown = match made {
        Some(made) => made.to_string(),
        None => String::from_utf8_lossy(patch).into_owned(),
    };
    let (_, why) = error.message.split_once(" cannot be handled as a ").unwrap_or_default();
    let why = why.split_once(": ").map_or(error.message.as_str(), |(_, why)| why);
    ApiError::invalid("", "", "", &[FieldError::invalid("patch", &shown.into(), why)])
}

/// A copy of an object less its managedFields.
fn without_entries(object: &Value) -> Value {
    let copy = |map: &Map<String, Value>, skip: &str| -> Map<String, Value> {
        map.iter()
            .filter(|(key, _)| *key != skip)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let Value::Object(map) = object else {
        return object.clone();
    };
    let mut made = copy(map, "metadata");
    if let Some(Value::Object(metadata)) = map.get("metadata") {
        made.insert("metadata".into(), Value::Object(copy(metadata, "managedFields")));
    }
    Value::Object(made)
}

fn mentions(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|window| window == word)
}
