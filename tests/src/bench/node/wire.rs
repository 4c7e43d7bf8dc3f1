//! What goes over the node's own wires: probes that it sends, and logs and commands
//! through the API server.

use super::Node;
use super::life::{self, Wanted};
use crate::bench::sample::{Sample, count, duration};
use crate::bench::table::Row;
use crate::bench::tracker::Tracker;
use anyhow::{Context, Result, ensure};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, LogParams};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A third of a full node, each asked once a second.
const PROBED: usize = 30;
const PROBED_FOR: Duration = Duration::from_secs(20);
const PERIOD: Duration = Duration::from_secs(1);
/// With the runtime's own words on each line this stays below what is rotated at.
const LINES: usize = 60_000;
const LINE_BYTES: usize = 100;
const READS: usize = 3;
const COMMANDS: usize = 20;
/// No request of a probe is longer.
const REQUEST_BYTES_MAX: usize = 4_096;

pub async fn measure(node: &Node, here: Ipv4Addr) -> Result<Vec<Row>> {
    let mut rows = vec![probes(node, here).await.context("probes")?];
    let name = "talks".to_string();
    let names = [name.clone()];
    let mut tracker = Tracker::start(node.client.clone(), life::NAMESPACE).await?;
    let line = "x".repeat(LINE_BYTES - 1);
    let script = format!("yes {line} | head -n {LINES}; exec sleep 100000");
    life::create_all(node, &names, Wanted::Shell(&script)).await?;
    tracker.running(&names).await?;
    let api: Api<Pod> = Api::namespaced(node.client.clone(), life::NAMESPACE);
    rows.extend(logs(&api, &name).await.context("logs")?);
    rows.push(exec(&api, &name).await.context("exec")?);
    life::delete_all(node, &mut tracker, &names).await?;
    Ok(rows)
}

type Asked = Arc<Mutex<BTreeMap<String, Vec<Instant>>>>;

/// How far from its period a probe comes.
async fn probes(node: &Node, here: Ipv4Addr) -> Result<Row> {
    let listener = TcpListener::bind((here, 0)).await.context("cannot listen")?;
    let port = listener.local_addr()?.port();
    let asked = Asked::default();
    let serving = tokio::spawn({
        let asked = asked.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, asked.clone()));
            }
        }
    });
    let names: Vec<String> = (0..PROBED).map(|at| format!("probed-{at}")).collect();
    let mut tracker = Tracker::start(node.client.clone(), life::NAMESPACE).await?;
    life::create_all(node, &names, Wanted::Probed(here, port)).await?;
    tracker.running(&names).await?;
    asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let before = node.agent.usage()?;
    tokio::time::sleep(PROBED_FOR).await;
    let cpu_ms = node.agent.usage()?.cpu_ms - before.cpu_ms;
    let asked = std::mem::take(&mut *asked.lock().unwrap_or_else(PoisonError::into_inner));
    serving.abort();
    life::delete_all(node, &mut tracker, &names).await?;
    ensure!(asked.len() == PROBED, "{} of {PROBED} pods were asked", asked.len());
    let off: Vec<Duration> = asked
        .values()
        .flat_map(|times| times.windows(2).map(|pair| (pair[1] - pair[0]).abs_diff(PERIOD)))
        .collect();
    let sent = off.len() + PROBED;
    Ok(Row::new(
        format!("{PROBED} probes a second: off by, p50 / p99"),
        format!(
            "{}, {} CPU each",
            Sample::new(off).told(),
            duration(Duration::from_millis(cpu_ms) / u32::try_from(sent).unwrap_or(u32::MAX))
        ),
    ))
}

async fn answer(mut stream: TcpStream, asked: Asked) {
    let at = Instant::now();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        if !matches!(stream.read_buf(&mut request).await, Ok(bytes) if bytes > 0) {
            return;
        }
    }
    let path = String::from_utf8_lossy(&request)
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .to_string();
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(path)
        .or_default()
        .push(at);
    let _ = stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
}

async fn logs(api: &Api<Pod>, name: &str) -> Result<Vec<Row>> {
    let rate = |begun: Instant| {
        let bytes = (LINES * LINE_BYTES) as f64;
        format!("{} MB/s", count(bytes / begun.elapsed().as_secs_f64() / 1e6))
    };
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let begun = Instant::now();
    let mut lines = api.log_stream(name, &follow).await?.lines();
    let mut seen = 0;
    while seen < LINES && lines.try_next().await?.is_some() {
        seen += 1;
    }
    drop(lines);
    let followed = rate(begun);
    let mut best = String::new();
    let mut fastest = Duration::MAX;
    for _ in 0..READS {
        let begun = Instant::now();
        let text = api.logs(name, &LogParams::default()).await?;
        ensure!(text.len() == LINES * LINE_BYTES, "the log has {} bytes", text.len());
        if begun.elapsed() < fastest {
            fastest = begun.elapsed();
            best = rate(begun);
        }
    }
    Ok(vec![
        Row::new(format!("log of {LINES} lines, followed from the start"), followed),
        Row::new("the same log, read at once", best),
    ])
}

async fn exec(api: &Api<Pod>, name: &str) -> Result<Row> {
    let mut taken = Vec::new();
    for _ in 0..COMMANDS {
        let begun = Instant::now();
        let params = AttachParams::default().stdout(true).stderr(false);
        let mut process = api.exec(name, ["echo", "here"], &params).await?;
        let mut output = String::new();
        let mut stdout = process.stdout().context("it has an output")?;
        stdout.read_to_string(&mut output).await?;
        process.join().await?;
        ensure!(output == "here\n", "the command said {output:?}");
        taken.push(begun.elapsed());
    }
    Ok(Row::new("exec round trip, p50 / p99", Sample::new(taken).told()))
}
