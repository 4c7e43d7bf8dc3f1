//! A whole cluster but for its nodes: the real API server and store, all controllers and the scheduler, and
//! kubelets that only pretend. Workloads change, pods fail, nodes are lost, namespaces go; then everything is
//! left alone and must become exactly what was asked for.
//!
//! `SKIFF_SIM_SEED`, `SKIFF_SIM_NODES`, `SKIFF_SIM_SIZE` (times the usual workloads) and `SKIFF_SIM_SECONDS` (of
//! disturbance) make other and larger runs. A failure names the seed; the order of tasks is not part of it.

#![allow(clippy::unwrap_used)]

mod chaos;
mod checks;
mod kubelet;
mod safety;
#[path = "../../apiserver/tests/support/mod.rs"]
mod support;
mod workloads;

use std::sync::Arc;
use std::time::{Duration, Instant};

use skiff_access::UserInfo;
use skiff_apiserver::ApiServer;
use skiff_controllers::CertificateSigner;
use tokio_util::sync::CancellationToken;

/// How long everything may take to become right once nobody disturbs it; failed pods of Jobs are tried again
/// only after tens of seconds.
const SETTLES_WITHIN: Duration = Duration::from_secs(240);

pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub size: usize,
    pub disturbed: Duration,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect(name))
}

impl Plan {
    fn from_environment() -> Self {
        let small = |name, default| usize::try_from(number(name, default)).expect("a small number");
        Self {
            seed: number("SKIFF_SIM_SEED", 1),
            nodes: small("SKIFF_SIM_NODES", 12),
            size: small("SKIFF_SIM_SIZE", 1),
            disturbed: Duration::from_secs(number("SKIFF_SIM_SECONDS", 10)),
        }
    }
}

struct NoSigner;

impl CertificateSigner for NoSigner {
    fn sign(&self, _: &str, _: &str, _: &[String], _: Duration) -> Result<String, String> {
        Err("nothing is signed here".to_string())
    }
}

fn identity(name: &str) -> UserInfo {
    match name {
        "kube-controller-manager" | "kube-scheduler" => support::user(&format!("system:{name}"), &[]),
        name => support::user(
            &format!("system:serviceaccount:kube-system:{name}"),
            &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
        ),
    }
}

fn client(server: &Arc<ApiServer>, user: UserInfo) -> kube::Client {
    kube::Client::new(server.in_process(user), "default")
}

fn start_components(server: &Arc<ApiServer>, shutdown: &CancellationToken) {
    let mut config = skiff_controllers::Config::new("a CA".to_string(), Arc::new(NoSigner));
    config.node_monitor_grace = kubelet::GRACE;
    let (of, stop) = (server.clone(), shutdown.clone());
    tokio::spawn(async move {
        let clients = move |name: &str| client(&of, identity(name));
        skiff_controllers::run(config, clients, stop)
            .await
            .expect("controllers run");
    });
    let (scheduler, stop) = (client(server, identity("kube-scheduler")), shutdown.clone());
    tokio::spawn(async move {
        let config = skiff_scheduler::Config::default();
        skiff_scheduler::run(config, scheduler, stop)
            .await
            .expect("the scheduler runs");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: make test-long runs it"]
async fn a_disturbed_cluster_becomes_what_was_asked_for() {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        tracing_subscriber::fmt().with_env_filter(filter).init();
    }
    let plan = Plan::from_environment();
    let begun = Instant::now();
    eprintln!("seed {}, {} nodes, size {}", plan.seed, plan.nodes, plan.size);
    let fixture = support::fixture().await;
    let admin = fixture.kube();
    let shutdown = CancellationToken::new();
    let _stops = shutdown.clone().drop_guard();
    start_components(&fixture.server, &shutdown);
    let nodes = kubelet::Nodes::start(&admin, &plan, &shutdown).await;
    let safety = safety::Watcher::start(&admin, &shutdown);
    let asked = workloads::create(&admin, &plan).await;
    let asked = chaos::disturb(&admin, &plan, &nodes, asked).await;
    nodes.heal(&admin).await;
    let disturbed = begun.elapsed();
    let mut last = Vec::new();
    let (deadline, mut right, mut told) = (Instant::now() + SETTLES_WITHIN, 0, Instant::now());
    // Right twice in a row: nothing only passes by.
    while right < 2 {
        last = checks::wrong(&admin, &asked).await;
        right = if last.is_empty() { right + 1 } else { 0 };
        if Instant::now() > deadline {
            break;
        }
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            eprintln!("{} things are wrong yet, such as {:?}", last.len(), last.first());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let broken = safety.broken();
    eprintln!(
        "disturbed for {:.1} s, right after {:.1} s more; {} pods lived",
        disturbed.as_secs_f64(),
        (begun.elapsed() - disturbed).as_secs_f64(),
        safety.pods_seen()
    );
    assert!(
        broken.is_empty(),
        "seed {}: broken on the way:\n{}",
        plan.seed,
        broken.join("\n")
    );
    assert!(last.is_empty(), "seed {}: still wrong:\n{}", plan.seed, last.join("\n"));
    checks::rests(&admin).await;
}
