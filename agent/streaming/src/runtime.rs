//! What the endpoint asks of the agent; the agent implements it.

use crate::error::EndpointError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// Who calls, as the API server knows users.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Caller {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Pages in Prometheus' text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsPage {
    /// The node agent's own figures.
    Own,
    /// Use of CPU and memory: `/metrics/resource`.
    Resource,
    /// Everything about cgroups: `/metrics/cadvisor`.
    Cadvisor,
    Probes,
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

    /// Waits until this run of the container is over and its log complete. May be dropped.
    async fn ended(&self, id: &str);

    /// Runs a command to its end; all that it printed.
    async fn run(&self, id: &str, command: &[String]) -> Result<Vec<u8>, EndpointError>;

    /// URL on the runtime's own streaming server (CRI Exec, Attach, PortForward).
    async fn exec_url(&self, id: &str, command: &[String], streams: Streams) -> Result<String, EndpointError>;
    async fn attach_url(&self, id: &str, streams: Streams) -> Result<String, EndpointError>;
    async fn port_forward_url(&self, namespace: &str, pod: &str, ports: &[i32]) -> Result<String, EndpointError>;

    /// Whose token this is (TokenReview); `None`: nobody's.
    async fn review_token(&self, token: &str) -> Result<Option<Caller>, EndpointError>;

    /// Whether the caller may do this with the node's subresource (SubjectAccessReview).
    async fn may(&self, caller: &Caller, verb: &str, subresource: &str) -> Result<bool, EndpointError>;

    /// Name of this node.
    fn node_name(&self) -> &str;

    /// `PodList` of the pods of this node.
    async fn pods(&self) -> Value;

    /// `PodList` of what really runs.
    async fn running_pods(&self) -> Value;

    async fn metrics(&self, page: MetricsPage) -> String;

    /// `/stats/summary` (resource use of node and pods).
    async fn summary(&self, only_cpu_and_memory: bool) -> Value;

    /// `KubeletConfiguration` of what is in force.
    async fn configuration(&self) -> Value;

    /// Media type and text of `/statusz` or `/flagz`; the error says what it has to be asked for as.
    fn about(&self, path: &str, accept: &str) -> Result<(&'static str, String), &'static str>;

    /// Why the node cannot do its work; `None`: it can.
    async fn ailment(&self) -> Option<String>;

    /// The system's logs, `/var/log`.
    fn system_logs(&self) -> &Path;
}
