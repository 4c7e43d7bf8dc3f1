//! What opening finds on the disk: the directory, its lock, and all that lies in it.

use super::{Seal, StoreConfig};
use crate::applied::AppliedState;
use crate::codec::Plain;
use crate::contract::*;
use crate::log::Log;
use crate::machine::Snapshots;
use crate::seal::Encrypted;
use crate::state_db::{Persister, StateDb};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

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
pub(super) struct Parts {
    pub log: Log,
    pub applied: Arc<AppliedState>,
    pub snapshots: Arc<Snapshots>,
    pub persister: Arc<Persister>,
    pub seal: Arc<dyn Seal>,
    pub lock: File,
}

pub(super) fn load(config: &StoreConfig) -> Result<Parts, StoreError> {
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
