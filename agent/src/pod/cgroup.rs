//! The pod's cgroup: made with its limits before the sandbox, removed after, and what
//! its processes have used. Cgroup v1 and v2; what is written and how it is read is pure.

use super::resources::PodLimits;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

fn write(path: PathBuf, value: &str) {
    if let Err(error) = std::fs::write(&path, value) {
        tracing::debug!(%error, path = %path.display(), "cannot set a cgroup's value");
    }
}

/// The kernel's own conversion of shares (2..262144) to weights (1..10000).
fn weight(shares: i64) -> i64 {
    1 + (shares - 2) * 9_999 / 262_142
}

/// Hierarchy (v1 only), file and value.
fn settings(limits: &PodLimits, v2: bool) -> Vec<(&'static str, &'static str, String)> {
    let mut all = Vec::new();
    if v2 {
        all.push(("", "cpu.weight", weight(limits.cpu_shares).to_string()));
        let quota = limits.cpu_quota_us.map_or("max".into(), |q| q.to_string());
        all.push(("", "cpu.max", format!("{quota} 100000")));
        all.extend(limits.memory_bytes.map(|b| ("", "memory.max", b.to_string())));
    } else {
        all.push(("cpu", "cpu.shares", limits.cpu_shares.to_string()));
        if let Some(quota) = limits.cpu_quota_us {
            all.push(("cpu", "cpu.cfs_period_us", "100000".into()));
            all.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
        }
        let memory = limits.memory_bytes;
        all.extend(memory.map(|b| ("memory", "memory.limit_in_bytes", b.to_string())));
    }
    all
}

/// `path` as `/kubepods/burstable/pod<uid>`.
pub fn create(path: &str, limits: &PodLimits) {
    let relative = path.trim_start_matches('/');
    let v2 = is_v2();
    if v2 {
        let mut dir = PathBuf::from(ROOT);
        for part in relative.split('/') {
            write(dir.join("cgroup.subtree_control"), "+cpu +memory +pids +cpuset +io");
            dir.push(part);
            let _ = std::fs::create_dir(&dir);
        }
    } else {
        for hierarchy in ["cpu", "memory"] {
            let _ = std::fs::create_dir_all(Path::new(ROOT).join(hierarchy).join(relative));
        }
    }
    // Pods that ask for nothing share what one idle process would get.
    if let Some((parent, _)) = relative.rsplit_once('/').filter(|(p, _)| p.ends_with("besteffort")) {
        let (dir, file, value) = if v2 {
            ("", "cpu.weight", "1")
        } else {
            ("cpu", "cpu.shares", "2")
        };
        write(Path::new(ROOT).join(dir).join(parent).join(file), value);
    }
    for (hierarchy, file, value) in settings(limits, v2) {
        write(Path::new(ROOT).join(hierarchy).join(relative).join(file), &value);
    }
}

/// Removes the cgroup and its (empty) children in every hierarchy.
pub fn remove(path: &str) {
    let relative = path.trim_start_matches('/');
    if is_v2() {
        return remove_tree(&Path::new(ROOT).join(relative));
    }
    for hierarchy in std::fs::read_dir(ROOT).into_iter().flatten().flatten() {
        remove_tree(&hierarchy.path().join(relative));
    }
}

fn remove_tree(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

/// What the processes of a cgroup and of those below it have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub cpu_ns: u64,
    pub memory_bytes: u64,
    /// Without file pages that can be dropped at once.
    pub working_set_bytes: u64,
    pub rss_bytes: u64,
}

/// `None` when there is no such cgroup. `/` is the node.
pub fn usage(path: &str) -> Option<Usage> {
    let relative = path.trim_start_matches('/');
    let read = |hierarchy: &str, file: &str| {
        std::fs::read_to_string(Path::new(ROOT).join(hierarchy).join(relative).join(file)).ok()
    };
    if is_v2() {
        // The root has no memory.current; its sum is in the node's memory information.
        let current = read("", "memory.current").unwrap_or_default();
        return usage_v2(&read("", "cpu.stat")?, &current, &read("", "memory.stat")?);
    }
    usage_v1(
        &read("cpuacct", "cpuacct.usage")?,
        &read("memory", "memory.usage_in_bytes")?,
        &read("memory", "memory.stat")?,
    )
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.trim().parse().ok()
}

fn usage_v1(cpuacct: &str, memory: &str, stat: &str) -> Option<Usage> {
    let memory_bytes: u64 = memory.trim().parse().ok()?;
    Some(Usage {
        cpu_ns: cpuacct.trim().parse().ok()?,
        memory_bytes,
        working_set_bytes: memory_bytes.saturating_sub(field(stat, "total_inactive_file").unwrap_or(0)),
        rss_bytes: field(stat, "total_rss").unwrap_or(0),
    })
}

fn usage_v2(cpu_stat: &str, current: &str, stat: &str) -> Option<Usage> {
    let rss_bytes = field(stat, "anon").unwrap_or(0);
    let counted = current.trim().parse().ok();
    let memory_bytes = counted.unwrap_or(rss_bytes + field(stat, "file").unwrap_or(0));
    Some(Usage {
        cpu_ns: field(cpu_stat, "usage_usec")?.saturating_mul(1_000),
        memory_bytes,
        working_set_bytes: memory_bytes.saturating_sub(field(stat, "inactive_file").unwrap_or(0)),
        rss_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_both_versions() {
        let limits = PodLimits {
            cpu_shares: 512,
            cpu_quota_us: Some(50_000),
            memory_bytes: Some(1 << 20),
        };
        let none = PodLimits {
            cpu_shares: 2,
            cpu_quota_us: None,
            memory_bytes: None,
        };
        let shown = |limits: &PodLimits, v2: bool| -> Vec<String> {
            settings(limits, v2)
                .iter()
                .map(|(h, f, v)| format!("{h}/{f}={v}"))
                .collect()
        };
        assert_eq!(
            shown(&limits, true),
            ["/cpu.weight=20", "/cpu.max=50000 100000", "/memory.max=1048576"]
        );
        assert_eq!(shown(&none, true), ["/cpu.weight=1", "/cpu.max=max 100000"]);
        assert_eq!(
            shown(&limits, false),
            [
                "cpu/cpu.shares=512",
                "cpu/cpu.cfs_period_us=100000",
                "cpu/cpu.cfs_quota_us=50000",
                "memory/memory.limit_in_bytes=1048576"
            ]
        );
        assert_eq!(shown(&none, false), ["cpu/cpu.shares=2"]);
        assert_eq!((weight(2), weight(262_144)), (1, 10_000));
    }

    #[test]
    fn usage_of_both_versions() {
        let one = usage_v1(
            "5000\n",
            "300\n",
            "inactive_file 7\ntotal_inactive_file 100\ntotal_rss 50\n",
        );
        let two = usage_v2(
            "usage_usec 5\nuser_usec 3\n",
            "300\n",
            "anon 50\nfile 9\ninactive_file 100\n",
        );
        let expected = Usage {
            cpu_ns: 5_000,
            memory_bytes: 300,
            working_set_bytes: 200,
            rss_bytes: 50,
        };
        assert_eq!((one, two), (Some(expected), Some(expected)));
        assert_eq!(usage_v1("", "1", ""), None);
    }
}
