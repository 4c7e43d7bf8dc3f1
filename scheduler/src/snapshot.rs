//! The cluster as a decision sees it: nodes in dense order, each with what its
//! pods occupy. Maintained by adding and removing pods, never recounted. Pure.

use crate::resources::{self, Resources};
use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm, Taint};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `(namespace, name)`.
pub type PodKey = (String, String);

/// A port taken on a node's own addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

/// What is remembered of a pod that occupies a node.
#[derive(Debug, Clone)]
pub struct PodInfo {
    pub key: PodKey,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub requests: Resources,
    pub ports: Vec<HostPort>,
    /// uid of the controlling owner; empty if none.
    pub controller: String,
    pub terminating: bool,
    pub priority: i32,
    /// `status.startTime` in seconds since 1970; not started: as late as can be.
    pub started: i64,
    /// It was the scheduler that made it go (condition DisruptionTarget).
    pub preempted: bool,
    pub anti_affinity: Vec<PodAffinityTerm>,
}

impl PodInfo {
    pub fn new(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let owners = meta.owner_references.iter().flatten();
        let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        Self {
            key: key_of(pod),
            uid: meta.uid.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            requests: resources::of_pod(pod),
            ports: host_ports(pod),
            controller: owners
                .into_iter()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| owner.uid.clone())
                .unwrap_or_default(),
            terminating: meta.deletion_timestamp.is_some(),
            priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
            started: pod
                .status
                .as_ref()
                .and_then(|status| status.start_time.as_ref())
                .map_or(i64::MAX, |time| time.0.as_second()),
            preempted: preempted(pod),
            anti_affinity: anti
                .and_then(|anti| anti.required_during_scheduling_ignored_during_execution.clone())
                .unwrap_or_default(),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    pub name: String,
    /// False while only pods name this node, and it is not (or no longer) there.
    pub exists: bool,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub pods_max: i64,
    pub requested: Resources,
    /// As `requested`, with a floor per pod; (thousandths of CPU, bytes).
    pub scored: (i64, i64),
    pub pods: BTreeMap<PodKey, Arc<PodInfo>>,
}

impl NodeInfo {
    /// What decisions depend on, but for the pods.
    fn essence(&self) -> (bool, bool, BTreeMap<String, String>, Vec<Taint>, Resources, i64) {
        let taints = self.taints.clone();
        (
            self.exists,
            self.unschedulable,
            self.labels.clone(),
            taints,
            self.allocatable.clone(),
            self.pods_max,
        )
    }
}

/// All nodes, by name; ordered, so that decisions do not depend on hashing.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub nodes: BTreeMap<String, NodeInfo>,
    /// Labels of namespaces, for namespace selectors.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Where each known pod is.
    places: BTreeMap<PodKey, String>,
    /// Pods for which room was made, with the node.
    nominated: BTreeMap<PodKey, (String, Arc<PodInfo>)>,
    /// How many pods on nodes have required anti-affinity; 0 spares a search.
    pub with_anti_affinity: usize,
}

impl Snapshot {
    /// Takes the node's new state; true if that can change a decision (a
    /// heartbeat does not).
    pub fn set_node(&mut self, node: &Node) -> bool {
        let name = node.metadata.name.clone().unwrap_or_default();
        let info = self.nodes.entry(name.clone()).or_default();
        let before = info.essence();
        info.name = name;
        info.exists = true;
        info.labels = node.metadata.labels.clone().unwrap_or_default();
        info.taints = node
            .spec
            .as_ref()
            .and_then(|spec| spec.taints.clone())
            .unwrap_or_default();
        info.unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        info.allocatable = allocatable.map(Resources::from_list).unwrap_or_default();
        info.pods_max = allocatable
            .and_then(|list| list.get("pods"))
            .map(|pods| resources::whole(&pods.0))
            .unwrap_or(0);
        before != info.essence()
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            if node.pods.is_empty() {
                self.nodes.remove(name);
            } else {
                node.exists = false;
            }
        }
    }

    /// Places a pod (or moves it: a pod is on one node at most).
    pub fn set_pod(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.key.clone());
        self.places.insert(pod.key.clone(), node.to_string());
        let info = self.nodes.entry(node.to_string()).or_default();
        if info.name.is_empty() {
            info.name = node.to_string();
        }
        info.requested.add(&pod.requests);
        let (cpu, memory) = pod.requests.for_scoring();
        info.scored.0 += cpu;
        info.scored.1 += memory;
        self.with_anti_affinity += usize::from(!pod.anti_affinity.is_empty());
        info.pods.insert(pod.key.clone(), pod);
    }

    /// The node it was on.
    pub fn remove_pod(&mut self, key: &PodKey) -> Option<String> {
        let name = self.places.remove(key)?;
        let info = self.nodes.get_mut(&name)?;
        if let Some(pod) = info.pods.remove(key) {
            info.requested.subtract(&pod.requests);
            let (cpu, memory) = pod.requests.for_scoring();
            info.scored.0 -= cpu;
            info.scored.1 -= memory;
            self.with_anti_affinity -= usize::from(!pod.anti_affinity.is_empty());
        }
        if info.pods.is_empty() && !info.exists {
            self.nodes.remove(&name);
        }
        Some(name)
    }

    /// The pod and the name of its node.
    pub fn pod(&self, key: &PodKey) -> Option<(&str, &Arc<PodInfo>)> {
        let place = self.places.get(key)?;
        Some((place, self.nodes.get(place)?.pods.get(key)?))
    }

    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.nodes.get(node).into_iter().flat_map(|node| node.pods.values())
    }

    /// Keys of all placed pods, in order.
    pub fn pod_keys(&self) -> Vec<PodKey> {
        self.places.keys().cloned().collect()
    }

    /// Names of the nodes that exist, in order.
    pub fn node_names(&self) -> Vec<String> {
        let existing = self.nodes.values().filter(|node| node.exists);
        existing.map(|node| node.name.clone()).collect()
    }

    pub fn set_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) {
        self.namespaces.insert(name.to_string(), labels);
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Room was made on `node` for a pod that is not placed yet: pods of no higher
    /// priority leave it that room.
    pub fn nominate(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.nominated.insert(pod.key.clone(), (node.to_string(), pod));
    }

    /// The pod was placed, is gone, or its nomination is.
    pub fn denominate(&mut self, key: &PodKey) {
        self.nominated.remove(key);
    }

    pub fn place_of(&self, key: &PodKey) -> Option<&str> {
        self.places.get(key).map(String::as_str)
    }
}

/// Whether it is the scheduler that ends the pod.
fn preempted(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let target = conditions.and_then(|list| list.iter().find(|condition| condition.type_ == "DisruptionTarget"));
    target.is_some_and(|target| target.status == "True" && target.reason.as_deref() == Some("PreemptionByScheduler"))
}

pub fn key_of(pod: &Pod) -> PodKey {
    (
        pod.metadata.namespace.clone().unwrap_or_default(),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}

pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            Some(HostPort {
                ip: port
                    .host_ip
                    .clone()
                    .filter(|ip| !ip.is_empty())
                    .unwrap_or_else(|| "0.0.0.0".into()),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port: number,
            })
        })
        .collect()
}
