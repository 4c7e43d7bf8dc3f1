//! The applied state of one server as readers and watchers see it: one writer applies,
//! everybody else reads the latest published state, without a lock where reads are frequent. Owns publication
//! order; must not decide what a transaction does nor when it is durable.

use crate::contract::*;
use crate::hub::Hub;
use crate::mvcc::State;
use crate::snapshot::Point;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Past states kept so that the pages of a list do not undo the same events again.
const PAST_STATES_MAX: usize = 8;

pub struct AppliedState {
    /// What is applied, and the place in the log that it stands for.
    writer: Mutex<Point>,
    /// What readers see. Where nobody reads between two writes there is none, for a write has to
    /// copy what somebody sees: the next reader has it made from the writer's.
    current: ArcSwapOption<State>,
    /// Somebody has seen the current one.
    seen: AtomicBool,
    bytes: AtomicU64,
    compacted: AtomicU64,
    alarmed: AtomicBool,
    past: Mutex<VecDeque<Arc<State>>>,
    hub: Arc<Hub>,
    revision: watch::Sender<Revision>,
    /// As `alarmed`, for those who wait for it.
    alarm: watch::Sender<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AppliedState {
    pub fn new(point: Point) -> Self {
        let revision = point.state.revision();
        let applied = AppliedState {
            current: ArcSwapOption::empty(),
            seen: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            compacted: AtomicU64::new(0),
            alarmed: AtomicBool::new(false),
            past: Mutex::default(),
            hub: Hub::new(revision),
            revision: watch::Sender::new(revision),
            alarm: watch::Sender::new(false),
            writer: Mutex::default(),
        };
        applied.tell_figures(&point.state);
        *lock(&applied.writer) = point;
        applied
    }

    fn tell_figures(&self, state: &State) {
        self.bytes.store(state.bytes(), Ordering::Release);
        self.compacted.store(state.compacted(), Ordering::Release);
        let alarmed = !state.alarms().is_empty();
        if self.alarmed.swap(alarmed, Ordering::AcqRel) != alarmed {
            self.alarm.send_replace(alarmed);
        }
    }

    /// Applies and publishes what `change` does as one step: readers see all of it or nothing.
    pub fn apply<R>(&self, change: impl FnOnce(&mut Point, &mut Vec<Arc<Event>>) -> R) -> R {
        let mut point = lock(&self.writer);
        let seen = self.seen.swap(false, Ordering::AcqRel);
        if !seen {
            self.current.store(None);
        }
        let mut events = Vec::new();
        let result = change(&mut point, &mut events);
        let revision = point.state.revision();
        self.tell_figures(&point.state);
        // The state first: who learns of an event finds it in a snapshot.
        if seen {
            self.current.store(Some(Arc::new(point.state.clone())));
        }
        self.hub.publish(&events, revision);
        drop(point);
        self.revision
            .send_if_modified(|r| std::mem::replace(r, revision) != revision);
        result
    }

    /// Replaces everything, as after a snapshot from another server. Watchers are
    /// closed, for events that they have not seen may be missing; they resume by revision.
    pub fn replace(&self, point: Point) {
        let mut writer = lock(&self.writer);
        let revision = point.state.revision();
        self.tell_figures(&point.state);
        self.current.store(None);
        *writer = point;
        lock(&self.past).clear();
        self.hub.reset(revision);
        drop(writer);
        self.revision.send_replace(revision);
    }

    /// All that is applied, with its place in the log. Waits for what is being applied.
    pub fn point(&self) -> Point {
        lock(&self.writer).clone()
    }

    pub fn current(&self) -> Arc<State> {
        if let Some(current) = self.current.load_full() {
            if !self.seen.load(Ordering::Relaxed) {
                self.seen.store(true, Ordering::Release);
            }
            return current;
        }
        let writer = lock(&self.writer);
        self.seen.store(true, Ordering::Release);
        if let Some(current) = self.current.load_full() {
            return current;
        }
        let current = Arc::new(writer.state.clone());
        self.current.store(Some(current.clone()));
        current
    }

    /// Bytes of keys, values and history.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Oldest revision that can be read.
    pub fn compacted(&self) -> Revision {
        self.compacted.load(Ordering::Acquire)
    }

    /// There is an alarm.
    pub fn alarmed(&self) -> bool {
        self.alarmed.load(Ordering::Acquire)
    }

    pub fn published(&self) -> Revision {
        self.hub.revision()
    }

    pub fn at(&self, revision: Revision) -> Result<Arc<State>, StoreError> {
        let current = self.current();
        current.check_revision(revision)?;
        if current.revision() == revision {
            return Ok(current);
        }
        let nearest = {
            let mut past = lock(&self.past);
            past.retain(|p| p.revision() >= current.compacted());
            if let Some(known) = past.iter().find(|p| p.revision() == revision) {
                return Ok(known.clone());
            }
            past.iter()
                .filter(|p| p.revision() > revision)
                .min_by_key(|p| p.revision())
                .cloned()
        };
        // A nearer state of before a compaction still has the events that lead further back.
        let state = Arc::new(nearest.unwrap_or(current).at(revision)?);
        let mut past = lock(&self.past);
        past.push_back(state.clone());
        if past.len() > PAST_STATES_MAX {
            past.pop_front();
        }
        Ok(state)
    }

    pub async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<Arc<State>, StoreError> {
        let mut receiver = self.revision.subscribe();
        // The sender lives in self, so the only failure is the timeout.
        let _ = tokio::time::timeout(timeout, receiver.wait_for(|r| *r >= revision)).await;
        let current = self.current();
        match current.revision() {
            have if have >= revision => Ok(current),
            have => Err(StoreError::FutureRevision {
                asked: revision,
                current: have,
            }),
        }
    }

    /// Returns when the revision is no longer `known`, or there is an alarm of the quota.
    pub async fn changed_from(&self, known: Revision) {
        let (mut revision, mut alarm) = (self.revision.subscribe(), self.alarm.subscribe());
        tokio::select! {
            biased;
            _ = revision.wait_for(|r| *r != known) => {}
            _ = alarm.wait_for(|raised| *raised) => {}
        }
    }

    pub fn watch(&self, prefix: Bytes, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.current().check_revision(after)?;
        let (subscription, standing) = self.hub.subscribe(prefix.clone());
        // Loaded after subscribing, thus at least as new as the cursor's place; checked
        // (again), since a compaction may have passed by.
        let state = self.current();
        state.check_revision(after)?;
        let backlog = state.events(&prefix, after, standing);
        Ok(Box::new(subscription.with_backlog(backlog, after)))
    }

    pub fn close(&self) {
        self.hub.close();
    }
}
