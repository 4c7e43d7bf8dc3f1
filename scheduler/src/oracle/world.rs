//! Lists of objects, nothing derived.

use super::Labels;
use crate::pod::{PodInfo, PodKey, key_of};
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, Default)]
pub struct World {
    pub nodes: BTreeMap<String, Node>,
    /// With the name of the node, which need not be there.
    pub pods: BTreeMap<PodKey, (String, Pod)>,
    pub namespaces: BTreeMap<String, Labels>,
    pub nominated: Vec<(String, Pod)>,
}

impl World {
    pub fn place(&mut self, node: &str, pod: Pod) {
        self.pods.insert(key_of(&pod), (node.to_string(), pod));
    }

    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        let all = self.pods.values();
        all.filter(move |(at, _)| at == node).map(|(_, pod)| pod)
    }

    /// Pods on nodes that are there.
    pub fn placed(&self) -> impl Iterator<Item = (&Pod, &Node)> {
        let all = self.pods.values();
        all.filter_map(|(at, pod)| Some((pod, self.nodes.get(at)?)))
    }

    /// The same, told to a snapshot that never saw anything else.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (name, labels) in &self.namespaces {
            snapshot.set_namespace(name, labels.clone());
        }
        for node in self.nodes.values() {
            snapshot.set_node(node);
        }
        for (node, pod) in self.pods.values() {
            snapshot.set_pod(node, Arc::new(PodInfo::new(pod)));
        }
        for (node, pod) in &self.nominated {
            snapshot.nominate(node, Arc::new(PodInfo::new(pod)));
        }
        snapshot
    }
}
