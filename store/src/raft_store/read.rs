//! What a linearizable read must have seen: the leader's commit index after it has
//! made sure that it still leads. Those who ask while that is being found out wait for
//! the next answer, together.

use super::RaftStore;
use crate::contract::StoreError;
use crate::peers::wire::{Refusal, Reply};
use crate::peers::{Answer, Ask};
use crate::raft_types::*;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a read may take to find out.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Between attempts while no leader is known or it cannot be reached.
const PAUSE: Duration = Duration::from_millis(50);

type Told = Result<(), String>;

/// Those who wait to be told; served by a job, one round after the other.
pub(super) type Asked = oneshot::Sender<Told>;

/// Finds out for all who wait, as long as the store lives.
pub(super) async fn serve(store: Weak<RaftStore>, mut asked: mpsc::UnboundedReceiver<Asked>) {
    while let Some(first) = asked.recv().await {
        let mut waiting = vec![first];
        while let Ok(next) = asked.try_recv() {
            waiting.push(next);
        }
        let Some(store) = store.upgrade() else { return };
        let found = store.find_read_index().await.map_err(|e| e.to_string());
        for waiter in waiting {
            let _ = waiter.send(found.clone());
        }
    }
}

impl RaftStore {
    /// Waits until all that was committed when this was called is applied here.
    pub(super) async fn wait_for_read_index(&self) -> Result<(), StoreError> {
        let (sender, told) = oneshot::channel();
        self.reads.send(sender).map_err(|_| StoreError::Closed)?;
        match told.await {
            Ok(told) => told.map_err(StoreError::Unavailable),
            Err(_) => Err(StoreError::Closed),
        }
    }

    async fn find_read_index(&self) -> Result<(), StoreError> {
        let deadline = tokio::time::Instant::now() + TIME_MAX;
        let mut why = "no leader is known".to_owned();
        while tokio::time::Instant::now() < deadline {
            self.check_open()?;
            let answer = match (self.leads(), self.leader().and_then(|id| self.peer(id))) {
                (true, _) => match self.read_index_here().await {
                    Ok(id) => Answer::Reply(Reply::Index(id)),
                    Err(refusal) => Answer::Unavailable(format!("{refusal:?}")),
                },
                (false, Some(peer)) => self.ask(&peer, &Ask::ReadIndex, TIME_MAX).await,
                (false, None) => Answer::Elsewhere,
            };
            match answer {
                Answer::Reply(Reply::Index(id)) => {
                    let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                    let applied = self
                        .raft
                        .wait(Some(left))
                        .applied_index_at_least(Some(id.index), "read")
                        .await;
                    return applied.map(|_| ()).map_err(|e| StoreError::Unavailable(e.to_string()));
                }
                Answer::Reply(other) => why = format!("an answer of another kind: {other:?}"),
                Answer::Unavailable(what) | Answer::Failed(what) => why = what,
                Answer::Elsewhere => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(StoreError::Unavailable(why))
    }

    /// As the leader: makes sure that it leads, and says up to where is committed.
    pub(crate) async fn read_index_here(&self) -> Result<LogId, Refusal> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(*linearizer.read_log_id().log_id()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(Refusal::NotLeader(to.leader_id))
            }
            Err(error) => Err(Refusal::Unavailable(error.to_string())),
        }
    }
}
