//! Puts the agent together, everything that can at once.

use crate::cache::Cache;
use crate::config::{Config, NodeCredentials};
use crate::error::Error;
use crate::image::{self, Images};
use crate::node::status::Machine;
use crate::pod::node::Shared;
use crate::pod::{cgroup, supervisor};
use crate::recorder::Recorder;
use crate::runtime::config::Layout;
use crate::runtime::{Runtime, events, supervise};
use crate::users::{self, Users};
use crate::{devices, endpoint, eviction, leaving, manifest, node, plugins, reset};
use ipnet::IpNet;
use skiff_network::ClusterView;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Exit events that wait for the supervisor; more than a node has containers.
const EVENTS_MAX: usize = 4_096;
/// Ends of containers that who follows logs has not taken note of; beyond them it asks.
const ENDS_MAX: usize = 256;
/// Pods that the node ends at once.
const ENDINGS_MAX: usize = 64;

/// Runs the node until shutdown. Containers keep running afterwards, but for those that end
/// because the machine goes down (`leaving`), after which the agent asks for the shutdown.
pub async fn run(
    config: Config,
    client: kube::Client,
    credentials: NodeCredentials,
    (shutdown, leaving): (CancellationToken, CancellationToken),
) -> Result<(), Error> {
    let mut config = config;
    for dir in [
        &config.data_dir,
        &config.pod_logs_dir,
        &config.container_logs_dir,
        &config.manifests_dir,
        &config.kubelet_dir.join(plugins::REGISTRY),
        &config.kubelet_dir.join(plugins::PLUGINS),
    ] {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    }
    let layout = Layout::new(&config.data_dir);
    users::close(&config.data_dir)?;
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
    cgroup::create(
        &format!("/{}", config.cgroup_root),
        &node::allocatable::of_all_pods(&config, &machine),
    );
    let runtime = Runtime::connect(&layout.socket)?;
    let (images_done, images_ready) = watch::channel(false);
    let images = Images::open(config.images.clone(), layout.certs.clone(), &layout.root)?;
    let registries = images.load();
    let shared = Arc::new(Shared {
        recorder: Recorder::start(client.clone(), config.node_name.clone()),
        client: client.clone(),
        runtime: runtime.clone(),
        cache: cache.clone(),
        host_ips: vec![node_ip.to_string()],
        cpu_milli: i64::try_from(machine.cpus).unwrap_or(1) * 1_000,
        memory_bytes: machine.memory_bytes,
        host: cgroup::host(machine.memory_bytes, &config.cgroup_root),
        ledger: crate::resize::Ledger::default(),
        burstable_shares: std::sync::atomic::AtomicI64::new(0),
        leaving,
        ends: broadcast::Sender::new(ENDS_MAX),
        pressures: watch::Sender::default(),
        storage_bytes: i64::try_from(machine.disk_bytes).unwrap_or(i64::MAX),
        resolv_conf: std::fs::read_to_string(&config.resolv_conf).unwrap_or_default(),
        app_armor: std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with(b"Y")),
        images_ready,
        images,
        volumes: crate::volume::Volumes::new(client.clone()),
        devices: Arc::new(devices::Devices::open(
            client.clone(),
            &config.node_name,
            &config.data_dir,
        )),
        users: Users::open(&config),
        config: config.clone(),
    });
    shared
        .ledger
        .set_allocatable(node::allocatable::allocatable(&config, &machine, None));
    let (ready, health) = watch::channel(node::Health::Unknown);
    let (broken, network_up) = (Arc::new(Notify::new()), watch::Sender::new(config.cni_binary.is_none()));

    let registered = {
        let (client, config, shutdown, cache) = (client.clone(), config.clone(), shutdown.clone(), cache.clone());
        tokio::spawn(async move {
            node::register(&client, &config, &shutdown).await;
            cache.follow();
        })
    };
    tokio::select! {
        served = supervise::wait_until_served(&layout) => served?,
        () = shutdown.cancelled() => return Ok(()),
    }
    tokio::spawn(image::arrivals::follow(
        config.clone(),
        layout.clone(),
        images_done,
        shutdown.clone(),
    ));
    let (sender, exits) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(events::follow(
        runtime.clone(),
        sender,
        broken.clone(),
        shutdown.clone(),
    ));
    tokio::spawn(plugins::follow(
        config.kubelet_dir.join(plugins::REGISTRY),
        vec![devices::follow(&shared.devices)],
        shutdown.clone(),
    ));
    tokio::spawn(image::watch::follow(shared.clone(), registries, shutdown.clone()));
    tokio::spawn(image::gc::run(shared.clone(), shutdown.clone()));
    manifest::load(&shared, &jiff::Timestamp::now().to_string());
    tokio::spawn(manifest::follow(shared.clone(), shutdown.clone()));
    tokio::spawn(serve(shared.clone(), credentials, shutdown.clone()));
    tokio::spawn(crate::rotate::run(shared.clone(), shutdown.clone()));
    let network = tokio::spawn(network(
        config.clone(),
        layout.clone(),
        cache.view(),
        network_up.clone(),
        shutdown.clone(),
    ));
    tokio::spawn({
        let (config, shared, shutdown) = (config.clone(), shared.clone(), shutdown.clone());
        async move {
            // A status for a node that is not there yet would only be refused.
            let _ = registered.await;
            tokio::spawn(node::renew_lease(
                client.clone(),
                config.node_name.clone(),
                shutdown.clone(),
            ));
            node::report(node::Sources { shared, health }, machine, shutdown).await;
        }
    });
    tokio::spawn(watch_health(
        shared.clone(),
        layout,
        (broken, network_up.subscribe()),
        ready,
        shutdown.clone(),
    ));
    shared
        .recorder
        .node(&config.node_name, false, "Starting", "Starting kubelet.".into());
    let (endings, ended) = mpsc::channel(ENDINGS_MAX);
    tokio::spawn(eviction::run(shared.clone(), endings.clone(), shutdown.clone()));
    tokio::spawn(leaving::run(shared.clone(), endings, shutdown.clone()));
    let outcome = supervisor::run(shared, changes, exits, ended, shutdown.clone()).await;
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
    up: watch::Sender<bool>,
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
    up.send_replace(true);
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
    (broken, mut network_up): (Arc<Notify>, watch::Receiver<bool>),
    ready: watch::Sender<node::Health>,
    shutdown: CancellationToken,
) {
    const UNREADY: Duration = Duration::from_millis(10);
    const READY: Duration = Duration::from_secs(60);
    /// A restart of containerd or of the agent takes less and makes no node unready.
    const GRACE: Duration = Duration::from_secs(10);
    let mut pause = UNREADY;
    let mut unready_since = Some(tokio::time::Instant::now());
    loop {
        let network = *network_up.borrow_and_update();
        let why = problem(&shared, &layout, network).await;
        pause = match why {
            None => READY,
            Some(_) if pause == READY => UNREADY,
            Some(_) => (pause * 2).min(Duration::from_secs(1)),
        };
        let verdict = match why {
            None => {
                unready_since = None;
                Some(node::Health::Ready)
            }
            Some(why) => {
                let since = *unready_since.get_or_insert_with(tokio::time::Instant::now);
                (since.elapsed() >= GRACE).then_some(node::Health::NotReady(why))
            }
        };
        if let Some(verdict) = verdict
            && ready.send_if_modified(|now| std::mem::replace(now, verdict.clone()) != verdict)
        {
            tracing::info!(?verdict, "node readiness changed");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = broken.notified() => pause = UNREADY,
            Ok(()) = network_up.changed() => {}
        }
    }
}

/// Why no pod can run here now. Starts containerd when it is gone.
async fn problem(shared: &Shared, layout: &Layout, network_up: bool) -> Option<String> {
    let status = match shared.runtime.status().await {
        Ok(status) => status,
        Err(error) => {
            if supervise::running_pid(layout).is_none()
                && let Err(error) = supervise::ensure_started(&shared.config, layout)
            {
                tracing::error!(error = error.chain(), "containerd does not start");
            }
            return Some(format!("container runtime is down: {}", error.chain()));
        }
    };
    let off = status
        .conditions
        .iter()
        .find(|c| !c.status && (c.r#type != "NetworkReady" || shared.config.cni_binary.is_some()));
    match off {
        Some(c) if c.r#type == "NetworkReady" => Some(format!(
            "container runtime network not ready: NetworkReady=false reason:{} message:{}",
            c.reason, c.message
        )),
        Some(c) => Some(format!(
            "container runtime status check may not have completed yet: {}",
            c.r#type
        )),
        None if !network_up => Some("the node's network is not up yet".into()),
        None => None,
    }
}
