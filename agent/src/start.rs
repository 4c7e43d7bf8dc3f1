//! Puts the agent together, everything that can at once.

use crate::cache::Cache;
use crate::config::{Config, NodeCredentials};
use crate::error::Error;
use crate::node::status::Machine;
use crate::pod::node::Shared;
use crate::pod::supervisor;
use crate::recorder::Recorder;
use crate::runtime::config::Layout;
use crate::runtime::{Runtime, events, images, supervise};
use crate::{endpoint, node, reset};
use ipnet::IpNet;
use skiff_network::ClusterView;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Exit events that wait for the supervisor; more than a node has containers.
const EVENTS_MAX: usize = 4_096;

/// Runs the node until shutdown. Containers keep running afterwards.
pub async fn run(
    config: Config,
    client: kube::Client,
    credentials: NodeCredentials,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut config = config;
    for dir in [&config.data_dir, &config.pods_dir(), &config.pod_logs_dir] {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    }
    let layout = Layout::new(&config.data_dir);
    // The slowest comes first.
    supervise::ensure_started(&config, &layout)?;
    let node_ip = match config.node_ip {
        Some(ip) => ip,
        None => node::detect_address()?,
    };
    config.node_ip = Some(node_ip);
    reset::leave_trace(&config)?;
    if let Some(plugin) = &config.cni_binary {
        install_plugin(plugin, &layout)?;
    }
    let (cache, changes) = Cache::open(
        client.clone(),
        &config.node_name,
        &config.data_dir.join("copy"),
        shutdown.clone(),
    )?;
    let machine = Machine::read(&config);
    let runtime = Runtime::connect(&layout.socket)?;
    let (images_done, images_ready) = watch::channel(false);
    let shared = Arc::new(Shared {
        recorder: Recorder::start(client.clone(), config.node_name.clone()),
        client: client.clone(),
        runtime: runtime.clone(),
        cache: cache.clone(),
        host_ips: vec![node_ip.to_string()],
        cpu_milli: i64::try_from(machine.cpus).unwrap_or(1) * 1_000,
        memory_bytes: machine.memory_bytes,
        resolv_conf: std::fs::read_to_string(&config.resolv_conf).unwrap_or_default(),
        images_ready,
        config: config.clone(),
    });
    let (ready, not_ready) = watch::channel(Some("container runtime is down".to_owned()));

    let registered = {
        let (client, config, shutdown, cache) = (client.clone(), config.clone(), shutdown.clone(), cache.clone());
        tokio::spawn(async move {
            node::register(&client, &config, &shutdown).await;
            cache.follow();
        })
    };
    supervise::wait_until_served(&layout).await?;
    tokio::spawn({
        let (config, layout) = (config.clone(), layout.clone());
        async move {
            for problem in
                images::import_all(&config.ctr_binary, &layout.socket, &layout.root, &config.images_dir).await
            {
                tracing::warn!(error = problem.chain(), "an image was not imported");
            }
            images_done.send_replace(true);
        }
    });
    let (sender, exits) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(events::follow(runtime.clone(), sender, shutdown.clone()));
    tokio::spawn(serve(shared.clone(), credentials, shutdown.clone()));
    let network = tokio::spawn(network(config.clone(), layout.clone(), cache.view(), shutdown.clone()));
    tokio::spawn({
        let (config, runtime, shutdown) = (config.clone(), runtime.clone(), shutdown.clone());
        async move {
            // A status for a node that is not there yet would only be refused.
            let _ = registered.await;
            tokio::spawn(node::renew_lease(
                client.clone(),
                config.node_name.clone(),
                shutdown.clone(),
            ));
            let addresses = vec![node_ip.to_string()];
            node::report(client, config, machine, addresses, runtime, not_ready, shutdown).await;
        }
    });
    tokio::spawn(watch_health(shared.clone(), layout, ready, shutdown.clone()));
    shared
        .recorder
        .node(&config.node_name, false, "Starting", "Starting kubelet.".into());
    let outcome = supervisor::run(shared, changes, exits, shutdown.clone()).await;
    shutdown.cancel();
    if let Ok(Some(network)) = network.await {
        network.stopped().await;
    }
    outcome
}

async fn serve(shared: Arc<Shared>, credentials: NodeCredentials, shutdown: CancellationToken) {
    if let Err(error) = endpoint::serve(shared, credentials, shutdown).await {
        tracing::error!(
            error = error.chain(),
            "the node's endpoint is down: no logs, exec or port-forward"
        );
    }
}

/// The plugin is copied because a pod's teardown calls it when the original may be gone.
fn install_plugin(plugin: &Path, layout: &Layout) -> Result<(), Error> {
    for name in ["skiff-cni", "loopback"] {
        let target = layout.cni_bin.join(name);
        let fresh = layout.cni_bin.join(format!(".{name}.new"));
        std::fs::copy(plugin, &fresh).map_err(Error::io("copy the CNI plugin from", plugin))?;
        // A rename replaces a plugin that is just running; a write would be refused.
        std::fs::rename(&fresh, &target).map_err(Error::io("install", target))?;
    }
    Ok(())
}

/// Waits for the node's pod range, then starts the dataplane and tells containerd.
async fn network(
    config: Config,
    layout: Layout,
    mut view: watch::Receiver<Arc<ClusterView>>,
    shutdown: CancellationToken,
) -> Option<skiff_network::Network> {
    config.cni_binary.as_ref()?;
    let ranges = loop {
        let ranges = if config.pod_cidrs.is_empty() {
            pod_cidrs(&view.borrow_and_update(), &config.node_name)
        } else {
            config.pod_cidrs.clone()
        };
        if !ranges.is_empty() {
            break ranges;
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            changed = view.changed() => changed.ok()?,
        }
    };
    let settings = skiff_network::NetworkConfig {
        node_name: config.node_name.clone(),
        node_ip: config.node_ip?,
        pod_cidr: *ranges.first()?,
        cluster_cidrs: config.cluster_cidrs.clone(),
        service_cidrs: config.service_cidrs.clone(),
        cluster_dns: config.cluster_dns,
        cluster_domain: config.cluster_domain.clone(),
        backend: config.network_backend,
        upstream_resolv_conf: config.resolv_conf.clone(),
        data_dir: config.data_dir.join("network"),
        mtu: (config.mtu != 0).then_some(config.mtu),
    };
    let started = loop {
        match skiff_network::start(settings.clone(), view.clone(), shutdown.clone()).await {
            Ok(network) => break network,
            Err(error) => {
                tracing::error!(%error, cause = ?std::error::Error::source(&error), "the dataplane did not start; trying again")
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    };
    let text = skiff_network::cni_config(&ranges, &config.data_dir.join("cni"), started.pod_mtu());
    let path = layout.cni_conf.join("10-skiff.conflist");
    let same = std::fs::read_to_string(&path).is_ok_and(|old| old == text);
    if !same && let Err(error) = crate::cache::disk::write_atomically(&path, text.as_bytes(), 0o644) {
        tracing::error!(%error, "cannot write the CNI configuration");
    }
    Some(started)
}

fn pod_cidrs(view: &ClusterView, node: &str) -> Vec<IpNet> {
    let Some(spec) = view.nodes.get(node).and_then(|n| n.spec.as_ref()) else {
        return Vec::new();
    };
    let many = spec.pod_cidrs.clone().unwrap_or_default();
    let all = if many.is_empty() {
        spec.pod_cidr.clone().into_iter().collect()
    } else {
        many
    };
    all.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Follows containerd: quickly until the node is ready, slowly then; starts it again when it died.
async fn watch_health(
    shared: Arc<Shared>,
    layout: Layout,
    ready: watch::Sender<Option<String>>,
    shutdown: CancellationToken,
) {
    const UNREADY: Duration = Duration::from_millis(10);
    const READY: Duration = Duration::from_secs(20);
    let mut pause = UNREADY;
    loop {
        let why = match shared.runtime.status().await {
            Err(error) => {
                if supervise::running_pid(&layout).is_none()
                    && let Err(error) = supervise::ensure_started(&shared.config, &layout)
                {
                    tracing::error!(error = error.chain(), "containerd does not start");
                }
                Some(format!("container runtime is down: {}", error.chain()))
            }
            Ok(status) => {
                let off = status
                    .conditions
                    .iter()
                    .find(|c| !c.status && (c.r#type != "NetworkReady" || shared.config.cni_binary.is_some()));
                off.map(|c| match c.r#type.as_str() {
                    "NetworkReady" => format!(
                        "container runtime network not ready: NetworkReady=false reason:{} message:{}",
                        c.reason, c.message
                    ),
                    other => format!("container runtime status check may not have completed yet: {other}"),
                })
            }
        };
        pause = match why {
            None => READY,
            Some(_) if pause == READY => UNREADY,
            Some(_) => (pause * 2).min(Duration::from_secs(1)),
        };
        if ready.send_if_modified(|now| std::mem::replace(now, why.clone()) != why) {
            tracing::info!(not_ready = ?why, "node readiness changed");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
