//! UPDATE of an object or of its status, and the checks that a patch shares
//! with it.

use super::create::CreateArgs;
use super::identity::ServerCall;
use super::route::Target;
use super::tracking::{FieldWriter, manager_of};
use super::write::{Change, Written};
use crate::admission::{Asked, expression_errors, write_options};
use crate::body::ApiBody;
use crate::codec;
use crate::registry::{
    StoreObjects, dedupe_owners, deletion_timestamp, finalizers, finished, metadata_mut, text_at, update_metadata,
};
use crate::request::parse_revision;
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::Value;
use skiff_access::{Operation, UserInfo};
use skiff_api::apply::keep_times;
use skiff_api::{ApiError, FieldError, FieldErrorKind};
use skiff_kinds::Kind;

/// Kinds whose objects an update may create, as upstream's strategies say.
const CREATE_ON_UPDATE: [(&str, &str); 10] = [
    ("coordination.k8s.io", "leases"),
    ("", "events"),
    ("", "endpoints"),
    ("", "limitranges"),
    ("", "services"),
    ("node.k8s.io", "runtimeclasses"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
];
/// Kinds whose updates must name a resourceVersion; so must those of custom resources.
const CONDITIONAL_UPDATE: [(&str, &str); 13] = [
    ("coordination.k8s.io", "leases"),
    ("policy", "poddisruptionbudgets"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "volumeattachments"),
    ("node.k8s.io", "runtimeclasses"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
];

/// What an update or patch needs besides the object.
pub(crate) struct UpdateArgs<'a> {
    pub target: &'a Target,
    pub namespace: &'a str,
    pub name: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    pub options: &'a Value,
    /// An update without resourceVersion is refused where the kind asks for one; a patch's is not.
    pub patch: bool,
    /// Who is tracked as the owner of what changes, and through which subresource;
    /// none if the object says already.
    pub tracked: Option<(&'a str, &'a str)>,
    /// Admission has had its say already, on another form of the object.
    pub admitted: bool,
}

impl<'a> UpdateArgs<'a> {
    fn asked(&self) -> Asked<'_> {
        Asked {
            operation: Operation::Update,
            user: self.user,
            kind: &self.target.kind,
            version: self.target.version,
            subresource: self.target.sub_name(),
            body: None,
            namespace: self.namespace,
            name: self.name,
            dry_run: self.dry_run,
            options: self.options,
        }
    }
}

impl ApiServer {
    pub(crate) async fn update(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let view = self.view(call, target)?;
        let kind = &*target.kind;
        let mut warnings = Vec::new();
        let object = codec::decode_object(call, kind, target.version, &mut warnings)?;
        let name = &call.info.name;
        check_place(kind, &object, &call.info.namespace, name)?;
        let manager = manager_of(call)?;
        let options = write_options(call, "UpdateOptions");
        let args = UpdateArgs {
            target,
            namespace: &call.info.namespace,
            name,
            user: &call.user,
            dry_run: call.options.dry_run,
            options: &options,
            patch: false,
            tracked: Some((&manager, target.sub_name())),
            admitted: false,
        };
        let outcome = self.replace(&args, &object, &mut warnings).await;
        let (written, code) = match outcome {
            Err(error) if error.code == 404 && !text_at(&object, &["metadata", "uid"]).is_empty() => {
                let uid = text_at(&object, &["metadata", "uid"]);
                return Err(other_uid(kind, &call.info.namespace, name, uid, ""));
            }
            Err(error)
                if error.code == 404
                    && target.sub.is_none()
                    && CREATE_ON_UPDATE.contains(&(kind.group, kind.plural)) =>
            {
                self.may_create(call)?;
                let mut object = object;
                metadata_mut(&mut object)?.remove("resourceVersion");
                let options = write_options(call, "CreateOptions");
                let args = CreateArgs {
                    kind,
                    version: target.version,
                    namespace: &call.info.namespace,
                    user: &call.user,
                    dry_run: call.options.dry_run,
                    options: &options,
                    manager: Some(&manager),
                };
                let entry = self.create_object(&args, object, &mut warnings).await?;
                (Written { entry, removed: false }, 201)
            }
            other => (other.map_err(|error| respond::with_warnings(error, &warnings))?, 200),
        };
        warnings.dedup();
        respond::bytes(
            code,
            view.media_type(),
            view.entry(
                &self.shown(kind, target.version, &written.entry).await?,
                written.entry.mod_revision(),
            )?,
            &warnings,
            false,
        )
    }

    async fn replace(
        &self,
        args: &UpdateArgs<'_>,
        object: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Written, ApiError> {
        let decoding = warnings.len();
        let mut writing = self
            .modification(&args.target.kind, args.namespace, args.name, args.dry_run)
            .in_version(args.target.version);
        loop {
            warnings.truncate(decoding);
            let (old, objects) = writing.read().await?;
            let change = self.updated(args, object.clone(), &old, &objects, warnings).await?;
            if let Some(written) = writing.write(change).await? {
                return Ok(written);
            }
        }
    }

    /// Checks a proposed object (storage version) against the stored one, runs
    /// strategy, admission and validation, and says what to write.
    pub(crate) async fn updated(
        &self,
        args: &UpdateArgs<'_>,
        mut new: Value,
        old: &Value,
        objects: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Change, ApiError> {
        let kind = &*args.target.kind;
        if args.patch {
            check_place(kind, &new, args.namespace, args.name)?;
        }
        check_version(args, &new, old)?;
        let errors = refused_metadata(&new, old);
        if !errors.is_empty() {
            return Err(ApiError::invalid(kind.group, kind.kind, args.name, &errors));
        }
        let sub = args.target.sub_name();
        update_metadata(&mut new, old)?;
        dedupe_owners(&mut new, warnings);
        kind.strategy().default(&mut new);
        // Before admission: what the server adds is nobody's, as upstream.
        if let Some((manager, subresource)) = args.tracked {
            let writer = FieldWriter {
                kind,
                version: args.target.version,
                subresource,
                manager,
            };
            writer.track(Some(old), &mut new)?;
        }
        if !args.admitted {
            self.admit_mutating(&args.asked(), &mut new, Some(old), objects, warnings)
                .await?;
            let errors = changed_identity(&new, old);
            if !errors.is_empty() {
                return Err(ApiError::invalid(kind.group, kind.kind, args.name, &errors));
            }
            update_metadata(&mut new, old)?;
        }
        kind.strategy().prepare_update(sub, &mut new, old);
        crate::special::times::fill(kind, sub, &mut new, old, &respond::now_text());
        kind.strategy().default(&mut new);
        let mut errors = if sub == "status" {
            Vec::new()
        } else {
            kind.strategy().validate(&new)
        };
        errors.extend(kind.strategy().validate_update(sub, &new, old));
        if sub.is_empty() {
            errors.extend(expression_errors(kind, &new, Some(old)));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(kind.group, kind.kind, args.name, &errors));
        }
        for warning in kind.strategy().update_warnings(&new, old) {
            if sub.is_empty() && !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        if !args.admitted {
            self.admit_validating(&args.asked(), &mut new, Some(old), objects, warnings)
                .await?;
        }
        if finished(kind, &new) && sub != "status" {
            let (compare, ops) = self.companions(kind, Some(old), None, objects)?;
            return Ok(Change::Remove(new, compare, ops));
        }
        keep_times(&mut new, old);
        let (compare, ops) = if sub.is_empty() {
            self.companions(kind, Some(old), Some(&mut new), objects)?
        } else {
            self.quota_ops(kind, sub, Some(old), Some(&mut new), objects)?
        };
        Ok(Change::WriteWith(new, compare, ops))
    }
}

/// An object lies where its path says.
fn check_place(kind: &Kind, object: &Value, namespace: &str, name: &str) -> Result<(), ApiError> {
    let given = text_at(object, &["metadata", "namespace"]);
    if kind.namespaced && !given.is_empty() && given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    match text_at(object, &["metadata", "name"]) {
        "" => Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        given if given != name => Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
        _ => Ok(()),
    }
}

/// 409: the object that is meant is another one, in the words of upstream's storage.
fn other_uid(kind: &Kind, namespace: &str, name: &str, asked: &str, current: &str) -> ApiError {
    let place = if kind.namespaced {
        format!("{namespace}/{name}")
    } else {
        name.to_string()
    };
    ApiError::conflict(
        kind.group,
        kind.plural,
        name,
        &format!(
            "StorageError: invalid object, Code: 4, Key: /registry/{}/{place}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {asked}, UID in object meta: {current}",
            kind.plural
        ),
    )
}

fn check_version(args: &UpdateArgs<'_>, new: &Value, old: &Value) -> Result<(), ApiError> {
    let kind = &*args.target.kind;
    let (uid, current) = (text_at(new, &["metadata", "uid"]), text_at(old, &["metadata", "uid"]));
    if !uid.is_empty() && uid != current && !args.patch {
        return Err(other_uid(kind, args.namespace, args.name, uid, current));
    }
    let asked = text_at(new, &["metadata", "resourceVersion"]);
    if matches!(asked, "" | "0") {
        let conditional = kind.custom.is_some() || CONDITIONAL_UPDATE.contains(&(kind.group, kind.plural));
        if conditional && !args.patch {
            let error = FieldError {
                field: "metadata.resourceVersion".into(),
                kind: FieldErrorKind::Invalid,
                detail: "Invalid value: 0x0: must be specified for an update".into(),
            };
            // Upstream names the resource here, where it names the kind elsewhere.
            return Err(ApiError::invalid(kind.group, kind.plural, args.name, &[error]));
        }
    } else if let Err(error) = parse_revision(asked) {
        return Err(error);
    } else if asked != text_at(old, &["metadata", "resourceVersion"]) {
        return Err(ApiError::modified(kind.group, kind.plural, args.name));
    }
    Ok(())
}

/// What an update may not do to the metadata; the rest of what it may not is undone.
fn refused_metadata(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if deletion_timestamp(old).is_some() {
        let had = finalizers(old);
        let mut added: Vec<&str> = finalizers(new).into_iter().filter(|f| !had.contains(f)).collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    shown.join(", ")
                ),
            ));
        }
    }
    for key in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (&new["metadata"][key], &old["metadata"][key]);
        // A deletion that has begun cannot be taken back, and asking for it is no error.
        let kept = new.is_null() || new == "" || (key != "uid" && !old.is_null());
        if !kept && new != old {
            errors.push(FieldError::invalid(
                format!("metadata.{key}"),
                new,
                "field is immutable",
            ));
        }
    }
    errors
}

/// Fields of the metadata that an update names and may not change.
fn changed_identity(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["name", "namespace"] {
        let (new, old) = (text_at(new, &["metadata", key]), text_at(old, &["metadata", key]));
        if !new.is_empty() && new != old {
            errors.push(FieldError::invalid(
                format!("metadata.{key}"),
                &new.into(),
                "field is immutable",
            ));
        }
    }
    errors
}
