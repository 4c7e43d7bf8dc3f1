//! Create, update, patch and apply, by one client and by many.

use super::super::api::{collection, namespace_ready};
use super::super::connection::{Call, Endpoint, JSON};
use super::super::process::Process;
use super::super::sample::{Sample, count, duration};
use super::super::table::{Row, Table};
use anyhow::{Context, Result};
use futures::future::try_join_all;
use hyper::Method;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAMESPACE: &str = "bench-writes";
const CLIENTS: [usize; 3] = [1, 16, 64];
const MEASURED: Duration = Duration::from_secs(3);
const VALUE_BYTES: usize = 1024;

type Prepare = Arc<dyn Fn(usize, u64) -> Call + Send + Sync>;

pub async fn measure(endpoint: &Endpoint, skiff: Process, table: &mut Table) -> Result<()> {
    let mut connection = endpoint.connect().await?;
    namespace_ready(&mut connection, NAMESPACE).await?;
    for client in 0..CLIENTS[CLIENTS.len() - 1] {
        let body = config_map(&format!("kept-{client}"), 0);
        connection
            .send(Call::with_body(Method::POST, collection(NAMESPACE), body))
            .await?;
    }
    for clients in CLIENTS {
        for (told, upstream, prepare) in verbs(clients) {
            let row = rate(endpoint, skiff, clients, told, upstream, prepare)
                .await
                .with_context(|| format!("{told}, {clients} clients"))?;
            table.push(row);
        }
    }
    Ok(())
}

/// What is called, upstream's rate at 16 clients, and the calls.
fn verbs(clients: usize) -> [(&'static str, &'static str, Prepare); 4] {
    let kept = |client: usize| format!("{}/kept-{client}", collection(NAMESPACE));
    [
        (
            "create",
            "1,059/s",
            Arc::new(move |client, call| {
                let body = config_map(&format!("made-{clients}-{client}-{call}"), call);
                Call::with_body(Method::POST, collection(NAMESPACE), body)
            }),
        ),
        (
            "update",
            "",
            Arc::new(move |client, call| {
                Call::with_body(Method::PUT, kept(client), config_map(&format!("kept-{client}"), call))
            }),
        ),
        (
            "merge patch",
            "947/s",
            Arc::new(move |client, call| {
                let body = json!({"data": {"revision": call.to_string()}}).to_string();
                Call::with_body(Method::PATCH, kept(client), body).content_type("application/merge-patch+json")
            }),
        ),
        (
            "server-side apply",
            "",
            Arc::new(move |client, call| {
                let path = format!("{}?fieldManager=bench&force=true", kept(client));
                Call::with_body(Method::PATCH, path, config_map(&format!("kept-{client}"), call))
                    .content_type("application/apply-patch+yaml")
            }),
        ),
    ]
}

async fn rate(
    endpoint: &Endpoint,
    skiff: Process,
    clients: usize,
    told: &str,
    upstream: &str,
    prepare: Prepare,
) -> Result<Row> {
    let opened = (0..clients).map(|_| endpoint.connect_http2());
    let opened = try_join_all(opened).await?;
    let before = skiff.usage()?.cpu_ms;
    let begun = Instant::now();
    let tasks = opened.into_iter().enumerate().map(|(client, mut connection)| {
        let prepare = prepare.clone();
        tokio::spawn(async move {
            let (mut taken, mut call) = (Vec::new(), 1);
            while begun.elapsed() < MEASURED {
                let prepared = prepare(client, call).accept(JSON);
                let sent = Instant::now();
                connection.send(prepared).await?;
                taken.push(sent.elapsed());
                call += 1;
            }
            anyhow::Ok(taken)
        })
    });
    let mut all = Vec::new();
    for taken in try_join_all(tasks).await? {
        all.extend(taken?);
    }
    let per_s = all.len() as f64 / begun.elapsed().as_secs_f64();
    let calls = Sample::new(all);
    let many = u32::try_from(calls.len().max(1)).unwrap_or(u32::MAX);
    let cpu = Duration::from_millis(skiff.usage()?.cpu_ms - before) / many;
    let plural = if clients == 1 { "client" } else { "clients" };
    let row = Row::new(
        format!("ConfigMap {told} (1 KiB), {clients} {plural}: rate, p50 / p99, CPU each"),
        format!("{}/s, {}, {}", count(per_s), calls.told(), duration(cpu)),
    );
    Ok(if clients == 16 && !upstream.is_empty() {
        let theirs: f64 = upstream.trim_end_matches("/s").replace(',', "").parse()?;
        row.aim(format!("> {}/s", count(5.0 * theirs)), per_s > 5.0 * theirs)
            .upstream(upstream)
    } else {
        row
    })
}

fn config_map(name: &str, revision: u64) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"value": "x".repeat(VALUE_BYTES), "revision": revision.to_string()},
    })
    .to_string()
}
