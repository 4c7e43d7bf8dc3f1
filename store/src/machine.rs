//! openraft's state machine: hands committed commands to `mvcc`, publishes the result,
//! then answers. Owns the order of these three, and the snapshots' directory.

use crate::applied::AppliedState;
use crate::codec::Seal;
use crate::contract::*;
use crate::host::{self, Disk};
use crate::lessor::Lessor;
use crate::log::Log;
use crate::mvcc::State;
use crate::once::Once;
use crate::raft_types::*;
use crate::snapshot::{self, Point, SnapshotFile};
use crate::state_db::Persister;
use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry as _;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot as RaftSnapshot};
use openraft::{EntryPayload, OptionalSend};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Entries applied and published at once. Large enough that publishing costs nothing
/// by the entry, small enough that the first of them need not wait long.
const APPLY_ENTRIES_MAX: usize = 1024;

type Snap = RaftSnapshot<LeaderId, u64, openraft::BasicNode, SnapshotFile>;

#[derive(Clone)]
pub struct Machine {
    applied: Arc<AppliedState>,
    log: Log,
    seal: Arc<dyn Seal>,
    persister: Option<Arc<Persister>>,
    snapshots: Arc<Snapshots>,
    lessor: Arc<Lessor>,
    once: Arc<Once>,
}

pub struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    applied: Arc<AppliedState>,
    current: Mutex<Option<(SnapshotMeta, PathBuf)>>,
    /// The current one was taken for openraft's next request.
    prepared: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Snapshots {
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path, applied: Arc<AppliedState>) -> Result<Arc<Self>, StoreError> {
        let current = match snapshot::newest(&**disk, dir)? {
            Some(path) => Some((snapshot::read_meta(&**disk, &path)?, path)),
            None => None,
        };
        Ok(Arc::new(Snapshots {
            disk: disk.clone(),
            dir: dir.into(),
            applied,
            current: Mutex::new(current),
            prepared: AtomicBool::new(false),
        }))
    }

    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn last(&self) -> Option<LogId> {
        lock(&self.current).as_ref().and_then(|(meta, _)| meta.last_log_id)
    }

    /// Where the newest one lies.
    pub fn path(&self) -> Option<PathBuf> {
        lock(&self.current).as_ref().map(|(_, path)| path.clone())
    }

    /// The membership that the newest of state and snapshot knows.
    pub fn membership(&self) -> Option<Membership> {
        let (state, point) = (lock(&self.current), self.applied.point());
        let snapshot = state.as_ref().filter(|(meta, _)| meta.last_log_id > point.last);
        let stored = snapshot.map_or(&point.membership, |(meta, _)| &meta.last_membership);
        (stored.membership().nodes().next().is_some()).then(|| stored.membership().clone())
    }

    pub fn point(&self) -> Point {
        self.applied.point()
    }

    /// Like `take`; openraft's next request for a snapshot is answered with it.
    pub fn prepare(&self, seal: &dyn Seal) -> Result<u64, StoreError> {
        let bytes = self.take(seal)?;
        self.prepared.store(true, Ordering::Release);
        Ok(bytes)
    }

    /// Writes a snapshot of what is applied now, syncs it and reads it back. Blocking.
    /// Returns its size; 0 if there was nothing new.
    pub fn take(&self, seal: &dyn Seal) -> Result<u64, StoreError> {
        let point = self.point();
        if lock(&self.current)
            .as_ref()
            .is_some_and(|(meta, _)| meta.last_log_id == point.last)
        {
            return Ok(0);
        }
        let (path, bytes) = snapshot::write(&*self.disk, &self.dir, &point, seal)?;
        snapshot::verify(&*self.disk, &path)?;
        let meta = SnapshotMeta {
            last_log_id: point.last,
            last_membership: point.membership,
        };
        *lock(&self.current) = Some((meta, path.clone()));
        snapshot::remove_others(&*self.disk, &self.dir, &path);
        Ok(bytes)
    }

    fn current(&self) -> Option<Snap> {
        let current = lock(&self.current);
        let (meta, path) = current.as_ref()?;
        Some(Snap {
            meta: meta.clone(),
            snapshot: SnapshotFile { path: path.clone() },
        })
    }
}

impl Machine {
    pub fn new(
        applied: Arc<AppliedState>,
        log: Log,
        seal: Arc<dyn Seal>,
        persister: Option<Arc<Persister>>,
        snapshots: Arc<Snapshots>,
        lessor: Arc<Lessor>,
        once: Arc<Once>,
    ) -> Self {
        Machine {
            applied,
            log,
            seal,
            persister,
            snapshots,
            lessor,
            once,
        }
    }

    /// Does what a command says. Outcomes of this server's own requests go to `mine`.
    fn command(
        &self,
        state: &mut State,
        command: Command,
        events: &mut Vec<Arc<Event>>,
        mine: &mut Vec<(u64, Response)>,
    ) -> Response {
        let applied = match command {
            Command::Txn(txn) => state.apply_within(&txn),
            Command::Compact(revision) => {
                state.compact(revision);
                return Response::Done;
            }
            Command::Grant(lease) => {
                return match state.grant_within(lease) {
                    Ok(()) => {
                        self.lessor.granted(lease, host::now());
                        Response::Done
                    }
                    Err(refused) => Response::Refused(refused),
                };
            }
            Command::Revoke(id) => {
                self.lessor.revoked(id);
                state.revoke(id)
            }
            Command::Alarm { server, on } => {
                state.alarm(server, on);
                return Response::Done;
            }
            Command::Once(tag, command) => {
                if !state.sessions_mut().begin(&tag) {
                    return Response::Duplicate;
                }
                let response = self.command(state, *command, events, mine);
                if self.once.is_mine(&tag) {
                    mine.push((tag.number, response.clone()));
                }
                return response;
            }
            Command::Batch(commands) => {
                let each = commands.into_iter().map(|c| self.command(state, c, events, mine));
                return Response::Batch(each.collect());
            }
        };
        match applied {
            Ok(applied) => {
                events.extend(applied.events);
                Response::Txn(applied.result)
            }
            Err(refused) => Response::Refused(refused),
        }
    }

    fn apply_group(&self, group: Vec<EntryResponder<Types>>) {
        let mut answers = Vec::with_capacity(group.len());
        let mut mine = Vec::new();
        let last = self.applied.apply(|point, events| {
            for (entry, responder) in group {
                point.last = Some(entry.log_id());
                let mut response = Response::default();
                match entry.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Normal(command) => {
                        response = self.command(&mut point.state, command, events, &mut mine);
                    }
                    EntryPayload::Membership(membership) => {
                        point.membership = StoredMembership::new(Some(entry.log_id), membership);
                    }
                }
                if let Some(responder) = responder {
                    answers.push((responder, response));
                }
            }
            if let Some(last) = point.last {
                host::applied(last.index, &point.state);
            }
            point.last
        });
        if let Some(last) = last {
            self.log.applied(last.index);
        }
        if let Some(persister) = &self.persister {
            persister.changed();
        }
        for (responder, response) in answers {
            responder.send(response);
        }
        for (number, response) in mine {
            self.once.applied(number, response);
        }
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snap, io::Error> {
        // The driver takes a snapshot ahead of asking for one, where failing harms
        // nobody; only when openraft needs one by itself is it written here.
        if !self.snapshots.prepared.swap(false, Ordering::AcqRel) {
            let (snapshots, seal) = (self.snapshots.clone(), self.seal.clone());
            let taken = host::blocking(move || snapshots.take(&*seal)).await;
            if let Err(error) = taken.map_err(io::Error::other)? {
                // An error returned from here would end Raft; an older snapshot serves as well.
                tracing::warn!(%error, "could not take a snapshot");
            }
        }
        self.snapshots
            .current()
            .ok_or_else(|| io::Error::other("no snapshot could be written"))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let point = self.applied.point();
        Ok((point.last, point.membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut groups = entries.ready_chunks(APPLY_ENTRIES_MAX);
        while let Some(group) = groups.next().await {
            self.apply_group(group.into_iter().collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, file: SnapshotFile) -> Result<(), io::Error> {
        let (seal, snapshots) = (self.seal.clone(), self.snapshots.clone());
        let installed = host::blocking(move || -> Result<(Point, PathBuf), StoreError> {
            let (disk, dir) = (&*snapshots.disk, &*snapshots.dir);
            let point = snapshot::read(disk, &file.path, &*seal)?;
            let path = match file.path.parent() == Some(dir) {
                true => file.path,
                false => snapshot::write(disk, dir, &point, &*seal)?.0,
            };
            Ok((point, path))
        });
        let (point, path) = installed.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        self.lessor.reset(point.state.leases().iter(), host::now());
        self.applied.replace(point.clone());
        self.once.replaced(point.state.sessions());
        host::applied(point.last.map_or(0, |l| l.index), &point.state);
        *lock(&self.snapshots.current) = Some((meta.clone(), path.clone()));
        snapshot::remove_others(&*self.snapshots.disk, &self.snapshots.dir, &path);
        if let Some(persister) = &self.persister {
            persister.replaced();
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snap>, io::Error> {
        Ok(self.snapshots.current())
    }
}
