//! What the endpoint asks of the agent; the agent implements it.

use crate::error::EndpointError;
use serde_json::Value;
use std::path::PathBuf;

/// A container as the runtime knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The runtime's id, without `containerd://`.
    pub id: String,
    pub running: bool,
    pub started_at_ns: i64,
    /// CRI log file of this run.
    pub log_path: PathBuf,
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

#[async_trait::async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// The container's latest run, or the one before (`previous`). Errors are
    /// worded for the user: no such pod, no such container, not started yet.
    async fn container(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        previous: bool,
    ) -> Result<Container, EndpointError>;

    /// Whether this run of the container still goes on.
    async fn is_running(&self, id: &str) -> bool;

    /// URL on the runtime's own streaming server (CRI Exec, Attach, PortForward).
    async fn exec_url(&self, id: &str, command: &[String], streams: Streams) -> Result<String, EndpointError>;
    async fn attach_url(&self, id: &str, streams: Streams) -> Result<String, EndpointError>;
    async fn port_forward_url(&self, namespace: &str, pod: &str, ports: &[i32]) -> Result<String, EndpointError>;

    /// `PodList` of the pods of this node.
    async fn pods(&self) -> Value;

    /// Prometheus text of the node's own metrics.
    async fn metrics(&self) -> String;

    /// `/metrics/resource`, in Prometheus' text format.
    async fn resource_metrics(&self) -> String;

    /// `/stats/summary` (resource use of node and pods).
    async fn summary(&self) -> Value;
}
