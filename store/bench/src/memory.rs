//! A large store: what a key costs in memory, and how long a start takes.

use crate::Plan;
use crate::puts::fill;
use crate::report::{Better, Table};
use crate::servers::{Cost, Kind, Server};
use anyhow::Result;
use pb::kv_client::KvClient;
use skiff_proto::etcd::etcdserverpb as pb;
use std::time::{Duration, Instant};

/// For what goes on behind: snapshots, the writing of state.
const SETTLE: Duration = Duration::from_secs(5);

struct Found {
    filled_s: f64,
    cost: Cost,
    restart_s: f64,
    after: Cost,
    disk_mib: f64,
}

fn disk_mib(dir: &std::path::Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0.0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => sum += disk_mib(&entry.path()),
            Ok(meta) => sum += meta.blocks() as f64 / 2048.0,
            Err(_) => {}
        }
    }
    sum
}

async fn one(plan: &Plan, kind: Kind) -> Result<Found> {
    let mut server = Server::start(plan, kind).await?;
    server.ready().await?;
    let begun = Instant::now();
    fill(&server, "/bench/many/", plan.keys, 256).await?;
    let filled_s = begun.elapsed().as_secs_f64();
    let mut client = KvClient::new(server.links(1).await?.remove(0));
    let asked = pb::RangeRequest {
        key: "/".into(),
        ..Default::default()
    };
    let now = client
        .range(asked)
        .await?
        .into_inner()
        .header
        .unwrap_or_default()
        .revision;
    let compact = pb::CompactionRequest {
        revision: now,
        physical: true,
    };
    client.compact(compact).await?;
    tokio::time::sleep(SETTLE).await;
    let cost = server.cost().await?;
    server.kill()?;
    let begun = Instant::now();
    server.start_again(plan).await?;
    server.ready().await?;
    let restart_s = begun.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE / 2).await;
    Ok(Found {
        filled_s,
        cost,
        restart_s,
        after: server.cost().await?,
        disk_mib: disk_mib(server.dir.path()),
    })
}

pub async fn measure(plan: &Plan, table: &mut Table) -> Result<()> {
    let etcd = one(plan, Kind::Etcd).await?;
    let ours = one(plan, Kind::Skiff).await?;
    let name = |what: &str| format!("{} keys of 256 B: {what}", plan.keys);
    let keys = plan.keys as f64;
    table.both(
        name("put/s, 100 in a txn"),
        [keys / etcd.filled_s, keys / ours.filled_s],
        None,
    );
    let half = Some((Better::Less, 0.5));
    table.both(name("RSS MiB"), [etcd.cost.rss_mib, ours.cost.rss_mib], half);
    table.both(
        name("RssAnon MiB"),
        [etcd.cost.anonymous_mib, ours.cost.anonymous_mib],
        None,
    );
    table.both(
        name("restart s"),
        [etcd.restart_s, ours.restart_s],
        Some((Better::Less, 1.0)),
    );
    table.both(
        name("RSS MiB after restart"),
        [etcd.after.rss_mib, ours.after.rss_mib],
        half,
    );
    table.both(name("disk MiB"), [etcd.disk_mib, ours.disk_mib], None);
    Ok(())
}
