//! A stored key with its value: one allocation for all of it, for a store has millions of
//! them. What a reader asks for is found in those bytes. Pure.
//!
//! ```text
//! mod revision (8) · length of the key (4) · flags (1) · key
//!   · mod - create · version · [lease] · [rv offset · labels · fields] · body
//! ```
//!
//! Numbers behind the key are varints; labels and fields are their length and their bytes.
//! The same content has the same bytes. Nothing of this lies on a disk: see `codec`.

use super::data::{Header, LeaseId, Record, Revision};
use crate::codec::{put_bytes, put_u64};
use crate::pairs::{Pairs, PairsView};
use bytes::Bytes;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

const KEY_AT: usize = 13;
const LEASED: u8 = 1;
const HEADED: u8 = 2;

/// What the store counts of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// Number of writes since creation; 1 for a new key.
    pub version: u64,
    /// The lease that it goes with, or 0.
    pub lease: LeaseId,
}

/// A stored key with its value and revisions. A clone is another handle of the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry(Arc<[u8]>);

/// Where the parts of an entry behind its key begin.
struct Parts<'a> {
    since_create: u64,
    version: u64,
    lease: LeaseId,
    rv_offset: u32,
    labels: &'a [u8],
    fields: &'a [u8],
    body: &'a [u8],
}

/// Reads what `Entry::new` wrote.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn number(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        while let Some((byte, rest)) = self.0.split_first() {
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        value
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.number() as usize;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}

impl Entry {
    /// Shares no memory with what it is made of.
    pub fn new(key: &[u8], record: &Record, numbers: Numbers) -> Entry {
        thread_local! {
            /// Where entries are put together: their allocation has their exact size.
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        /// A larger one is not kept.
        const SCRATCH_MAX: usize = 64 << 10;
        SCRATCH.with_borrow_mut(|out| {
            out.clear();
            put(out, key, record, numbers);
            let entry = Entry(Arc::from(&out[..]));
            if out.capacity() > SCRATCH_MAX {
                *out = Vec::new();
            }
            entry
        })
    }

    /// The same with another value.
    pub fn with(&self, record: &Record) -> Entry {
        Entry::new(self.key(), record, self.numbers())
    }

    pub fn key(&self) -> &[u8] {
        &self.0[KEY_AT..self.key_end()]
    }

    pub fn mod_revision(&self) -> Revision {
        let (number, _) = self.0.split_first_chunk().expect("an entry begins with it");
        Revision::from_le_bytes(*number)
    }

    pub fn create_revision(&self) -> Revision {
        self.mod_revision().wrapping_sub(self.parts().since_create)
    }

    /// Number of writes since creation; 1 for a new key.
    pub fn version(&self) -> u64 {
        self.parts().version
    }

    /// The lease that it goes with, or 0.
    pub fn lease(&self) -> LeaseId {
        match self.0[KEY_AT - 1] & LEASED {
            0 => 0,
            _ => self.parts().lease,
        }
    }

    pub fn numbers(&self) -> Numbers {
        let parts = self.parts();
        Numbers {
            create_revision: self.mod_revision().wrapping_sub(parts.since_create),
            mod_revision: self.mod_revision(),
            version: parts.version,
            lease: parts.lease,
        }
    }

    /// Labels of the object, sorted by key.
    pub fn labels(&self) -> PairsView<'_> {
        PairsView::new(self.parts().labels)
    }

    /// Selectable fields (`spec.nodeName`, ...), without metadata.name/namespace.
    pub fn fields(&self) -> PairsView<'_> {
        PairsView::new(self.parts().fields)
    }

    /// Byte offset in the body where `"resourceVersion":"<mod revision>",` belongs.
    pub fn rv_offset(&self) -> u32 {
        self.parts().rv_offset
    }

    pub fn body(&self) -> &[u8] {
        self.parts().body
    }

    /// A copy of the key.
    pub fn key_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.key())
    }

    /// The body, which keeps the entry in memory.
    pub fn body_bytes(&self) -> Bytes {
        let end = self.0.len();
        self.bytes().slice(end - self.body().len()..end)
    }

    /// Key and body, which keep the entry in memory.
    pub fn key_and_body(&self) -> (Bytes, Bytes) {
        let (all, end) = (self.bytes(), self.0.len());
        (
            all.slice(KEY_AT..self.key_end()),
            all.slice(end - self.body().len()..end),
        )
    }

    /// A copy of what was written.
    pub fn record(&self) -> Record {
        let parts = self.parts();
        let header = Header::shared(Header {
            labels: Pairs::from_view(PairsView::new(parts.labels)),
            fields: Pairs::from_view(PairsView::new(parts.fields)),
            rv_offset: parts.rv_offset,
        });
        Record {
            header,
            body: Bytes::copy_from_slice(parts.body),
        }
    }

    /// Handles of the very same entry?
    pub fn is(&self, other: &Entry) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.0.clone())
    }

    fn key_end(&self) -> usize {
        let length = [self.0[8], self.0[9], self.0[10], self.0[11]];
        KEY_AT + u32::from_le_bytes(length) as usize
    }

    fn parts(&self) -> Parts<'_> {
        let flags = self.0[KEY_AT - 1];
        let mut cursor = Cursor(&self.0[self.key_end()..]);
        let mut parts = Parts {
            since_create: cursor.number(),
            version: cursor.number(),
            lease: 0,
            rv_offset: 0,
            labels: &[],
            fields: &[],
            body: &[],
        };
        if flags & LEASED != 0 {
            parts.lease = cursor.number() as LeaseId;
        }
        if flags & HEADED != 0 {
            parts.rv_offset = cursor.number() as u32;
            parts.labels = cursor.bytes();
            parts.fields = cursor.bytes();
        }
        parts.body = cursor.0;
        parts
    }
}

fn put(out: &mut Vec<u8>, key: &[u8], record: &Record, numbers: Numbers) {
    let header = &*record.header;
    let headed = header.rv_offset != 0 || !header.labels.is_empty() || !header.fields.is_empty();
    let flag = |set, flag| if set { flag } else { 0 };
    let length = u32::try_from(key.len()).expect("a transaction has less than 4 GiB");
    out.reserve(key.len() + record.body.len() + 64);
    out.extend_from_slice(&numbers.mod_revision.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.push(flag(numbers.lease != 0, LEASED) | flag(headed, HEADED));
    out.extend_from_slice(key);
    put_u64(out, numbers.mod_revision.wrapping_sub(numbers.create_revision));
    put_u64(out, numbers.version);
    if numbers.lease != 0 {
        put_u64(out, numbers.lease as u64);
    }
    if headed {
        put_u64(out, u64::from(header.rv_offset));
        put_bytes(out, header.labels.as_bytes());
        put_bytes(out, header.fields.as_bytes());
    }
    out.extend_from_slice(&record.body);
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &Bytes::copy_from_slice(self.key()))
            .field("numbers", &self.numbers())
            .field("labels", &self.labels())
            .field("fields", &self.fields())
            .field("rv_offset", &self.rv_offset())
            .field("body", &Bytes::copy_from_slice(self.body()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        proptest::collection::vec(("[a-z/.]{0,200}", "[a-zä]{0,9}"), 0..4)
    }

    /// Numbers of all lengths.
    fn number() -> impl Strategy<Value = u64> {
        (0..64_u32, any::<u64>()).prop_map(|(shift, number)| number >> shift)
    }

    proptest! {
        #[test]
        fn gives_back_what_it_was_made_of(
            key in proptest::collection::vec(any::<u8>(), 0..300),
            body in proptest::collection::vec(any::<u8>(), 0..300),
            (labels, fields, rv_offset) in (pairs(), pairs(), any::<u32>()),
            (create_revision, mod_revision, version, lease) in (number(), number(), number(), number()),
        ) {
            let view = |pairs: &[(String, String)]| pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Pairs>();
            let header = Header { labels: view(&labels), fields: view(&fields), rv_offset };
            let record = Record { header: Arc::new(header), body: body.clone().into() };
            let numbers = Numbers { create_revision, mod_revision, version, lease: (lease >> 1) as LeaseId };
            let entry = Entry::new(&key, &record, numbers);
            prop_assert_eq!(entry.key(), &key[..]);
            prop_assert_eq!(entry.body(), &body[..]);
            prop_assert_eq!(entry.numbers(), numbers);
            prop_assert_eq!(
                (entry.create_revision(), entry.mod_revision(), entry.version(), entry.lease()),
                (create_revision, mod_revision, version, numbers.lease)
            );
            prop_assert_eq!(entry.rv_offset(), rv_offset);
            prop_assert_eq!(entry.labels(), record.header.labels.view());
            prop_assert_eq!(entry.fields(), record.header.fields.view());
            prop_assert_eq!(entry.record(), record.clone());
            prop_assert_eq!(entry.key_and_body(), (Bytes::from(key.clone()), record.body.clone()));
            prop_assert_eq!(entry.body_bytes(), record.body.clone());
            let again = Entry::new(&key, &record, numbers);
            prop_assert!(entry == again && !entry.is(&again) && entry.is(&entry.clone()));
        }
    }

    #[test]
    fn costs_a_few_bytes_beside_key_and_value() {
        let record = Record {
            body: vec![b'v'; 256].into(),
            ..Record::default()
        };
        let numbers = Numbers {
            create_revision: 9_000,
            mod_revision: 1_000_000,
            version: 3,
            lease: 0,
        };
        let entry = Entry::new(b"/bench/many/0000000000", &record, numbers);
        assert!(entry.0.len() <= 22 + 256 + 17, "{} bytes", entry.0.len());
    }
}
