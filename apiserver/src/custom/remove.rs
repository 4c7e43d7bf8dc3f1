//! The end of a kind: its objects are deleted first, then the definition may go. The
//! finalizer `customresourcecleanup.apiextensions.k8s.io` holds it until then.

use crate::handler::{Change, DeleteOptions};
use crate::registry::{finalizers, finished, prefix_of, split_key};
use crate::respond;
use crate::server::ApiServer;
use serde_json::Value;
use skiff_api::ApiError;
use skiff_custom::definition::{self, Condition};
use skiff_kinds::Kind;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Objects that are held by finalizers are looked at again when one changes, and after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Begins to delete the objects of a kind.
pub(super) fn start(server: &Arc<ApiServer>, table: &'static Kind, kind: Arc<Kind>, name: String) {
    tokio::spawn(run(Arc::downgrade(server), table, kind, name));
}

async fn run(weak: Weak<ApiServer>, table: &'static Kind, kind: Arc<Kind>, name: String) {
    let mut told = false;
    loop {
        let Some(server) = Weak::upgrade(&weak) else { return };
        let outcome = pass(&server, table, &kind, &name, &mut told).await;
        let closing = server.closing.clone();
        let watch = match outcome {
            Ok(None) => return,
            Ok(Some(after)) => server.store.watch(prefix_of(&kind, ""), after).ok(),
            Err(error) => {
                tracing::warn!(%error, name, "objects of a definition that is deleted could not be removed; trying again");
                None
            }
        };
        drop(server);
        let change = async {
            match watch {
                Some(mut watch) => drop(watch.next().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = closing.cancelled() => return,
            () = change => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Deletes what is left; `None` when all is done, else the revision that was looked at.
async fn pass(
    server: &Arc<ApiServer>,
    table: &'static Kind,
    kind: &Arc<Kind>,
    name: &str,
    told: &mut bool,
) -> Result<Option<u64>, ApiError> {
    let snapshot = server
        .store
        .snapshot_linearizable()
        .await
        .map_err(respond::store_error)?;
    let entries = snapshot.range(&prefix_of(kind, ""), None, 0).entries;
    if entries.is_empty() {
        finish(server, table, name).await?;
        return Ok(None);
    }
    if !std::mem::replace(told, true) {
        let message = "CustomResource deletion is in progress";
        tell(
            server,
            table,
            name,
            &Condition::new("Terminating", true, "InstanceDeletionInProgress", message),
        )
        .await?;
    }
    for entry in entries {
        let (namespace, object) = split_key(kind, entry.key());
        let deleted = server
            .delete_kept(kind, namespace, object, &DeleteOptions::default())
            .await;
        match deleted {
            Err(error) if error.code != 404 => return Err(error),
            _ => {}
        }
    }
    Ok(Some(snapshot.revision()))
}

async fn tell(server: &ApiServer, table: &'static Kind, name: &str, condition: &Condition) -> Result<(), ApiError> {
    let now = respond::now_text();
    server
        .rewrite_kept(table, "", name, |stored| {
            let mut changed = stored.clone();
            let deleting = stored["metadata"]["deletionTimestamp"].is_string();
            (deleting && definition::set_condition(&mut changed, condition, &now)).then_some(changed)
        })
        .await
}

/// Lets the definition go.
pub(super) async fn finish(server: &ApiServer, table: &'static Kind, name: &str) -> Result<(), ApiError> {
    let done = Condition::new(
        "Terminating",
        false,
        "InstanceDeletionCompleted",
        "removed all instances",
    );
    tell(server, table, name, &done).await?;
    let mut writing = server.modification(table, "", name, false);
    loop {
        let (old, _) = match writing.read().await {
            Err(error) if error.code == 404 => return Ok(()),
            other => other?,
        };
        let left: Vec<&str> = finalizers(&old).into_iter().filter(|f| *f != FINALIZER).collect();
        if left.len() == finalizers(&old).len() {
            return Ok(());
        }
        let mut new = Value::clone(&old);
        new["metadata"]["finalizers"] = left.into();
        let change = if finished(table, &new) {
            Change::Remove(new, Vec::new(), Vec::new())
        } else {
            Change::Write(new)
        };
        if writing.write(change).await?.is_some() {
            return Ok(());
        }
    }
}

/// What the first deletion of a definition makes of it.
pub(crate) fn mark(definition: &mut Value, now: &str) {
    let finalizers = &mut definition["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|f| f == FINALIZER) => {}
        Some(list) => list.push(FINALIZER.into()),
        None => *finalizers = serde_json::json!([FINALIZER]),
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    let pending = Condition::new("Terminating", true, "InstanceDeletionPending", message);
    definition::set_condition(definition, &pending, now);
}
