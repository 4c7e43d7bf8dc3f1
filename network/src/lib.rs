//! The node's network: service proxy, hostPort, routes between nodes, cluster DNS.
//!
//! ```text
//!                    +--> proxy:  model -> ruleset -> diff -> nft
//! watch<ClusterView> +--> routes: plan -> kernel (rtnetlink)
//!                    +--> dns:    zones <- server -> forward (host's resolv.conf)
//! ```
//!
//! It is told what the cluster looks like (`view`) and never asks the API. On
//! shutdown everything stays in place, so that traffic goes on while Skiff is
//! restarted; `teardown` is what removes it. Works in the network namespace of
//! the thread that calls `start`; the runtime's threads must share it.

mod cni;
pub mod config;
pub mod dns;
mod error;
pub mod proxy;
pub mod routes;
mod sysctl;
pub mod view;

pub use cni::install_cni;
pub use config::{Backend, NetworkConfig, cni_config};
pub use error::Error;
pub use view::{ClusterView, Key};

use proxy::Proxy;
use routes::kernel::Kernel;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// After a failure the same is tried again, slower and slower up to this.
const RETRY_MAX: Duration = Duration::from_secs(30);
const RETRY_MIN: Duration = Duration::from_millis(500);
/// What an underlay has when nobody says otherwise.
const MTU_ETHERNET: u32 = 1500;

/// The running dataplane of a node.
#[derive(Debug)]
pub struct Network {
    pod_mtu: u32,
    tasks: Vec<JoinHandle<()>>,
}

impl Network {
    /// What `cni_config` wants.
    pub fn pod_mtu(&self) -> u32 {
        self.pod_mtu
    }

    /// Waits for the tasks to end after the shutdown token was cancelled.
    pub async fn stopped(self) {
        for task in self.tasks {
            // A task that panicked has said so; there is nothing to undo.
            let _ = task.await;
        }
    }
}

/// Returns when rules, routes and DNS are up; then follows the view until shutdown.
pub async fn start(
    config: NetworkConfig,
    view: watch::Receiver<Arc<ClusterView>>,
    shutdown: CancellationToken,
) -> Result<Network, Error> {
    if !config.pod_cidr.addr().is_ipv4() && config.node_ip.is_ipv4() {
        return Err(Error::Config("an IPv6 pod range needs an IPv6 node address".into()));
    }
    std::fs::create_dir_all(&config.data_dir).map_err(|source| Error::File {
        action: "create",
        path: config.data_dir.clone(),
        source,
    })?;
    let config = Arc::new(config);
    let mut view = view;
    let first = view.borrow_and_update().clone();

    let mut proxy = Proxy::new(&config);
    proxy.apply(&first).await?;
    // After the rules: they guard what this opens.
    sysctl::set(
        &config.data_dir,
        config.cluster_cidrs.iter().any(|net| net.addr().is_ipv6()),
    );

    let mut router = Router::open(config.clone()).await?;
    router.apply(&first).await?;
    let pod_mtu = router.pod_mtu;

    let dns = dns::server::start(&config, &first, view.clone(), shutdown.clone()).await?;
    let follower = tokio::spawn(follow(proxy, router, view, shutdown));
    let mut tasks = dns;
    tasks.push(follower);
    Ok(Network { pod_mtu, tasks })
}

/// Removes everything this crate ever put on the host, and what is left of pods'
/// links, so pods must be stopped before; carries on over failures
/// and returns them all. `cluster_dns` and `data_dir` as they were configured.
pub async fn teardown(cluster_dns: IpAddr, data_dir: &Path) -> Result<(), Vec<Error>> {
    let mut errors = Vec::new();
    errors.extend(proxy::teardown().await);
    match Kernel::open() {
        Ok(kernel) => {
            errors.extend(kernel.teardown().await);
            errors.extend(kernel.remove_host_address(cluster_dns).await.err());
        }
        Err(error) => errors.push(error),
    }
    errors.extend(sysctl::restore(data_dir).err());
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

async fn follow(
    mut proxy: Proxy,
    mut router: Router,
    mut view: watch::Receiver<Arc<ClusterView>>,
    shutdown: CancellationToken,
) {
    let mut retry = None;
    loop {
        let again = async {
            match retry {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
            () = again => {}
        }
        let now = view.borrow_and_update().clone();
        let ruled = proxy.apply(&now).await;
        let routed = router.apply(&now).await;
        let failures: Vec<Error> = [ruled.err(), routed.err()].into_iter().flatten().collect();
        for error in &failures {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "dataplane is behind the cluster"
            );
        }
        retry = (!failures.is_empty()).then(|| retry.map_or(RETRY_MIN, |d: Duration| (d * 2).min(RETRY_MAX)));
    }
}

/// Keeps the routes as the nodes want them.
struct Router {
    config: Arc<NetworkConfig>,
    kernel: Kernel,
    segments: Vec<ipnet::IpNet>,
    underlay: u32,
    pod_mtu: u32,
    applied: Option<routes::Plan>,
}

impl Router {
    async fn open(config: Arc<NetworkConfig>) -> Result<Router, Error> {
        let kernel = Kernel::open()?;
        let addresses = kernel.addresses().await?;
        let own = addresses.iter().find(|address| address.net.addr() == config.node_ip);
        if own.is_none() {
            tracing::warn!(node_ip = %config.node_ip, "the node's address is on none of its links");
        }
        let underlay = own.map_or(0, |own| own.link);
        // The loopback link's 65536 says nothing about the way to other nodes.
        let mtu = if underlay > routes::kernel::LO {
            kernel.mtu(underlay).await
        } else {
            None
        };
        let pod_mtu = config.pod_mtu(mtu.unwrap_or(MTU_ETHERNET));
        for range in &config.service_cidrs {
            let source = own
                .map(|own| own.net.addr())
                .filter(|ip| ip.is_ipv4() == range.addr().is_ipv4());
            kernel.add_service_route(range.trunc(), source).await?;
        }
        kernel.add_host_address(config.cluster_dns).await?;
        let segments = own.map(|own| own.net).into_iter().collect();
        Ok(Router {
            config,
            kernel,
            segments,
            underlay,
            pod_mtu,
            applied: None,
        })
    }

    async fn apply(&mut self, view: &ClusterView) -> Result<(), Error> {
        let plan = routes::plan(&self.config, &view.nodes, &self.segments);
        if self.applied.as_ref() == Some(&plan) {
            return Ok(());
        }
        for (node, reason) in &plan.unreachable {
            tracing::warn!(node, reason, "pods of a node are out of reach");
        }
        self.applied = None;
        let services: Vec<ipnet::IpNet> = self.config.service_cidrs.iter().map(|net| net.trunc()).collect();
        self.kernel.apply(&plan, &services, self.underlay, self.pod_mtu).await?;
        self.applied = Some(plan);
        Ok(())
    }
}
