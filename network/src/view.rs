//! What the dataplane is told: the cluster's tables as the agent's own copy
//! holds them. The network never asks the API itself.

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `(namespace, name)`; the namespace is empty for nodes.
pub type Key = (String, String);

#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    pub services: BTreeMap<Key, Arc<Service>>,
    pub endpoint_slices: BTreeMap<Key, Arc<EndpointSlice>>,
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// Pods of this node only, with their addresses (hostPort, DNS of own pods).
    pub pods: BTreeMap<Key, Arc<Pod>>,
}
