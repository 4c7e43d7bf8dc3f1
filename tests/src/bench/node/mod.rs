//! `make bench-node`: what a node takes. The server runs on a host of its own, so
//! that the agent's share is its own process'; pods are created on the node, without
//! a scheduler, and told beside the same pods straight through CRI.
//!
//! ```text
//! server | agent --> idle: 0, 30, 110 pods --> one at a time, 30, 100 at once
//!                --> probes, log, exec --> stop --> floor: CRI alone
//! ```

mod idle;
mod life;
mod wire;

use super::connection::Endpoint;
use super::floor::{self, Floor};
use super::machine;
use super::process::Process;
use super::table::Table;
use crate::{Cluster, Host, Network, Programs, until};
use anyhow::{Context, Result, bail};
use kube::Client;
use std::collections::BTreeSet;
use std::time::Duration;

/// The server's host has no agent; this is the other one.
const NODE: usize = 1;
const READY_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// First: what an agent takes at rest shows before anything has made it grow.
    Idle,
    Life,
    Wire,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Idle, Self::Life, Self::Wire];

    /// From `idle,life,wire`.
    pub fn parse_list(text: &str) -> Result<BTreeSet<Self>> {
        text.split(',')
            .map(|word| {
                Ok(match word.trim() {
                    "idle" => Self::Idle,
                    "life" => Self::Life,
                    "wire" => Self::Wire,
                    other => bail!("{other:?} is none of idle, life, wire"),
                })
            })
            .collect()
    }
}

/// The node under test, and how to ask for pods on it.
struct Node {
    client: Client,
    name: String,
    host: Host,
    agent: Process,
    containerd: Process,
}

/// Prints the table even when a part fails, and then fails.
pub async fn run(parts: &BTreeSet<Part>, programs: Programs, network: Network) -> Result<()> {
    let mut cluster = Cluster::new(programs, network)?;
    cluster.add_host()?;
    cluster.add_host()?;
    let outcome = machine::table(&cluster.dir, "", Vec::new(), async |table| {
        measure(&cluster, parts, table).await
    });
    outcome.await.map_err(|error| error.context(cluster.logs()))
}

async fn measure(cluster: &Cluster, parts: &BTreeSet<Part>, table: &mut Table) -> Result<()> {
    let node = start(cluster).await.context("start")?;
    if parts.contains(&Part::Idle) {
        table.rows.extend(idle::measure(&node).await.context("idle")?);
    }
    let mut lives = None;
    if parts.contains(&Part::Life) {
        lives = Some(life::measure(&node).await.context("life")?);
    }
    if parts.contains(&Part::Wire) {
        let address = cluster.network.address(1);
        table.rows.extend(wire::measure(&node, address).await.context("wire")?);
    }
    if let Some(lives) = lives {
        cluster.stop(NODE, "-TERM")?;
        let mut floor = Floor::open(&cluster.hosts[NODE]).await?;
        let floor = life::floor(&mut floor).await.context("floor")?;
        table.rows.extend(life::rows(&lives, &floor));
    }
    Ok(())
}

async fn start(cluster: &Cluster) -> Result<Node> {
    cluster.start_server(&["--disable-agent"])?;
    until(READY_MAX, "the server gives tokens", || {
        Ok(cluster
            .skiff(&["token", "list"])
            .map(drop)
            .map_err(|error| format!("{error:#}")))
    })?;
    cluster.start_agent(NODE)?;
    cluster.wait_ready(1)?;
    let host = &cluster.hosts[NODE];
    let endpoint = Endpoint::open(cluster).await?;
    Ok(Node {
        client: endpoint.client()?,
        name: host.name.clone(),
        host: host.clone(),
        agent: Process::of_host(host.pid, &host.data_dir().join("skiff.pid"))?,
        containerd: Process::of_host(host.pid, &floor::pid_file(host))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named() {
        let two = Part::parse_list("wire, idle").expect("two parts");
        assert_eq!(two.into_iter().collect::<Vec<_>>(), [Part::Idle, Part::Wire]);
        assert!(Part::parse_list("pods").is_err());
    }
}
