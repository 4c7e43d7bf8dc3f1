//! What only the leader can answer: asked of it, wherever it is, and answered as it.

use super::RaftStore;
use crate::contract::StoreError;
use crate::host;
use crate::peers::wire::{self, Question, Refusal, Reply, Route};
use crate::peers::{Peer, Unreachable, ask};
use crate::raft_types::*;
use openraft::ReadPolicy;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a new leader may take to apply what was granted before.
const APPLIED_MAX: Duration = Duration::from_secs(2);

/// Between attempts while no leader is known or it cannot be reached.
const PAUSE: Duration = Duration::from_millis(50);

type Refusable<T> = Result<T, Refusal>;

fn unavailable(why: impl ToString) -> Refusal {
    Refusal::Unavailable(why.to_string())
}

impl RaftStore {
    /// Asks until there is an answer, or `limit` is over.
    pub(super) async fn ask_leader(&self, question: Question, limit: Duration) -> Result<Reply, StoreError> {
        let deadline = host::now() + limit;
        loop {
            self.check_open()?;
            let reply = match (self.leads(), self.leader().and_then(|id| self.peer(id))) {
                (true, _) => self.answer(question.clone()).await,
                (false, Some(peer)) => self.ask(&peer, &question, limit).await,
                (false, None) => Reply::Refused(Refusal::NotLeader(None)),
            };
            let why = match reply {
                Reply::Refused(Refusal::Failed(why)) => return Err(StoreError::Internal(why)),
                Reply::Refused(Refusal::Unavailable(why) | Refusal::NoRoom(why)) => why,
                Reply::Refused(Refusal::NotLeader(_)) => "no leader is known".into(),
                reply => return Ok(reply),
            };
            if host::now() >= deadline {
                return Err(StoreError::Unavailable(why));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks the server that leads, once. No answer is waited for from one that no longer does.
    pub(super) async fn ask(&self, peer: &Peer, question: &Question, limit: Duration) -> Reply {
        let mut leadership = self.leadership.subscribe();
        tokio::select! {
            biased;
            reply = self.ask_now(peer, question, limit) => reply,
            now = leadership.wait_for(|now| now.leader != Some(peer.id)) => {
                Reply::Refused(Refusal::NotLeader(now.ok().and_then(|now| now.leader)))
            }
        }
    }

    /// Asks any server, once.
    pub(super) async fn ask_now(&self, peer: &Peer, question: &Question, limit: Duration) -> Reply {
        let me = (self.id(), self.group.number());
        ask(&*self.config.transport, me, peer, question, limit).await
    }

    /// Whether that server answers there, whatever it says.
    pub async fn reach(&self, peer: &Peer, limit: Duration) -> Result<(), Unreachable> {
        let route = Route {
            to: peer.id,
            from: self.id(),
            group: self.group.number(),
        };
        let call = self
            .config
            .transport
            .call(peer, wire::put_question(route, &Question::ReadIndex));
        match tokio::time::timeout(limit, call).await {
            Ok(answered) => answered.map(|_| ()),
            Err(_) => Err(Unreachable::new(peer, "no answer in time")),
        }
    }

    /// Answers a question as this server, whoever leads.
    pub(crate) async fn answer(&self, question: Question) -> Reply {
        let answered = match question {
            Question::Vote(request) => self.raft.vote(request).await.map(Reply::Vote).map_err(unavailable),
            Question::PreVote(request) => self.raft.pre_vote(request).await.map(Reply::Vote).map_err(unavailable),
            Question::TransferLeader(request) if *request.to_node_id() == self.id() && !self.has_room() => {
                self.say_room()
            }
            Question::TransferLeader(request) => match self.raft.handle_transfer_leader(request).await {
                Ok(Ok(())) => Ok(Reply::Done),
                Ok(Err(error)) => Err(unavailable(error)),
                Err(error) => Err(unavailable(error)),
            },
            Question::Propose(command) => self.proposed(command).await.map(|_| Reply::Done),
            Question::ProposeAndTell(command) => self.proposed(command).await.map(Reply::Applied),
            Question::ReadIndex => self.read_index(ReadPolicy::ReadIndex).await.map(Reply::Index),
            Question::Room => self.say_room(),
            Question::Member(id) => self.say_member(id).await,
            Question::KeepAlive(id) => self.as_lessor().await.map(|()| {
                let kept = self.lessor.keep_alive(id, host::now());
                Reply::Time(kept.map(|granted| (milliseconds(granted), milliseconds(granted))))
            }),
            Question::TimeToLive(id) => self.as_lessor().await.map(|()| {
                let time = self.lessor.time_to_live(id, host::now());
                Reply::Time(time.map(|t| (milliseconds(t.granted), milliseconds(t.left))))
            }),
            Question::AddMember { id, address, voter } => self.add_here(id, address, voter).await.map(|()| Reply::Done),
            Question::RemoveMember(id) => self.remove_here(id).await.map(|()| Reply::Done),
        };
        answered.unwrap_or_else(Reply::Refused)
    }

    /// Makes sure that the books kept here are the ones that count: that nobody else leads,
    /// who would end a lease that is kept alive here, and that all granted leases are in them.
    async fn as_lessor(&self) -> Refusable<()> {
        if !self.leads() {
            return Err(Refusal::NotLeader(self.leader()));
        }
        if self.alone.load(Ordering::Acquire) {
            return Ok(());
        }
        let index = self.read_index(ReadPolicy::LeaseRead).await?.index;
        if self.progress().applied_index >= index {
            return Ok(());
        }
        let wait = self.raft.wait(Some(APPLIED_MAX));
        let applied = wait.applied_index_at_least(Some(index), "leases").await;
        applied.map(|_| ()).map_err(unavailable)
    }

    async fn proposed(&self, command: Command) -> Refusable<Response> {
        let bytes = command.bytes().min(self.config.inflight_bytes() as usize) as u32;
        let _permit = self.requested.acquire_many(bytes).await.map_err(unavailable)?;
        self.make_room().await.map_err(no_room)?;
        let written = self.raft.client_write(command).await;
        written.map(|written| written.data).map_err(refusal)
    }

    /// Makes sure that this server leads, and says up to where is committed.
    async fn read_index(&self, policy: ReadPolicy) -> Refusable<LogId> {
        match self.raft.get_read_linearizer(policy).await {
            Ok(linearizer) => Ok(*linearizer.read_log_id().log_id()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(Refusal::NotLeader(to.leader_id))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(few))) => {
                let voters = self.members().iter().filter(|m| m.voter).count();
                let answered = few.got.len();
                Err(unavailable(format!("only {answered} of {voters} servers answered")))
            }
            Err(error) => Err(unavailable(error)),
        }
    }
}

fn no_room(error: StoreError) -> Refusal {
    match error {
        StoreError::ReadOnly(why) => Refusal::NoRoom(why),
        other => unavailable(other),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn refusal(error: RaftError<Types, ClientWriteError<Types>>) -> Refusal {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => Refusal::NotLeader(to.leader_id),
        error => unavailable(error),
    }
}
