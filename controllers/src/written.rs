//! What a controller wrote last of each of its objects, so that it does not decide on an older state that its
//! cache still shows: the caches of different kinds do not move together.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::key::{Key, uid};

#[derive(Default)]
pub struct Written {
    last: Mutex<HashMap<Key, (String, u64)>>,
}

/// Resource versions are numbers and grow (KEP-5504); what is none is never waited for.
fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

impl Written {
    fn last(&self) -> std::sync::MutexGuard<'_, HashMap<Key, (String, u64)>> {
        self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The object as the server answered our write.
    pub fn note(&self, meta: &ObjectMeta) {
        if let Some(version) = version(meta) {
            self.last().insert(Key::of(meta), (uid(meta).to_string(), version));
        }
    }

    /// Whether `seen` is older than what was written; its watch event will come.
    pub fn is_behind(&self, seen: &ObjectMeta) -> bool {
        let key = Key::of(seen);
        let mut last = self.last();
        let Some((of, written)) = last.get(&key) else {
            return false;
        };
        let behind = of == uid(seen) && version(seen).is_some_and(|seen| seen < *written);
        if !behind {
            last.remove(&key);
        }
        behind
    }

    pub fn forget(&self, key: &Key) {
        self.last().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_state_is_waited_out_once() {
        let meta = |uid: &str, version: &str| ObjectMeta {
            name: Some("a".to_string()),
            uid: Some(uid.to_string()),
            resource_version: Some(version.to_string()),
            ..Default::default()
        };
        let written = Written::default();
        assert!(!written.is_behind(&meta("u", "5")));
        written.note(&meta("u", "10"));
        assert!(
            written.is_behind(&meta("u", "9")),
            "9 is less than 10, though not as text"
        );
        assert!(!written.is_behind(&meta("u", "10")));
        written.note(&meta("u", "20"));
        assert!(!written.is_behind(&meta("v", "9")), "another object of that name");
    }
}
