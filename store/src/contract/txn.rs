//! Transactions: what is compared, what is done, what came of it.

use super::data::*;
use super::entry::Entry;
use bytes::Bytes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// Mod revision of the key equals this; 0 means that the key is absent. What the API
    /// server asks with every write, so it has the shortest form.
    ModRevision(Bytes, Revision),
    /// The general form.
    Test(Box<Test>),
}

/// True when what `target` names of every key in the range stands in `relation` to what
/// it holds. Where there is no key, numbers are 0, and a body is compared to nothing: false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    pub range: KeyRange,
    pub relation: Relation,
    pub target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Greater,
    Less,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Version(u64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Lease(LeaseId),
    Body(Bytes),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Without a lease: one that the key had lets go of it.
    Put {
        key: Bytes,
        record: Record,
    },
    /// `None` keeps what is there; without a record, a key that is absent refuses the
    /// whole transaction, and so does a lease that is not there.
    PutWith {
        key: Bytes,
        record: Option<Record>,
        lease: Option<LeaseId>,
    },
    /// Deleting an absent key is no error and makes no event.
    Delete {
        key: Bytes,
    },
    DeleteRange(KeyRange),
    /// Reads the key as the transaction sees it.
    Get {
        key: Bytes,
    },
    Range(Query),
    /// Its compares look at what was there before the outermost transaction.
    Txn(Box<Txn>),
}

/// A read of several keys, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub range: KeyRange,
    /// 0: all.
    pub limit: usize,
    /// 0: as the transaction sees it. A revision that is compacted or to come refuses
    /// the whole transaction.
    pub revision: Revision,
    /// Only the number of keys is asked for.
    pub count_only: bool,
}

/// What a query found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub entries: Vec<Entry>,
    /// Number of keys in the range, whatever the limit.
    pub count: usize,
}

/// `then` runs if all of `compare` hold, else `or_else`; all or nothing. A
/// transaction that changes something takes exactly one new revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<Op>,
    pub or_else: Vec<Op>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// What the key held before; the new mod revision is the transaction's.
    Put {
        previous: Option<Entry>,
    },
    Deleted {
        previous: Vec<Entry>,
    },
    Got(Option<Entry>),
    Range(Found),
    Txn(Box<TxnResult>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TxnResult {
    pub succeeded: bool,
    /// The store's revision after the transaction.
    pub revision: Revision,
    pub results: Vec<OpResult>,
}
