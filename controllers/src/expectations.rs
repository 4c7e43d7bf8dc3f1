//! Creations and deletions that were asked for but not yet seen by the watch. While any are outstanding a
//! controller must not create or delete more, or a cache that lags makes surplus pods.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::key::Key;

/// After this long an expectation is believed lost, as upstream does.
const EXPIRES_AFTER: Duration = Duration::from_secs(300);

struct Pending {
    creations: i64,
    deletions: HashSet<String>,
    since: Instant,
}

#[derive(Default)]
pub struct Expectations {
    pending: Mutex<HashMap<Key, Pending>>,
}

impl Expectations {
    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Pending>> {
        self.pending.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn satisfied(&self, key: &Key) -> bool {
        self.pending().get(key).is_none_or(|pending| {
            pending.creations <= 0 && pending.deletions.is_empty() || pending.since.elapsed() > EXPIRES_AFTER
        })
    }

    /// Replaces what was expected for this key.
    pub fn expect(&self, key: &Key, creations: usize, deletions: impl IntoIterator<Item = String>) {
        let pending = Pending {
            creations: i64::try_from(creations).unwrap_or(i64::MAX),
            deletions: deletions.into_iter().collect(),
            since: Instant::now(),
        };
        self.pending().insert(key.clone(), pending);
    }

    /// A creation was seen, or will never happen.
    pub fn created(&self, key: &Key) {
        if let Some(pending) = self.pending().get_mut(key) {
            pending.creations -= 1;
        }
    }

    /// A deletion was seen, or will never happen.
    pub fn deleted(&self, key: &Key, uid: &str) {
        if let Some(pending) = self.pending().get_mut(key) {
            pending.deletions.remove(uid);
        }
    }

    pub fn forget(&self, key: &Key) {
        self.pending().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outstanding_work_blocks_until_seen() {
        let expectations = Expectations::default();
        let key = Key::new("default", "web");
        assert!(expectations.satisfied(&key));
        expectations.expect(&key, 2, ["a".to_string()]);
        expectations.created(&key);
        expectations.deleted(&key, "a");
        assert!(!expectations.satisfied(&key));
        expectations.created(&key);
        assert!(expectations.satisfied(&key));
    }
}
