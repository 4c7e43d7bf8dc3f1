//! The applied state of one server as readers and watchers see it: one writer applies,
//! everybody else reads the latest published state without a lock. Owns publication
//! order; must not decide what a transaction does nor when it is durable.

use crate::contract::*;
use crate::hub::Hub;
use crate::mvcc::State;
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Past states kept so that the pages of a list do not undo the same events again.
const PAST_STATES_MAX: usize = 8;

pub struct AppliedState {
    /// The writer's copy, ahead of `current` while a batch is being applied.
    writer: Mutex<State>,
    current: ArcSwap<State>,
    past: Mutex<VecDeque<Arc<State>>>,
    hub: Arc<Hub>,
    revision: watch::Sender<Revision>,
}

impl AppliedState {
    pub fn new(state: State) -> Self {
        let revision = state.revision();
        AppliedState {
            writer: Mutex::new(state.clone()),
            current: ArcSwap::from_pointee(state),
            past: Mutex::default(),
            hub: Hub::new(revision),
            revision: watch::Sender::new(revision),
        }
    }

    /// Applies and publishes what `change` does as one step: readers see all of it or nothing.
    pub fn apply<R>(&self, change: impl FnOnce(&mut State, &mut Vec<Arc<Event>>) -> R) -> R {
        let mut state = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        let result = change(&mut state, &mut events);
        let revision = state.revision();
        // The state first: who learns of an event finds it in a snapshot.
        self.current.store(Arc::new(state.clone()));
        self.hub.publish(&events, revision);
        drop(state);
        self.revision
            .send_if_modified(|r| std::mem::replace(r, revision) != revision);
        result
    }

    /// Replaces everything, as after a snapshot from another server. Watchers are
    /// closed, for events that they have not seen may be missing; they resume by revision.
    pub fn replace(&self, state: State) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        *writer = state.clone();
        let revision = state.revision();
        self.current.store(Arc::new(state));
        self.past.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.hub.reset(revision);
        drop(writer);
        self.revision.send_replace(revision);
    }

    pub fn current(&self) -> Arc<State> {
        self.current.load_full()
    }

    /// The present state for a look: cheaper than to own it.
    pub fn peek(&self) -> arc_swap::Guard<Arc<State>> {
        self.current.load()
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
            let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Returns when the revision is no longer `known`.
    pub async fn changed_from(&self, known: Revision) {
        let mut receiver = self.revision.subscribe();
        let _ = receiver.wait_for(|r| *r != known).await;
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
