//! The scheduling queue: which pod is tried next. Pure: time is an argument.
//!
//! ```text
//!  gated --(gates gone)--> active --pop--> (an attempt) --failed--> backoff --(time)--> active
//!                             ^                |
//!                             |           unschedulable --(a change that may help)--> backoff or active
//!                             '--------------- '--(five minutes)
//! ```

use crate::filter::Candidate;
use crate::plugin::Plugin;
use crate::snapshot::PodKey;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A pod that no event woke is tried again after this (upstream's 5 minutes).
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// How long a pod that was tried in vain lets others go first: doubled per attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    /// Upstream's podInitialBackoffSeconds and podMaxBackoffSeconds.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    fn after(self, attempts: u32) -> Duration {
        if attempts == 0 {
            return Duration::ZERO;
        }
        let doublings = (attempts - 1).min(16);
        self.initial.saturating_mul(1 << doublings).min(self.max)
    }
}

/// A set of plugins, small enough to compare with at every event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plugins(u32);

impl Plugins {
    pub const NONE: Self = Self(0);
    /// Whatever refused a pod.
    pub const ANY: Self = Self(u32::MAX);

    pub fn with(self, plugin: Plugin) -> Self {
        Self(self.0 | 1 << plugin as u32)
    }

    pub fn contains(self, plugin: Plugin) -> bool {
        self.0 & 1 << plugin as u32 != 0
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl FromIterator<Plugin> for Plugins {
    fn from_iter<I: IntoIterator<Item = Plugin>>(plugins: I) -> Self {
        plugins.into_iter().fold(Self::NONE, Self::with)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its gates are closed.
    Gated,
    Active,
    /// Woken, or after an error; only the former may be taken early.
    Backoff {
        until: Instant,
        failed: bool,
    },
    /// `refused_by` says what would have to change.
    Unschedulable {
        since: Instant,
        refused_by: Plugins,
    },
    /// Room is being made for it: nothing wakes it until that is done.
    MakingRoom,
    /// Handed out; back by `failed` or `unschedulable`, or gone by `remove`.
    InFlight,
}

#[derive(Debug)]
struct Entry {
    /// `None` while gated: what is waiting only for a gate need not be kept.
    candidate: Option<Candidate>,
    uid: String,
    /// Higher priority first, then longer in the queue.
    rank: (i64, u64),
    attempts: u32,
    /// When it could first be tried.
    added: Option<Instant>,
    /// Its last attempt was before its back-off was over.
    early: bool,
    place: Place,
}

/// A pod to be tried now.
#[derive(Debug, Clone)]
pub struct Popped {
    pub candidate: Candidate,
    /// This one included.
    pub attempts: u32,
    pub added: Instant,
}

/// How many pods are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

#[derive(Debug, Default)]
pub struct Queue {
    entries: BTreeMap<PodKey, Entry>,
    active: BTreeSet<((i64, u64), PodKey)>,
    timed: BTreeSet<(Instant, PodKey)>,
    /// Of the timed ones, those that may be taken early.
    woken: BTreeSet<(Instant, PodKey)>,
    /// The unschedulable ones by what refused them, so that a change looks at few.
    refused: BTreeMap<Plugins, BTreeSet<PodKey>>,
    backoff: Backoff,
    gated: usize,
    sequence: u64,
}

impl Queue {
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            ..Self::default()
        }
    }

    /// Adds a pod, or takes its new state. A changed pod that was unschedulable
    /// is tried again, since the change may help. True if it is new or tried again.
    pub fn add(&mut self, candidate: Candidate, now: Instant) -> bool {
        let key = candidate.info.key.clone();
        let Some(entry) = self.same(&key, &candidate.info.uid) else {
            self.insert(key, Some(candidate), now);
            return true;
        };
        let Some(old) = entry.candidate.replace(candidate) else {
            // Its gates are open.
            let rank = (priority(entry.candidate.as_ref()), entry.rank.1);
            entry.rank = rank;
            entry.added = Some(now);
            entry.place = Place::Active;
            self.gated -= 1;
            self.active.insert((rank, key));
            return true;
        };
        let Some(candidate) = &entry.candidate else {
            return false;
        };
        let changed = old.pod.spec != candidate.pod.spec
            || old.info.labels != candidate.info.labels
            || old.devices != candidate.devices;
        let waits = matches!(entry.place, Place::Unschedulable { .. });
        if changed && waits {
            self.ready_after_backoff(&key, now);
        }
        changed && waits
    }

    /// Takes note of a pod that may not be tried yet.
    pub fn add_gated(&mut self, key: PodKey, uid: &str, now: Instant) {
        if self.same(&key, uid).is_none() {
            self.insert_as(key, None, uid, now);
        }
    }

    /// The pod's entry; one of an earlier pod of that name goes.
    fn same(&mut self, key: &PodKey, uid: &str) -> Option<&mut Entry> {
        if self.entries.get(key).is_some_and(|entry| entry.uid != uid) {
            self.remove(key);
        }
        self.entries.get_mut(key)
    }

    fn insert(&mut self, key: PodKey, candidate: Option<Candidate>, now: Instant) {
        let uid = candidate.as_ref().map(|c| c.info.uid.clone()).unwrap_or_default();
        self.insert_as(key, candidate, &uid, now);
    }

    fn insert_as(&mut self, key: PodKey, candidate: Option<Candidate>, uid: &str, now: Instant) {
        self.sequence += 1;
        let rank = (priority(candidate.as_ref()), self.sequence);
        let gated = candidate.is_none();
        if gated {
            self.gated += 1;
        } else {
            self.active.insert((rank, key.clone()));
        }
        let entry = Entry {
            uid: uid.to_string(),
            rank,
            attempts: 0,
            added: (!gated).then_some(now),
            early: false,
            place: if gated { Place::Gated } else { Place::Active },
            candidate,
        };
        self.entries.insert(key, entry);
    }

    pub fn remove(&mut self, key: &PodKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.leave(key, entry.rank, entry.place);
        }
    }

    /// The pod is no longer found where it was.
    fn leave(&mut self, key: &PodKey, rank: (i64, u64), place: Place) {
        match place {
            Place::Gated => self.gated -= 1,
            Place::Active => {
                self.active.remove(&(rank, key.clone()));
            }
            Place::Backoff { until, .. } => {
                self.timed.remove(&(until, key.clone()));
                self.woken.remove(&(until, key.clone()));
            }
            Place::Unschedulable { since, refused_by } => {
                self.timed.remove(&(since + UNSCHEDULABLE_MAX, key.clone()));
                if let Some(keys) = self.refused.get_mut(&refused_by) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.refused.remove(&refused_by);
                    }
                }
            }
            Place::MakingRoom | Place::InFlight => {}
        }
    }

    fn enter(&mut self, key: &PodKey, place: Place) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let (before, rank) = (std::mem::replace(&mut entry.place, place), entry.rank);
        self.leave(key, rank, before);
        match place {
            Place::Active => {
                self.active.insert((rank, key.clone()));
            }
            Place::Backoff { until, failed } => {
                self.timed.insert((until, key.clone()));
                let again = self.entries.get(key).is_some_and(|entry| entry.early);
                if !failed && !again {
                    self.woken.insert((until, key.clone()));
                }
            }
            Place::Unschedulable { since, refused_by } => {
                self.timed.insert((since + UNSCHEDULABLE_MAX, key.clone()));
                self.refused.entry(refused_by).or_default().insert(key.clone());
            }
            Place::Gated => self.gated += 1,
            Place::MakingRoom | Place::InFlight => {}
        }
    }

    /// The next pod to try. When nothing else waits, one that an event woke need
    /// not sit out its back-off: that only keeps it from crowding out others
    /// (upstream's SchedulerPopFromBackoffQ). Twice in a row it may not: then
    /// events that help nothing would keep it busy.
    pub fn pop(&mut self, now: Instant) -> Option<Popped> {
        self.due(now);
        let early = self.active.is_empty();
        let key = match early {
            false => self.active.first().map(|(_, key)| key.clone()),
            true => self.woken.first().map(|(_, key)| key.clone()),
        }?;
        self.enter(&key, Place::InFlight);
        let entry = self.entries.get_mut(&key)?;
        entry.attempts = entry.attempts.saturating_add(1);
        entry.early = early;
        Some(Popped {
            candidate: entry.candidate.clone()?,
            attempts: entry.attempts,
            added: entry.added.unwrap_or(now),
        })
    }

    /// No node would do: wait for a change that may help.
    pub fn unschedulable(&mut self, key: &PodKey, refused_by: Plugins, now: Instant) {
        self.put_back(key, |_| Place::Unschedulable { since: now, refused_by });
    }

    /// What it waits for is under way: it is tried as soon as one of these plugins sees that, whatever was in vain before.
    pub fn expecting(&mut self, key: &PodKey, by: Plugins, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.attempts = 0;
        }
        self.unschedulable(key, by, now);
    }

    /// It could not even be tried, which does not count as an attempt.
    pub fn held(&mut self, key: &PodKey, by: Plugins, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.attempts = entry.attempts.saturating_sub(1);
        }
        self.unschedulable(key, by, now);
    }

    /// Pods of lower priority are being removed for it.
    pub fn making_room(&mut self, key: &PodKey) {
        self.put_back(key, |_| Place::MakingRoom);
    }

    /// That is done. Tried at once if the room is there, otherwise when more pods are gone.
    pub fn made_room(&mut self, key: &PodKey, there: bool, now: Instant) {
        if self
            .entries
            .get(key)
            .is_some_and(|entry| entry.place == Place::MakingRoom)
        {
            let place = match there {
                true => Place::Active,
                false => Place::Unschedulable {
                    since: now,
                    refused_by: Plugins::ANY,
                },
            };
            self.enter(key, place);
        }
    }

    /// It was waiting for something that could not be done: try again after back-off.
    pub fn held_in_vain(&mut self, key: &PodKey, now: Instant) {
        let entry = self.entries.get(key).filter(|entry| entry.place == Place::MakingRoom);
        if let Some(attempts) = entry.map(|entry| entry.attempts) {
            let until = now + self.backoff.after(attempts);
            self.enter(key, Place::Backoff { until, failed: true });
        }
    }

    /// Something else went wrong (binding failed): try again after back-off.
    pub fn failed(&mut self, key: &PodKey, now: Instant) {
        let backoff = self.backoff;
        self.put_back(key, |attempts| Place::Backoff {
            until: now + backoff.after(attempts),
            failed: true,
        });
    }

    /// Behind the others of its priority.
    fn put_back(&mut self, key: &PodKey, place: impl Fn(u32) -> Place) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.place == Place::InFlight {
            self.sequence += 1;
            entry.rank.1 = self.sequence;
            let place = place(entry.attempts);
            self.enter(key, place);
        }
    }

    /// Something changed that may help those which one of these plugins refused, if
    /// `helps` says so of the pod: they get ready, those tried lately after their back-off.
    pub fn wake(&mut self, plugins: Plugins, now: Instant, helps: impl Fn(&Candidate, Plugins) -> bool) -> usize {
        let mut found: Vec<PodKey> = Vec::new();
        for (refused_by, keys) in self.refused.iter().filter(|(by, _)| by.meets(plugins)) {
            let of = |key: &&PodKey| self.entries.get(*key).and_then(|entry| entry.candidate.as_ref());
            found.extend(
                keys.iter()
                    .filter(|key| of(key).is_some_and(|candidate| helps(candidate, *refused_by)))
                    .cloned(),
            );
        }
        for key in &found {
            self.ready_after_backoff(key, now);
        }
        found.len()
    }

    /// The pod is tried as soon as it is its turn, whatever it waits for.
    pub fn activate(&mut self, key: &PodKey) {
        let waits = |place| matches!(place, Place::Unschedulable { .. } | Place::Backoff { .. });
        if self.entries.get(key).is_some_and(|entry| waits(entry.place)) {
            self.enter(key, Place::Active);
        }
    }

    fn ready_after_backoff(&mut self, key: &PodKey, now: Instant) {
        let Some(entry) = self.entries.get(key) else { return };
        let Place::Unschedulable { since, .. } = entry.place else {
            return;
        };
        // When it was put there, its back-off began.
        let until = since + self.backoff.after(entry.attempts);
        let place = match until <= now {
            true => Place::Active,
            false => Place::Backoff { until, failed: false },
        };
        self.enter(key, place);
    }

    fn due(&mut self, now: Instant) {
        while let Some((at, key)) = self.timed.first()
            && *at <= now
        {
            let key = key.clone();
            self.enter(&key, Place::Active);
        }
    }

    /// When `pop` may next give something that it does not give now.
    pub fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }

    /// Whether `pop` gives something now.
    pub fn is_ready(&self, now: Instant) -> bool {
        !self.active.is_empty() || !self.woken.is_empty() || self.next_due().is_some_and(|at| at <= now)
    }

    pub fn contains(&self, key: &PodKey) -> bool {
        self.entries.contains_key(key)
    }

    /// Keys of all pods, wherever they are.
    pub fn keys(&self) -> impl Iterator<Item = &PodKey> {
        self.entries.keys()
    }

    pub fn uid(&self, key: &PodKey) -> Option<&str> {
        self.entries.get(key).map(|entry| entry.uid.as_str())
    }

    pub fn candidate(&self, key: &PodKey) -> Option<&Candidate> {
        self.entries.get(key)?.candidate.as_ref()
    }

    pub fn counts(&self) -> Counts {
        let unschedulable = self.refused.values().map(BTreeSet::len).sum();
        Counts {
            active: self.active.len(),
            backoff: self.timed.len() - unschedulable,
            unschedulable,
            gated: self.gated,
        }
    }
}

/// Sorts the higher first.
fn priority(candidate: Option<&Candidate>) -> i64 {
    -i64::from(candidate.map_or(0, |candidate| candidate.info.priority))
}

#[cfg(test)]
#[path = "queue_test.rs"]
mod tests;
