//! Objects as they are read from the API: what decisions look at, and nothing else. Most of
//! a pod (probes, environments, mounts, managed fields) is passed over while it is read,
//! which is cheaper than making values of it, and need not be kept.

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, ContainerStatus, Pod, PodCondition, PodResourceClaim, PodResourceClaimStatus,
    PodSchedulingGate, PodSpec, PodStatus, ReplicationController, ResourceRequirements, Service, Toleration,
    TopologySpreadConstraint, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

type Quantities = BTreeMap<String, Quantity>;
type Labels = BTreeMap<String, String>;

/// A pod without what the scheduler never looks at.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "WrittenPod")]
pub struct WatchedPod(pub Pod);

/// A Service, or what owns pods, with what it selects them by.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "WrittenSelecting", bound = "")]
pub struct Selecting<K> {
    pub metadata: ObjectMeta,
    pub selector: Option<LabelSelector>,
    kind: PhantomData<K>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    labels: Option<Labels>,
    owner_references: Option<Vec<OwnerReference>>,
    deletion_timestamp: Option<Time>,
    creation_timestamp: Option<Time>,
}

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> Self {
        Self {
            name: read.name,
            namespace: read.namespace,
            uid: read.uid,
            resource_version: read.resource_version,
            generation: read.generation,
            labels: read.labels,
            owner_references: read.owner_references,
            deletion_timestamp: read.deletion_timestamp,
            creation_timestamp: read.creation_timestamp,
            ..Self::default()
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenPod {
    metadata: Metadata,
    spec: WrittenSpec,
    status: WrittenStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenSpec {
    node_name: Option<String>,
    node_selector: Option<Labels>,
    scheduler_name: Option<String>,
    scheduling_gates: Option<Vec<PodSchedulingGate>>,
    priority: Option<i32>,
    preemption_policy: Option<String>,
    host_network: Option<bool>,
    affinity: Option<Affinity>,
    tolerations: Option<Vec<Toleration>>,
    topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    overhead: Option<Quantities>,
    resources: Option<WrittenResources>,
    resource_claims: Option<Vec<PodResourceClaim>>,
    containers: Vec<WrittenContainer>,
    init_containers: Option<Vec<WrittenContainer>>,
    volumes: Vec<WrittenVolume>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenContainer {
    name: String,
    image: Option<String>,
    restart_policy: Option<String>,
    resources: WrittenResources,
    ports: Vec<WrittenPort>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenResources {
    requests: Option<Quantities>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenPort {
    container_port: i32,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    host_port: Option<i32>,
    protocol: Option<String>,
}

/// Only volumes that tie a pod to places count.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenVolume {
    name: String,
    persistent_volume_claim: Option<k8s_openapi::api::core::v1::PersistentVolumeClaimVolumeSource>,
    ephemeral: Option<k8s_openapi::api::core::v1::EphemeralVolumeSource>,
    gce_persistent_disk: Option<k8s_openapi::api::core::v1::GCEPersistentDiskVolumeSource>,
    aws_elastic_block_store: Option<k8s_openapi::api::core::v1::AWSElasticBlockStoreVolumeSource>,
    iscsi: Option<k8s_openapi::api::core::v1::ISCSIVolumeSource>,
    rbd: Option<k8s_openapi::api::core::v1::RBDVolumeSource>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenStatus {
    conditions: Vec<PodCondition>,
    nominated_node_name: Option<String>,
    start_time: Option<Time>,
    container_statuses: Option<Vec<WrittenContainerStatus>>,
    init_container_statuses: Option<Vec<WrittenContainerStatus>>,
    resource_claim_statuses: Option<Vec<PodResourceClaimStatus>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenContainerStatus {
    name: String,
    resources: Option<WrittenResources>,
    allocated_resources: Option<Quantities>,
}

impl From<WrittenPod> for WatchedPod {
    fn from(read: WrittenPod) -> Self {
        let WrittenPod { metadata, spec, status } = read;
        Self(Pod {
            metadata: metadata.into(),
            spec: Some(spec.into()),
            status: Some(status.into()),
        })
    }
}

impl From<WrittenSpec> for PodSpec {
    fn from(read: WrittenSpec) -> Self {
        let containers = |list: Vec<WrittenContainer>| list.into_iter().map(Container::from).collect();
        let volumes: Vec<Volume> = read.volumes.into_iter().filter_map(volume).collect();
        Self {
            node_name: read.node_name.filter(|name| !name.is_empty()),
            node_selector: read.node_selector,
            scheduler_name: read.scheduler_name,
            scheduling_gates: read.scheduling_gates,
            priority: read.priority,
            preemption_policy: read.preemption_policy,
            host_network: read.host_network,
            affinity: read.affinity,
            tolerations: read.tolerations,
            topology_spread_constraints: read.topology_spread_constraints,
            overhead: read.overhead,
            resources: read.resources.map(Into::into),
            resource_claims: read.resource_claims,
            containers: containers(read.containers),
            init_containers: read.init_containers.map(containers),
            volumes: (!volumes.is_empty()).then_some(volumes),
            ..Self::default()
        }
    }
}

impl From<WrittenResources> for ResourceRequirements {
    fn from(read: WrittenResources) -> Self {
        Self {
            requests: read.requests,
            ..Self::default()
        }
    }
}

impl From<WrittenContainer> for Container {
    fn from(read: WrittenContainer) -> Self {
        let ports: Vec<ContainerPort> = read
            .ports
            .into_iter()
            .filter(|port| port.host_port.is_some_and(|port| port > 0))
            .map(|port| ContainerPort {
                container_port: port.container_port,
                host_ip: port.host_ip,
                host_port: port.host_port,
                protocol: port.protocol,
                name: None,
            })
            .collect();
        Self {
            name: read.name,
            image: read.image,
            restart_policy: read.restart_policy,
            resources: read.resources.requests.is_some().then(|| read.resources.into()),
            ports: (!ports.is_empty()).then_some(ports),
            ..Self::default()
        }
    }
}

fn volume(read: WrittenVolume) -> Option<Volume> {
    let volume = Volume {
        name: read.name,
        persistent_volume_claim: read.persistent_volume_claim,
        ephemeral: read.ephemeral,
        gce_persistent_disk: read.gce_persistent_disk,
        aws_elastic_block_store: read.aws_elastic_block_store,
        iscsi: read.iscsi,
        rbd: read.rbd,
        ..Volume::default()
    };
    let counts = volume.persistent_volume_claim.is_some()
        || volume.ephemeral.is_some()
        || volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.iscsi.is_some()
        || volume.rbd.is_some();
    counts.then_some(volume)
}

impl From<WrittenStatus> for PodStatus {
    fn from(read: WrittenStatus) -> Self {
        let known = ["PodScheduled", "DisruptionTarget", "PodResizePending"];
        let conditions: Vec<PodCondition> = read
            .conditions
            .into_iter()
            .filter(|condition| known.contains(&condition.type_.as_str()))
            .collect();
        let statuses = |list: Vec<WrittenContainerStatus>| list.into_iter().map(ContainerStatus::from).collect();
        Self {
            conditions: (!conditions.is_empty()).then_some(conditions),
            nominated_node_name: read.nominated_node_name.filter(|name| !name.is_empty()),
            start_time: read.start_time,
            container_statuses: read.container_statuses.map(statuses),
            init_container_statuses: read.init_container_statuses.map(statuses),
            resource_claim_statuses: read.resource_claim_statuses,
            ..Self::default()
        }
    }
}

impl From<WrittenContainerStatus> for ContainerStatus {
    fn from(read: WrittenContainerStatus) -> Self {
        Self {
            name: read.name,
            resources: read.resources.map(Into::into),
            allocated_resources: read.allocated_resources,
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
struct WrittenSelecting {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: SelectingSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SelectingSpec {
    selector: Option<WrittenSelector>,
}

/// Services and replication controllers list labels; the others have a selector.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenSelector {
    Labels(Labels),
    Selector(LabelSelector),
}

impl<K> From<WrittenSelecting> for Selecting<K> {
    fn from(read: WrittenSelecting) -> Self {
        Self {
            metadata: read.metadata.into(),
            selector: read.spec.selector.map(|selector| match selector {
                WrittenSelector::Selector(selector) => selector,
                WrittenSelector::Labels(labels) => LabelSelector {
                    match_labels: Some(labels),
                    match_expressions: None,
                },
            }),
            kind: PhantomData,
        }
    }
}

/// It is found where the kind it stands for is.
macro_rules! as_kind {
    ($read:ty, $kind:ty, $($inner:tt)?) => {
        impl Resource for $read {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                <$kind as Resource>::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                <$kind as Resource>::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                <$kind as Resource>::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                <$kind as Resource>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self$(.$inner)?.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self$(.$inner)?.metadata
            }
        }
    };
}

as_kind!(WatchedPod, Pod, 0);
as_kind!(Selecting<Service>, Service,);
as_kind!(Selecting<ReplicationController>, ReplicationController,);
as_kind!(Selecting<ReplicaSet>, ReplicaSet,);
as_kind!(Selecting<StatefulSet>, StatefulSet,);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_decisions_look_at_is_kept_and_the_rest_is_not() {
        let written = json!({
            "metadata": {"name": "a", "namespace": "d", "uid": "u", "labels": {"k": "v"}, "generation": 3,
                "managedFields": [{"manager": "m"}], "annotations": {"long": "text"}},
            "spec": {
                "schedulerName": "s", "priority": 5, "nodeName": "", "hostNetwork": false,
                "nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}],
                "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
                "containers": [{"name": "c", "image": "i", "env": [{"name": "E", "value": "v"}],
                    "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}},
                    "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81, "protocol": "UDP"}]}],
                "volumes": [{"name": "token", "projected": {"sources": []}},
                    {"name": "data", "persistentVolumeClaim": {"claimName": "p"}}],
            },
            "status": {"phase": "Pending", "nominatedNodeName": "", "conditions": [
                {"type": "PodScheduled", "status": "False"}, {"type": "Ready", "status": "False"}]},
        });
        let wanted = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "d", "uid": "u", "labels": {"k": "v"}, "generation": 3},
            "spec": {
                "schedulerName": "s", "priority": 5, "hostNetwork": false,
                "nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}],
                "resources": {"requests": {"cpu": "1"}},
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}},
                    "ports": [{"containerPort": 81, "hostPort": 81, "protocol": "UDP"}]}],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "p"}}],
            },
            "status": {"conditions": [{"type": "PodScheduled", "status": "False"}]},
        });
        let read: WatchedPod = serde_json::from_value(written).expect("a pod");
        assert_eq!(serde_json::to_value(&read.0).expect("a pod"), wanted);
    }

    #[test]
    fn selectors_of_either_form_are_read() {
        for (selector, labels) in [
            (json!({"app": "a"}), true),
            (json!({"matchLabels": {"app": "a"}}), true),
            (json!(null), false),
        ] {
            let object = json!({"metadata": {"name": "s"}, "spec": {"selector": selector}});
            let read: Selecting<Service> = serde_json::from_value(object).expect("a service");
            let found = read.selector.and_then(|selector| selector.match_labels);
            assert_eq!(found.is_some_and(|found| found["app"] == "a"), labels, "{selector}");
        }
    }
}
