//! The parts that use the API from within a server, each under its own identity: the
//! controllers and the scheduler on the server that leads, and the node.

use crate::cli::ServerArgs;
use crate::{files, node, paths, role};
use anyhow::Result;
use skiff_access::UserInfo;
use skiff_access::pki::{self, Pki};
use skiff_apiserver::ApiServer;
use skiff_controllers::CertificateSigner;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What runs, by the names that people know it by.
pub type Tasks = JoinSet<(&'static str, Result<()>)>;

pub fn start_scheduler(
    settings: skiff_scheduler::Settings,
    server: &Arc<ApiServer>,
    leads: watch::Receiver<bool>,
    shutdown: &CancellationToken,
    tasks: &mut Tasks,
) {
    let config = skiff_scheduler::Config {
        settings,
        ..skiff_scheduler::Config::default()
    };
    server.show_metrics(config.families.clone());
    let (client, stop) = (client(server, component("system:kube-scheduler")), shutdown.clone());
    tasks.spawn(async move { ("scheduler", schedule(config, client, leads, stop).await) });
}

/// Schedules whenever this server leads. One that leads again begins with fresh lists.
async fn schedule(
    config: skiff_scheduler::Config,
    client: kube::Client,
    mut leads: watch::Receiver<bool>,
    stop: CancellationToken,
) -> Result<()> {
    loop {
        let led = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            led = leads.wait_for(|leads| *leads) => led.is_ok(),
        };
        let round = stop.child_token();
        let mut running = std::pin::pin!(skiff_scheduler::run(config.clone(), client.clone(), round.clone()));
        tokio::select! {
            ended = &mut running => return Ok(ended?),
            _ = leads.wait_for(|leads| !*leads), if led => {}
        }
        round.cancel();
        running.await?;
    }
}

fn component(name: &str) -> UserInfo {
    user(name, &[])
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    let mut groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    groups.push("system:authenticated".to_string());
    groups.sort();
    UserInfo {
        name: name.to_string(),
        uid: String::new(),
        groups,
        extra: BTreeMap::new(),
    }
}

/// A controller's identity, as upstream's: a service account, but for those
/// that watch for all.
fn controller(name: &str) -> UserInfo {
    if name == "kube-controller-manager" {
        return component("system:kube-controller-manager");
    }
    user(
        &format!("system:serviceaccount:kube-system:{name}"),
        &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
    )
}

fn client(server: &Arc<ApiServer>, user: UserInfo) -> kube::Client {
    kube::Client::new(server.in_process(user), "default")
}

pub fn start_controllers(
    args: &ServerArgs,
    pki: &Pki,
    server: &Arc<ApiServer>,
    leads: watch::Receiver<bool>,
    shutdown: &CancellationToken,
    tasks: &mut Tasks,
) -> Result<()> {
    let root_ca = pki.ca.certificate_pem().to_string();
    let signer = Signer(pki::Ca::load(&root_ca, pki.ca.key_pem())?);
    let mut config = skiff_controllers::Config::new(root_ca, Arc::new(signer));
    config.cluster_cidrs = args
        .cluster
        .cluster_cidr
        .split(',')
        .map(|part| part.trim().to_string())
        .collect();
    config.leads = Some(leads);
    server.show_metrics(skiff_controllers::families());
    let (server, stop) = (server.clone(), shutdown.clone());
    tasks.spawn(async move {
        let client_for = move |name: &str| client(&server, controller(name));
        (
            "controllers",
            skiff_controllers::run(config, client_for, stop)
                .await
                .map_err(Into::into),
        )
    });
    Ok(())
}

/// Signs approved requests with the cluster's CA.
struct Signer(pki::Ca);

impl CertificateSigner for Signer {
    fn sign(&self, csr_pem: &str, _signer_name: &str, usages: &[String], ttl: Duration) -> Result<String, String> {
        let (der, _) = pki::parse_csr(csr_pem.as_bytes()).map_err(|error| error.to_string())?;
        let leaf = self
            .0
            .sign_csr(&der, usages, ttl, jiff::Timestamp::now())
            .map_err(|error| error.to_string())?;
        Ok(leaf)
    }
}

pub fn start_agent(
    args: &ServerArgs,
    pki: &Pki,
    server: &Arc<ApiServer>,
    node_ip: IpAddr,
    (shutdown, leaving): (&CancellationToken, &CancellationToken),
    tasks: &mut Tasks,
) -> Result<()> {
    let config = node::config(&args.node, &args.cluster, &args.common.data_dir)?;
    let name = config.node_name.clone();
    let request = pki::CertificateRequest {
        common_name: format!("system:node:{name}"),
        organization: Some("system:nodes".to_string()),
        names: vec![name.clone(), node_ip.to_string()],
        usage: pki::Usage::Server,
        lifetime: pki::CERTIFICATE_LIFETIME,
    };
    let dir = args.common.data_dir.join(paths::AGENT_TLS);
    files::private_directory(&dir)?;
    let serving = pki::read_or_issue(&dir, "kubelet-serving", &pki.ca, &request, jiff::Timestamp::now())?;
    let credentials = skiff_agent::NodeCredentials {
        serving_certificate_pem: serving.certificate_pem,
        serving_key_pem: serving.key_pem,
        cluster_ca_pem: pki.ca.certificate_pem().to_string(),
    };
    let labels = client(server, controller("node-controller"));
    tokio::spawn(role::label(labels, name.clone(), shutdown.clone()));
    let client = client(server, user(&format!("system:node:{name}"), &["system:nodes"]));
    let stop = (shutdown.clone(), leaving.clone());
    tasks.spawn(async move {
        (
            "node agent",
            skiff_agent::run(config, client, credentials, stop)
                .await
                .map_err(Into::into),
        )
    });
    Ok(())
}
