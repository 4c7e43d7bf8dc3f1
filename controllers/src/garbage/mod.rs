//! The garbage collector: deletes objects whose owners are gone, and carries out foreground and orphaning
//! deletion. Watches the metadata of every kind that can be deleted.
//!
//! Nothing is deleted before every watch has its first full list, and never without asking the server for
//! the owner and the object by uid.

mod absent;
mod graph;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::discovery::{Kind, discover};
use crate::key::uid;
use crate::queue::Queue;
use crate::worker::work;

use absent::Absent;
use graph::{FOREGROUND, Going, Graph, KindNumber, Node, ORPHAN, Owner, Uid, Verdict, judge};

const WORKERS: usize = 20;
/// Dependents of one owner that are made to forget it at a time.
const DETACHED_AT_ONCE: usize = 20;
/// Kinds may come and go unannounced (API services); this only catches what no event told.
const REDISCOVER: Duration = Duration::from_secs(600);
/// Several CRDs often arrive together.
const SETTLE: Duration = Duration::from_millis(300);

struct Collector {
    context: Context,
    graph: Mutex<Graph>,
    queue: Arc<Queue<Uid>>,
    kinds: RwLock<Vec<Kind>>,
    /// Numbers of kinds whose watch has its first list.
    synced: watch::Sender<BTreeSet<KindNumber>>,
    rediscover: Notify,
    absent: Absent,
}

pub fn start(context: Context, informer: Client, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::new("garbage_collector_attempt_to_delete"));
    let collector = Arc::new(Collector {
        context: context.clone(),
        graph: Mutex::default(),
        queue: queue.clone(),
        kinds: RwLock::default(),
        synced: watch::Sender::new(BTreeSet::new()),
        rediscover: Notify::new(),
        absent: Absent::default(),
    });
    let (first, ready) = tokio::sync::oneshot::channel();
    tasks.spawn(collector.clone().watch_kinds(informer, first));
    tasks.spawn(async move {
        let Ok(expected) = ready.await else { return };
        let mut synced = collector.synced.subscribe();
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            _ = synced.wait_for(|synced| (0..expected).all(|kind| synced.contains(&kind))) => {}
        }
        drop(synced);
        let reconcile = |uid| {
            let collector = collector.clone();
            async move { collector.look(uid).await }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

/// Kinds whose objects come and go too fast to own anything.
fn is_ignored(kind: &Kind) -> bool {
    kind.resource.plural == "events" && matches!(kind.resource.group.as_str(), "" | "events.k8s.io")
}

/// Kinds that change which kinds there are.
fn defines_kinds(kind: &Kind) -> bool {
    matches!(
        (kind.resource.group.as_str(), kind.resource.plural.as_str()),
        ("apiextensions.k8s.io", "customresourcedefinitions") | ("apiregistration.k8s.io", "apiservices")
    )
}

impl Collector {
    fn graph(&self) -> std::sync::MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn kind(&self, number: KindNumber) -> Option<Kind> {
        let kinds = self.kinds.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        kinds.get(usize::try_from(number).ok()?).cloned()
    }

    /// Keeps one watch per kind, and tells `first` how many there are at the start.
    async fn watch_kinds(self: Arc<Self>, informer: Client, first: tokio::sync::oneshot::Sender<KindNumber>) {
        let mut first = Some(first);
        let mut running: HashMap<(String, String), (KindNumber, Kind, CancellationToken)> = HashMap::new();
        let mut watches = JoinSet::new();
        let shutdown = self.context.shutdown.clone();
        let mut wait = Duration::from_millis(50);
        loop {
            match discover(&self.context.client).await {
                Ok(found) => {
                    let watchable =
                        |kind: &Kind| kind.can("delete") && kind.can("list") && kind.can("watch") && !is_ignored(kind);
                    let found_all = found.failed.is_empty();
                    let kinds: HashMap<(String, String), Kind> = found
                        .kinds
                        .into_iter()
                        .filter(watchable)
                        .map(|kind| ((kind.resource.group.clone(), kind.resource.plural.clone()), kind))
                        .collect();
                    running.retain(|identity, (number, known, cancel)| {
                        let stays = kinds.get(identity) == Some(known) || !kinds.contains_key(identity) && !found_all;
                        if !stays {
                            cancel.cancel();
                            self.forget_kind(*number);
                        }
                        stays
                    });
                    for (identity, kind) in kinds {
                        if running.contains_key(&identity) {
                            continue;
                        }
                        let cancel = shutdown.child_token();
                        let number = self.add_kind(kind.clone());
                        watches.spawn(
                            self.clone()
                                .watch(informer.clone(), number, kind.clone(), cancel.clone()),
                        );
                        running.insert(identity, (number, kind, cancel));
                    }
                    if let Some(first) = first.take() {
                        let count = self.kinds.read().unwrap_or_else(|poisoned| poisoned.into_inner()).len();
                        let _ = first.send(KindNumber::try_from(count).unwrap_or(KindNumber::MAX));
                    }
                    wait = REDISCOVER;
                }
                Err(error) => {
                    tracing::debug!(%error, "discovery failed, trying again");
                    wait = if first.is_some() {
                        (wait * 2).min(Duration::from_secs(5))
                    } else {
                        REDISCOVER
                    };
                }
            }
            while watches.try_join_next().is_some() {}
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.rediscover.notified() => tokio::time::sleep(SETTLE).await,
            }
        }
    }

    fn add_kind(&self, kind: Kind) -> KindNumber {
        let mut kinds = self.kinds.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        kinds.push(kind);
        KindNumber::try_from(kinds.len() - 1).unwrap_or(KindNumber::MAX)
    }

    fn forget_kind(&self, number: KindNumber) {
        self.replace(number, &BTreeSet::new());
        self.synced.send_modify(|synced| {
            synced.insert(number);
        });
    }

    fn enqueue(&self, uids: Vec<Uid>) {
        for uid in uids {
            self.queue.add(uid);
        }
    }

    fn replace(&self, number: KindNumber, listed: &BTreeSet<Uid>) {
        let missing = self.graph().missing(number, listed);
        for gone in missing {
            let look = self.graph().remove(gone);
            self.enqueue(look);
        }
    }

    async fn watch(self: Arc<Self>, informer: Client, number: KindNumber, kind: Kind, cancel: CancellationToken) {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(informer, &kind.resource);
        let stream = watcher(api, watcher::Config::default()).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut listed = BTreeSet::new();
        let mut first_list = true;
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => return,
                event = stream.try_next() => event,
            };
            match event {
                Ok(Some(watcher::Event::Init)) => listed.clear(),
                Ok(Some(watcher::Event::InitApply(object))) => {
                    listed.insert(Uid::new(uid(&object.metadata)));
                    let look = self.graph().put(number, &object.metadata);
                    self.enqueue(look);
                }
                Ok(Some(watcher::Event::InitDone)) => {
                    self.replace(number, &std::mem::take(&mut listed));
                    if std::mem::take(&mut first_list) {
                        self.synced.send_modify(|synced| {
                            synced.insert(number);
                        });
                    }
                }
                Ok(Some(watcher::Event::Apply(object))) => {
                    let look = self.graph().put(number, &object.metadata);
                    self.enqueue(look);
                    if defines_kinds(&kind) {
                        self.rediscover.notify_one();
                    }
                }
                Ok(Some(watcher::Event::Delete(object))) => {
                    let look = self.graph().remove(Uid::new(uid(&object.metadata)));
                    self.enqueue(look);
                    if defines_kinds(&kind) {
                        self.rediscover.notify_one();
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(kind = kind.display(), %error, "metadata watch interrupted, retrying");
                }
            }
        }
    }

    fn api(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        if kind.namespaced {
            Api::namespaced_with(self.context.client.clone(), namespace, &kind.resource)
        } else {
            Api::all_with(self.context.client.clone(), &kind.resource)
        }
    }

    async fn look(&self, uid: Uid) -> Result<(), Error> {
        let node = self.graph().node(uid).cloned();
        let Some(node) = node else { return Ok(()) };
        match node.going {
            Going::Plainly => Ok(()),
            Going::Orphaning => self.orphan(uid, &node).await,
            Going::Foreground => self.foreground(uid, &node).await,
            Going::No => self.collect(uid, &node).await,
        }
    }

    /// Dependents forget the owner, then the owner may go.
    async fn orphan(&self, uid: Uid, node: &Node) -> Result<(), Error> {
        let dependents = self.graph().dependents(uid);
        let owner = &[node.uid.to_string()];
        let detached = dependents
            .iter()
            .map(|(_, dependent)| self.detach(dependent, owner))
            .collect::<Vec<_>>();
        let detached: Vec<Result<(), Error>> = futures::stream::iter(detached)
            .buffer_unordered(DETACHED_AT_ONCE)
            .collect()
            .await;
        detached.into_iter().collect::<Result<(), Error>>()?;
        self.drop_finalizer(node, ORPHAN).await
    }

    async fn foreground(&self, uid: Uid, node: &Node) -> Result<(), Error> {
        let (blocking, dependents) = {
            let graph = self.graph();
            (graph.blocking(uid), graph.dependents(uid))
        };
        if blocking.is_empty() {
            return self.drop_finalizer(node, FOREGROUND).await;
        }
        for (dependent, found) in dependents {
            if found.going == Going::No {
                self.queue.add(dependent);
            }
        }
        Ok(())
    }

    async fn collect(&self, uid: Uid, node: &Node) -> Result<(), Error> {
        if node.owners.is_empty() {
            return Ok(());
        }
        let mut owners = Vec::new();
        for owner in &node.owners {
            owners.push((owner.clone(), self.owner_state(node, owner).await?));
        }
        let has_dependents = !self.graph().dependents(uid).is_empty();
        match judge(&owners, has_dependents) {
            Verdict::Keep => Ok(()),
            Verdict::Detach(lost) => self.detach(node, &lost).await,
            Verdict::Delete { foreground } => {
                if foreground && self.graph().may_circle(uid) {
                    self.unblock(node).await?;
                }
                self.delete(node, foreground).await
            }
        }
    }

    async fn owner_state(&self, node: &Node, owner: &OwnerReference) -> Result<Owner, Error> {
        let (known, waits, elsewhere) = {
            let graph = self.graph();
            (
                graph.owner_kind(owner, &node.namespace),
                graph.is_foreground(Uid::new(&owner.uid)),
                graph.is_elsewhere(owner, &node.namespace),
            )
        };
        if let Some(kind) = known.and_then(|number| self.kind(number))
            && kind.is_meant_by(owner)
        {
            return Ok(if waits { Owner::Waiting } else { Owner::There });
        }
        if elsewhere {
            self.warn(node, owner);
        }
        let Some(kind) = self.kind_of(owner) else {
            // Not knowing the kind is no proof that the owner is gone.
            self.rediscover.notify_one();
            return Err(Error::Again(format!(
                "owner kind {} {} is not known",
                owner.api_version, owner.kind
            )));
        };
        if kind.namespaced && node.namespace.is_empty() {
            // A cluster-scoped object cannot have an owner within a namespace: nobody can tell which is meant.
            return Ok(Owner::There);
        }
        if self.absent.has(&kind, &node.namespace, owner) {
            return Ok(Owner::Gone);
        }
        let api = self.api(&kind, &node.namespace);
        let live = api.get_metadata_opt(&owner.name).await;
        let live = live.doing(|| format!("look for owner {} {}", owner.kind, owner.name))?;
        Ok(match live {
            Some(live) if live.metadata.uid.as_deref() == Some(&owner.uid) => {
                let waits = live.metadata.deletion_timestamp.is_some()
                    && live
                        .metadata
                        .finalizers
                        .iter()
                        .flatten()
                        .any(|finalizer| finalizer == FOREGROUND);
                if waits { Owner::Waiting } else { Owner::There }
            }
            _ => {
                self.absent.note(&kind, &node.namespace, owner);
                Owner::Gone
            }
        })
    }

    /// Tells that the reference names something that cannot own the object.
    fn warn(&self, node: &Node, owner: &OwnerReference) {
        let Some(kind) = self.kind(node.kind) else { return };
        let namespace = &node.namespace;
        let named = if namespace.is_empty() {
            String::new()
        } else {
            format!("namespace: {namespace}, ")
        };
        let message = format!(
            "ownerRef [{}/{}, {named}name: {}, uid: {}] does not exist in namespace {namespace:?}",
            owner.api_version, owner.kind, owner.name, owner.uid
        );
        let reference = ObjectReference {
            api_version: Some(kind.resource.api_version),
            kind: Some(kind.resource.kind),
            namespace: (!namespace.is_empty()).then(|| namespace.to_string()),
            name: Some(node.name.to_string()),
            uid: Some(node.uid.to_string()),
            ..Default::default()
        };
        self.context.recorder.record(
            &self.context.client,
            "garbage-collector-controller",
            reference,
            "Warning",
            "OwnerRefInvalidNamespace",
            message,
        );
    }

    /// The owners no longer wait for this object, so that a circle of waiting owners opens.
    async fn unblock(&self, node: &Node) -> Result<(), Error> {
        let Some((kind, live)) = self.live(node).await? else {
            return Ok(());
        };
        let mut owners = live.owner_references.clone().unwrap_or_default();
        if !owners.iter().any(|owner| owner.block_owner_deletion == Some(true)) {
            return Ok(());
        }
        for owner in &mut owners {
            owner.block_owner_deletion = Some(false);
        }
        let patch = json!({"metadata": {"resourceVersion": live.resource_version, "ownerReferences": owners}});
        self.patch(&kind, node, patch).await
    }

    fn kind_of(&self, owner: &OwnerReference) -> Option<Kind> {
        let kinds = self.kinds.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The last added wins: a kind that was defined anew.
        kinds.iter().rev().find(|kind| kind.is_meant_by(owner)).cloned()
    }

    /// The object as it is now, if it still is the one the graph means.
    async fn live(&self, node: &Node) -> Result<Option<(Kind, ObjectMeta)>, Error> {
        let Some(kind) = self.kind(node.kind) else {
            return Ok(None);
        };
        let found = self.api(&kind, &node.namespace).get_metadata_opt(&node.name).await;
        let found = found.doing(|| format!("read {} {}", kind.display(), node.name))?;
        let same = found.filter(|found| found.metadata.uid.as_deref() == Some(&*node.uid));
        if same.is_none() {
            let look = self.graph().remove(Uid::new(&node.uid));
            self.enqueue(look);
        }
        Ok(same.map(|found| (kind, found.metadata)))
    }

    async fn delete(&self, node: &Node, foreground: bool) -> Result<(), Error> {
        let Some((kind, live)) = self.live(node).await? else {
            return Ok(());
        };
        if live.deletion_timestamp.is_some() {
            return Ok(());
        }
        let uids =
            |owners: &[OwnerReference]| -> BTreeSet<String> { owners.iter().map(|owner| owner.uid.clone()).collect() };
        if uids(live.owner_references.as_deref().unwrap_or_default()) != uids(&node.owners) {
            return Err(Error::Again(format!(
                "owners of {} {} changed",
                kind.display(),
                node.name
            )));
        }
        let has = |finalizer: &str| live.finalizers.iter().flatten().any(|known| known == finalizer);
        // What somebody asked for earlier, by finalizer, is respected.
        let policy = if has(ORPHAN) {
            PropagationPolicy::Orphan
        } else if foreground || has(FOREGROUND) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        let parameters = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: live.uid.clone(),
                resource_version: live.resource_version.clone(),
            }),
            ..Default::default()
        };
        let deleted = self.api(&kind, &node.namespace).delete(&node.name, &parameters).await;
        gone_is_fine(deleted.doing(|| format!("delete {} {}, whose owners are gone", kind.display(), node.name)))
    }

    /// Takes owners out of an object's references.
    async fn detach(&self, node: &Node, owners: &[String]) -> Result<(), Error> {
        let Some((kind, live)) = self.live(node).await? else {
            return Ok(());
        };
        let before = live.owner_references.clone().unwrap_or_default();
        let kept: Vec<&OwnerReference> = before.iter().filter(|owner| !owners.contains(&owner.uid)).collect();
        if kept.len() == before.len() {
            return Ok(());
        }
        let patch = json!({"metadata": {"resourceVersion": live.resource_version, "ownerReferences": kept}});
        self.patch(&kind, node, patch).await
    }

    async fn drop_finalizer(&self, node: &Node, finalizer: &str) -> Result<(), Error> {
        let Some((kind, live)) = self.live(node).await? else {
            return Ok(());
        };
        let before = live.finalizers.clone().unwrap_or_default();
        let kept: Vec<&String> = before.iter().filter(|known| *known != finalizer).collect();
        if kept.len() == before.len() {
            return Ok(());
        }
        let patch = json!({"metadata": {"resourceVersion": live.resource_version, "finalizers": kept}});
        self.patch(&kind, node, patch).await
    }

    async fn patch(&self, kind: &Kind, node: &Node, patch: serde_json::Value) -> Result<(), Error> {
        let api = self.api(kind, &node.namespace);
        let written = api
            .patch_metadata(&node.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        gone_is_fine(written.doing(|| format!("patch {} {}", kind.display(), node.name)))
    }
}
