//! What the kernel tells about a process of a test host.

use anyhow::{Context, Result};
use std::path::Path;

/// Ticks of `/proc/PID/stat`: USER_HZ, which is 100 on every architecture Linux has.
const TICKS_PER_S: u64 = 100;

/// As this machine sees it; inside its host the process has another number.
#[derive(Debug, Clone, Copy)]
pub struct Process(i32);

/// Counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_ms: u64,
    pub rss_bytes: u64,
    /// What is not backed by files: heap and stacks.
    pub rss_anon_bytes: u64,
    pub threads: u64,
    pub voluntary_switches: u64,
    pub written_bytes: u64,
    pub write_calls: u64,
}

impl Process {
    /// The process whose number in the host of process `host` is in `pid_file`.
    pub fn of_host(host: i32, pid_file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(pid_file).with_context(|| format!("cannot read {}", pid_file.display()))?;
        let inside: i32 = text.trim().parse().context("a pid file holds a number")?;
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let wanted = namespace(host).context("the host is gone")?;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let innermost = field(&status, "NSpid:").and_then(|ids| ids.split_whitespace().last()?.parse().ok());
            if innermost == Some(inside) && namespace(pid).as_ref() == Some(&wanted) {
                return Ok(Self(pid));
            }
        }
        anyhow::bail!("process {inside} of the host does not run")
    }

    pub fn pid(self) -> i32 {
        self.0
    }

    /// Forgets the highest memory use so far.
    pub fn reset_peak(self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.0), "5").context("cannot reset the memory's peak")
    }

    /// The highest memory use since.
    pub fn peak_bytes(self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0))?;
        Ok(number(&status, "VmHWM:") << 10)
    }

    pub fn usage(self) -> Result<Usage> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.0))
                .with_context(|| format!("process {} is gone", self.0))
        };
        let mut usage = parse(&read("stat")?, &read("status")?, &read("io").unwrap_or_default());
        // The process' own line counts its main thread alone.
        usage.voluntary_switches = 0;
        for entry in std::fs::read_dir(format!("/proc/{}/task", self.0))?.flatten() {
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            usage.voluntary_switches += number(&status, "voluntary_ctxt_switches:");
        }
        Ok(usage)
    }
}

fn parse(stat: &str, status: &str, io: &str) -> Usage {
    // The name in parentheses may hold anything.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let columns: Vec<u64> = after
        .split_whitespace()
        .map(|column| column.parse().unwrap_or(0))
        .collect();
    let ticks = |at: usize| columns.get(at).copied().unwrap_or(0);
    Usage {
        cpu_ms: (ticks(11) + ticks(12)) * 1_000 / TICKS_PER_S,
        rss_bytes: number(status, "VmRSS:") << 10,
        rss_anon_bytes: number(status, "RssAnon:") << 10,
        threads: number(status, "Threads:"),
        voluntary_switches: number(status, "voluntary_ctxt_switches:"),
        written_bytes: number(io, "write_bytes:"),
        write_calls: number(io, "syscw:"),
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn number(text: &str, name: &str) -> u64 {
    field(text, name)
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 9 0 100 1 2 3";
        let status = "Name:\ta\nVmRSS:\t  2048 kB\nRssAnon:\t1024 kB\nThreads:\t9\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t99\n";
        let io = "rchar: 1\nsyscw: 3\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n";
        let expected = Usage {
            cpu_ms: 1_750,
            rss_bytes: 2 << 20,
            rss_anon_bytes: 1 << 20,
            threads: 9,
            voluntary_switches: 12,
            written_bytes: 4096,
            write_calls: 3,
        };
        assert_eq!(parse(stat, status, io), expected);
        assert!(
            Process(std::process::id().cast_signed())
                .usage()
                .expect("own usage")
                .rss_bytes
                > 0
        );
    }
}
