//! What the agent is told about its node and its cluster. Plain values.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Taint;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub struct Config {
    pub node_name: String,
    /// Found from the default route when absent.
    pub node_ip: Option<IpAddr>,
    pub data_dir: PathBuf,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub service_cidrs: Vec<IpNet>,
    pub cluster_cidrs: Vec<IpNet>,
    /// The node's own pod ranges when known beforehand; else those of `Node.spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    pub containerd_binary: PathBuf,
    pub ctr_binary: PathBuf,
    /// Empty: containerd's own default.
    pub runc_binary: Option<PathBuf>,
    /// `skiff-cni`, copied to `<data-dir>/cni/bin`. Absent: pods must use the host's network.
    pub cni_binary: Option<PathBuf>,
    pub images_dir: PathBuf,
    pub pause_image: String,
    pub images: crate::image::Settings,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub kubelet_port: u16,
    pub cgroup_root: String,
    /// Kubernetes' tools expect `/var/log/pods`.
    pub pod_logs_dir: PathBuf,
    /// Links to the logs in there, by container: `/var/log/containers`.
    pub container_logs_dir: PathBuf,
    /// A container's log is rotated from this size on.
    pub log_bytes_max: u64,
    /// Logs kept of one container, the present one included; at least two.
    pub log_files_max: u32,
    pub pods_max: u32,
    /// Processes and threads of one pod; none: as many as the node bears.
    pub pod_pids_max: Option<i64>,
    /// When pods are evicted.
    pub eviction: crate::eviction::Settings,
    /// How long pods may take to end when the machine goes down.
    pub shutdown_grace: crate::leaving::plan::Grace,
    /// Resources that pods may not have: for the system, for the node's own processes.
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    /// Names and patterns of sysctls that pods may set although they are not safe.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Where plugins of the node (drivers of devices) look for kubelet, whom they are written for.
    pub kubelet_dir: PathBuf,
    /// Manifests of pods that the node runs of itself, as files.
    pub manifests_dir: PathBuf,
    pub mtu: u32,
    /// How pods of two nodes reach each other.
    pub network_backend: skiff_network::Backend,
    /// The host's own resolvers, for pods that ask for them and for names outside the cluster.
    pub resolv_conf: PathBuf,
}

impl Config {
    pub fn new(node_name: &str, data_dir: &Path) -> Self {
        Self {
            node_name: node_name.to_owned(),
            node_ip: None,
            data_dir: data_dir.to_owned(),
            cluster_dns: IpAddr::V4(Ipv4Addr::new(10, 43, 0, 10)),
            cluster_domain: "cluster.local".to_owned(),
            service_cidrs: Vec::new(),
            cluster_cidrs: Vec::new(),
            pod_cidrs: Vec::new(),
            containerd_binary: PathBuf::from("containerd"),
            ctr_binary: PathBuf::from("ctr"),
            runc_binary: None,
            cni_binary: None,
            images_dir: data_dir.join("images"),
            pause_image: concat!("skiff.local/pause:", env!("CARGO_PKG_VERSION")).to_owned(),
            images: crate::image::Settings::default(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            kubelet_port: 10250,
            cgroup_root: "kubepods".to_owned(),
            pod_logs_dir: PathBuf::from("/var/log/pods"),
            container_logs_dir: PathBuf::from("/var/log/containers"),
            log_bytes_max: 10 << 20,
            log_files_max: 5,
            pods_max: 110,
            pod_pids_max: None,
            eviction: crate::eviction::Settings::default(),
            shutdown_grace: crate::leaving::plan::Grace::default(),
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            allowed_unsafe_sysctls: Vec::new(),
            kubelet_dir: PathBuf::from("/var/lib/kubelet"),
            manifests_dir: data_dir.join("manifests"),
            mtu: 0,
            network_backend: skiff_network::Backend::default(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }

    pub fn pods_dir(&self) -> PathBuf {
        self.data_dir.join("pods")
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }
}

/// How the node proves itself on its own endpoint, and whom it believes.
#[derive(Clone)]
pub struct NodeCredentials {
    pub serving_certificate_pem: String,
    pub serving_key_pem: String,
    pub cluster_ca_pem: String,
}

impl std::fmt::Debug for NodeCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeCredentials").finish_non_exhaustive()
    }
}
