//! `make bench`: figures of a real one-node cluster, in one table beside what
//! they should be. Measures and tells; judges nothing but its own aims.
//!
//! ```text
//! start --> start again --> idle, 0 pods --> idle, 10 pods --> pods --> API
//!       --> stop --> floor: CRI alone
//! ```

mod api;
mod connection;
mod fanout;
mod floor;
mod idle;
mod machine;
pub mod node;
mod pods;
mod process;
mod sample;
pub mod scale;
pub mod scheduler;
mod start;
mod table;
mod tracker;

use crate::{Cluster, Network, Programs};
use anyhow::{Context, Result, bail};
use connection::Endpoint;
use process::Process;
use std::collections::BTreeSet;
use std::path::Path;
use table::{Row, Table};
use tracker::Tracker;

/// Pods that only stand there.
const IDLE_PODS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Start,
    Pods,
    Api,
    Idle,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Start, Self::Pods, Self::Api, Self::Idle];

    /// From `start,pods,api,idle`.
    pub fn parse_list(text: &str) -> Result<BTreeSet<Self>> {
        text.split(',')
            .map(|word| {
                Ok(match word.trim() {
                    "start" => Self::Start,
                    "pods" => Self::Pods,
                    "api" => Self::Api,
                    "idle" => Self::Idle,
                    other => bail!("{other:?} is none of start, pods, api, idle"),
                })
            })
            .collect()
    }
}

/// Prints the table even when a part fails, and then fails.
pub async fn run(parts: &BTreeSet<Part>, programs: Programs, network: Network) -> Result<()> {
    let mut cluster = Cluster::new(programs, network)?;
    cluster.add_host()?;
    let rows = sizes(&cluster.programs)?;
    let outcome = machine::table(&cluster.dir, "", rows, async |table| {
        measure(&cluster, parts, table).await
    });
    outcome.await.map_err(|error| error.context(cluster.logs()))
}

async fn measure(cluster: &Cluster, parts: &BTreeSet<Part>, table: &mut Table) -> Result<()> {
    let wants = |part: Part| parts.contains(&part);
    // The API needs no node, and without one its figures have less noise.
    let node = parts.iter().any(|part| *part != Part::Api);
    let flags: &[&str] = if node { &[] } else { &["--disable-agent"] };
    let (endpoint, started) = start::start(cluster, flags, node.then_some("first"))
        .await
        .context("start")?;
    if node {
        clear(&endpoint).await.context("removing the first pod")?;
    }
    if wants(Part::Start) {
        table.rows.extend(start::rows("start", &started, true));
        let again = start::restart(cluster, &endpoint, "second").await.context("restart")?;
        table.rows.extend(start::rows("start again", &again, false));
        clear(&endpoint).await.context("removing the second pod")?;
    }
    let skiff = Process::of_host(cluster.hosts[0].pid, &cluster.hosts[0].data_dir().join("skiff.pid"))?;
    if wants(Part::Idle) {
        idle(cluster, &endpoint, skiff, table).await.context("idle")?;
    }
    // Told before the API's figures, though the floor is measured last.
    let pods_at = table.rows.len();
    let mut through_api = None;
    if wants(Part::Pods) {
        through_api = Some(pods::measure(&endpoint.client()?, skiff).await.context("pods")?);
        memory_after("all these pods", skiff, table)?;
    }
    if wants(Part::Api) {
        table.rows.extend(api::measure(&endpoint, skiff).await.context("API")?);
        table.rows.extend(fanout::measure(&endpoint).await.context("watch")?);
        memory_after("all these calls", skiff, table)?;
    }
    if let Some((timings, more)) = through_api {
        cluster.stop(0, "-TERM")?;
        let floor = floor::measure(cluster).await.context("floor");
        let reached = floor.as_ref().ok().map(|(timings, _)| timings);
        let mut rows = pods::rows(&timings, more, reached);
        rows.extend(floor.as_ref().map(|(_, rows)| rows.clone()).unwrap_or_default());
        table.rows.splice(pods_at..pods_at, rows);
        floor?;
    }
    Ok(())
}

fn memory_after(what: &str, skiff: Process, table: &mut Table) -> Result<()> {
    let usage = skiff.usage()?;
    let told = format!(
        "{} ({})",
        sample::mebibytes(usage.rss_bytes),
        sample::mebibytes(usage.rss_anon_bytes)
    );
    table.push(Row::new(format!("after {what}: skiff RSS (RssAnon)"), told));
    Ok(())
}

async fn idle(cluster: &Cluster, endpoint: &Endpoint, skiff: Process, table: &mut Table) -> Result<()> {
    let containerd = Process::of_host(cluster.hosts[0].pid, &floor::pid_file(&cluster.hosts[0]))?;
    table.rows.extend(idle::measure(0, skiff, containerd).await?);
    let client = endpoint.client()?;
    let mut tracker = Tracker::start(client.clone(), pods::NAMESPACE).await?;
    let standing = pods::names("standing", IDLE_PODS);
    pods::create_all(&client, &standing).await?;
    tracker.running(&standing).await?;
    table.rows.extend(idle::measure(IDLE_PODS, skiff, containerd).await?);
    pods::delete_all(&client, &mut tracker, &standing).await?;
    Ok(())
}

/// No pod is left.
async fn clear(endpoint: &Endpoint) -> Result<()> {
    let client = endpoint.client()?;
    let mut tracker = Tracker::start(client.clone(), pods::NAMESPACE).await?;
    let left = pods::existing(&client).await?;
    pods::delete_all(&client, &mut tracker, &left).await?;
    Ok(())
}

fn sizes(programs: &Programs) -> Result<Vec<Row>> {
    let size = |path: &Path| -> Result<String> { Ok(sample::mebibytes(std::fs::metadata(path)?.len())) };
    Ok(vec![
        Row::new("size of skiff", size(&programs.skiff)?),
        Row::new("size of skiff-cni", size(&programs.skiff.with_file_name("skiff-cni"))?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named() {
        let two = Part::parse_list("pods, start").expect("two parts");
        assert_eq!(two.into_iter().collect::<Vec<_>>(), [Part::Start, Part::Pods]);
        assert!(Part::parse_list("all").is_err());
    }
}
