//! The node's own objects: Node (registered, then patched) and Lease (the heartbeat).

pub mod status;

use crate::config::Config;
use crate::error::Error;
use crate::runtime::Runtime;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use status::Machine;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Kubernetes' own: four missed renewals make a node unreachable.
const LEASE_RENEW: Duration = Duration::from_secs(10);
const LEASE_S: i32 = 40;
/// The status is sent at least so often, as upstream.
const STATUS_EVERY: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_millis(200);

/// The address that packets to the world would carry; no packet is sent.
pub fn detect_address() -> Result<IpAddr, Error> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").map_err(|_| Error::NoNodeAddress)?;
    socket.connect("192.0.2.1:9").map_err(|_| Error::NoNodeAddress)?;
    socket.local_addr().map(|a| a.ip()).map_err(|_| Error::NoNodeAddress)
}

/// Whether pods can run here, as the Node's Ready condition shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Just begun: nothing is reported, so that an agent's restart shows in no condition.
    Unknown,
    Ready,
    NotReady(String),
}

/// Creates the Node, or brings an existing one's labels up to date. Tries until it works.
pub async fn register(client: &Client, config: &Config, shutdown: &CancellationToken) {
    let api: Api<Node> = Api::all(client.clone());
    let wanted = status::node(config);
    loop {
        let outcome = async {
            let node: Node = serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
            match api.create(&PostParams::default(), &node).await {
                Err(kube::Error::Api(s)) if s.code == 409 => {
                    let patch = json!({"metadata": {"labels": wanted["metadata"]["labels"]}});
                    api.patch(&config.node_name, &PatchParams::default(), &Patch::Strategic(&patch))
                        .await
                }
                other => other,
            }
        }
        .await;
        let Err(error) = outcome else { return };
        tracing::debug!(%error, "the node is not registered yet; trying again");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Sends the status whenever readiness changes, and every five minutes.
pub async fn report(
    client: Client,
    config: Config,
    mut machine: Machine,
    addresses: Vec<String>,
    runtime: Runtime,
    mut health: watch::Receiver<Health>,
    shutdown: CancellationToken,
) {
    let api: Api<Node> = Api::all(client);
    let mut since = Timestamp::now();
    let mut before: Option<Option<String>> = None;
    let known = tokio::select! {
        () = shutdown.cancelled() => return,
        known = health.wait_for(|health| *health != Health::Unknown) => known.is_ok(),
    };
    if !known {
        return;
    }
    loop {
        let why = match health.borrow_and_update().clone() {
            Health::NotReady(why) => Some(why),
            Health::Ready | Health::Unknown => None,
        };
        if before.as_ref().is_none_or(|b| b.is_some() != why.is_some()) {
            since = Timestamp::now();
        }
        if machine.runtime_version.is_empty()
            && let Ok(version) = runtime.version().await
        {
            machine.runtime_version = format!("{}://{}", version.runtime_name, version.runtime_version);
        }
        let images = runtime.images().await.unwrap_or_default();
        let value: Value = status::status(
            &config,
            &machine,
            &addresses,
            &images,
            why.as_deref(),
            since,
            Timestamp::now(),
        );
        let patch = json!({ "status": value });
        let sent = api
            .patch_status(&config.node_name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await;
        let pause = match sent {
            Ok(_) => {
                before = Some(why);
                STATUS_EVERY
            }
            Err(error) => {
                tracing::debug!(%error, "the node's status was not taken; trying again");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = health.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The heartbeat; the only thing a node does periodically when idle.
pub async fn renew_lease(client: Client, node_name: String, shutdown: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let nodes: Api<Node> = Api::all(client);
    let mut owner = None;
    loop {
        let now = format!("{:.6}", Timestamp::now());
        if owner.is_none() {
            owner = nodes.get(&node_name).await.ok().and_then(|n| n.metadata.uid);
        }
        let spec = json!({"holderIdentity": node_name, "leaseDurationSeconds": LEASE_S, "renewTime": now});
        let patch = json!({ "spec": spec });
        let renewed = match api
            .patch(&node_name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Err(kube::Error::Api(s)) if s.code == 404 => {
                let mut meta = json!({"name": node_name, "namespace": "kube-node-lease"});
                if let Some(uid) = &owner {
                    meta["ownerReferences"] =
                        json!([{"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": uid}]);
                }
                match serde_json::from_value::<Lease>(json!({"metadata": meta, "spec": spec})) {
                    Ok(lease) => api.create(&PostParams::default(), &lease).await,
                    Err(error) => Err(kube::Error::SerdeError(error)),
                }
            }
            other => other,
        };
        let pause = match renewed {
            Ok(_) => LEASE_RENEW,
            Err(error) => {
                tracing::debug!(%error, "the node's lease was not renewed; trying again");
                RETRY * 5
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
