//! The real store: one Raft group over our log, state machine and snapshots. Owns
//! opening and closing; the rest by topics:
//!
//! `propose` brings commands through Raft, once each, and `gather` several in one entry · `leader` asks what only the leader
//! knows, and answers as it · `read` finds out what a read must see · `members` changes who is in the group · `leases` grants and ends them · `quota` stops growth · `jobs`
//! compacts history, takes snapshots, follows who leads · `room` lives with a full disk · `disk` is what opening finds.

mod backup;
mod disk;
mod force;
mod gather;
mod jobs;
mod leader;
mod leases;
mod members;
mod propose;
mod quota;
mod read;
mod room;

pub use force::Forced;
pub(crate) use force::random_number;
pub use members::Member;

use crate::applied::AppliedState;
use crate::codec::Seal;
use crate::contract::*;
use crate::group::Group;
use crate::host::{self, Disk, Lock, OsDisk};
use crate::lessor::Lessor;
use crate::log::Log;
use crate::machine::{Machine, Snapshots};
use crate::mvcc::check_limits;
use crate::once::Once;
use crate::peers::{NoPeers, PeerNetwork, Transport};
use crate::raft_types::*;
use crate::seal::Encryption;
use crate::state_db::Persister;
use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, Raft, SnapshotPolicy};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

/// Size of a segment of the log, unless said otherwise.
pub(crate) const SEGMENT_BYTES: u64 = 8 << 20;

/// How long opening waits to become leader; with one voter it takes two syncs.
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A leader says that it is there, in milliseconds.
const HEARTBEAT_MS: u64 = 100;

/// A leader that was not heard of for the longer of these is given up, and a time drawn
/// from between them later another stands for election: in all less than a second.
const ELECTION_MS: (u64, u64) = (250, 400);

/// A leader that hears from no majority waits and tries by turns of this length.
const PROBE_MS: u64 = 1000;

/// As etcd's largest recommended one: what is in memory is bounded by it too.
pub const QUOTA_BYTES: u64 = 8 << 30;

#[derive(Clone)]
pub struct StoreConfig {
    /// The store's own directory; made if absent.
    pub dir: PathBuf,
    /// This server's number in the Raft group, never reused.
    pub node_id: u64,
    /// Where other servers reach this one.
    pub address: String,
    /// An empty directory is to become part of a group that is there, which its leader
    /// sees to, instead of a group of its own.
    pub join: bool,
    /// The oldest history that is kept.
    pub history: Duration,
    /// Bytes of keys, values and history from which on nothing that grows is taken; 0: no end.
    pub quota_bytes: u64,
    /// What is encrypted on the disk; `None`: nothing.
    pub encryption: Option<Encryption>,
    /// Carries what is said to other servers.
    pub transport: Arc<dyn Transport>,
    /// Where everything lies.
    pub disk: Arc<dyn Disk>,
    /// Size of a segment of the log. Snapshots are taken by it.
    pub segment_bytes: u64,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("dir", &self.dir)
            .field("node_id", &self.node_id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl StoreConfig {
    /// For a store that is alone.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        StoreConfig {
            dir: dir.into(),
            node_id: 1,
            address: String::new(),
            join: false,
            history: Duration::from_secs(300),
            quota_bytes: QUOTA_BYTES,
            encryption: None,
            transport: Arc::new(NoPeers),
            disk: Arc::new(OsDisk),
            segment_bytes: SEGMENT_BYTES,
        }
    }
}

impl StoreConfig {
    /// Bytes of transactions under way at once. They fit the spare segment.
    fn inflight_bytes(&self) -> u64 {
        self.segment_bytes / 4 * 3
    }
}

/// Where a server stands, for those who look after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub term: u64,
    pub log_index: u64,
    pub applied_index: u64,
    /// What the log takes.
    pub disk_bytes: u64,
    /// How often the log's writer has waited for the disk since the start.
    pub log_syncs: u64,
}

/// Who leads, as far as is known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    pub leader: Option<u64>,
    pub here: bool,
    /// How many servers there are, voting or learning.
    pub servers: usize,
}

pub struct RaftStore {
    config: StoreConfig,
    raft: Raft<Types, Machine>,
    applied: Arc<AppliedState>,
    log: Log,
    snapshots: Arc<Snapshots>,
    persister: Arc<Persister>,
    lessor: Arc<Lessor>,
    once: Arc<Once>,
    group: Arc<Group>,
    seal: Arc<dyn Seal>,
    leadership: watch::Sender<Leadership>,
    /// There is no other server, not even one that learns.
    alone: AtomicBool,
    reads: mpsc::UnboundedSender<read::Asked>,
    inflight: Semaphore,
    gatherer: Arc<gather::Gatherer>,
    /// Bytes that others have for the log here: of the leader's entries, and of requests to this as the leader.
    arriving: Arc<Semaphore>,
    requested: Semaphore,
    /// Stands for election when no leader is heard of.
    stands: AtomicBool,
    /// Held while this server changes who is in the group.
    changing: tokio::sync::Mutex<()>,
    closed: AtomicBool,
    jobs: Mutex<Vec<JoinHandle<()>>>,
    /// Held as long as the store lives; its lock keeps other processes out.
    lock: Mutex<Option<Lock>>,
}

fn raft_config() -> Result<Arc<Config>, StoreError> {
    let config = Config {
        cluster_name: "skiff".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.0,
        election_timeout_max: ELECTION_MS.1,
        quorum_loss_probe_interval: Some(PROBE_MS),
        enable_pre_vote: Some(true),
        // What a leader had not synced, others may have committed. After a power loss it would
        // give the same places in the log, in the same term, to something else.
        enable_leader_restore: Some(false),
        // One voter has nobody to send heartbeats to and nobody to hear them from: it
        // is made leader by hand, and no timer runs. `jobs` turns them on for others.
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        // When a snapshot is taken and what is purged then, `jobs` decides.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1,
        ..Config::default()
    };
    Ok(Arc::new(
        config.validate().map_err(|e| StoreError::Internal(e.to_string()))?,
    ))
}

impl RaftStore {
    /// Opens the store and recovers what was acknowledged. A store that is alone becomes
    /// leader; one among others does not wait for them.
    pub async fn open(config: StoreConfig) -> Result<Arc<RaftStore>, StoreError> {
        let for_load = config.clone();
        let parts = host::blocking(move || disk::load(&for_load)).await;
        let mut parts = parts.map_err(|e| StoreError::Internal(format!("opening the store: {e}")))??;
        parts.go_on_without_log(&config).await?;
        let disk::Parts {
            log,
            applied,
            snapshots,
            persister,
            seal,
            lock,
            group,
        } = parts;
        let (lessor, once) = (
            Arc::new(Lessor::default()),
            Arc::new(Once::new(config.node_id, config.disk.clone(), &config.dir)),
        );
        lessor.reset(applied.current().leases().iter(), host::now());
        let machine = Machine::new(
            applied.clone(),
            log.clone(),
            seal.clone(),
            Some(persister.clone()),
            snapshots.clone(),
            lessor.clone(),
            once.clone(),
        );
        let (me, disk, transport) = (config.node_id, config.disk.clone(), config.transport.clone());
        let network = PeerNetwork {
            me,
            disk,
            group: group.clone(),
            transport,
        };
        let raft = Raft::new(me, raft_config()?, network, log.clone(), machine).await;
        let raft = raft.map_err(|e| StoreError::Internal(format!("starting Raft: {e}")))?;
        let (history, inflight_bytes) = (config.history, config.inflight_bytes() as usize);
        let (reads, asked) = mpsc::unbounded_channel();
        let store = Arc::new(RaftStore {
            config,
            raft,
            applied,
            log,
            snapshots,
            persister,
            lessor,
            once,
            group,
            seal: seal.clone(),
            leadership: watch::Sender::default(),
            alone: AtomicBool::new(false),
            reads,
            inflight: Semaphore::new(inflight_bytes),
            gatherer: Arc::default(),
            arriving: Arc::new(Semaphore::new(inflight_bytes)),
            requested: Semaphore::new(inflight_bytes),
            stands: AtomicBool::new(true),
            changing: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
            jobs: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        });
        if let Err(error) = store.begin().await {
            store.shutdown().await;
            return Err(error);
        }
        store.start_jobs(history, seal, asked);
        Ok(store)
    }

    /// Makes this, when it is the only voter, the leader, and waits until all that the log
    /// has is applied.
    async fn begin(&self) -> Result<(), StoreError> {
        let fatal = |e: &dyn fmt::Display| StoreError::Internal(format!("starting Raft: {e}"));
        let me = self.config.node_id;
        if !self.raft.is_initialized().await.map_err(|e| fatal(&e))? {
            if self.config.join {
                self.follow_metrics();
                return Ok(());
            }
            let nodes = BTreeMap::from([(me, openraft::BasicNode::new(&self.config.address))]);
            // Which starts an election; a second one would void the first one's votes.
            self.raft.initialize(nodes).await.map_err(|e| fatal(&e))?;
        } else {
            self.follow_metrics();
            if !self.alone.load(Ordering::Acquire) {
                return Ok(());
            }
            if !self.raft.is_leader() {
                self.raft.trigger().elect(false).await.map_err(|e| fatal(&e))?;
            }
        }
        let leads = self.raft.wait(Some(LEADER_TIMEOUT)).current_leader(me, "leading").await;
        leads.map_err(|e| fatal(&e))?;
        let recovered = self.raft.wait_for_recovery(Some(Duration::from_secs(600))).await;
        recovered.map_err(|e| fatal(&e))?;
        self.follow_metrics();
        Ok(())
    }

    /// Ends watches, finishes what is under way, and closes the files.
    pub async fn shutdown(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        for job in self.jobs.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            job.abort();
        }
        self.gatherer.close();
        self.hand_over(false).await;
        self.applied.close();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not end cleanly");
        }
        let persister = self.persister.clone();
        let _ = host::blocking(move || persister.close()).await;
        self.log.close().await;
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until the store can go on no more, though it was not shut down, and says why:
    /// its log could not be written, or Raft ended. Only a restart helps.
    pub async fn broken(&self) -> StoreError {
        let mut metrics = self.raft.server_metrics();
        let core = async { while metrics.changed().await.is_ok() {} };
        tokio::select! {
            () = core => {}
            () = self.log.ended() => {}
        }
        if self.closed.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
        let why = self.raft.metrics().borrow_watched().running_state.clone();
        self.fatal(
            &why.err()
                .map_or_else(|| "it ended unexpectedly".to_owned(), |e| e.to_string()),
        )
    }

    pub(crate) fn check_open(&self) -> Result<(), StoreError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(StoreError::Closed),
            false => Ok(()),
        }
    }

    /// This server's number.
    pub fn id(&self) -> u64 {
        self.config.node_id
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    pub(crate) fn raft(&self) -> &Raft<Types, Machine> {
        &self.raft
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    pub(crate) fn leads(&self) -> bool {
        self.leadership.borrow().here
    }

    /// Up to here watchers have, or are about to have, all there is.
    pub fn published(&self) -> Revision {
        self.applied.published()
    }

    /// Where this server stands.
    pub fn progress(&self) -> Progress {
        let metrics = self.raft.data_metrics();
        let (log_index, applied_index) = {
            let metrics = metrics.borrow_watched();
            let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
            (index(metrics.last_log), index(metrics.last_applied))
        };
        let term = self.raft.server_metrics().borrow_watched().vote.leader_id.term;
        Progress {
            term,
            log_index,
            applied_index,
            disk_bytes: self.log.bytes(),
            log_syncs: self.log.syncs(),
        }
    }

    /// Where other servers reach this one.
    pub fn address(&self) -> &str {
        &self.config.address
    }

    /// The leader, if one is known.
    pub fn leader(&self) -> Option<u64> {
        self.leadership.borrow().leader
    }

    /// Waits until the log has room for what is about to be proposed.
    pub(crate) async fn make_room(&self) -> Result<(), StoreError> {
        self.log.reserve(self.config.inflight_bytes()).await
    }
}

#[async_trait::async_trait]
impl Store for RaftStore {
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.check_open()?;
        let bytes = check_limits(&txn)? + 64;
        self.check_quota(&txn, bytes as u64).await?;
        let _permit = self
            .inflight
            .acquire_many(bytes as u32)
            .await
            .map_err(|_| StoreError::Closed)?;
        self.propose_sized(Command::Txn(Arc::new(txn)), bytes).await
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
        // that anybody was told of.
        if !self.alone.load(Ordering::Acquire) {
            self.wait_for_read_index().await?;
        }
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
        let current = self.applied.published();
        if revision > current {
            return Err(StoreError::FutureRevision {
                asked: revision,
                current,
            });
        }
        if revision <= self.applied.compacted() {
            return Ok(());
        }
        self.propose(Command::Compact(revision)).await.map(|_| ())
    }

    fn compacted(&self) -> Revision {
        self.applied.compacted()
    }
}
