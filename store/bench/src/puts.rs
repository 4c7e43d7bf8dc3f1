//! Requests and their answers: puts, transactions, ranges.

use crate::Plan;
use crate::link::Bare;
use crate::load::{self, Numbers, Outcome};
use crate::report::{Better, Table};
use crate::servers::Server;
use anyhow::Result;
use bytes::Bytes;
use pb::kv_client::KvClient;
use skiff_proto::etcd::etcdserverpb as pb;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::Status;

/// Paths of the methods.
pub const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const RANGE: &str = "/etcdserverpb.KV/Range";

/// Keys that puts overwrite.
const KEY_SPACE: u64 = 100_000;

/// Runs the same against both by turns: etcd, ours, ours, etcd.
async fn by_turns<F, Fut>(plan: &Plan, pair: &[Server], clients: usize, operation: F) -> Result<[Outcome; 2]>
where
    F: Fn(Bare, usize, u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Status>> + Send,
{
    let run = |at: usize| load::run(&pair[at], clients, plan.cell / 2, operation.clone());
    let (etcd, ours) = (run(0).await?, run(1).await?);
    let (ours_again, etcd_again) = (run(1).await?, run(0).await?);
    Ok([etcd.and(etcd_again), ours.and(ours_again)])
}

fn tell(table: &mut Table, what: &str, clients: usize, mut outcomes: [Outcome; 2], aims: bool) {
    let [etcd, ours] = &mut outcomes;
    let many = clients >= 64;
    let aim = |better, times| aims.then_some((better, times));
    let rate = [etcd.rate(), ours.rate()];
    table.both(
        format!("{what}: op/s"),
        rate,
        aim(Better::More, if many { 2.0 } else { 1.0 }),
    );
    table.both(
        format!("{what}: p50 ms"),
        [etcd.percentile_ms(50), ours.percentile_ms(50)],
        None,
    );
    let p99 = [etcd.percentile_ms(99), ours.percentile_ms(99)];
    table.both(format!("{what}: p99 ms"), p99, aim(Better::Less, 1.0).filter(|_| many));
    let cpu = [etcd.cpu_s_per_million(), ours.cpu_s_per_million()];
    table.both(
        format!("{what}: CPU us/op"),
        cpu,
        aim(Better::Less, 0.333).filter(|_| many),
    );
    let syncs = [etcd.syncs_per_operation(), ours.syncs_per_operation()];
    table.both(format!("{what}: syncs/op"), syncs, None);
}

pub async fn puts(plan: &Plan, pair: &[Server], table: &mut Table) -> Result<()> {
    for bytes in [256, 1024] {
        for &clients in &plan.clients {
            let value = Bytes::from(vec![b'v'; bytes]);
            let outcomes = by_turns(plan, pair, clients, move |link, client, turn| {
                let number = Numbers::new(client as u64 * 1_000_003 + turn).below(KEY_SPACE);
                let request = pb::PutRequest {
                    key: format!("/bench/puts/{number:08}").into(),
                    value: value.clone(),
                    ..Default::default()
                };
                async move { link.ask::<pb::PutResponse>(PUT, &request).await.map(|_| ()) }
            });
            tell(
                table,
                &format!("put {bytes} B, {clients} clients"),
                clients,
                outcomes.await?,
                true,
            );
        }
    }
    Ok(())
}

/// What an API server does to create an object.
pub async fn creates(plan: &Plan, pair: &[Server], table: &mut Table) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let value = Bytes::from(vec![b'v'; 1024]);
    let outcomes = by_turns(plan, pair, 64, move |link, _, _| {
        let key = Bytes::from(format!("/bench/created/{:010}", next.fetch_add(1, Ordering::Relaxed)));
        let absent = pb::Compare {
            target: pb::compare::CompareTarget::Mod as i32,
            key: key.clone(),
            target_union: Some(pb::compare::TargetUnion::ModRevision(0)),
            ..Default::default()
        };
        let put = pb::PutRequest {
            key: key.clone(),
            value: value.clone(),
            ..Default::default()
        };
        let get = pb::RangeRequest {
            key,
            ..Default::default()
        };
        let op = |request| pb::RequestOp { request: Some(request) };
        let request = pb::TxnRequest {
            compare: vec![absent],
            success: vec![op(pb::request_op::Request::RequestPut(put))],
            failure: vec![op(pb::request_op::Request::RequestRange(get))],
        };
        async move { link.ask::<pb::TxnResponse>(TXN, &request).await.map(|_| ()) }
    });
    tell(table, "txn create 1 KiB, 64 clients", 64, outcomes.await?, true);
    Ok(())
}

pub async fn ranges(plan: &Plan, pair: &[Server], table: &mut Table) -> Result<()> {
    for server in pair {
        fill(server, "/bench/listed/", 10_000, 1024).await?;
    }
    for clients in [1, 16] {
        let outcomes = by_turns(plan, pair, clients, |link, client, turn| {
            let from = Numbers::new(client as u64 * 7_919 + turn).below(9_500);
            let request = pb::RangeRequest {
                key: format!("/bench/listed/{from:010}").into(),
                range_end: "/bench/listed0".into(),
                limit: 500,
                ..Default::default()
            };
            async move { link.ask::<pb::RangeResponse>(RANGE, &request).await.map(|_| ()) }
        });
        tell(
            table,
            &format!("range of 500 x 1 KiB, {clients} clients"),
            clients,
            outcomes.await?,
            false,
        );
    }
    Ok(())
}

/// Puts so many keys, a hundred in a transaction.
pub async fn fill(server: &Server, prefix: &str, keys: usize, bytes: usize) -> Result<()> {
    let value = Bytes::from(vec![b'v'; bytes]);
    let links = server.links(8).await?;
    let tasks: Vec<_> = links
        .into_iter()
        .enumerate()
        .map(|(worker, link)| {
            let (prefix, value) = (prefix.to_owned(), value.clone());
            tokio::spawn(async move {
                let mut client = KvClient::new(link);
                let mut from = worker * 100;
                while from < keys {
                    let success = (from..keys.min(from + 100)).map(|n| pb::RequestOp {
                        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
                            key: format!("{prefix}{n:010}").into(),
                            value: value.clone(),
                            ..Default::default()
                        })),
                    });
                    let request = pb::TxnRequest {
                        success: success.collect(),
                        ..Default::default()
                    };
                    client.txn(request).await?;
                    from += 800;
                }
                Ok::<_, Status>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
