//! Going on alone, when the others are lost for good: the membership is rewritten to this
//! server, in the log as one more entry, and the group gets another number, so that the
//! others cannot come back with what they know.

use super::{RaftStore, StoreConfig, disk};
use crate::contract::StoreError;
use crate::group;
use crate::raft_types::*;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use openraft::{BasicNode, EntryPayload};
use std::collections::{BTreeMap, BTreeSet};

/// What a store was before it was made to stand alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// The servers that were left behind.
    pub left_behind: Vec<u64>,
    pub group: u64,
}

pub(crate) fn random_number() -> Result<u64, StoreError> {
    let mut bytes = [0; 8];
    if !crate::host::random(&mut bytes) {
        return Err(StoreError::Internal("the system gives no random numbers".into()));
    }
    // Nought is the first group's.
    Ok(u64::from_be_bytes(bytes).max(1))
}

impl RaftStore {
    /// To be done while no server runs on the directory. `None`: there was nobody else.
    pub async fn force_single(config: &StoreConfig) -> Result<Option<Forced>, StoreError> {
        let for_load = config.clone();
        let parts = crate::host::blocking(move || disk::load(&for_load)).await;
        let mut parts = parts.map_err(|e| StoreError::Internal(format!("opening the store: {e}")))??;
        let mut log = parts.log.clone();
        let forced = rewrite(config, &mut parts, &mut log).await;
        parts.persister.close();
        log.close().await;
        forced
    }
}

async fn rewrite(
    config: &StoreConfig,
    parts: &mut disk::Parts,
    log: &mut crate::log::Log,
) -> Result<Option<Forced>, StoreError> {
    let io = |action: &str| {
        let action = format!("{action} of {}", config.dir.display());
        move |source| StoreError::Io { action, source }
    };
    let Some(last) = parts.last() else {
        return Err(StoreError::Internal(format!(
            "{} holds no store that could go on alone",
            config.dir.display()
        )));
    };
    let me = config.node_id;
    let others: BTreeSet<u64> = members(parts, log).await?.into_iter().filter(|id| *id != me).collect();
    if others.is_empty() {
        return Ok(None);
    }
    // The number first: whatever is interrupted, the old group is not heard any more.
    let number = random_number()?;
    group::write(&*config.disk, &config.dir, number).map_err(io("writing the group's number"))?;
    if parts.log_is_gone().await? {
        parts.begin_log(me).await?;
    }
    let vote = log.read_vote().await.map_err(io("reading the log"))?;
    let term = vote.map_or(0, |v| v.leader_id.term).max(last.leader_id.term) + 1;
    log.save_vote(&Vote::new(term, me))
        .await
        .map_err(io("writing the log"))?;
    let nodes = BTreeMap::from([(me, BasicNode::new(&config.address))]);
    let membership = Membership::new(vec![BTreeSet::from([me])], nodes)
        .map_err(|e| StoreError::Internal(format!("a group of one: {e}")))?;
    let leader = openraft::impls::leader_id_adv::LeaderId { term, node_id: me };
    let entry = RaftEntry {
        log_id: LogId::new(leader, last.index + 1),
        payload: EntryPayload::Membership(membership),
    };
    log.append_alone(&entry).await.map_err(io("writing the log"))?;
    Ok(Some(Forced {
        left_behind: others.into_iter().collect(),
        group: number,
    }))
}

/// Everybody that the newest membership names: in the log, else in what it begins from.
async fn members(parts: &disk::Parts, log: &mut crate::log::Log) -> Result<Vec<u64>, StoreError> {
    let mut newest = parts.snapshots.membership();
    let entries = log.try_get_log_entries(..).await.map_err(|source| StoreError::Io {
        action: "reading the log".into(),
        source,
    })?;
    for entry in entries {
        if let EntryPayload::Membership(membership) = entry.payload {
            newest = Some(membership);
        }
    }
    Ok(newest
        .map(|m| m.nodes().map(|(id, _)| *id).collect())
        .unwrap_or_default())
}
