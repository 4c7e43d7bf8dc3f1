//! What opening finds on the disk: the directory, its lock, and all that lies in it.

use super::{Seal, StoreConfig};
use crate::applied::AppliedState;
use crate::codec::Plain;
use crate::contract::*;
use crate::group::Group;
use crate::host::{self, Disk, Lock};
use crate::log::Log;
use crate::machine::Snapshots;
use crate::seal::Encrypted;
use crate::state_db::{Persister, StateDb};
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
