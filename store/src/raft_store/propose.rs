//! Brings commands through Raft. A store that is alone proposes them as they are.
//! Among others a command goes to the leader, wherever that is, with a tag; it is sent
//! again when its answer is lost, applied once, and answered when it is applied here.

use super::RaftStore;
use crate::contract::*;
use crate::peers::wire::{Question, Refusal, Reply};
use crate::raft_types::*;
use openraft::errors::{ClientWriteError, RaftError};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a command may take before its client is told that nothing is known of it.
const TIME_MAX: Duration = Duration::from_secs(10);

/// How long one attempt waits before the command is sent again.
const ATTEMPT: Duration = Duration::from_secs(3);

/// How long a leader without space may take to let another lead.
const NO_ROOM_MAX: Duration = Duration::from_secs(3);

/// Between attempts while no leader is known or it cannot be reached.
const PAUSE: Duration = Duration::from_millis(50);

/// What a command that is no transaction takes, with room to spare.
const COMMAND_BYTES: usize = 128;

fn result_of(response: Response) -> Result<TxnResult, StoreError> {
    match response {
        Response::Txn(result) => Ok(result),
        Response::Done => Ok(TxnResult::default()),
        Response::Refused(refused) => Err(refused.into()),
        Response::Duplicate | Response::Batch(_) => Err(StoreError::Unknown),
    }
}

impl RaftStore {
    /// The result of a command; one that makes none answers with an empty one.
    pub(super) async fn propose(&self, command: Command) -> Result<TxnResult, StoreError> {
        self.propose_sized(command, COMMAND_BYTES).await
    }

    /// Like `propose`, of a command that takes about so many bytes.
    pub(super) async fn propose_sized(&self, command: Command, bytes: usize) -> Result<TxnResult, StoreError> {
        if self.alone.load(Ordering::Acquire) {
            self.make_room().await?;
            return match self.submit(command, bytes).await {
                Ok(response) => result_of(response),
                Err(Failed::NotLeader | Failed::NoLeader) => Err(StoreError::NoLeader),
                Err(Failed::NoRoom(error) | Failed::Other(error)) => Err(error),
            };
        }
        self.propose_once(command, bytes).await
    }

    async fn propose_once(&self, command: Command, bytes: usize) -> Result<TxnResult, StoreError> {
        let mut pending = self.once.begin().await?;
        let command = Command::Once(pending.tag, Box::new(command));
        let deadline = tokio::time::Instant::now() + TIME_MAX;
        // Nothing was sent anywhere as long as this is false.
        let mut sent = false;
        let is_txn = matches!(&command, Command::Once(_, inner) if matches!(**inner, Command::Txn(_)));
        // Since when the leader says that it has no space.
        let mut full: Option<(tokio::time::Instant, StoreError)> = None;
        loop {
            let changed = self.leadership.subscribe();
            let attempt = async {
                let sent_before = std::mem::replace(&mut sent, true);
                match self.submit(command.clone(), bytes).await {
                    // It is on its way: what comes of it is heard when it is applied here.
                    Ok(Response::Done | Response::Duplicate) if is_txn || self.has_room() => {
                        self.changed_or(changed, ATTEMPT).await;
                    }
                    Ok(Response::Duplicate) => self.changed_or(changed, ATTEMPT).await,
                    Ok(response) => return Ok(Some(response)),
                    Err(Failed::NotLeader) => {
                        full = None;
                        self.changed_or(changed, PAUSE).await;
                    }
                    Err(Failed::NoLeader) => {
                        sent = sent_before;
                        self.changed_or(changed, PAUSE).await;
                    }
                    // Another may lead in a moment.
                    Err(Failed::NoRoom(error)) => {
                        sent = sent_before;
                        let since = full
                            .as_ref()
                            .map_or_else(tokio::time::Instant::now, |(since, _)| *since);
                        if !sent && since.elapsed() > NO_ROOM_MAX {
                            return Err(error);
                        }
                        full = Some((since, error));
                        self.changed_or(changed, PAUSE).await;
                    }
                    Err(Failed::Other(error)) => return Err(error),
                }
                Ok(None)
            };
            tokio::select! {
                biased;
                outcome = &mut pending.outcome => return match outcome {
                    Ok(Some(response)) => result_of(response),
                    Ok(None) | Err(_) => Err(StoreError::Unknown),
                },
                told = attempt => if let Some(response) = told? {
                    return result_of(response);
                },
                () = tokio::time::sleep_until(deadline) => {
                    return Err(if sent { StoreError::Unknown } else { StoreError::NoLeader });
                }
            }
        }
    }

    /// Waits until another leads, at most `limit`.
    async fn changed_or(&self, mut leadership: tokio::sync::watch::Receiver<super::Leadership>, limit: Duration) {
        let _ = tokio::time::timeout(limit, leadership.changed()).await;
    }

    /// Brings a command to whom is believed to lead. `Ok`: it was applied there; what came of it is
    /// asked for when it cannot be applied here. One that has no
    /// number goes nowhere else, for it might be done twice: it was begun when there was nobody else.
    pub(super) async fn deliver(&self, command: Command) -> Result<Response, Failed> {
        if !command.is_numbered() {
            return self.propose_here(command).await;
        }
        if self.leads() {
            self.make_room().await.map_err(Failed::NoRoom)?;
            return self.propose_here(command).await;
        }
        let Some(peer) = self.leader().and_then(|id| self.peer(id)) else {
            return Err(Failed::NoLeader);
        };
        let question = match self.has_room() {
            true => Question::Propose(command),
            false => Question::ProposeAndTell(command),
        };
        match self.ask(&peer, &question, ATTEMPT).await {
            Reply::Applied(response) => Ok(response),
            Reply::Refused(Refusal::Failed(why)) => Err(Failed::Other(StoreError::Internal(why))),
            Reply::Refused(Refusal::NoRoom(why)) => Err(Failed::NoRoom(StoreError::ReadOnly(format!(
                "server {}, which leads: {why}",
                peer.id
            )))),
            Reply::Refused(refusal) => {
                tracing::debug!(?refusal, "the leader did not take a command; trying again");
                Err(Failed::NotLeader)
            }
            _ => Ok(Response::Done),
        }
    }

    async fn propose_here(&self, command: Command) -> Result<Response, Failed> {
        match self.raft.client_write(command).await {
            Ok(written) => Ok(written.data),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                Err(Failed::Other(StoreError::Internal(error.to_string())))
            }
            // Not appended, or discarded on a change of leader.
            Err(RaftError::APIError(_)) => Err(Failed::NotLeader),
            Err(RaftError::Fatal(error)) => Err(Failed::Other(self.fatal(&error))),
        }
    }

    /// What to say when Raft runs no more.
    pub(super) fn fatal(&self, error: &dyn std::fmt::Display) -> StoreError {
        if self.closed.load(Ordering::Acquire) {
            return StoreError::Closed;
        }
        match self.log.check() {
            Err(error) => error,
            Ok(()) => StoreError::ReadOnly(format!("Raft has stopped ({error}); restart the server")),
        }
    }
}

#[derive(Debug)]
pub(super) enum Failed {
    /// No leader is known, so nothing was sent.
    NoLeader,
    /// Whoever was asked does not lead, or did not answer.
    NotLeader,
    /// The leader took nothing: there is no space on its disk.
    NoRoom(StoreError),
    Other(StoreError),
}

impl Failed {
    /// The same for another one of a batch.
    pub(super) fn again(&self) -> Failed {
        match self {
            Failed::NoLeader => Failed::NoLeader,
            Failed::NotLeader => Failed::NotLeader,
            Failed::NoRoom(error) => Failed::NoRoom(StoreError::ReadOnly(match error {
                StoreError::ReadOnly(why) => why.clone(),
                error => error.to_string(),
            })),
            Failed::Other(error) => Failed::Other(match error {
                StoreError::Closed => StoreError::Closed,
                StoreError::NoLeader => StoreError::NoLeader,
                StoreError::Unknown => StoreError::Unknown,
                StoreError::NoSpace => StoreError::NoSpace,
                StoreError::ReadOnly(why) => StoreError::ReadOnly(why.clone()),
                StoreError::Unavailable(why) => StoreError::Unavailable(why.clone()),
                error => StoreError::Internal(error.to_string()),
            }),
        }
    }
}
