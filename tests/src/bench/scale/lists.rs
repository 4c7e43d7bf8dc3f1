//! LIST of many pods: whole, in pages, by selector, ten at once, compressed; what
//! the server's memory does meanwhile, and what a stored object takes of it.

use super::super::connection::{Call, Connection, Endpoint, PROTOBUF};
use super::super::process::Process;
use super::super::sample::{Sample, count, duration, mebibytes};
use super::super::table::Table;
use super::pods;
use anyhow::{Result, ensure};
use futures::future::try_join_all;
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::{Duration, Instant};

const COUNTS: [usize; 3] = [1_000, 10_000, 50_000];
const ROUNDS: usize = 7;
const PAGE: usize = 500;
const AT_ONCE: usize = 10;
const LIST_10K_AIM: Duration = Duration::from_millis(80);
/// Controllers have read what was created.
const SETTLE: Duration = Duration::from_secs(3);
const GETS: Duration = Duration::from_secs(3);
const GET_CLIENTS: usize = 16;
const GET_AIM: f64 = 15_000.0;

pub async fn measure(endpoint: &Endpoint, skiff: Process, table: &mut Table) -> Result<()> {
    pods::namespace(endpoint).await?;
    let before = skiff.usage()?.rss_bytes;
    let mut there = 0;
    for count in COUNTS {
        pods::create(endpoint, there, count).await?;
        there = count;
        tokio::time::sleep(SETTLE).await;
        let grown = skiff.usage()?.rss_bytes.saturating_sub(before);
        let bytes = lists(endpoint, skiff, count, table).await?;
        let each = |of: u64| of as f64 / count as f64;
        table.push(
            pods::row(
                count,
                "RSS more than without, per pod (its bytes)",
                format!(
                    "{}, {:.1} KiB ({:.1} KiB)",
                    mebibytes(grown),
                    each(grown) / 1024.0,
                    each(bytes) / 1024.0
                ),
            )
            .aim("< 2x", grown < 2 * bytes),
        );
    }
    gets(endpoint, skiff, there, table).await
}

/// Returns the bytes of the whole list.
async fn lists(endpoint: &Endpoint, skiff: Process, count: usize, table: &mut Table) -> Result<u64> {
    let mut connection = endpoint.connect_http2().await?;
    let whole: Value = serde_json::from_slice(&connection.send(Call::get(pods::path())).await?)?;
    let items = whole["items"].as_array().map_or(0, Vec::len);
    ensure!(items == count, "the list has {items} of {count} pods");
    drop(whole);
    let (taken, bytes) = repeat(&mut connection, &Call::get(pods::path())).await?;
    let mut row = pods::row(count, &format!("LIST, {}, p50 / p99", mebibytes(bytes)), taken.told());
    if count == 10_000 {
        row = row.aim(format!("< {}", duration(LIST_10K_AIM)), taken.p50() < LIST_10K_AIM);
    }
    table.push(row);
    for (told, call) in [
        ("LIST, gzip", Call::get(pods::path()).gzip()),
        ("LIST, protobuf", Call::get(pods::path()).accept(PROTOBUF)),
        (
            "LIST of metadata only",
            Call::get(pods::path()).accept("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
        ),
        (
            "LIST by label (1 in 100)",
            Call::get(format!("{}?labelSelector=shard%3D7", pods::path())),
        ),
        (
            "LIST from any revision",
            Call::get(format!("{}?resourceVersion=0", pods::path())),
        ),
    ] {
        let (taken, bytes) = repeat(&mut connection, &call).await?;
        table.push(pods::row(
            count,
            &format!("{told}, {}, p50 / p99", mebibytes(bytes)),
            taken.told(),
        ));
    }
    let begun = Instant::now();
    let pages = paged(&mut connection, count).await?;
    table.push(pods::row(
        count,
        &format!("LIST in {pages} pages of {PAGE}, all"),
        duration(begun.elapsed()),
    ));
    at_once(endpoint, skiff, count, bytes, table).await?;
    Ok(bytes)
}

async fn at_once(endpoint: &Endpoint, skiff: Process, count: usize, bytes: u64, table: &mut Table) -> Result<()> {
    let resting = skiff.usage()?.rss_bytes;
    skiff.reset_peak()?;
    let begun = Instant::now();
    let tasks = (0..AT_ONCE).map(|_| {
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let mut connection = endpoint.connect_http2().await?;
            length(&mut connection, Call::get(pods::path())).await
        })
    });
    for task in try_join_all(tasks).await? {
        ensure!(task? == bytes, "a list of another length");
    }
    let took = begun.elapsed();
    let more = skiff.peak_bytes()?.saturating_sub(resting);
    let per_list = more as f64 / (AT_ONCE as u64 * bytes) as f64;
    table.push(
        pods::row(
            count,
            &format!("{AT_ONCE} LISTs at once: all done, memory more at peak (per list's bytes)"),
            format!("{}, {} ({per_list:.2}x)", duration(took), mebibytes(more)),
        )
        .aim("< 1.1x", per_list < 1.1),
    );
    Ok(())
}

async fn repeat(connection: &mut Connection, call: &Call) -> Result<(Sample, u64)> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        bytes = length(connection, call.clone()).await?;
        taken.push(begun.elapsed());
    }
    Ok((Sample::new(taken), bytes))
}

/// Reads and forgets: gathering the answer would be the client's cost.
async fn length(connection: &mut Connection, call: Call) -> Result<u64> {
    let mut body = connection.open(call).await?.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

async fn paged(connection: &mut Connection, count: usize) -> Result<usize> {
    let (mut token, mut pages, mut items) = (String::new(), 0, 0);
    loop {
        let path = format!("{}?limit={PAGE}&continue={token}", pods::path());
        let body = connection.send(Call::get(path)).await?;
        let list: Value = serde_json::from_slice(&body)?;
        pages += 1;
        items += list["items"].as_array().map_or(0, Vec::len);
        match list["metadata"]["continue"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_string(),
            _ => break,
        }
    }
    ensure!(items == count, "the pages have {items} of {count} pods");
    Ok(pages)
}

async fn gets(endpoint: &Endpoint, skiff: Process, there: usize, table: &mut Table) -> Result<()> {
    let before = skiff.usage()?;
    let begun = Instant::now();
    let tasks = (0..GET_CLIENTS).map(|client| {
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let mut connection = endpoint.connect_http2().await?;
            let (mut taken, mut at) = (Vec::new(), client);
            while begun.elapsed() < GETS {
                at = (at + 7_919) % there;
                let sent = Instant::now();
                connection
                    .send(Call::get(format!("{}/pod-{at:06}", pods::path())))
                    .await?;
                taken.push(sent.elapsed());
            }
            anyhow::Ok(taken)
        })
    });
    let mut all = Vec::new();
    for taken in try_join_all(tasks).await? {
        all.extend(taken?);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let calls = Sample::new(all);
    let used = (skiff.usage()?.cpu_ms - before.cpu_ms) as f64 / 1e3;
    let per_core = calls.len() as f64 / used.max(0.01);
    table.push(
        pods::row(
            there,
            "GET, 16 clients: rate, per second of server CPU, p50 / p99",
            format!(
                "{}/s, {}/s, {}",
                count(calls.len() as f64 / seconds),
                count(per_core),
                calls.told()
            ),
        )
        .aim(format!("> {}/s a core", count(GET_AIM)), per_core > GET_AIM)
        .upstream("2,274/s"),
    );
    Ok(())
}
