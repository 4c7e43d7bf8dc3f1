//! The applied state in sled, with the log position it stands for in the same batch,
//! so that a start need not replay the log. A copy of convenience: what must not be
//! lost is in the log and the snapshots.
//!
//! sled's `flush` starts writing but does not wait for the disk. So whatever is read
//! from it is checked against the counts and the sum of checksums that lie in the same
//! batch, and is thrown away if they do not match. Nothing is purged on its account.
//!
//! A thread of its own (simulated: a task) writes what has changed, at most once a second and less
//! often when there is much, and sleeps when nothing does. A key written often meanwhile costs one write.

use crate::applied::AppliedState;
use crate::codec::{self, CodecError, Plain, Reader, Seal};
use crate::contract::*;
use crate::host::{self, Disk, Table, TableWrite};
use crate::mvcc::State;
use crate::snapshot::Point;
use bytes::Bytes;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;

/// How long changes gather. A crash loses none of them: the log has them.
const GATHER: Duration = Duration::from_secs(1);

/// Writing takes a small part of the time, however much changes: under load, writing every
/// second took more than a third of all that a put costs. What is not written yet is replayed
/// from the log by the next start.
const GATHER_PER_WRITE: u32 = 16;
const GATHER_MAX: Duration = Duration::from_secs(30);

/// Items in one batch. sled frees no page that a batch has replaced before the batch
/// ends: with tens of thousands of items in one, that came to more than a gigabyte.
const BATCH_ITEMS: usize = 256;

/// Bytes in one batch, for the same reason; and so that a slow disk is seen to get on.
const BATCH_BYTES: usize = 1 << 20;

/// How long closing waits for a batch of what is left. It goes on while batches get done: whoever
/// comes next to the directory must not find a writer in it.
const CLOSE_MAX: Duration = Duration::from_secs(5);

const META: &[u8] = b"m";
const FORMAT: u8 = 1;

fn live_key(key: &[u8]) -> Vec<u8> {
    [b"e", key].concat()
}

/// Events of one revision are told apart by their key.
fn history_key(event: &Event) -> Vec<u8> {
    [b"h", &event.revision.to_be_bytes()[..], event.key()].concat()
}

/// Count and order-independent sum of the checksums of a set of items.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Sum {
    count: u64,
    sum: u64,
}

fn mix(bytes: &[u8]) -> u64 {
    let crc = u64::from(crc32c::crc32c(bytes)) | (bytes.len() as u64) << 32;
    let mixed = crc.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

impl Sum {
    fn add(&mut self, hash: u64) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash);
    }

    fn take(&mut self, hash: u64) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash);
    }
}

fn entry_hash(entry: &Entry, scratch: &mut Vec<u8>) -> u64 {
    scratch.clear();
    codec::put_bytes(scratch, entry.key());
    codec::put_entry(scratch, entry, &Plain);
    mix(scratch)
}

fn event_hash(event: &Event, scratch: &mut Vec<u8>) -> u64 {
    scratch.clear();
    codec::put_change(scratch, event, &Plain);
    mix(scratch)
}

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Sums {
    live: Sum,
    history: Sum,
}

/// The database open, with what it holds.
pub struct StateDb {
    db: Box<dyn Table>,
    held: Point,
    sums: Sums,
    seal: Arc<dyn Seal>,
    /// Batches written, ever.
    batches: Arc<AtomicU64>,
}

fn put_meta(point: &Point, sums: &Sums) -> Vec<u8> {
    let mut out = vec![FORMAT];
    codec::put_log_id_option(&mut out, &point.last);
    codec::put_stored_membership(&mut out, &point.membership);
    let numbers = [point.state.revision(), point.state.compacted()];
    let sums = [sums.live.count, sums.live.sum, sums.history.count, sums.history.sum];
    numbers
        .into_iter()
        .chain(sums)
        .for_each(|n| codec::put_u64(&mut out, n));
    codec::put_u64(&mut out, point.state.marks().len() as u64);
    for (key, revision) in point.state.marks() {
        codec::put_bytes(&mut out, key);
        codec::put_u64(&mut out, *revision);
    }
    codec::put_u64(&mut out, point.state.leases().len() as u64);
    point.state.leases().iter().for_each(|l| codec::put_lease(&mut out, &l));
    codec::put_u64(&mut out, point.state.sessions().len() as u64);
    let sessions = point.state.sessions().iter();
    sessions.for_each(|(origin, session)| codec::put_session(&mut out, origin, session));
    codec::put_u64(&mut out, point.state.alarms().len() as u64);
    point.state.alarms().iter().for_each(|n| codec::put_u64(&mut out, *n));
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("sled: {0}")]
    Sled(#[from] std::io::Error),
    #[error("{0}")]
    Codec(#[from] CodecError),
    #[error("{0}")]
    Content(&'static str),
}

fn load(db: &dyn Table, seal: &dyn Seal) -> Result<(Point, Sums), Broken> {
    let Some(meta) = db.get(META)? else {
        return match db.is_empty() {
            true => Ok((Point::default(), Sums::default())),
            false => Err(Broken::Content("it was not written to the end")),
        };
    };
    let (body, crc) = meta.split_at(meta.len().saturating_sub(4));
    if crc32c::crc32c(body).to_le_bytes() != *crc {
        return Err(Broken::Content("its description is damaged"));
    }
    let mut r = Reader::new(Bytes::copy_from_slice(body));
    let found = r.u8("format")?;
    if found != FORMAT {
        return Err(CodecError::Version { found }.into());
    }
    let last = codec::read_log_id_option(&mut r)?;
    let membership = codec::read_stored_membership(&mut r)?;
    let (revision, compacted) = (r.u64("revision")?, r.u64("compacted")?);
    let live = Sum {
        count: r.u64("count")?,
        sum: r.u64("sum")?,
    };
    let history = Sum {
        count: r.u64("count")?,
        sum: r.u64("sum")?,
    };
    let marks = (0..r.count("marks")?)
        .map(|_| Ok((Bytes::copy_from_slice(&r.bytes("mark")?), r.u64("mark")?)))
        .collect::<Result<Vec<_>, CodecError>>()?;
    // A release that knew no leases ended here.
    let leases = match r.is_empty() {
        true => Vec::new(),
        false => (0..r.count("leases")?)
            .map(|_| codec::read_lease(&mut r))
            .collect::<Result<_, _>>()?,
    };
    let sessions = match r.is_empty() {
        true => Vec::new(),
        false => (0..r.count("sessions")?)
            .map(|_| codec::read_session(&mut r))
            .collect::<Result<_, _>>()?,
    };
    let alarms: Vec<u64> = match r.is_empty() {
        true => Vec::new(),
        false => (0..r.count("alarms")?)
            .map(|_| r.u64("alarm"))
            .collect::<Result<_, _>>()?,
    };
    let (mut entries, mut changes) = (Vec::new(), Vec::new());
    for item in db.scan(b"e") {
        let (key, value) = item?;
        let mut r = Reader::new(Bytes::from(value));
        entries.push(codec::read_entry(&mut r, &key[1..], seal)?);
    }
    for item in db.scan(b"h") {
        changes.push(codec::read_change(&mut Reader::new(Bytes::from(item?.1)), seal)?);
    }
    let state = State::restore(revision, compacted, entries, changes, marks, leases, sessions, alarms);
    let found = sums_of(&state);
    if found != (Sums { live, history }) {
        return Err(Broken::Content("its content does not match its checksum"));
    }
    Ok((
        Point {
            state,
            last,
            membership,
        },
        found,
    ))
}

fn sums_of(state: &State) -> Sums {
    let (mut sums, mut scratch) = (Sums::default(), Vec::new());
    state
        .tree()
        .iter_from(b"")
        .for_each(|e| sums.live.add(entry_hash(e, &mut scratch)));
    state
        .history()
        .iter()
        .for_each(|e| sums.history.add(event_hash(e, &mut scratch)));
    sums
}

fn live(entry: &Entry, seal: &dyn Seal) -> TableWrite {
    let mut value = Vec::with_capacity(entry.body().len() + 64);
    codec::put_entry(&mut value, entry, seal);
    (live_key(entry.key()), Some(value))
}

fn past(event: &Event, seal: &dyn Seal) -> TableWrite {
    let mut value = Vec::new();
    codec::put_change(&mut value, event, seal);
    (history_key(event), Some(value))
}

/// Writes items, and the description in the last batch. When they do not fit one
/// batch, the description is absent meanwhile: a crash then leaves a database that
/// says of itself that it is not whole.
fn write(
    db: &mut dyn Table,
    items: impl Iterator<Item = TableWrite>,
    meta: Vec<u8>,
    batches: &AtomicU64,
) -> std::io::Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for item in items {
        if batch.len() == BATCH_ITEMS || bytes > BATCH_BYTES {
            batch.push((META.to_vec(), None));
            db.write(std::mem::take(&mut batch))?;
            batches.fetch_add(1, Ordering::Relaxed);
            bytes = 0;
        }
        bytes += item.0.len() + item.1.as_ref().map_or(0, Vec::len);
        batch.push(item);
    }
    batch.push((META.to_vec(), Some(meta)));
    db.write(batch)?;
    batches.fetch_add(1, Ordering::Relaxed);
    db.flush()
}

impl StateDb {
    /// Opens the database and loads and verifies what it holds. One that is broken is
    /// made anew, empty: the caller has the snapshot and the log.
    pub fn open(disk: &dyn Disk, dir: &Path, seal: Arc<dyn Seal>) -> Result<StateDb, StoreError> {
        // sled panics on some kinds of damage.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> Result<_, Broken> {
            let db = disk.table(dir)?;
            let (held, sums) = load(&*db, &*seal)?;
            Ok((db, held, sums))
        }));
        let io = |source| StoreError::Io {
            action: format!("opening {}", dir.display()),
            source,
        };
        let why = match opened {
            // It is somebody's: whole, and not ours to make anew.
            Ok(Err(Broken::Sled(source))) if source.kind() == std::io::ErrorKind::WouldBlock => return Err(io(source)),
            Ok(Ok((db, held, sums))) => {
                return Ok(StateDb {
                    db,
                    held,
                    sums,
                    seal,
                    batches: Arc::default(),
                });
            }
            Ok(Err(broken)) => broken.to_string(),
            Err(_) => "sled gave up on it".to_string(),
        };
        tracing::warn!(dir = %dir.display(), why, "the state database is not usable; rebuilding it from the snapshot and the log");
        disk.remove_dir(dir).map_err(io)?;
        let db = disk.table(dir).map_err(io)?;
        Ok(StateDb {
            db,
            held: Point::default(),
            sums: Sums::default(),
            seal,
            batches: Arc::default(),
        })
    }

    pub fn point(&self) -> &Point {
        &self.held
    }

    /// Makes the database hold `point`, which what it holds has become.
    fn advance(&mut self, point: Point) -> std::io::Result<()> {
        let (old, new, seal) = (&self.held.state, &point.state, &*self.seal);
        let (mut sums, mut scratch) = (self.sums, Vec::new());
        for (before, now) in new.tree().since(old.tree()) {
            before.inspect(|e| sums.live.take(entry_hash(e, &mut scratch)));
            now.inspect(|e| sums.live.add(entry_hash(e, &mut scratch)));
        }
        let gone = || old.history().iter().take_while(|e| e.revision <= new.compacted());
        gone().for_each(|e| sums.history.take(event_hash(e, &mut scratch)));
        let known = old.revision().max(new.compacted());
        let added = || new.history().iter().rev().take_while(move |e| e.revision > known);
        added().for_each(|e| sums.history.add(event_hash(e, &mut scratch)));
        let current = new.tree().since(old.tree()).filter_map(|(before, now)| match now {
            Some(entry) => Some(live(entry, seal)),
            None => before.map(|entry| (live_key(entry.key()), None)),
        });
        let earlier = gone()
            .map(|e| (history_key(e), None))
            .chain(added().map(|e| past(e, seal)));
        write(
            &mut *self.db,
            current.chain(earlier),
            put_meta(&point, &sums),
            &self.batches,
        )?;
        (self.held, self.sums) = (point, sums);
        Ok(())
    }

    /// Writes all of `point` into the emptied database.
    fn rewrite(&mut self, point: Point) -> std::io::Result<()> {
        self.db.clear()?;
        let (sums, seal) = (sums_of(&point.state), &*self.seal);
        let current = point.state.tree().iter_from(b"").map(|e| live(e, seal));
        let earlier = point.state.history().iter().map(|e| past(e, seal));
        write(
            &mut *self.db,
            current.chain(earlier),
            put_meta(&point, &sums),
            &self.batches,
        )?;
        (self.held, self.sums) = (point, sums);
        Ok(())
    }
}

/// What is to be done.
#[derive(Default)]
struct Pending {
    /// Something was applied.
    changed: bool,
    /// The state was replaced as a whole.
    rewrite: bool,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    condvar: Condvar,
    /// Instead of the condition where there are no threads.
    notify: Notify,
}

impl Shared {
    fn wake(&self) {
        self.condvar.notify_all();
        self.notify.notify_one();
    }
}

/// Writes behind, on its own thread.
pub struct Persister {
    shared: Arc<Shared>,
    batches: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Persister {
    pub fn spawn(db: StateDb, applied: Arc<AppliedState>) -> Result<Arc<Persister>, StoreError> {
        let shared = Arc::new(Shared::default());
        let (theirs, batches) = (shared.clone(), db.batches.clone());
        if host::simulated() {
            host::spawn(run_as_task(db, applied, theirs));
            let thread = Mutex::new(None);
            return Ok(Arc::new(Persister {
                shared,
                batches,
                thread,
            }));
        }
        let thread = std::thread::Builder::new()
            .name("state-db".into())
            .spawn(move || run(db, &applied, &theirs))
            .map_err(|source| StoreError::Io {
                action: "starting the state database's writer".into(),
                source,
            })?;
        Ok(Arc::new(Persister {
            shared,
            batches,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Something was applied.
    pub fn changed(&self) {
        if !std::mem::replace(&mut lock(&self.shared.pending).changed, true) {
            self.shared.wake();
        }
    }

    /// The state was replaced as a whole.
    pub fn replaced(&self) {
        let mut pending = lock(&self.shared.pending);
        (pending.rewrite, pending.changed) = (true, true);
        drop(pending);
        self.shared.wake();
    }

    /// Writes what is pending, and ends. Blocking.
    pub fn close(&self) {
        lock(&self.shared.pending).closing = true;
        self.shared.wake();
        let Some(thread) = lock(&self.thread).take() else {
            return;
        };
        // sled may hang on a disk that failed; what it lacks is in the log.
        let (mut since, mut done) = (std::time::Instant::now(), self.batches.load(Ordering::Relaxed));
        while !thread.is_finished() {
            let now = self.batches.load(Ordering::Relaxed);
            if now != done {
                (since, done) = (std::time::Instant::now(), now);
            }
            if since.elapsed() > CLOSE_MAX {
                tracing::warn!("the state database does not end; leaving it to be replayed from the log");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // A panic in there has been logged by the panic hook, and costs a replay.
        let _ = thread.join();
    }
}

/// Its thread ends by itself, also when the store was never quite opened.
impl Drop for Persister {
    fn drop(&mut self) {
        lock(&self.shared.pending).closing = true;
        self.shared.wake();
    }
}

fn run(mut db: StateDb, applied: &AppliedState, shared: &Shared) {
    let (mutex, condvar) = (&shared.pending, &shared.condvar);
    let mut failing = false;
    let mut gather = GATHER;
    loop {
        let mut pending = lock(mutex);
        while !pending.changed && !pending.closing {
            pending = condvar.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        if !pending.closing {
            let gathered = condvar.wait_timeout_while(pending, gather, |p| !p.closing);
            pending = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        let work = take(&mut pending);
        drop(pending);
        let begun = std::time::Instant::now();
        let goes_on = done(&mut db, applied, work, &mut failing);
        gather = (begun.elapsed() * GATHER_PER_WRITE).clamp(GATHER, GATHER_MAX);
        if !goes_on {
            return;
        }
    }
}

/// Like `run`, where there are no threads.
async fn run_as_task(mut db: StateDb, applied: Arc<AppliedState>, shared: Arc<Shared>) {
    let mut failing = false;
    loop {
        shared.notify.notified().await;
        if !lock(&shared.pending).closing {
            tokio::time::sleep(GATHER).await;
        }
        let work = take(&mut lock(&shared.pending));
        if !done(&mut db, &applied, work, &mut failing) {
            return;
        }
    }
}

fn take(pending: &mut Pending) -> Pending {
    let work = std::mem::take(pending);
    pending.closing = work.closing;
    work
}

/// Does the work; false when it was the last.
fn done(db: &mut StateDb, applied: &AppliedState, work: Pending, failing: &mut bool) -> bool {
    if work.changed {
        // No more than a look: what differs is found in what the two states do not share.
        let point = applied.point();
        let result = match work.rewrite || *failing {
            true => db.rewrite(point),
            false => db.advance(point),
        };
        *failing = result.is_err();
        if let Err(error) = result {
            // The log and the snapshots have it all; the next change tries again.
            tracing::warn!(%error, "the state database could not be written; it is rebuilt with the next change");
        }
    }
    !work.closing
}

#[cfg(test)]
#[path = "state_db_test.rs"]
mod state_db_test;
