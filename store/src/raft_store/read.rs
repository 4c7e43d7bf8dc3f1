//! What a linearizable read must have seen: the leader's commit index after it has
//! made sure that it still leads. Those who ask while that is being found out wait for
//! the next answer, together.

use super::RaftStore;
use crate::contract::StoreError;
use crate::host;
use crate::peers::wire::{Question, Reply};
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a read waits on a server whose disk is full.
const PATIENCE_WITHOUT_ROOM: Duration = Duration::from_millis(200);

/// How long a read may take to find out.
const TIME_MAX: Duration = Duration::from_secs(5);

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
        let found = store.find_read_index().await.map_err(|error| match error {
            StoreError::Unavailable(why) => why,
            other => other.to_string(),
        });
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
        let deadline = host::now() + TIME_MAX;
        let Reply::Index(id) = self.ask_leader(Question::ReadIndex, TIME_MAX).await? else {
            return Err(StoreError::Internal("the leader named no index".into()));
        };
        // Without space nothing comes that would be worth waiting for.
        let patience = match self.has_room() {
            true => deadline.saturating_duration_since(host::now()),
            false => PATIENCE_WITHOUT_ROOM,
        };
        let wait = self.raft.wait(Some(patience));
        let applied = wait.applied_index_at_least(Some(id.index), "read").await;
        applied.map(|_| ()).map_err(|_| {
            let why = match self.has_room() {
                true => "this server has not yet heard of all that the others know",
                false => "this server's disk is full, so that it knows less than the others; free some space in its data directory, or ask another server",
            };
            let reached = self.progress().applied_index;
            StoreError::Unavailable(format!("{why} (entry {reached} of {})", id.index))
        })
    }
}
