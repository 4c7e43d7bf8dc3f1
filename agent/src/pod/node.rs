//! What all pod workers of the node share.

use super::environment::Facts;
use super::resources::Host;
use super::resources::kernel::cpu_shares;
use crate::cache::Cache;
use crate::config::Config;
use crate::eviction::Pressure;
use crate::recorder::Recorder;
use crate::resize::Ledger;
use crate::runtime::Runtime;
use kube::Client;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

pub struct Shared {
    pub config: Config,
    pub client: Client,
    pub runtime: Runtime,
    pub cache: Arc<Cache>,
    pub recorder: Recorder,
    pub host_ips: Vec<String>,
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub host: Host,
    pub ledger: Ledger,
    /// The CPU shares that the Burstable pods' cgroup was last given.
    pub burstable_shares: AtomicI64,
    /// Ids of containers whose end was just seen, for who follows their logs.
    pub ends: broadcast::Sender<Arc<str>>,
    /// The machine goes down.
    pub leaving: CancellationToken,
    /// What the node is short of.
    pub pressures: watch::Sender<BTreeSet<Pressure>>,
    pub storage_bytes: i64,
    pub resolv_conf: String,
    /// The kernel enforces AppArmor's profiles.
    pub app_armor: bool,
    pub images: crate::image::Images,
    pub volumes: crate::volume::Volumes,
    pub devices: Arc<crate::devices::Devices>,
    /// Whose the node's IDs are.
    pub users: crate::users::Users,
    /// True once the images folder has been imported.
    pub images_ready: watch::Receiver<bool>,
}

impl Shared {
    /// Gives the cgroups of the classes what their pods ask for now.
    pub fn share_by_class(&self) {
        let shares = cpu_shares(self.ledger.burstable_cpu_milli());
        if self.burstable_shares.swap(shares, Ordering::Relaxed) != shares {
            super::cgroup::set_classes(&self.config.cgroup_root, shares);
        }
    }

    pub fn facts(&self, pod_ips: Vec<String>) -> Facts {
        let allocatable = |name: &str, all: i64| self.ledger.allocatable(name).unwrap_or(all);
        Facts {
            node_name: self.config.node_name.clone(),
            host_ips: self.host_ips.clone(),
            pod_ips,
            cpu_allocatable_milli: allocatable("cpu", self.cpu_milli),
            memory_allocatable_bytes: allocatable("memory", self.memory_bytes),
            storage_allocatable_bytes: allocatable("ephemeral-storage", self.storage_bytes),
            ..Facts::default()
        }
    }
}
