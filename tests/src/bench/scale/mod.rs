//! `make bench-api`: what the API server does with many objects, many clients and
//! many watchers. One server without a node, on a core of its own; the clients on
//! the others.
//!
//! ```text
//! start --> 1k, 10k, 50k pods: memory, lists --> gets --> writes --> watchers --> 500 definitions
//! ```

mod definitions;
mod lists;
mod pin;
mod pods;
mod watchers;
mod writes;

use super::connection::Endpoint;
use super::machine;
use super::process::Process;
use super::start;
use super::table::Table;
use crate::{Cluster, Network, Programs};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// First: what pods take of memory shows in a server that has not grown for another reason.
    Lists,
    Writes,
    Watchers,
    Definitions,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Lists, Self::Writes, Self::Watchers, Self::Definitions];

    /// From `lists,writes,watchers,definitions`.
    pub fn parse_list(text: &str) -> Result<BTreeSet<Self>> {
        text.split(',')
            .map(|word| {
                Ok(match word.trim() {
                    "writes" => Self::Writes,
                    "lists" => Self::Lists,
                    "watchers" => Self::Watchers,
                    "definitions" => Self::Definitions,
                    other => bail!("{other:?} is none of lists, writes, watchers, definitions"),
                })
            })
            .collect()
    }
}

/// Prints the table even when a part fails, and then fails.
pub async fn run(parts: &BTreeSet<Part>, programs: Programs, network: Network) -> Result<()> {
    let mut cluster = Cluster::new(programs, network)?;
    cluster.add_host()?;
    let outcome = machine::table(&cluster.dir, "", Vec::new(), async |table| {
        measure(&cluster, parts, table).await
    });
    outcome.await.map_err(|error| error.context(cluster.logs()))
}

async fn measure(cluster: &Cluster, parts: &BTreeSet<Part>, table: &mut Table) -> Result<()> {
    let (endpoint, _) = start::start(cluster, &["--disable-agent"], None)
        .await
        .context("start")?;
    let skiff = Process::of_host(cluster.hosts[0].pid, &cluster.hosts[0].data_dir().join("skiff.pid"))?;
    table.header.push(pin::apart(skiff.pid())?);
    for part in parts {
        part.measure(&endpoint, skiff, table)
            .await
            .with_context(|| format!("{part:?}"))?;
    }
    Ok(())
}

impl Part {
    async fn measure(self, endpoint: &Endpoint, skiff: Process, table: &mut Table) -> Result<()> {
        match self {
            Self::Writes => writes::measure(endpoint, skiff, table).await,
            Self::Lists => lists::measure(endpoint, skiff, table).await,
            Self::Watchers => watchers::measure(endpoint, skiff, table).await,
            Self::Definitions => definitions::measure(endpoint, skiff, table).await,
        }
    }
}
