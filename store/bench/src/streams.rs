//! Watches and leases.

use crate::Plan;
use crate::report::{Better, Table, milliseconds};
use crate::servers::Server;
use anyhow::{Context, Result};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::watch_client::WatchClient;
use skiff_proto::etcd::etcdserverpb as pb;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Leases that are kept alive, and of how many one stream takes care.
const LEASES: usize = 5_000;
const LEASES_PER_STREAM: usize = 100;

/// Changes that watchers are shown, and the time between them.
const CHANGES: usize = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// Times from before a put until each watcher has its event.
async fn fan_out(server: &Server, watchers: usize, changes: usize) -> Result<(Vec<Duration>, f64)> {
    let links = server.links(watchers.min(10)).await?;
    let begun = Instant::now();
    let (sender, mut seen) = mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    for at in 0..watchers {
        let mut client = WatchClient::new(links[at % links.len()].clone());
        let (requests, outgoing) = mpsc::channel(1);
        let create = pb::WatchCreateRequest {
            key: "/bench/watched/".into(),
            range_end: "/bench/watched0".into(),
            ..Default::default()
        };
        let create = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        requests.send(create).await?;
        let mut answers = client.watch(ReceiverStream::new(outgoing)).await?.into_inner();
        answers.message().await?.context("the watch is made")?;
        let sender = sender.clone();
        tasks.push(tokio::spawn(async move {
            let _open = requests;
            while let Ok(Some(answer)) = answers.message().await {
                for event in answer.events {
                    let kv = event.kv.unwrap_or_default();
                    let sent = std::str::from_utf8(&kv.value)
                        .ok()
                        .and_then(|v| v.parse().ok())
                        .unwrap_or(0);
                    let _ = sender.send(begun.elapsed().saturating_sub(Duration::from_micros(sent)));
                }
            }
        }));
    }
    let before = server.cost().await?;
    let mut client = KvClient::new(links[0].clone());
    for turn in 0..changes {
        let request = pb::PutRequest {
            key: format!("/bench/watched/{turn}").into(),
            value: begun.elapsed().as_micros().to_string().into(),
            ..Default::default()
        };
        client.put(request).await?;
        tokio::time::sleep(PAUSE).await;
    }
    let mut took = Vec::with_capacity(watchers * changes);
    while took.len() < watchers * changes {
        let next = tokio::time::timeout(Duration::from_secs(30), seen.recv()).await;
        took.push(next.context("events are missing")?.context("watchers ended")?);
    }
    let after = server.cost().await?;
    tasks.iter().for_each(|task| task.abort());
    took.sort_unstable();
    Ok((took, (after.cpu_s - before.cpu_s) * 1e6 / (watchers * changes) as f64))
}

pub async fn watches(plan: &Plan, pair: &[Server], table: &mut Table) -> Result<()> {
    let changes = if plan.cell < Duration::from_secs(3) {
        CHANGES / 4
    } else {
        CHANGES
    };
    for watchers in [1, 100, 1000] {
        let (etcd, etcd_cpu) = fan_out(&pair[0], watchers, changes).await?;
        let (ours, our_cpu) = fan_out(&pair[1], watchers, changes).await?;
        let at = |took: &[Duration], percent: usize| milliseconds(took[(took.len() - 1) * percent / 100]);
        for percent in [50, 99] {
            let values = [at(&etcd, percent), at(&ours, percent)];
            table.both(
                format!("put to event, {watchers} watchers: p{percent} ms"),
                values,
                Some((Better::Less, 1.0)),
            );
        }
        table.both(format!("{watchers} watchers: CPU us/event"), [etcd_cpu, our_cpu], None);
    }
    Ok(())
}

/// Rate at which leases are kept alive, the longest wait, and the CPU of each.
async fn keep(server: &Server, rounds: usize) -> Result<(f64, f64, f64)> {
    let links = server.links(10).await?;
    let mut streams = Vec::new();
    for at in 0..LEASES / LEASES_PER_STREAM {
        let mut client = LeaseClient::new(links[at % links.len()].clone());
        let mut ids = Vec::new();
        for _ in 0..LEASES_PER_STREAM {
            let request = pb::LeaseGrantRequest {
                ttl: 300,
                ..Default::default()
            };
            ids.push(client.lease_grant(request).await?.into_inner().id);
        }
        streams.push((client, ids));
    }
    let before = server.cost().await?;
    let begun = Instant::now();
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|(mut client, ids)| {
            tokio::spawn(async move {
                let (requests, outgoing) = mpsc::channel(1);
                // The first is sent with the stream: an answer opens it.
                requests.send(pb::LeaseKeepAliveRequest { id: ids[0] }).await?;
                let mut answers = client
                    .lease_keep_alive(ReceiverStream::new(outgoing))
                    .await?
                    .into_inner();
                answers.message().await?.context("it is kept alive")?;
                let mut longest = Duration::ZERO;
                for id in (0..rounds).flat_map(|_| &ids).skip(1) {
                    let at = Instant::now();
                    requests.send(pb::LeaseKeepAliveRequest { id: *id }).await?;
                    answers.message().await?.context("it is kept alive")?;
                    longest = longest.max(at.elapsed());
                }
                Ok::<_, anyhow::Error>(longest)
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for task in tasks {
        longest = longest.max(task.await??);
    }
    let spent = begun.elapsed();
    let after = server.cost().await?;
    let kept = (LEASES * rounds) as f64;
    Ok((
        kept / spent.as_secs_f64(),
        milliseconds(longest),
        (after.cpu_s - before.cpu_s) * 1e6 / kept,
    ))
}

pub async fn leases(pair: &[Server], table: &mut Table) -> Result<()> {
    let (etcd, ours) = (keep(&pair[0], 4).await?, keep(&pair[1], 4).await?);
    table.both(
        "5,000 leases: kept alive/s",
        [etcd.0, ours.0],
        Some((Better::More, 1.0)),
    );
    table.both("5,000 leases: longest wait ms", [etcd.1, ours.1], None);
    table.both("5,000 leases: CPU us each", [etcd.2, ours.2], None);
    Ok(())
}
