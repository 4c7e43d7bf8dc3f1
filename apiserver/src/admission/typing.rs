//! Keeps the status of validating policies: what checking their expressions
//! against the types they are about has found. Wakes when a policy is written.

use super::hooks::GROUP;
use crate::handler::Change;
use crate::registry::{Catalog, built_in, decode, prefix_of, split_key};
use crate::server::ApiServer;
use serde_json::{Value, json};
use skiff_admission::{Checked, type_warnings, types_to_check};
use skiff_api::ApiError;
use skiff_api::schema::split_api_version;
use skiff_cel::DeclType;
use skiff_kinds::Kind;
use skiff_store::Entry;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a watch that ended is left alone: the store that ended it is busy.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

impl ApiServer {
    /// Runs for as long as the server does; sleeps while no policy is written.
    pub(crate) fn start_checking_policies(self: &Arc<Self>) {
        let Ok(kind) = built_in(GROUP, "validatingadmissionpolicies") else {
            return;
        };
        let (server, closing) = (Arc::downgrade(self), self.closing.clone());
        tokio::spawn(async move {
            loop {
                let Some(this) = server.upgrade() else { return };
                let snapshot = this.store.snapshot();
                let prefix = prefix_of(kind, "");
                for entry in snapshot.range(&prefix, None, 0).entries {
                    this.check_policy(kind, &entry).await;
                }
                let changes = this.store.watch(prefix, snapshot.revision());
                drop((this, snapshot));
                if let Ok(mut changes) = changes {
                    loop {
                        let batch = tokio::select! {
                            () = closing.cancelled() => return,
                            batch = changes.next() => batch,
                        };
                        let (Some(batch), Some(this)) = (batch, server.upgrade()) else {
                            break;
                        };
                        for entry in batch.events.iter().filter_map(|event| event.entry.as_ref()) {
                            this.check_policy(kind, entry).await;
                        }
                    }
                }
                if !waited(&closing).await {
                    return;
                }
            }
        });
    }

    /// Of several servers, whoever is later finds it done.
    async fn check_policy(&self, kind: &Kind, entry: &Entry) {
        let Ok(policy) = decode(entry, entry.mod_revision()) else {
            return;
        };
        if seen(&policy) {
            return;
        }
        let (_, name) = split_key(kind, entry.key());
        let written = self.modify(kind, "", name, false, |policy, objects| {
            if seen(policy) {
                return Ok(Change::Keep);
            }
            let mut new = policy.clone();
            let warnings = warnings_of(policy, &objects.catalog);
            if !new["status"].is_object() {
                new["status"] = json!({});
            }
            new["status"]["observedGeneration"] = policy["metadata"]["generation"].clone();
            new["status"]["typeChecking"] = if warnings.is_empty() {
                json!({})
            } else {
                json!({"expressionWarnings": warnings})
            };
            Ok(Change::Write(new))
        });
        match written.await {
            Ok(_) => {}
            Err(ApiError { code: 404, .. }) => {}
            Err(error) => {
                tracing::warn!(policy = name, %error, "the check of a policy's types could not be written; it is when the policy is next written");
            }
        }
    }
}

async fn waited(closing: &CancellationToken) -> bool {
    tokio::select! {
        () = closing.cancelled() => false,
        () = tokio::time::sleep(AGAIN_AFTER) => true,
    }
}

fn seen(policy: &Value) -> bool {
    policy["status"]["observedGeneration"] == policy["metadata"]["generation"]
}

fn warnings_of(policy: &Value, catalog: &Catalog) -> Vec<Value> {
    let mut types: Vec<Checked> = types_to_check(policy)
        .iter()
        .filter_map(|(group, version, resource)| {
            let kind = catalog.resource(group, resource)?;
            Some(Checked {
                // As Go writes a kind: the core group leaves its slash behind.
                name: format!("{group}/{version}, Kind={}", kind.kind),
                decl: decl_of(kind, version)?,
            })
        })
        .collect();
    types.sort_by(|a, b| a.name.cmp(&b.name));
    let named = &policy["spec"]["paramKind"];
    let (group, version) = split_api_version(named["apiVersion"].as_str().unwrap_or(""));
    let mut kinds = catalog.kinds().iter();
    let params = kinds
        .find(|kind| kind.group == group && named["kind"] == kind.kind)
        .and_then(|kind| decl_of(kind, version));
    type_warnings(policy, &types, params.as_ref())
}

/// The type of a kind's objects as expressions see it.
fn decl_of(kind: &Kind, version: &str) -> Option<DeclType> {
    if !kind.versions.contains(&version) {
        return None;
    }
    match &kind.custom {
        Some(custom) => DeclType::from_openapi(&custom.openapi_schema(version)?, kind.kind, true),
        None => DeclType::of_builtin(kind.group, version, kind.kind),
    }
}
