//! A store that lives in memory only: the real state machine without Raft and disk.
//! For tests of whatever needs a `Store`, and for nothing that must last.

use crate::applied::AppliedState;
use crate::contract::*;
use crate::mvcc::check_limits;
use crate::snapshot::Point;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub struct MemoryStore {
    applied: AppliedState,
    closed: AtomicBool,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        MemoryStore {
            applied: AppliedState::new(Point::default()),
            closed: AtomicBool::new(false),
        }
    }

    /// Ends all watches and refuses further transactions.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.applied.close();
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        check_limits(&txn)?;
        let result = self.applied.apply(|point, events| {
            let applied = point.state.apply(&txn)?;
            *events = applied.events;
            Ok::<_, Refused>(applied.result)
        });
        Ok(result?)
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.applied.current()
    }

    fn snapshot_at(&self, revision: Revision) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(self.applied.at(revision)?)
    }

    async fn snapshot_linearizable(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(self.applied.current())
    }

    async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(self.applied.wait_for(revision, timeout).await?)
    }

    fn watch(&self, prefix: Bytes, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.applied.watch(prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let current = self.applied.published();
        if revision > current {
            return Err(StoreError::FutureRevision {
                asked: revision,
                current,
            });
        }
        self.applied.apply(|point, _| point.state.compact(revision));
        Ok(())
    }

    fn compacted(&self) -> Revision {
        self.applied.compacted()
    }
}
