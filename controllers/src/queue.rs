//! A work queue: a key waits at most once, is worked on by one worker at a time, and backs off by itself
//! when it fails. Knows nothing about what the keys mean.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::QueueFigures;

/// First retry after this; doubled per failure, as upstream's default limiter.
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
/// Upstream's cap.
const BACKOFF_MAX: Duration = Duration::from_secs(1000);

struct State<K> {
    /// With the time since when they wait.
    ready: VecDeque<(K, Instant)>,
    /// Waiting in `ready`, or to be queued again when its worker is done.
    dirty: HashSet<K>,
    working: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    /// By due time; the number keeps entries of the same instant apart.
    later: BTreeMap<(Instant, u64), K>,
    later_at: HashMap<K, (Instant, u64)>,
    sequence: u64,
}

pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    figures: QueueFigures,
}

impl<K: Clone + Eq + Hash> State<K> {
    fn push(&mut self, key: K, figures: &QueueFigures) {
        self.ready.push_back((key, Instant::now()));
        figures.depth(self.ready.len());
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// `name`: under which its figures are shown.
    pub fn new(name: &'static str) -> Self {
        Self {
            figures: QueueFigures::new(name),
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashSet::new(),
                working: HashMap::new(),
                failures: HashMap::new(),
                later: BTreeMap::new(),
                later_at: HashMap::new(),
                sequence: 0,
            }),
            wake: Notify::new(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn add(&self, key: K) {
        let mut state = self.state();
        if !state.dirty.insert(key.clone()) {
            return;
        }
        self.figures.added();
        if !state.working.contains_key(&key) {
            state.push(key, &self.figures);
            self.wake.notify_one();
        }
    }

    /// Queues the key after `delay`, or earlier where an earlier time was already asked for.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.state();
        let due = Instant::now() + delay;
        if let Some(old) = state.later_at.get(&key).copied() {
            if old.0 <= due {
                return;
            }
            state.later.remove(&old);
        }
        state.sequence += 1;
        let at = (due, state.sequence);
        state.later.insert(at, key.clone());
        state.later_at.insert(key, at);
        self.wake.notify_one();
    }

    pub fn add_rate_limited(&self, key: K) {
        self.figures.retried();
        let delay = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = backoff(*failures);
            *failures += 1;
            delay
        };
        self.add_after(key, delay);
    }

    /// Forgets the key's failures.
    pub fn forget(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// The worker of this key is done; a key that changed meanwhile is queued again.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        if let Some(since) = state.working.remove(key) {
            self.figures.done(since.elapsed());
        }
        if state.dirty.contains(key) {
            state.push(key.clone(), &self.figures);
            self.wake.notify_one();
        }
    }

    /// Waits for the next key. One task calls this; it must call `done` for each key.
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.state();
                let now = Instant::now();
                while let Some((&at, _)) = state.later.first_key_value()
                    && at.0 <= now
                {
                    if let Some(key) = state.later.remove(&at) {
                        state.later_at.remove(&key);
                        if state.dirty.insert(key.clone()) {
                            self.figures.added();
                            if !state.working.contains_key(&key) {
                                state.push(key, &self.figures);
                            }
                        }
                    }
                }
                if let Some((key, since)) = state.ready.pop_front() {
                    self.figures.taken(now - since);
                    self.figures.depth(state.ready.len());
                    state.dirty.remove(&key);
                    state.working.insert(key.clone(), now);
                    return key;
                }
                state.later.first_key_value().map(|(at, _)| at.0)
            };
            match due {
                Some(due) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }
}

/// The wait before retry number `failures + 1`.
fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST
        .saturating_mul(1u32.checked_shl(failures.min(30)).unwrap_or(u32::MAX))
        .min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_cap() {
        assert_eq!(backoff(0), Duration::from_millis(5));
        assert_eq!(backoff(3), Duration::from_millis(40));
        assert_eq!(backoff(60), BACKOFF_MAX);
    }

    const QUIET: Duration = Duration::from_millis(60);

    #[tokio::test]
    async fn a_key_waits_once_and_is_worked_on_alone() {
        let queue = Queue::new("test");
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert!(
            tokio::time::timeout(QUIET, queue.next()).await.is_err(),
            "still being worked on"
        );
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(tokio::time::timeout(QUIET, queue.next()).await.is_err());
    }

    #[tokio::test]
    async fn the_earlier_of_two_delays_wins() {
        let queue = Queue::new("test");
        queue.add_after("a", Duration::from_secs(1000));
        queue.add_after("a", Duration::from_millis(20));
        queue.add_after("a", Duration::from_secs(500));
        let started = Instant::now();
        assert_eq!(queue.next().await, "a");
        assert!(started.elapsed() < Duration::from_secs(100));
        queue.done(&"a");
        assert!(tokio::time::timeout(QUIET, queue.next()).await.is_err());
    }
}
