//! What the agent takes while its pods only stand there.

use super::Node;
use super::life::{self, Wanted};
use crate::bench::process::Usage;
use crate::bench::sample::{count, mebibytes};
use crate::bench::table::Row;
use crate::bench::tracker::Tracker;
use anyhow::Result;
use std::time::Duration;

/// Events are written and memory is given back by then.
const SETTLE: Duration = Duration::from_secs(8);
/// Four renewals of the lease; CPU is told in steps of 10 ms, a quarter of a millicore.
const WATCHED: Duration = Duration::from_secs(40);
/// None, upstream's customary number, and as many as a node takes.
const PODS: [usize; 3] = [0, 30, 110];

pub async fn measure(node: &Node) -> Result<Vec<Row>> {
    let mut tracker = Tracker::start(node.client.clone(), life::NAMESPACE).await?;
    let mut standing = Vec::new();
    let mut rows = Vec::new();
    for pods in PODS {
        let more: Vec<String> = (standing.len()..pods).map(|at| format!("standing-{at}")).collect();
        life::create_all(node, &more, Wanted::Plain).await?;
        tracker.running(&more).await?;
        standing.extend(more);
        tokio::time::sleep(SETTLE).await;
        let before = (node.agent.usage()?, node.containerd.usage()?);
        tokio::time::sleep(WATCHED).await;
        let after = (node.agent.usage()?, node.containerd.usage()?);
        rows.extend(told(pods, before, after));
    }
    life::delete_all(node, &mut tracker, &standing).await?;
    Ok(rows)
}

/// `before` and `after` hold the agent's and containerd's counters.
fn told(pods: usize, before: (Usage, Usage), after: (Usage, Usage)) -> Vec<Row> {
    let seconds = WATCHED.as_secs_f64();
    let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
    let (agent, containerd) = after;
    let millicores = rate(agent.cpu_ms, before.0.cpu_ms);
    let of = format!("idle, {pods} pods");
    // Upstream's figure is one of 30 pods.
    let upstream = |row: Row, figure: &str| if pods == 30 { row.upstream(figure) } else { row };
    vec![
        upstream(
            Row::new(
                format!("{of}: agent RSS (RssAnon, threads)"),
                format!(
                    "{} ({}, {})",
                    mebibytes(agent.rss_bytes),
                    mebibytes(agent.rss_anon_bytes),
                    agent.threads
                ),
            )
            .aim("< 40 MB", agent.rss_bytes < 40_000_000),
            "102 MiB",
        ),
        upstream(
            Row::new(format!("{of}: agent CPU"), format!("{} millicores", count(millicores)))
                .aim("< 5 millicores", millicores < 5.0),
            "18 millicores",
        ),
        Row::new(
            format!("{of}: agent wake-ups/s, writes/s, KiB written/s"),
            format!(
                "{}, {}, {}",
                count(rate(agent.voluntary_switches, before.0.voluntary_switches)),
                count(rate(agent.write_calls, before.0.write_calls)),
                count(rate(agent.written_bytes, before.0.written_bytes) / 1024.0)
            ),
        ),
        Row::new(
            format!("{of}: containerd RSS, CPU"),
            format!(
                "{}, {} millicores",
                mebibytes(containerd.rss_bytes),
                count(rate(containerd.cpu_ms, before.1.cpu_ms))
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_a_second_in_forty_is_5_millicores() {
        let now = Usage {
            cpu_ms: 200,
            rss_bytes: 39_000_000,
            ..Usage::default()
        };
        let rows = told(30, Default::default(), (now, now));
        let expected = Row::new("idle, 30 pods: agent CPU", "5.0 millicores")
            .aim("< 5 millicores", false)
            .upstream("18 millicores");
        assert_eq!(rows[1], expected);
    }
}
