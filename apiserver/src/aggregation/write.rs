//! What the keeper writes: APIServices and their conditions, and the ConfigMap that
//! extension servers read their trust from.

use super::availability::{Availability, status_with};
use super::local::Registration;
use crate::registry::{built_in, decode, encode, key_of, text_at};
use crate::respond;
use crate::server::ApiServer;
use serde_json::{Value, json};
use skiff_access::authentication::request_header::joined_trust;
use skiff_api::ApiError;
use skiff_store::{Compare, Op, Txn};

/// A lost race is tried again; others write the same objects now and then.
const ATTEMPTS_MAX: usize = 16;
/// Namespace and name of the ConfigMap.
pub const TRUST: (&str, &str) = ("kube-system", "extension-apiserver-authentication");

impl ApiServer {
    /// Writes and removes APIServices of what this server answers itself.
    pub(super) async fn register(&self, steps: Vec<Registration>) -> Result<(), ApiError> {
        let kind = built_in("apiregistration.k8s.io", "apiservices")?;
        let now = respond::now_text();
        let mut compare = Vec::new();
        let mut then = Vec::new();
        let mut updates = Vec::new();
        for step in steps {
            match step {
                Registration::Create(mut object) => {
                    let key = key_of(kind, "", text_at(&object, &["metadata", "name"]));
                    object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
                    object["metadata"]["creationTimestamp"] = now.clone().into();
                    object["status"] = status_with(&object, &Availability::local(), &now).unwrap_or_else(|| json!({}));
                    compare.push(Compare::ModRevision(key.clone(), 0));
                    let record = encode(kind, &object)?;
                    then.push(Op::Put { key, record });
                }
                Registration::Delete { name, .. } => then.push(Op::Delete {
                    key: key_of(kind, "", &name),
                }),
                Registration::Update(object) => updates.push(object),
            }
        }
        if !then.is_empty() {
            let txn = Txn {
                compare,
                then,
                ..Txn::default()
            };
            // Where another server was faster, the next pass sees what is left to do.
            self.store.txn(txn).await.map_err(respond::store_error)?;
        }
        for wanted in updates {
            let name = text_at(&wanted, &["metadata", "name"]).to_string();
            self.rewrite(kind, "", &name, |object| {
                (object["spec"] != wanted["spec"] || object["metadata"]["labels"] != wanted["metadata"]["labels"]).then(
                    || {
                        let mut object = object.clone();
                        object["spec"] = wanted["spec"].clone();
                        object["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
                        object
                    },
                )
            })
            .await?;
        }
        Ok(())
    }

    /// Says in the APIService whether it can be answered.
    pub(super) async fn write_availability(&self, name: &str, uid: &str, found: &Availability) -> Result<(), ApiError> {
        let kind = built_in("apiregistration.k8s.io", "apiservices")?;
        let now = respond::now_text();
        self.rewrite(kind, "", name, |object| {
            if text_at(object, &["metadata", "uid"]) != uid {
                return None;
            }
            let status = status_with(object, found, &now)?;
            let mut object = object.clone();
            object["status"] = status;
            Some(object)
        })
        .await
    }

    /// Tells extension servers whom to trust; what others added stays.
    pub(super) async fn write_trust(&self) -> Result<(), ApiError> {
        let kind = built_in("", "configmaps")?;
        let wanted = self.access.trust_data();
        if wanted.is_empty() {
            return Ok(());
        }
        let (namespace, name) = TRUST;
        let key = key_of(kind, namespace, name);
        if self.store.snapshot().get(&key).is_none() {
            let mut object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": namespace, "uid": uuid::Uuid::new_v4().to_string(),
                    "creationTimestamp": respond::now_text()},
            });
            object["data"] = joined_trust(&Value::Null, &wanted).unwrap_or_else(|| json!({}));
            let txn = Txn {
                compare: vec![Compare::ModRevision(key.clone(), 0)],
                then: vec![Op::Put {
                    key,
                    record: encode(kind, &object)?,
                }],
                ..Txn::default()
            };
            self.store.txn(txn).await.map_err(respond::store_error)?;
            return Ok(());
        }
        self.rewrite(kind, namespace, name, |object| {
            let data = joined_trust(&object["data"], &wanted)?;
            let mut object = object.clone();
            object["data"] = data;
            Some(object)
        })
        .await
    }

    /// Reads, changes and writes an object until it is stored; one that is gone, or
    /// that `change` leaves alone, is left alone.
    async fn rewrite(
        &self,
        kind: &skiff_kinds::Kind,
        namespace: &str,
        name: &str,
        change: impl Fn(&Value) -> Option<Value>,
    ) -> Result<(), ApiError> {
        let key = key_of(kind, namespace, name);
        for _ in 0..ATTEMPTS_MAX {
            let Some(entry) = self.store.snapshot().get(&key) else {
                return Ok(());
            };
            let Some(changed) = change(&decode(&entry, entry.mod_revision)?) else {
                return Ok(());
            };
            let txn = Txn {
                compare: vec![Compare::ModRevision(key.clone(), entry.mod_revision)],
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
