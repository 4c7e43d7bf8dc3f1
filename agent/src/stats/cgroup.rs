//! What a cgroup's files say of what its processes have used, in both versions. Reading
//! is apart from understanding, which is pure.

use super::pressure::{self, Pressure};
use std::collections::BTreeMap;
use std::path::Path;

const ROOT: &str = "/sys/fs/cgroup";
/// Ticks of `cpuacct.stat` in a second: USER_HZ is 100 wherever Linux runs.
const TICK_NS: u64 = 10_000_000;
/// v1 says "no limit" with a number near this.
const NO_LIMIT: u64 = 1 << 60;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    pub cpu: Cpu,
    pub memory: Memory,
    /// With [`Depth::All`] only.
    pub more: Option<More>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cpu {
    pub usage_ns: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    pub usage_bytes: u64,
    /// Without file pages that can be dropped at once.
    pub working_set_bytes: u64,
    pub rss_bytes: u64,
    pub cache_bytes: u64,
    pub mapped_bytes: u64,
    pub swap_bytes: u64,
    pub faults: u64,
    pub major_faults: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct More {
    pub processes: u64,
    pub memory_limit_bytes: Option<u64>,
    pub memory_peak_bytes: u64,
    pub memory_failures: u64,
    pub oom_kills: u64,
    pub cpu_shares: Option<u64>,
    pub cpu_quota_us: Option<u64>,
    pub cpu_period_us: u64,
    /// By device, as `8:0`.
    pub io: BTreeMap<String, Io>,
    pub pressure: Pressure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Io {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

/// How much is read: a few files, or all that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    Use,
    All,
}

/// `None` when there is no such cgroup. `/` is the node.
pub fn read(path: &str, depth: Depth) -> Option<Reading> {
    let relative = path.trim_start_matches('/');
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        let dir = Path::new(ROOT).join(relative);
        let file = |name: &str| {
            let found = std::fs::read_to_string(dir.join(name)).ok();
            // Before Linux 6.1 the root has none of its own.
            let machine =
                || std::fs::read_to_string(Path::new("/proc/pressure").join(name.strip_suffix(".pressure")?)).ok();
            found.or_else(|| relative.is_empty().then(machine)?)
        };
        let mut reading = v2(&file, depth)?;
        if relative.is_empty() {
            whole_machine(
                &mut reading.memory,
                &std::fs::read_to_string("/proc/meminfo").unwrap_or_default(),
            );
        }
        return Some(reading);
    }
    let file = |name: &str| {
        let (hierarchy, name) = name.split_once('/')?;
        std::fs::read_to_string(Path::new(ROOT).join(hierarchy).join(relative).join(name)).ok()
    };
    v1(&file, depth)
}

/// What the cgroup's processes may have of memory; none: as much as there is.
pub fn memory_limit(path: &str) -> Option<u64> {
    let (relative, root) = (path.trim_start_matches('/'), Path::new(ROOT));
    let text = |path: &Path| std::fs::read_to_string(path).ok();
    if root.join("cgroup.controllers").exists() {
        // "max" is no number.
        return number(text(&root.join(relative).join("memory.max")));
    }
    let file = root.join("memory").join(relative).join("memory.limit_in_bytes");
    limit_v1(text(&file))
}

fn limit_v1(text: Option<String>) -> Option<u64> {
    number(text).filter(|bytes| *bytes < NO_LIMIT)
}

/// The lines `name value` of a file.
struct Fields<'a>(&'a str);

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<u64> {
        let mut lines = self.0.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', ':']))?;
        line.trim().split(' ').next()?.parse().ok()
    }

    fn or_zero(&self, name: &str) -> u64 {
        self.get(name).unwrap_or(0)
    }
}

fn number(text: Option<String>) -> Option<u64> {
    text?.trim().parse().ok()
}

fn v1(file: &dyn Fn(&str) -> Option<String>, depth: Depth) -> Option<Reading> {
    let usage_bytes = number(file("memory/memory.usage_in_bytes"))?;
    let text = file("memory/memory.stat")?;
    let stat = Fields(&text);
    let mut reading = Reading {
        cpu: Cpu {
            usage_ns: number(file("cpuacct/cpuacct.usage"))?,
            ..Cpu::default()
        },
        memory: Memory {
            usage_bytes,
            working_set_bytes: usage_bytes.saturating_sub(stat.or_zero("total_inactive_file")),
            rss_bytes: stat.or_zero("total_rss"),
            cache_bytes: stat.or_zero("total_cache"),
            mapped_bytes: stat.or_zero("total_mapped_file"),
            swap_bytes: stat.or_zero("total_swap"),
            faults: stat.or_zero("total_pgfault"),
            major_faults: stat.or_zero("total_pgmajfault"),
        },
        more: None,
    };
    if depth == Depth::Use {
        return Some(reading);
    }
    let split = file("cpuacct/cpuacct.stat").unwrap_or_default();
    let bandwidth = file("cpu/cpu.stat").unwrap_or_default();
    let (split, bandwidth) = (Fields(&split), Fields(&bandwidth));
    reading.cpu.user_ns = split.or_zero("user").saturating_mul(TICK_NS);
    reading.cpu.system_ns = split.or_zero("system").saturating_mul(TICK_NS);
    reading.cpu.periods = bandwidth.or_zero("nr_periods");
    reading.cpu.throttled_periods = bandwidth.or_zero("nr_throttled");
    reading.cpu.throttled_ns = bandwidth.or_zero("throttled_time");
    let limited = limit_v1(file("memory/memory.limit_in_bytes"));
    let oom = file("memory/memory.oom_control").unwrap_or_default();
    let mut io = BTreeMap::new();
    for (name, bytes) in [("service_bytes", true), ("serviced", false)] {
        let recursive = file(&format!("blkio/blkio.throttle.io_{name}_recursive"));
        let text = recursive.or_else(|| file(&format!("blkio/blkio.throttle.io_{name}")));
        io_v1(&text.unwrap_or_default(), bytes, &mut io);
    }
    reading.more = Some(More {
        processes: number(file("pids/pids.current")).unwrap_or(0),
        memory_limit_bytes: limited,
        memory_peak_bytes: number(file("memory/memory.max_usage_in_bytes")).unwrap_or(0),
        memory_failures: number(file("memory/memory.failcnt")).unwrap_or(0),
        oom_kills: Fields(&oom).or_zero("oom_kill"),
        cpu_shares: number(file("cpu/cpu.shares")),
        // Without a quota it says -1.
        cpu_quota_us: number(file("cpu/cpu.cfs_quota_us")),
        cpu_period_us: number(file("cpu/cpu.cfs_period_us")).unwrap_or(0),
        io,
        // v1 has none by cgroup.
        pressure: Pressure::default(),
    });
    Some(reading)
}

/// Lines as `8:0 Read 4096`.
fn io_v1(text: &str, bytes: bool, io: &mut BTreeMap<String, Io>) {
    for line in text.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let [device, what, value] = parts.as_slice() else {
            continue;
        };
        let Ok(value) = value.parse() else { continue };
        let entry = io.entry((*device).to_owned()).or_default();
        match (*what, bytes) {
            ("Read", true) => entry.read_bytes = value,
            ("Write", true) => entry.written_bytes = value,
            ("Read", false) => entry.reads = value,
            ("Write", false) => entry.writes = value,
            _ => {}
        }
    }
}

fn v2(file: &dyn Fn(&str) -> Option<String>, depth: Depth) -> Option<Reading> {
    let (cpu, stat) = (file("cpu.stat")?, file("memory.stat")?);
    let (cpu, stat) = (Fields(&cpu), Fields(&stat));
    let us = |name: &str| cpu.or_zero(name).saturating_mul(1_000);
    // The root has no memory.current.
    let counted = stat.or_zero("anon") + stat.or_zero("file") + stat.or_zero("kernel");
    let usage_bytes = number(file("memory.current")).unwrap_or(counted);
    let mut reading = Reading {
        cpu: Cpu {
            usage_ns: cpu.get("usage_usec")?.saturating_mul(1_000),
            user_ns: us("user_usec"),
            system_ns: us("system_usec"),
            periods: cpu.or_zero("nr_periods"),
            throttled_periods: cpu.or_zero("nr_throttled"),
            throttled_ns: us("throttled_usec"),
        },
        memory: Memory {
            usage_bytes,
            working_set_bytes: usage_bytes.saturating_sub(stat.or_zero("inactive_file")),
            rss_bytes: stat.or_zero("anon"),
            cache_bytes: stat.or_zero("file"),
            mapped_bytes: stat.or_zero("file_mapped"),
            swap_bytes: number(file("memory.swap.current")).unwrap_or(0),
            faults: stat.or_zero("pgfault"),
            major_faults: stat.or_zero("pgmajfault"),
        },
        more: None,
    };
    if depth == Depth::Use {
        return Some(reading);
    }
    let events = file("memory.events").unwrap_or_default();
    let events = Fields(&events);
    let bandwidth = file("cpu.max").unwrap_or_default();
    let (quota, period) = bandwidth.trim().split_once(' ').unwrap_or(("max", "100000"));
    reading.more = Some(More {
        processes: number(file("pids.current")).unwrap_or(0),
        // "max" is no number.
        memory_limit_bytes: number(file("memory.max")),
        memory_peak_bytes: number(file("memory.peak")).unwrap_or(0),
        memory_failures: events.or_zero("max"),
        oom_kills: events.or_zero("oom_kill"),
        cpu_shares: number(file("cpu.weight")).map(shares),
        cpu_quota_us: quota.parse().ok(),
        cpu_period_us: period.parse().unwrap_or(0),
        io: io_v2(&file("io.stat").unwrap_or_default()),
        pressure: pressure::read(file),
    });
    Some(reading)
}

/// Lines as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn io_v2(text: &str) -> BTreeMap<String, Io> {
    let read = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let get = |name: &str| {
            let value = rest
                .split(' ')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|v| v.parse().ok()).unwrap_or(0)
        };
        let io = Io {
            read_bytes: get("rbytes"),
            written_bytes: get("wbytes"),
            reads: get("rios"),
            writes: get("wios"),
        };
        Some((device.to_owned(), io))
    };
    text.lines().filter_map(read).collect()
}

/// Weights (1..10000) as the shares (2..262144) that they were made from.
fn shares(weight: u64) -> u64 {
    2 + weight.saturating_sub(1) * 262_142 / 9_999
}

/// v2's root cgroup counts no memory: the machine does.
fn whole_machine(memory: &mut Memory, meminfo: &str) {
    let info = Fields(meminfo);
    let bytes = |name: &str| {
        let mut lines = info.0.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|l| l.trim().split(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0)
            * 1_024
    };
    memory.usage_bytes = bytes("MemTotal").saturating_sub(bytes("MemFree"));
    memory.working_set_bytes = memory.usage_bytes.saturating_sub(bytes("Inactive(file)"));
    memory.swap_bytes = bytes("SwapTotal").saturating_sub(bytes("SwapFree"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(all: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| all.iter().find(|(n, _)| *n == name).map(|(_, text)| (*text).to_owned())
    }

    const V1: &[(&str, &str)] = &[
        ("memory/memory.usage_in_bytes", "300\n"),
        (
            "memory/memory.stat",
            "cache 1\nrss 2\ninactive_file 7\ntotal_cache 150\ntotal_rss 50\ntotal_mapped_file 20\n\
             total_swap 5\ntotal_pgfault 11\ntotal_pgmajfault 3\ntotal_inactive_file 100\n",
        ),
        ("cpuacct/cpuacct.usage", "5000000000\n"),
        ("cpuacct/cpuacct.stat", "user 300\nsystem 200\n"),
        ("cpu/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 2000\n"),
        ("cpu/cpu.shares", "512\n"),
        ("cpu/cpu.cfs_quota_us", "-1\n"),
        ("cpu/cpu.cfs_period_us", "100000\n"),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory/memory.max_usage_in_bytes", "400\n"),
        ("memory/memory.failcnt", "2\n"),
        (
            "memory/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        ),
        ("pids/pids.current", "6\n"),
        (
            "blkio/blkio.throttle.io_service_bytes_recursive",
            "8:0 Read 4096\n8:0 Write 8192\nTotal 12288\n",
        ),
        (
            "blkio/blkio.throttle.io_serviced_recursive",
            "8:0 Read 1\n8:0 Write 2\n",
        ),
    ];
    const V2: &[(&str, &str)] = &[
        ("memory.current", "300\n"),
        (
            "memory.stat",
            "anon 50\nfile 150\nkernel 10\nfile_mapped 20\ninactive_file 100\npgfault 11\npgmajfault 3\n",
        ),
        (
            "cpu.stat",
            "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 2\n",
        ),
        ("memory.swap.current", "5\n"),
        ("memory.max", "max\n"),
        ("memory.peak", "400\n"),
        ("memory.events", "low 0\nhigh 0\nmax 2\noom 1\noom_kill 1\n"),
        ("cpu.weight", "20\n"),
        ("cpu.max", "max 100000\n"),
        ("pids.current", "6\n"),
        ("io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"),
    ];

    #[test]
    fn both_versions_say_the_same() {
        let one = v1(&files(V1), Depth::All).expect("a reading");
        let mut two = v2(&files(V2), Depth::All).expect("a reading");
        if let Some(more) = &mut two.more {
            assert_eq!(more.cpu_shares, Some(500), "weights are coarser than shares");
            more.cpu_shares = Some(512);
        }
        assert_eq!(one, two);
        assert_eq!((one.memory.working_set_bytes, one.cpu.user_ns), (200, 3_000_000_000));
        let more = one.more.expect("all");
        assert_eq!(
            (more.memory_limit_bytes, more.cpu_quota_us, more.oom_kills),
            (None, None, 1)
        );
        assert_eq!(more.io["8:0"].written_bytes, 8_192);
    }

    #[test]
    fn what_is_not_there_is_no_reading() {
        assert_eq!(v1(&files(&[]), Depth::Use), None);
        assert_eq!(v2(&files(&V2[2..3]), Depth::Use), None);
    }

    #[test]
    fn the_machine_stands_for_the_root() {
        let mut memory = Memory::default();
        whole_machine(
            &mut memory,
            "MemTotal: 100 kB\nMemFree: 40 kB\nInactive(file):  10 kB\nSwapTotal: 8 kB\nSwapFree: 2 kB\n",
        );
        assert_eq!(
            (memory.usage_bytes, memory.working_set_bytes, memory.swap_bytes),
            (61_440, 51_200, 6_144)
        );
    }
}
