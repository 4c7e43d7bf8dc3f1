//! The Raft log: votes and entries on stable storage before anybody is told so.
//! Owns `<dir>/log/`; knows nothing of what the commands in the entries mean.
//!
//! ```text
//! openraft ── append, vote, purge ──► jobs ──► writer thread ── write, one fdatasync per group ──► segment files
//!     ▲                                                │
//!     └───────────── completion callbacks ─────────────┘
//! ```
//!
//! An entry can be read as soon as `append` returns: from the cache of recent entries,
//! later from its segment. The writer takes whatever has queued up while the last sync
//! ran: one sync serves all that wait, and a lone writer waits for nothing else.

mod frame;
mod segments;
mod writer;

use crate::codec::{self, CodecError, Seal};
use crate::contract::StoreError;
use crate::host::{self, Disk, DiskFile};
use crate::raft_types::*;
use bytes::Bytes;
use frame::Kind;
use futures::Stream;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use writer::{Done, Effect, Job, Place, Writer};

/// Entries in one step of a stream, so that replaying a long log stays small.
const STREAM_ENTRIES: u64 = 256;

/// Bytes of entries sent to a follower at once, as a part of a segment: what is on its way
/// to a log must fit what that log has reserved.
const READ_PART: u64 = 4;

/// The part of a segment that is left to votes when a disk is full.
const VOTES_PART: u64 = 16;

/// Where an entry lies.
#[derive(Clone, Copy)]
struct Slot {
    segment: u64,
    offset: u32,
    length: u32,
}

#[derive(Default)]
struct Index {
    /// Places of the entries `base..base + slots.len()`.
    slots: VecDeque<Slot>,
    base: u64,
    /// Entries `cached_from..`, the newest ones, all that are not written yet among them.
    cache: VecDeque<(RaftEntry, usize)>,
    cached_from: u64,
    cached_bytes: usize,
    /// Entries below this are in their segment.
    written: u64,
    applied: u64,
    last: Option<LogId>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    segments: BTreeMap<u64, Arc<dyn DiskFile>>,
    /// Bytes of entries kept for readers after they were written; applied ones go first.
    cache_bytes_max: usize,
}

pub(crate) struct Shared {
    index: Mutex<Index>,
    seal: Arc<dyn Seal>,
    /// Bytes that can be appended without asking the file system for space.
    room: AtomicU64,
    /// Bytes that the last segment still has reserved.
    tail_room: AtomicU64,
    /// The file system had no space when it was asked last.
    short: watch::Sender<bool>,
    /// Bytes of log that a purge could give back.
    bytes: AtomicU64,
    /// Times that the writer waited for the disk.
    syncs: AtomicU64,
    /// Told when a segment fills up: time to think of a snapshot.
    grown: Notify,
    /// Why nothing is written any more.
    failed: OnceLock<String>,
    /// Told when that is known.
    ended: watch::Sender<bool>,
}

#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
    read_bytes_max: usize,
    votes_room: u64,
}

impl Shared {
    fn fail(&self, why: String) {
        let _ = self.failed.set(why);
        self.ended.send_replace(true);
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn next(&self) -> u64 {
        self.last
            .map_or(0, |l| l.index + 1)
            .max(self.purged.map_or(0, |p| p.index + 1))
    }

    /// The first entry there is (or would be).
    fn first(&self) -> u64 {
        let cached = if self.slots.is_empty() {
            self.cached_from
        } else {
            self.base
        };
        cached.max(self.purged.map_or(0, |p| p.index + 1))
    }

    /// Forgets entries that can be read from their segments.
    fn evict(&mut self) {
        while self.cached_from < self.written {
            let spent = self.cached_from < self.applied || self.cached_bytes > self.cache_bytes_max;
            if !spent {
                break;
            }
            match self.cache.pop_front() {
                Some((_, bytes)) => self.cached_bytes -= bytes,
                None => break,
            }
            self.cached_from += 1;
        }
        if self.cache.is_empty() && self.cache.capacity() > 4096 {
            self.cache.shrink_to(64);
        }
    }
}

fn damaged(error: CodecError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Log {
    /// Reads what is there, cuts a torn tail, and starts the writer.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path, segment_bytes: u64, seal: Arc<dyn Seal>) -> Result<Log, StoreError> {
        let mut loaded = segments::load(&**disk, dir)?;
        loaded.index.cache_bytes_max = segment_bytes as usize / 4;
        let shared = Arc::new(Shared {
            index: Mutex::new(loaded.index),
            seal,
            room: AtomicU64::new(0),
            tail_room: AtomicU64::new(0),
            short: watch::Sender::new(false),
            bytes: AtomicU64::new(loaded.bytes),
            syncs: AtomicU64::new(0),
            grown: Notify::new(),
            failed: OnceLock::new(),
            ended: watch::Sender::new(false),
        });
        let (jobs, queue) = mpsc::unbounded_channel();
        let place = Place {
            disk: disk.clone(),
            dir: dir.into(),
            segment_bytes,
        };
        let writer = Writer::open(place, shared.clone(), loaded.sealed, loaded.tail)?;
        let log = Log {
            shared,
            jobs,
            read_bytes_max: (segment_bytes / READ_PART) as usize,
            votes_room: segment_bytes / VOTES_PART,
        };
        if host::simulated() {
            host::spawn(writer.run_as_task(queue));
            return Ok(log);
        }
        std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run(queue))
            .map_err(|source| StoreError::Io {
                action: "starting the log's writer".into(),
                source,
            })?;
        Ok(log)
    }

    /// Everything up to `index` was applied: nobody here will read it again.
    pub fn applied(&self, index: u64) {
        let mut inner = self.shared.index();
        inner.applied = inner.applied.max(index + 1);
        inner.evict();
    }

    /// The entries up to this one are gone, because a snapshot covers them.
    pub fn purged(&self) -> Option<LogId> {
        self.shared.index().purged
    }

    /// Bytes of log on disk.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// How often the disk was waited for.
    pub fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    pub async fn grown(&self) {
        self.shared.grown.notified().await;
    }

    /// Is there reserved space for that many bytes more? Asks the file system for some if not.
    pub async fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        self.check()?;
        if self.shared.room.load(Ordering::Acquire) >= bytes {
            return Ok(());
        }
        let (reply, done) = oneshot::channel();
        self.jobs.send(Job::Reserve(reply)).map_err(|_| StoreError::Closed)?;
        match done.await {
            Ok(Ok(())) => self.check(),
            Ok(Err(source)) => Err(StoreError::ReadOnly(format!(
                "no space could be reserved for the log ({source}); free some on the data directory's file system, writes then go on by themselves"
            ))),
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// Whether the file system had no space when it was asked last, as that changes. What
    /// is reserved then is for votes and the like.
    pub fn short(&self) -> watch::Receiver<bool> {
        self.shared.short.subscribe()
    }

    /// Whether that many bytes fit what is reserved, and leave enough for votes.
    pub fn fits(&self, bytes: u64) -> bool {
        let left = self.shared.tail_room.load(Ordering::Acquire);
        left >= bytes + self.votes_room
    }

    /// Fails once the log could not be written: what was not acknowledged never will be.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.shared.failed.get() {
            None => Ok(()),
            Some(why) => Err(StoreError::ReadOnly(why.clone())),
        }
    }

    /// Waits until nothing is written any more, for whatever reason.
    pub async fn ended(&self) {
        let _ = self.shared.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Ends the writer after everything queued before.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.jobs.send(Job::Close(reply)).is_ok() {
            let _ = done.await;
        }
    }

    async fn write(&self, frames: Vec<u8>, effect: Effect) -> io::Result<()> {
        let (reply, done) = oneshot::channel();
        let job = Job::Write {
            frames,
            effect,
            done: Done::Reply(reply),
        };
        self.jobs.send(job).map_err(|_| closed())?;
        done.await.map_err(|_| closed())?
    }

    /// Appends an entry while nothing else uses the log, which is to be closed after it.
    pub async fn append_alone(&self, entry: &RaftEntry) -> io::Result<()> {
        let mut frames = Vec::new();
        frame::begin(&mut frames, Kind::Entry, |out| {
            codec::put_raft_entry(out, entry, &*self.shared.seal);
        });
        let first = entry.index();
        self.write(frames, Effect::Entries { first }).await
    }

    /// The last entry there is, or was purged.
    pub fn last(&self) -> Option<LogId> {
        let inner = self.shared.index();
        inner.last.max(inner.purged)
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<RaftEntry>> {
        let mut places = Vec::new();
        let mut recent = Vec::new();
        {
            let inner = self.shared.index();
            let (from, to) = (from.max(inner.first()), to.min(inner.next()));
            let mut bytes = 0;
            for index in from..to {
                if bytes > bytes_max {
                    break;
                }
                if index >= inner.cached_from {
                    let Some((entry, size)) = inner.cache.get((index - inner.cached_from) as usize) else {
                        break;
                    };
                    recent.push(entry.clone());
                    bytes += size;
                    continue;
                }
                let slot = index.checked_sub(inner.base).and_then(|i| inner.slots.get(i as usize));
                let slot = slot.ok_or_else(|| io::Error::other(format!("log entry {index} is missing")))?;
                let file = inner.segments.get(&slot.segment);
                let file = file.ok_or_else(|| io::Error::other(format!("log segment {} is missing", slot.segment)))?;
                places.push((index, *slot, file.clone()));
                bytes += slot.length as usize;
            }
        }
        let mut entries = Vec::with_capacity(places.len() + recent.len());
        for (index, slot, file) in places {
            let mut record = vec![0; slot.length as usize];
            file.read_exact_at(&mut record, u64::from(slot.offset))?;
            let found = frame::record_at(&record, 0).filter(|f| f.kind == Kind::Entry);
            let found = found.ok_or_else(|| {
                let at = format!(
                    "log entry {index} is damaged in segment {} at offset {}",
                    slot.segment, slot.offset
                );
                io::Error::new(io::ErrorKind::InvalidData, at)
            })?;
            entries.push(
                codec::read_raft_entry(Bytes::from(record).slice(found.payload), &*self.shared.seal)
                    .map_err(damaged)?,
            );
        }
        entries.extend(recent);
        Ok(entries)
    }
}

/// A segment with these payloads as entries.
#[cfg(test)]
pub fn segment_for_tests(payloads: &[Bytes]) -> Vec<u8> {
    let mut out = frame::segment_header(1).to_vec();
    for payload in payloads {
        let start = out.len();
        frame::begin(&mut out, Kind::Entry, |o| o.extend_from_slice(payload));
        frame::finish(&mut out[start..], start as u32);
    }
    out
}

fn closed() -> io::Error {
    io::Error::other("the log is closed")
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(n) => *n,
        Bound::Excluded(n) => n.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(n) => n.saturating_add(1),
        Bound::Excluded(n) => *n,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<Types> for Log {
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<RaftEntry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let to = to.min(self.shared.index().next());
        let steps = futures::stream::unfold((self.clone(), from), move |(log, from)| async move {
            if from >= to {
                return None;
            }
            let until = to.min(from + STREAM_ENTRIES);
            let (items, next): (Vec<_>, u64) = match log.read(from, until, usize::MAX) {
                Ok(entries) => (entries.into_iter().map(Ok).collect(), until),
                Err(error) => (vec![Err(error)], to),
            };
            Some((futures::stream::iter(items), (log, next)))
        });
        Box::pin(futures::StreamExt::flatten(steps))
    }

    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let (from, to) = bounds(&range);
        self.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(start, end, self.read_bytes_max)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.index().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let inner = self.shared.index();
        Ok(LogState {
            last_purged_log_id: inner.purged,
            last_log_id: inner.last.max(inner.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let mut frames = Vec::new();
        frame::begin(&mut frames, Kind::Vote, |out| codec::put_vote(out, vote));
        self.write(frames, Effect::Vote(*vote)).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut frames = Vec::new();
        let mut first = None;
        let mut encoded = Vec::new();
        for entry in entries {
            let start = frames.len();
            frame::begin(&mut frames, Kind::Entry, |out| {
                codec::put_raft_entry(out, &entry, &*self.shared.seal)
            });
            first.get_or_insert(entry.index());
            encoded.push((entry, frames.len() - start));
        }
        let Some(first) = first else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        {
            let mut inner = self.shared.index();
            if inner.cache.is_empty() {
                inner.cached_from = first;
            }
            for (entry, bytes) in encoded {
                inner.last = Some(entry.log_id);
                inner.cached_bytes += bytes;
                inner.cache.push_back((entry, bytes));
            }
        }
        let job = Job::Write {
            frames,
            effect: Effect::Entries { first },
            done: Done::Raft(callback),
        };
        self.jobs.send(job).map_err(|_| closed())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let next = last_log_id.map_or(0, |l| l.index + 1);
        {
            let mut inner = self.shared.index();
            if next >= inner.next() {
                return Ok(());
            }
            while inner.cached_from + inner.cache.len() as u64 > next {
                match inner.cache.pop_back() {
                    Some((_, bytes)) => inner.cached_bytes -= bytes,
                    None => break,
                }
            }
            inner.cached_from = inner.cached_from.min(next);
            inner.last = last_log_id;
        }
        let mut frames = Vec::new();
        frame::begin(&mut frames, Kind::Truncate, |out| {
            codec::put_u64(out, next);
            codec::put_log_id_option(out, &last_log_id);
        });
        self.write(frames, Effect::Truncate(next)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        {
            let mut inner = self.shared.index();
            inner.purged = inner.purged.max(Some(log_id));
            while inner.cached_from <= log_id.index {
                match inner.cache.pop_front() {
                    Some((_, bytes)) => inner.cached_bytes -= bytes,
                    None => break,
                }
                inner.cached_from += 1;
            }
        }
        let mut frames = Vec::new();
        frame::begin(&mut frames, Kind::Purge, |out| codec::put_log_id(out, &log_id));
        self.write(frames, Effect::Purge(log_id)).await
    }
}
