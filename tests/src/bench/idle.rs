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

/// Whose rest is told, and what it should be.
pub struct Rest {
    pub who: &'static str,
    pub rss_mb_max: u64,
    pub watched: Duration,
    /// Memory and CPU of upstream's components in the same case.
    pub upstream: Option<[&'static str; 2]>,
}

pub async fn measure(pods: usize, skiff: Process, containerd: Process) -> Result<Vec<Row>> {
    tokio::time::sleep(SETTLE).await;
    let before = (skiff.usage()?, containerd.usage()?);
    tokio::time::sleep(WATCHED).await;
    let rest = Rest {
        who: "skiff",
        rss_mb_max: 60,
        watched: WATCHED,
        // Upstream's figures are of a cluster without pods.
        upstream: (pods == 0).then_some(["740 MiB", "46 millicores"]),
    };
    Ok(rest.rows(pods, before, (skiff.usage()?, containerd.usage()?)))
}

impl Rest {
    /// `before` and `after` hold its own and containerd's counters.
    pub fn rows(&self, pods: usize, before: (Usage, Usage), after: (Usage, Usage)) -> Vec<Row> {
        let seconds = self.watched.as_secs_f64();
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let (own, containerd) = after;
        let millicores = rate(own.cpu_ms, before.0.cpu_ms);
        let of = format!("idle, {pods} pods");
        let who = self.who;
        let mut memory = Row::new(
            format!("{of}: {who} RSS (RssAnon, threads)"),
            format!(
                "{} ({}, {})",
                mebibytes(own.rss_bytes),
                mebibytes(own.rss_anon_bytes),
                own.threads
            ),
        )
        .aim(
            format!("< {} MB", self.rss_mb_max),
            own.rss_bytes < self.rss_mb_max * 1_000_000,
        );
        let mut cpu = Row::new(format!("{of}: {who} CPU"), format!("{} millicores", count(millicores)))
            .aim("< 5 millicores", millicores < 5.0);
        if let Some([memory_known, cpu_known]) = self.upstream {
            (memory, cpu) = (memory.upstream(memory_known), cpu.upstream(cpu_known));
        }
        vec![
            memory,
            cpu,
            Row::new(
                format!("{of}: {who} wake-ups/s, writes/s, KiB written/s"),
                format!(
                    "{}, {}, {}",
                    count(rate(own.voluntary_switches, before.0.voluntary_switches)),
                    count(rate(own.write_calls, before.0.write_calls)),
                    count(rate(own.written_bytes, before.0.written_bytes) / 1024.0)
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
        let rest = Rest {
            who: "skiff",
            rss_mb_max: 60,
            watched: Duration::from_secs(30),
            upstream: Some(["740 MiB", "46 millicores"]),
        };
        let rows = rest.rows(0, Default::default(), (now, now));
        let expected = Row::new("idle, 0 pods: skiff CPU", "33 millicores")
            .aim("< 5 millicores", false)
            .upstream("46 millicores");
        assert_eq!(rows[1], expected);
    }
}
