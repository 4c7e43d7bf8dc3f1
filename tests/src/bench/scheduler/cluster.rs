//! A server without a node of its own, and Node objects that nobody stands behind.

use super::super::connection::{Call, Endpoint};
use super::super::process::Process;
use super::super::start;
use crate::{Cluster, Network, Programs};
use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use hyper::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CLIENTS: usize = 64;
/// Where the measured pods' node affinity and the like look.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The controllers have seen all nodes and taken their taints away.
const READY_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub struct Simulated {
    pub cluster: Cluster,
    pub endpoint: Endpoint,
    pub process: Process,
    /// What the server's memory grew by when the nodes came.
    pub rss_of_nodes: u64,
}

impl Simulated {
    pub async fn start(programs: &Programs, network: Network, nodes: usize, zones: usize) -> Result<Self> {
        let mut cluster = Cluster::new(programs.clone(), network)?;
        cluster.add_host()?;
        // Room for a pod CIDR per node.
        let flags = ["--disable-agent", "--cluster-cidr", "100.64.0.0/10"];
        let (endpoint, _) = start::start(&cluster, &flags, None).await?;
        let process = Process::of_host(cluster.hosts[0].pid, &cluster.hosts[0].data_dir().join("skiff.pid"))?;
        let before = process.usage()?.rss_bytes;
        create_nodes(&endpoint, nodes, zones).await.context("nodes")?;
        untainted(&endpoint, nodes).await?;
        let rss_of_nodes = process.usage()?.rss_bytes.saturating_sub(before);
        Ok(Self {
            cluster,
            endpoint,
            process,
            rss_of_nodes,
        })
    }

    /// Mean time of the scheduling algorithm alone, and how often it ran.
    pub async fn decision_time(&self) -> Result<Option<(Duration, u64)>> {
        let page = self.endpoint.connect().await?.send(Call::get("/metrics")).await?;
        Ok(mean(
            &String::from_utf8_lossy(&page),
            "scheduler_scheduling_algorithm_duration_seconds",
        ))
    }
}

/// Of a histogram without labels.
fn mean(page: &str, name: &str) -> Option<(Duration, u64)> {
    let of = |suffix: &str| -> Option<f64> {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(suffix))?;
        line.trim().parse().ok()
    };
    let (sum, count) = (of("_sum ")?, of("_count ")?);
    // Counts are whole, and far below what a float holds exactly.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (count >= 1.0).then(|| (Duration::from_secs_f64(sum / count), count as u64))
}

pub fn node_name(at: usize) -> String {
    format!("node-{at:05}")
}

/// As upstream's simulated nodes: 4 cores, 32 GiB, 110 pods.
fn node(at: usize, zones: usize) -> Value {
    let name = node_name(at);
    let resources = json!({"cpu": "4", "memory": "32Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            ZONE: format!("zone-{}", at % zones),
        }},
        "status": {
            "capacity": resources, "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        },
    })
}

async fn create_nodes(endpoint: &Endpoint, nodes: usize, zones: usize) -> Result<()> {
    let tasks = (0..CLIENTS).map(|client| {
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let mut connection = endpoint.connect_http2().await?;
            for at in (client..nodes).step_by(CLIENTS) {
                let body = node(at, zones).to_string();
                connection
                    .send(Call::with_body(Method::POST, "/api/v1/nodes", body))
                    .await?;
                // New nodes are tainted until the controllers have looked at each; that is not measured here.
                let path = format!("/api/v1/nodes/{}", node_name(at));
                let body = r#"{"spec":{"taints":null}}"#;
                let untaint = Call::with_body(Method::PATCH, path, body).content_type("application/merge-patch+json");
                connection.send(untaint).await?;
            }
            anyhow::Ok(())
        })
    });
    for done in try_join_all(tasks).await? {
        done?;
    }
    Ok(())
}

async fn untainted(endpoint: &Endpoint, nodes: usize) -> Result<()> {
    let mut connection = endpoint.connect_http2().await?;
    let begun = Instant::now();
    loop {
        let list: Value = serde_json::from_slice(&connection.send(Call::get("/api/v1/nodes")).await?)?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ready = items.iter().filter(|node| node["spec"]["taints"].is_null()).count();
        if ready == nodes {
            return Ok(());
        }
        if begun.elapsed() > READY_MAX {
            bail!("only {ready} of {nodes} nodes take pods");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histograms_mean_is_read() {
        let page = "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_sum 0.004\na_count 2\n";
        assert_eq!(mean(page, "a"), Some((Duration::from_millis(2), 2)));
        assert_eq!(mean(page, "b"), None);
        assert_eq!(mean("a_sum 0\na_count 0\n", "a"), None);
    }
}
