//! Cgroups of pods, of their classes and of all pods together: made with their limits,
//! changed and removed. Cgroup v1 and v2; what is written and how it is read is pure.
//!
//! ```text
//! kubepods (what pods may use of the node) --+-- pod<uid>              Guaranteed
//!                                            +-- burstable/pod<uid>
//!                                            +-- besteffort/pod<uid>   --- <container id>
//! ```

use super::resources::PodLimits;
use super::resources::kernel::{Host, cpu_weight};
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// Each is turned on by itself, since the kernel refuses a list with one that it lacks.
const CONTROLLERS: [&str; 6] = ["cpu", "memory", "pids", "cpuset", "io", "hugetlb"];

fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// What the kernel can do here, besides the memory that it has. The cgroup of all pods is there.
pub fn host(memory_bytes: i64, root: &str) -> Host {
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    let kib = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
    let mut page_sizes: Vec<u64> = sizes
        .filter_map(|entry| Some(kib(entry.file_name().to_str()?)? * 1_024))
        .collect();
    page_sizes.sort_unstable();
    let cgroup_v2 = is_v2();
    let swap_file = if cgroup_v2 {
        // The hierarchy's root has no such file, and the agent itself may be in there.
        Path::new(ROOT).join(root).join("memory.swap.max")
    } else {
        Path::new(ROOT).join("memory/memory.memsw.limit_in_bytes")
    };
    Host {
        memory_bytes,
        page_sizes,
        cgroup_v2,
        counts_swap: swap_file.exists(),
    }
}

fn write(path: &Path, value: &str) {
    if let Err(error) = std::fs::write(path, value) {
        tracing::debug!(%error, path = %path.display(), "cannot set a cgroup's value");
    }
}

/// One value of a cgroup, as the kernel's version at hand names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    CpuShares(i64),
    /// None: unlimited.
    CpuQuotaUs(Option<i64>),
    Memory(i64),
    Pids(i64),
}

/// Hierarchy (v1 only), file and text.
type Setting = (&'static str, String, String);

fn setting(value: Value, v2: bool) -> Setting {
    let (hierarchy, file, text) = match (value, v2) {
        (Value::CpuShares(shares), true) => ("", "cpu.weight", cpu_weight(shares).to_string()),
        (Value::CpuShares(shares), false) => ("cpu", "cpu.shares", shares.to_string()),
        (Value::CpuQuotaUs(quota), true) => {
            let quota = quota.map_or("max".into(), |q| q.to_string());
            ("", "cpu.max", format!("{quota} 100000"))
        }
        (Value::CpuQuotaUs(quota), false) => ("cpu", "cpu.cfs_quota_us", quota.unwrap_or(-1).to_string()),
        (Value::Memory(bytes), true) => ("", "memory.max", bytes.to_string()),
        (Value::Memory(bytes), false) => ("memory", "memory.limit_in_bytes", bytes.to_string()),
        (Value::Pids(count), true) => ("", "pids.max", count.to_string()),
        (Value::Pids(count), false) => ("pids", "pids.max", count.to_string()),
    };
    (hierarchy, file.to_owned(), text)
}

fn settings(limits: &PodLimits, v2: bool) -> Vec<Setting> {
    let mut all = vec![Value::CpuShares(limits.cpu_shares)];
    if v2 || limits.cpu_quota_us.is_some() {
        all.push(Value::CpuQuotaUs(limits.cpu_quota_us));
    }
    all.extend(limits.memory_bytes.map(Value::Memory));
    all.extend(limits.pids_max.map(Value::Pids));
    let mut all: Vec<Setting> = all.into_iter().map(|value| setting(value, v2)).collect();
    for (size, bytes) in &limits.hugepages {
        let (hierarchy, file) = if v2 { ("", "max") } else { ("hugetlb", "limit_in_bytes") };
        all.push((hierarchy, format!("hugetlb.{size}.{file}"), bytes.to_string()));
    }
    all
}

fn place(hierarchy: &str, path: &str) -> PathBuf {
    Path::new(ROOT).join(hierarchy).join(path.trim_start_matches('/'))
}

fn make(path: &str) {
    let relative = path.trim_start_matches('/');
    if is_v2() {
        let mut dir = PathBuf::from(ROOT);
        for part in relative.split('/') {
            for controller in CONTROLLERS {
                write(&dir.join("cgroup.subtree_control"), &format!("+{controller}"));
            }
            dir.push(part);
            let _ = std::fs::create_dir(&dir);
        }
        return;
    }
    for hierarchy in ["cpu", "memory", "pids", "hugetlb"] {
        if Path::new(ROOT).join(hierarchy).exists() {
            let _ = std::fs::create_dir_all(place(hierarchy, relative));
        }
    }
}

/// Makes the cgroup, e.g. `/kubepods/burstable/pod<uid>`, and sets its limits.
pub fn create(path: &str, limits: &PodLimits) {
    make(path);
    for (hierarchy, file, text) in settings(limits, is_v2()) {
        let file = place(hierarchy, path).join(file);
        if file.exists() {
            write(&file, &text);
        }
    }
}

/// Changes one value of a cgroup that is there.
pub fn set(path: &str, value: Value) -> io::Result<()> {
    let (hierarchy, file, text) = setting(value, is_v2());
    std::fs::write(place(hierarchy, path).join(file), text)
}

/// Makes the cgroups of the classes and gives those of all Burstable pods, together,
/// the CPU that these ask for. BestEffort pods share what one idle process would get.
pub fn set_classes(root: &str, burstable_shares: i64) {
    for (class, shares) in [("burstable", burstable_shares), ("besteffort", 2)] {
        let path = format!("/{root}/{class}");
        make(&path);
        let _ = set(&path, Value::CpuShares(shares));
    }
}

/// The limits of a pod's cgroup as they are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Current {
    pub cpu_shares: i64,
    pub cpu_quota_us: Option<i64>,
    pub memory_bytes: Option<i64>,
    pub memory_used_bytes: u64,
}

pub fn current(path: &str) -> Option<Current> {
    let read = |hierarchy: &str, file: &str| std::fs::read_to_string(place(hierarchy, path).join(file)).ok();
    if is_v2() {
        return current_v2(
            &read("", "cpu.weight")?,
            &read("", "cpu.max")?,
            &read("", "memory.max")?,
        )
        .map(|found| Current {
            memory_used_bytes: memory_used(path),
            ..found
        });
    }
    current_v1(
        &read("cpu", "cpu.shares")?,
        &read("cpu", "cpu.cfs_quota_us")?,
        &read("memory", "memory.limit_in_bytes")?,
    )
    .map(|found| Current {
        memory_used_bytes: memory_used(path),
        ..found
    })
}

fn current_v1(shares: &str, quota: &str, memory: &str) -> Option<Current> {
    /// What the kernel shows where nothing is limited is the most that pages can count.
    const UNLIMITED: i64 = 1 << 62;
    let number = |text: &str| text.trim().parse::<i64>().ok();
    Some(Current {
        cpu_shares: number(shares)?,
        cpu_quota_us: number(quota).filter(|q| *q > 0),
        memory_bytes: number(memory).filter(|m| *m < UNLIMITED),
        memory_used_bytes: 0,
    })
}

/// A weight stands for several counts of shares; the least of them is told.
fn current_v2(weight: &str, max: &str, memory: &str) -> Option<Current> {
    let weight: i64 = weight.trim().parse().ok()?;
    let (mut low, mut high) = (2_i64, 262_144_i64);
    while low < high {
        let middle = i64::midpoint(low, high);
        if cpu_weight(middle) < weight {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Some(Current {
        cpu_shares: low,
        cpu_quota_us: max.split_whitespace().next().and_then(|q| q.parse().ok()),
        memory_bytes: memory.trim().parse().ok(),
        memory_used_bytes: 0,
    })
}

/// All memory that a cgroup's processes hold, caches included.
pub fn memory_used(path: &str) -> u64 {
    let (hierarchy, file) = if is_v2() {
        ("", "memory.current")
    } else {
        ("memory", "memory.usage_in_bytes")
    };
    let text = std::fs::read_to_string(place(hierarchy, path).join(file)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Blocks: removes the cgroup and its (empty) children in every hierarchy.
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
    /// A process that was killed is gone a moment later.
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
    const TRIES: u32 = 100;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let busy = |outcome: std::io::Result<()>| outcome.is_err_and(|e| e.kind() == std::io::ErrorKind::ResourceBusy);
    for _ in 0..TRIES {
        if !busy(std::fs::remove_dir(dir)) {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    tracing::warn!(dir = %dir.display(), "a cgroup cannot be removed: something runs in it");
}

/// The processes and threads of a cgroup and of those below it.
pub fn processes(path: &str) -> u64 {
    let hierarchy = if is_v2() { "" } else { "pids" };
    let text = std::fs::read_to_string(place(hierarchy, path).join("pids.current")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
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
            hugepages: vec![("2MB".into(), 4 << 20), ("1GB".into(), 0)],
            pids_max: Some(64),
        };
        let none = PodLimits {
            cpu_shares: 2,
            ..PodLimits::default()
        };
        let shown = |limits: &PodLimits, v2: bool| -> Vec<String> {
            settings(limits, v2)
                .iter()
                .map(|(h, f, v)| format!("{h}/{f}={v}"))
                .collect()
        };
        assert_eq!(
            shown(&limits, true),
            [
                "/cpu.weight=59",
                "/cpu.max=50000 100000",
                "/memory.max=1048576",
                "/pids.max=64",
                "/hugetlb.2MB.max=4194304",
                "/hugetlb.1GB.max=0"
            ]
        );
        assert_eq!(shown(&none, true), ["/cpu.weight=1", "/cpu.max=max 100000"]);
        assert_eq!(
            shown(&limits, false),
            [
                "cpu/cpu.shares=512",
                "cpu/cpu.cfs_quota_us=50000",
                "memory/memory.limit_in_bytes=1048576",
                "pids/pids.max=64",
                "hugetlb/hugetlb.2MB.limit_in_bytes=4194304",
                "hugetlb/hugetlb.1GB.limit_in_bytes=0"
            ]
        );
        assert_eq!(shown(&none, false), ["cpu/cpu.shares=2"]);
    }

    #[test]
    fn limits_are_read_back() {
        let unlimited = current_v1("1024\n", "-1\n", "9223372036854771712\n");
        let expected = Current {
            cpu_shares: 1_024,
            ..Current::default()
        };
        assert_eq!(unlimited, Some(expected));
        assert_eq!(
            current_v2("100\n", "max 100000\n", "max\n").map(|c| (c.cpu_quota_us, c.memory_bytes)),
            Some((None, None))
        );
        for shares in [2, 102, 1_024, 2_048, 262_144] {
            let weight = cpu_weight(shares);
            let found = current_v2(&weight.to_string(), "50000 100000", "4096").expect("whole");
            assert_eq!(cpu_weight(found.cpu_shares), weight);
            assert_eq!((found.cpu_quota_us, found.memory_bytes), (Some(50_000), Some(4_096)));
        }
        assert_eq!(current_v1("x", "-1", "1"), None);
    }
}
