//! From bound to Running and Ready, and from a deletion until the pod is gone, as a
//! client that watches sees it; and the same through CRI alone.

use super::Node;
use crate::bench::floor::{Burst, Floor};
use crate::bench::pods::{GRACE_S, IMAGE};
use crate::bench::sample::{Sample, duration};
use crate::bench::table::Row;
use crate::bench::tracker::Tracker;
use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub const NAMESPACE: &str = "default";
const IN_SEQUENCE: usize = 20;
const BURSTS: [usize; 3] = [30, 50, 100];
/// Requests in flight: more than a node ever has of them.
const CALLS_AT_ONCE: usize = 32;
/// By how much our share may exceed the floor.
const SHARE_MAX: f64 = 1.3;

/// What the pods are to be.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    Plain,
    /// Runs this in the image's shell.
    Shell(&'a str),
    /// Is asked once a second over HTTP, at this place under its own name.
    Probed(Ipv4Addr, u16),
}

/// One size's figures.
pub struct Life {
    count: usize,
    limit: usize,
    running: Sample,
    running_total: Duration,
    gone: Sample,
    gone_total: Duration,
    /// Of the agent and of all processes of the node, a pod.
    agent_cpu: Duration,
    node_cpu: Duration,
}

fn pods(node: &Node) -> Api<Pod> {
    Api::namespaced(node.client.clone(), NAMESPACE)
}

pub async fn create_all(node: &Node, names: &[String], wanted: Wanted<'_>) -> Result<()> {
    let api = pods(node);
    let api = &api;
    stream::iter(names)
        .map(|name| async move {
            let mut container = json!({"name": "web", "image": IMAGE});
            match wanted {
                Wanted::Plain => {}
                Wanted::Shell(script) => container["command"] = json!(["/bin/sh", "-c", script]),
                Wanted::Probed(host, port) => {
                    container["readinessProbe"] = json!({
                        "httpGet": {"host": host.to_string(), "port": port, "path": format!("/{name}")},
                        "periodSeconds": 1,
                    });
                }
            }
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {"app": "bench"}},
                "spec": {
                    "nodeName": node.name, "terminationGracePeriodSeconds": GRACE_S, "containers": [container],
                },
            }))?;
            api.create(&PostParams::default(), &pod).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(CALLS_AT_ONCE)
        .try_collect()
        .await
}

/// Deletes every pod of the namespace and waits until all of `names` are gone.
pub async fn delete_all(node: &Node, tracker: &mut Tracker, names: &[String]) -> Result<Instant> {
    let begun = Instant::now();
    pods(node)
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    tracker.gone(names).await?;
    Ok(begun)
}

/// `limit` at a time; a pod is bound when it is created.
async fn life(node: &Node, count: usize, limit: usize) -> Result<Life> {
    let mut tracker = Tracker::start(node.client.clone(), NAMESPACE).await?;
    let names: Vec<String> = (0..count).map(|at| format!("life-{limit}-{at}")).collect();
    let (mut running, mut gone) = (Vec::new(), Vec::new());
    let (mut running_total, mut gone_total) = (Duration::ZERO, Duration::ZERO);
    let before = (node.agent.usage()?, node.host.cpu()?);
    for some in names.chunks(limit) {
        create_all(node, some, Wanted::Plain).await?;
        tracker.running(some).await?;
        let seen: Vec<_> = some.iter().map(|name| tracker.moments(name)).collect();
        let bound = |at: &crate::bench::tracker::Moments| at.scheduled.or(at.running);
        let first = seen.iter().filter_map(bound).min().context("a pod was bound")?;
        let last = seen.iter().filter_map(|at| at.running).max().context("a pod ran")?;
        running_total += last - first;
        running.extend(seen.iter().filter_map(|at| Some(at.running? - bound(at)?)));
        let begun = delete_all(node, &mut tracker, some).await?;
        let ends: Vec<Instant> = some.iter().filter_map(|name| tracker.moments(name).gone).collect();
        gone_total += ends.iter().max().context("a pod is gone")?.duration_since(begun);
        gone.extend(ends.into_iter().map(|at| at - begun));
    }
    let cpu_ms = node.agent.usage()?.cpu_ms - before.0.cpu_ms;
    let pods = u32::try_from(count).unwrap_or(u32::MAX);
    Ok(Life {
        count,
        limit,
        running: Sample::new(running),
        running_total,
        gone: Sample::new(gone),
        gone_total,
        agent_cpu: Duration::from_millis(cpu_ms) / pods,
        node_cpu: (node.host.cpu()? - before.1) / pods,
    })
}

pub async fn measure(node: &Node) -> Result<Vec<Life>> {
    let mut lives = vec![life(node, IN_SEQUENCE, 1).await.context("one at a time")?];
    for count in BURSTS {
        lives.push(
            life(node, count, count)
                .await
                .with_context(|| format!("{count} at once"))?,
        );
    }
    Ok(lives)
}

/// The same sizes as `measure`'s.
pub async fn floor(floor: &mut Floor) -> Result<Vec<Burst>> {
    let mut bursts = vec![floor.burst(IN_SEQUENCE, 1).await?];
    for count in BURSTS {
        bursts.push(floor.burst(count, count).await?);
    }
    Ok(bursts)
}

pub fn rows(lives: &[Life], floor: &[Burst]) -> Vec<Row> {
    lives
        .iter()
        .zip(floor)
        .flat_map(|(life, floor)| told(life, floor))
        .collect()
}

fn told(life: &Life, floor: &Burst) -> Vec<Row> {
    let of = match life.limit {
        1 => format!("{} one at a time", life.count),
        all => format!("{all} at once"),
    };
    let pair = |one: &Sample, total: Duration| match life.limit {
        1 => one.told(),
        _ => format!("{}, total {}", one.told(), duration(total)),
    };
    // One at a time the middle counts, together the end.
    let share = |ours: (&Sample, Duration), theirs: (&Sample, Duration)| {
        let of = |(one, total): (&Sample, Duration)| if life.limit == 1 { one.p50() } else { total };
        of(ours).as_secs_f64() / of(theirs).as_secs_f64()
    };
    let run = share((&life.running, life.running_total), (&floor.each, floor.total));
    let gone = share(
        (&life.gone, life.gone_total),
        (&floor.removed_each, floor.removed_total),
    );
    let mut first = Row::new(
        format!("{of}: bound to Running, p50 / p99"),
        format!("{}; {run:.2}x", pair(&life.running, life.running_total)),
    );
    first = match life.limit {
        1 => first.aim("< 1.3x", run < SHARE_MAX).upstream("510 ms"),
        50 => first
            .aim("< 3 s", life.running_total < Duration::from_secs(3))
            .upstream("7.4 s"),
        _ => first.aim("< 1.3x", run < SHARE_MAX),
    };
    vec![
        first,
        Row::new("  floor: CRI alone", pair(&floor.each, floor.total)),
        Row::new(
            format!("{of}: deleted to gone, p50 / p99"),
            format!("{}; {gone:.2}x", pair(&life.gone, life.gone_total)),
        )
        .aim("< 1.3x", gone < SHARE_MAX),
        Row::new("  floor: CRI alone", pair(&floor.removed_each, floor.removed_total)),
        Row::new(
            format!("{of}: a pod's CPU, all / agent"),
            format!("{} / {}", duration(life.node_cpu), duration(life.agent_cpu)),
        ),
        Row::new("  floor: CRI alone", duration(floor.cpu)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_counts_for_many_and_the_middle_for_one() {
        let ms = Duration::from_millis;
        let life = |limit| Life {
            count: 2,
            limit,
            running: Sample::new(vec![ms(100), ms(200)]),
            running_total: ms(390),
            gone: Sample::new(vec![ms(50)]),
            gone_total: ms(50),
            agent_cpu: ms(3),
            node_cpu: ms(90),
        };
        let floor = Burst {
            each: Sample::new(vec![ms(100), ms(100)]),
            total: ms(100),
            removed_each: Sample::new(vec![ms(50)]),
            removed_total: ms(100),
            cpu: ms(80),
        };
        let expected = [
            Row::new("2 one at a time: bound to Running, p50 / p99", "100 ms / 200 ms; 1.00x")
                .aim("< 1.3x", true)
                .upstream("510 ms"),
            Row::new(
                "30 at once: bound to Running, p50 / p99",
                "100 ms / 200 ms, total 390 ms; 3.90x",
            )
            .aim("< 1.3x", false),
        ];
        assert_eq!([1, 30].map(|limit| told(&life(limit), &floor)[0].clone()), expected);
    }
}
