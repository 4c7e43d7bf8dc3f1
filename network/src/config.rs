//! What the dataplane is configured with, and the CNI configuration that follows from it. Pure.

use ipnet::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;

/// Between the underlay's MTU and the pods': outer IPv4, UDP and VXLAN headers and the inner Ethernet header.
pub const VXLAN_OVERHEAD: u32 = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Plain routes to nodes on the same segment, VXLAN to the others.
    #[default]
    Auto,
    Vxlan,
    /// Plain routes only: for nodes that all share a segment, or a network that routes pod ranges.
    Direct,
}

#[derive(Debug, Clone)]
pub struct NetworkConfig {
    pub node_name: String,
    pub node_ip: IpAddr,
    /// This node's own range.
    pub pod_cidr: IpNet,
    pub cluster_cidrs: Vec<IpNet>,
    pub service_cidrs: Vec<IpNet>,
    pub cluster_dns: IpAddr,
    /// Without dots at the ends: `cluster.local`.
    pub cluster_domain: String,
    pub backend: Backend,
    /// The host's resolv.conf, whose name servers answer what the cluster does not know.
    pub upstream_resolv_conf: PathBuf,
    /// Holds what is needed to undo what was changed on the host.
    pub data_dir: PathBuf,
    /// The pods' MTU; by default the underlay's, less VXLAN's overhead unless `Direct`.
    pub mtu: Option<u32>,
}

impl NetworkConfig {
    pub(crate) fn pod_mtu(&self, underlay: u32) -> u32 {
        self.mtu.unwrap_or(match self.backend {
            Backend::Direct => underlay,
            Backend::Auto | Backend::Vxlan => underlay.saturating_sub(VXLAN_OVERHEAD),
        })
    }
}

/// The network list (`10-skiff.conflist`) that makes containerd call `skiff-cni`.
/// `cni_data_dir` is where the plugin keeps its leases.
pub fn cni_config(pod_cidrs: &[IpNet], cni_data_dir: &std::path::Path, mtu: u32) -> String {
    let list = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "skiff",
        "plugins": [{
            "type": "skiff-cni",
            "podCIDRs": pod_cidrs,
            "dataDir": cni_data_dir,
            "mtu": mtu,
        }],
    });
    format!("{list:#}\n")
}
