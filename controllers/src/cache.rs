//! A kind's objects as last seen by its watch, with handlers that hear each change. One per kind per process.
//!
//! The watch task is the only writer: it changes the map first and then calls the handlers in order, so a
//! reconcile that a handler queued sees at least the state that caused it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, OnceLock, RwLock};

use futures::TryStreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::key::Key;

/// What happened to one object. At least one side is present.
pub struct Change<'a, K> {
    pub old: Option<&'a Arc<K>>,
    pub new: Option<&'a Arc<K>>,
}

impl<'a, K> Change<'a, K> {
    /// The object as it is, or as it last was.
    pub fn object(&self) -> Option<&'a Arc<K>> {
        self.new.or(self.old)
    }
}

type Handler<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

struct State<K> {
    objects: BTreeMap<Key, Arc<K>>,
    index: HashMap<String, BTreeSet<Key>>,
}

pub struct Cache<K> {
    state: RwLock<State<K>>,
    /// Names under which an object can be found with [`Cache::indexed`].
    index_of: fn(&K) -> Vec<String>,
    /// Removes what no controller needs.
    slim: fn(&mut K),
    pending_handlers: RwLock<Vec<Handler<K>>>,
    handlers: OnceLock<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    pub fn new(index_of: fn(&K) -> Vec<String>, slim: fn(&mut K)) -> Self {
        Self {
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                index: HashMap::new(),
            }),
            index_of,
            slim,
            pending_handlers: RwLock::new(Vec::new()),
            handlers: OnceLock::new(),
            synced: watch::Sender::new(false),
        }
    }

    /// Registers a handler; must happen before the watch starts.
    pub fn on_change(&self, handler: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        debug_assert!(
            self.handlers.get().is_none(),
            "handlers are registered before the watch starts"
        );
        self.pending_handlers
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push(Box::new(handler));
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = Key::new(namespace, "");
        let state = self.read();
        state
            .objects
            .range(from..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Objects that the index function filed under this name.
    pub fn indexed(&self, name: &str) -> Vec<Arc<K>> {
        let state = self.read();
        state
            .index
            .get(name)
            .into_iter()
            .flatten()
            .filter_map(|key| state.objects.get(key).cloned())
            .collect()
    }

    /// Waits until the first full list has arrived.
    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives in self, so the wait cannot fail.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Watches until shutdown. Errors are retried by the watcher with back-off, for ever.
    pub async fn run(self: Arc<Self>, api: Api<K>, config: watcher::Config, shutdown: CancellationToken) {
        let handlers = std::mem::take(
            &mut *self
                .pending_handlers
                .write()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        );
        let _ = self.handlers.set(handlers);
        let stream = watcher(api, config).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut listing: BTreeMap<Key, Arc<K>> = BTreeMap::new();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = stream.try_next() => event,
            };
            match event {
                Ok(Some(watcher::Event::Init)) => listing.clear(),
                Ok(Some(watcher::Event::InitApply(object))) => {
                    let object = self.slimmed(object);
                    listing.insert(Key::of(object.meta()), object);
                }
                Ok(Some(watcher::Event::InitDone)) => self.replace(std::mem::take(&mut listing)),
                Ok(Some(watcher::Event::Apply(object))) => {
                    let object = self.slimmed(object);
                    self.put(Key::of(object.meta()), object);
                }
                Ok(Some(watcher::Event::Delete(object))) => self.remove(&Key::of(object.meta())),
                Ok(None) => return,
                Err(error) => tracing::debug!(kind = %K::kind(&()), %error, "watch interrupted, retrying"),
            }
        }
    }

    fn slimmed(&self, mut object: K) -> Arc<K> {
        object.meta_mut().managed_fields = None;
        (self.slim)(&mut object);
        Arc::new(object)
    }

    fn notify(&self, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        let change = Change { old, new };
        for handler in self.handlers.get().into_iter().flatten() {
            // One controller's mistake must not end the watch that all controllers hear.
            let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handler(&change)));
            if heard.is_err() {
                crate::metrics::panicked(&K::kind(&()));
                tracing::error!(kind = %K::kind(&()), "a controller panicked over a change; it goes on with the next");
            }
        }
    }

    fn put(&self, key: Key, object: Arc<K>) {
        let old = {
            let mut state = self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            let old = state.objects.insert(key.clone(), object.clone());
            if let Some(old) = &old {
                unindex(&mut state.index, &key, (self.index_of)(old));
            }
            for name in (self.index_of)(&object) {
                state.index.entry(name).or_default().insert(key.clone());
            }
            old
        };
        // The same name with another uid is a deletion and a creation.
        match &old {
            Some(before) if before.meta().uid != object.meta().uid => {
                self.notify(Some(before), None);
                self.notify(None, Some(&object));
            }
            _ => self.notify(old.as_ref(), Some(&object)),
        }
    }

    fn remove(&self, key: &Key) {
        let old = {
            let mut state = self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            let old = state.objects.remove(key);
            if let Some(old) = &old {
                unindex(&mut state.index, key, (self.index_of)(old));
            }
            old
        };
        if let Some(old) = &old {
            self.notify(Some(old), None);
        }
    }

    fn replace(&self, listing: BTreeMap<Key, Arc<K>>) {
        let gone: Vec<Key> = self
            .read()
            .objects
            .keys()
            .filter(|key| !listing.contains_key(*key))
            .cloned()
            .collect();
        for key in gone {
            self.remove(&key);
        }
        for (key, object) in listing {
            let known = self.get(&key);
            if known.is_some_and(|known| known.meta().resource_version == object.meta().resource_version) {
                continue;
            }
            self.put(key, object);
        }
        self.synced.send_replace(true);
    }
}

fn unindex(index: &mut HashMap<String, BTreeSet<Key>>, key: &Key, names: Vec<String>) {
    for name in names {
        if let Some(keys) = index.get_mut(&name) {
            keys.remove(key);
            if keys.is_empty() {
                index.remove(&name);
            }
        }
    }
}
