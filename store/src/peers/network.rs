//! openraft's network: its requests as messages on a transport.

use super::wire::{self, Question, Refusal, Reply, Route, SnapshotHead, SnapshotReply};
use super::{Answers, Lane, Peer, Transport, Unreachable};
use crate::group::Group;
use crate::host::{self, Disk, Open};
use crate::raft_types::*;
use crate::snapshot::SnapshotFile;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use futures::{FutureExt, Stream};
use openraft::AnyError;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

/// Bytes of a snapshot in one message.
const CHUNK_BYTES: u64 = 256 << 10;

/// Messages of a snapshot on their way: the receiver's pace is the sender's.
const CHUNKS_AHEAD: usize = 4;

/// How long a peer may be silent that owes a result; a slow disk is no reason.
const APPEND_SILENCE: Duration = Duration::from_secs(4);

/// A receiver of a snapshot that says nothing for so long is gone.
const SNAPSHOT_SILENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct PeerNetwork {
    pub me: u64,
    pub disk: Arc<dyn Disk>,
    pub group: Arc<Group>,
    pub transport: Arc<dyn Transport>,
}

pub struct PeerClient {
    me: u64,
    disk: Arc<dyn Disk>,
    group: Arc<Group>,
    peer: Peer,
    transport: Arc<dyn Transport>,
}

type RpcResult<T> = Result<T, RPCError<Types>>;

/// Results of appends, in the order of the requests.
type Results<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;

fn gone(error: &Unreachable) -> RPCError<Types> {
    RPCError::Unreachable(unreachable(error))
}

fn unreachable(error: &Unreachable) -> openraft::errors::Unreachable<Types> {
    openraft::errors::Unreachable::new(&AnyError::new(error))
}

fn network(error: impl ToString) -> NetworkError<Types> {
    NetworkError::new(&AnyError::error(error))
}

impl RaftNetworkFactory<Types> for PeerNetwork {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerClient {
        PeerClient {
            me: self.me,
            disk: self.disk.clone(),
            group: self.group.clone(),
            peer: Peer {
                id: target,
                address: node.addr.clone(),
            },
            transport: self.transport.clone(),
        }
    }
}

impl PeerClient {
    fn route(&self) -> Route {
        Route {
            to: self.peer.id,
            from: self.me,
            group: self.group.number(),
        }
    }

    async fn ask(&self, question: Question, option: &RPCOption) -> RpcResult<Reply> {
        let bytes = wire::put_question(self.route(), &question);
        let answered = tokio::time::timeout(option.soft_ttl(), self.transport.call(&self.peer, bytes)).await;
        let answered = answered.unwrap_or_else(|_| Err(Unreachable::new(&self.peer, "no answer in time")));
        let bytes = answered.map_err(|e| RPCError::Unreachable(unreachable(&e)))?;
        match wire::read_reply(bytes) {
            Ok(Reply::Refused(Refusal::Unavailable(why) | Refusal::NoRoom(why) | Refusal::Failed(why))) => {
                Err(RPCError::Unreachable(unreachable(&Unreachable::new(&self.peer, why))))
            }
            Ok(reply) => Ok(reply),
            Err(error) => Err(RPCError::Unreachable(unreachable(&Unreachable::new(&self.peer, error)))),
        }
    }

    async fn ask_vote(&self, question: Question, option: &RPCOption) -> RpcResult<VoteResponse<Types>> {
        match self.ask(question, option).await? {
            Reply::Vote(response) => Ok(response),
            other => Err(RPCError::Network(network(format!(
                "an answer of another kind: {other:?}"
            )))),
        }
    }

    /// Sends requests as they come, without waiting for the results of those before. A
    /// peer that owes a result and says nothing for long is given up.
    async fn appends<'s, S>(&'s self, lane: Lane, input: S, option: &RPCOption) -> RpcResult<Results<'s>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let (route, owed) = (self.route(), Arc::new(AtomicUsize::new(0)));
        let sent = owed.clone();
        // Whoever waits for requests holds the one reader of the log: it lets go when nobody waits for results.
        let (wanted, unwanted) = oneshot::channel::<()>();
        let messages = input.take_until(unwanted).map(move |request| {
            sent.fetch_add(1, Ordering::AcqRel);
            wire::put_append(route, &request)
        });
        let opened = self.transport.stream(&self.peer, lane, messages.boxed());
        let opened = tokio::time::timeout(option.soft_ttl(), opened).await;
        let opened = opened.unwrap_or_else(|_| Err(Unreachable::new(&self.peer, "no answer in time")));
        let answers = opened.map_err(|e| gone(&e))?;
        let results = futures::stream::unfold(Some((answers, owed, wanted)), move |state| async move {
            let (mut answers, owed, wanted) = state?;
            let mut silent = false;
            let result = loop {
                match tokio::time::timeout(APPEND_SILENCE, answers.next()).await {
                    Ok(Some(Ok(bytes))) => break wire::read_append_result(bytes).map_err(|e| e.to_string()),
                    Ok(Some(Err(error))) => return Some((Err(gone(&error)), None)),
                    Ok(None) => return None,
                    // Twice, since what it owes may have been sent a moment ago.
                    Err(_) if owed.load(Ordering::Acquire) > 0 && silent => break Err("nothing is heard of it".into()),
                    Err(_) => silent = owed.load(Ordering::Acquire) > 0,
                }
            };
            match result {
                Ok(result) => {
                    owed.fetch_sub(1, Ordering::AcqRel);
                    Some((Ok(result), Some((answers, owed, wanted))))
                }
                Err(why) => Some((Err(gone(&Unreachable::new(&self.peer, why))), None)),
            }
        });
        Ok(results.boxed())
    }

    /// Sends the file from where the receiver wants it, and waits until it is installed.
    async fn send_snapshot(&self, head: SnapshotHead, file: SnapshotFile) -> Result<Vote, Unreachable> {
        let gone = |why: &dyn ToString| Unreachable::new(&self.peer, why.to_string());
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let first = wire::put_snapshot_head(self.route(), &head);
        sender.try_send(first).map_err(|e| gone(&e))?;
        let messages = ReceiverStream::new(receiver).boxed();
        let mut answers = self.transport.stream(&self.peer, Lane::Snapshot, messages).await?;
        let mut sending = None;
        loop {
            match self.snapshot_answer(&mut answers).await? {
                SnapshotReply::From(offset) if sending.is_none() && offset <= head.bytes => {
                    let (disk, path, sender) = (self.disk.clone(), file.path.clone(), sender.clone());
                    sending = Some(host::spawn(send_file(disk, path, offset, sender)));
                }
                SnapshotReply::From(_) => return Err(gone(&"asked for the snapshot in a way that makes no sense")),
                SnapshotReply::Installed(vote) => return Ok(vote),
                SnapshotReply::Failed(why) => return Err(gone(&why)),
            }
        }
    }

    async fn snapshot_answer(&self, answers: &mut Answers) -> Result<SnapshotReply, Unreachable> {
        let next = tokio::time::timeout(SNAPSHOT_SILENCE, answers.next()).await;
        let bytes = match next {
            Ok(Some(bytes)) => bytes?,
            Ok(None) => return Err(Unreachable::new(&self.peer, "the snapshot's stream ended early")),
            Err(_) => return Err(Unreachable::new(&self.peer, "nothing is heard of the snapshot")),
        };
        wire::read_snapshot_reply(bytes).map_err(|e| Unreachable::new(&self.peer, e))
    }
}

/// Sends until the end, or until nobody listens any more.
async fn send_file(disk: Arc<dyn Disk>, path: PathBuf, from: u64, sender: mpsc::Sender<Bytes>) -> io::Result<()> {
    let file = host::blocking(move || disk.open(&path, Open::Read));
    let file = file.await.map_err(io::Error::other)??;
    let bytes = file.len()?;
    let mut at = from;
    while at < bytes {
        let file = file.clone();
        let chunk = host::blocking(move || {
            let mut chunk = vec![0; (bytes - at).min(CHUNK_BYTES) as usize];
            file.read_exact_at(&mut chunk, at).map(|()| chunk)
        });
        let chunk = chunk.await.map_err(io::Error::other)??;
        at += chunk.len() as u64;
        if sender.send(chunk.into()).await.is_err() {
            break;
        }
    }
    Ok(())
}

impl RaftNetworkV2<Types> for PeerClient {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        let wanted = rpc.entries.last().map(|e| e.log_id).or(rpc.prev_log_id);
        let one = futures::stream::iter([rpc]);
        let answered = async {
            let mut results = self.appends(Lane::Heartbeat, one, &option).await?;
            results.next().await.transpose()
        };
        match tokio::time::timeout(option.soft_ttl(), answered).await {
            Ok(Ok(Some(Ok(flushed)))) if flushed == wanted => Ok(AppendEntriesResponse::Success),
            Ok(Ok(Some(Ok(flushed)))) => Ok(AppendEntriesResponse::PartialSuccess(flushed)),
            Ok(Ok(Some(Err(refused)))) => Ok(Err(refused).into()),
            Ok(Ok(None)) => Err(RPCError::Network(network("the stream ended early"))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(gone(&Unreachable::new(&self.peer, "no answer in time"))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> futures::future::BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        async move { self.appends(Lane::Append, input, &option).await }.boxed()
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.ask_vote(Question::Vote(rpc), &option).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.ask_vote(Question::PreVote(rpc), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<LeaderId, u64, BasicNode, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let file = snapshot.snapshot;
        let size = self.disk.open(&file.path, Open::Read).and_then(|file| file.len());
        let bytes = size.map_err(|e| StreamingError::Network(network(e)))?;
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let head = SnapshotHead {
            vote,
            meta: snapshot.meta,
            name,
            bytes,
        };
        tokio::select! {
            biased;
            sent = self.send_snapshot(head, file) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(StreamingError::Unreachable(unreachable(&error))),
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        self.ask(Question::TransferLeader(request), &option)
            .await
            .map(|_| Ok(()))
    }
}
