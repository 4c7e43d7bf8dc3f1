//! CREATE: decode, default, admit, validate, store under a name nobody has.

use super::identity::ServerCall;
use super::route::Target;
use super::tracking::{FieldWriter, manager_of};
use super::write::commit_entry;
use crate::admission::{Asked, expression_errors, write_options};
use crate::body::ApiBody;
use crate::codec;
use crate::registry::{
    StoreObjects, decode, dedupe_owners, deletion_timestamp, encode, generate_name, key_of, new_metadata, split_key,
    stamp_metadata, text_at,
};
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::Value;
use skiff_access::{Operation, UserInfo};
use skiff_api::ApiError;
use skiff_kinds::Kind;
use skiff_store::{Compare, Entry, Numbers, Op, OpResult, Snapshot, Txn};
use std::sync::Arc;

/// Generated names tried before giving up, as upstream.
const GENERATED_TRIES_MAX: usize = 8;
/// Lost races for companions (addresses, ports) that one request sits out.
const ATTEMPTS_MAX: usize = 64;

/// What a create needs besides the object; also used by the server itself.
pub(crate) struct CreateArgs<'a> {
    pub kind: &'a Kind,
    pub version: &'a str,
    pub namespace: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    pub options: &'a Value,
    /// Who is tracked as the owner of the fields; none if the object says already.
    pub manager: Option<&'a str>,
}

impl<'a> CreateArgs<'a> {
    fn asked<'n>(&'n self, name: &'n str) -> Asked<'n> {
        Asked {
            operation: Operation::Create,
            user: self.user,
            kind: self.kind,
            version: self.version,
            subresource: "",
            body: None,
            namespace: self.namespace,
            name,
            dry_run: self.dry_run,
            options: self.options,
        }
    }
}

impl ApiServer {
    pub(crate) async fn create(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let view = self.view(call, target)?;
        let kind = &*target.kind;
        if !call.info.name.is_empty() {
            return Err(ApiError::method_not_supported(kind.group, kind.plural, "create"));
        }
        if kind.custom.as_ref().is_some_and(|custom| custom.terminating) {
            let mut error = ApiError::method_not_supported(kind.group, kind.plural, "create");
            error.message = "create not allowed while custom resource definition is terminating".into();
            return Err(error);
        }
        let mut warnings = Vec::new();
        let object = codec::decode_object(call, kind, target.version, &mut warnings)?;
        let manager = manager_of(call)?;
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
        let created = self.create_object(&args, object, &mut warnings).await;
        let entry = created.map_err(|error| respond::with_warnings(error, &warnings))?;
        respond::bytes(
            201,
            view.media_type(),
            view.entry(&self.shown(kind, target.version, &entry).await?, entry.mod_revision())?,
            &warnings,
            false,
        )
    }

    /// Creates an object given in the storage version.
    pub(crate) async fn create_object(
        &self,
        args: &CreateArgs<'_>,
        mut object: Value,
        warnings: &mut Vec<String>,
    ) -> Result<Entry, ApiError> {
        let kind = args.kind;
        if kind.namespaced && args.namespace.is_empty() {
            return Err(ApiError::bad_request(
                "an empty namespace may not be set during creation",
            ));
        }
        check_identity(args, &object)?;
        new_metadata(&mut object, kind.namespaced, args.namespace)?;
        dedupe_owners(&mut object, warnings);
        kind.strategy().default(&mut object);
        // Before admission: what the server adds is nobody's, as upstream.
        if let Some(manager) = args.manager {
            let writer = FieldWriter {
                kind,
                version: args.version,
                subresource: "",
                manager,
            };
            writer.track(None, &mut object)?;
        }
        let snapshot = self.store.snapshot_linearizable().await.map_err(respond::store_error)?;
        {
            let objects = self.objects(snapshot.clone());
            let name = text_at(&object, &["metadata", "name"]).to_string();
            self.admit_mutating(&args.asked(&name), &mut object, None, &objects, warnings)
                .await?;
        }
        check_identity(args, &object)?;
        let given_name = text_at(&object, &["metadata", "name"]).to_string();
        let base = text_at(&object, &["metadata", "generateName"]).to_string();
        let generated = given_name.is_empty() && !base.is_empty();
        let mut first = Some(snapshot);
        let (mut tries, said) = (0, warnings.len());
        for _ in 0..ATTEMPTS_MAX {
            let snapshot = match first.take() {
                Some(snapshot) => snapshot,
                None => self.store.snapshot_linearizable().await.map_err(respond::store_error)?,
            };
            let mut object = object.clone();
            stamp_metadata(&mut object, &uuid::Uuid::new_v4().to_string(), &respond::now_text())?;
            if generated {
                object["metadata"]["name"] = generate_name(&base, rand::random()).into();
            }
            warnings.truncate(said);
            match self.try_create(args, object, snapshot, warnings).await? {
                Attempt::Stored(entry) => return Ok(entry),
                Attempt::Taken(entry) => {
                    tries += 1;
                    if !generated || tries >= GENERATED_TRIES_MAX {
                        return Err(taken(kind, &entry, !base.is_empty()));
                    }
                }
                Attempt::CompanionLost => {}
            }
        }
        Err(ApiError::too_many_requests(
            "too many writers contend for the same addresses or ports; please try again",
            1,
        ))
    }

    async fn try_create(
        &self,
        args: &CreateArgs<'_>,
        mut object: Value,
        snapshot: Arc<dyn Snapshot>,
        warnings: &mut Vec<String>,
    ) -> Result<Attempt, ApiError> {
        let kind = args.kind;
        let (key, txn, record, object) = {
            let objects = self.objects(snapshot);
            self.check_new(args, &mut object, &objects, warnings).await?;
            let name = text_at(&object, &["metadata", "name"]).to_string();
            let key = key_of(kind, args.namespace, &name);
            if let Some(entry) = objects.snapshot.get(&key) {
                return Ok(Attempt::Taken(entry));
            }
            let (compare, ops) = self.companions(kind, None, Some(&mut object), &objects)?;
            let object = self.to_stored(kind, object).await?;
            let record = encode(kind, &object)?;
            let mut txn = Txn {
                compare,
                then: ops,
                or_else: vec![Op::Get { key: key.clone() }],
            };
            txn.compare.push(Compare::ModRevision(key.clone(), 0));
            txn.then.push(Op::Put {
                key: key.clone(),
                record: record.clone(),
            });
            (key, txn, record, object)
        };
        if args.dry_run {
            return Ok(Attempt::Stored(Entry::new(&key, &record, Numbers::default())));
        }
        let result = self.store.txn(txn).await.map_err(respond::store_error)?;
        if result.succeeded {
            let entry = commit_entry(&key, &record, None, &result);
            if is_bound_next(kind, &object) {
                self.decoded.keep(&entry, object);
            }
            return Ok(Attempt::Stored(entry));
        }
        Ok(match result.results.into_iter().next() {
            Some(OpResult::Got(Some(entry))) => Attempt::Taken(entry),
            _ => Attempt::CompanionLost,
        })
    }

    /// Validation of a new object, the kind's and admission's.
    async fn check_new(
        &self,
        args: &CreateArgs<'_>,
        object: &mut Value,
        objects: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let kind = args.kind;
        let name = text_at(object, &["metadata", "name"]).to_string();
        kind.strategy().prepare_create(object);
        kind.strategy().default(object);
        let mut errors = kind.strategy().validate(object);
        errors.extend(kind.strategy().validate_create(object));
        errors.extend(expression_errors(kind, object, None));
        if !errors.is_empty() {
            return Err(ApiError::invalid(kind.group, kind.kind, &name, &errors));
        }
        for warning in kind.strategy().warnings(object) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        self.admit_validating(&args.asked(&name), object, None, objects, warnings)
            .await
    }
}

enum Attempt {
    Stored(Entry),
    /// The name is this object's.
    Taken(Entry),
    /// An address or port was taken meanwhile.
    CompanionLost,
}

/// A pod without a node is written again at once.
fn is_bound_next(kind: &Kind, object: &Value) -> bool {
    kind.group.is_empty() && kind.plural == "pods" && text_at(object, &["spec", "nodeName"]).is_empty()
}

/// 409 of a name that is in use; `named_by_base` says that the server may have made it up.
fn taken(kind: &Kind, entry: &Entry, named_by_base: bool) -> ApiError {
    let (_, name) = split_key(kind, entry.key());
    let mut error = ApiError::already_exists(kind.group, kind.plural, name);
    if named_by_base {
        error.message += ", the server was not able to generate a unique name for the object";
        if let Some(details) = &mut error.details {
            details["retryAfterSeconds"] = 1.into();
        }
    }
    if decode(entry, entry.mod_revision()).is_ok_and(|object| deletion_timestamp(&object).is_some()) {
        error.message = format!("object is being deleted: {}", error.message);
    }
    error
}

/// Namespace and resourceVersion that a body may carry.
fn check_identity(args: &CreateArgs<'_>, object: &Value) -> Result<(), ApiError> {
    let namespace = text_at(object, &["metadata", "namespace"]);
    if args.kind.namespaced && !namespace.is_empty() && namespace != args.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if !matches!(text_at(object, &["metadata", "resourceVersion"]), "" | "0") {
        return Err(ApiError::new(
            500,
            "",
            "resourceVersion should not be set on objects to be created",
        ));
    }
    Ok(())
}
