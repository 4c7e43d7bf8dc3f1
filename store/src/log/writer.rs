//! The log's writer, on a thread of its own: the only one that writes segments. Takes queued jobs as a
//! group, writes them with one sync, then tells everybody who waited.

use super::frame::{self, Kind};
use super::segments::{SPARE, Sealed, Tail, io as io_error, path_of};
use super::{Shared, Slot};
use crate::codec;
use crate::contract::StoreError;
use crate::host::{self, Disk, Open};
use crate::raft_types::*;
use openraft::storage::IOFlushed;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

/// Bytes written with one sync.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// A purge starts a new segment when the current one holds more than this part of what it
/// may, so that the purged entries in it can go with the next purge.
const PURGE_ROTATE_PART: u64 = 8;

/// How long to wait for space when the disk is full in spite of the reservation.
const FULL_RETRY: Duration = Duration::from_secs(1);

pub enum Done {
    Raft(IOFlushed<Types>),
    Reply(oneshot::Sender<io::Result<()>>),
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            Done::Raft(callback) => callback.io_completed(result),
            Done::Reply(reply) => {
                // Whoever asked may have given up.
                let _ = reply.send(result);
            }
        }
    }
}

/// What the frames of a job change in the index.
pub enum Effect {
    Entries { first: u64 },
    Vote(Vote),
    Truncate(u64),
    Purge(LogId),
}

pub enum Job {
    Write {
        frames: Vec<u8>,
        effect: Effect,
        done: Done,
    },
    Reserve(oneshot::Sender<io::Result<()>>),
    Close(oneshot::Sender<()>),
}

/// Where the log lies.
pub struct Place {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    /// Size of a segment, reserved when it is made, so that a full disk is noticed before
    /// a transaction is proposed and not while it is written. There is always a spare one.
    pub segment_bytes: u64,
}

pub struct Writer {
    place: Place,
    shared: Arc<Shared>,
    sealed: Vec<Sealed>,
    tail: Tail,
    /// Offset in the tail up to which it is on stable storage.
    synced: u64,
    /// What goes to the tail, from its `end` on.
    buffer: Vec<u8>,
    spare: bool,
    tail_reserved: bool,
    /// The file system can reserve space.
    reserves: bool,
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Writer {
    pub fn open(
        place: Place,
        shared: Arc<Shared>,
        sealed: Vec<Sealed>,
        tail: Option<Tail>,
    ) -> Result<Writer, StoreError> {
        let next = sealed.last().map_or(1, |s| s.sequence + 1);
        let fresh = tail.is_none();
        let tail = match tail {
            Some(tail) => tail,
            None => {
                let path = path_of(&place.dir, next);
                let file = place.disk.open(&path, Open::New);
                let file = file.map_err(io_error("making", &path))?;
                Tail {
                    sequence: next,
                    last_index: None,
                    file,
                    end: 0,
                }
            }
        };
        let reserved = tail.file.reserve(place.segment_bytes);
        let spare = place.disk.open(&place.dir.join(SPARE), Open::Read);
        let spare = spare
            .and_then(|file| file.len())
            .is_ok_and(|len| len == place.segment_bytes);
        let mut writer = Writer {
            place,
            shared,
            sealed,
            synced: tail.end,
            tail,
            buffer: Vec::new(),
            spare,
            tail_reserved: matches!(reserved, Ok(true)),
            reserves: !matches!(reserved, Ok(false)),
        };
        if fresh {
            let path = path_of(&writer.place.dir, next);
            writer.shared.index().segments.insert(next, writer.tail.file.clone());
            writer.begin_segment();
            writer
                .flush()
                .and_then(|()| writer.sync_dir())
                .map_err(io_error("writing", &path))?;
        }
        writer.note_room();
        Ok(writer)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.place.disk.sync_dir(&self.place.dir)
    }

    pub fn run(mut self, mut queue: UnboundedReceiver<Job>) {
        // The spare is made off the way of opening the store.
        self.refill();
        while let Some(job) = queue.blocking_recv() {
            if !self.work(gather(job, &mut queue)) {
                return;
            }
        }
    }

    /// Like `run`, where there are no threads.
    pub async fn run_as_task(mut self, mut queue: UnboundedReceiver<Job>) {
        self.refill();
        while let Some(job) = queue.recv().await {
            let group = gather(job, &mut queue);
            host::blocks().await;
            if !self.work(group) {
                return;
            }
        }
    }

    /// Does a group of jobs; false when it was told to end.
    fn work(&mut self, group: Vec<Job>) -> bool {
        let (mut waiting, mut reserves, mut closing, mut purged) = (Vec::new(), Vec::new(), None, None);
        let mut result = match self.shared.failed.get() {
            None => Ok(()),
            Some(why) => Err(io::Error::other(why.clone())),
        };
        for job in group {
            match job {
                Job::Write { frames, effect, done } => {
                    if let Effect::Purge(id) = &effect {
                        purged = purged.max(Some(*id));
                    }
                    if result.is_ok() {
                        result = self.stage(frames, effect);
                    }
                    waiting.push(done);
                }
                Job::Reserve(reply) => reserves.push(reply),
                Job::Close(reply) => closing = Some(reply),
            }
        }
        if result.is_ok() {
            result = self.flush();
        }
        if let Err(error) = &result {
            let path = path_of(&self.place.dir, self.tail.sequence);
            let why = format!(
                "{} could not be written ({error}); after a failed write or sync its state on disk is unknown: check the disk, then restart",
                path.display()
            );
            if self.shared.failed.get().is_none() {
                tracing::error!(%error, file = %path.display(), "the Raft log could not be written; no write is acknowledged any more");
            }
            self.shared.fail(why);
        }
        for done in waiting {
            done.tell(
                result
                    .as_ref()
                    .copied()
                    .map_err(|e| io::Error::new(e.kind(), e.to_string())),
            );
        }
        if result.is_ok()
            && let Some(upto) = purged
        {
            self.drop_segments(upto);
        }
        // On a full disk whoever asks for space tries, not every write.
        if !self.spare && !*self.shared.short.borrow() {
            self.refill();
        }
        for reply in reserves {
            let outcome = if self.spare || !self.reserves {
                Ok(())
            } else {
                self.make_spare()
            };
            let _ = reply.send(outcome);
        }
        self.note_room();
        match closing {
            None => true,
            Some(reply) => {
                let _ = reply.send(());
                false
            }
        }
    }

    /// Places a job's frames in the buffer and the index.
    fn stage(&mut self, mut frames: Vec<u8>, effect: Effect) -> io::Result<()> {
        let mut at = 0;
        let mut slots = Vec::new();
        while at < frames.len() {
            let length = frame::length(&frames[at..]);
            let end = self.tail.end + (self.buffer.len() + length) as u64;
            if end > self.place.segment_bytes && self.tail.end + self.buffer.len() as u64 > frame::SEGMENT_HEADER as u64
            {
                self.rotate()?;
            }
            let offset = self.tail.end + self.buffer.len() as u64;
            frame::finish(&mut frames[at..at + length], self.synced as u32);
            self.buffer.extend_from_slice(&frames[at..at + length]);
            slots.push(Slot {
                segment: self.tail.sequence,
                offset: offset as u32,
                length: length as u32,
            });
            if let Effect::Entries { first } = effect {
                self.tail.last_index = self.tail.last_index.max(Some(first + slots.len() as u64 - 1));
            }
            at += length;
        }
        let mut index = self.shared.index();
        match effect {
            Effect::Entries { first } => {
                if index.slots.is_empty() {
                    index.base = first;
                }
                if first != index.base + index.slots.len() as u64 {
                    return Err(io::Error::other(format!("log entry {first} would leave a hole")));
                }
                index.slots.extend(slots);
            }
            Effect::Vote(vote) => index.vote = Some(vote),
            Effect::Truncate(next) => index.truncate_slots(next),
            Effect::Purge(upto) => index.purge_slots(upto),
        }
        Ok(())
    }

    /// Writes the buffer and syncs. Waits for space where there is none: nothing is
    /// lost by it, and reads go on.
    fn flush(&mut self) -> io::Result<()> {
        let mut told = false;
        // Only a failed write may be tried again. A failed sync leaves the kernel's pages
        // in an unknown state, and with space reserved it does not meet a full disk.
        while let Err(error) = self.tail.file.write_all_at(&self.buffer, self.tail.end) {
            if !is_full(&error) {
                return Err(error);
            }
            if !told {
                tracing::error!(dir = %self.place.dir.display(), "the disk is full; writes wait until there is space");
                told = true;
            }
            if host::simulated() {
                return Err(error);
            }
            self.shared.room.store(0, Ordering::Release);
            self.note_short(true);
            std::thread::sleep(FULL_RETRY);
        }
        if told {
            self.note_short(false);
        }
        if !self.buffer.is_empty() {
            self.tail.file.sync_data()?;
            self.shared.syncs.fetch_add(1, Ordering::Relaxed);
            self.tail.end += self.buffer.len() as u64;
            self.shared.bytes.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
            self.buffer.clear();
            self.buffer.shrink_to(1 << 20);
        }
        self.synced = self.tail.end;
        let mut index = self.shared.index();
        index.written = index.base + index.slots.len() as u64;
        index.evict();
        Ok(())
    }

    /// Starts a segment with what the ones before it need not be kept for.
    fn begin_segment(&mut self) {
        self.buffer
            .extend_from_slice(&frame::segment_header(self.tail.sequence));
        let (vote, purged) = {
            let index = self.shared.index();
            (index.vote, index.purged)
        };
        let mut frames = Vec::new();
        if let Some(vote) = vote {
            frame::begin(&mut frames, Kind::Vote, |out| codec::put_vote(out, &vote));
        }
        if let Some(purged) = purged {
            frame::begin(&mut frames, Kind::Purge, |out| codec::put_log_id(out, &purged));
        }
        let mut at = 0;
        while at < frames.len() {
            let length = frame::length(&frames[at..]);
            frame::finish(&mut frames[at..at + length], 0);
            at += length;
        }
        self.buffer.extend_from_slice(&frames);
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.flush()?;
        self.tail.file.set_len(self.tail.end)?;
        self.tail.file.sync()?;
        let sequence = self.tail.sequence + 1;
        let Place {
            disk,
            dir,
            segment_bytes,
        } = &self.place;
        let path = path_of(dir, sequence);
        let file = match self.spare {
            true => {
                disk.rename(&dir.join(SPARE), &path)?;
                (self.spare, self.tail_reserved) = (false, true);
                disk.open(&path, Open::Write)?
            }
            false => {
                let file = disk.open(&path, Open::New)?;
                self.tail_reserved = matches!(file.reserve(*segment_bytes), Ok(true));
                file
            }
        };
        let tail = Tail {
            sequence,
            last_index: None,
            file,
            end: 0,
        };
        self.shared.index().segments.insert(sequence, tail.file.clone());
        let full = std::mem::replace(&mut self.tail, tail);
        self.sealed.push(Sealed {
            sequence: full.sequence,
            last_index: full.last_index,
            bytes: full.end,
        });
        self.synced = 0;
        self.begin_segment();
        self.flush()?;
        self.sync_dir()?;
        self.shared.grown.notify_one();
        Ok(())
    }

    /// Removes segments, oldest first, whose entries are all purged.
    fn drop_segments(&mut self, upto: LogId) {
        // What is left of the last segment that has its space is kept for votes.
        let may_rotate = self.spare || !self.reserves;
        if self.tail.end > self.place.segment_bytes / PURGE_ROTATE_PART
            && may_rotate
            && let Err(error) = self.rotate()
        {
            tracing::warn!(%error, "could not start a new log segment; the log shrinks later");
            return;
        }
        let spent = self
            .sealed
            .iter()
            .take_while(|s| s.last_index.is_none_or(|i| i <= upto.index))
            .count();
        for segment in self.sealed.drain(..spent) {
            self.shared.index().segments.remove(&segment.sequence);
            self.shared.bytes.fetch_sub(segment.bytes, Ordering::Relaxed);
            let path = path_of(&self.place.dir, segment.sequence);
            if let Err(error) = self.place.disk.remove(&path) {
                tracing::warn!(%error, segment = segment.sequence, "could not remove a purged log segment");
            }
        }
    }

    fn make_spare(&mut self) -> io::Result<()> {
        let (disk, path) = (&self.place.disk, self.place.dir.join(SPARE));
        // A leftover has unknown content; segments start out as zeros.
        let file = disk.open(&path, Open::Empty);
        let file = file.inspect_err(|error| self.note_short(is_full(error)))?;
        match file.reserve(self.place.segment_bytes) {
            Ok(true) => {
                file.sync()?;
                self.spare = true;
            }
            Ok(false) => self.reserves = false,
            Err(error) => {
                let _ = disk.remove(&path);
                self.note_short(is_full(&error));
                return Err(error);
            }
        }
        self.note_short(false);
        Ok(())
    }

    fn refill(&mut self) {
        if self.reserves
            && !self.spare
            && let Err(error) = self.make_spare()
        {
            tracing::warn!(%error, dir = %self.place.dir.display(), "could not reserve space for the log");
        }
        self.note_room();
    }

    fn note_short(&self, short: bool) {
        self.shared
            .short
            .send_if_modified(|was| std::mem::replace(was, short) != short);
    }

    fn note_room(&self) {
        let room = match (self.reserves, self.spare) {
            (false, _) => u64::MAX,
            // The rest of the current one is not counted: a record that does not fit skips it.
            (true, true) => self.place.segment_bytes - frame::SEGMENT_HEADER as u64,
            (true, false) => 0,
        };
        let left = match self.tail_reserved {
            true => self.place.segment_bytes.saturating_sub(self.tail.end),
            false => 0,
        };
        self.shared.tail_room.store(left, Ordering::Release);
        self.shared.room.store(room, Ordering::Release);
    }
}

/// What has queued up.
fn gather(first: Job, queue: &mut UnboundedReceiver<Job>) -> Vec<Job> {
    let mut group = vec![first];
    let mut bytes = 0;
    while bytes < GROUP_BYTES_MAX {
        let Ok(job) = queue.try_recv() else { break };
        if let Job::Write { frames, .. } = &job {
            bytes += frames.len();
        }
        group.push(job);
    }
    group
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Callbacks that were never told would keep their callers waiting.
        self.shared.fail("the log's writer has ended".into());
    }
}
