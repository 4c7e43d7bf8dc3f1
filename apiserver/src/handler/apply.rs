//! Server-side apply: `PATCH` with `application/apply-patch+yaml`. Creates what
//! is not there; else merges as skiff-api says and goes on as an update.

use super::create::CreateArgs;
use super::identity::ServerCall;
use super::route::Target;
use super::tracking::{FieldWriter, bad_options, manager_of};
use super::update::UpdateArgs;
use super::write::Written;
use crate::admission::write_options;
use crate::body::ApiBody;
use crate::codec;
use crate::registry::text_at;
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::{Value, json};
use skiff_access::Attributes;
use skiff_api::{ApiError, FieldError};

/// Turns between "not there" and "there already" that one request sits out.
const ATTEMPTS_MAX: usize = 8;

impl ApiServer {
    pub(super) async fn apply(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let view = self.view(call, target)?;
        let manager = applier(call)?;
        let config = configuration(call, target)?;
        let faults = codec::apply_faults(&call.body, call.options.field_validation)?;
        let mut warnings = Vec::new();
        let mut tries = 0;
        let (written, code) = loop {
            match self.apply_update(call, target, &manager, &config, &mut warnings).await {
                Err(error) if error.code == 404 && target.sub.is_none() => {}
                other => break (other.map_err(|error| respond::with_warnings(error, &warnings))?, 200),
            }
            match self.apply_create(call, target, &manager, &config, &mut warnings).await {
                Err(error) if error.reason == "AlreadyExists" && tries < ATTEMPTS_MAX => tries += 1,
                other => break (other.map_err(|error| respond::with_warnings(error, &warnings))?, 201),
            }
        };
        warnings.extend(faults);
        warnings.dedup();
        respond::bytes(
            code,
            view.media_type(),
            view.entry(
                &self.shown(&target.kind, target.version, &written.entry).await?,
                written.entry.mod_revision(),
            )?,
            &warnings,
            false,
        )
    }

    async fn apply_update(
        &self,
        call: &ServerCall,
        target: &Target,
        manager: &str,
        config: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Written, ApiError> {
        let kind = &*target.kind;
        let options = write_options(call, "UpdateOptions");
        let args = UpdateArgs {
            target,
            namespace: &call.info.namespace,
            name: &call.info.name,
            user: &call.user,
            dry_run: call.options.dry_run,
            options: &options,
            patch: true,
            tracked: None,
            admitted: false,
        };
        let writer = FieldWriter {
            kind,
            version: target.version,
            subresource: target.sub_name(),
            manager,
        };
        let (namespace, name) = (&call.info.namespace, &call.info.name);
        let mut writing = self
            .modification(kind, namespace, name, call.options.dry_run)
            .in_version(target.version);
        loop {
            let (old, objects) = writing.read().await?;
            let seen = codec::to_version(Value::clone(&old), kind, target.version);
            let new = writer.apply(Some(&seen), config, call.options.force)?;
            warnings.clear();
            let validation = call.options.field_validation;
            let new = codec::check_object(new, kind, target.version, validation, warnings)?;
            let change = self.updated(&args, new, &old, &objects, warnings).await?;
            if let Some(written) = writing.write(change).await? {
                return Ok(written);
            }
        }
    }

    async fn apply_create(
        &self,
        call: &ServerCall,
        target: &Target,
        manager: &str,
        config: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Written, ApiError> {
        let kind = &*target.kind;
        self.may_create(call)?;
        if let Some(uid) = config["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()) {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(ApiError::conflict(kind.group, kind.plural, &call.info.name, &why));
        }
        let writer = FieldWriter {
            kind,
            version: target.version,
            subresource: "",
            manager,
        };
        let object = writer.apply(None, config, call.options.force)?;
        let object = codec::check_object(object, kind, target.version, call.options.field_validation, warnings)?;
        let options = write_options(call, "CreateOptions");
        let args = CreateArgs {
            kind,
            version: target.version,
            namespace: &call.info.namespace,
            user: &call.user,
            dry_run: call.options.dry_run,
            options: &options,
            manager: None,
        };
        let entry = self.create_object(&args, object, warnings).await?;
        Ok(Written { entry, removed: false })
    }

    /// Who may patch may not therefore create.
    pub(super) fn may_create(&self, call: &ServerCall) -> Result<(), ApiError> {
        let objects = self.objects(self.store.snapshot());
        let attributes = Attributes {
            user: &call.user,
            verb: "create",
            group: &call.info.group,
            version: &call.info.version,
            resource: &call.info.resource,
            subresource: "",
            namespace: &call.info.namespace,
            name: &call.info.name,
            path: "",
            field_selector: "",
            label_selector: "",
        };
        self.check(&attributes, &objects)
    }
}

/// The manager, which an apply must name.
pub(crate) fn applier(call: &ServerCall) -> Result<String, ApiError> {
    if call.options.field_manager.is_empty() {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        return Err(bad_options(call, &error));
    }
    manager_of(call)
}

/// The applied configuration; the path says its name and namespace if it does not.
fn configuration(call: &ServerCall, target: &Target) -> Result<Value, ApiError> {
    let mut config = codec::apply_body(&call.body)?;
    if !config["metadata"].is_object() {
        config["metadata"] = json!({});
    }
    let wanted = [("name", &call.info.name), ("namespace", &call.info.namespace)];
    for (key, expected) in wanted
        .into_iter()
        .filter(|(key, _)| *key == "name" || target.kind.namespaced)
    {
        let given = text_at(&config, &["metadata", key]);
        if given.is_empty() {
            config["metadata"][key] = expected.as_str().into();
        } else if given != expected {
            return Err(ApiError::bad_request(format!(
                "the {key} of the object ({given}) does not match the {key} on the URL ({expected})"
            )));
        }
    }
    Ok(config)
}
