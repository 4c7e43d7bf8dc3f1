//! Read-modify-write of one object: the loop under every update, patch, delete
//! and special subresource. Compare-and-swap on the mod revision; a lost race
//! is tried again on the newer object.

use crate::registry::{StoreObjects, encode, key_of};
use crate::respond;
use crate::server::ApiServer;
use bytes::Bytes;
use serde_json::Value;
use skiff_api::ApiError;
use skiff_kinds::Kind;
use skiff_store::{Compare, Entry, Op, Record, Txn, TxnResult};
use std::sync::Arc;

/// Lost races that one request sits out; far more than writers of one object
/// that a cluster has, so that only a fault reaches it.
const ATTEMPTS_MAX: usize = 64;

/// What to do with the object that was read.
pub(crate) enum Change {
    /// Leave it.
    Keep,
    /// Replace it by this tree, in the storage version.
    Write(Value),
    /// Replace it, and more in the same transaction.
    WriteWith(Value, Vec<Compare>, Vec<Op>),
    /// Remove it; the answer shows this tree's bytes.
    Remove(Value, Vec<Compare>, Vec<Op>),
}

/// How a read-modify-write ended.
pub(crate) struct Written {
    /// The object as it is now, or as it was last when it is gone.
    pub entry: Arc<Entry>,
    pub removed: bool,
}

impl ApiServer {
    /// Applies `change` to the newest object until it is stored. With `dry_run`
    /// nothing is stored and the would-be object is answered.
    pub(crate) async fn modify<F>(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        dry_run: bool,
        mut change: F,
    ) -> Result<Written, ApiError>
    where
        F: FnMut(&Value, &StoreObjects<'_>) -> Result<Change, ApiError> + Send,
    {
        let key = key_of(kind, if kind.namespaced { namespace } else { "" }, name);
        for _ in 0..ATTEMPTS_MAX {
            let snapshot = self.store.snapshot_linearizable().await.map_err(respond::store_error)?;
            let current = snapshot
                .get(&key)
                .ok_or_else(|| ApiError::not_found(kind.group, kind.plural, name))?;
            let prepared = {
                let objects = self.objects(snapshot);
                let value = self
                    .decoded
                    .get(&current)
                    .ok_or_else(|| ApiError::internal("the stored object is not JSON"))?;
                prepare(kind, &key, &current, change(&value, &objects)?)?
            };
            let Some(Prepared {
                txn,
                record,
                value,
                removed,
            }) = prepared
            else {
                return Ok(Written {
                    entry: current,
                    removed: false,
                });
            };
            if dry_run {
                return Ok(Written {
                    entry: Arc::new(Entry {
                        record,
                        ..(*current).clone()
                    }),
                    removed,
                });
            }
            let result = self.store.txn(txn).await.map_err(respond::store_error)?;
            if result.succeeded {
                let entry = commit_entry(&key, record, Some(&current), &result);
                if !removed {
                    self.decoded.written(&entry, value);
                }
                return Ok(Written { entry, removed });
            }
        }
        Err(ApiError::modified(kind.group, kind.plural, name))
    }
}

/// A change ready to be written: the transaction, the object's new bytes and tree,
/// and whether it goes away.
struct Prepared {
    txn: Txn,
    record: Record,
    value: Value,
    removed: bool,
}

/// `None`: nothing would change, so nothing is written.
fn prepare(kind: &Kind, key: &Bytes, current: &Entry, change: Change) -> Result<Option<Prepared>, ApiError> {
    let mut txn = Txn {
        compare: vec![Compare::ModRevision(key.clone(), current.mod_revision)],
        ..Txn::default()
    };
    let (value, removed) = match change {
        Change::Keep => return Ok(None),
        Change::Write(value) => (value, false),
        Change::WriteWith(value, compare, ops) => {
            txn.compare.extend(compare);
            txn.then = ops;
            (value, false)
        }
        Change::Remove(value, compare, ops) => {
            txn.compare.extend(compare);
            txn.then = ops;
            (value, true)
        }
    };
    let record = encode(kind, &value)?;
    if removed {
        txn.then.push(Op::Delete { key: key.clone() });
    } else {
        if record.body == current.record.body && txn.then.is_empty() {
            return Ok(None);
        }
        txn.then.push(Op::Put {
            key: key.clone(),
            record: record.clone(),
        });
    }
    Ok(Some(Prepared {
        txn,
        record,
        value,
        removed,
    }))
}

/// The entry that a successful transaction left.
pub(crate) fn commit_entry(key: &Bytes, record: Record, before: Option<&Entry>, result: &TxnResult) -> Arc<Entry> {
    Arc::new(Entry {
        key: key.clone(),
        record,
        create_revision: before.map_or(result.revision, |e| e.create_revision),
        mod_revision: result.revision,
        version: before.map_or(1, |e| e.version + 1),
    })
}
