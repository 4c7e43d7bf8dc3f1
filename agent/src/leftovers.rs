//! What earlier lives of the node have left of pods that are no more. A pod that
//! ended well leaves nothing; this is for agents, runtimes and machines that did not.
//!
//! `found` and `remove` are for the agent, which knows the pods there are; `end_runtime`
//! is for a reset, when the runtime may be dead and its shims alive.

use crate::config::Config;
use crate::error::Error;
use crate::pod::{cgroup, links};
use crate::runtime::config::Layout;
use crate::volume;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CGROUPS: &str = "/sys/fs/cgroup";
/// Below a node's root, by quality of service.
const CLASSES: [&str; 3] = ["", "burstable", "besteffort"];

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Roots of the hierarchies: one with cgroup v2, one a controller with v1.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return vec![root];
    }
    // Beside those of v1 lies, without controllers, what is common to all containers of the machine.
    let controllers = names(&root).into_iter().filter(|name| name != "unified");
    controllers.map(|name| root.join(name)).collect()
}

/// A pod's UID, not some other word.
fn is_uid(text: &str) -> bool {
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// UIDs of all pods of which something lies on the node.
pub fn found(config: &Config) -> BTreeSet<String> {
    let mut uids: BTreeSet<String> = names(&config.pods_dir()).into_iter().collect();
    let logs = names(&config.pod_logs_dir);
    uids.extend(
        logs.iter()
            .filter_map(|name| name.rsplit('_').next())
            .map(str::to_owned),
    );
    for hierarchy in hierarchies() {
        for class in CLASSES {
            let groups = names(&hierarchy.join(&config.cgroup_root).join(class));
            uids.extend(
                groups
                    .iter()
                    .filter_map(|name| name.strip_prefix("pod"))
                    .map(str::to_owned),
            );
        }
    }
    uids.retain(|uid| is_uid(uid));
    uids
}

/// Blocks: removes the processes, cgroups, volumes and logs of a pod that is no more.
pub fn remove(config: &Config, uid: &str) {
    for class in CLASSES {
        let group = Path::new(&config.cgroup_root).join(class).join(format!("pod{uid}"));
        end_processes(&group);
        cgroup::remove(&group.display().to_string());
    }
    if let Err(error) = volume::unmount_all(&config.pod_dir(uid)) {
        tracing::warn!(error = error.chain(), uid, "cannot remove what is left of a pod");
    }
    remove_logs(&config.pod_logs_dir, uid);
    links::sweep(&config.container_logs_dir, &config.pod_logs_dir, None);
}

pub fn remove_logs(pod_logs_dir: &Path, uid: &str) {
    for name in names(pod_logs_dir) {
        if name.rsplit('_').next() == Some(uid) {
            let _ = std::fs::remove_dir_all(pod_logs_dir.join(name));
        }
    }
}

/// Kills whatever runs in this cgroup and below it.
pub fn end_processes(group: &Path) {
    fn end(dir: &Path) {
        let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        // Processes of other namespaces are told as 0.
        for pid in text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                end(&entry.path());
            }
        }
    }
    for hierarchy in hierarchies() {
        end(&hierarchy.join(group));
    }
}

/// Where a runtime keeps what its shims run, by container.
fn bundles(layout: &Layout) -> PathBuf {
    layout.state.join("io.containerd.runtime.v2.task/k8s.io")
}

/// Where runc keeps what it runs, by container.
fn runc_state(id: &str) -> PathBuf {
    Path::new("/run/containerd/runc/k8s.io").join(id)
}

/// Of these containers (or sandboxes), which have ended, those of which the runtime has
/// left something: it was killed while it cleaned up, or had no time to.
pub fn of_ended<'a>(layout: &Layout, ids: impl Iterator<Item = &'a str>) -> Vec<String> {
    let bundles = bundles(layout);
    let left = ids.filter(|id| !id.is_empty() && bundles.join(id).exists());
    left.map(str::to_owned).collect()
}

/// Blocks: removes what the runtime has left of a container in `pod_cgroup` that has ended.
pub fn remove_container(layout: &Layout, pod_cgroup: &str, id: &str) {
    tracing::info!(id, "removing what the runtime has left of a container");
    let group = format!("{}/{id}", pod_cgroup.trim_start_matches('/'));
    end_processes(Path::new(&group));
    let bundle = bundles(layout).join(id);
    let _ = umount2(&bundle.join("rootfs"), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    if let Ok(work) = std::fs::read_link(bundle.join("work"))
        && work.starts_with(&layout.root)
    {
        let _ = std::fs::remove_dir_all(work);
    }
    for dir in [runc_state(id), bundle] {
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), %error, "cannot remove what is left of a container");
        }
    }
    cgroup::remove(&group);
}

/// Ends this runtime's shims and takes away what they left outside of its directory.
pub fn end_runtime(layout: &Layout) -> Vec<Error> {
    let socket = layout.socket.display().to_string();
    for name in names(Path::new("/proc")) {
        let Ok(pid) = name.parse::<i32>() else { continue };
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if is_shim_of(&arguments, &socket) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let mut errors = Vec::new();
    let tasks = bundles(layout);
    for id in names(&tasks) {
        let bundle = tasks.join(&id);
        let spec = std::fs::read(bundle.join("config.json")).unwrap_or_default();
        if let Some(netns) = network_namespace(&spec) {
            // With its last reference go the namespace and its links.
            let outcome = umount2(&netns, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            if let Err(error) = outcome
                && !matches!(error, nix::Error::EINVAL | nix::Error::ENOENT)
            {
                errors.push(Error::os("unmount", &netns)(error));
            }
            let _ = std::fs::remove_file(&netns);
        }
        let address = std::fs::read_to_string(bundle.join("address")).unwrap_or_default();
        if let Some(path) = address.trim().strip_prefix("unix://") {
            let _ = std::fs::remove_file(path);
        }
        let _ = std::fs::remove_dir_all(runc_state(&id));
    }
    errors
}

/// `arguments`: a process' command line, each word ended by a zero byte.
fn is_shim_of(arguments: &[u8], socket: &str) -> bool {
    let mut words = arguments.split(|byte| *byte == 0);
    let is_shim = words
        .next()
        .is_some_and(|name| name.ends_with(b"containerd-shim-runc-v2"));
    is_shim && words.any(|word| word == socket.as_bytes())
}

/// The place of a sandbox's network namespace; a container's is told by process.
fn network_namespace(spec: &[u8]) -> Option<PathBuf> {
    let spec: Value = serde_json::from_slice(spec).ok()?;
    let all = spec["linux"]["namespaces"].as_array()?;
    let path = all.iter().find(|one| one["type"] == "network")?["path"].as_str()?;
    path.contains("/netns/").then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_words_are_no_uids() {
        assert!(is_uid("5a6e8c75-6a4c-40f8-92fe-3b85bc0fc6a7"));
        for other in [
            "",
            "lost+found",
            "5a6e8c75-6a4c-40f8-92fe-3b85bc0fc6a",
            "5a6e8c75-6a4c-40f8-92fe-3b85bc0fc6ag",
        ] {
            assert!(!is_uid(other), "{other}");
        }
    }

    #[test]
    fn what_is_left_of_a_container_goes_with_its_work() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path());
        let id = "0000-of-no-container";
        let (bundle, work) = (bundles(&layout).join(id), layout.root.join("work").join(id));
        for folder in [bundle.join("rootfs"), work.clone()] {
            std::fs::create_dir_all(folder).expect("made");
        }
        std::os::unix::fs::symlink(&work, bundle.join("work")).expect("linked");
        let left = || of_ended(&layout, [id, "another", ""].into_iter());
        assert_eq!(left(), [id]);
        remove_container(&layout, "/no-cgroups/pod0", id);
        assert_eq!(left(), Vec::<String>::new());
        assert!(!work.exists() && bundles(&layout).exists());
    }

    #[test]
    fn only_own_shims_and_named_namespaces_are_ended() {
        let shim = |socket: &str| format!("/usr/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0-address\0{socket}\0");
        assert!(is_shim_of(
            shim("/d/run/containerd.sock").as_bytes(),
            "/d/run/containerd.sock"
        ));
        assert!(!is_shim_of(
            shim("/run/containerd.sock").as_bytes(),
            "/d/run/containerd.sock"
        ));
        assert!(!is_shim_of(b"vi\0/d/run/containerd.sock\0", "/d/run/containerd.sock"));
        let spec = |path: &str| {
            let all = serde_json::json!([{"type": "pid"}, {"type": "network", "path": path}]);
            serde_json::json!({"linux": {"namespaces": all}}).to_string()
        };
        let of = |path: &str| network_namespace(spec(path).as_bytes());
        assert_eq!(of("/var/run/netns/cni-1"), Some(PathBuf::from("/var/run/netns/cni-1")));
        assert_eq!(of("/proc/3678/ns/net"), None);
        assert_eq!(network_namespace(b"{"), None);
    }
}
