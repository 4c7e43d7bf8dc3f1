//! How much of the node a pod's own volumes hold. Blocking: walks directories.

use super::kind::{Kind, volume_path};
use super::mount_point::is_mount_point;
use crate::config::Config;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::statvfs::statvfs;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One volume as `/stats/summary` shows it and as eviction weighs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub name: String,
    pub used_bytes: u64,
    pub capacity_bytes: u64,
    pub available_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    pub inodes_used: u64,
    /// In memory, so it counts as the pod's memory and not as its storage.
    pub in_memory: bool,
}

/// The pod's volumes that live and die with it; a host's directory is not its own.
pub fn of_pod(config: &Config, pod: &Pod) -> Vec<Usage> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter(|v| !matches!(Kind::of(v), Kind::HostPath | Kind::Image | Kind::Foreign))
        .filter_map(|v| of_directory(&v.name, &volume_path(config, pod, v)))
        .collect()
}

fn of_directory(name: &str, path: &Path) -> Option<Usage> {
    let stat = statvfs(path).ok()?;
    // A file system of its own knows what is used of it.
    let in_memory = is_mount_point(path);
    let unit = stat.fragment_size();
    let (used_bytes, inodes_used) = if in_memory {
        let blocks = stat.blocks().saturating_sub(stat.blocks_free());
        (blocks * unit, stat.files().saturating_sub(stat.files_free()))
    } else {
        disk_usage(path)
    };
    Some(Usage {
        name: name.to_owned(),
        used_bytes,
        capacity_bytes: stat.blocks() * unit,
        available_bytes: stat.blocks_available() * unit,
        inodes: stat.files(),
        inodes_free: stat.files_free(),
        inodes_used,
        in_memory,
    })
}

/// Bytes and inodes below a directory, as `du` counts: links are not followed, what is
/// linked twice counts once, other file systems do not count.
pub fn disk_usage(root: &Path) -> (u64, u64) {
    let Ok(top) = std::fs::symlink_metadata(root) else {
        return (0, 0);
    };
    const BLOCK: u64 = 512;
    let (mut bytes, mut inodes) = (top.blocks() * BLOCK, 1);
    let mut linked: BTreeSet<u64> = BTreeSet::new();
    let mut pending: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        // What vanishes while it is counted does not count.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != top.dev() || (meta.nlink() > 1 && !meta.is_dir() && !linked.insert(meta.ino())) {
                continue;
            }
            bytes += meta.blocks() * BLOCK;
            inodes += 1;
            if meta.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_du_does() {
        let dir = std::env::temp_dir().join(format!("skiff-usage-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/b")).expect("made");
        std::fs::write(dir.join("a/f"), vec![1; 100_000]).expect("written");
        std::fs::hard_link(dir.join("a/f"), dir.join("a/b/g")).expect("linked");
        std::os::unix::fs::symlink("/", dir.join("root")).expect("linked");
        let (bytes, inodes) = disk_usage(&dir);
        assert_eq!(inodes, 5, "three directories, a file and a link");
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        let found = of_directory("v", &dir).expect("there");
        assert_eq!(
            (found.used_bytes, found.inodes_used, found.in_memory),
            (bytes, 5, false)
        );
        assert!(found.capacity_bytes >= found.available_bytes);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
