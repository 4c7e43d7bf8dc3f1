//! The caches that all controllers read: one watch per kind, whoever uses it.

use std::sync::Arc;

use crate::slim::Pod;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, ReplicationController, Secret,
    Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::key::{Key, controller_of, namespace};

/// Name of the ConfigMap with the cluster's CA in every namespace.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";
/// Where nodes keep their heartbeat leases.
pub const NODE_LEASE_NAMESPACE: &str = "kube-node-lease";

pub struct Shared {
    pub pods: Arc<Cache<Pod>>,
    pub nodes: Arc<Cache<Node>>,
    pub node_leases: Arc<Cache<Lease>>,
    pub namespaces: Arc<Cache<Namespace>>,
    pub service_accounts: Arc<Cache<ServiceAccount>>,
    pub root_ca_config_maps: Arc<Cache<ConfigMap>>,
    pub deployments: Arc<Cache<Deployment>>,
    pub replica_sets: Arc<Cache<ReplicaSet>>,
    pub replication_controllers: Arc<Cache<ReplicationController>>,
    pub daemon_sets: Arc<Cache<DaemonSet>>,
    pub stateful_sets: Arc<Cache<StatefulSet>>,
    pub controller_revisions: Arc<Cache<ControllerRevision>>,
    pub jobs: Arc<Cache<Job>>,
    pub cron_jobs: Arc<Cache<CronJob>>,
    pub claims: Arc<Cache<PersistentVolumeClaim>>,
    pub volumes: Arc<Cache<PersistentVolume>>,
    pub storage_classes: Arc<Cache<StorageClass>>,
    pub volume_attributes_classes: Arc<Cache<VolumeAttributesClass>>,
    pub disruption_budgets: Arc<Cache<PodDisruptionBudget>>,
    pub services: Arc<Cache<Service>>,
    pub endpoint_slices: Arc<Cache<EndpointSlice>>,
    pub endpoints: Arc<Cache<Endpoints>>,
    pub signing_requests: Arc<Cache<CertificateSigningRequest>>,
    pub cluster_roles: Arc<Cache<ClusterRole>>,
    pub bootstrap_tokens: Arc<Cache<Secret>>,
    pub resource_claims: Arc<Cache<ResourceClaim>>,
}

fn unindexed<K>(_: &K) -> Vec<String> {
    Vec::new()
}

fn keep<K>(_: &mut K) {}

/// The index name of what this owner manages.
pub fn owned_by(uid: &str) -> String {
    format!("owner/{uid}")
}

/// The index name of pods bound to this node.
pub fn on_node(name: &str) -> String {
    format!("node/{name}")
}

/// The index name of pods that no controller manages.
pub fn orphans_in(namespace: &str) -> String {
    format!("orphan/{namespace}")
}

/// The index name of pods that use this claim of devices.
pub fn claiming(claim: &Key) -> String {
    format!("claiming/{claim}")
}

fn by_owner<K: Resource<DynamicType = ()>>(object: &K) -> Vec<String> {
    controller_of(object.meta())
        .map(|owner| owned_by(&owner.uid))
        .into_iter()
        .collect()
}

fn pod_index(pod: &Pod) -> Vec<String> {
    let mut names = by_owner(pod);
    if names.is_empty() {
        names.push(orphans_in(namespace(&pod.metadata)));
    }
    if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
        names.push(on_node(node));
    }
    let claims = crate::resourceclaim::used(pod);
    names.extend(claims.map(|claim| claiming(&Key::new(namespace(&pod.metadata), claim))));
    names
}

/// Controllers read none but Kubernetes' own annotations of a pod, and of its volumes
/// those that are claims.
fn slim_pod(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec
        && let Some(volumes) = &mut spec.volumes
    {
        volumes.retain(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some());
        if volumes.is_empty() {
            spec.volumes = None;
        }
    }
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| key.contains("kubernetes.io/"));
        if annotations.is_empty() {
            pod.metadata.annotations = None;
        }
    }
}

/// Node health and addresses matter; the list of images, often the larger part, does not.
fn slim_node(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
    }
}

impl Shared {
    pub fn new() -> Self {
        Self {
            pods: Arc::new(Cache::new(pod_index, slim_pod)),
            nodes: Arc::new(Cache::new(unindexed, slim_node)),
            node_leases: Arc::new(Cache::new(unindexed, keep)),
            namespaces: Arc::new(Cache::new(unindexed, keep)),
            service_accounts: Arc::new(Cache::new(unindexed, keep)),
            root_ca_config_maps: Arc::new(Cache::new(unindexed, keep)),
            deployments: Arc::new(Cache::new(unindexed, keep)),
            replica_sets: Arc::new(Cache::new(by_owner, keep)),
            replication_controllers: Arc::new(Cache::new(unindexed, keep)),
            daemon_sets: Arc::new(Cache::new(unindexed, keep)),
            stateful_sets: Arc::new(Cache::new(unindexed, keep)),
            controller_revisions: Arc::new(Cache::new(by_owner, keep)),
            jobs: Arc::new(Cache::new(by_owner, keep)),
            cron_jobs: Arc::new(Cache::new(unindexed, keep)),
            claims: Arc::new(Cache::new(unindexed, keep)),
            volumes: Arc::new(Cache::new(unindexed, keep)),
            storage_classes: Arc::new(Cache::new(unindexed, keep)),
            volume_attributes_classes: Arc::new(Cache::new(unindexed, keep)),
            disruption_budgets: Arc::new(Cache::new(unindexed, keep)),
            services: Arc::new(Cache::new(unindexed, keep)),
            endpoint_slices: Arc::new(Cache::new(unindexed, keep)),
            endpoints: Arc::new(Cache::new(unindexed, keep)),
            signing_requests: Arc::new(Cache::new(unindexed, keep)),
            cluster_roles: Arc::new(Cache::new(unindexed, keep)),
            bootstrap_tokens: Arc::new(Cache::new(unindexed, keep)),
            resource_claims: Arc::new(Cache::new(by_owner, keep)),
        }
    }

    /// Starts every watch. What start-up waits for comes first.
    pub fn start(&self, client: &Client, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
        macro_rules! watch {
            ($field:ident) => {
                watch!($field, Api::all(client.clone()), watcher::Config::default())
            };
            ($field:ident, $api:expr, $config:expr) => {
                tasks.spawn(self.$field.clone().run($api, $config, shutdown.clone()))
            };
        }
        let everything = watcher::Config::default;
        let root_ca = format!("metadata.name={ROOT_CA_CONFIG_MAP}");
        watch!(namespaces);
        watch!(service_accounts);
        watch!(
            root_ca_config_maps,
            Api::all(client.clone()),
            everything().fields(&root_ca)
        );
        watch!(nodes);
        watch!(pods);
        watch!(deployments);
        watch!(replica_sets);
        watch!(services);
        watch!(endpoint_slices);
        watch!(endpoints);
        watch!(
            node_leases,
            Api::namespaced(client.clone(), NODE_LEASE_NAMESPACE),
            everything()
        );
        watch!(signing_requests);
        watch!(cluster_roles);
        watch!(
            bootstrap_tokens,
            Api::namespaced(client.clone(), "kube-system"),
            everything().fields("type=bootstrap.kubernetes.io/token")
        );
        watch!(replication_controllers);
        watch!(daemon_sets);
        watch!(stateful_sets);
        watch!(controller_revisions);
        watch!(jobs);
        watch!(cron_jobs);
        watch!(claims);
        watch!(volumes);
        watch!(storage_classes);
        watch!(volume_attributes_classes);
        watch!(disruption_budgets);
        watch!(resource_claims);
    }
}
