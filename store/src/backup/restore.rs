//! Makes a store's directory of a backup: a group of this server alone, with a history
//! of its own. Its name appears when all of it is on the disk, so a restore that was
//! interrupted has changed nothing.

use super::file;
use super::{BackupError, io};
use crate::codec::{Plain, Seal};
use crate::contract::{Snapshot as _, StoreError};
use crate::group;
use crate::host::{Disk, Open, OsDisk, Stream};
use crate::log::Log;
use crate::raft_types::*;
use crate::seal::{Encrypted, Encryption};
use crate::snapshot;
use openraft::BasicNode;
use openraft::storage::RaftLogStorage;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// How far ahead of the backup's revision the restored store begins, so that whoever saw
/// later ones before is told to read anew instead of waiting for them or missing changes.
/// More than a cluster writes in the life of a backup.
pub const REVISION_STEP: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    pub revision: u64,
    pub keys: u64,
    pub group: u64,
}

/// `dir` must not be there, or be empty; `server` is this server's number, `address` where
/// others reach it. `encryption` is what the backup's bodies were encrypted with.
pub async fn restore(
    backup: &Path,
    dir: &Path,
    encryption: Option<&Encryption>,
    server: u64,
    address: &str,
) -> Result<Restored, BackupError> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    restore_on(&disk, backup, dir, encryption, server, address).await
}

/// As `restore`, on any disk.
pub async fn restore_on(
    disk: &Arc<dyn Disk>,
    backup: &Path,
    dir: &Path,
    encryption: Option<&Encryption>,
    server: u64,
    address: &str,
) -> Result<Restored, BackupError> {
    if disk.list(dir).is_ok_and(|entries| !entries.is_empty()) {
        return Err(BackupError::Exists(dir.display().to_string()));
    }
    let mut beside = dir.as_os_str().to_owned();
    beside.push(".restoring");
    let beside = Path::new(&beside);
    match disk.remove_dir(beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("removing", beside)(error)),
        _ => {}
    }
    let filled = fill(disk, backup, beside, encryption, server, address).await;
    if filled.is_err() {
        let _ = disk.remove_dir(beside);
    }
    let restored = filled?;
    let parent = dir
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let named = || -> std::io::Result<()> {
        disk.sync_dir(beside)?;
        if disk.list(dir).is_ok() {
            disk.remove_dir(dir)?;
        }
        disk.rename(beside, dir)?;
        disk.sync_dir(parent)
    };
    named().map_err(io("putting in its place", dir))?;
    Ok(restored)
}

fn new_group() -> Result<u64, BackupError> {
    crate::raft_store::random_number().map_err(BackupError::Store)
}

async fn fill(
    disk: &Arc<dyn Disk>,
    backup: &Path,
    dir: &Path,
    encryption: Option<&Encryption>,
    server: u64,
    address: &str,
) -> Result<Restored, BackupError> {
    let [log_dir, state_dir, snapshots_dir] = ["log", "state", "snapshots"].map(|name| dir.join(name));
    for made in [&log_dir, &state_dir, &snapshots_dir] {
        disk.make_dir(made).map_err(io("making", dir))?;
    }
    let seal: Arc<dyn Seal> = match encryption {
        Some(encryption) => Arc::new(Encrypted::open(dir, encryption)?),
        None => Arc::new(Plain),
    };
    let opened = file::open(&**disk, backup)?;
    let file = disk.open(backup, Open::Read).map_err(io("opening", backup))?;
    let at = opened.content_at;
    let mut point = snapshot::read_from(backup, Stream { file, at }, &*seal)?;
    let group = new_group()?;
    group::write(&**disk, dir, group).map_err(io("writing the group's number in", dir))?;

    let nodes = BTreeMap::from([(server, BasicNode::new(address))]);
    let membership = Membership::new(vec![BTreeSet::from([server])], nodes);
    let membership = membership.map_err(|e| StoreError::Internal(format!("a group of one: {e}")))?;
    // An empty store has no position yet.
    let first = LogId::new(
        openraft::impls::leader_id_adv::LeaderId {
            term: 1,
            node_id: server,
        },
        1,
    );
    let last = point.last.unwrap_or(first);
    point.last = Some(last);
    point.membership = StoredMembership::new(Some(last), membership);
    point.state = point.state.reborn(opened.about.revision + REVISION_STEP);
    snapshot::write(&**disk, &snapshots_dir, &point, &*seal)?;

    let mut log = Log::open(disk, &log_dir, crate::raft_store::SEGMENT_BYTES, seal)?;
    let vote = Vote::new(last.leader_id.term + 1, server);
    let written = async {
        log.save_vote(&vote).await?;
        log.purge(last).await
    };
    let written = written.await;
    log.close().await;
    written.map_err(io("writing the log in", dir))?;
    Ok(Restored {
        revision: point.state.revision(),
        keys: point.state.tree().len() as u64,
        group,
    })
}
