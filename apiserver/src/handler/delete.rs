//! DELETE and DELETECOLLECTION: read, admit, write, answer. What a deletion does
//! is decided in [`super::deletion`].

use super::deletion::{DeleteOptions, Plan, orphans_by_default, plan};
use super::identity::ServerCall;
use super::route::Target;
use super::write::{Change, Written};
use crate::admission::{Asked, delete_options};
use crate::body::ApiBody;
use crate::codec;
use crate::registry::{StoreObjects, split_key, text_at};
use crate::respond;
use crate::server::ApiServer;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::Response;
use serde_json::{Value, json};
use skiff_access::Operation;
use skiff_api::ApiError;
use skiff_kinds::Kind;
use skiff_store::Entry;

/// Kinds whose deletion answers with the object, as upstream's registries do;
/// the others answer with a Status.
const ANSWERS_OBJECT: [&str; 18] = [
    "namespaces",
    "pods",
    "podtemplates",
    "serviceaccounts",
    "persistentvolumes",
    "persistentvolumeclaims",
    "resourcequotas",
    "services",
    "storageclasses",
    "volumeattachments",
    "csidrivers",
    "csinodes",
    "csistoragecapacities",
    "volumeattributesclasses",
    "deviceclasses",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourceslices",
];

/// Objects of a collection that are deleted at once: enough to share the store's
/// batches, too few to keep others waiting.
const AT_ONCE_MAX: usize = 32;

impl ApiServer {
    pub(crate) async fn delete(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let view = self.view(call, target)?;
        let options = read_options(call)?;
        let kind = &*target.kind;
        let mut warnings = Vec::new();
        warn_of_orphans(kind, &options, &mut warnings);
        let written = self
            .delete_object(
                call,
                target,
                &call.info.namespace,
                &call.info.name,
                &options,
                &mut warnings,
            )
            .await
            .map_err(|error| respond::with_warnings(error, &warnings))?;
        let shown = kind.custom.is_none() && ANSWERS_OBJECT.contains(&kind.plural);
        if written.removed && !shown {
            let value = codec::stored(&written.entry)?;
            let status = deleted_status(kind, &value);
            return respond::value(200, &view, &status, &warnings);
        }
        let code = if !written.removed && options.orphan_dependents == Some(false) {
            202
        } else {
            200
        };
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

    pub(crate) async fn delete_collection(
        &self,
        call: &ServerCall,
        target: &Target,
    ) -> Result<Response<ApiBody>, ApiError> {
        let view = self.view(call, target)?;
        let options = read_options(call)?;
        let (entries, meta) = self.select(call, target).await?;
        let mut warnings = Vec::new();
        warn_of_orphans(&target.kind, &options, &mut warnings);
        // Their writes share the store's batches; when the client goes, the rest stays.
        let mut waiting = entries.iter();
        let mut running = FuturesUnordered::new();
        loop {
            for entry in waiting.by_ref().take(AT_ONCE_MAX - running.len()) {
                running.push(self.delete_one(call, target, entry, &options).boxed());
            }
            match running.next().await {
                None => break,
                Some(Ok(said)) => warnings.extend(said),
                // Somebody else was faster.
                Some(Err(error)) if error.code == 404 => {}
                Some(Err(error)) => return Err(error),
            }
        }
        drop(running);
        warnings.sort();
        warnings.dedup();
        // What is answered is what was found, as upstream.
        let entries = self.in_version(&target.kind, target.version, entries).await?;
        let mut response = view.list(entries, &meta, call.accepts_gzip())?;
        for warning in &warnings {
            respond::warn(&mut response, warning);
        }
        Ok(response)
    }

    /// One object of a collection; answers the warnings.
    async fn delete_one(
        &self,
        call: &ServerCall,
        target: &Target,
        entry: &Entry,
        options: &DeleteOptions,
    ) -> Result<Vec<String>, ApiError> {
        let (namespace, name) = split_key(&target.kind, entry.key());
        let mut warnings = Vec::new();
        match self
            .delete_object(call, target, namespace, name, options, &mut warnings)
            .await
        {
            Ok(_) => Ok(warnings),
            Err(error) => Err(respond::with_warnings(error, &warnings)),
        }
    }

    pub(crate) async fn delete_object(
        &self,
        call: &ServerCall,
        target: &Target,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Written, ApiError> {
        let kind = &*target.kind;
        let options_value = delete_options(options);
        let asked = Asked {
            operation: Operation::Delete,
            user: &call.user,
            kind,
            version: target.version,
            subresource: "",
            body: None,
            namespace,
            // A collection is deleted without naming what is in it.
            name: if call.info.verb == "deletecollection" { "" } else { name },
            dry_run: options.dry_run,
            options: &options_value,
        };
        let mut writing = self.modification(kind, namespace, name, options.dry_run);
        loop {
            let (old, objects) = writing.read().await?;
            options.check(kind, &old)?;
            if !options.admitted {
                self.admit(&asked, &mut Value::Null, Some(&old), &objects, warnings)
                    .await?;
            }
            let change = self.deletion(kind, &old, options, &objects)?;
            if let Some(written) = writing.write(change).await? {
                return Ok(written);
            }
        }
    }

    /// Deletes an object as the server itself, past admission.
    pub(crate) async fn delete_kept(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Written, ApiError> {
        let mut writing = self.modification(kind, namespace, name, options.dry_run);
        loop {
            let (old, objects) = writing.read().await?;
            let change = self.deletion(kind, &old, options, &objects)?;
            if let Some(written) = writing.write(change).await? {
                return Ok(written);
            }
        }
    }

    fn deletion(
        &self,
        kind: &Kind,
        old: &Value,
        options: &DeleteOptions,
        objects: &StoreObjects<'_>,
    ) -> Result<Change, ApiError> {
        Ok(match plan(kind, old, options, jiff::Timestamp::now()) {
            Plan::Pending => Change::Keep,
            Plan::Mark(new) => Change::Write(new),
            Plan::Remove(last) => {
                let (compare, ops) = self.companions(kind, Some(old), None, objects)?;
                Change::Remove(last, compare, ops)
            }
        })
    }
}

/// `Status` of a finished deletion.
pub(crate) fn deleted_status(kind: &Kind, object: &Value) -> Value {
    let mut details = json!({"name": text_at(object, &["metadata", "name"]), "kind": kind.plural, "uid": text_at(object, &["metadata", "uid"])});
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn read_options(call: &ServerCall) -> Result<DeleteOptions, ApiError> {
    if call.body.is_empty() {
        return DeleteOptions::of_query(&call.options);
    }
    let body = codec::decode_plain(
        call.header(http::header::CONTENT_TYPE),
        &call.body,
        ("meta.k8s.io", "v1", "DeleteOptions"),
    )?;
    // Clients send it in the version of the group that they speak.
    let kind = text_at(&body, &["kind"]);
    if !matches!(kind, "" | "DeleteOptions") {
        return Err(ApiError::bad_request(format!(
            "no kind {kind:?} is registered for version {:?}: a deletion has DeleteOptions",
            text_at(&body, &["apiVersion"])
        )));
    }
    DeleteOptions::of_body(&body)
}

/// Upstream's warning where dependents are left behind unasked.
fn warn_of_orphans(kind: &Kind, options: &DeleteOptions, warnings: &mut Vec<String>) {
    if kind.plural == "jobs" && orphans_by_default(kind) && options.says_nothing_of_dependents() {
        warnings.push(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them \
             or set propagationPolicy=Orphan to suppress this warning"
                .into(),
        );
    }
}
