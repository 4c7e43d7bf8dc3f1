//! Empties namespaces that are being deleted, then lets them go. Pods leave first, because what they use
//! (network policies, secrets) must outlive them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::discovery::{Kind, discover};
use crate::key::{Key, name, time};
use crate::queue::Queue;
use crate::worker::work;

const WORKERS: usize = 10;
const FINALIZER: &str = "kubernetes";
/// Kinds emptied at a time within one namespace.
const PARALLEL: usize = 8;
/// Wait before looking again at content that needs time to go.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("namespace"));
    let shared = context.shared.clone();
    shared.namespaces.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(namespace) = change
                .new
                .filter(|namespace| namespace.metadata.deletion_timestamp.is_some())
            {
                queue.add(Key::of(&namespace.metadata));
            }
        }
    });
    // The last pod of a namespace on its way out need not be waited for by timer.
    shared.pods.on_change({
        let (queue, shared) = (queue.clone(), shared.clone());
        move |change| {
            let (Some(pod), None) = (change.old, change.new) else {
                return;
            };
            let key = Key::new("", pod.metadata.namespace.as_deref().unwrap_or(""));
            let going = shared
                .namespaces
                .get(&key)
                .is_some_and(|found| found.metadata.deletion_timestamp.is_some());
            if going && shared.pods.in_namespace(&key.name).is_empty() {
                queue.add(key);
            }
        }
    });
    tasks.spawn(async move {
        shared.namespaces.synced().await;
        let reconcile = |key| {
            let (context, queue) = (context.clone(), queue.clone());
            async move { Box::pin(reconcile(&context, &queue, key)).await }
        };
        work(
            context.name,
            queue.clone(),
            WORKERS,
            context.shutdown.clone(),
            reconcile,
        )
        .await;
    });
}

/// What one pass over the content found.
#[derive(Debug, Default)]
struct Emptied {
    discovery_failed: Vec<String>,
    deletion_failed: Vec<String>,
    /// Objects left by kind.
    remaining: BTreeMap<String, usize>,
    /// Objects left by finalizer.
    finalizers: BTreeMap<String, usize>,
}

async fn reconcile(context: &Context, queue: &Queue<Key>, key: Key) -> Result<(), Error> {
    let api: Api<Namespace> = Api::all(context.client.clone());
    let Some(namespace) = context.shared.namespaces.get(&key) else {
        return Ok(());
    };
    if namespace.metadata.deletion_timestamp.is_none() {
        return Ok(());
    }
    let ours = |namespace: &Namespace| {
        namespace
            .spec
            .iter()
            .flat_map(|spec| spec.finalizers.iter().flatten())
            .any(|known| known == FINALIZER)
    };
    if !ours(&namespace) {
        return Ok(());
    }
    let emptied = empty(&context.client, &key.name).await?;
    let mut latest = match api.get_opt(&key.name).await.doing(|| format!("read namespace {key}"))? {
        Some(latest) if latest.metadata.uid == namespace.metadata.uid => latest,
        _ => return Ok(()),
    };
    let old = latest
        .status
        .clone()
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let wanted = conditions(&old, &emptied, Timestamp::now());
    if wanted != old {
        let status = latest.status.get_or_insert_default();
        status.conditions = Some(wanted);
        status.phase = Some("Terminating".to_string());
        let written = api.replace_status(&key.name, &PostParams::default(), &latest).await;
        match written.doing(|| format!("write the status of namespace {key}")) {
            Ok(written) => latest = written,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    if !emptied.discovery_failed.is_empty() || !emptied.deletion_failed.is_empty() {
        return Err(Error::Again(format!(
            "content of namespace {key}: {}",
            [emptied.discovery_failed, emptied.deletion_failed].concat().join("; ")
        )));
    }
    if !emptied.remaining.is_empty() {
        queue.add_after(key, LOOK_AGAIN);
        return Ok(());
    }
    if let Some(spec) = &mut latest.spec {
        spec.finalizers = spec.finalizers.take().map(|mut list| {
            list.retain(|known| known != FINALIZER);
            list
        });
    }
    finalize(&api, &latest).await
}

async fn finalize(api: &Api<Namespace>, namespace: &Namespace) -> Result<(), Error> {
    let own_name = name(&namespace.metadata);
    let written = api
        .replace_subresource("finalize", own_name, &PostParams::default(), namespace)
        .await;
    gone_is_fine(written.doing(|| format!("finalize namespace {own_name}")))
}

async fn empty(client: &Client, namespace: &str) -> Result<Emptied, Error> {
    let found = discover(client).await?;
    let mut emptied = Emptied {
        discovery_failed: found.failed,
        ..Default::default()
    };
    let (pods, others): (Vec<Kind>, Vec<Kind>) = found
        .kinds
        .into_iter()
        .filter(|kind| kind.namespaced && kind.can("list") && kind.can("delete"))
        // Events are kept under two groups; once is enough.
        .filter(|kind| !(kind.resource.group == "events.k8s.io" && kind.resource.plural == "events"))
        .partition(|kind| kind.resource.group.is_empty() && kind.resource.plural == "pods");
    for stage in [pods, others] {
        let results: Vec<_> = futures::stream::iter(stage)
            .map(|kind| async move {
                let result = empty_kind(client, namespace, &kind).await;
                (kind, result)
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        for (kind, result) in results {
            match result {
                Ok((0, _)) => {}
                Ok((left, finalizers)) => {
                    emptied.remaining.insert(kind.display(), left);
                    for (finalizer, count) in finalizers {
                        *emptied.finalizers.entry(finalizer).or_insert(0) += count;
                    }
                }
                Err(error) => emptied.deletion_failed.push(error.message()),
            }
        }
        emptied.deletion_failed.sort();
        if !emptied.remaining.is_empty() || !emptied.deletion_failed.is_empty() {
            break;
        }
    }
    Ok(emptied)
}

/// Deletes all objects of a kind; returns how many are still there and which finalizers hold them.
async fn empty_kind(client: &Client, namespace: &str, kind: &Kind) -> Result<(usize, BTreeMap<String, usize>), Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind.resource);
    let list = || async {
        match api
            .list_metadata(&ListParams::default())
            .await
            .doing(|| format!("list {}", kind.display()))
        {
            Ok(list) => Ok(list.items),
            // The kind went away meanwhile.
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    };
    let before = list().await?;
    if before.is_empty() {
        return Ok((0, BTreeMap::new()));
    }
    if before.iter().any(|object| object.metadata.deletion_timestamp.is_none()) {
        if kind.can("deletecollection") {
            let deleted = api
                .delete_collection(&DeleteParams::background(), &ListParams::default())
                .await;
            gone_is_fine(deleted.doing(|| format!("delete all {}", kind.display())))?;
        } else {
            for object in &before {
                let deleted = api.delete(name(&object.metadata), &DeleteParams::background()).await;
                gone_is_fine(deleted.doing(|| format!("delete {} {}", kind.display(), name(&object.metadata))))?;
            }
        }
    }
    let after = list().await?;
    let mut finalizers = BTreeMap::new();
    for finalizer in after
        .iter()
        .flat_map(|object| object.metadata.finalizers.iter().flatten())
    {
        *finalizers.entry(finalizer.clone()).or_insert(0) += 1;
    }
    Ok((after.len(), finalizers))
}

/// The five conditions that explain a namespace on its way out. Pure.
fn conditions(old: &[NamespaceCondition], emptied: &Emptied, now: Timestamp) -> Vec<NamespaceCondition> {
    let counted = |counts: &BTreeMap<String, usize>, what: &str| {
        let parts: Vec<String> = counts
            .iter()
            .map(|(name, count)| format!("{name} {what} {count} resource instances"))
            .collect();
        parts.join(", ")
    };
    let failed = |errors: &[String], reason: &str, tell: fn(usize, &str) -> String, fine: (&str, &str)| {
        if errors.is_empty() {
            ("False", fine.0.to_string(), fine.1.to_string())
        } else {
            ("True", reason.to_string(), tell(errors.len(), &errors.join(", ")))
        }
    };
    let judged = [
        (
            "NamespaceDeletionDiscoveryFailure",
            failed(
                &emptied.discovery_failed,
                "DiscoveryFailed",
                |count, list| {
                    format!(
                        "Discovery failed for some groups, {count} failing: unable to retrieve the complete list of \
                         server APIs: {list}"
                    )
                },
                ("ResourcesDiscovered", "All resources successfully discovered"),
            ),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            (
                "False",
                "ParsedGroupVersions".to_string(),
                "All legacy kube types successfully parsed".to_string(),
            ),
        ),
        (
            "NamespaceDeletionContentFailure",
            failed(
                &emptied.deletion_failed,
                "ContentDeletionFailed",
                |count, list| format!("Failed to delete all resource types, {count} remaining: {list}"),
                (
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                ),
            ),
        ),
        (
            "NamespaceContentRemaining",
            if emptied.remaining.is_empty() {
                (
                    "False",
                    "ContentRemoved".to_string(),
                    "All content successfully removed".to_string(),
                )
            } else {
                let list = counted(&emptied.remaining, "has");
                (
                    "True",
                    "SomeResourcesRemain".to_string(),
                    format!("Some resources are remaining: {list}"),
                )
            },
        ),
        (
            "NamespaceFinalizersRemaining",
            if emptied.finalizers.is_empty() {
                (
                    "False",
                    "ContentHasNoFinalizers".to_string(),
                    "All content-preserving finalizers finished".to_string(),
                )
            } else {
                let list = counted(&emptied.finalizers, "in");
                let message = format!("Some content in the namespace has finalizers remaining: {list}");
                ("True", "SomeFinalizersRemain".to_string(), message)
            },
        ),
    ];
    let mut result = old.to_vec();
    for (kind, (status, reason, message)) in judged {
        let wanted = NamespaceCondition {
            type_: kind.to_string(),
            status: status.to_string(),
            reason: Some(reason),
            message: Some(message),
            last_transition_time: Some(time(now)),
        };
        match result.iter_mut().find(|known| known.type_ == kind) {
            Some(known) if known.status == wanted.status && known.message == wanted.message => {}
            Some(known) => *known = wanted,
            None => result.push(wanted),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::at;

    #[test]
    fn conditions_name_what_remains_and_settle() {
        let mut emptied = Emptied::default();
        emptied.remaining.insert("pods.".to_string(), 2);
        emptied.finalizers.insert("example.com/hold".to_string(), 1);
        let first = conditions(&[], &emptied, at(1));
        assert_eq!(first.len(), 5);
        let message = first[3].message.as_deref().unwrap_or("");
        assert_eq!(message, "Some resources are remaining: pods. has 2 resource instances");
        assert_eq!(conditions(&first, &emptied, at(9)), first, "time alone changes nothing");
        assert_eq!(conditions(&first, &Emptied::default(), at(9))[3].status, "False");
        emptied.deletion_failed = vec!["a".to_string(), "b".to_string()];
        assert_eq!(
            conditions(&first, &emptied, at(9))[2].message.as_deref(),
            Some("Failed to delete all resource types, 2 remaining: a, b")
        );
    }
}
