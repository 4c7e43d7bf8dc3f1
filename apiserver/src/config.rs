//! What the API server is told at start. Plain values; the binary reads flags
//! and files.

use bytes::Bytes;
use ipnet::IpNet;
use serde_json::Value;
use skiff_access::pki::Identity;
use skiff_api::ApiError;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::watch;

/// Pages below [`OWN_PAGES`], which the program serves behind the same door: whoever
/// asks is known, and may use this method on this path as a non-resource URL.
#[async_trait::async_trait]
pub trait OwnPages: Send + Sync {
    /// What is said; `None`: there is no such page.
    async fn answer(&self, method: &http::Method, path: &str, body: &Bytes) -> Option<Result<Value, ApiError>>;
}

/// Where the program's own pages begin.
pub const OWN_PAGES: &str = "/skiff/";

#[derive(Clone)]
pub struct Config {
    /// Where it listens; told to clients in discovery answers.
    pub listen: SocketAddr,
    /// Address and port that pods and nodes reach this server at (endpoint of
    /// the `kubernetes` Service).
    pub advertise_address: IpAddr,
    pub advertise_port: u16,
    /// One network, or one per family; the first address is the `kubernetes`
    /// Service, the tenth `kube-dns`.
    pub service_cidrs: Vec<IpNet>,
    pub cluster_domain: String,
    /// First and last node port.
    pub node_port_range: (u16, u16),
    /// TLS towards the agents' streaming endpoints: the kubelet client
    /// certificate, and the CA that signs theirs. `None`: such requests are 503.
    pub kubelet_client: Option<Arc<rustls::ClientConfig>>,
    /// PEM of the CA of client certificates, published to extension servers.
    pub client_ca_pem: String,
    /// How this server proves to extension API servers that it may name users.
    pub front_proxy_client: Option<Arc<Identity>>,
    /// Addresses of all servers that answer, the endpoints of the `kubernetes` Service; `None`
    /// in it: another server sees to them. Without it this server is the only one.
    pub servers: Option<watch::Receiver<Option<Vec<IpAddr>>>>,
    pub own_pages: Option<Arc<dyn OwnPages>>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("advertise_address", &self.advertise_address)
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        Self {
            listen: SocketAddr::new(loopback, 6443),
            // Endpoints may not be on the loopback: this one is for documentation.
            advertise_address: IpAddr::from([192, 0, 2, 1]),
            advertise_port: 6443,
            service_cidrs: vec![IpNet::new(IpAddr::from([10, 96, 0, 0]), 16).expect("16 is a prefix length of IPv4")],
            cluster_domain: "cluster.local".into(),
            node_port_range: (30000, 32767),
            kubelet_client: None,
            client_ca_pem: String::new(),
            front_proxy_client: None,
            servers: None,
            own_pages: None,
        }
    }
}
