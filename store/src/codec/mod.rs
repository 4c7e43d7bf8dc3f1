//! The binary form of transactions, entries and Raft's own records, as they lie in
//! the log, in snapshots and in the state database. FORMAT.md describes it; a change
//! of shape takes a new version number there and here, and old ones stay readable.
//!
//! Pure. Integers are LEB128 varints unless said otherwise, byte strings are their
//! length and their bytes. Decoding takes slices of its input, and never trusts a length.

mod command;
mod response;

pub use command::{put_command, read_command};
pub use response::{put_response, read_response};

use crate::contract::*;
use crate::mvcc::Session;
use crate::pairs::{Pairs, PairsView};
use crate::raft_types::{Command, LogId, Membership, RaftEntry, Response, StoredMembership, Tag, Vote};
use bytes::{Buf, Bytes};
use openraft::{BasicNode, EntryPayload};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Version of the encodings in this file, first byte of every command.
pub const CODEC_VERSION: u8 = 1;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    #[error("the data ends in the middle of {0}")]
    Short(&'static str),
    #[error("{what} has the unknown tag {tag}")]
    Tag { what: &'static str, tag: u8 },
    #[error(
        "written in format {found}; this release reads up to {CODEC_VERSION}: use the release that wrote it, or newer"
    )]
    Version { found: u8 },
    #[error("{0} is not valid")]
    Invalid(&'static str),
}

/// What happens to bodies on their way to a disk and back: the place where
/// encryption at rest comes in. The key says which rule applies.
pub trait Seal: Send + Sync + 'static {
    fn seal<'a>(&self, key: &[u8], body: &'a [u8]) -> Cow<'a, [u8]>;
    fn open(&self, key: &[u8], body: Bytes) -> Result<Bytes, CodecError>;
}

/// Bodies as they are.
pub struct Plain;

impl Seal for Plain {
    fn seal<'a>(&self, _key: &[u8], body: &'a [u8]) -> Cow<'a, [u8]> {
        Cow::Borrowed(body)
    }

    fn open(&self, _key: &[u8], body: Bytes) -> Result<Bytes, CodecError> {
        Ok(body)
    }
}

pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A cursor over bytes that were read.
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    pub fn new(bytes: Bytes) -> Self {
        Reader { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    pub fn rest(self) -> Bytes {
        self.rest
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, CodecError> {
        if self.rest.is_empty() {
            return Err(CodecError::Short(what));
        }
        Ok(self.rest.get_u8())
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, CodecError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(CodecError::Invalid(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Invalid(what))
    }

    pub fn bytes(&mut self, what: &'static str) -> Result<Bytes, CodecError> {
        let len = self.u64(what)?;
        if len > self.rest.len() as u64 {
            return Err(CodecError::Short(what));
        }
        Ok(self.rest.split_to(len as usize))
    }

    pub fn text(&mut self, what: &'static str) -> Result<Box<str>, CodecError> {
        let bytes = self.bytes(what)?;
        std::str::from_utf8(&bytes)
            .map(Box::from)
            .map_err(|_| CodecError::Invalid(what))
    }

    /// A number of items that each take at least a byte.
    pub fn count(&mut self, what: &'static str) -> Result<usize, CodecError> {
        let count = self.u64(what)?;
        if count > self.rest.len() as u64 {
            return Err(CodecError::Short(what));
        }
        Ok(count as usize)
    }
}

fn put_pairs(out: &mut Vec<u8>, pairs: PairsView<'_>) {
    put_u64(out, pairs.len() as u64);
    out.extend_from_slice(pairs.as_bytes());
}

fn read_pairs(r: &mut Reader, what: &'static str) -> Result<Pairs, CodecError> {
    (0..r.count(what)?)
        .map(|_| Ok((r.text(what)?, r.text(what)?)))
        .collect()
}

/// Set beside the offset when a lease's number follows: the offset itself has 32 bits.
const LEASED: u64 = 1 << 32;

/// A body with what lies beside it, wherever it is.
struct Written<'a> {
    key: &'a [u8],
    labels: PairsView<'a>,
    fields: PairsView<'a>,
    rv_offset: u32,
    lease: LeaseId,
    body: &'a [u8],
}

fn put_written(out: &mut Vec<u8>, written: &Written, seal: &dyn Seal) {
    let flag = if written.lease == 0 { 0 } else { LEASED };
    put_u64(out, u64::from(written.rv_offset) | flag);
    if written.lease != 0 {
        put_u64(out, written.lease as u64);
    }
    put_pairs(out, written.labels);
    put_pairs(out, written.fields);
    put_bytes(out, &seal.seal(written.key, written.body));
}

fn put_record(out: &mut Vec<u8>, key: &[u8], record: &Record, seal: &dyn Seal) {
    let written = Written {
        key,
        labels: record.header.labels.view(),
        fields: record.header.fields.view(),
        rv_offset: record.header.rv_offset,
        lease: 0,
        body: &record.body,
    };
    put_written(out, &written, seal);
}

fn read_record(r: &mut Reader, key: &[u8], seal: &dyn Seal) -> Result<(Record, LeaseId), CodecError> {
    let first = r.u64("rv offset")?;
    let rv_offset = u32::try_from(first & !LEASED).map_err(|_| CodecError::Invalid("rv offset"))?;
    let lease = match first & LEASED {
        0 => 0,
        _ => read_lease_id(r)?,
    };
    let labels = read_pairs(r, "labels")?;
    let fields = read_pairs(r, "fields")?;
    let body = seal.open(key, r.bytes("body")?)?;
    let header = Header::shared(Header {
        labels,
        fields,
        rv_offset,
    });
    Ok((Record { header, body }, lease))
}

pub fn read_lease_id(r: &mut Reader) -> Result<LeaseId, CodecError> {
    LeaseId::try_from(r.u64("lease")?).map_err(|_| CodecError::Invalid("lease"))
}

pub fn put_lease(out: &mut Vec<u8>, lease: &Lease) {
    put_u64(out, lease.id as u64);
    put_u64(out, u64::from(lease.ttl_s));
}

pub fn read_lease(r: &mut Reader) -> Result<Lease, CodecError> {
    Ok(Lease {
        id: read_lease_id(r)?,
        ttl_s: u32::try_from(r.u64("time to live")?).map_err(|_| CodecError::Invalid("time to live"))?,
    })
}

/// An entry without its key, which lies beside it.
pub fn put_entry(out: &mut Vec<u8>, entry: &Entry, seal: &dyn Seal) {
    let numbers = entry.numbers();
    put_u64(out, numbers.create_revision);
    put_u64(out, numbers.mod_revision);
    put_u64(out, numbers.version);
    let written = Written {
        key: entry.key(),
        labels: entry.labels(),
        fields: entry.fields(),
        rv_offset: entry.rv_offset(),
        lease: numbers.lease,
        body: entry.body(),
    };
    put_written(out, &written, seal);
}

pub fn read_entry(r: &mut Reader, key: &[u8], seal: &dyn Seal) -> Result<Entry, CodecError> {
    let create_revision = r.u64("create revision")?;
    let mod_revision = r.u64("mod revision")?;
    let version = r.u64("version")?;
    let (record, lease) = read_record(r, key, seal)?;
    let numbers = Numbers {
        create_revision,
        mod_revision,
        version,
        lease,
    };
    Ok(Entry::new(key, &record, numbers))
}

/// One step of history as it is stored: what a key held before. What it held after
/// is the next step's, or the present's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub revision: Revision,
    pub key: Bytes,
    pub previous: Option<Entry>,
}

pub fn put_change(out: &mut Vec<u8>, event: &Event, seal: &dyn Seal) {
    put_u64(out, event.revision);
    put_bytes(out, event.key());
    match &event.previous {
        None => out.push(0),
        Some(entry) => {
            out.push(1);
            put_entry(out, entry, seal);
        }
    }
}

pub fn read_change(r: &mut Reader, seal: &dyn Seal) -> Result<Change, CodecError> {
    let revision = r.u64("revision")?;
    let key = Bytes::copy_from_slice(&r.bytes("key")?);
    let previous = match r.u8("previous")? {
        0 => None,
        1 => Some(read_entry(r, &key, seal)?),
        tag => return Err(CodecError::Tag { what: "a change", tag }),
    };
    Ok(Change {
        revision,
        key,
        previous,
    })
}

pub fn put_log_id(out: &mut Vec<u8>, id: &LogId) {
    put_u64(out, id.leader_id.term);
    put_u64(out, id.leader_id.node_id);
    put_u64(out, id.index);
}

pub fn read_log_id(r: &mut Reader) -> Result<LogId, CodecError> {
    let term = r.u64("term")?;
    let node_id = r.u64("node")?;
    let index = r.u64("index")?;
    Ok(LogId::new(
        openraft::impls::leader_id_adv::LeaderId { term, node_id },
        index,
    ))
}

pub fn put_log_id_option(out: &mut Vec<u8>, id: &Option<LogId>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        put_log_id(out, id);
    }
}

pub fn read_log_id_option(r: &mut Reader) -> Result<Option<LogId>, CodecError> {
    match r.u8("log id")? {
        0 => Ok(None),
        1 => Ok(Some(read_log_id(r)?)),
        tag => Err(CodecError::Tag { what: "a log id", tag }),
    }
}

pub fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    put_u64(out, vote.leader_id.term);
    put_u64(out, vote.leader_id.node_id);
    out.push(u8::from(vote.committed));
}

pub fn read_vote(r: &mut Reader) -> Result<Vote, CodecError> {
    let (term, node) = (r.u64("term")?, r.u64("node")?);
    Ok(match r.u8("committed")? {
        0 => Vote::new(term, node),
        _ => Vote::new_committed(term, node),
    })
}

pub fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    let configs = membership.get_joint_config();
    put_u64(out, configs.len() as u64);
    for config in configs {
        put_u64(out, config.len() as u64);
        config.iter().for_each(|id| put_u64(out, *id));
    }
    let nodes: Vec<_> = membership.nodes().collect();
    put_u64(out, nodes.len() as u64);
    for (id, node) in nodes {
        put_u64(out, *id);
        put_bytes(out, node.addr.as_bytes());
    }
}

pub fn read_membership(r: &mut Reader) -> Result<Membership, CodecError> {
    let mut configs = Vec::new();
    for _ in 0..r.count("configurations")? {
        let config = (0..r.count("voters")?)
            .map(|_| r.u64("voter"))
            .collect::<Result<BTreeSet<u64>, _>>()?;
        configs.push(config);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..r.count("nodes")? {
        let id = r.u64("node")?;
        nodes.insert(
            id,
            BasicNode {
                addr: r.text("address")?.into(),
            },
        );
    }
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| CodecError::Invalid("membership"))
}

pub fn put_stored_membership(out: &mut Vec<u8>, stored: &StoredMembership) {
    put_log_id_option(out, stored.log_id());
    put_membership(out, stored.membership());
}

pub fn read_stored_membership(r: &mut Reader) -> Result<StoredMembership, CodecError> {
    let id = read_log_id_option(r)?;
    Ok(StoredMembership::new(id, read_membership(r)?))
}

pub fn put_raft_entry(out: &mut Vec<u8>, entry: &RaftEntry, seal: &dyn Seal) {
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.push(0),
        EntryPayload::Normal(command) => {
            out.push(1);
            put_command(out, command, seal);
        }
        EntryPayload::Membership(membership) => {
            out.push(2);
            put_membership(out, membership);
        }
    }
}

pub fn read_raft_entry(payload: Bytes, seal: &dyn Seal) -> Result<RaftEntry, CodecError> {
    let mut r = Reader::new(payload);
    let log_id = read_log_id(&mut r)?;
    let payload = match r.u8("payload")? {
        0 => EntryPayload::Blank,
        1 => EntryPayload::Normal(read_command(r.rest(), seal)?),
        2 => EntryPayload::Membership(read_membership(&mut r)?),
        tag => {
            return Err(CodecError::Tag {
                what: "a log entry",
                tag,
            });
        }
    };
    Ok(RaftEntry { log_id, payload })
}

pub fn put_session(out: &mut Vec<u8>, origin: u64, session: &Session) {
    let numbers = [origin, session.boot, session.settled, session.applied.len() as u64];
    numbers.into_iter().for_each(|n| put_u64(out, n));
    session.applied.iter().for_each(|n| put_u64(out, *n));
}

pub fn read_session(r: &mut Reader) -> Result<(u64, Session), CodecError> {
    let origin = r.u64("origin")?;
    let (boot, settled) = (r.u64("start")?, r.u64("settled")?);
    let applied = (0..r.count("requests")?)
        .map(|_| r.u64("request"))
        .collect::<Result<_, _>>()?;
    let session = Session { boot, settled, applied };
    Ok((origin, session))
}

#[cfg(test)]
#[path = "codec_test.rs"]
mod codec_test;
