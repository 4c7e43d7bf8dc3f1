//! What the store keeps and hands out: keys with their values and revisions, changes, leases.

use super::entry::Entry;
use crate::pairs::Pairs;
use bytes::Bytes;
use std::sync::{Arc, LazyLock};

/// The global, strictly growing counter of committed transactions.
pub type Revision = u64;

/// A lease's number, positive; 0 is no lease.
pub type LeaseId = i64;

/// What lies beside a value's bytes so that lists, watches and writers of
/// responses need not parse them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Labels of the object, sorted by key.
    pub labels: Pairs,
    /// Selectable fields (`spec.nodeName`, ...), without metadata.name/namespace.
    pub fields: Pairs,
    /// Byte offset in the body where `"resourceVersion":"<mod revision>",` belongs.
    pub rv_offset: u32,
}

impl Header {
    /// The empty one, of which there is only one: keys of etcd's clients have nothing beside them.
    pub fn none() -> Arc<Header> {
        static NONE: LazyLock<Arc<Header>> = LazyLock::new(Arc::default);
        NONE.clone()
    }

    /// `header` where others like it share their memory.
    pub(crate) fn shared(header: Header) -> Arc<Header> {
        match header.rv_offset == 0 && header.labels.is_empty() && header.fields.is_empty() {
            true => Header::none(),
            false => Arc::new(header),
        }
    }
}

impl Default for Record {
    fn default() -> Self {
        Record {
            header: Header::none(),
            body: Bytes::new(),
        }
    }
}

/// A value to be written: opaque bytes and their header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub header: Arc<Header>,
    pub body: Bytes,
}

/// Keys from `start` on, as etcd's `key` and `range_end` name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: RangeEnd,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeEnd {
    /// `start` is the only key.
    One,
    /// All keys below this one.
    Before(Bytes),
    /// All keys there are.
    Open,
}

impl KeyRange {
    pub fn one(key: Bytes) -> Self {
        let end = RangeEnd::One;
        KeyRange { start: key, end }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: Bytes) -> Self {
        let end = prefix_end(&prefix).map_or(RangeEnd::Open, |end| RangeEnd::Before(end.into()));
        KeyRange { start: prefix, end }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::One => *key == *self.start,
            RangeEnd::Before(end) => *key >= *self.start && *key < **end,
            RangeEnd::Open => *key >= *self.start,
        }
    }

    /// Bytes of its keys, for limits.
    pub fn bytes(&self) -> usize {
        let end = match &self.end {
            RangeEnd::Before(end) => end.len(),
            RangeEnd::One | RangeEnd::Open => 0,
        };
        self.start.len() + end
    }
}

/// The smallest key behind every key that starts with `prefix`; `None` when there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// A lease as it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// Seconds it lives without being kept alive.
    pub ttl_s: u32,
}

/// One change of one key, shared by all watchers. One of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    /// The new entry; `None` for a deletion.
    pub entry: Option<Entry>,
    /// What was there before; `None` for a creation.
    pub previous: Option<Entry>,
}

impl Event {
    pub fn key(&self) -> &[u8] {
        let either = self.entry.as_ref().or(self.previous.as_ref());
        either.map_or(&[], Entry::key)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// Number of keys under the prefix behind the last one returned.
    pub remaining: usize,
}
