//! The real store: one Raft group over our log, state machine and snapshots. Owns
//! opening, closing, and the two background jobs (history's age, snapshots by size).
//! One voter for now; the network to others comes with the second.

mod leases;

use crate::applied::AppliedState;
use crate::codec::{Plain, Seal};
use crate::contract::*;
use crate::lessor::Lessor;
use crate::log::{Log, SEGMENT_BYTES};
use crate::machine::{Machine, Snapshots};
use crate::mvcc::{State, check_limits, txn_bytes};
use crate::raft_network::NoPeers;
use crate::raft_types::*;
use crate::seal::{Encrypted, Encryption};
use crate::state_db::{Persister, StateDb};
use bytes::Bytes;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{BasicNode, Config, Raft, SnapshotPolicy};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Bytes of transactions under way at once. They must fit the spare segment.
const INFLIGHT_BYTES: usize = 6 << 20;

/// Log on disk before a snapshot is thought of.
const SNAPSHOT_LOG_BYTES: u64 = 3 * SEGMENT_BYTES;

/// A snapshot that failed (disk full, say) is tried again after this.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(30);

/// How long opening waits to become leader; with one voter it takes two syncs.
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The store's own directory; made if absent.
    pub dir: PathBuf,
    /// This server's number in the Raft group, never reused.
    pub node_id: u64,
    /// The oldest history that is kept.
    pub history: Duration,
    /// What is encrypted on the disk; `None`: nothing.
    pub encryption: Option<Encryption>,
}

impl StoreConfig {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        StoreConfig {
            dir: dir.into(),
            node_id: 1,
            history: Duration::from_secs(300),
            encryption: None,
        }
    }
}

pub struct RaftStore {
    raft: Raft<Types, Machine>,
    applied: Arc<AppliedState>,
    log: Log,
    snapshots: Arc<Snapshots>,
    persister: Arc<Persister>,
    lessor: Arc<Lessor>,
    inflight: Semaphore,
    closed: AtomicBool,
    jobs: Mutex<Vec<JoinHandle<()>>>,
    /// Held as long as the store lives; its lock keeps other processes out.
    lock: File,
}

fn io(action: &str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let action = format!("{action} {}", path.display());
    move |source| StoreError::Io { action, source }
}

fn make_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io("making", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io("protecting", path))
}

fn lock_dir(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(io("opening", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::Error(source)) => Err(io("locking", &path)(source)),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Io {
            action: format!(
                "locking {}: another process uses this data directory; stop it first. Locking",
                path.display()
            ),
            source: std::io::ErrorKind::WouldBlock.into(),
        }),
    }
}

/// What was read from the disk, before Raft starts.
struct Parts {
    log: Log,
    applied: Arc<AppliedState>,
    snapshots: Arc<Snapshots>,
    persister: Arc<Persister>,
    seal: Arc<dyn Seal>,
    lock: File,
}

fn load(config: &StoreConfig) -> Result<Parts, StoreError> {
    let [log_dir, state_dir, snapshot_dir] = ["log", "state", "snapshots"].map(|d| config.dir.join(d));
    for dir in [&config.dir, &log_dir, &state_dir, &snapshot_dir] {
        make_dir(dir)?;
    }
    let lock = lock_dir(&config.dir)?;
    let seal: Arc<dyn Seal> = match &config.encryption {
        Some(encryption) => Arc::new(Encrypted::open(&config.dir, encryption)?),
        None => Arc::new(Plain),
    };
    let (log, db) = std::thread::scope(|scope| {
        let db = scope.spawn(|| StateDb::open(&state_dir, seal.clone()));
        (Log::open(&log_dir, seal.clone()), db.join())
    });
    let log = log?;
    let db = db.map_err(|_| StoreError::Internal("opening the state database failed unexpectedly".into()))??;
    let point = db.point().clone();
    let snapshots = Snapshots::open(&snapshot_dir, point.clone())?;
    let covered = point.last.max(snapshots.last());
    if log.purged() > covered {
        return Err(StoreError::Corrupt {
            file: config.dir.display().to_string(),
            offset: 0,
            why: format!(
                "the log begins behind entry {}, but neither a snapshot nor the state database reaches that far; restore a snapshot file into {}",
                log.purged().map_or(0, |p| p.index),
                snapshot_dir.display()
            ),
        });
    }
    let applied = Arc::new(AppliedState::new(point.state));
    Ok(Parts {
        log,
        applied,
        snapshots,
        persister: Persister::spawn(db)?,
        seal,
        lock,
    })
}

fn raft_config() -> Result<Arc<Config>, StoreError> {
    let config = Config {
        cluster_name: "skiff".into(),
        // One voter has nobody to send heartbeats to and nobody to hear them from: it
        // is made leader by hand, and no timer runs.
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        purge_batch_size: 1,
        ..Config::default()
    };
    Ok(Arc::new(
        config.validate().map_err(|e| StoreError::Internal(e.to_string()))?,
    ))
}

impl RaftStore {
    /// Opens the store, recovers what was acknowledged, and becomes leader.
    pub async fn open(config: StoreConfig) -> Result<Arc<RaftStore>, StoreError> {
        let for_load = config.clone();
        let parts = tokio::task::spawn_blocking(move || load(&for_load)).await;
        let parts = parts.map_err(|e| StoreError::Internal(format!("opening the store: {e}")))??;
        let Parts {
            log,
            applied,
            snapshots,
            persister,
            seal,
            lock,
        } = parts;
        let lessor = Arc::new(Lessor::default());
        lessor.reset(applied.current().leases().iter(), Instant::now());
        let machine = Machine::new(
            applied.clone(),
            log.clone(),
            seal.clone(),
            Some(persister.clone()),
            snapshots.clone(),
            lessor.clone(),
        );
        let id = config.node_id;
        let raft = Raft::new(id, raft_config()?, NoPeers, log.clone(), machine).await;
        let raft = raft.map_err(|e| StoreError::Internal(format!("starting Raft: {e}")))?;
        let store = Arc::new(RaftStore {
            raft,
            applied,
            log,
            snapshots,
            persister,
            lessor,
            inflight: Semaphore::new(INFLIGHT_BYTES),
            closed: AtomicBool::new(false),
            jobs: Mutex::default(),
            lock,
        });
        if let Err(error) = store.lead(id).await {
            store.shutdown().await;
            return Err(error);
        }
        store.start_jobs(config.history, seal);
        Ok(store)
    }

    /// Makes this, the only voter, the leader, and waits until all that the log has is applied.
    async fn lead(&self, id: u64) -> Result<(), StoreError> {
        let fatal = |e: &dyn std::fmt::Display| StoreError::Internal(format!("starting Raft: {e}"));
        if !self.raft.is_initialized().await.map_err(|e| fatal(&e))? {
            let nodes = BTreeMap::from([(id, BasicNode::new(""))]);
            // Which starts an election; a second one would void the first one's votes.
            self.raft.initialize(nodes).await.map_err(|e| fatal(&e))?;
        } else if !self.raft.is_leader() {
            self.raft.trigger().elect(false).await.map_err(|e| fatal(&e))?;
        }
        let leads = self.raft.wait(Some(LEADER_TIMEOUT)).current_leader(id, "leading").await;
        leads.map_err(|e| fatal(&e))?;
        let recovered = self.raft.wait_for_recovery(Some(Duration::from_secs(600))).await;
        recovered.map(|_| ()).map_err(|e| fatal(&e))
    }

    fn start_jobs(self: &Arc<Self>, history: Duration, seal: Arc<dyn Seal>) {
        let (weak, applied) = (Arc::downgrade(self), self.applied.clone());
        let compactor = tokio::spawn(async move {
            loop {
                let current = applied.current();
                let (revision, compacted) = (current.revision(), current.compacted());
                // Holding the state while sleeping would hold its memory.
                drop(current);
                if revision == compacted {
                    applied.changed_from(revision).await;
                    continue;
                }
                // What changed up to now is between half its age and its full age when it goes.
                tokio::time::sleep(history / 2).await;
                let Some(store) = weak.upgrade() else { return };
                if let Err(error) = store.compact(revision).await {
                    tracing::warn!(%error, revision, "could not compact history; trying again later");
                }
            }
        });
        let (weak, log) = (Arc::downgrade(self), self.log.clone());
        let snapshotter = tokio::spawn(async move {
            let mut threshold = SNAPSHOT_LOG_BYTES;
            loop {
                if log.bytes() < threshold {
                    log.grown().await;
                    continue;
                }
                let Some(store) = weak.upgrade() else { return };
                match store.snapshot_and_purge(&seal).await {
                    // A large state is not rewritten for a little log.
                    Ok(bytes) => threshold = log.bytes() + SNAPSHOT_LOG_BYTES.max(bytes),
                    Err(error) => {
                        tracing::warn!(%error, "could not take a snapshot; the log grows until the next attempt");
                        drop(store);
                        tokio::time::sleep(SNAPSHOT_RETRY).await;
                    }
                }
            }
        });
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend([compactor, snapshotter, leases::expire(self)]);
    }

    /// Writes a snapshot and lets go of the log that it covers. Returns its size.
    async fn snapshot_and_purge(&self, seal: &Arc<dyn Seal>) -> Result<u64, StoreError> {
        let (snapshots, seal) = (self.snapshots.clone(), seal.clone());
        let taken = tokio::task::spawn_blocking(move || snapshots.prepare(&*seal)).await;
        let bytes = taken.map_err(|e| StoreError::Internal(format!("taking a snapshot: {e}")))??;
        let fatal = |e| StoreError::Internal(format!("purging the log: {e}"));
        self.raft.trigger().snapshot().await.map_err(fatal)?;
        let Some(last) = self.snapshots.last() else {
            return Ok(bytes);
        };
        let done = self.raft.wait(Some(SNAPSHOT_RETRY)).purged(Some(last), "purged").await;
        done.map(|_| bytes)
            .map_err(|e| StoreError::Internal(format!("purging the log: {e}")))
    }

    /// Ends watches, finishes what is under way, and closes the files.
    pub async fn shutdown(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        for job in self.jobs.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            job.abort();
        }
        self.applied.close();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not end cleanly");
        }
        let persister = self.persister.clone();
        let _ = tokio::task::spawn_blocking(move || persister.close()).await;
        self.log.close().await;
        let _ = self.lock.unlock();
    }

    /// The result of a command; one that makes none answers with an empty one.
    async fn propose(&self, command: Command) -> Result<TxnResult, StoreError> {
        match self.raft.client_write(command).await {
            Ok(written) => match written.data {
                Response::Txn(result) => Ok(result),
                Response::Done => Ok(TxnResult::default()),
                Response::Refused(refused) => Err(refused.into()),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(StoreError::NoLeader),
            Err(RaftError::APIError(error)) => Err(StoreError::Internal(error.to_string())),
            Err(RaftError::Fatal(error)) => {
                if self.closed.load(Ordering::Acquire) {
                    return Err(StoreError::Closed);
                }
                self.log.check()?;
                Err(StoreError::ReadOnly(format!(
                    "Raft has stopped ({error}); restart the server"
                )))
            }
        }
    }

    fn check_open(&self) -> Result<(), StoreError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(StoreError::Closed),
            false => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl Store for RaftStore {
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.check_open()?;
        check_limits(&txn)?;
        let bytes = txn_bytes(&txn) + 64;
        let _permit = self
            .inflight
            .acquire_many(bytes as u32)
            .await
            .map_err(|_| StoreError::Closed)?;
        self.log.reserve(INFLIGHT_BYTES as u64).await?;
        self.propose(Command::Txn(Arc::new(txn))).await
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.applied.current()
    }

    fn snapshot_at(&self, revision: Revision) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(self.applied.at(revision)?)
    }

    async fn snapshot_linearizable(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.check_open()?;
        // The only voter applies before it acknowledges, so what is published has all
        // that anybody was told of. With more voters this asks for the read index.
        Ok(self.applied.current())
    }

    async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(self.applied.wait_for(revision, timeout).await?)
    }

    fn watch(&self, prefix: Bytes, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.check_open()?;
        self.applied.watch(prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.check_open()?;
        let current: Arc<State> = self.applied.current();
        if revision > current.revision() {
            return Err(StoreError::FutureRevision {
                asked: revision,
                current: current.revision(),
            });
        }
        if revision <= current.compacted() {
            return Ok(());
        }
        drop(current);
        self.log.reserve(INFLIGHT_BYTES as u64).await?;
        self.propose(Command::Compact(revision)).await.map(|_| ())
    }

    fn compacted(&self) -> Revision {
        self.applied.current().compacted()
    }
}
