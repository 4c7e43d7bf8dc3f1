//! What the agent takes while its pods only stand there.

use super::Node;
use super::life::{self, Wanted};
use crate::bench::idle::Rest;
use crate::bench::table::Row;
use crate::bench::tracker::Tracker;
use anyhow::Result;
use std::time::Duration;

/// Events are written and memory is given back by then.
const SETTLE: Duration = Duration::from_secs(8);
/// Four renewals of the lease; CPU is told in steps of 10 ms, a quarter of a millicore.
const WATCHED: Duration = Duration::from_secs(40);
/// None, upstream's customary number, and as many as a node takes.
const PODS: [usize; 3] = [0, 30, 110];

pub async fn measure(node: &Node) -> Result<Vec<Row>> {
    let mut tracker = Tracker::start(node.client.clone(), life::NAMESPACE).await?;
    let mut standing = Vec::new();
    let mut rows = Vec::new();
    for pods in PODS {
        let more: Vec<String> = (standing.len()..pods).map(|at| format!("standing-{at}")).collect();
        life::create_all(node, &more, Wanted::Plain).await?;
        tracker.running(&more).await?;
        standing.extend(more);
        tokio::time::sleep(SETTLE).await;
        let before = (node.agent.usage()?, node.containerd.usage()?);
        tokio::time::sleep(WATCHED).await;
        let after = (node.agent.usage()?, node.containerd.usage()?);
        let rest = Rest {
            who: "agent",
            rss_mb_max: 40,
            watched: WATCHED,
            // Upstream's figures are of 30 pods.
            upstream: (pods == 30).then_some(["102 MiB", "18 millicores"]),
        };
        rows.extend(rest.rows(pods, before, after));
    }
    life::delete_all(node, &mut tracker, &standing).await?;
    Ok(rows)
}
