//! What opening finds on the disk: the directory, its lock, and all that lies in it.

use super::{Seal, StoreConfig};
use crate::applied::AppliedState;
use crate::codec::Plain;
use crate::contract::*;
use crate::group::Group;
use crate::host::{self, Disk, Lock};
use crate::log::Log;
use crate::machine::Snapshots;
use crate::raft_types::{LogId, Vote};
use crate::seal::Encrypted;
use crate::snapshot;
use crate::state_db::{Persister, StateDb};
use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use std::path::Path;
use std::sync::Arc;

fn io(action: &str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let action = format!("{action} {}", path.display());
    move |source| StoreError::Io { action, source }
}

fn lock_dir(disk: &dyn Disk, dir: &Path) -> Result<Lock, StoreError> {
    let path = dir.join("lock");
    disk.lock(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::Io {
            action: format!(
                "locking {}: another process uses this data directory; stop it first. Locking",
                path.display()
            ),
            source,
        },
        _ => io("locking", &path)(source),
    })
}

/// What helps when part of the store is lost.
const REMEDY: &str = "put the file back from a backup, or restore a snapshot of the cluster (`skiff snapshot restore --force`); one of several servers is removed instead, and joins anew";

/// What was read from the disk, before Raft starts.
pub(super) struct Parts {
    pub log: Log,
    pub applied: Arc<AppliedState>,
    pub snapshots: Arc<Snapshots>,
    pub persister: Arc<Persister>,
    pub seal: Arc<dyn Seal>,
    pub lock: Lock,
    pub group: Arc<Group>,
}

pub(super) fn load(config: &StoreConfig) -> Result<Parts, StoreError> {
    let [log_dir, state_dir, snapshot_dir] = ["log", "state", "snapshots"].map(|d| config.dir.join(d));
    let disk = &config.disk;
    for dir in [&config.dir, &log_dir, &state_dir, &snapshot_dir] {
        disk.make_dir(dir).map_err(io("making", dir))?;
    }
    let lock = lock_dir(&**disk, &config.dir)?;
    let seal: Arc<dyn Seal> = match &config.encryption {
        Some(encryption) => Arc::new(Encrypted::open(&config.dir, encryption)?),
        None => Arc::new(Plain),
    };
    let (log, db) = host::both(
        || Log::open(disk, &log_dir, config.segment_bytes, seal.clone()),
        || StateDb::open(&**disk, &state_dir, seal.clone()),
    );
    let log = log?;
    let db = db.ok_or_else(|| StoreError::Internal("opening the state database failed unexpectedly".into()))??;
    let point = db.point().clone();
    let applied = Arc::new(AppliedState::new(point.clone()));
    let snapshots = Snapshots::open(disk, &snapshot_dir, applied.clone())?;
    let covered = point.last.max(snapshots.last());
    // It will be read, as the state has less: what is wrong with it is told here, with the way out.
    if snapshots.last() > point.last
        && let Some(path) = snapshots.path()
    {
        snapshot::verify(&**disk, &path).map_err(|error| match error {
            StoreError::Corrupt { file, offset, why } => StoreError::Corrupt {
                file,
                offset,
                why: format!("{why}; {REMEDY}"),
            },
            other => other,
        })?;
    }
    if log.purged() > covered {
        return Err(StoreError::Corrupt {
            file: config.dir.display().to_string(),
            offset: 0,
            why: format!(
                "the log begins behind entry {}, but neither {} nor the state database reaches that far; {REMEDY}",
                log.purged().map_or(0, |p| p.index),
                snapshot_dir.display()
            ),
        });
    }
    // Who has nothing yet belongs to the group that takes it in.
    let fresh = config.join && log.last().is_none() && point.last.is_none() && snapshots.last().is_none();
    let group =
        Arc::new(Group::open(disk, &config.dir, fresh).map_err(io("reading the group's number in", &config.dir))?);
    Ok(Parts {
        log,
        persister: Persister::spawn(db, applied.clone())?,
        applied,
        snapshots,
        seal,
        lock,
        group,
    })
}

impl Parts {
    /// The last entry that any part knows of.
    pub fn last(&self) -> Option<LogId> {
        let state = self.snapshots.point().last;
        self.log.last().max(state).max(self.snapshots.last())
    }

    /// Was the log moved away from beside the state, since it was damaged?
    pub async fn log_is_gone(&mut self) -> Result<bool, StoreError> {
        if self.last().is_none() || self.log.last().is_some() {
            return Ok(false);
        }
        Ok(self.log.read_vote().await.map_err(begin)?.is_none())
    }

    /// A server that is alone goes on without its log. Among others it may not: they count on
    /// what it acknowledged, and on its vote, which lay there, too.
    pub async fn go_on_without_log(&mut self, config: &StoreConfig) -> Result<(), StoreError> {
        if !self.log_is_gone().await? {
            return Ok(());
        }
        let members = self.snapshots.membership();
        if members.is_some_and(|members| members.nodes().any(|(id, _)| *id != config.node_id)) {
            return Err(StoreError::Corrupt {
                file: config.dir.join("log").display().to_string(),
                offset: 0,
                why: "there is no log, and the other servers of the group count on what was in it; remove this server \
                      (`skiff server remove`) and let it join anew, or, if the others are lost for good, go on with \
                      what its state has (`skiff server --force-single`)"
                    .into(),
            });
        }
        self.begin_log(config.node_id).await
    }

    /// A new log behind what the state and the snapshots have, in a later term than any of theirs.
    pub async fn begin_log(&mut self, me: u64) -> Result<(), StoreError> {
        let Some(last) = self.last() else { return Ok(()) };
        tracing::warn!(
            entry = last.index,
            "there is no log: going on from the state and the snapshots"
        );
        // Raft wants a snapshot of all that is not in the log.
        if Some(last) > self.snapshots.last() {
            let (snapshots, seal) = (self.snapshots.clone(), self.seal.clone());
            let taken = host::blocking(move || snapshots.take(&*seal)).await;
            taken.map_err(|e| StoreError::Internal(format!("taking a snapshot: {e}")))??;
        }
        let vote = Vote::new(last.leader_id.term + 1, me);
        self.log.save_vote(&vote).await.map_err(begin)?;
        self.log.purge(last).await.map_err(begin)
    }
}

fn begin(source: std::io::Error) -> StoreError {
    StoreError::Io {
        action: "beginning a log anew".into(),
        source,
    }
}
