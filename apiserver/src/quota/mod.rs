//! Resource quotas: what a write uses is booked on the quotas of its namespace
//! in the same transaction, so that usage is never behind and two writers cannot
//! both take the last of it. A new or changed quota is counted in its own
//! transaction.
//!
//! What is left for later is counting once more, some seconds after a quota was
//! written: writes that were under way did not know of it, and a status that
//! somebody wrote over is made true again.

mod charge;
mod scope;
mod usage;

use crate::registry::{StoreObjects, built_in, decode, encode, key_of, prefix_of, split_key, text_at};
use crate::respond;
use crate::server::ApiServer;
use charge::Write;
use serde_json::Value;
use skiff_access::Objects;
use skiff_api::ApiError;
use skiff_kinds::Kind;
use skiff_store::{Compare, Op, Txn};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How long after a quota was written its usage is counted again: longer than
/// any write that did not see it takes.
const RECOUNT_AFTER: Duration = Duration::from_secs(5);

/// Namespaces whose quotas are to be counted again.
#[derive(Default)]
pub(crate) struct Recounts {
    namespaces: Mutex<BTreeSet<String>>,
    wake: Notify,
}

impl Recounts {
    fn add(&self, namespace: &str) {
        let mut waiting = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.insert(namespace.to_string()) {
            self.wake.notify_one();
        }
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.namespaces.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ApiServer {
    /// What a write books on the quotas of its namespace, or 403. A quota that
    /// is written gets its status counted.
    pub(crate) fn quota_ops(
        &self,
        kind: &Kind,
        subresource: &str,
        old: Option<&Value>,
        mut new: Option<&mut Value>,
        objects: &StoreObjects<'_>,
    ) -> Result<(Vec<Compare>, Vec<Op>), ApiError> {
        let (mut compare, mut ops) = (Vec::new(), Vec::new());
        if !kind.namespaced {
            return Ok((compare, ops));
        }
        let object = new.as_deref().or(old).unwrap_or(&Value::Null);
        let namespace = text_at(object, &["metadata", "namespace"]).to_string();
        let name = text_at(object, &["metadata", "name"]).to_string();
        let quotas = built_in("", "resourcequotas")?;
        let is_quota = std::ptr::eq(kind, quotas);
        if is_quota && let Some(quota) = new.as_deref_mut() {
            self.recounts.add(&namespace);
            // Its status may be written, as every status; it is made true later.
            if subresource.is_empty() && old.is_none_or(|old| old["spec"] != quota["spec"]) {
                quota["status"] = counted(quota, &namespace, objects);
            }
        }
        let write = Write {
            group: kind.group,
            plural: kind.plural,
            old,
            new: new.as_deref(),
        };
        for entry in objects.snapshot.range(&prefix_of(quotas, &namespace), None, 0).entries {
            if is_quota && split_key(quotas, entry.key()).1 == name {
                continue;
            }
            let Some(quota) = self.decoded.get(&entry) else {
                continue;
            };
            let status = charge::charge(&quota, &write)
                .map_err(|why| ApiError::forbidden(kind.group, kind.plural, &name, &why))?;
            let Some(status) = status else { continue };
            let mut quota = Value::clone(&quota);
            quota["status"] = status;
            compare.push(Compare::ModRevision(entry.key_bytes(), entry.mod_revision()));
            ops.push(Op::Put {
                key: entry.key_bytes(),
                record: encode(quotas, &quota)?,
            });
        }
        Ok((compare, ops))
    }

    /// Counts quotas again when they are due, for as long as the server lives.
    pub(crate) fn start_recounts(self: &Arc<Self>) {
        let server = Arc::downgrade(self);
        let recounts = self.recounts.clone();
        let closing = self.closing.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = closing.cancelled() => return,
                    () = recounts.wake.notified() => {}
                }
                tokio::select! {
                    () = closing.cancelled() => return,
                    () = tokio::time::sleep(RECOUNT_AFTER) => {}
                }
                let Some(server) = Weak::upgrade(&server) else { return };
                for namespace in recounts.take() {
                    if let Err(error) = server.recount(&namespace).await {
                        tracing::warn!(namespace, %error, "quotas could not be counted again; they are when they are next written");
                    }
                }
            }
        });
    }

    async fn recount(&self, namespace: &str) -> Result<(), ApiError> {
        let quotas = built_in("", "resourcequotas")?;
        let snapshot = self.read_snapshot("").await?;
        for entry in snapshot.range(&prefix_of(quotas, namespace), None, 0).entries {
            let (namespace, name) = split_key(quotas, entry.key());
            self.recount_one(quotas, namespace, name).await?;
        }
        Ok(())
    }

    /// A lost race is tried again: whoever won has booked something.
    async fn recount_one(&self, quotas: &Kind, namespace: &str, name: &str) -> Result<(), ApiError> {
        const ATTEMPTS_MAX: usize = 64;
        for _ in 0..ATTEMPTS_MAX {
            let snapshot = self.read_snapshot("").await?;
            let key = key_of(quotas, namespace, name);
            let Some(entry) = snapshot.get(&key) else { return Ok(()) };
            let mut quota = decode(&entry, entry.mod_revision())?;
            let status = counted(&quota, namespace, &self.objects(snapshot));
            if quota["status"] == status {
                return Ok(());
            }
            quota["status"] = status;
            let txn = Txn {
                compare: vec![Compare::ModRevision(key.clone(), entry.mod_revision())],
                then: vec![Op::Put {
                    key,
                    record: encode(quotas, &quota)?,
                }],
                ..Txn::default()
            };
            if self.store.txn(txn).await.map_err(respond::store_error)?.succeeded {
                return Ok(());
            }
        }
        Err(ApiError::internal("the quota changes faster than it can be counted"))
    }
}

fn counted(quota: &Value, namespace: &str, objects: &StoreObjects<'_>) -> Value {
    charge::recount(quota, |group, plural| {
        let mut known = objects.list(group, plural, namespace);
        let own = |other: &Arc<Value>| other["metadata"]["name"] == quota["metadata"]["name"];
        // A quota that is being made counts itself already.
        if (group, plural) == ("", "resourcequotas") && !known.iter().any(own) {
            known.push(Arc::new(quota.clone()));
        }
        known
    })
}
