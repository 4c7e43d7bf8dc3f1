//! The pod's cgroup: made with its limits before the sandbox, removed after. Cgroup v1 and v2.

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

/// `path` as `/kubepods/burstable/pod<uid>`.
pub fn create(path: &str, limits: &PodLimits) {
    let relative = path.trim_start_matches('/');
    if is_v2() {
        let mut dir = PathBuf::from(ROOT);
        for part in relative.split('/') {
            write(dir.join("cgroup.subtree_control"), "+cpu +memory +pids +cpuset +io");
            dir.push(part);
            let _ = std::fs::create_dir(&dir);
        }
        // The kernel's own conversion of shares (2..262144) to weights (1..10000).
        let weight = 1 + (limits.cpu_shares - 2) * 9_999 / 262_142;
        write(dir.join("cpu.weight"), &weight.to_string());
        let quota = limits
            .cpu_quota_us
            .map_or("max 100000".into(), |q| format!("{q} 100000"));
        write(dir.join("cpu.max"), &quota);
        if let Some(bytes) = limits.memory_bytes {
            write(dir.join("memory.max"), &bytes.to_string());
        }
        return;
    }
    let cpu = Path::new(ROOT).join("cpu").join(relative);
    let memory = Path::new(ROOT).join("memory").join(relative);
    for dir in [&cpu, &memory] {
        let _ = std::fs::create_dir_all(dir);
    }
    write(cpu.join("cpu.shares"), &limits.cpu_shares.to_string());
    if let Some(quota) = limits.cpu_quota_us {
        write(cpu.join("cpu.cfs_period_us"), "100000");
        write(cpu.join("cpu.cfs_quota_us"), &quota.to_string());
    }
    if let Some(bytes) = limits.memory_bytes {
        write(memory.join("memory.limit_in_bytes"), &bytes.to_string());
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
