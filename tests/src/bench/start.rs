//! From the process' start until it serves, until the node is Ready, and until
//! a pod that was created as early as possible runs.

use super::connection::{Call, Connection, Endpoint};
use super::pods;
use super::sample::duration;
use super::table::Row;
use super::tracker::{STEP_MAX, Tracker};
use crate::Cluster;
use anyhow::{Context, Result, bail};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Node;
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, Client};
use std::time::{Duration, Instant};

/// Short beside what is measured; connecting to nobody costs microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Heartbeats are told in whole seconds: a new one must differ from the last.
const HEARTBEAT_AGE_MIN: Duration = Duration::from_millis(1_100);

#[derive(Debug, Clone, Copy)]
pub struct Started {
    pub served: Duration,
    /// Node Ready, first pod Running; `None` without an agent.
    pub node: Option<(Duration, Duration)>,
}

/// Starts the server and waits for all of it. `pod` names the first pod.
pub async fn start(cluster: &Cluster, flags: &[&str], pod: Option<&str>) -> Result<(Endpoint, Started)> {
    let begun = Instant::now();
    cluster.start_server(flags)?;
    let (endpoint, served) = tokio::time::timeout(STEP_MAX, served(cluster, begun))
        .await
        .with_context(|| format!("the API is not served after {STEP_MAX:?}: {}", cluster.logs()))?;
    let Some(pod) = pod else {
        return Ok((endpoint, Started { served, node: None }));
    };
    let client = endpoint.client()?;
    let node = async {
        tokio::time::timeout(STEP_MAX, node_ready(client.clone(), None))
            .await
            .with_context(|| format!("the node is not Ready after {STEP_MAX:?}: {}", cluster.logs()))?
            .map(|at| at - begun)
    };
    let (node, running) = tokio::try_join!(node, first_pod(&endpoint, pod, begun))?;
    Ok((
        endpoint,
        Started {
            served,
            node: Some((node, running)),
        },
    ))
}

/// The same over data that is there; the first pod's name must be new.
pub async fn restart(cluster: &Cluster, endpoint: &Endpoint, pod: &str) -> Result<Started> {
    let client = endpoint.client()?;
    let before = heartbeat(&Api::<Node>::all(client.clone()).get(&cluster.hosts[0].name).await?);
    tokio::time::sleep(HEARTBEAT_AGE_MIN).await;
    cluster.stop(0, "-TERM")?;
    let begun = Instant::now();
    cluster.start_server(&[])?;
    let (endpoint, served) = tokio::time::timeout(STEP_MAX, served(cluster, begun))
        .await
        .with_context(|| format!("the API is not served again after {STEP_MAX:?}"))?;
    let client = endpoint.client()?;
    let node = async {
        tokio::time::timeout(STEP_MAX, node_ready(client, before))
            .await
            .with_context(|| format!("the node is not Ready again after {STEP_MAX:?}: {}", cluster.logs()))?
            .map(|at| at - begun)
    };
    let (node, running) = tokio::try_join!(node, first_pod(&endpoint, pod, begun))?;
    Ok(Started {
        served,
        node: Some((node, running)),
    })
}

pub fn rows(what: &str, started: &Started, aims: bool) -> Vec<Row> {
    let mut rows = vec![Row::new(format!("{what} to /readyz"), duration(started.served))];
    if let Some((node, pod)) = started.node {
        let mut ready = Row::new(format!("{what} to Node Ready"), duration(node));
        if aims {
            ready = ready
                .aim("< 700 ms", node < Duration::from_millis(700))
                .upstream("1.7 s");
        }
        rows.push(ready);
        rows.push(Row::new(format!("{what} to first pod Running"), duration(pod)));
    }
    rows
}

async fn served(cluster: &Cluster, begun: Instant) -> (Endpoint, Duration) {
    // On the first start the certificates are only being made.
    let endpoint = loop {
        match Endpoint::open(cluster).await {
            Ok(endpoint) => break endpoint,
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    loop {
        if let Ok(mut connection) = endpoint.connect().await
            && is_ready(&mut connection).await
        {
            return (endpoint, begun.elapsed());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn is_ready(connection: &mut Connection) -> bool {
    connection.send(Call::get("/readyz")).await.is_ok()
}

/// When a node was seen Ready with another heartbeat than `before`.
async fn node_ready(client: Client, before: Option<String>) -> Result<Instant> {
    let api: Api<Node> = Api::all(client);
    let stream = api.watch(&WatchParams::default(), "0").await?;
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event? {
            WatchEvent::Added(node) | WatchEvent::Modified(node)
                if is_node_ready(&node) && heartbeat(&node) != before =>
            {
                return Ok(Instant::now());
            }
            WatchEvent::Error(status) => bail!("the watch of nodes failed: {status:?}"),
            _ => {}
        }
    }
    bail!("the watch of nodes ended")
}

fn is_node_ready(node: &Node) -> bool {
    ready_condition(node).is_some_and(|condition| condition.status == "True")
}

fn heartbeat(node: &Node) -> Option<String> {
    Some(ready_condition(node)?.last_heartbeat_time.as_ref()?.0.to_string())
}

fn ready_condition(node: &Node) -> Option<&k8s_openapi::api::core::v1::NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

/// Creates the pod as soon as the API takes it, which it does once its
/// namespace has a service account.
async fn first_pod(endpoint: &Endpoint, name: &str, begun: Instant) -> Result<Duration> {
    let client = endpoint.client()?;
    let mut tracker = Tracker::start(client.clone(), pods::NAMESPACE).await?;
    let deadline = Instant::now() + STEP_MAX;
    while let Err(error) = pods::create(&client, name).await {
        if Instant::now() > deadline {
            return Err(error).context("no pod can be created");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tracker.running(&[name.to_string()]).await?;
    let running = tracker.moments(name).running.context("it was seen running")?;
    Ok(running - begun)
}
