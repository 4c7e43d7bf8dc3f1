//! The receiving side: what other servers' messages do here.

use super::Lane;
use super::wire::{self, Question, Refusal, Reply, Route, SnapshotHead, SnapshotReply};
use crate::contract::StoreError;
use crate::raft_store::RaftStore;
use crate::raft_types::*;
use crate::snapshot::{self, SnapshotFile};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use openraft::errors::{ClientWriteError, RaftError};
use openraft::storage::Snapshot;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Answers other servers; cheap to clone.
#[derive(Clone)]
pub struct PeerService(Arc<RaftStore>);

/// Messages that could not be understood end a stream; its sender is told why.
pub type Messages = BoxStream<'static, Bytes>;

fn unavailable(why: impl ToString) -> Reply {
    Reply::Refused(Refusal::Unavailable(why.to_string()))
}

fn failed(why: impl ToString) -> Reply {
    Reply::Refused(Refusal::Failed(why.to_string()))
}

impl PeerService {
    pub fn new(store: Arc<RaftStore>) -> Self {
        PeerService(store)
    }

    fn check(&self, route: Route) -> Result<(), String> {
        match route.to == self.0.id() {
            true => Ok(()),
            false => Err(format!("this is server {}, not {}", self.0.id(), route.to)),
        }
    }

    /// Answers one question.
    pub async fn answer(&self, question: Bytes) -> Bytes {
        let reply = match wire::read_question(question) {
            Ok((route, question)) => match self.check(route) {
                Ok(()) => self.reply(question).await,
                Err(why) => unavailable(why),
            },
            Err(error) => failed(format!("not understood: {error}")),
        };
        wire::put_reply(&reply)
    }

    async fn reply(&self, question: Question) -> Reply {
        let raft = self.0.raft();
        match question {
            Question::Vote(request) => raft.vote(request).await.map_or_else(unavailable, Reply::Vote),
            Question::PreVote(request) => raft.pre_vote(request).await.map_or_else(unavailable, Reply::Vote),
            Question::TransferLeader(request) => match raft.handle_transfer_leader(request).await {
                Ok(Ok(())) => Reply::Done,
                Ok(Err(error)) => unavailable(error),
                Err(error) => unavailable(error),
            },
            Question::Propose(command) => self.propose(command).await,
            Question::ReadIndex => match self.0.read_index_here().await {
                Ok(id) => Reply::Index(id),
                Err(refusal) => Reply::Refused(refusal),
            },
            Question::KeepAlive(id) => self.if_leading(|store| {
                let kept = store.lessor().keep_alive(id, std::time::Instant::now());
                Reply::Time(kept.map(|granted| (granted.as_millis() as u64, granted.as_millis() as u64)))
            }),
            Question::TimeToLive(id) => self.if_leading(|store| {
                let time = store.lessor().time_to_live(id, std::time::Instant::now());
                Reply::Time(time.map(|t| (t.granted.as_millis() as u64, t.left.as_millis() as u64)))
            }),
            Question::AddMember { id, address, voter } => {
                self.changed(self.0.add_member_here(id, address, voter).await)
            }
            Question::RemoveMember(id) => self.changed(self.0.remove_member_here(id).await),
        }
    }

    fn changed(&self, outcome: Result<(), Refusal>) -> Reply {
        outcome.map_or_else(Reply::Refused, |()| Reply::Done)
    }

    fn if_leading(&self, answer: impl FnOnce(&RaftStore) -> Reply) -> Reply {
        match self.0.leads() {
            true => answer(&self.0),
            false => Reply::Refused(Refusal::NotLeader(self.0.leader())),
        }
    }

    async fn propose(&self, command: Command) -> Reply {
        if let Err(error) = self.0.make_room().await {
            return unavailable(error);
        }
        match self.0.raft().client_write(command).await {
            Ok(_) => Reply::Done,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Reply::Refused(Refusal::NotLeader(to.leader_id))
            }
            Err(error) => unavailable(error),
        }
    }

    /// Takes a stream of messages, and gives one of answers.
    pub fn stream(&self, lane: Lane, messages: Messages) -> Messages {
        match lane {
            Lane::Append | Lane::Heartbeat => self.appends(messages),
            Lane::Snapshot => self.snapshot(messages),
        }
    }

    fn appends(&self, messages: Messages) -> Messages {
        let service = self.clone();
        let requests = messages.map(move |bytes| {
            let (route, request) = wire::read_append(bytes).map_err(|e| e.to_string())?;
            service.check(route).map(|()| request)
        });
        // What is not understood ends the stream; its sender begins another.
        let understood = requests.scan((), |(), request| {
            let request = request.inspect_err(|why| tracing::warn!(why, "another server's message was refused"));
            std::future::ready(request.ok())
        });
        let results = self.0.raft().stream_append(understood);
        let answers = results.scan((), |(), result| {
            let result = result.inspect_err(|error| tracing::debug!(%error, "Raft takes no entries any more"));
            std::future::ready(result.ok().map(|result| wire::put_append_result(&result)))
        });
        answers.boxed()
    }

    fn snapshot(&self, messages: Messages) -> Messages {
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let service = self.clone();
        tokio::spawn(async move {
            let reply = match service.receive(messages, &sender).await {
                Ok(vote) => SnapshotReply::Installed(vote),
                Err(why) => {
                    tracing::warn!(why, "a snapshot was not taken over");
                    SnapshotReply::Failed(why)
                }
            };
            let _ = sender.send(wire::put_snapshot_reply(&reply)).await;
        });
        tokio_stream::wrappers::ReceiverStream::new(receiver).boxed()
    }

    async fn receive(
        &self,
        mut messages: Messages,
        answers: &tokio::sync::mpsc::Sender<Bytes>,
    ) -> Result<Vote, String> {
        let first = messages.next().await.ok_or("the stream ended before it began")?;
        let (route, head) = wire::read_snapshot_head(first).map_err(|e| e.to_string())?;
        self.check(route)?;
        let incoming = Incoming::begin(self.0.snapshots_dir(), route.from, &head).map_err(|e| e.to_string())?;
        let from = wire::put_snapshot_reply(&SnapshotReply::From(incoming.have));
        answers.send(from).await.map_err(|e| e.to_string())?;
        let path = incoming.fill(&head, &mut messages).await?;
        let snapshot = Snapshot {
            meta: head.meta,
            snapshot: SnapshotFile { path },
        };
        let installed = self.0.raft().install_full_snapshot(head.vote, snapshot).await;
        installed.map(|response| response.vote).map_err(|e| e.to_string())
    }
}

/// A snapshot that is being received, into a file that a broken stream is resumed from.
struct Incoming {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    have: u64,
}

impl Incoming {
    fn begin(dir: &Path, from: u64, head: &SnapshotHead) -> Result<Self, StoreError> {
        let name = head.name.strip_suffix(".snap").unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Err(StoreError::Internal(format!("{:?} is no snapshot's name", head.name)));
        }
        let partial = dir.join(format!("{name}.{from}.incoming"));
        let io = |source| StoreError::Io {
            action: format!("receiving a snapshot into {}", partial.display()),
            source,
        };
        remove_other_incoming(dir, &partial);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&partial);
        let file = file.map_err(io)?;
        let mut have = file.metadata().map_err(io)?.len();
        if have > head.bytes {
            file.set_len(0).map_err(io)?;
            have = 0;
        }
        let path = dir.join(&head.name);
        Ok(Incoming {
            file,
            partial,
            path,
            have,
        })
    }

    /// Writes what comes until it is whole, and checks it. A damaged file is thrown away.
    async fn fill(mut self, head: &SnapshotHead, messages: &mut Messages) -> Result<PathBuf, String> {
        while self.have < head.bytes {
            let chunk = messages.next().await.ok_or("the stream ended early")?;
            self.have += chunk.len() as u64;
            let written = tokio::task::spawn_blocking(move || self.file.write_all(&chunk).map(|()| self)).await;
            self = written.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        }
        let checked = tokio::task::spawn_blocking(move || {
            self.file.sync_all().map_err(|e| e.to_string())?;
            if let Err(error) = snapshot::verify(&self.partial) {
                let _ = std::fs::remove_file(&self.partial);
                return Err(error.to_string());
            }
            std::fs::rename(&self.partial, &self.path).map_err(|e| e.to_string())?;
            let dir = self.path.parent().map(File::open).transpose();
            dir.and_then(|dir| dir.map_or(Ok(()), |dir| dir.sync_all()))
                .map_err(|e| e.to_string())?;
            Ok(self.path)
        });
        checked.await.map_err(|e| e.to_string())?
    }
}

/// Only one snapshot is received at a time; what is left of others is of no use.
fn remove_other_incoming(dir: &Path, keep: &Path) {
    for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()) {
        if path.extension().is_some_and(|e| e == "incoming") && path != keep {
            let _ = std::fs::remove_file(path);
        }
    }
}
