//! The server's state, and what it writes when it starts.

use crate::admission::Dynamic;
use crate::aggregation::Aggregation;
use crate::config::Config;
use crate::custom::Customs;
use crate::documents::Documents;
use crate::events::EventCache;
use crate::flow::Flow;
use crate::handler::{Change, CreateArgs, Target};
use crate::metrics::Metrics;
use crate::quota::Recounts;
use crate::registry::{Catalog, DecodeCache, StoreObjects, built_in, encode, key_of, text_at};
use crate::resource_metrics::ResourceMetrics;
use crate::respond;
use arc_swap::ArcSwap;
use serde_json::Value;
use skiff_access::{Access, UserInfo};
use skiff_api::ApiError;
use skiff_store::{Compare, Op, Snapshot, Store, StoreError, Txn};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot write the objects that every cluster has: {0}")]
    Bootstrap(ApiError),
    #[error("cannot read or write the store: {0}")]
    Store(#[from] StoreError),
    #[error("cannot accept connections")]
    Accept(#[source] std::io::Error),
}

impl From<ApiError> for ServerError {
    fn from(error: ApiError) -> Self {
        Self::Bootstrap(error)
    }
}

/// One API server over a store.
pub struct ApiServer {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) access: Access,
    catalog: ArcSwap<Catalog>,
    pub(crate) decoded: DecodeCache,
    pub(crate) events: EventCache,
    pub(crate) aggregation: Aggregation,
    pub(crate) flow: Flow,
    pub(crate) documents: Documents,
    pub(crate) metrics: Metrics,
    pub(crate) resource_usage: ResourceMetrics,
    pub(crate) closing: CancellationToken,
    pub(crate) recounts: Arc<Recounts>,
    pub(crate) dynamic: Dynamic,
    pub(crate) customs: Customs,
}

/// Writes in one batch at start: few transactions, each well under the store's limit.
const BOOTSTRAP_BATCH: usize = 100;

impl ApiServer {
    /// Builds the server and writes what every cluster has; idempotent.
    pub async fn new(config: Config, store: Arc<dyn Store>, access: Access) -> Result<Arc<Self>, ServerError> {
        let server = Arc::new(Self {
            config,
            store,
            access,
            catalog: ArcSwap::from_pointee(Catalog::new(skiff_kinds::kinds(), &[])),
            decoded: DecodeCache::default(),
            events: EventCache::default(),
            aggregation: Aggregation::default(),
            flow: Flow::default(),
            documents: Documents::default(),
            metrics: Metrics::default(),
            resource_usage: ResourceMetrics::default(),
            closing: CancellationToken::new(),
            recounts: Arc::default(),
            dynamic: Dynamic::default(),
            customs: Customs::default(),
        });
        server.start_recounts();
        server.bootstrap().await?;
        server.start_definitions().await?;
        server.start_keeping_services();
        server.start_following_servers();
        server.start_keeping_ranges();
        server.start_filling_tokens();
        server.start_checking_policies();
        server.start_aggregation().await?;
        server.start_flow().await?;
        Ok(server)
    }

    /// The kinds that are served now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// These kinds are served from now on.
    pub(crate) fn set_catalog(&self, catalog: Catalog) {
        self.catalog.store(Arc::new(catalog));
        self.documents.forget();
        self.aggregation.wake.notify_one();
    }

    pub(crate) fn objects(&self, snapshot: Arc<dyn Snapshot>) -> StoreObjects<'_> {
        StoreObjects {
            snapshot,
            catalog: self.catalog(),
            cache: &self.decoded,
        }
    }

    /// The server itself, as a user.
    pub(crate) fn own_user() -> UserInfo {
        UserInfo {
            name: "system:apiserver".into(),
            groups: vec!["system:authenticated".into(), "system:masters".into()],
            ..UserInfo::default()
        }
    }

    async fn bootstrap(&self) -> Result<(), ServerError> {
        let objects = self.access.bootstrap_objects();
        self.reconcile_policy(&objects).await?;
        self.write_missing(objects).await?;
        match self.bootstrap_services().await {
            // They are tried again for as long as they are not there.
            Err(error) if self.admission_is_configured() => {
                tracing::warn!(%error, "the server's own services are not complete: the cluster's admission does not let them be made");
            }
            other => other?,
        }
        Ok(())
    }

    /// Gives roles and bindings of the bootstrap policy back what they lack of it.
    async fn reconcile_policy(&self, objects: &[Value]) -> Result<(), ServerError> {
        let snapshot = self.store.snapshot_linearizable().await?;
        for wanted in objects {
            let (group, _) = text_at(wanted, &["apiVersion"]).split_once('/').unwrap_or(("", ""));
            let Some(kind) = skiff_kinds::find_kind(group, text_at(wanted, &["kind"])) else {
                continue;
            };
            let (namespace, name) = (
                text_at(wanted, &["metadata", "namespace"]),
                text_at(wanted, &["metadata", "name"]),
            );
            let Some(entry) = snapshot.get(&key_of(kind, namespace, name)) else {
                continue;
            };
            if self.access.reconciled(&crate::codec::stored(&entry)?, wanted).is_none() {
                continue;
            }
            tracing::info!(
                kind = kind.kind,
                namespace,
                name,
                "giving back what the bootstrap policy says"
            );
            let written = self
                .modify(kind, namespace, name, false, |old, _| {
                    Ok(match self.access.reconciled(old, wanted) {
                        Some(new) => Change::Write(new),
                        None => Change::Keep,
                    })
                })
                .await;
            match written {
                // Somebody deleted it meanwhile: it is made again below.
                Err(error) if error.reason == "NotFound" => {}
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    /// Writes those of these objects that are not there, in as few transactions as can be.
    async fn write_missing(&self, objects: Vec<Value>) -> Result<(), ServerError> {
        let snapshot = self.store.snapshot_linearizable().await?;
        let now = respond::now_text();
        let mut missing = Vec::new();
        for mut object in objects {
            let (group, _) = text_at(&object, &["apiVersion"]).split_once('/').unwrap_or(("", ""));
            let Some(kind) = skiff_kinds::find_kind(group, text_at(&object, &["kind"])) else {
                return Err(ApiError::internal(format!(
                    "bootstrap object of unknown kind {}",
                    text_at(&object, &["kind"])
                ))
                .into());
            };
            let key = key_of(
                kind,
                text_at(&object, &["metadata", "namespace"]),
                text_at(&object, &["metadata", "name"]),
            );
            if snapshot.get(&key).is_some() {
                continue;
            }
            object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
            object["metadata"]["creationTimestamp"] = now.clone().into();
            kind.strategy().default(&mut object);
            kind.strategy().prepare_create(&mut object);
            missing.push((key, encode(kind, &object)?));
        }
        for batch in missing.chunks(BOOTSTRAP_BATCH) {
            let txn = Txn {
                compare: batch
                    .iter()
                    .map(|(key, _)| Compare::ModRevision(key.clone(), 0))
                    .collect(),
                then: batch
                    .iter()
                    .map(|(key, record)| Op::Put {
                        key: key.clone(),
                        record: record.clone(),
                    })
                    .collect(),
                ..Txn::default()
            };
            // Another server may have been faster: then there is nothing to do.
            self.store.txn(txn).await?;
        }
        Ok(())
    }

    /// Creates an object as the server itself, through the same checks as
    /// everybody; one that is there already is left alone.
    pub(crate) async fn ensure(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        object: Value,
    ) -> Result<(), ServerError> {
        let kind = built_in(group, plural)?;
        // What is there needs no admission: a webhook that cannot be asked must not keep the server down.
        let key = key_of(kind, namespace, text_at(&object, &["metadata", "name"]));
        if self.store.snapshot_linearizable().await?.get(&key).is_some() {
            return Ok(());
        }
        let target = Target {
            kind: kind.into(),
            version: kind.storage_version,
            sub: None,
        };
        let user = Self::own_user();
        let options = serde_json::json!({});
        let args = CreateArgs {
            kind,
            version: target.version,
            namespace,
            user: &user,
            dry_run: false,
            options: &options,
            manager: Some("kube-apiserver"),
        };
        match self.create_object(&args, object, &mut Vec::new()).await {
            Ok(_) => Ok(()),
            Err(error) if error.reason == "AlreadyExists" => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
