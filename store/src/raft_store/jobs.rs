//! What goes on behind: history is compacted by age, snapshots are taken and the log
//! purged by size, and what Raft says of who leads is followed. All sleep while nothing happens.

use super::{RaftStore, gather, leases, read, room};
use crate::codec::Seal;
use crate::contract::{Store, StoreError};
use crate::host;
use crate::raft_types::LogId;
use openraft::async_runtime::watch::WatchReceiver;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Segments of log on disk before a snapshot is thought of.
const SNAPSHOT_SEGMENTS: u64 = 3;

/// A snapshot that failed (disk full, say) is tried again after this.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(30);

impl RaftStore {
    pub(super) fn start_jobs(
        self: &Arc<Self>,
        history: Duration,
        seal: Arc<dyn Seal>,
        asked: mpsc::UnboundedReceiver<read::Asked>,
    ) {
        let weak = || Arc::downgrade(self);
        let jobs = [
            host::spawn(compact(weak(), history)),
            host::spawn(take_snapshots(weak(), seal)),
            host::spawn(follow(weak())),
            host::spawn(gather::carry(weak())),
            host::spawn(room::keep(weak())),
            host::spawn(read::serve(weak(), asked)),
            leases::expire(self),
        ];
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).extend(jobs);
    }

    /// Writes a snapshot and lets go of the log that it covers. Returns its size.
    pub(super) async fn snapshot_and_purge(&self, seal: &Arc<dyn Seal>) -> Result<u64, StoreError> {
        let before: Option<LogId> = self.snapshots.last();
        let (snapshots, seal) = (self.snapshots.clone(), seal.clone());
        let taken = host::blocking(move || snapshots.prepare(&*seal)).await;
        let bytes = taken.map_err(|e| StoreError::Internal(format!("taking a snapshot: {e}")))??;
        let fatal = |e| StoreError::Internal(format!("taking a snapshot: {e}"));
        self.raft.trigger().snapshot().await.map_err(fatal)?;
        let Some(last) = self.snapshots.last() else {
            return Ok(bytes);
        };
        let fatal = |e: &dyn std::fmt::Display| StoreError::Internal(format!("purging the log: {e}"));
        // Others that lag a little catch up from the log: it keeps what came since the
        // snapshot before this one.
        let upto = match self.alone.load(Ordering::Acquire) {
            true => Some(last),
            false => before,
        };
        let Some(upto) = upto else { return Ok(bytes) };
        let known = self.raft.wait(Some(SNAPSHOT_RETRY)).snapshot(last, "taken").await;
        known.map_err(|e| fatal(&e))?;
        self.raft.trigger().purge_log(upto.index).await.map_err(|e| fatal(&e))?;
        let purged = self.raft.wait(Some(SNAPSHOT_RETRY));
        let purged = purged.metrics(|m| m.purged >= Some(upto), "purged").await;
        purged.map(|_| bytes).map_err(|e| fatal(&e))
    }
}

/// Keeps history between half its age and its full age. The leader's work.
async fn compact(store: Weak<RaftStore>, history: Duration) {
    loop {
        let Some((applied, mut leadership)) = store.upgrade().map(|s| (s.applied.clone(), s.leadership.subscribe()))
        else {
            return;
        };
        if leadership.wait_for(|l| l.here).await.is_err() {
            return;
        }
        let (revision, compacted) = (applied.published(), applied.compacted());
        // With an alarm nothing may change any more until it is taken back.
        if revision == compacted && !applied.alarmed() {
            applied.changed_from(revision).await;
            continue;
        }
        tokio::time::sleep(history / 2).await;
        let Some(store) = store.upgrade() else { return };
        if !store.leads() {
            continue;
        }
        if let Err(error) = store.compact(revision).await {
            tracing::warn!(%error, revision, "could not compact history; trying again later");
        }
        store.relieve().await;
    }
}

async fn take_snapshots(store: Weak<RaftStore>, seal: Arc<dyn Seal>) {
    let of = |s: Arc<RaftStore>| (s.log.clone(), SNAPSHOT_SEGMENTS * s.config.segment_bytes);
    let Some((log, least)) = store.upgrade().map(of) else {
        return;
    };
    let mut threshold = least;
    loop {
        if log.bytes() < threshold {
            log.grown().await;
            continue;
        }
        let Some(store) = store.upgrade() else { return };
        match store.snapshot_and_purge(&seal).await {
            // A large state is not rewritten for a little log.
            Ok(bytes) => threshold = log.bytes() + least.max(bytes),
            Err(error) => {
                tracing::warn!(%error, "could not take a snapshot; the log grows until the next attempt");
                drop(store);
                tokio::time::sleep(SNAPSHOT_RETRY).await;
            }
        }
    }
}

async fn follow(store: Weak<RaftStore>) {
    let Some(mut metrics) = store.upgrade().map(|s| s.raft.server_metrics()) else {
        return;
    };
    loop {
        if metrics.changed().await.is_err() {
            return;
        }
        let _ = metrics.borrow_and_update();
        let Some(store) = store.upgrade() else { return };
        store.follow_metrics();
        if !store.alone.load(Ordering::Acquire)
            && let Err(error) = store.once.count().await
        {
            tracing::warn!(%error, "this server's starts could not be counted; its first write tries again");
        }
    }
}
