//! The node's own copy of what it needs from the API.
//!
//! ```text
//! API --watch--> cache --> disk
//!                  |-----> pod workers (Lookup, Change)
//!                  \-----> ClusterView --> dataplane
//! ```
//! Workers read only this copy. The API refreshes it; when the API is gone, or was
//! never there since the node booted, the copy is what the node runs on.

pub mod disk;
mod manifests;

use crate::error::Error;
use crate::pod::environment::Lookup;
use crate::pod::spec::{self, Key};
use crate::volume::token::Issued;
use disk::Disk;
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skiff_network::ClusterView;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Pod(Key),
    /// A config map or secret that some pod refers to.
    ConfigMap(Key),
    Secret(Key),
    /// The pod's tokens are to be renewed.
    Tokens(Key),
    /// The API's list of this node's pods is known: what is not in it is an orphan.
    PodsListed,
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<Key, Arc<Pod>>,
    /// Pods of the node's own.
    manifests: BTreeMap<Key, Arc<Pod>>,
    /// Those of whose mirrors the API is being asked.
    mirroring: BTreeSet<Key>,
    config_maps: BTreeMap<Key, Arc<ConfigMap>>,
    secrets: BTreeMap<Key, Arc<Secret>>,
    view: ClusterView,
    watched: BTreeMap<(&'static str, Key), Watched>,
    /// By the pod's UID.
    tokens: BTreeMap<String, Tokens>,
}

/// A watch of one object, that ends when no pod refers to the object.
#[derive(Debug)]
struct Watched {
    listed: watch::Receiver<bool>,
    _end: DropGuard,
}

#[derive(Debug, Default)]
struct Tokens {
    issued: Vec<Issued>,
    timer: Option<AbortHandle>,
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

/// One pod's tokens on disk.
#[derive(Serialize, Deserialize)]
struct KeptTokens {
    uid: String,
    issued: Vec<Issued>,
}

pub struct Cache {
    client: Client,
    node_name: String,
    disk: Disk,
    state: Mutex<State>,
    view: watch::Sender<Arc<ClusterView>>,
    changes: mpsc::UnboundedSender<Change>,
    services_known: watch::Sender<bool>,
    shutdown: CancellationToken,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Kinds kept on disk, each with its slot in the state.
trait Kept: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug + Send + Sync + 'static {
    const KIND: &'static str;
    /// Whether the object never changes again: nobody follows it then.
    fn immutable(&self) -> bool {
        false
    }
    fn slot(state: &mut State) -> &mut BTreeMap<Key, Arc<Self>>;
}

macro_rules! kept {
    ($type:ty, $kind:literal, $($field:ident).+ $(, $immutable:ident)?) => {
        impl Kept for $type {
            const KIND: &'static str = $kind;
            $(fn immutable(&self) -> bool {
                self.$immutable.unwrap_or(false)
            })?
            fn slot(state: &mut State) -> &mut BTreeMap<Key, Arc<Self>> {
                &mut state.$($field).+
            }
        }
    };
}
kept!(Pod, "pods", pods);
kept!(ConfigMap, "configmaps", config_maps, immutable);
kept!(Secret, "secrets", secrets, immutable);
kept!(Service, "services", view.services);
kept!(EndpointSlice, "endpointslices", view.endpoint_slices);

fn key_of<K: Resource>(object: &K) -> Key {
    (
        object.meta().namespace.clone().unwrap_or_default(),
        object.meta().name.clone().unwrap_or_default(),
    )
}

impl Cache {
    pub fn open(
        client: Client,
        node_name: &str,
        dir: &Path,
        shutdown: CancellationToken,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<Change>), Error> {
        let disk = Disk::open(dir)?;
        let mut state = State::default();
        load::<Pod>(&disk, &mut state);
        load::<ConfigMap>(&disk, &mut state);
        load::<Secret>(&disk, &mut state);
        load::<Service>(&disk, &mut state);
        load::<EndpointSlice>(&disk, &mut state);
        for bytes in disk.load("nodes") {
            if let Ok(node) = serde_json::from_slice::<Node>(&bytes) {
                state.view.nodes.insert(node.name_any(), Arc::new(node));
            }
        }
        for bytes in disk.load("tokens") {
            if let Ok(kept) = serde_json::from_slice::<KeptTokens>(&bytes) {
                let issued = kept.issued;
                state.tokens.insert(kept.uid, Tokens { issued, timer: None });
            }
        }
        state.view.pods = state.pods.clone();
        let (changes, receiver) = mpsc::unbounded_channel();
        let known = !state.view.services.is_empty();
        let cache = Arc::new(Self {
            client,
            node_name: node_name.to_owned(),
            disk,
            view: watch::Sender::new(Arc::new(state.view.clone())),
            state: Mutex::new(state),
            changes,
            services_known: watch::Sender::new(known),
            shutdown,
        });
        Ok((cache, receiver))
    }

    /// Starts following the API. Nothing waits for it.
    pub fn follow(self: &Arc<Self>) {
        let pods = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node_name));
        let cache = self.clone();
        self.spawn_watch::<Pod>(
            Api::all(self.client.clone()),
            pods,
            None,
            self.shutdown.clone(),
            move |event| {
                for key in event {
                    let _ = cache.changes.send(Change::Pod(key));
                }
            },
        );
        let quiet = |_: Vec<Key>| {};
        let all = watcher::Config::default;
        self.spawn_watch::<Service>(Api::all(self.client.clone()), all(), None, self.shutdown.clone(), quiet);
        self.spawn_watch::<EndpointSlice>(Api::all(self.client.clone()), all(), None, self.shutdown.clone(), quiet);
        tokio::spawn(self.clone().follow_nodes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding it left a map that is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn view(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.view.subscribe()
    }

    pub fn pods(&self) -> BTreeMap<Key, Arc<Pod>> {
        manifests::pods(&self.lock())
    }

    pub fn pod(&self, key: &Key) -> Option<Arc<Pod>> {
        manifests::pod(&self.lock(), key)
    }

    pub fn services(&self) -> Vec<Arc<Service>> {
        self.lock().view.services.values().cloned().collect()
    }

    /// The worker knows the pod's addresses before the API does: let the dataplane see.
    pub fn publish_pod(&self, pod: Pod) {
        let mut state = self.lock();
        let key = key_of(&pod);
        let known = state.manifests.get(&key).or_else(|| state.pods.get(&key));
        if known.is_some_and(|p| p.metadata.uid == pod.metadata.uid) {
            state.view.pods.insert(key, Arc::new(pod));
            self.view.send_replace(Arc::new(state.view.clone()));
        }
    }

    pub async fn services_known(&self) {
        let mut known = self.services_known.subscribe();
        let _ = known.wait_for(|known| *known).await;
    }

    /// Makes sure that these objects are followed, and waits (bounded by the API's
    /// first answer) for those of which there is no copy at all.
    pub async fn want(self: &Arc<Self>, config_maps: BTreeSet<Key>, secrets: BTreeSet<Key>) {
        let mut pending = Vec::new();
        for key in config_maps {
            pending.extend(self.want_one::<ConfigMap>(key));
        }
        for key in secrets {
            pending.extend(self.want_one::<Secret>(key));
        }
        for mut listed in pending {
            let _ = listed.wait_for(|listed| *listed).await;
        }
    }

    fn want_one<K: Kept + Resource<Scope = NamespaceResourceScope>>(
        self: &Arc<Self>,
        key: Key,
    ) -> Option<watch::Receiver<bool>> {
        let mut state = self.lock();
        let have = K::slot(&mut state).contains_key(&key);
        let receiver = match state.watched.get(&(K::KIND, key.clone())) {
            Some(watched) => watched.listed.clone(),
            None => {
                let (listed, receiver) = watch::channel(false);
                let ended = self.shutdown.child_token();
                let watched = Watched {
                    listed: receiver.clone(),
                    _end: ended.clone().drop_guard(),
                };
                state.watched.insert((K::KIND, key.clone()), watched);
                let api: Api<K> = Api::namespaced(self.client.clone(), &key.0);
                let config = watcher::Config::default().fields(&format!("metadata.name={}", key.1));
                let cache = self.clone();
                let scope = Some(key);
                drop(state);
                self.spawn_watch::<K>(api, config, scope, ended, move |keys| {
                    listed.send_replace(true);
                    for key in keys {
                        let change = match K::KIND {
                            "secrets" => Change::Secret(key),
                            _ => Change::ConfigMap(key),
                        };
                        let _ = cache.changes.send(change);
                    }
                });
                receiver
            }
        };
        (!have && !*receiver.borrow()).then_some(receiver)
    }

    /// Ends the watches of, and forgets, what no pod of the node refers to any more.
    pub fn release(&self) {
        let mut state = self.lock();
        let (mut maps, mut secrets, mut uids) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for pod in state.pods.values().chain(state.manifests.values()) {
            let (more_maps, more_secrets) = crate::pod::api::references(pod);
            maps.extend(more_maps);
            secrets.extend(more_secrets);
            uids.insert(spec::uid(pod).to_owned());
        }
        self.release_kind::<ConfigMap>(&mut state, &maps);
        self.release_kind::<Secret>(&mut state, &secrets);
        state.tokens.retain(|uid, _| {
            let needed = uids.contains(uid);
            if !needed {
                self.disk.remove("tokens", "", uid);
            }
            needed
        });
    }

    fn release_kind<K: Kept>(&self, state: &mut State, needed: &BTreeSet<Key>) {
        state
            .watched
            .retain(|(kind, key), _| *kind != K::KIND || needed.contains(key));
        K::slot(state).retain(|key, _| {
            let keep = needed.contains(key);
            if !keep {
                self.disk.remove(K::KIND, &key.0, &key.1);
            }
            keep
        });
    }

    pub fn tokens(&self, uid: &str) -> Vec<Issued> {
        self.lock()
            .tokens
            .get(uid)
            .map(|t| t.issued.clone())
            .unwrap_or_default()
    }

    pub fn keep_tokens(&self, uid: &str, issued: Vec<Issued>) {
        let kept = KeptTokens {
            uid: uid.to_owned(),
            issued,
        };
        if let Ok(bytes) = serde_json::to_vec(&kept) {
            self.disk.put("tokens", "", uid, bytes);
        }
        self.lock().tokens.entry(kept.uid).or_default().issued = kept.issued;
    }

    /// Tells when the pod's tokens are due; one timer per pod.
    pub fn remind(&self, pod: &Pod, at: Timestamp) {
        let (key, changes) = (key_of(pod), self.changes.clone());
        let pause = std::time::Duration::try_from(Timestamp::now().duration_until(at)).unwrap_or_default();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = changes.send(Change::Tokens(key));
        });
        let mut state = self.lock();
        let tokens = state.tokens.entry(spec::uid(pod).to_owned()).or_default();
        if let Some(old) = tokens.timer.replace(timer.abort_handle()) {
            old.abort();
        }
    }

    /// `only`: the watch is of this one object. `changed` gets the keys, also an
    /// empty list after each listing.
    fn spawn_watch<K: Kept>(
        self: &Arc<Self>,
        api: Api<K>,
        config: watcher::Config,
        only: Option<Key>,
        ended: CancellationToken,
        changed: impl Fn(Vec<Key>) + Send + 'static,
    ) {
        let cache = self.clone();
        tokio::spawn(async move {
            // Who wrote which field is of no use here, and half of a small object's size.
            let lean = |object: &mut K| {
                object.meta_mut().managed_fields = None;
                // What was read has room to grow in each of its lists; a clone has not.
                *object = object.clone();
            };
            let mut stream = std::pin::pin!(watcher(api, config).default_backoff().modify(lean));
            let mut listing: BTreeMap<Key, Arc<K>> = BTreeMap::new();
            loop {
                let next = tokio::select! {
                    () = ended.cancelled() => return,
                    next = stream.try_next() => next,
                };
                let keys = match next {
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!(%error, kind = K::KIND, "watch broke; trying again");
                        continue;
                    }
                    Ok(Some(watcher::Event::Init)) => {
                        listing.clear();
                        continue;
                    }
                    Ok(Some(watcher::Event::InitApply(object))) => {
                        listing.insert(key_of(&object), Arc::new(object));
                        continue;
                    }
                    Ok(Some(watcher::Event::InitDone)) => cache.replace(std::mem::take(&mut listing), only.as_ref()),
                    Ok(Some(watcher::Event::Apply(object))) => cache.apply(object),
                    Ok(Some(watcher::Event::Delete(object))) => cache.remove::<K>(&key_of(&object)),
                };
                let settled = only.as_ref().is_some_and(|key| cache.is_immutable::<K>(key));
                changed(keys);
                if settled {
                    return;
                }
            }
        });
    }

    fn is_immutable<K: Kept>(&self, key: &Key) -> bool {
        K::slot(&mut self.lock())
            .get(key)
            .is_some_and(|object| object.immutable())
    }

    fn apply<K: Kept>(&self, object: K) -> Vec<Key> {
        let key = key_of(&object);
        if let Ok(bytes) = serde_json::to_vec(&object) {
            self.disk.put(K::KIND, &key.0, &key.1, bytes);
        }
        let mut state = self.lock();
        K::slot(&mut state).insert(key.clone(), Arc::new(object));
        self.publish::<K>(state);
        vec![key]
    }

    fn remove<K: Kept>(&self, key: &Key) -> Vec<Key> {
        self.disk.remove(K::KIND, &key.0, &key.1);
        let mut state = self.lock();
        K::slot(&mut state).remove(key);
        self.publish::<K>(state);
        vec![key.clone()]
    }

    fn replace<K: Kept>(&self, listing: BTreeMap<Key, Arc<K>>, only: Option<&Key>) -> Vec<Key> {
        for (key, object) in &listing {
            if let Ok(bytes) = serde_json::to_vec(object.as_ref()) {
                self.disk.put(K::KIND, &key.0, &key.1, bytes);
            }
        }
        let mut state = self.lock();
        let slot = K::slot(&mut state);
        let gone: Vec<Key> = slot
            .keys()
            .filter(|key| only.is_none_or(|only| only == *key) && !listing.contains_key(*key))
            .cloned()
            .collect();
        for key in &gone {
            slot.remove(key);
            self.disk.remove(K::KIND, &key.0, &key.1);
        }
        let keys: Vec<Key> = gone.into_iter().chain(listing.keys().cloned()).collect();
        slot.extend(listing);
        self.publish::<K>(state);
        match K::KIND {
            "services" => drop(self.services_known.send_replace(true)),
            "pods" => drop(self.changes.send(Change::PodsListed)),
            _ => {}
        }
        keys
    }

    fn publish<K: Kept>(&self, mut state: MutexGuard<'_, State>) {
        match K::KIND {
            "pods" => state.view.pods = state.pods.clone(),
            "services" | "endpointslices" => {}
            _ => return,
        }
        self.view.send_replace(Arc::new(state.view.clone()));
    }

    async fn follow_nodes(self: Arc<Self>) {
        let api: Api<Node> = Api::all(self.client.clone());
        let lean = |node: &mut Node| node.meta_mut().managed_fields = None;
        let mut stream = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff().modify(lean));
        let mut listing = BTreeMap::new();
        loop {
            let next = tokio::select! {
                () = self.shutdown.cancelled() => return,
                next = stream.try_next() => next,
            };
            let keep = |node: &Node| {
                if let Ok(bytes) = serde_json::to_vec(node) {
                    self.disk.put("nodes", "", &node.name_any(), bytes);
                }
            };
            let state = match next {
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "the watch of nodes broke; trying again");
                    continue;
                }
                Ok(Some(watcher::Event::Init)) => {
                    listing.clear();
                    continue;
                }
                Ok(Some(watcher::Event::InitApply(node))) => {
                    keep(&node);
                    listing.insert(node.name_any(), Arc::new(node));
                    continue;
                }
                Ok(Some(watcher::Event::InitDone)) => {
                    let mut state = self.lock();
                    for gone in state.view.nodes.keys().filter(|name| !listing.contains_key(*name)) {
                        self.disk.remove("nodes", "", gone);
                    }
                    state.view.nodes = std::mem::take(&mut listing);
                    state
                }
                Ok(Some(watcher::Event::Apply(node))) => {
                    keep(&node);
                    let mut state = self.lock();
                    state.view.nodes.insert(node.name_any(), Arc::new(node));
                    state
                }
                Ok(Some(watcher::Event::Delete(node))) => {
                    self.disk.remove("nodes", "", &node.name_any());
                    let mut state = self.lock();
                    state.view.nodes.remove(&node.name_any());
                    state
                }
            };
            self.view.send_replace(Arc::new(state.view.clone()));
        }
    }
}

fn load<K: Kept>(disk: &Disk, state: &mut State) {
    for bytes in disk.load(K::KIND) {
        if let Ok(object) = serde_json::from_slice::<K>(&bytes) {
            K::slot(state).insert(key_of(&object), Arc::new(object));
        }
    }
}

impl Lookup for Cache {
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        self.lock().config_maps.get(&(namespace.into(), name.into())).cloned()
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        self.lock().secrets.get(&(namespace.into(), name.into())).cloned()
    }
}
