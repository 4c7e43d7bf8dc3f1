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
            if let Some((revision, value, _)) = inner.by_key.get(&entry.key)
                && *revision == entry.mod_revision
            {
                return Some(value.clone());
            }
        }
        let value = Arc::new(decode(entry, entry.mod_revision).ok()?);
        let size = entry.record.body.len();
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if inner.bytes + size > CACHED_BYTES_MAX {
            // Dropping everything is rare and cheap beside keeping an order of use.
            inner.by_key.clear();
            inner.bytes = 0;
        }
        inner.bytes += size;
        if let Some((_, _, old)) = inner
            .by_key
            .insert(entry.key.clone(), (entry.mod_revision, value.clone(), size))
        {
            inner.bytes -= old;
        }
        Some(value)
    }
}

/// The objects of one snapshot.
pub struct StoreObjects<'a> {
    pub snapshot: Arc<dyn Snapshot>,
    pub catalog: &'a Catalog,
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

    fn generation(&self, group: &str, resource: &str) -> u64 {
        self.catalog
            .resource(group, resource)
            .map_or(0, |kind| self.snapshot.last_change(&prefix_of(kind, "")))
    }
}
