//! The cluster's controllers: each brings one part of the actual state nearer to the desired state.
//!
//! Owns the shared caches (one watch per kind), the work queues and every controller's decisions. It knows
//! the API server only as an HTTP API through `kube::Client`; it never links the server or the store.
//!
//! ```text
//!   watch ──> Cache<K> ──(old, new)──> handlers ──> Queue (dedup, back-off) ──> reconcile(key)
//!                │                                                                   │
//!                └────────── observe (values) ──> plan (pure) ──> act (API calls) <──┘
//! ```

mod alike;
mod autoscale;
mod binder;
mod cache;
mod certificates;
mod claim;
mod clusterroles;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod discovery;
mod disruption;
mod endpoints;
mod ephemeral;
mod events;
mod expectations;
mod garbage;
mod job;
mod key;
mod metrics;
mod namespace;
mod node;
mod owned;
mod pod_gc;
mod pods;
mod protection;
mod publish;
mod queue;
mod replicaset;
mod resourceclaim;
mod revisions;
mod selector;
mod shared;
mod slim;
mod statefulset;
mod tokens;
mod worker;
mod written;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use certificates::CertificateSigner;
pub use context::Error;
pub use cronjob::schedule::Schedule;
pub use metrics::families;

use context::Context;

/// What the controllers need to know about the cluster.
#[derive(Clone)]
pub struct Config {
    /// Address ranges that pod CIDRs are cut from, at most one per address family.
    pub cluster_cidrs: Vec<String>,
    /// Prefix length of an IPv4 node's pod CIDR.
    pub node_cidr_mask: u8,
    /// Prefix length of an IPv6 node's pod CIDR.
    pub node_cidr_mask_ipv6: u8,
    /// PEM bundle published as `kube-root-ca.crt` in every namespace.
    pub root_ca_pem: String,
    /// Signs approved certificate signing requests.
    pub signer: Arc<dyn CertificateSigner>,
    /// How long a node may stay silent before it counts as lost.
    pub node_monitor_grace: Duration,
    /// How often node health is judged while at least one node exists.
    pub node_monitor_period: Duration,
    /// Finished pods kept in the cluster before the oldest are deleted.
    pub terminated_pod_threshold: usize,
    /// Whether this process is the one that acts: controllers run only while it is. None: it always is.
    pub leads: Option<watch::Receiver<bool>>,
}

impl Config {
    /// Upstream's defaults, with what has no default given.
    pub fn new(root_ca_pem: String, signer: Arc<dyn CertificateSigner>) -> Self {
        Self {
            cluster_cidrs: vec!["10.42.0.0/16".to_string()],
            node_cidr_mask: 24,
            node_cidr_mask_ipv6: 64,
            root_ca_pem,
            signer,
            node_monitor_grace: Duration::from_secs(40),
            node_monitor_period: Duration::from_secs(5),
            terminated_pod_threshold: 12_500,
            leads: None,
        }
    }
}

/// Wait before controllers that broke down are started again; doubled per time up to [`RESTART_MAX`].
const RESTART_FIRST: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(60);
/// Controllers that ran this long were well: the wait begins anew.
const RAN_WELL: Duration = Duration::from_secs(600);

/// Runs every controller until `shutdown`, while this process leads.
///
/// `client_for` gives a client that acts as a controller's own identity: `"deployment-controller"` becomes
/// `system:serviceaccount:kube-system:deployment-controller`, `"kube-controller-manager"` (the watches)
/// becomes `system:kube-controller-manager`.
///
/// A panic in a reconcile or in an event handler costs one key a retry. Should one of the tasks around these
/// end, all controllers begin anew from fresh lists: none may go on beside a cache that no longer moves.
pub async fn run(
    config: Config,
    client_for: impl Fn(&str) -> kube::Client,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut wait = RESTART_FIRST;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = leading(config.leads.clone(), true) => {}
        }
        let round = shutdown.child_token();
        let started = std::time::Instant::now();
        let mut running = std::pin::pin!(run_once(&config, &client_for, &round));
        let ended = tokio::select! {
            ended = &mut running => Some(ended),
            () = leading(config.leads.clone(), false) => None,
        };
        round.cancel();
        let Some(ended) = ended else {
            // Another process acts now: what is under way here ends first.
            running.await?;
            continue;
        };
        ended?;
        if shutdown.is_cancelled() {
            return Ok(());
        }
        if started.elapsed() >= RAN_WELL {
            wait = RESTART_FIRST;
        }
        metrics::restarted();
        tracing::error!(
            seconds = wait.as_secs(),
            "a controller task ended; all controllers start again"
        );
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(RESTART_MAX);
    }
}

/// Waits until this process leads, or no longer does; for ever where nobody else could.
async fn leading(leads: Option<watch::Receiver<bool>>, wanted: bool) {
    let Some(mut leads) = leads else {
        if !wanted {
            std::future::pending::<()>().await;
        }
        return;
    };
    if leads.wait_for(|leads| *leads == wanted).await.is_err() && wanted {
        // Whoever knew is gone, so nobody says that this process leads.
        std::future::pending::<()>().await;
    }
}

/// Runs until a task ends, which on shutdown all do.
async fn run_once(
    config: &Config,
    client_for: &impl Fn(&str) -> kube::Client,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let cidrs = node::ranges(config)?;
    let shared = Arc::new(shared::Shared::new());
    let recorder = events::Recorder::start(shutdown.clone());
    let context = |name: &'static str| Context {
        name,
        client: client_for(name),
        shared: shared.clone(),
        recorder: recorder.clone(),
        shutdown: shutdown.clone(),
    };

    let mut tasks = tokio::task::JoinSet::new();
    // What new namespaces and nodes wait for comes first.
    publish::start(
        context("service-account-controller"),
        context("root-ca-cert-publisher"),
        &config.root_ca_pem,
        &mut tasks,
    );
    node::start(context("node-controller"), config, cidrs, &mut tasks);
    deployment::start(context("deployment-controller"), &mut tasks);
    replicaset::start(
        context("replicaset-controller"),
        context("replication-controller"),
        &mut tasks,
    );
    endpoints::start(
        context("endpointslice-controller"),
        context("endpoint-controller"),
        context("endpointslicemirroring-controller"),
        &mut tasks,
    );
    namespace::start(context("namespace-controller"), &mut tasks);
    garbage::start(
        context("generic-garbage-collector"),
        client_for("kube-controller-manager"),
        &mut tasks,
    );
    pod_gc::start(
        context("pod-garbage-collector"),
        config.terminated_pod_threshold,
        &mut tasks,
    );
    certificates::start(context("certificate-controller"), config.signer.clone(), &mut tasks);
    clusterroles::start(context("clusterrole-aggregation-controller"), &mut tasks);
    tokens::start(context("token-cleaner"), &mut tasks);
    daemonset::start(context("daemon-set-controller"), &mut tasks);
    statefulset::start(context("statefulset-controller"), &mut tasks);
    job::start(
        context("job-controller"),
        context("ttl-after-finished-controller"),
        &mut tasks,
    );
    cronjob::start(context("cronjob-controller"), &mut tasks);
    disruption::start(context("disruption-controller"), &mut tasks);
    autoscale::start(context("horizontal-pod-autoscaler"), &mut tasks);
    protection::start(
        context("pvc-protection-controller"),
        context("pv-protection-controller"),
        context("volumeattributesclass-protection-controller"),
        &mut tasks,
    );
    // Its events have another name than its role.
    binder::start(
        Context {
            name: "persistentvolume-controller",
            ..context("persistent-volume-binder")
        },
        &mut tasks,
    );
    ephemeral::start(context("ephemeral-volume-controller"), &mut tasks);
    resourceclaim::start(context("resource-claim-controller"), &mut tasks);
    // Handlers are registered: the watches may start.
    shared.start(&client_for("kube-controller-manager"), shutdown, &mut tasks);

    if let Some(Err(error)) = tasks.join_next().await
        && !shutdown.is_cancelled()
    {
        tracing::error!(%error, "a controller task ended");
    }
    shutdown.cancel();
    // A task that does not hear of the shutdown ends at its next step.
    tokio::time::timeout(Duration::from_secs(10), async {
        while tasks.join_next().await.is_some() {}
    })
    .await
    .ok();
    Ok(())
}
