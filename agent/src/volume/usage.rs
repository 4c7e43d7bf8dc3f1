//! How much of the node a pod's own volumes hold. Blocking: walks directories.

use super::kind::{Kind, volume_path};
use super::mount_point::is_mount_point;
use crate::config::Config;
use crate::stats::disk::taken;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::statvfs::statvfs;
use std::path::Path;

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
        let taken = taken(path);
        (taken.bytes, taken.inodes)
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
        let found = of_directory("v", &dir).expect("there");
        assert_eq!(found.inodes_used, 5, "three directories, a file and a link");
        let bytes = found.used_bytes;
        assert!(!found.in_memory && (100_000..200_000).contains(&bytes), "{bytes}");
        assert!(found.capacity_bytes >= found.available_bytes);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
