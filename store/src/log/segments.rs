//! Reading the log's files when the store opens: replays their records into an index,
//! cuts what a crash tore, and refuses what rotted.

use super::frame::{self, End, Kind};
use super::{Index, Slot};
use crate::codec::{self, CodecError, Reader};
use crate::contract::StoreError;
use crate::host::{Disk, DiskFile, Open};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const SPARE: &str = "spare";

/// A segment that is full.
pub struct Sealed {
    pub sequence: u64,
    /// Highest index among its entries.
    pub last_index: Option<u64>,
    pub bytes: u64,
}

/// The segment that is written to.
pub struct Tail {
    pub sequence: u64,
    pub last_index: Option<u64>,
    pub file: Arc<dyn DiskFile>,
    pub end: u64,
}

pub struct Loaded {
    pub index: Index,
    pub sealed: Vec<Sealed>,
    pub tail: Option<Tail>,
    pub bytes: u64,
}

pub fn path_of(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.log"))
}

pub fn io(action: &str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let action = format!("{action} {}", path.display());
    move |source| StoreError::Io { action, source }
}

pub fn corrupt(path: &Path, offset: u64, why: String) -> StoreError {
    let remedy = "put the file back from a backup; or, where this is the only server, to go on without what came \
                  after the state on the disk, move the log directory away and start again; one of several servers \
                  is removed instead, and joins anew";
    StoreError::Corrupt {
        file: path.display().to_string(),
        offset,
        why: format!("{why}; {remedy}"),
    }
}

fn sequences(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, StoreError> {
    let mut found = Vec::new();
    for path in disk.list(dir).map_err(io("reading", dir))? {
        let name = path.file_name().and_then(|n| n.to_str());
        let Some(stem) = name.and_then(|n| n.strip_suffix(".log")) else {
            continue;
        };
        if let Ok(sequence) = u64::from_str_radix(stem, 16) {
            found.push(sequence);
        }
    }
    found.sort_unstable();
    Ok(found)
}

pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Loaded, StoreError> {
    let sequences = sequences(disk, dir)?;
    let mut loaded = Loaded {
        index: Index::default(),
        sealed: Vec::new(),
        tail: None,
        bytes: 0,
    };
    for (i, &sequence) in sequences.iter().enumerate() {
        let path = path_of(dir, sequence);
        if i > 0 && sequences[i - 1] + 1 != sequence {
            return Err(corrupt(
                &path,
                0,
                format!("segment {} before it is missing", sequence - 1),
            ));
        }
        load_segment(disk, &path, sequence, i + 1 == sequences.len(), &mut loaded)?;
    }
    let index = &mut loaded.index;
    index.written = index.base + index.slots.len() as u64;
    index.cached_from = index.written.max(index.purged.map_or(0, |p| p.index + 1));
    Ok(loaded)
}

fn load_segment(
    disk: &dyn Disk,
    path: &Path,
    sequence: u64,
    last: bool,
    loaded: &mut Loaded,
) -> Result<(), StoreError> {
    let file = disk.open(path, Open::Write).map_err(io("opening", path))?;
    let bytes = Bytes::from(file.read_all().map_err(io("reading", path))?);
    let header = &bytes[..bytes.len().min(frame::SEGMENT_HEADER)];
    if last && header.iter().all(|b| *b == 0) {
        // A crash between making the file and its first write: nothing was ever in it.
        tracing::warn!(file = %path.display(), "removing a log segment that was never written");
        return disk.remove(path).map_err(io("removing", path));
    }
    frame::check_segment_header(&bytes, sequence).map_err(|why| corrupt(path, 0, why))?;
    let scan = frame::scan(&bytes);
    let at = scan.end as u64;
    match scan.how {
        End::Clean => {}
        End::Torn if last => {
            tracing::warn!(file = %path.display(), offset = at, "cutting a write that a crash interrupted; it was never acknowledged");
            // Not made shorter: a full disk would not give back what was reserved.
            let rest = vec![0; bytes.len() - scan.end];
            file.write_all_at(&rest, at)
                .and_then(|()| file.sync())
                .map_err(io("cutting", path))?;
        }
        End::Torn | End::Rotten => return Err(corrupt(path, at, "a record that was acknowledged is damaged".into())),
    }
    let mut last_index = None;
    for found in &scan.records {
        let payload = bytes.slice(found.payload.clone());
        let slot = Slot {
            segment: sequence,
            offset: found.offset as u32,
            length: (frame::RECORD_HEADER + payload.len()) as u32,
        };
        let replayed = replay(&mut loaded.index, found.kind, payload, slot);
        let index = replayed.map_err(|e| corrupt(path, found.offset as u64, e.to_string()))?;
        last_index = last_index.max(index);
    }
    loaded.bytes += at;
    loaded.index.segments.insert(sequence, file.clone());
    match last {
        true => {
            loaded.tail = Some(Tail {
                sequence,
                last_index,
                file,
                end: at,
            })
        }
        false => loaded.sealed.push(Sealed {
            sequence,
            last_index,
            bytes: at,
        }),
    }
    Ok(())
}

/// Takes one record into the index; returns the index of an entry.
fn replay(index: &mut Index, kind: Kind, payload: Bytes, slot: Slot) -> Result<Option<u64>, CodecError> {
    let mut r = Reader::new(payload);
    match kind {
        Kind::Entry => {
            let id = codec::read_log_id(&mut r)?;
            if index.slots.is_empty() {
                index.base = id.index;
            }
            if id.index != index.base + index.slots.len() as u64 {
                return Err(CodecError::Invalid("the order of the log's entries"));
            }
            index.slots.push_back(slot);
            index.last = Some(id);
            return Ok(Some(id.index));
        }
        Kind::Vote => index.vote = Some(codec::read_vote(&mut r)?),
        Kind::Truncate => {
            let next = r.u64("index")?;
            index.truncate_slots(next);
            index.last = codec::read_log_id_option(&mut r)?;
        }
        Kind::Purge => index.purge_slots(codec::read_log_id(&mut r)?),
    }
    Ok(None)
}

impl Index {
    pub(super) fn truncate_slots(&mut self, next: u64) {
        self.slots.truncate(next.saturating_sub(self.base) as usize);
        self.written = self.written.min(next);
    }

    pub(super) fn purge_slots(&mut self, upto: super::LogId) {
        let gone = (upto.index + 1).saturating_sub(self.base).min(self.slots.len() as u64);
        self.slots.drain(..gone as usize);
        self.base += gone;
        if self.slots.is_empty() {
            self.base = self.base.max(upto.index + 1);
        }
        self.purged = self.purged.max(Some(upto));
        if self.last < self.purged {
            self.last = self.purged;
        }
    }
}
