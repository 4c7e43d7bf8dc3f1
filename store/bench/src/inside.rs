//! The store in process, as the API server calls it.

use crate::Plan;
use crate::load::Numbers;
use crate::report::{Better, Table};
use crate::servers;
use anyhow::Result;
use bytes::Bytes;
use skiff_store::{Op, RaftStore, Record, Store, StoreConfig, Txn};
use std::sync::Arc;
use std::time::Instant;

/// Transactions a second at 256 writers, all of them on the disk.
const AIM: f64 = 50_000.0;

pub async fn measure(plan: &Plan, table: &mut Table) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("store-bench").tempdir_in(&plan.dir)?;
    let store = RaftStore::open(StoreConfig::new(dir.path().join("data"))).await?;
    for writers in [1, 256] {
        let before = store.progress().log_syncs;
        let me = std::process::id();
        let cpu_before = servers::cpu_s(me)?;
        let (rate, p99) = run(plan, &store, writers).await?;
        let cpu = (servers::cpu_s(me)? - cpu_before) / (rate * plan.cell.as_secs_f64()) * 1e6;
        let aim = (writers == 256).then_some((Better::More, AIM));
        table.ours(format!("in process, 256 B, {writers} writers: txn/s"), rate, aim);
        table.ours(format!("in process, 256 B, {writers} writers: p99 ms"), p99, None);
        table.ours(format!("in process, 256 B, {writers} writers: CPU us/txn"), cpu, None);
        let syncs = (store.progress().log_syncs - before) as f64 / plan.cell.as_secs_f64();
        table.ours(format!("in process, 256 B, {writers} writers: syncs/s"), syncs, None);
    }
    store.shutdown().await;
    Ok(())
}

async fn run(plan: &Plan, store: &Arc<RaftStore>, writers: u64) -> Result<(f64, f64)> {
    let (begun, time) = (Instant::now(), plan.cell);
    let body = Bytes::from(vec![b'v'; 256]);
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, body) = (store.clone(), body.clone());
            tokio::spawn(async move {
                let (mut took, mut numbers) = (Vec::new(), Numbers::new(writer + 1));
                while begun.elapsed() < time {
                    let at = Instant::now();
                    let key = format!("/bench/inside/{:08}", numbers.below(100_000)).into();
                    let record = Record {
                        body: body.clone(),
                        ..Record::default()
                    };
                    let txn = Txn {
                        then: vec![Op::Put { key, record }],
                        ..Txn::default()
                    };
                    store.txn(txn).await?;
                    took.push(at.elapsed());
                }
                Ok::<_, skiff_store::StoreError>(took)
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
    Ok((rate, p99.as_secs_f64() * 1e3))
}
