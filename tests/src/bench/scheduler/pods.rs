//! Creates pods by many clients at once and takes the time until each is bound.

use super::super::connection::{Call, Endpoint};
use super::cluster::Simulated;
use super::seen::Seen;
use super::workload::{BEFORE, Batch, MEASURED, Workload};
use anyhow::{Context, Result};
use futures::future::try_join_all;
use hyper::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Enough that creating is not paced by the disk: what is written at once shares a sync.
const CLIENTS: usize = 64;
const SERVICE_ACCOUNT_MAX: Duration = Duration::from_secs(20);
/// As upstream's churn.
const CHURN_EVERY: Duration = Duration::from_millis(250);

pub struct Measured {
    pub bound: usize,
    /// From the first create to the last bound.
    pub took: Duration,
    /// Of each pod, from its create to when it was seen bound.
    pub waits: Vec<Duration>,
}

/// Namespaces that take pods, and the class of pods that preempt.
pub async fn prepare(simulated: &Simulated) -> Result<()> {
    let mut connection = simulated.endpoint.connect().await?;
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "bench-high"}, "value": 1000});
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses";
    connection
        .send(Call::with_body(Method::POST, path, class.to_string()))
        .await?;
    for namespace in [BEFORE, MEASURED] {
        super::super::api::namespace_ready(&mut connection, namespace).await?;
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        let begun = Instant::now();
        while let Err(error) = connection.send(Call::get(account.clone())).await {
            if begun.elapsed() > SERVICE_ACCOUNT_MAX {
                return Err(error).context("the namespace gets no service account");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Pods that are there before the measurement, bound if they can be.
pub async fn create_before(simulated: &Simulated, batch: &Batch) -> Result<()> {
    let seen = Seen::start(&simulated.endpoint, BEFORE).await?;
    create(&simulated.endpoint, BEFORE, batch, nodes(simulated).await?).await?;
    if batch.bound {
        seen.bound(batch.count).await?;
    }
    Ok(())
}

pub async fn measure(simulated: &Simulated, batch: &Batch) -> Result<Measured> {
    let nodes = nodes(simulated).await?;
    let seen = Seen::start(&simulated.endpoint, MEASURED).await?;
    let begun = Instant::now();
    let creating = create(&simulated.endpoint, MEASURED, batch, nodes);
    let (created, bound) = tokio::try_join!(creating, seen.bound(batch.count))?;
    let waits = created
        .iter()
        .filter_map(|(name, sent)| Some(bound.get(name)?.saturating_duration_since(*sent)))
        .collect();
    let last = bound.values().max().copied().context("some are bound")?;
    Ok(Measured {
        bound: bound.len(),
        took: last - begun,
        waits,
    })
}

/// All replicas of one Deployment, from its create on.
pub async fn deployment(simulated: &Simulated, replicas: usize) -> Result<Measured> {
    let seen = Seen::start(&simulated.endpoint, MEASURED).await?;
    let mut template = Workload::Basic.plan(1).measured.template;
    template["metadata"]["labels"]["app"] = json!("bench");
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bench"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "bench"}}, "template": {
            "metadata": template["metadata"], "spec": template["spec"],
        }},
    });
    let mut connection = simulated.endpoint.connect_http2().await?;
    let begun = Instant::now();
    let path = format!("/apis/apps/v1/namespaces/{MEASURED}/deployments");
    connection
        .send(Call::with_body(Method::POST, path, deployment.to_string()))
        .await?;
    let bound = seen.bound(replicas).await?;
    let last = bound.values().max().copied().context("some are bound")?;
    Ok(Measured {
        bound: bound.len(),
        took: last - begun,
        waits: bound.values().map(|at| *at - begun).collect(),
    })
}

/// Names, and when each create was sent.
async fn create(endpoint: &Endpoint, namespace: &str, batch: &Batch, nodes: usize) -> Result<Vec<(String, Instant)>> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let batch = Arc::new(batch.clone());
    let tasks = (0..CLIENTS).map(|client| {
        let (endpoint, path, batch) = (endpoint.clone(), path.clone(), batch.clone());
        tokio::spawn(async move {
            let mut connection = endpoint.connect_http2().await?;
            let mut sent = Vec::new();
            for at in (client..batch.count).step_by(CLIENTS) {
                let (name, pod) = batch.pod(at, nodes);
                let body = pod.to_string();
                sent.push((name, Instant::now()));
                connection
                    .send(Call::with_body(Method::POST, path.clone(), body))
                    .await?;
            }
            anyhow::Ok(sent)
        })
    });
    let mut all = Vec::new();
    for sent in try_join_all(tasks).await? {
        all.extend(sent?);
    }
    Ok(all)
}

async fn nodes(simulated: &Simulated) -> Result<usize> {
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let mut connection = simulated.endpoint.connect_http2().await?;
    let list: Value = serde_json::from_slice(&connection.send(Call::get("/api/v1/nodes").accept(metadata)).await?)?;
    Ok(list["items"].as_array().map_or(0, Vec::len))
}

/// A node, a service and a pod that fits nowhere, made and removed again and again until aborted.
pub fn churn(simulated: &Simulated) -> JoinHandle<Result<()>> {
    let endpoint = simulated.endpoint.clone();
    tokio::spawn(async move {
        let mut connection = endpoint.connect_http2().await?;
        let large = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "churn"}, "spec": {
            "terminationGracePeriodSeconds": 0, "priorityClassName": "bench-high",
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "9"}}}],
        }});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "churn"}, "spec": {"ports": [{"port": 80}]}});
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "churn"}, "spec": {"unschedulable": true}});
        let objects = [
            ("/api/v1/nodes".to_string(), node),
            (format!("/api/v1/namespaces/{BEFORE}/pods"), large),
            (format!("/api/v1/namespaces/{BEFORE}/services"), service),
        ];
        loop {
            for (path, object) in &objects {
                connection
                    .send(Call::with_body(Method::POST, path.clone(), object.to_string()))
                    .await?;
            }
            tokio::time::sleep(CHURN_EVERY).await;
            for (path, _) in &objects {
                connection
                    .send(Call::with_body(Method::DELETE, format!("{path}/churn"), ""))
                    .await?;
            }
        }
    })
}
