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
use skiff_store::{Compare, Entry, Numbers, Op, Record, Snapshot, Txn, TxnResult};
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
    pub entry: Entry,
    pub removed: bool,
}

impl ApiServer {
    /// Begins to change an object: read, decide (which may take its time), write,
    /// and again if the race was lost. With `dry_run` nothing is stored and the
    /// would-be object is answered.
    pub(crate) fn modification<'a>(
        &'a self,
        kind: &'a Kind,
        namespace: &str,
        name: &'a str,
        dry_run: bool,
    ) -> Modification<'a> {
        Modification {
            server: self,
            kind,
            key: key_of(kind, if kind.namespaced { namespace } else { "" }, name),
            name,
            dry_run,
            version: None,
            attempts: 0,
            current: None,
            taken: false,
        }
    }

    /// A change with its object as it is stored.
    async fn stored_change(&self, kind: &Kind, change: Change) -> Result<Change, ApiError> {
        if kind.custom.is_none() {
            return Ok(change);
        }
        Ok(match change {
            Change::Keep => Change::Keep,
            Change::Write(value) => Change::Write(self.to_stored(kind, value).await?),
            Change::WriteWith(value, compare, ops) => {
                Change::WriteWith(self.to_stored(kind, value).await?, compare, ops)
            }
            Change::Remove(value, compare, ops) => Change::Remove(self.to_stored(kind, value).await?, compare, ops),
        })
    }

    /// Applies `change` to the newest object until it is stored.
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
        let mut writing = self.modification(kind, namespace, name, dry_run);
        loop {
            let (old, objects) = writing.read().await?;
            if let Some(written) = writing.write(change(&old, &objects)?).await? {
                return Ok(written);
            }
        }
    }
}

/// One read-modify-write under way.
pub(crate) struct Modification<'a> {
    server: &'a ApiServer,
    kind: &'a Kind,
    key: Bytes,
    name: &'a str,
    dry_run: bool,
    /// The version that a custom object is worked on in; built-in ones are in the storage version.
    version: Option<&'a str>,
    attempts: usize,
    /// What was read last.
    current: Option<Entry>,
    /// Whether its tree was taken out of the cache, where its change belongs.
    taken: bool,
}

impl<'a> Modification<'a> {
    /// Works on a custom object in this version, whose schema is then the one that counts.
    pub fn in_version(mut self, version: &'a str) -> Self {
        self.version = Some(version);
        self
    }

    /// The newest object, and all others as they are at the same time.
    pub async fn read(&mut self) -> Result<(Arc<Value>, StoreObjects<'a>), ApiError> {
        let (current, snapshot) = self.newest().await?;
        let (server, kind) = (self.server, self.kind);
        let value = server.decoded.get(&current).ok_or_else(not_json)?;
        let value = match self.version {
            Some(version) => server.object_in(kind, version, value).await?,
            None => value,
        };
        self.current = Some(current);
        Ok((value, server.objects(snapshot)))
    }

    /// The newest object, to be changed in place; of a built-in kind.
    pub async fn take(&mut self) -> Result<Value, ApiError> {
        let (current, _) = self.newest().await?;
        let value = self.server.decoded.take(&current).ok_or_else(not_json)?;
        self.current = Some(current);
        self.taken = true;
        Ok(value)
    }

    async fn newest(&mut self) -> Result<(Entry, Arc<dyn Snapshot>), ApiError> {
        let kind = self.kind;
        if self.attempts == ATTEMPTS_MAX {
            return Err(ApiError::modified(kind.group, kind.plural, self.name));
        }
        self.attempts += 1;
        let snapshot = self.server.store.snapshot_linearizable().await;
        let snapshot = snapshot.map_err(respond::store_error)?;
        let current = snapshot.get(&self.key);
        let current = current.ok_or_else(|| ApiError::not_found(kind.group, kind.plural, self.name))?;
        Ok((current, snapshot))
    }

    /// Stores the change of what was read; `None`: somebody else was faster.
    pub async fn write(&mut self, change: Change) -> Result<Option<Written>, ApiError> {
        let current = self
            .current
            .take()
            .ok_or_else(|| ApiError::internal("a change without a read"))?;
        let Some(Prepared {
            txn,
            record,
            value,
            removed,
        }) = prepare(
            self.kind,
            &self.key,
            &current,
            self.server.stored_change(self.kind, change).await?,
        )?
        else {
            return Ok(Some(Written {
                entry: current,
                removed: false,
            }));
        };
        if self.dry_run {
            let entry = current.with(&record);
            return Ok(Some(Written { entry, removed }));
        }
        let result = self.server.store.txn(txn).await.map_err(respond::store_error)?;
        if !result.succeeded {
            return Ok(None);
        }
        let entry = commit_entry(&self.key, &record, Some(&current), &result);
        if !removed && self.taken {
            self.server.decoded.keep(&entry, value);
        } else if !removed {
            self.server.decoded.written(&entry, value);
        }
        Ok(Some(Written { entry, removed }))
    }
}

fn not_json() -> ApiError {
    ApiError::internal("the stored object is not JSON")
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
        compare: vec![Compare::ModRevision(key.clone(), current.mod_revision())],
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
        if record.body == current.body() && txn.then.is_empty() {
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
pub(crate) fn commit_entry(key: &Bytes, record: &Record, before: Option<&Entry>, result: &TxnResult) -> Entry {
    let numbers = Numbers {
        create_revision: before.map_or(result.revision, Entry::create_revision),
        mod_revision: result.revision,
        version: before.map_or(1, |e| e.version() + 1),
        lease: 0,
    };
    Entry::new(key, record, numbers)
}
