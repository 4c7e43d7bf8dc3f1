//! From a pod's creation until a watching client sees it Running and Ready.

use super::process::Process;
use super::sample::{Sample, duration};
use super::table::Row;
use super::tracker::Tracker;
use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::time::{Duration, Instant};

pub const NAMESPACE: &str = "default";
pub const IMAGE: &str = concat!("skiff.local/web:", env!("CARGO_PKG_VERSION"));
pub const IN_SEQUENCE: usize = 20;
pub const AT_ONCE: usize = 50;
/// Requests in flight: as many as a client with one connection pool would have.
const CALLS_AT_ONCE: usize = 16;
/// The containers end at TERM; this is only what they are given at most.
pub const GRACE_S: u32 = 5;

pub async fn create(client: &Client, name: &str) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"containers": [{"name": "web", "image": IMAGE}]},
    }))?;
    api.create(&PostParams::default(), &pod).await?;
    Ok(())
}

/// Creates them together; when each call began.
pub async fn create_all(client: &Client, names: &[String]) -> Result<Vec<Instant>> {
    stream::iter(names)
        .map(|name| async move {
            let begun = Instant::now();
            create(client, name).await.map(|()| begun)
        })
        .buffered(CALLS_AT_ONCE)
        .try_collect()
        .await
}

/// Deletes every pod and waits until all of `names` are gone; how long that took.
pub async fn delete_all(client: &Client, tracker: &mut Tracker, names: &[String]) -> Result<Duration> {
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let begun = Instant::now();
    api.delete_collection(&DeleteParams::default().grace_period(GRACE_S), &ListParams::default())
        .await?;
    tracker.gone(names).await?;
    Ok(begun.elapsed())
}

/// Names of the pods that are there.
pub async fn existing(client: &Client) -> Result<Vec<String>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let list = api.list_metadata(&ListParams::default()).await?;
    Ok(list.items.into_iter().filter_map(|pod| pod.metadata.name).collect())
}

pub fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{prefix}-{at}")).collect()
}

/// What a run through the API took; `floor` tells the same through CRI alone.
#[derive(Debug, Default)]
pub struct Timings {
    pub sequence: Sample,
    pub together: Sample,
    pub together_total: Duration,
}

/// The pods' latencies, and rows that go beside them.
pub async fn measure(client: &Client, skiff: Process) -> Result<(Timings, Vec<Row>)> {
    let mut tracker = Tracker::start(client.clone(), NAMESPACE).await?;
    let (mut latencies, mut scheduling) = (Vec::new(), Vec::new());
    let alone = names("sequence", IN_SEQUENCE);
    for name in &alone {
        let begun = Instant::now();
        create(client, name).await?;
        tracker.running(std::slice::from_ref(name)).await?;
        let moments = tracker.moments(name);
        latencies.push(moments.running.context("it was seen running")? - begun);
        scheduling.extend(moments.scheduled.map(|at| at - begun));
    }
    delete_all(client, &mut tracker, &alone).await?;

    let together = names("together", AT_ONCE);
    let before = skiff.usage()?;
    let begun = Instant::now();
    let created = create_all(client, &together).await?;
    let accepted = begun.elapsed();
    tracker.running(&together).await?;
    let mut each = Vec::new();
    let mut last = begun;
    for (name, created) in together.iter().zip(created) {
        let running = tracker.moments(name).running.context("it was seen running")?;
        each.push(running - created);
        last = last.max(running);
    }
    let deleted = delete_all(client, &mut tracker, &together).await?;
    let cpu = Duration::from_millis(skiff.usage()?.cpu_ms - before.cpu_ms) / AT_ONCE as u32;
    let rows = vec![
        Row::new(
            "  of that, create to scheduled, p50 / p99",
            Sample::new(scheduling).told(),
        ),
        Row::new(format!("{AT_ONCE} at once: all created after"), duration(accepted)),
        Row::new(format!("{AT_ONCE} deleted together, until gone"), duration(deleted)),
        Row::new("skiff CPU per pod, from create to gone", duration(cpu)),
    ];
    let timings = Timings {
        sequence: Sample::new(latencies),
        together: Sample::new(each),
        together_total: last - begun,
    };
    Ok((timings, rows))
}

pub fn rows(api: &Timings, more: Vec<Row>, floor: Option<&Timings>) -> Vec<Row> {
    let median = api.sequence.p50();
    let total = api.together_total;
    let mut rows = vec![
        Row::new(
            format!("pod create to Running, {} in sequence, p50 / p99", api.sequence.len()),
            api.sequence.told(),
        )
        .aim("< 200 ms", median < Duration::from_millis(200))
        .upstream("510 ms"),
        Row::new(
            format!("pod create to Running, {} at once, p50 / p99", api.together.len()),
            api.together.told(),
        ),
        Row::new(format!("{} at once, total", api.together.len()), duration(total))
            .aim("< 4 s", total < Duration::from_secs(4))
            .upstream("7.4 s"),
    ];
    let mut more = more.into_iter();
    rows.splice(1..1, more.by_ref().take(1));
    rows.extend(more);
    if let Some(floor) = floor {
        rows.extend([
            Row::new(
                format!("floor: CRI alone, {} in sequence, p50 / p99", floor.sequence.len()),
                floor.sequence.told(),
            ),
            Row::new(
                format!("floor: CRI alone, {} at once, p50 / p99", floor.together.len()),
                floor.together.told(),
            ),
            Row::new(
                format!("floor: CRI alone, {} at once, total", floor.together.len()),
                duration(floor.together_total),
            ),
        ]);
    }
    rows
}
