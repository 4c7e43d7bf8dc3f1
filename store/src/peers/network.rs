//! openraft's network: its requests as messages on a transport.

use super::wire::{self, Question, Refusal, Reply, Route, SnapshotHead, SnapshotReply};
use super::{Answers, Lane, Peer, Transport, Unreachable};
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
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes of a snapshot in one message.
const CHUNK_BYTES: usize = 256 << 10;

/// Messages of a snapshot on their way: the receiver's pace is the sender's.
const CHUNKS_AHEAD: usize = 4;

/// A receiver of a snapshot that says nothing for so long is gone.
const SNAPSHOT_SILENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct PeerNetwork {
    pub me: u64,
    pub transport: Arc<dyn Transport>,
}

pub struct PeerClient {
    me: u64,
    peer: Peer,
    transport: Arc<dyn Transport>,
}

type RpcResult<T> = Result<T, RPCError<Types>>;

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
        }
    }

    async fn ask(&self, question: Question, option: &RPCOption) -> RpcResult<Reply> {
        let bytes = wire::put_question(self.route(), &question);
        let answered = tokio::time::timeout(option.soft_ttl(), self.transport.call(&self.peer, bytes)).await;
        let answered = answered.unwrap_or_else(|_| Err(Unreachable::new(&self.peer, "no answer in time")));
        let bytes = answered.map_err(|e| RPCError::Unreachable(unreachable(&e)))?;
        match wire::read_reply(bytes) {
            Ok(Reply::Refused(Refusal::Unavailable(why) | Refusal::Failed(why))) => {
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
                    let (sender, file) = (sender.clone(), file.clone());
                    sending = Some(tokio::task::spawn_blocking(move || send_file(&file, offset, &sender)));
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

fn send_file(file: &SnapshotFile, offset: u64, sender: &mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut input = std::fs::File::open(&file.path)?;
    input.seek(SeekFrom::Start(offset))?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = input.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if read == 0 || sender.blocking_send(chunk.into()).is_err() {
            return Ok(());
        }
    }
}

impl RaftNetworkV2<Types> for PeerClient {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        let prev = rpc.prev_log_id;
        let wanted = rpc.entries.last().map(|e| e.log_id).or(prev);
        let one = futures::stream::iter([rpc]);
        let mut answers = self.stream_append(one, option).await?;
        match answers.next().await {
            Some(Ok(Ok(flushed))) if flushed == wanted => Ok(AppendEntriesResponse::Success),
            Some(Ok(Ok(flushed))) => Ok(AppendEntriesResponse::PartialSuccess(flushed)),
            Some(Ok(Err(refused))) => Ok(Err(refused).into()),
            Some(Err(error)) => Err(error),
            None => Err(RPCError::Network(network("the stream ended early"))),
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
        let route = self.route();
        let messages = input.map(move |request| wire::put_append(route, &request)).boxed();
        async move {
            let opened = self.transport.stream(&self.peer, Lane::Append, messages);
            let opened = tokio::time::timeout(option.soft_ttl(), opened).await;
            let opened = opened.unwrap_or_else(|_| Err(Unreachable::new(&self.peer, "no answer in time")));
            let answers = opened.map_err(|e| RPCError::Unreachable(unreachable(&e)))?;
            let peer = &self.peer;
            let results = answers.map(move |bytes| {
                let bytes = bytes.map_err(|e| RPCError::Unreachable(unreachable(&e)))?;
                let bad = |e| RPCError::Unreachable(unreachable(&Unreachable::new(peer, e)));
                wire::read_append_result(bytes).map_err(bad)
            });
            Ok(results.boxed())
        }
        .boxed()
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
        let size = std::fs::metadata(&file.path).map_err(|e| StreamingError::Network(network(e)))?;
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let head = SnapshotHead {
            vote,
            meta: snapshot.meta,
            name,
            bytes: size.len(),
        };
        tokio::select! {
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
