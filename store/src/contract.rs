//! The store's contract: what the API server may rely on, whatever keeps the
//! data. Shapes and meanings follow etcd's (revision, create/mod revision,
//! version, transactions, ranges, watches, compaction).

use crate::pairs::Pairs;
use bytes::Bytes;
use std::sync::Arc;

/// The global, strictly growing counter of committed transactions.
pub type Revision = u64;

/// What lies beside a value's bytes so that lists, watches and writers of
/// responses need not parse them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Labels of the object, sorted by key.
    pub labels: Pairs,
    /// Selectable fields (`spec.nodeName`, ...), without metadata.name/namespace.
    pub fields: Pairs,
    /// Byte offset in the body where `"resourceVersion":"<mod revision>",` belongs.
    pub rv_offset: u32,
}

/// A value to be written: opaque bytes and their header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub header: Arc<Header>,
    pub body: Bytes,
}

/// A stored key with its value and revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    pub record: Record,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// Number of writes since creation; 1 for a new key.
    pub version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// Mod revision of the key equals this; 0 means that the key is absent.
    ModRevision(Bytes, Revision),
    /// Create revision of the key equals this; 0 means absent.
    CreateRevision(Bytes, Revision),
    /// Version of the key equals this; 0 means absent.
    Version(Bytes, u64),
    /// Body of the key equals these bytes (false when absent).
    Body(Bytes, Bytes),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Put {
        key: Bytes,
        record: Record,
    },
    /// Deleting an absent key is no error and makes no event.
    Delete {
        key: Bytes,
    },
    DeletePrefix {
        prefix: Bytes,
    },
    /// Reads the key as the transaction sees it.
    Get {
        key: Bytes,
    },
}

/// `then` runs if all of `compare` hold, else `or_else`; all or nothing. A
/// transaction that changes something takes exactly one new revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<Op>,
    pub or_else: Vec<Op>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// What the key held before; the new mod revision is the transaction's.
    Put {
        previous: Option<Arc<Entry>>,
    },
    Deleted {
        previous: Vec<Arc<Entry>>,
    },
    Got(Option<Arc<Entry>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnResult {
    pub succeeded: bool,
    /// The store's revision after the transaction.
    pub revision: Revision,
    pub results: Vec<OpResult>,
}

/// One change of one key, shared by all watchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    pub key: Bytes,
    /// The new entry; `None` for a deletion.
    pub entry: Option<Arc<Entry>>,
    /// What was there before; `None` for a creation.
    pub previous: Option<Arc<Entry>>,
}

#[derive(Debug, Clone, Default)]
pub struct Page {
    pub entries: Vec<Arc<Entry>>,
    /// Number of keys under the prefix behind the last one returned.
    pub remaining: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("revision {asked} has been compacted; the oldest kept is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("revision {asked} is ahead of this server's {current}")]
    FutureRevision { asked: Revision, current: Revision },
    #[error("the store has no leader that answers")]
    NoLeader,
    #[error("the store stopped accepting writes: {0}")]
    ReadOnly(String),
    #[error("the request is too large: {bytes} bytes, at most {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("the store is shutting down")]
    Closed,
    #[error("{action} failed")]
    Io {
        action: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{file} is corrupt at offset {offset}: {why}")]
    Corrupt { file: String, offset: u64, why: String },
    #[error("{0}")]
    Internal(String),
}

/// A consistent view at one revision: O(1) to take, never blocks writers.
pub trait Snapshot: Send + Sync {
    fn revision(&self) -> Revision;
    fn get(&self, key: &[u8]) -> Option<Arc<Entry>>;
    /// Keys that start with `prefix`, in order, strictly after `start_after`
    /// (if any), at most `limit` (0: all).
    fn range(&self, prefix: &[u8], start_after: Option<&[u8]>, limit: usize) -> Page;
    fn count(&self, prefix: &[u8]) -> usize;
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
