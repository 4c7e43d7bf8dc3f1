//! A server without space on its disk. It cannot take what grows the log; with what is
//! reserved it votes, answers heartbeats, and serves reads.
//!
//! A leader without space lets a voter that has some lead. A follower without space takes
//! no entries, forwards writes, and catches up when space returns. It stands for election
//! only when nobody has led for long: it may have what others lack.

use super::RaftStore;
use crate::contract::StoreError;
use crate::peers::wire::{Question, Refusal, Reply};
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// While there is no space: how often it is looked for, and somebody else to lead.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Voters with space have found a leader by then, if they can.
const LEADERLESS_MAX: Duration = Duration::from_secs(3);

/// How long another server may take to say whether it has space.
const ASK_MAX: Duration = Duration::from_millis(500);

/// Waits for the disk to be full, as long as the store lives.
pub(super) async fn keep(store: Weak<RaftStore>) {
    let Some(mut short) = store.upgrade().map(|s| s.log.short()) else {
        return;
    };
    while short.wait_for(|short| *short).await.is_ok() {
        tracing::error!(
            "the data directory's file system is full: this server takes no writes until there is space; free some, it goes on by itself"
        );
        loop {
            match store.upgrade() {
                Some(store) => store.make_do().await,
                None => return,
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            let Some(store) = store.upgrade() else { return };
            if matches!(timeout(LOOK_AGAIN, store.make_room()).await, Ok(Ok(()))) {
                store.stand(true);
                break;
            }
        }
        tracing::info!("there is space for the log again");
    }
}

impl RaftStore {
    /// Whether there is space for what others send, as far as is known.
    pub(super) fn has_room(&self) -> bool {
        !*self.log.short().borrow()
    }

    /// Whether this server stands for election when it hears of no leader.
    fn stand(&self, stands: bool) {
        self.stands.store(stands, Ordering::Release);
        self.follow_metrics();
    }

    /// What can be done without space: let another lead, and leave standing to others.
    async fn make_do(&self) {
        if self.alone.load(Ordering::Acquire) {
            return;
        }
        let silent = self.silent_for().await;
        self.stand(silent > LEADERLESS_MAX);
        if self.leads() {
            self.hand_over(true).await;
        }
    }

    /// Those of these servers that say that they have space.
    pub(super) async fn with_room(&self, servers: Vec<u64>) -> Vec<u64> {
        let asked = servers.into_iter().filter_map(|id| self.peer(id));
        let asked = asked.map(|peer| async move {
            let reply = self.ask_now(&peer, &Question::Room, ASK_MAX).await;
            matches!(reply, Reply::Done).then_some(peer.id)
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    pub(super) fn say_room(&self) -> Result<Reply, Refusal> {
        match self.has_room() {
            true => Ok(Reply::Done),
            false => Err(Refusal::NoRoom("its disk is full".into())),
        }
    }

    /// Waits until entries of that many bytes, which the leader sent, may go to the log.
    /// What is returned is held until they are there.
    pub(crate) async fn admit(&self, bytes: usize) -> Result<tokio::sync::OwnedSemaphorePermit, StoreError> {
        let most = self.config.inflight_bytes() as usize;
        let permits = bytes.min(most) as u32;
        let permit = self.arriving.clone().acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let on_the_way = most - self.arriving.available_permits();
        if !self.log.fits(on_the_way as u64) {
            self.make_room().await?;
        }
        Ok(permit)
    }
}
