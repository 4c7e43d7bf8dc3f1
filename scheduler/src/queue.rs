//! The scheduling queue: which pod is tried next. Pure: time is an argument.
//!
//! ```text
//! add --> active --pop--> (an attempt) --failed--> unschedulable --wake--> backoff --(time)--> active
//! ```

use crate::filter::Candidate;
use crate::snapshot::PodKey;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Upstream's podInitialBackoffSeconds and podMaxBackoffSeconds.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod that no event woke is tried again after this (upstream's 5 minutes).
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    /// Woken, or after an error; only the former may be taken early.
    Backoff {
        until: Instant,
        failed: bool,
    },
    Unschedulable(Instant),
    /// Handed out; back by `failed` or gone by `remove`.
    InFlight,
}

#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    /// Higher first, then older first.
    rank: (i64, u64),
    attempts: u32,
    place: Place,
}

#[derive(Debug, Default)]
pub struct Queue {
    entries: BTreeMap<PodKey, Entry>,
    active: BTreeSet<((i64, u64), PodKey)>,
    timed: BTreeSet<(Instant, PodKey)>,
    sequence: u64,
}

impl Queue {
    /// Adds a pod, or takes its new state. A changed pod that was unschedulable
    /// is tried again, since the change may help.
    pub fn add(&mut self, candidate: Candidate, now: Instant) {
        let key = candidate.info.key.clone();
        let priority = candidate.spec().and_then(|spec| spec.priority).unwrap_or(0);
        if let Some(entry) = self.entries.get_mut(&key) {
            if entry.candidate.info.uid == candidate.info.uid {
                let changed = entry.candidate.pod.spec != candidate.pod.spec
                    || entry.candidate.info.labels != candidate.info.labels;
                entry.candidate = candidate;
                if changed && matches!(entry.place, Place::Unschedulable(_)) {
                    self.ready_after_backoff(&key, now);
                }
                return;
            }
            self.remove(&key);
        }
        self.sequence += 1;
        let rank = (-i64::from(priority), self.sequence);
        self.active.insert((rank, key.clone()));
        self.entries.insert(
            key,
            Entry {
                candidate,
                rank,
                attempts: 0,
                place: Place::Active,
            },
        );
    }

    pub fn remove(&mut self, key: &PodKey) {
        if let Some(entry) = self.entries.remove(key) {
            match entry.place {
                Place::Active => {
                    self.active.remove(&(entry.rank, key.clone()));
                }
                Place::Backoff { until: at, .. } | Place::Unschedulable(at) => {
                    self.timed.remove(&(at, key.clone()));
                }
                Place::InFlight => {}
            }
        }
    }

    /// The next pod to try. When nothing else waits, one that an event woke need
    /// not sit out its back-off: that only keeps it from crowding out others
    /// (upstream's SchedulerPopFromBackoffQ).
    pub fn pop(&mut self, now: Instant) -> Option<Candidate> {
        self.due(now);
        let key = match self.active.pop_first() {
            Some((_, key)) => key,
            None => self.pop_backing_off()?,
        };
        let entry = self.entries.get_mut(&key)?;
        entry.place = Place::InFlight;
        entry.attempts = entry.attempts.saturating_add(1);
        Some(entry.candidate.clone())
    }

    fn pop_backing_off(&mut self) -> Option<PodKey> {
        let woken = |key: &PodKey| {
            self.entries
                .get(key)
                .is_some_and(|entry| matches!(entry.place, Place::Backoff { failed: false, .. }))
        };
        let found = self.timed.iter().find(|(_, key)| woken(key)).cloned()?;
        self.timed.remove(&found);
        Some(found.1)
    }

    /// No node would do: wait for an event.
    pub fn unschedulable(&mut self, key: &PodKey, now: Instant) {
        self.put_back(key, |_| Place::Unschedulable(now + UNSCHEDULABLE_MAX));
    }

    /// Something else went wrong (binding failed): try again after back-off.
    pub fn failed(&mut self, key: &PodKey, now: Instant) {
        self.put_back(key, |attempts| Place::Backoff {
            until: now + backoff(attempts),
            failed: true,
        });
    }

    fn put_back(&mut self, key: &PodKey, place: impl Fn(u32) -> Place) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.place != Place::InFlight {
            return;
        }
        entry.place = place(entry.attempts);
        if let Place::Backoff { until: at, .. } | Place::Unschedulable(at) = entry.place {
            self.timed.insert((at, key.clone()));
        }
    }

    /// Something changed that may help: all unschedulable pods get ready, those
    /// tried lately after their back-off.
    pub fn wake(&mut self, now: Instant) {
        let waiting: Vec<PodKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.place, Place::Unschedulable(_)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in waiting {
            self.ready_after_backoff(&key, now);
        }
    }

    fn ready_after_backoff(&mut self, key: &PodKey, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Place::Unschedulable(flush_at) = entry.place else {
            return;
        };
        self.timed.remove(&(flush_at, key.clone()));
        // When it was put there, its back-off began.
        let since = flush_at.checked_sub(UNSCHEDULABLE_MAX).unwrap_or(now);
        let at = since + backoff(entry.attempts);
        if at <= now {
            entry.place = Place::Active;
            self.active.insert((entry.rank, key.clone()));
        } else {
            entry.place = Place::Backoff {
                until: at,
                failed: false,
            };
            self.timed.insert((at, key.clone()));
        }
    }

    fn due(&mut self, now: Instant) {
        while let Some((at, _)) = self.timed.first()
            && *at <= now
        {
            let Some((_, key)) = self.timed.pop_first() else { break };
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.place = Place::Active;
                self.active.insert((entry.rank, key));
            }
        }
    }

    /// When `pop` may next give something that it does not give now.
    pub fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }
}

fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn pod(name: &str, priority: i32) -> Candidate {
        let pod = json!({"metadata": {"namespace": "d", "name": name, "uid": name}, "spec": {"containers": [], "priority": priority}});
        Candidate::new(Arc::new(serde_json::from_value(pod).expect("a pod")))
    }

    fn popped(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.pop(now).map(|candidate| candidate.info.key.1.clone())
    }

    #[test]
    fn higher_priority_first_then_older() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 10), ("c", 10)] {
            queue.add(pod(name, priority), now);
        }
        let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
        assert_eq!(order, ["b", "c", "a"]);
    }

    #[test]
    fn an_unschedulable_pod_waits_for_an_event() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        let key = queue.pop(now).expect("a pod").info.key.clone();
        queue.unschedulable(&key, now);
        assert_eq!(
            popped(&mut queue, now + Duration::from_secs(100)),
            None,
            "no event came"
        );
        queue.wake(now + Duration::from_millis(500));
        assert_eq!(
            popped(&mut queue, now + Duration::from_millis(500)),
            Some("a".into()),
            "nothing else waits"
        );
    }

    #[test]
    fn a_woken_pod_lets_others_go_first_until_its_backoff_is_over() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 10), now);
        let key = queue.pop(now).expect("a pod").info.key.clone();
        queue.unschedulable(&key, now);
        queue.wake(now);
        queue.add(pod("b", 0), now);
        assert_eq!(popped(&mut queue, now), Some("b".into()));
        queue.add(pod("c", 0), now);
        assert_eq!(
            popped(&mut queue, now + BACKOFF_MIN),
            Some("a".into()),
            "its priority counts again"
        );
    }

    #[test]
    fn after_an_error_the_backoff_is_sat_out() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        let key = queue.pop(now).expect("a pod").info.key.clone();
        queue.failed(&key, now);
        assert_eq!(popped(&mut queue, now + Duration::from_millis(900)), None);
        assert_eq!(queue.next_due(), Some(now + BACKOFF_MIN));
        assert_eq!(popped(&mut queue, now + BACKOFF_MIN), Some("a".into()));
    }

    #[test]
    fn without_any_event_it_is_tried_after_five_minutes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        let key = queue.pop(now).expect("a pod").info.key.clone();
        queue.unschedulable(&key, now);
        assert_eq!(popped(&mut queue, now + UNSCHEDULABLE_MAX), Some("a".into()));
    }

    #[test]
    fn backoff_doubles_to_its_bound() {
        assert_eq!([1, 2, 3, 4, 5, 40].map(|n| backoff(n).as_secs()), [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_removed_pod_does_not_come_back() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        let key = queue.pop(now).expect("a pod").info.key.clone();
        queue.remove(&key);
        queue.failed(&key, now);
        assert_eq!(popped(&mut queue, now + BACKOFF_MAX), None);
        assert_eq!(queue.next_due(), None);
    }
}
