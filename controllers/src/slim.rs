//! Pods as controllers read them. The API's own type has room for what nobody here
//! looks at (probes, environments, mounts), some 20 KiB a pod; this one takes a tenth.
//! Fields have the API's names and meanings; what is not listed is not decoded.

use crate::alike::{Alike, Recent, Shared};
use crate::selector::Labels;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, PodIP, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Written")]
pub struct Pod {
    /// All but the labels.
    pub metadata: ObjectMeta,
    /// Here and not in the metadata: pods of a template have them in common.
    pub labels: Option<Shared<Labels>>,
    pub spec: Option<PodSpec>,
    pub status: Option<PodStatus>,
}

/// A pod as the API writes it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    metadata: ObjectMeta,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

impl From<Written> for Pod {
    fn from(mut written: Written) -> Self {
        Self {
            labels: written.metadata.labels.take().map(Shared::alike),
            metadata: written.metadata,
            spec: written.spec,
            status: written.status,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    pub node_name: Option<String>,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    pub restart_policy: Option<String>,
    pub containers: Shared<Vec<Container>>,
    pub init_containers: Option<Shared<Vec<Container>>>,
    pub volumes: Option<Vec<Volume>>,
    pub tolerations: Option<Shared<Vec<Toleration>>>,
    pub affinity: Option<Affinity>,
    pub resource_claims: Option<Vec<PodResourceClaim>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    pub ports: Option<Vec<ContainerPort>>,
    pub restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    pub name: Option<String>,
    pub container_port: i32,
    pub protocol: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volume {
    pub name: String,
    pub persistent_volume_claim: Option<ClaimSource>,
    pub ephemeral: Option<EphemeralSource>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSource {
    pub claim_name: String,
}

/// That there is one is all that is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EphemeralSource {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodResourceClaim {
    pub name: String,
    pub resource_claim_name: Option<String>,
    pub resource_claim_template_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Affinity {
    pub node_affinity: Option<NodeAffinity>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeAffinity {
    pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSelector {
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSelectorTerm {
    pub match_fields: Option<Vec<NodeSelectorRequirement>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    pub phase: Option<String>,
    pub reason: Option<String>,
    pub conditions: Option<Vec<PodCondition>>,
    pub pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIP>>,
    pub container_statuses: Option<Vec<ContainerStatus>>,
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    pub resource_claim_statuses: Option<Vec<PodResourceClaimStatus>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodResourceClaimStatus {
    pub name: String,
    pub resource_claim_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodCondition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    pub reason: Option<String>,
    pub last_transition_time: Option<Time>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    pub name: String,
    pub restart_count: i32,
    pub state: Option<ContainerState>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerState {
    pub terminated: Option<ContainerStateTerminated>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStateTerminated {
    pub exit_code: i32,
    pub finished_at: Option<Time>,
}

impl Alike for Labels {
    fn hash_into(&self, hasher: &mut DefaultHasher) {
        self.hash(hasher);
    }

    fn recent() -> &'static Recent<Self> {
        static RECENT: Recent<Labels> = Recent::new();
        &RECENT
    }
}

impl Alike for Vec<Container> {
    fn hash_into(&self, hasher: &mut DefaultHasher) {
        self.hash(hasher);
    }

    fn recent() -> &'static Recent<Self> {
        static RECENT: Recent<Vec<Container>> = Recent::new();
        &RECENT
    }
}

impl Alike for Vec<Toleration> {
    fn hash_into(&self, hasher: &mut DefaultHasher) {
        for toleration in self {
            (&toleration.key, &toleration.value, toleration.toleration_seconds).hash(hasher);
            (&toleration.operator, &toleration.effect).hash(hasher);
        }
    }

    fn recent() -> &'static Recent<Self> {
        static RECENT: Recent<Vec<Toleration>> = Recent::new();
        &RECENT
    }
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_api_writes() {
        let full: k8s_openapi::api::core::v1::Pod = serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {
                "nodeName": "n",
                "containers": [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}], "env": [{"name": "A", "value": "B"}]}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}, {"name": "t", "emptyDir": {}}],
            },
            "status": {
                "phase": "Failed", "podIPs": [{"ip": "10.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}],
                "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 2, "state": {"terminated": {"exitCode": 3}}}],
            },
        }))
        .unwrap();
        let slim: Pod = serde_json::from_value(serde_json::to_value(&full).unwrap()).unwrap();
        assert_eq!(slim.labels.as_deref(), full.metadata.labels.as_ref());
        let unlabelled = ObjectMeta {
            labels: None,
            ..full.metadata
        };
        assert_eq!(slim.metadata, unlabelled);
        let spec = slim.spec.unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("n"));
        assert_eq!(spec.containers[0].ports.as_ref().unwrap()[0].container_port, 80);
        let volumes = spec.volumes.unwrap();
        assert_eq!(volumes[0].persistent_volume_claim.as_ref().unwrap().claim_name, "data");
        assert!(volumes[1].ephemeral.is_some() && volumes[2].ephemeral.is_none());
        let status = slim.status.unwrap();
        assert_eq!(status.pod_ips.unwrap()[0].ip, "10.0.0.1");
        assert!(status.conditions.unwrap()[0].last_transition_time.is_some());
        let container = &status.container_statuses.unwrap()[0];
        assert_eq!(container.restart_count, 2);
        assert_eq!(
            container.state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code,
            3
        );
    }

    #[test]
    fn is_small() {
        // The API's type takes 1.7 KiB before anything it points to.
        assert!(size_of::<Pod>() < 1024, "{}", size_of::<Pod>());
    }
}
