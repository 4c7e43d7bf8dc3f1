//! DELETE and DELETECOLLECTION: preconditions, grace, finalizers, and what is
//! answered. The decision is `plan`, pure over the object and the options.

use super::identity::ServerCall;
use super::route::Target;
use super::write::{Change, Written};
use crate::admission::{Asked, delete_options};
use crate::body::ApiBody;
use crate::codec;
use crate::registry::{check_preconditions, deletion_timestamp, finalizers, split_key, text_at};
use crate::request::Propagation;
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::{Value, json};
use skiff_access::Operation;
use skiff_api::ApiError;
use skiff_kinds::Kind;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Kinds whose deletion answers with the object, as upstream's registries do;
/// the others answer with a Status.
const ANSWERS_OBJECT: [&str; 12] = [
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
];

/// DeleteOptions from the body or the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub orphan_dependents: Option<bool>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
    /// What asks for the deletion was admitted itself (an eviction).
    pub admitted: bool,
}

/// What a deletion does now.
#[derive(Debug, PartialEq)]
enum Plan {
    /// Already on its way; nothing to change.
    Pending,
    /// Marked: written back and waiting for finalizers or the agent.
    Mark(Value),
    /// Gone at once; the tree is what the answer shows.
    Remove(Value),
}

impl ApiServer {
    pub(crate) async fn delete(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let view = self.view(call, target)?;
        let options = read_options(call)?;
        let kind = &*target.kind;
        let mut warnings = Vec::new();
        let written = self
            .delete_object(
                call,
                target,
                &call.info.namespace,
                &call.info.name,
                &options,
                &mut warnings,
            )
            .await?;
        if written.removed && !ANSWERS_OBJECT.contains(&kind.plural) {
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
            view.entry(&written.entry, written.entry.mod_revision)?,
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
        let mut shown = Vec::with_capacity(entries.len());
        let mut warnings = Vec::new();
        for entry in entries {
            let (namespace, name) = split_key(&target.kind, &entry.key);
            match self
                .delete_object(call, target, namespace, name, &options, &mut warnings)
                .await
            {
                Ok(written) => shown.push(written.entry),
                // Somebody else was faster.
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        view.list(shown, &meta, call.accepts_gzip())
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
            let (uid, version) = (options.uid.as_deref(), options.resource_version.as_deref());
            check_preconditions(kind, name, &old, uid, version)?;
            if !options.admitted {
                self.admit(&asked, &mut Value::Null, Some(&old), &objects, warnings)
                    .await?;
            }
            let change = match plan(kind, &old, options, jiff::Timestamp::now()) {
                Plan::Pending => Change::Keep,
                Plan::Mark(new) => Change::Write(new),
                Plan::Remove(last) => {
                    let (compare, ops) = self.companions(kind, Some(&old), None, &objects)?;
                    Change::Remove(last, compare, ops)
                }
            };
            if let Some(written) = writing.write(change).await? {
                return Ok(written);
            }
        }
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

pub(crate) fn read_options(call: &ServerCall) -> Result<DeleteOptions, ApiError> {
    let o = &call.options;
    let mut options = DeleteOptions {
        grace_period_seconds: o.grace_period_seconds,
        propagation: o.propagation,
        orphan_dependents: o.orphan_dependents,
        dry_run: o.dry_run,
        ..DeleteOptions::default()
    };
    if call.body.is_empty() {
        return Ok(options);
    }
    let body = codec::decode_plain(
        call.header(http::header::CONTENT_TYPE),
        &call.body,
        ("meta.k8s.io", "v1", "DeleteOptions"),
    )?;
    merge_body(&mut options, &body)?;
    if options.propagation.is_some() && options.orphan_dependents.is_some() {
        return Err(ApiError::new(
            422,
            "Invalid",
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: orphanDependents and deletionPropagation cannot be both set",
        ));
    }
    Ok(options)
}

/// Reads a DeleteOptions tree over what the query said.
pub(crate) fn merge_body(options: &mut DeleteOptions, body: &Value) -> Result<(), ApiError> {
    if let Some(seconds) = body["gracePeriodSeconds"].as_i64() {
        options.grace_period_seconds = Some(seconds);
    }
    if let Some(policy) = body["propagationPolicy"].as_str().filter(|p| !p.is_empty()) {
        options.propagation = Some(Propagation::parse(policy)?);
    }
    if let Some(orphan) = body["orphanDependents"].as_bool() {
        options.orphan_dependents = Some(orphan);
    }
    for text in body["dryRun"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        options.dry_run |= crate::request::dry_run(text)?;
    }
    options.uid = body["preconditions"]["uid"].as_str().map(str::to_string);
    options.resource_version = body["preconditions"]["resourceVersion"].as_str().map(str::to_string);
    Ok(())
}

/// Decides a deletion; follows upstream's `BeforeDelete` and the garbage
/// collector's finalizers.
fn plan(kind: &Kind, old: &Value, options: &DeleteOptions, now: jiff::Timestamp) -> Plan {
    let mut new = old.clone();
    let wanted = collector_finalizers(old, options);
    let finalizers_changed = wanted != finalizers(old);
    if finalizers_changed {
        set_finalizers(&mut new, &wanted);
    }
    let held = !wanted.is_empty() || namespace_held(kind, old);
    if kind.plural == "namespaces" && kind.group.is_empty() {
        new["status"]["phase"] = "Terminating".into();
    }
    if let Some(deadline) = deletion_timestamp(old) {
        return replan(old, new, deadline, options, held, finalizers_changed);
    }
    match kind.strategy().grace_period_seconds(old, options.grace_period_seconds) {
        Some(grace) => {
            mark(&mut new, now, grace);
            if grace > 0 || held {
                Plan::Mark(new)
            } else {
                Plan::Remove(new)
            }
        }
        None if held => {
            mark(&mut new, now, 0);
            Plan::Mark(new)
        }
        None => Plan::Remove(new),
    }
}

/// A deletion of what is being deleted: only a shorter grace period counts.
fn replan(
    old: &Value,
    mut new: Value,
    deadline: &str,
    options: &DeleteOptions,
    held: bool,
    finalizers_changed: bool,
) -> Plan {
    let pending = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    if pending > 0 {
        let Some(asked) = options.grace_period_seconds.filter(|g| *g < pending) else {
            return Plan::Pending;
        };
        let asked = asked.max(0);
        if let Ok(deadline) = deadline.parse::<jiff::Timestamp>()
            && let Ok(sooner) = deadline.checked_sub(jiff::SignedDuration::from_secs(pending - asked))
        {
            new["metadata"]["deletionTimestamp"] = respond::time_text(sooner).into();
        }
        new["metadata"]["deletionGracePeriodSeconds"] = asked.into();
        return if asked > 0 || held {
            Plan::Mark(new)
        } else {
            Plan::Remove(new)
        };
    }
    match (held, finalizers_changed) {
        (false, _) => Plan::Remove(new),
        (true, true) => Plan::Mark(new),
        (true, false) => Plan::Pending,
    }
}

fn namespace_held(kind: &Kind, object: &Value) -> bool {
    kind.plural == "namespaces"
        && kind.group.is_empty()
        && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
}

fn mark(object: &mut Value, now: jiff::Timestamp, grace: i64) {
    let deadline = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
    let metadata = &mut object["metadata"];
    metadata["deletionTimestamp"] = respond::time_text(deadline).into();
    metadata["deletionGracePeriodSeconds"] = grace.into();
    // What is being deleted behaves differently: observers of the generation must see it.
    if let Some(generation) = metadata["generation"].as_i64().filter(|g| *g > 0) {
        metadata["generation"] = (generation + 1).into();
    }
}

/// The finalizers after the propagation policy has had its say.
fn collector_finalizers<'a>(object: &'a Value, options: &DeleteOptions) -> Vec<&'a str> {
    let present = finalizers(object);
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(policy)) => (policy == Propagation::Orphan, policy == Propagation::Foreground),
        (None, None) => (present.contains(&ORPHAN), present.contains(&FOREGROUND)),
    };
    let mut wanted: Vec<&str> = present
        .iter()
        .copied()
        .filter(|f| (*f != ORPHAN || orphan) && (*f != FOREGROUND || foreground))
        .collect();
    if orphan && !wanted.contains(&ORPHAN) {
        wanted.push(ORPHAN);
    }
    if foreground && !wanted.contains(&FOREGROUND) {
        wanted.push(FOREGROUND);
    }
    wanted
}

fn set_finalizers(object: &mut Value, wanted: &[&str]) {
    if wanted.is_empty() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("finalizers");
        }
    } else {
        object["metadata"]["finalizers"] = wanted.iter().map(|f| Value::from(*f)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(plural: &str) -> &'static Kind {
        skiff_kinds::find("", plural).unwrap()
    }

    fn options(propagation: Option<Propagation>, grace: Option<i64>) -> DeleteOptions {
        DeleteOptions {
            propagation,
            grace_period_seconds: grace,
            ..DeleteOptions::default()
        }
    }

    #[test]
    fn plans() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let map = json!({"metadata": {"name": "m"}});
        assert!(matches!(
            plan(kind("configmaps"), &map, &options(None, None), now),
            Plan::Remove(_)
        ));
        let Plan::Mark(new) = plan(
            kind("configmaps"),
            &map,
            &options(Some(Propagation::Foreground), None),
            now,
        ) else {
            panic!()
        };
        assert_eq!(new["metadata"]["finalizers"], json!([FOREGROUND]));
        assert_eq!(new["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
        // Deleting it again without a policy keeps waiting; with Background it goes.
        assert_eq!(plan(kind("configmaps"), &new, &options(None, None), now), Plan::Pending);
        assert!(matches!(
            plan(
                kind("configmaps"),
                &new,
                &options(Some(Propagation::Background), None),
                now
            ),
            Plan::Remove(_)
        ));
        let namespace =
            json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let Plan::Mark(new) = plan(kind("namespaces"), &namespace, &options(None, None), now) else {
            panic!()
        };
        assert_eq!(new["status"]["phase"], "Terminating");
        assert_eq!(plan(kind("namespaces"), &new, &options(None, None), now), Plan::Pending);
    }

    #[test]
    fn bound_pods_wait_for_their_agent() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let pod = json!({"metadata": {"name": "p", "generation": 1}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
        let Plan::Mark(marked) = plan(kind("pods"), &pod, &options(None, None), now) else {
            panic!()
        };
        assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        assert_eq!(marked["metadata"]["generation"], 2);
        assert_eq!(
            plan(kind("pods"), &marked, &options(None, Some(40)), now),
            Plan::Pending
        );
        let Plan::Mark(sooner) = plan(kind("pods"), &marked, &options(None, Some(5)), now) else {
            panic!()
        };
        assert_eq!(sooner["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
        assert!(matches!(
            plan(kind("pods"), &marked, &options(None, Some(0)), now),
            Plan::Remove(_)
        ));
        let unbound = json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 30}, "status": {"phase": "Pending"}});
        assert!(matches!(
            plan(kind("pods"), &unbound, &options(None, None), now),
            Plan::Remove(_)
        ));
    }
}
