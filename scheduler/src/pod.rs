//! What is remembered of a pod that occupies a node. Pure.

use crate::affinity::{PodTerm, Pull, pod_terms};
use crate::resources::{self, Resources};
use crate::selector::Labels;
use k8s_openapi::api::core::v1::Pod;
use std::ops::Deref;
use std::sync::Arc;

/// `(namespace, name)`.
pub type PodKey = (String, String);

/// A port taken on a node's own addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    pub fn clashes(&self, other: &Self) -> bool {
        let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// What pods of one template have in common, as far as it matters to others once
/// they are placed. Kept once for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    pub namespace: String,
    pub labels: Labels,
    pub priority: i32,
    pub requests: Resources,
    /// As `requests`, with a floor per container that asks for nothing:
    /// (thousandths of CPU, bytes).
    pub scored: (i64, i64),
    pub ports: Vec<HostPort>,
    /// Required and preferred inter-pod rules.
    pub terms: Vec<PodTerm>,
}

impl Shape {
    /// Whether its required anti-affinity may keep the other one away. Namespaces that
    /// are chosen by their labels count as if they were chosen.
    pub fn bars(&self, other: &Self) -> bool {
        let mut terms = self.terms.iter().filter(|term| term.pull == Pull::Bars);
        terms.any(|term| {
            let crowd = &term.term.crowd;
            let there = crowd.namespaces.contains(&other.namespace) || crowd.namespace_selector.is_some();
            there && crowd.pods.selects(&other.labels)
        })
    }
}

/// One pod. What it shares with others of its shape can be read as if it were its own.
#[derive(Debug, Clone)]
pub struct PodInfo {
    pub key: PodKey,
    pub uid: String,
    pub terminating: bool,
    /// `status.startTime` in seconds since 1970; not started: as late as can be.
    pub started: i64,
    /// It was the scheduler that made it go (condition DisruptionTarget).
    pub preempted: bool,
    /// Names of its PersistentVolumeClaims.
    pub claims: Box<[String]>,
    pub shape: Arc<Shape>,
}

impl Deref for PodInfo {
    type Target = Shape;

    fn deref(&self) -> &Shape {
        &self.shape
    }
}

impl PodInfo {
    pub fn new(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let spec = pod.spec.as_ref();
        let key = key_of(pod);
        let (requests, scored) = resources::of_pod(pod);
        let shape = Shape {
            namespace: key.0.clone(),
            labels: meta.labels.clone().unwrap_or_default(),
            priority: spec.and_then(|spec| spec.priority).unwrap_or(0),
            requests,
            scored,
            ports: host_ports(pod),
            terms: spec
                .and_then(|spec| spec.affinity.as_ref())
                .map(|affinity| pod_terms(&key.0, affinity))
                .unwrap_or_default(),
        };
        let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        Self {
            key,
            uid: meta.uid.clone().unwrap_or_default(),
            terminating: meta.deletion_timestamp.is_some(),
            started: started.map_or(i64::MAX, |time| time.0.as_second()),
            preempted: preempted(pod),
            claims: claims(pod).map(|(name, _)| name).collect(),
            shape: Arc::new(shape),
        }
    }
}

/// The pod's PersistentVolumeClaims, each with whether it is made for the pod (a generic ephemeral volume).
pub fn claims(pod: &Pod) -> impl Iterator<Item = (String, bool)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some((claim.claim_name.clone(), false)),
        (None, Some(_)) => {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            Some((format!("{pod}-{}", volume.name), true))
        }
        (None, None) => None,
    })
}

pub fn key_of(pod: &Pod) -> PodKey {
    (
        pod.metadata.namespace.clone().unwrap_or_default(),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}

/// Whether it is the scheduler that ends the pod.
fn preempted(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let target = conditions.and_then(|list| list.iter().find(|condition| condition.type_ == "DisruptionTarget"));
    target.is_some_and(|target| target.status == "True" && target.reason.as_deref() == Some("PreemptionByScheduler"))
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let text = |text: &Option<String>, default: &str| {
        let given = text.clone().filter(|text| !text.is_empty());
        given.unwrap_or_else(|| default.to_string())
    };
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            Some(HostPort {
                ip: text(&port.host_ip, "0.0.0.0"),
                protocol: text(&port.protocol, "TCP"),
                port: port.host_port.filter(|number| *number > 0)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn info(value: serde_json::Value) -> PodInfo {
        PodInfo::new(&serde_json::from_value(value).expect("a pod"))
    }

    #[test]
    fn ports_clash_by_address_protocol_and_number() {
        let port = |ip: &str, protocol: &str, port| HostPort {
            ip: ip.into(),
            protocol: protocol.into(),
            port,
        };
        let taken = port("10.0.0.1", "TCP", 80);
        for (wanted, clashes) in [
            (port("10.0.0.1", "TCP", 80), true),
            (port("0.0.0.0", "TCP", 80), true),
            (port("::", "TCP", 80), true),
            (port("10.0.0.2", "TCP", 80), false),
            (port("0.0.0.0", "UDP", 80), false),
            (port("0.0.0.0", "TCP", 81), false),
        ] {
            assert_eq!(wanted.clashes(&taken), clashes, "{wanted:?}");
            assert_eq!(taken.clashes(&wanted), clashes, "{wanted:?}");
        }
    }

    #[test]
    fn host_ports_of_containers_and_sidecars_count() {
        let ports = |port: i32| json!([{"containerPort": 1, "hostPort": port}]);
        let pod = info(json!({"spec": {
            "containers": [{"name": "c", "ports": ports(80)}, {"name": "none", "ports": [{"containerPort": 1}]}],
            "initContainers": [{"name": "s", "restartPolicy": "Always", "ports": ports(81)}, {"name": "i", "ports": ports(82)}],
        }}));
        let numbers: Vec<i32> = pod.ports.iter().map(|port| port.port).collect();
        assert_eq!(numbers, [80, 81]);
        assert_eq!(
            (pod.ports[0].ip.as_str(), pod.ports[0].protocol.as_str()),
            ("0.0.0.0", "TCP")
        );
    }

    #[test]
    fn only_the_schedulers_own_disruption_counts_as_preempted() {
        for (status, reason, expected) in [
            ("True", "PreemptionByScheduler", true),
            ("True", "EvictionByEvictionAPI", false),
            ("False", "PreemptionByScheduler", false),
        ] {
            let condition = json!({"type": "DisruptionTarget", "status": status, "reason": reason});
            let pod = info(json!({"spec": {"containers": []}, "status": {"conditions": [condition]}}));
            assert_eq!(pod.preempted, expected, "{status} {reason}");
        }
    }
}
