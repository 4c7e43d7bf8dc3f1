//! `skiff server`: the store, the API server over it, and in the same process
//! scheduler, controllers and a node, each under its own identity.
//!
//! ```text
//! PKI, store --> API server --> TLS on :6443
//!   |                '-- in-process transport --> scheduler, controllers, agent
//!   '-- servers: the other servers, if there are any
//! ```

use crate::cli::ServerArgs;
use crate::files::{self, PidFile};
use crate::parts::{self, Tasks};
use crate::servers::{self, Joining, Pages, Peers, Record, Roster};
use crate::{check, node, paths, signals};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use skiff_access::pki::{self, Pki, PkiOptions};
use skiff_access::{Access, AccessConfig};
use skiff_apiserver::ApiServer;
use skiff_store::{Encryption, RaftStore, Store, StoreConfig};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Parts that have not stopped by then are left behind.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How long a port may stay taken by a server that was killed.
const PORT_MAX: Duration = Duration::from_secs(2);

pub async fn run(args: ServerArgs) -> Result<()> {
    let begun = std::time::Instant::now();
    let data_dir = &args.common.data_dir;
    let obstacles = check::obstacles(&check::Plan {
        data_dir: data_dir.clone(),
        containerd: Some(args.node.containerd.clone()),
        ports: Vec::new(),
        node: !args.disable_agent,
        thorough: false,
    });
    if !obstacles.is_empty() {
        bail!("{} (`skiff check` looks at everything)", obstacles.join("; "));
    }
    let settings = crate::scheduler::settings(args.scheduler_config.as_deref())?;
    files::private_directory(data_dir)?;
    crate::snapshot::refuse_half_restored(data_dir)?;
    args.snapshots.schedule()?;
    let listener = listen_patiently(args.bind_address, args.https_listen_port).await?;
    let etcd = crate::etcd::listen(&args)?;
    let shutdown = CancellationToken::new();
    let leaving = if args.disable_agent {
        shutdown.clone()
    } else {
        CancellationToken::new()
    };
    signals::watch(shutdown.clone(), leaving.clone())?;

    let node_ip = args.node.node_ip.unwrap_or_else(crate::address::node_address);
    let advertise = args.advertise_address.unwrap_or(node_ip);
    let joining = servers::begin(&args).await?;
    let (pki, store) = open(&args, node_ip, advertise).await?;
    let _pid = PidFile::write(&data_dir.join(paths::PID))?;
    let closed = CancellationToken::new();
    let running = Running {
        begun,
        args: &args,
        pki: &pki,
        store: &store,
        node_ip,
        advertise,
        shutdown: shutdown.clone(),
        leaving,
    };
    let result = async {
        let group = group(&args, store.clone(), advertise, &closed)?;
        if enter(&running, joining, &group).await? {
            running.run(settings, group, listener, etcd).await?;
        }
        Ok(())
    };
    let result = Box::pin(result).await;
    shutdown.cancel();
    store.shutdown().await;
    closed.cancel();
    result
}

/// Among several servers: becomes one of them, and waits until they can answer. `false`:
/// the end came first.
async fn enter(running: &Running<'_>, joining: Option<Joining>, group: &Pages) -> Result<bool> {
    let store = running.store;
    if joining.is_some() || store.members().len() > 1 {
        group.peers.listen(store).await?;
    }
    if let Some(joining) = joining {
        let address = peer_address(running.args, running.advertise);
        joining.enter(address, group.record.clone()).await?;
    }
    tokio::select! {
        up = servers::wait_for_majority(store, &running.shutdown) => up,
        () = running.leaving.cancelled() => Ok(false),
    }
}

/// What all parts of a server that is up need.
struct Running<'s> {
    begun: std::time::Instant,
    args: &'s ServerArgs,
    pki: &'s Pki,
    store: &'s Arc<RaftStore>,
    node_ip: IpAddr,
    advertise: IpAddr,
    shutdown: CancellationToken,
    /// The machine goes down; the agent ends its pods, then all.
    leaving: CancellationToken,
}

impl Running<'_> {
    /// Starts the parts; ends when they do.
    async fn run(
        self,
        settings: skiff_scheduler::Settings,
        group: Pages,
        listener: TcpListener,
        etcd: Option<crate::etcd::Face>,
    ) -> Result<()> {
        let Running {
            args,
            pki,
            store,
            shutdown,
            leaving,
            ..
        } = self;
        let (sender, answering) = watch::channel(first_endpoints(store, self.advertise));
        let roster = Roster {
            store: store.clone(),
            record: group.record.clone(),
            answering: sender,
        };
        tokio::spawn(roster.run(shutdown.clone()));
        let leads = servers::leads(store, &shutdown);
        let server = api_server(args, pki, store.clone(), self.advertise, answering, group).await?;
        let tls = Arc::new(pki::server_config(&pki.server, &pki.client_authorities_pem())?);

        let mut tasks = Tasks::new();
        let watched = servers::watch_over(store.clone(), shutdown.clone());
        tasks.spawn(async move { ("store", watched.await) });
        let serving = server.clone().serve(listener, tls, shutdown.clone());
        tasks.spawn(async move { ("API server", serving.await.map_err(Into::into)) });
        if let Some(face) = etcd {
            let serving = face.serve(store.clone(), cluster_number(pki)?, shutdown.clone());
            tasks.spawn(async move { ("etcd API", serving.await) });
        }
        start_snapshots(args, store, &shutdown, &mut tasks);
        let write_kubeconfig = kubeconfig_writer(args, pki);
        write_kubeconfig(&[])?;
        tokio::spawn(servers::follow_others(
            store.clone(),
            write_kubeconfig,
            shutdown.clone(),
        ));
        tracing::info!(
            port = args.https_listen_port,
            after_ms = self.begun.elapsed().as_millis(),
            "the API is served"
        );
        if !args.disable_agent {
            parts::start_agent(args, pki, &server, self.node_ip, (&shutdown, &leaving), &mut tasks)?;
        }
        parts::start_controllers(args, pki, &server, leads.clone(), &shutdown, &mut tasks)?;
        parts::start_scheduler(settings, &server, leads, &shutdown, &mut tasks);
        supervise(tasks, shutdown).await
    }
}

/// Until a part ends; when one fails, all stop, and the failure is the result.
async fn supervise(mut tasks: Tasks, shutdown: CancellationToken) -> Result<()> {
    let mut failure = None;
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(STOP_MAX).await;
    };
    tokio::pin!(deadline);
    loop {
        let ended = tokio::select! {
            ended = tasks.join_next() => ended,
            () = &mut deadline => {
                tracing::warn!("not everything stopped in time");
                break;
            }
        };
        match ended {
            None => break,
            Some(Ok((_, Ok(())))) if shutdown.is_cancelled() => {}
            Some(Ok((part, Ok(())))) => {
                failure.get_or_insert_with(|| anyhow::anyhow!("the {part} ended unexpectedly"));
                shutdown.cancel();
            }
            Some(Ok((part, Err(error)))) => {
                let error = error.context(format!("the {part} failed"));
                tracing::error!("{error:#}");
                failure.get_or_insert(error);
                shutdown.cancel();
            }
            Some(Err(error)) => {
                failure.get_or_insert_with(|| anyhow::anyhow!("a part panicked: {error}"));
                shutdown.cancel();
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// One that was killed a moment ago may still be on its way out, with the port.
async fn listen_patiently(address: IpAddr, port: u16) -> Result<TcpListener> {
    let deadline = tokio::time::Instant::now() + PORT_MAX;
    loop {
        match listen(address, port) {
            Err(error) if in_use(&error) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            listened => return listened,
        }
    }
}

fn in_use(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::AddrInUse)
}

/// Both families where the kernel has IPv6.
fn listen(address: IpAddr, port: u16) -> Result<TcpListener> {
    let bind = |address: IpAddr| -> std::io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind(SocketAddr::new(address, port))?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let result = bind(address).or_else(|error| match address {
        IpAddr::V6(any) if any.is_unspecified() && error.kind() != std::io::ErrorKind::AddrInUse => {
            bind(IpAddr::from([0, 0, 0, 0]))
        }
        _ => Err(error),
    });
    result.with_context(|| {
        format!("cannot listen on port {port}: stop what uses it (ss -ltnp 'sport = :{port}'), or choose another with --https-listen-port")
    })
}

/// Certificates and store, at the same time: on a first start both wait for the disk.
async fn open(args: &ServerArgs, node_ip: IpAddr, advertise: IpAddr) -> Result<(Pki, Arc<RaftStore>)> {
    let options = pki_options(args, node_ip, advertise)?;
    let pki = tokio::task::spawn_blocking(move || Pki::open(&options, jiff::Timestamp::now()));
    let config = store_config(args, advertise)?;
    if args.force_single {
        force_single(&config).await?;
    }
    let store = RaftStore::open(config);
    let (pki, store) = tokio::join!(pki, store);
    let store = store.context("cannot open the store")?;
    match pki.context("cannot open the cluster's certificates")? {
        Ok(pki) => Ok((pki, store)),
        Err(error) => {
            store.shutdown().await;
            Err(error).context("cannot open the cluster's certificates")
        }
    }
}

/// Secrets are encrypted on the disk; the key lies with the other keys.
fn store_config(args: &ServerArgs, advertise: IpAddr) -> Result<StoreConfig> {
    let data_dir = &args.common.data_dir;
    files::private_directory(&data_dir.join(paths::SERVER_TLS))?;
    let identity = servers::identity(args)?;
    let mut config = StoreConfig::new(data_dir.join(paths::SERVER_STORE));
    config.quota_bytes = quota(&args.store_quota)?;
    config.node_id = identity.id;
    config.address = peer_address(args, advertise).to_string();
    config.join = !identity.joined;
    config.transport = servers::transport(data_dir);
    config.encryption = Some(Encryption {
        key: files::key(&data_dir.join(paths::STORE_KEY))?,
        prefixes: vec![Bytes::from_static(b"/registry/core/secrets/")],
    });
    Ok(config)
}

fn quota(text: &str) -> Result<u64> {
    let value = text.parse::<skiff_api::quantity::Quantity>().ok().map(|q| q.value());
    match value.and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(bytes) => Ok(bytes),
        None => bail!("--store-quota: {text:?} is no size such as 8Gi"),
    }
}

/// Rewrites who is in the group, before the store is opened.
async fn force_single(config: &StoreConfig) -> Result<()> {
    match RaftStore::force_single(config).await.context("cannot go on alone")? {
        None => tracing::warn!("--force-single has nothing to do: there are no other servers. Take it away again"),
        Some(forced) => tracing::warn!(
            left_behind = ?forced.left_behind,
            "this server goes on alone; the others must be emptied before they join again. Take --force-single away again"
        ),
    }
    Ok(())
}

fn start_snapshots(args: &ServerArgs, store: &Arc<RaftStore>, shutdown: &CancellationToken, tasks: &mut Tasks) {
    let (data_dir, scheduled) = (args.common.data_dir.clone(), args.snapshots.clone());
    let place = scheduled.place.clone();
    let serving = crate::snapshot::serve(data_dir.clone(), place, store.clone(), shutdown.clone());
    tasks.spawn(async move { ("snapshot control", serving.await) });
    let keeping = crate::snapshot::keep(scheduled, data_dir, store.clone(), shutdown.clone());
    tasks.spawn(async move { ("snapshot schedule", keeping.await) });
}

fn pki_options(args: &ServerArgs, node_ip: IpAddr, advertise: IpAddr) -> Result<PkiOptions> {
    let services = node::cidrs(&args.cluster.service_cidr, "--service-cidr")?;
    Ok(PkiOptions {
        dir: args.common.data_dir.join(paths::SERVER_TLS),
        cluster_domain: args.cluster.cluster_domain.clone(),
        host_name: crate::address::host_name().unwrap_or_default(),
        node_ips: vec![node_ip, advertise],
        service_ips: services.iter().filter_map(|network| network.hosts().next()).collect(),
        extra_names: args.tls_san.clone(),
    })
}

/// Where other servers reach this one.
fn peer_address(args: &ServerArgs, advertise: IpAddr) -> SocketAddr {
    SocketAddr::new(advertise, args.peer_port)
}

/// What this server is to the others.
fn group(args: &ServerArgs, store: Arc<RaftStore>, advertise: IpAddr, closed: &CancellationToken) -> Result<Pages> {
    let data_dir = &args.common.data_dir;
    let listen = SocketAddr::new(args.bind_address, args.peer_port);
    Ok(Pages {
        store,
        peers: Peers::new(data_dir, listen, closed.clone()),
        cluster: servers::Cluster::of(args),
        record: Record {
            name: node::name(&args.node)?,
            api: SocketAddr::new(advertise, args.https_listen_port),
            version: format!("v{}", env!("CARGO_PKG_VERSION")),
        },
        address: peer_address(args, advertise).to_string(),
        data_dir: data_dir.clone(),
    })
}

/// Until the roster knows better: a server that is alone answers.
fn first_endpoints(store: &RaftStore, advertise: IpAddr) -> Option<Vec<IpAddr>> {
    (store.members().len() < 2).then(|| vec![advertise])
}

async fn api_server(
    args: &ServerArgs,
    pki: &Pki,
    store: Arc<RaftStore>,
    advertise: IpAddr,
    answering: watch::Receiver<Option<Vec<IpAddr>>>,
    group: Pages,
) -> Result<Arc<ApiServer>> {
    let domain = &args.cluster.cluster_domain;
    let issuer = format!("https://kubernetes.default.svc.{domain}");
    let access = Access::new(AccessConfig {
        service_account_keys: vec![pki.service_account_key()?],
        api_audiences: vec![issuer.clone()],
        issuer,
        client_ca_pem: pki.ca.certificate_pem().to_string(),
        front_proxy_ca_pem: pki.front_proxy_ca.certificate_pem().to_string(),
    })?;
    let config = skiff_apiserver::Config {
        listen: SocketAddr::new(args.bind_address, args.https_listen_port),
        advertise_address: advertise,
        advertise_port: args.https_listen_port,
        service_cidrs: node::cidrs(&args.cluster.service_cidr, "--service-cidr")?,
        cluster_domain: domain.clone(),
        node_port_range: port_range(&args.service_node_port_range)?,
        kubelet_client: Some(Arc::new(pki::client_config(
            pki.ca.certificate_pem(),
            Some(&pki.kubelet_client),
        )?)),
        client_ca_pem: pki.ca.certificate_pem().to_string(),
        front_proxy_client: Some(Arc::new(pki.front_proxy_client.clone())),
        servers: Some(answering),
        own_pages: Some(Arc::new(group)),
    };
    let store: Arc<dyn Store> = store;
    Ok(ApiServer::new(config, store, access).await?)
}

/// Tells this cluster from others: from the fingerprint of its CA.
fn cluster_number(pki: &Pki) -> Result<u64> {
    let fingerprint = pki.ca.spki_sha256()?;
    Ok(u64::from_str_radix(fingerprint.get(..16).unwrap_or_default(), 16)?)
}

fn port_range(text: &str) -> Result<(u16, u16)> {
    let parts = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?)));
    match parts {
        Some((first, last)) if first > 0 && first <= last => Ok((first, last)),
        _ => bail!("--service-node-port-range: {text:?} is no range such as 30000-32767"),
    }
}

/// Writes the administrator's kubeconfig, whenever the servers of the cluster change: this
/// server first, each other in a context of its own.
fn kubeconfig_writer(args: &ServerArgs, pki: &Pki) -> impl Fn(&[(String, String)]) -> Result<()> + Send + 'static {
    let (path, port) = (kubeconfig_path(args), args.https_listen_port);
    let (ca, admin) = (pki.ca.certificate_pem().to_string(), pki.admin.clone());
    move |others| {
        let server = format!("https://127.0.0.1:{port}");
        let text = pki::kubeconfig("skiff", "kubernetes-admin", &server, others, &ca, &admin);
        files::write_private(&path, &text)
    }
}

fn kubeconfig_path(args: &ServerArgs) -> PathBuf {
    args.write_kubeconfig
        .clone()
        .unwrap_or_else(|| args.common.data_dir.join(paths::ADMIN_KUBECONFIG))
}
