//! Leases: granted and revoked by commands, kept alive by the leader's books alone.

use super::{INFLIGHT_BYTES, RaftStore};
use crate::contract::*;
use crate::lessor::TimeToLive;
use crate::raft_types::Command;
use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A shorter life than this cannot be kept up through a change of leader.
const TTL_S_MIN: u32 = 2;

/// When a lease that could not be revoked is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl RaftStore {
    /// Grants a lease of this number, or of one chosen here (0), for a time that is
    /// raised to the least one.
    pub async fn lease_grant(&self, id: LeaseId, ttl_s: u32) -> Result<Lease, StoreError> {
        self.check_open()?;
        let id = match id {
            0 => self.free_lease_id()?,
            id => id,
        };
        let lease = Lease {
            id,
            ttl_s: ttl_s.max(TTL_S_MIN),
        };
        self.log.reserve(INFLIGHT_BYTES as u64).await?;
        self.propose(Command::Grant(lease)).await?;
        Ok(lease)
    }

    fn free_lease_id(&self) -> Result<LeaseId, StoreError> {
        let random = SystemRandom::new();
        loop {
            let mut bytes = [0; 8];
            let drawn = random.fill(&mut bytes);
            drawn.map_err(|_| StoreError::Internal("the system gives no random numbers".into()))?;
            let id = LeaseId::from_be_bytes(bytes) & LeaseId::MAX;
            if id != 0 && !self.applied.current().leases().contains(id) {
                return Ok(id);
            }
        }
    }

    /// Ends a lease and deletes its keys, in one revision.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<TxnResult, StoreError> {
        self.check_open()?;
        self.log.reserve(INFLIGHT_BYTES as u64).await?;
        self.propose(Command::Revoke(id)).await
    }

    /// Gives a lease its whole time again; returns that time.
    pub fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, StoreError> {
        self.check_open()?;
        let kept = self.lessor.keep_alive(id, Instant::now());
        kept.ok_or(StoreError::Refused(Refused::LeaseNotFound(id)))
    }

    /// A lease's time, and its keys.
    pub fn lease_time_to_live(&self, id: LeaseId) -> Result<(TimeToLive, Vec<Bytes>), StoreError> {
        self.check_open()?;
        let time = self.lessor.time_to_live(id, Instant::now());
        let time = time.ok_or(StoreError::Refused(Refused::LeaseNotFound(id)))?;
        Ok((time, self.applied.current().leases().keys(id).cloned().collect()))
    }

    /// All leases, by number.
    pub fn leases(&self) -> Vec<Lease> {
        self.applied.current().leases().iter().collect()
    }
}

/// Revokes what is not kept alive. Sleeps while there are no leases.
pub(super) fn expire(store: &Arc<RaftStore>) -> JoinHandle<()> {
    let (weak, lessor) = (Arc::downgrade(store), store.lessor.clone());
    tokio::spawn(async move {
        loop {
            let (due, next) = lessor.due(Instant::now(), RETRY);
            for id in due {
                let Some(store) = weak.upgrade() else { return };
                match store.lease_revoke(id).await {
                    Ok(_) | Err(StoreError::Refused(Refused::LeaseNotFound(_))) => {}
                    Err(error) => tracing::warn!(%error, lease = id, "could not end a lease; trying again"),
                }
            }
            let next_is_due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = next_is_due => {}
                () = lessor.earlier.notified() => {}
            }
        }
    })
}
