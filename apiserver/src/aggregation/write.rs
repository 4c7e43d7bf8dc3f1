//! What the keeper writes: APIServices and their conditions, and the ConfigMap that
//! extension servers read their trust from.

use super::availability::{Availability, status_with};
use super::local::Registration;
use crate::registry::{built_in, key_of, text_at};
use crate::respond;
use crate::server::ApiServer;
use serde_json::{Value, json};
use skiff_access::authentication::request_header::joined_trust;
use skiff_api::ApiError;
use skiff_store::{Op, Txn};

/// Namespace and name of the ConfigMap.
pub const TRUST: (&str, &str) = ("kube-system", "extension-apiserver-authentication");

impl ApiServer {
    /// Writes and removes APIServices of what this server answers itself.
    pub(super) async fn register(&self, steps: Vec<Registration>) -> Result<(), ApiError> {
        let kind = built_in("apiregistration.k8s.io", "apiservices")?;
        let now = respond::now_text();
        let mut created = Vec::new();
        let mut updates = Vec::new();
        for step in steps {
            match step {
                Registration::Create(mut object) => {
                    object["status"] = status_with(&object, &Availability::local(), &now).unwrap_or_else(|| json!({}));
                    created.push((kind, object));
                }
                Registration::Delete { name, .. } => {
                    let txn = Txn {
                        then: vec![Op::Delete {
                            key: key_of(kind, "", &name),
                        }],
                        ..Txn::default()
                    };
                    self.store.txn(txn).await.map_err(respond::store_error)?;
                }
                Registration::Update(object) => updates.push(object),
            }
        }
        self.create_kept(created).await?;
        for wanted in updates {
            let name = text_at(&wanted, &["metadata", "name"]).to_string();
            self.rewrite_kept(kind, "", &name, |object| {
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
        self.rewrite_kept(kind, "", name, |object| {
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
            let data = joined_trust(&Value::Null, &wanted).unwrap_or_else(|| json!({}));
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data,
            });
            return self.create_kept(vec![(kind, object)]).await;
        }
        self.rewrite_kept(kind, namespace, name, |object| {
            let data = joined_trust(&object["data"], &wanted)?;
            let mut object = object.clone();
            object["data"] = data;
            Some(object)
        })
        .await
    }
}
