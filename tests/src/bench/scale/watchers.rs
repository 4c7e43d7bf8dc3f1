//! From commit to the last of many watchers, what an event costs, and what a
//! watcher that stops reading does to the others.

use super::super::api::{collection, namespace_ready};
use super::super::connection::{Call, Connection, Endpoint};
use super::super::process::Process;
use super::super::sample::{Sample, duration};
use super::super::table::{Row, Table};
use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const COUNTS: [usize; 3] = [1, 100, 1_000];
/// Watches of one connection, as Go's clients share one.
const PER_CONNECTION: usize = 50;
const WRITES: usize = 100;
const AIM: Duration = Duration::from_millis(20);
const LAST_MAX: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "bench-watchers";

pub async fn measure(endpoint: &Endpoint, skiff: Process, table: &mut Table) -> Result<()> {
    let mut writer = endpoint.connect().await?;
    namespace_ready(&mut writer, NAMESPACE).await?;
    let body = object(0);
    let created = writer
        .send(Call::with_body(Method::POST, collection(NAMESPACE), body))
        .await?;
    let created: Value = serde_json::from_slice(&created)?;
    let mut version = revision(&created)?;
    for (count, stalled) in COUNTS.map(|count| (count, false)).into_iter().chain([(100, true)]) {
        version = round(endpoint, skiff, &mut writer, version, count, stalled, table).await?;
    }
    Ok(())
}

/// Events that all watchers have seen.
#[derive(Default)]
struct Seen {
    events: AtomicUsize,
    last_us: AtomicU64,
    changed: Notify,
}

async fn round(
    endpoint: &Endpoint,
    skiff: Process,
    writer: &mut Connection,
    version: String,
    count: usize,
    stalled: bool,
    table: &mut Table,
) -> Result<String> {
    let path = format!("{}?watch=1&resourceVersion={version}", collection(NAMESPACE));
    let base = Instant::now();
    let seen = Arc::new(Seen::default());
    let mut watchers = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..count.div_ceil(PER_CONNECTION) {
        connections.push(endpoint.connect_http2().await?);
    }
    for at in 0..count {
        let body = connections[at / PER_CONNECTION]
            .open(Call::get(path.clone()))
            .await?
            .into_body();
        watchers.push(tokio::spawn(follow(body, base, seen.clone())));
    }
    // Its window fills, and nobody empties it.
    let idler = match stalled {
        true => Some(endpoint.connect().await?.open(Call::get(path.clone())).await?),
        false => None,
    };
    let before = skiff.usage()?.cpu_ms;
    let (mut last, mut written) = (Vec::new(), Vec::new());
    let mut newest = Value::Null;
    for write in 1..=WRITES {
        let call = Call::with_body(Method::PUT, format!("{}/watched", collection(NAMESPACE)), object(write));
        let sent = Instant::now();
        newest = serde_json::from_slice(&writer.send(call).await?)?;
        let answered = base.elapsed();
        written.push(sent.elapsed());
        let wanted = write * count;
        tokio::time::timeout(LAST_MAX, async {
            while seen.events.load(Ordering::Acquire) < wanted {
                seen.changed.notified().await;
            }
        })
        .await
        .context("events are missing")?;
        let at = Duration::from_micros(seen.last_us.load(Ordering::Acquire));
        last.push(at.saturating_sub(answered));
    }
    let events = seen.events.load(Ordering::Acquire);
    ensure!(events == WRITES * count, "{events} events arrived");
    let cpu = Duration::from_millis(skiff.usage()?.cpu_ms - before) / u32::try_from(events)?;
    watchers.iter().for_each(tokio::task::JoinHandle::abort);
    drop(idler);
    let last = Sample::new(last);
    let beside = if stalled { " beside one that reads nothing" } else { "" };
    let mut row = Row::new(
        format!("{count} watchers{beside}: write answered to last delivery p50 / p99, server CPU an event"),
        format!("{}, {}", last.told(), duration(cpu)),
    );
    if count == 1_000 {
        row = row.aim(format!("p99 < {}", duration(AIM)), last.p99() < AIM);
    }
    table.push(row);
    revision(&newest)
}

async fn follow(mut body: Incoming, base: Instant, seen: Arc<Seen>) {
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        let events = data.iter().filter(|byte| **byte == b'\n').count();
        if events > 0 {
            let now = u64::try_from(base.elapsed().as_micros()).unwrap_or(u64::MAX);
            seen.last_us.fetch_max(now, Ordering::AcqRel);
            seen.events.fetch_add(events, Ordering::AcqRel);
            seen.changed.notify_one();
        }
    }
}

fn revision(object: &Value) -> Result<String> {
    let text = object["metadata"]["resourceVersion"].as_str();
    Ok(text.context("it has a resourceVersion")?.to_string())
}

fn object(write: usize) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "watched"},
        "data": {"write": write.to_string(), "value": "x".repeat(1024)},
    })
    .to_string()
}
