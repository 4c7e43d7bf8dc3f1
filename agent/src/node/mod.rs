//! The node's own objects: Node (registered, then patched) and Lease (the heartbeat).

pub mod allocatable;
pub mod status;

use crate::config::Config;
use crate::error::Error;
use crate::leaving;
use crate::pod::node::Shared;
use crate::runtime::Runtime;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use skiff_network::ClusterView;
use status::Machine;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Kubernetes' own: four missed renewals make a node unreachable.
const LEASE_RENEW: Duration = Duration::from_secs(10);
const LEASE_S: i32 = 40;
/// The status is sent at least so often, as upstream.
const STATUS_EVERY: Duration = Duration::from_secs(300);
/// Images come and go without a word; the rest of the status tells itself.
const LOOK_EVERY: Duration = Duration::from_secs(60);
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

/// What an agent says of its node each time; other labels, and taints, only when the node is new.
const OWN_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/windows-build",
];

fn own_labels(wanted: &Value) -> Value {
    let mut labels = wanted["metadata"]["labels"].clone();
    if let Some(labels) = labels.as_object_mut() {
        labels.retain(|name, _| OWN_LABELS.contains(&name.as_str()));
    }
    labels
}

/// Creates the Node, or brings an existing one's own labels up to date. Tries until it works.
pub async fn register(client: &Client, config: &Config, shutdown: &CancellationToken) {
    let api: Api<Node> = Api::all(client.clone());
    let wanted = status::node(config);
    loop {
        let outcome = async {
            let node: Node = serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
            match api.create(&PostParams::default(), &node).await {
                Err(kube::Error::Api(s)) if s.code == 409 => {
                    let patch = json!({"metadata": {"labels": own_labels(&wanted)}});
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

/// What the node's status depends on, besides the machine.
pub struct Sources {
    pub shared: Arc<Shared>,
    pub health: watch::Receiver<Health>,
}

/// Sends the status whenever it is another one, or the API has another one, and every five minutes.
pub async fn report(mut sources: Sources, mut machine: Machine, shutdown: CancellationToken) {
    let shared = sources.shared.clone();
    let api: Api<Node> = Api::all(shared.client.clone());
    let known = tokio::select! {
        () = shutdown.cancelled() => return,
        known = sources.health.wait_for(|health| *health != Health::Unknown) => known.is_ok(),
    };
    if !known {
        return;
    }
    let (mut view, mut pressures) = (shared.cache.view(), shared.pressures.subscribe());
    let mut told = BTreeMap::new();
    let mut sent: Option<(Value, tokio::time::Instant)> = None;
    loop {
        let why = match sources.health.borrow_and_update().clone() {
            Health::NotReady(why) => Some(why),
            _ if shared.leaving.is_cancelled() => Some(leaving::NOT_READY.to_owned()),
            Health::Ready | Health::Unknown => None,
        };
        ask_runtime(&shared.runtime, &mut machine).await;
        let images = shared.runtime.images().await.unwrap_or_default();
        let pressed = pressures.borrow_and_update().clone();
        let held = own_node(&view.borrow_and_update(), &shared);
        let basis = status::Basis {
            addresses: &shared.host_ips,
            images: &images,
            not_ready: why.as_deref(),
            pressures: &pressed,
            held: held.as_deref(),
        };
        let extended = held.as_ref().and_then(|n| n.status.as_ref()?.capacity.as_ref());
        let may_have = allocatable::allocatable(&shared.config, &machine, extended);
        shared.ledger.set_allocatable(may_have);
        let value = status::status(&shared.config, &machine, &basis, Timestamp::now());
        let bare = status::without_heartbeat(&value);
        let now = tokio::time::Instant::now();
        let due = |(before, at): &(Value, tokio::time::Instant)| *before != bare || now - *at >= STATUS_EVERY;
        let mut failed = false;
        if sent.as_ref().is_none_or(due) || status::overruled(&basis) {
            let patch = json!({ "status": value });
            let outcome = api
                .patch_status(
                    &shared.config.node_name,
                    &PatchParams::default(),
                    &Patch::Strategic(&patch),
                )
                .await;
            match outcome {
                Ok(_) => {
                    sent = Some((bare, now));
                    for reason in status::transitions(&basis, &mut told) {
                        let name = &shared.config.node_name;
                        let text = format!("Node {name} status is now: {reason}");
                        shared.recorder.node(name, false, reason, text);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the node's status was not taken; trying again");
                    failed = true;
                }
            }
        }
        let pause = if failed { RETRY } else { LOOK_EVERY };
        let another = async {
            // Most changes of the cluster's view are not this node's.
            while view.changed().await.is_ok() {
                let newer = own_node(&view.borrow_and_update(), &shared);
                if counted(newer.as_deref()) != counted(held.as_deref()) {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = sources.health.changed() => if changed.is_err() { return },
            changed = pressures.changed() => if changed.is_err() { return },
            () = another => {}
            () = shared.leaving.cancelled(), if why.as_deref() != Some(leaving::NOT_READY) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn own_node(view: &ClusterView, shared: &Shared) -> Option<Arc<Node>> {
    view.nodes.get(&shared.config.node_name).cloned()
}

type List = BTreeMap<String, Quantity>;

/// What a node counts and how it is, by itself or as others have told it.
fn counted(node: Option<&Node>) -> Option<(&Option<List>, &Option<List>, Vec<&str>)> {
    let status = node?.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    Some((
        &status.capacity,
        &status.allocatable,
        conditions.map(|c| c.status.as_str()).collect(),
    ))
}

/// The runtime's version and what it can, as it last told: another one may have taken its place.
async fn ask_runtime(runtime: &Runtime, machine: &mut Machine) {
    if let Ok(version) = runtime.version().await {
        machine.runtime_version = format!("{}://{}", version.runtime_name, version.runtime_version);
    }
    if let Ok((handlers, features)) = runtime.abilities().await {
        (machine.handlers, machine.features) = (handlers, features);
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
