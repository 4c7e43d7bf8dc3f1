//! What a process takes while nothing happens.

use super::process::{Process, Usage};
use super::sample::{count, mebibytes};
use super::table::Row;
use anyhow::Result;
use std::time::Duration;

/// Start-up work is over by then: caches filled, certificates written.
const SETTLE: Duration = Duration::from_secs(6);
/// Three renewals of a node's lease; CPU is told in steps of 10 ms, a third of a millicore.
const WATCHED: Duration = Duration::from_secs(30);

pub async fn measure(pods: usize, skiff: Process, containerd: Process) -> Result<Vec<Row>> {
    tokio::time::sleep(SETTLE).await;
    let before = (skiff.usage()?, containerd.usage()?);
    tokio::time::sleep(WATCHED).await;
    Ok(rows(pods, before, (skiff.usage()?, containerd.usage()?)))
}

/// `before` and `after` hold skiff's and containerd's counters.
fn rows(pods: usize, before: (Usage, Usage), after: (Usage, Usage)) -> Vec<Row> {
    let seconds = WATCHED.as_secs_f64();
    let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
    let (skiff, containerd) = after;
    let millicores = rate(skiff.cpu_ms, before.0.cpu_ms);
    let of = format!("idle, {pods} pods");
    // Upstream's figures are of a cluster without pods.
    let upstream = |row: Row, figure: &str| if pods == 0 { row.upstream(figure) } else { row };
    vec![
        upstream(
            Row::new(
                format!("{of}: skiff RSS (RssAnon, threads)"),
                format!(
                    "{} ({}, {})",
                    mebibytes(skiff.rss_bytes),
                    mebibytes(skiff.rss_anon_bytes),
                    skiff.threads
                ),
            )
            .aim("< 60 MB", skiff.rss_bytes < 60_000_000),
            "740 MiB",
        ),
        upstream(
            Row::new(format!("{of}: skiff CPU"), format!("{} millicores", count(millicores)))
                .aim("< 5 millicores", millicores < 5.0),
            "46 millicores",
        ),
        Row::new(
            format!("{of}: skiff wake-ups/s, writes/s, KiB written/s"),
            format!(
                "{}, {}, {}",
                count(rate(skiff.voluntary_switches, before.0.voluntary_switches)),
                count(rate(skiff.write_calls, before.0.write_calls)),
                count(rate(skiff.written_bytes, before.0.written_bytes) / 1024.0)
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
    fn a_second_of_cpu_in_thirty_is_33_millicores() {
        let now = Usage {
            cpu_ms: 1_000,
            rss_bytes: 50_000_000,
            ..Usage::default()
        };
        let rows = rows(0, Default::default(), (now, now));
        let expected = Row::new("idle, 0 pods: skiff CPU", "33 millicores")
            .aim("< 5 millicores", false)
            .upstream("46 millicores");
        assert_eq!(rows[1], expected);
    }
}
