//! Objects that the server itself keeps (APIServices, flow schemas, its trust): they
//! are written past admission, because nobody may refuse them, and by compare, because
//! other servers keep them too.

use crate::registry::{decode, encode, key_of, text_at};
use crate::respond;
use crate::server::ApiServer;
use serde_json::Value;
use skiff_api::ApiError;
use skiff_kinds::Kind;
use skiff_store::{Compare, Op, Txn};

/// A lost race is tried again; others write the same objects now and then.
const ATTEMPTS_MAX: usize = 16;

impl ApiServer {
    /// Writes new objects, as they are but for uid and creation time, in one transaction.
    /// Where another server was faster nothing is written: the next pass sees what is left.
    pub(crate) async fn create_kept(&self, objects: Vec<(&Kind, Value)>) -> Result<(), ApiError> {
        if objects.is_empty() {
            return Ok(());
        }
        let now = respond::now_text();
        let mut txn = Txn::default();
        for (kind, mut object) in objects {
            let metadata = &object["metadata"];
            let key = key_of(kind, text_at(metadata, &["namespace"]), text_at(metadata, &["name"]));
            object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
            object["metadata"]["creationTimestamp"] = now.clone().into();
            txn.compare.push(Compare::ModRevision(key.clone(), 0));
            txn.then.push(Op::Put {
                key,
                record: encode(kind, &object)?,
            });
        }
        self.store.txn(txn).await.map_err(respond::store_error)?;
        Ok(())
    }

    /// Reads, changes and writes an object until it is stored; one that is gone, or
    /// that `change` leaves alone, is left alone.
    pub(crate) async fn rewrite_kept(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        change: impl Fn(&Value) -> Option<Value>,
    ) -> Result<(), ApiError> {
        let key = key_of(kind, namespace, name);
        for _ in 0..ATTEMPTS_MAX {
            let Some(entry) = self.store.snapshot().get(&key) else {
                return Ok(());
            };
            let Some(changed) = change(&decode(&entry, entry.mod_revision())?) else {
                return Ok(());
            };
            let txn = Txn {
                compare: vec![Compare::ModRevision(key.clone(), entry.mod_revision())],
                then: vec![Op::Put {
                    key: key.clone(),
                    record: encode(kind, &changed)?,
                }],
                ..Txn::default()
            };
            if self.store.txn(txn).await.map_err(respond::store_error)?.succeeded {
                return Ok(());
            }
        }
        Err(ApiError::modified(kind.group, kind.plural, name))
    }
}
