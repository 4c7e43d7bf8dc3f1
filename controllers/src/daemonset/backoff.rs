//! How long a DaemonSet waits before it deletes a failed pod of a node again, so that a daemon that always
//! fails at once does not keep the cluster busy. Pure but for its lock.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

/// Upstream's; doubled per failure.
const FIRST_SECONDS: i64 = 1;
const MAX_SECONDS: i64 = 15 * 60;
/// A node that did well for this long starts anew.
const FORGET_SECONDS: i64 = 2 * MAX_SECONDS;

struct Entry {
    wait_seconds: i64,
    since: Timestamp,
}

/// By the set's uid and the node.
#[derive(Default)]
pub struct Backoff(Mutex<HashMap<(String, String), Entry>>);

impl Backoff {
    /// Nothing where the pod may be deleted now, which counts as a failure; else how long to wait.
    pub fn ask(&self, set: &str, node: &str, now: Timestamp) -> Option<Duration> {
        let mut entries = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let passed = |entry: &Entry| now.as_second() - entry.since.as_second();
        entries.retain(|_, entry| passed(entry) < FORGET_SECONDS);
        let key = (set.to_string(), node.to_string());
        let wait_seconds = match entries.get(&key) {
            None => FIRST_SECONDS,
            Some(entry) => {
                let left = entry.wait_seconds - passed(entry);
                if left > 0 {
                    return Some(Duration::from_secs(u64::try_from(left).unwrap_or(1)));
                }
                (entry.wait_seconds * 2).min(MAX_SECONDS)
            }
        };
        entries.insert(
            key,
            Entry {
                wait_seconds,
                since: now,
            },
        );
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::at;

    #[test]
    fn waits_double_and_are_forgotten() {
        let backoff = Backoff::default();
        let ask = |node: &str, second: i64| backoff.ask("s", node, at(second)).map(|wait| wait.as_secs());
        assert_eq!(ask("a", 0), None);
        assert_eq!(ask("a", 0), Some(1));
        assert_eq!(ask("b", 0), None, "each node by itself");
        assert_eq!(ask("a", 1), None);
        assert_eq!(ask("a", 1), Some(2));
        let mut now = 3;
        for _ in 0..20 {
            assert_eq!(ask("a", now), None);
            now += 900;
        }
        assert_eq!(ask("a", now), None);
        assert_eq!(ask("a", now + 1), Some(899), "15 minutes at most");
        assert_eq!(ask("a", now + 2000), None);
        assert_eq!(ask("a", now + 2000), Some(1));
    }
}
