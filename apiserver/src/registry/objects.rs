//! Reads of decoded objects for authorizers and admission, over one snapshot,
//! through a bounded cache so that an object is parsed once per change.

use super::{Catalog, decode, key_of, prefix_of};
use bytes::Bytes;
use serde_json::Value;
use skiff_access::Objects;
use skiff_store::{Entry, Revision, Snapshot};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Stored bytes of what the cache may hold; trees take about five times as much.
const CACHED_BYTES_MAX: usize = 2 << 20;

/// Decoded objects by key and mod revision.
#[derive(Default)]
pub struct DecodeCache {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_key: HashMap<Bytes, (Revision, Arc<Value>, usize)>,
    bytes: usize,
}

impl DecodeCache {
    /// The entry as a tree with its resourceVersion; `None` if it is not JSON.
    pub fn get(&self, entry: &Entry) -> Option<Arc<Value>> {
        {
            let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some((revision, value, _)) = inner.by_key.get(entry.key())
                && *revision == entry.mod_revision()
            {
                return Some(value.clone());
            }
        }
        let value = Arc::new(decode(entry, entry.mod_revision()).ok()?);
        self.insert(entry, value.clone());
        Some(value)
    }

    /// As [`get`](Self::get), to be changed: the cache gives up its own.
    pub fn take(&self, entry: &Entry) -> Option<Value> {
        let kept = {
            let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match inner.by_key.get(entry.key()) {
                Some((revision, _, size)) if *revision == entry.mod_revision() => {
                    inner.bytes -= *size;
                    inner.by_key.remove(entry.key())
                }
                _ => None,
            }
        };
        match kept {
            Some((_, value, _)) => Some(Arc::unwrap_or_clone(value)),
            None => decode(entry, entry.mod_revision()).ok(),
        }
    }

    /// Takes over the tree that was just written as this entry, in place of the one
    /// it replaced: who writes an object again need not parse it.
    pub fn written(&self, entry: &Entry, value: Value) {
        if self.revision(entry).is_some() {
            self.keep(entry, value);
        }
    }

    /// Takes over the tree of an entry that is going to be read soon.
    pub fn keep(&self, entry: &Entry, mut value: Value) {
        // A slower writer does not put an older tree back.
        if self
            .revision(entry)
            .is_some_and(|revision| revision >= entry.mod_revision())
        {
            return;
        }
        let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        metadata.remove("selfLink");
        metadata.insert("resourceVersion".into(), entry.mod_revision().to_string().into());
        self.insert(entry, Arc::new(value));
    }

    /// Of the tree that is there under the entry's key.
    fn revision(&self, entry: &Entry) -> Option<Revision> {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.by_key.get(entry.key()).map(|(revision, _, _)| *revision)
    }

    fn insert(&self, entry: &Entry, value: Arc<Value>) {
        let size = entry.body().len();
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if inner.bytes + size > CACHED_BYTES_MAX {
            // Dropping everything is rare and cheap beside keeping an order of use.
            inner.by_key.clear();
            inner.bytes = 0;
        }
        inner.bytes += size;
        if let Some((_, _, old)) = inner
            .by_key
            .insert(entry.key_bytes(), (entry.mod_revision(), value, size))
        {
            inner.bytes -= old;
        }
    }
}

/// The objects of one snapshot.
pub struct StoreObjects<'a> {
    pub snapshot: Arc<dyn Snapshot>,
    pub catalog: Arc<Catalog>,
    pub cache: &'a DecodeCache,
}

impl Objects for StoreObjects<'_> {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let kind = self.catalog.resource(group, resource)?;
        let entry = self.snapshot.get(&key_of(kind, namespace, name))?;
        self.cache.get(&entry)
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let Some(kind) = self.catalog.resource(group, resource) else {
            return Vec::new();
        };
        let page = self.snapshot.range(&prefix_of(kind, namespace), None, 0);
        page.entries.iter().filter_map(|e| self.cache.get(e)).collect()
    }

    fn label(&self, group: &str, resource: &str, namespace: &str, name: &str, key: &str) -> Option<String> {
        let kind = self.catalog.resource(group, resource)?;
        let entry = self.snapshot.get(&key_of(kind, namespace, name))?;
        Some(entry.labels().get(key)?.to_string())
    }

    fn generation(&self, group: &str, resource: &str) -> u64 {
        self.catalog
            .resource(group, resource)
            .map_or(0, |kind| self.snapshot.last_change(&prefix_of(kind, "")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::encode;
    use serde_json::json;
    use skiff_store::Numbers;

    #[test]
    fn a_written_tree_is_what_its_bytes_say() {
        let kind = skiff_kinds::find_kind("", "ConfigMap").unwrap();
        let entry = |revision, object: &Value| {
            let numbers = Numbers {
                create_revision: 1,
                mod_revision: revision,
                version: 1,
                lease: 0,
            };
            Entry::new(b"k", &encode(kind, object).unwrap(), numbers)
        };
        let object = |data: &str| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": data},
            "metadata": {"name": "m", "selfLink": "/x", "resourceVersion": "1", "annotations": {}}})
        };
        let cache = DecodeCache::default();
        // What nobody reads is not kept.
        cache.written(&entry(2, &object("2")), object("2"));
        assert!(cache.inner.lock().unwrap().by_key.is_empty());
        let old = entry(1, &object("1"));
        cache.get(&old).unwrap();
        let new = entry(3, &object("3"));
        cache.written(&new, object("3"));
        let kept = cache.inner.lock().unwrap().by_key[new.key()].clone();
        assert_eq!((kept.0, &*kept.1), (3, &decode(&new, 3).unwrap()));
        // A slower writer does not put an older tree back.
        cache.written(&entry(2, &object("2")), object("2"));
        assert_eq!(cache.inner.lock().unwrap().by_key[new.key()].0, 3);
        assert_eq!(cache.inner.lock().unwrap().bytes, new.body().len());
        // What is taken is no longer there, and is put back as it was written.
        assert_eq!(cache.take(&new).unwrap(), decode(&new, 3).unwrap());
        assert_eq!(cache.inner.lock().unwrap().bytes, 0);
        assert_eq!(cache.take(&new).unwrap(), decode(&new, 3).unwrap());
        let newest = entry(4, &object("4"));
        cache.keep(&newest, object("4"));
        assert_eq!(*cache.get(&newest).unwrap(), decode(&newest, 4).unwrap());
        assert_eq!(cache.take(&new).unwrap(), decode(&new, 3).unwrap(), "an older one");
        assert_eq!(cache.inner.lock().unwrap().by_key[new.key()].0, 4);
    }
}
