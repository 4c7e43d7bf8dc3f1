//! The quota, as etcd has it: who is about to exceed it raises an alarm on all servers
//! instead, and from then on nothing that grows is taken, until the alarm is taken back.
//! That is done by hand, or by the leader once there is room again.

use super::RaftStore;
use crate::contract::*;
use crate::mvcc::grows;
use crate::raft_types::Command;
use std::sync::atomic::Ordering;

/// An alarm ends by itself when less than so many hundredths of the quota are used, so
/// that a store at its limit does not go back and forth.
const RELIEVED_PERCENT: u64 = 90;

impl RaftStore {
    /// Refuses what would grow beyond the quota, and raises the alarm for it.
    pub(super) async fn check_quota(&self, txn: &Txn, bytes: u64) -> Result<(), StoreError> {
        let (used, alarm) = (self.applied.bytes(), self.applied.alarmed());
        let quota = self.config.quota_bytes;
        let over = quota > 0 && used.saturating_add(bytes) > quota;
        if !(over || alarm) || !grows(txn) {
            return Ok(());
        }
        if !alarm {
            tracing::error!(
                used,
                quota,
                "the store's quota is used up: only reads, deletions and compactions are taken until there is room; delete what is not needed, or raise --store-quota"
            );
            self.set_alarm(self.id(), true).await?;
        }
        Err(StoreError::NoSpace)
    }

    pub(super) fn check_alarm(&self) -> Result<(), StoreError> {
        match self.applied.alarmed() {
            true => Err(StoreError::NoSpace),
            false => Ok(()),
        }
    }

    /// Raises or takes back a server's alarm, on all servers.
    pub async fn set_alarm(&self, server: u64, on: bool) -> Result<(), StoreError> {
        self.check_open()?;
        self.propose(Command::Alarm { server, on }).await.map(|_| ())
    }

    /// Servers that have raised the alarm.
    pub fn alarms(&self) -> Vec<u64> {
        self.applied.current().alarms().iter().copied().collect()
    }

    /// Bytes of keys, values and history.
    pub fn bytes(&self) -> u64 {
        self.applied.bytes()
    }

    /// Takes the alarms back if there is room again.
    pub(super) async fn relieve(&self) {
        let quota = self.config.quota_bytes;
        let used = self.bytes();
        if quota > 0 && used > quota / 100 * RELIEVED_PERCENT || self.closed.load(Ordering::Acquire) {
            return;
        }
        for server in self.alarms() {
            match self.set_alarm(server, false).await {
                Ok(()) => tracing::info!(used, quota, "the store has room again and takes all writes"),
                Err(error) => tracing::warn!(%error, "could not take back the alarm of the quota"),
            }
        }
    }
}
