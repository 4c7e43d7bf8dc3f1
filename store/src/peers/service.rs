//! The receiving side: what other servers' messages do here.

use super::Lane;
use super::wire::{self, Refusal, Reply, Route, SnapshotHead, SnapshotReply};
use crate::contract::StoreError;
use crate::host::{self, Disk, DiskFile, Open};
use crate::machine::Snapshots;
use crate::raft_store::RaftStore;
use crate::raft_types::*;
use crate::snapshot::{self, SnapshotFile};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use openraft::storage::Snapshot;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Answers other servers; cheap to clone.
#[derive(Clone)]
pub struct PeerService(Arc<RaftStore>);

/// Messages that could not be understood end a stream; its sender is told why.
pub type Messages = BoxStream<'static, Bytes>;

impl PeerService {
    pub fn new(store: Arc<RaftStore>) -> Self {
        PeerService(store)
    }

    fn check(&self, route: Route) -> Result<(), String> {
        match route.to == self.0.id() {
            true => self.0.group().admit(route.group),
            false => Err(format!("this is server {}, not {}", self.0.id(), route.to)),
        }
    }

    /// Answers one question.
    pub async fn answer(&self, question: Bytes) -> Bytes {
        let reply = match wire::read_question(question) {
            Ok((route, question)) => match self.check(route) {
                Ok(()) => self.0.answer(question).await,
                Err(why) => Reply::Refused(Refusal::Unavailable(why)),
            },
            Err(error) => Reply::Refused(Refusal::Failed(format!("not understood: {error}"))),
        };
        wire::put_reply(&reply)
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
        // Room in the log, which is given back in the order of the results.
        let admitted = Arc::new(Mutex::new(VecDeque::new()));
        let held = admitted.clone();
        let requests = messages.then(move |bytes| {
            let (service, admitted) = (service.clone(), admitted.clone());
            async move {
                let length = bytes.len();
                let understood = wire::read_append(bytes).map_err(|e| e.to_string());
                let understood = understood.and_then(|(route, request)| service.check(route).map(|()| request));
                let request =
                    understood.inspect_err(|why| tracing::warn!(why, "another server's message was refused"))?;
                // A leader that is there is heard also without room.
                let permit = match request.entries.is_empty() {
                    true => None,
                    false => Some(service.0.admit(length).await.map_err(|e| e.to_string())?),
                };
                lock(&admitted).push_back(permit);
                Ok::<_, String>(request)
            }
        });
        // What is not understood ends the stream; its sender begins another.
        let understood = requests.scan((), |(), request| {
            let request = request.inspect_err(|why| tracing::debug!(why, "the leader's entries were not taken"));
            std::future::ready(request.ok())
        });
        let results = self.0.raft().stream_append(understood);
        let answers = results.scan((), move |(), result| {
            lock(&held).pop_front();
            let result = result.inspect_err(|error| tracing::debug!(%error, "Raft takes no entries any more"));
            std::future::ready(result.ok().map(|result| wire::put_append_result(&result)))
        });
        answers.boxed()
    }

    fn snapshot(&self, messages: Messages) -> Messages {
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let service = self.clone();
        host::spawn(async move {
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
        let incoming = Incoming::begin(self.0.snapshots(), route.from, &head).map_err(|e| e.to_string())?;
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
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    partial: PathBuf,
    path: PathBuf,
    have: u64,
}

impl Incoming {
    fn begin(snapshots: &Snapshots, from: u64, head: &SnapshotHead) -> Result<Self, StoreError> {
        let (disk, dir) = (snapshots.disk(), snapshots.dir());
        let name = head.name.strip_suffix(".snap").unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Err(StoreError::Internal(format!("{:?} is no snapshot's name", head.name)));
        }
        let partial = dir.join(format!("{name}.{from}.incoming"));
        let io = |source| StoreError::Io {
            action: format!("receiving a snapshot into {}", partial.display()),
            source,
        };
        remove_other_incoming(&**disk, dir, &partial);
        let file = disk.open(&partial, Open::Keep).map_err(io)?;
        let mut have = file.len().map_err(io)?;
        if have > head.bytes {
            file.set_len(0).map_err(io)?;
            have = 0;
        }
        let path = dir.join(&head.name);
        Ok(Incoming {
            disk: disk.clone(),
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
            let (file, at) = (self.file.clone(), self.have);
            self.have += chunk.len() as u64;
            let written = host::blocking(move || file.write_all_at(&chunk, at)).await;
            written.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        }
        let checked = host::blocking(move || {
            self.file.sync().map_err(|e| e.to_string())?;
            if let Err(error) = snapshot::verify(&*self.disk, &self.partial) {
                let _ = self.disk.remove(&self.partial);
                return Err(error.to_string());
            }
            let dir = self.path.parent().unwrap_or(Path::new("."));
            let renamed = self.disk.rename(&self.partial, &self.path);
            renamed
                .and_then(|()| self.disk.sync_dir(dir))
                .map_err(|e| e.to_string())?;
            Ok(self.path)
        });
        checked.await.map_err(|e| e.to_string())?
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Only one snapshot is received at a time; what is left of others is of no use.
fn remove_other_incoming(disk: &dyn Disk, dir: &Path, keep: &Path) {
    for path in disk.list(dir).unwrap_or_default() {
        if path.extension().is_some_and(|e| e == "incoming") && path != keep {
            let _ = disk.remove(&path);
        }
    }
}
