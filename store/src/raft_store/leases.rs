//! Leases: granted and revoked by commands, kept alive by the leader's books alone.

use super::RaftStore;
use crate::contract::*;
use crate::host;
use crate::lessor::TimeToLive;
use crate::peers::wire::{Question, Reply};
use crate::raft_types::Command;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A shorter life than this cannot be kept up through a change of leader.
const TTL_S_MIN: u32 = 2;

/// How long asking for a lease's time may take.
const ASK_MAX: Duration = Duration::from_secs(5);

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
        self.check_alarm()?;
        self.propose(Command::Grant(lease)).await?;
        Ok(lease)
    }

    fn free_lease_id(&self) -> Result<LeaseId, StoreError> {
        loop {
            let mut bytes = [0; 8];
            if !host::random(&mut bytes) {
                return Err(StoreError::Internal("the system gives no random numbers".into()));
            }
            let id = LeaseId::from_be_bytes(bytes) & LeaseId::MAX;
            if id != 0 && !self.applied.current().leases().contains(id) {
                return Ok(id);
            }
        }
    }

    /// Ends a lease and deletes its keys, in one revision.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<TxnResult, StoreError> {
        self.check_open()?;
        self.propose(Command::Revoke(id)).await
    }

    /// Gives a lease its whole time again; returns that time.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, StoreError> {
        let time = self.ask_lessor(id, Question::KeepAlive(id)).await?;
        Ok(time.granted)
    }

    /// A lease's time, and its keys.
    pub async fn lease_time_to_live(&self, id: LeaseId) -> Result<(TimeToLive, Vec<Bytes>), StoreError> {
        let time = self.ask_lessor(id, Question::TimeToLive(id)).await?;
        Ok((time, self.applied.current().leases().keys(id).cloned().collect()))
    }

    /// The leader's books say what time is left, so it is asked.
    async fn ask_lessor(&self, id: LeaseId, question: Question) -> Result<TimeToLive, StoreError> {
        match self.ask_leader(question, ASK_MAX).await? {
            Reply::Time(Some((granted, left))) => Ok(TimeToLive {
                granted: Duration::from_millis(granted),
                left: Duration::from_millis(left),
            }),
            _ => Err(StoreError::Refused(Refused::LeaseNotFound(id))),
        }
    }

    /// All leases, by number.
    pub fn leases(&self) -> Vec<Lease> {
        self.applied.current().leases().iter().collect()
    }
}

/// Revokes what is not kept alive: the leader's work. Sleeps while there are no leases.
pub(super) fn expire(store: &Arc<RaftStore>) -> JoinHandle<()> {
    let (weak, lessor, mut leadership) = (
        Arc::downgrade(store),
        store.lessor.clone(),
        store.leadership.subscribe(),
    );
    host::spawn(async move {
        loop {
            if leadership.wait_for(|l| l.here).await.is_err() {
                return;
            }
            let (due, next) = lessor.due(host::now(), RETRY);
            for id in due {
                let Some(store) = weak.upgrade() else { return };
                match store.lease_revoke(id).await {
                    Ok(_) | Err(StoreError::Refused(Refused::LeaseNotFound(_))) => {}
                    Err(error) => tracing::warn!(%error, lease = id, "could not end a lease; trying again"),
                }
            }
            let next_is_due = async {
                match next {
                    Some(at) => tokio::time::sleep(at.saturating_duration_since(host::now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = next_is_due => {}
                () = lessor.earlier.notified() => {}
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    })
}
