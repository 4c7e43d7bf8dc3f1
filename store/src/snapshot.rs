//! Snapshot files: a whole state with the log position it stands for, synced before
//! its name appears. They are what the log may be purged by. FORMAT.md has the layout.

use crate::codec::{self, CodecError, Reader, Seal};
use crate::contract::*;
use crate::host::{Disk, Open, Stream};
use crate::mvcc::{Session, State};
use crate::raft_types::*;
use bytes::Bytes;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"skiffsnp";
const VERSION: u32 = 1;

/// A block is closed when it passes this; a longer one (one large value) is possible.
const BLOCK_BYTES: usize = 64 << 10;

/// A longer block is damage.
const BLOCK_BYTES_MAX: usize = 32 << 20;

const META: u8 = 0;
const ENTRIES: u8 = 1;
const CHANGES: u8 = 2;
const MARKS: u8 = 3;
const END: u8 = 4;
const LEASES: u8 = 5;
const SESSIONS: u8 = 6;
const ALARMS: u8 = 7;

/// A state and the log position whose application led to it.
#[derive(Clone, Default)]
pub struct Point {
    pub state: State,
    pub last: Option<LogId>,
    pub membership: StoredMembership,
}

/// A snapshot as it is handed to openraft: the file, not its content.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    pub path: PathBuf,
}

struct BlockWriter<W: Write> {
    out: W,
    blocks: u64,
    bytes: u64,
}

impl<W: Write> BlockWriter<W> {
    fn block(&mut self, payload: &[u8]) -> io::Result<()> {
        self.out.write_all(&(payload.len() as u32).to_le_bytes())?;
        self.out.write_all(&crc32c::crc32c(payload).to_le_bytes())?;
        self.out.write_all(payload)?;
        self.blocks += 1;
        self.bytes += 8 + payload.len() as u64;
        Ok(())
    }

    fn items<T>(&mut self, tag: u8, items: impl Iterator<Item = T>, put: impl Fn(&mut Vec<u8>, T)) -> io::Result<()> {
        let mut block = vec![tag];
        for item in items {
            put(&mut block, item);
            if block.len() >= BLOCK_BYTES {
                self.block(&block)?;
                block.truncate(1);
                block.shrink_to(2 * BLOCK_BYTES);
            }
        }
        if block.len() > 1 {
            self.block(&block)?;
        }
        Ok(())
    }
}

fn file_name(last: &Option<LogId>) -> String {
    let (index, term) = last.map_or((0, 0), |l| (l.index, l.leader_id.term));
    format!("{index:016x}-{term:016x}.snap")
}

fn io_error(action: &str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let action = format!("{action} {}", path.display());
    move |source| StoreError::Io { action, source }
}

/// Writes a snapshot and makes it durable; returns its path and size.
pub fn write(disk: &dyn Disk, dir: &Path, point: &Point, seal: &dyn Seal) -> Result<(PathBuf, u64), StoreError> {
    let path = dir.join(file_name(&point.last));
    let partial = path.with_extension("partial");
    let result = write_file(disk, &partial, point, seal)
        .and_then(|bytes| disk.rename(&partial, &path).map(|()| bytes))
        .and_then(|bytes| disk.sync_dir(dir).map(|()| bytes));
    match result {
        Ok(bytes) => Ok((path, bytes)),
        Err(source) => {
            let _ = disk.remove(&partial);
            Err(io_error("writing snapshot", &path)(source))
        }
    }
}

fn write_file(disk: &dyn Disk, path: &Path, point: &Point, seal: &dyn Seal) -> io::Result<u64> {
    let file = disk.open(path, Open::Empty)?;
    let (out, bytes) = write_into(BufWriter::with_capacity(256 << 10, Stream { file, at: 0 }), point, seal)?;
    out.get_ref().file.sync()?;
    Ok(bytes)
}

/// Writes a snapshot as bytes that end by themselves; returns what it wrote to, flushed, and their number.
pub fn write_into<W: Write>(out: W, point: &Point, seal: &dyn Seal) -> io::Result<(W, u64)> {
    let mut out = BlockWriter {
        out,
        blocks: 0,
        bytes: 16,
    };
    out.out.write_all(&MAGIC)?;
    out.out.write_all(&VERSION.to_le_bytes())?;
    out.out.write_all(&[0; 4])?;
    let state = &point.state;
    let mut meta = vec![META];
    codec::put_log_id_option(&mut meta, &point.last);
    codec::put_stored_membership(&mut meta, &point.membership);
    for number in [state.revision(), state.compacted()] {
        codec::put_u64(&mut meta, number);
    }
    out.block(&meta)?;
    out.items(ENTRIES, state.tree().iter_from(b""), |b, e| {
        codec::put_bytes(b, e.key());
        codec::put_entry(b, e, seal);
    })?;
    out.items(CHANGES, state.history().iter(), |b, e| codec::put_change(b, e, seal))?;
    out.items(MARKS, state.marks().iter(), |b, (key, revision)| {
        codec::put_bytes(b, key);
        codec::put_u64(b, *revision);
    })?;
    out.items(LEASES, state.leases().iter(), |b, lease| codec::put_lease(b, &lease))?;
    out.items(SESSIONS, state.sessions().iter(), |b, (origin, session)| {
        codec::put_session(b, origin, session);
    })?;
    out.items(ALARMS, state.alarms().iter(), |b, server| codec::put_u64(b, *server))?;
    let mut end = vec![END];
    codec::put_u64(&mut end, out.blocks);
    codec::put_u64(&mut end, state.tree().len() as u64);
    codec::put_u64(&mut end, state.history().len() as u64);
    out.block(&end)?;
    out.out.flush()?;
    Ok((out.out, out.bytes))
}

struct BlockReader {
    path: PathBuf,
    input: BufReader<Stream>,
    offset: u64,
    blocks: u64,
}

impl BlockReader {
    fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let file = disk.open(path, Open::Read);
        let file = file.map_err(io_error("opening snapshot", path))?;
        BlockReader::begin(path, Stream { file, at: 0 })
    }

    /// Reads from where the stream stands.
    fn begin(path: &Path, stream: Stream) -> Result<Self, StoreError> {
        let mut reader = BlockReader {
            path: path.into(),
            input: BufReader::with_capacity(256 << 10, stream),
            offset: 16,
            blocks: 0,
        };
        let mut header = [0; 16];
        reader
            .input
            .read_exact(&mut header)
            .map_err(|e| reader.corrupt(e.to_string()))?;
        if header[..8] != MAGIC {
            return Err(reader.corrupt("it is not a snapshot".into()));
        }
        let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if version != VERSION {
            return Err(reader.corrupt(format!("it has format {version}, this release reads {VERSION}")));
        }
        Ok(reader)
    }

    fn corrupt(&self, why: String) -> StoreError {
        StoreError::Corrupt {
            file: self.path.display().to_string(),
            offset: self.offset,
            why,
        }
    }

    fn block(&mut self) -> Result<Bytes, StoreError> {
        let mut head = [0; 8];
        self.input
            .read_exact(&mut head)
            .map_err(|e| self.corrupt(e.to_string()))?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length == 0 || length > BLOCK_BYTES_MAX {
            return Err(self.corrupt(format!("a block of {length} bytes cannot be")));
        }
        let mut payload = vec![0; length];
        self.input
            .read_exact(&mut payload)
            .map_err(|e| self.corrupt(e.to_string()))?;
        if crc32c::crc32c(&payload) != u32::from_le_bytes([head[4], head[5], head[6], head[7]]) {
            return Err(self.corrupt("a block's checksum does not match".into()));
        }
        self.blocks += 1;
        self.offset += 8 + length as u64;
        Ok(Bytes::from(payload))
    }
}

struct Meta {
    last: Option<LogId>,
    membership: StoredMembership,
    revision: Revision,
    compacted: Revision,
}

fn decode_meta(block: Bytes) -> Result<Meta, CodecError> {
    let mut r = Reader::new(block);
    match r.u8("snapshot")? {
        META => {}
        tag => {
            return Err(CodecError::Tag {
                what: "the first block",
                tag,
            });
        }
    }
    Ok(Meta {
        last: codec::read_log_id_option(&mut r)?,
        membership: codec::read_stored_membership(&mut r)?,
        revision: r.u64("revision")?,
        compacted: r.u64("compacted")?,
    })
}

/// Only what the snapshot stands for.
pub fn read_meta(disk: &dyn Disk, path: &Path) -> Result<SnapshotMeta, StoreError> {
    let mut reader = BlockReader::open(disk, path)?;
    let block = reader.block()?;
    let meta = decode_meta(block).map_err(|e| reader.corrupt(e.to_string()))?;
    Ok(SnapshotMeta {
        last_log_id: meta.last,
        last_membership: meta.membership,
    })
}

#[derive(Default)]
struct Content {
    entries: Vec<Entry>,
    changes: Vec<codec::Change>,
    marks: Vec<(Bytes, Revision)>,
    leases: Vec<Lease>,
    sessions: Vec<(u64, Session)>,
    alarms: Vec<u64>,
}

/// Takes a block; true at the end of the snapshot, whose totals are then checked.
fn decode_block(block: Bytes, before: u64, content: &mut Content, seal: &dyn Seal) -> Result<bool, CodecError> {
    let mut r = Reader::new(block);
    match r.u8("block")? {
        ENTRIES => {
            while !r.is_empty() {
                let key = r.bytes("key")?;
                content.entries.push(codec::read_entry(&mut r, &key, seal)?);
            }
        }
        CHANGES => {
            while !r.is_empty() {
                content.changes.push(codec::read_change(&mut r, seal)?);
            }
        }
        MARKS => {
            while !r.is_empty() {
                let key = Bytes::copy_from_slice(&r.bytes("mark")?);
                content.marks.push((key, r.u64("mark")?));
            }
        }
        LEASES => {
            while !r.is_empty() {
                content.leases.push(codec::read_lease(&mut r)?);
            }
        }
        SESSIONS => {
            while !r.is_empty() {
                content.sessions.push(codec::read_session(&mut r)?);
            }
        }
        ALARMS => {
            while !r.is_empty() {
                content.alarms.push(r.u64("alarm")?);
            }
        }
        END => {
            let totals = [before, content.entries.len() as u64, content.changes.len() as u64];
            for total in totals {
                if r.u64("total")? != total {
                    return Err(CodecError::Invalid("the number of items"));
                }
            }
            return Ok(true);
        }
        tag => return Err(CodecError::Tag { what: "a block", tag }),
    }
    Ok(false)
}

/// Reads a whole snapshot, checking everything.
pub fn read(disk: &dyn Disk, path: &Path, seal: &dyn Seal) -> Result<Point, StoreError> {
    read_blocks(BlockReader::open(disk, path)?, seal)
}

/// As `read`, from where the stream stands; `path` is what errors name.
pub fn read_from(path: &Path, stream: Stream, seal: &dyn Seal) -> Result<Point, StoreError> {
    read_blocks(BlockReader::begin(path, stream)?, seal)
}

fn read_blocks(mut reader: BlockReader, seal: &dyn Seal) -> Result<Point, StoreError> {
    let block = reader.block()?;
    let meta = decode_meta(block).map_err(|e| reader.corrupt(e.to_string()))?;
    let mut content = Content::default();
    loop {
        let before = reader.blocks;
        let block = reader.block()?;
        if decode_block(block, before, &mut content, seal).map_err(|e| reader.corrupt(e.to_string()))? {
            break;
        }
    }
    let state = State::restore(
        meta.revision,
        meta.compacted,
        content.entries,
        content.changes,
        content.marks,
        content.leases,
        content.sessions,
        content.alarms,
    );
    Ok(Point {
        state,
        last: meta.last,
        membership: meta.membership,
    })
}

/// Reads a snapshot back only to see that all of it is there.
pub fn verify(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    let mut reader = BlockReader::open(disk, path)?;
    while reader.block()?.first() != Some(&END) {}
    Ok(())
}

/// The newest snapshot in a directory; leftovers of interrupted ones are removed.
pub fn newest(disk: &dyn Disk, dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    let mut newest = None;
    for path in disk.list(dir).map_err(io_error("reading", dir))? {
        match path.extension().and_then(|e| e.to_str()) {
            Some("snap") => newest = newest.max(Some(path)),
            Some("partial") => {
                let _ = disk.remove(&path);
            }
            _ => {}
        }
    }
    Ok(newest)
}

/// Removes all snapshots but `keep`.
pub fn remove_others(disk: &dyn Disk, dir: &Path, keep: &Path) {
    for path in disk.list(dir).unwrap_or_default() {
        if path.extension().is_some_and(|e| e == "snap")
            && path != keep
            && let Err(error) = disk.remove(&path)
        {
            tracing::warn!(%error, path = %path.display(), "could not remove an old snapshot");
        }
    }
}
