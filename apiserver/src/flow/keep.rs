//! Follows the FlowSchemas and PriorityLevelConfigurations: puts each change in force
//! at once, sets the mandatory ones right, and says which schemas lead nowhere.

use super::bootstrap;
use crate::registry::{built_in, prefix_of, text_at};
use crate::respond;
use crate::server::ApiServer;
use futures::future::select;
use serde_json::{Value, json};
use skiff_access::Objects;
use skiff_api::ApiError;
use skiff_kinds::Kind;
use skiff_store::{Revision, Watch};
use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const PLURALS: [&str; 2] = ["prioritylevelconfigurations", "flowschemas"];
/// After the store failed.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl ApiServer {
    /// Writes what every cluster has and puts it in force, then follows the objects.
    pub(crate) async fn start_flow(self: &Arc<Self>) -> Result<(), ApiError> {
        self.keep_flow(true).await?;
        let revision = self.keep_flow(false).await?;
        tokio::spawn(follow(Arc::downgrade(self), revision));
        Ok(())
    }

    /// One pass; answers the revision that was read.
    async fn keep_flow(&self, starting: bool) -> Result<Revision, ApiError> {
        let snapshot = self.store.snapshot();
        let revision = snapshot.revision();
        let objects = self.objects(snapshot);
        let mut all = Vec::new();
        for plural in PLURALS {
            all.extend(objects.list(GROUP, plural, ""));
        }
        let steps = bootstrap::plan(&all, starting);
        let mut created = Vec::new();
        for object in steps {
            let kind = kind_of(&object)?;
            if text_at(&object, &["metadata", "uid"]).is_empty() {
                created.push((kind, fresh(object)));
                continue;
            }
            let name = text_at(&object, &["metadata", "name"]).to_string();
            self.rewrite_kept(kind, "", &name, |found| {
                let mut changed = found.clone();
                changed["spec"] = object["spec"].clone();
                changed["metadata"]["annotations"] = object["metadata"]["annotations"].clone();
                if changed == *found {
                    return None;
                }
                if changed["spec"] != found["spec"] {
                    let generation = found["metadata"]["generation"].as_i64().unwrap_or(0);
                    changed["metadata"]["generation"] = (generation + 1).into();
                }
                Some(changed)
            })
            .await?;
        }
        self.create_kept(created).await?;
        if !starting {
            self.flow.configure(all.iter().map(|object| &**object));
            self.write_dangling(&all).await?;
        }
        Ok(revision)
    }

    async fn write_dangling(&self, all: &[Arc<Value>]) -> Result<(), ApiError> {
        let of_kind = |kind: &'static str| all.iter().filter(move |o| o["kind"] == kind);
        let levels: HashSet<&str> = of_kind("PriorityLevelConfiguration")
            .map(|o| text_at(o, &["metadata", "name"]))
            .collect();
        let now = respond::now_text();
        for schema in of_kind("FlowSchema") {
            let level = text_at(schema, &["spec", "priorityLevelConfiguration", "name"]);
            let there = levels.contains(level);
            if with_condition(schema, there, &now).is_none() {
                continue;
            }
            let name = text_at(schema, &["metadata", "name"]);
            self.rewrite_kept(kind_of(schema)?, "", name, |found| with_condition(found, there, &now))
                .await?;
        }
        Ok(())
    }
}

fn kind_of(object: &Value) -> Result<&'static Kind, ApiError> {
    let plural = if object["kind"] == "FlowSchema" {
        PLURALS[1]
    } else {
        PLURALS[0]
    };
    built_in(GROUP, plural)
}

/// As it is written first. What exists from the start leads somewhere.
fn fresh(mut object: Value) -> Value {
    object["metadata"]["generation"] = 1.into();
    object["status"] = json!({});
    if object["kind"] == "FlowSchema"
        && let Some(with) = with_condition(&object, true, &respond::now_text())
    {
        object = with;
    }
    object
}

/// The schema with its Dangling condition; `None`: it says so already.
fn with_condition(schema: &Value, there: bool, now: &str) -> Option<Value> {
    let level = text_at(schema, &["spec", "priorityLevelConfiguration", "name"]);
    let (status, reason, end) = if there {
        ("False", "Found", "and it exists")
    } else {
        ("True", "NotFound", "but there is no such object")
    };
    let message = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}");
    let mut conditions = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let at = conditions.iter().position(|c| c["type"] == "Dangling");
    let old = at.map_or(&Value::Null, |at| &conditions[at]);
    if (
        text_at(old, &["status"]),
        text_at(old, &["reason"]),
        text_at(old, &["message"]),
    ) == (status, reason, &message)
    {
        return None;
    }
    let since = match text_at(old, &["lastTransitionTime"]) {
        since if !since.is_empty() && text_at(old, &["status"]) == status => since,
        _ => now,
    };
    let condition = json!({"type": "Dangling", "status": status, "lastTransitionTime": since, "reason": reason, "message": message});
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    let mut changed = schema.clone();
    changed["status"]["conditions"] = conditions.into();
    Some(changed)
}

async fn follow(weak: Weak<ApiServer>, mut seen: Revision) {
    loop {
        let Some(server) = Weak::upgrade(&weak) else { return };
        let closing = server.closing.clone();
        let watches: Vec<_> = PLURALS
            .iter()
            .filter_map(|plural| {
                server
                    .store
                    .watch(prefix_of(built_in(GROUP, plural).ok()?, ""), seen)
                    .ok()
            })
            .collect();
        drop(server);
        let waits = watches.into_iter().map(|watch| Box::pin(change(watch)));
        let Ok([levels, schemas]) = <[_; 2]>::try_from(waits.collect::<Vec<_>>()) else {
            // What was seen has been compacted, or the store is closing.
            tokio::time::sleep(STORE_RETRY).await;
            let Some(server) = Weak::upgrade(&weak) else { return };
            seen = server.store.snapshot().revision();
            continue;
        };
        tokio::select! {
            () = closing.cancelled() => return,
            _ = select(levels, schemas) => {}
        }
        let Some(server) = Weak::upgrade(&weak) else { return };
        match server.keep_flow(false).await {
            Ok(revision) => seen = revision,
            Err(error) => {
                tracing::warn!(%error, "flow schemas could not be looked after; trying again");
                tokio::time::sleep(STORE_RETRY).await;
            }
        }
    }
}

/// Until something changes.
async fn change(mut watch: Box<dyn Watch>) {
    while let Some(batch) = watch.next().await {
        if !batch.events.is_empty() {
            return;
        }
    }
}
