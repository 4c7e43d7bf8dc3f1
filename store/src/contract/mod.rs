//! The store's contract: what the API server may rely on, whatever keeps the
//! data. Shapes and meanings follow etcd's (revision, create/mod revision,
//! version, transactions, ranges, watches, leases, compaction).

mod data;
mod entry;
mod error;
mod txn;

pub use data::*;
pub use entry::{Entry, Numbers};
pub use error::*;
pub use txn::*;

use bytes::Bytes;
use std::sync::Arc;

/// A consistent view at one revision: O(1) to take, never blocks writers.
pub trait Snapshot: Send + Sync {
    fn revision(&self) -> Revision;
    fn get(&self, key: &[u8]) -> Option<Entry>;
    /// Keys that start with `prefix`, in order, strictly after `start_after`
    /// (if any), at most `limit` (0: all).
    fn range(&self, prefix: &[u8], start_after: Option<&[u8]>, limit: usize) -> Page;
    fn count(&self, prefix: &[u8]) -> usize;
    /// Keys of any range, in order, at most `limit` (0: all), with their whole number.
    fn find(&self, range: &KeyRange, limit: usize) -> Found;
    /// Highest mod revision of a change (deletions too) under the prefix that
    /// is still known; used to cache what derives from a kind's objects.
    fn last_change(&self, prefix: &[u8]) -> Revision;
}

/// A stream of changes in revision order.
#[async_trait::async_trait]
pub trait Watch: Send {
    /// Next batch: events of whole revisions, never split. An empty batch is a
    /// progress report: nothing before `revision` is missing. `None`: closed
    /// because the consumer was too slow or the store shuts down; the consumer
    /// resumes from the last revision it saw.
    async fn next(&mut self) -> Option<WatchBatch>;
}

#[derive(Debug, Clone, Default)]
pub struct WatchBatch {
    pub revision: Revision,
    pub events: Vec<Arc<Event>>,
}

#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Returns when the transaction is on stable storage on a majority and applied here.
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError>;

    /// Latest applied state of this server.
    fn snapshot(&self) -> Arc<dyn Snapshot>;

    /// State at a past revision that is not compacted.
    fn snapshot_at(&self, revision: Revision) -> Result<Arc<dyn Snapshot>, StoreError>;

    /// Linearizable: waits until this server has applied all that was committed
    /// when the call was made. Free of I/O with a single voter.
    async fn snapshot_linearizable(&self) -> Result<Arc<dyn Snapshot>, StoreError>;

    /// Waits until this server has applied `revision`; `FutureRevision` after the timeout.
    async fn wait_for(&self, revision: Revision, timeout: std::time::Duration)
    -> Result<Arc<dyn Snapshot>, StoreError>;

    /// Changes under `prefix` with a revision greater than `after`.
    fn watch(&self, prefix: Bytes, after: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// Forgets history before `revision`, on every server.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// Oldest revision that can still be read or resumed from.
    fn compacted(&self) -> Revision;
}
