//! `make bench-store`: figures of the store beside etcd's, on the same disk, in the same
//! run and by turns, both through etcd's API with one load generator.
//!
//! `store-bench [--etcd PATH] [--dir DIR] [--only PART,...] [--seconds S] [--keys N]`
//! with the parts puts, txns, ranges, watches, leases, memory, cluster, inside.
//! `SKIFF_BENCH_SHORT=1` takes less of everything: two minutes that show a regression.
//!
//! `store-bench serve ...` is one server of ours, which the other mode starts.

mod cluster;
mod inside;
mod link;
mod load;
mod memory;
mod puts;
mod report;
mod serve;
mod servers;
mod streams;

use anyhow::{Context, Result, bail};
use report::Table;
use servers::{Kind, Server};
use std::path::PathBuf;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is measured, and how long.
#[derive(Debug)]
pub struct Plan {
    pub etcd: PathBuf,
    /// On the disk that is measured.
    pub dir: PathBuf,
    /// For each cell of the table and each of the two.
    pub cell: Duration,
    /// Keys of the large store.
    pub keys: usize,
    pub clients: Vec<usize>,
    only: Option<Vec<String>>,
}

impl Plan {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Plan> {
        let short = std::env::var_os("SKIFF_BENCH_SHORT").is_some();
        let mut plan = Plan {
            etcd: std::env::var_os("ETCD").map_or_else(|| "etcd".into(), PathBuf::from),
            dir: std::env::current_dir()?.join("target"),
            cell: Duration::from_millis(if short { 1_500 } else { 6_000 }),
            keys: if short { 100_000 } else { 1_000_000 },
            clients: if short { vec![1, 64] } else { vec![1, 16, 64, 256, 1000] },
            only: None,
        };
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--etcd" => plan.etcd = value.into(),
                "--dir" => plan.dir = value.into(),
                "--only" => plan.only = Some(value.split(',').map(str::to_owned).collect()),
                "--seconds" => plan.cell = Duration::from_secs_f64(value.parse()?),
                "--keys" => plan.keys = value.parse()?,
                "--clients" => plan.clients = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                _ => bail!("unknown argument {name}"),
            }
        }
        Ok(plan)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|o| o == part))
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let serving = arguments.next_if(|first| first == "serve").is_some();
    let runtime = tokio::runtime::Runtime::new()?;
    match serving {
        true => runtime.block_on(serve::run(arguments)),
        false => runtime.block_on(drive(Plan::parse(arguments)?)),
    }
}

/// Prints what was measured even when a part fails, and then fails.
async fn drive(plan: Plan) -> Result<()> {
    let mut table = Table::new(&plan)?;
    let outcome = measure(&plan, &mut table).await;
    table.finish();
    println!("{table}");
    outcome
}

async fn measure(plan: &Plan, table: &mut Table) -> Result<()> {
    let parts = ["puts", "txns", "ranges", "watches", "leases"];
    if parts.iter().any(|part| plan.wants(part)) {
        let pair = [Kind::Etcd, Kind::Skiff].map(|kind| Server::start(plan, kind));
        let pair = futures::future::try_join_all(pair).await?;
        for server in &pair {
            server.ready().await?;
        }
        if plan.wants("puts") {
            puts::puts(plan, &pair, table).await.context("puts")?;
        }
        if plan.wants("txns") {
            puts::creates(plan, &pair, table).await.context("transactions")?;
        }
        if plan.wants("ranges") {
            puts::ranges(plan, &pair, table).await.context("ranges")?;
        }
        if plan.wants("watches") {
            streams::watches(plan, &pair, table).await.context("watches")?;
        }
        if plan.wants("leases") {
            streams::leases(&pair, table).await.context("leases")?;
        }
    }
    if plan.wants("memory") {
        memory::measure(plan, table).await.context("memory")?;
    }
    if plan.wants("cluster") {
        cluster::measure(plan, table).await.context("three servers")?;
    }
    if plan.wants("inside") {
        inside::measure(plan, table).await.context("in process")?;
    }
    Ok(())
}
