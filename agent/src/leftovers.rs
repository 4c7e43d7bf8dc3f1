//! What earlier lives of the node have left of pods that are no more. A pod that
//! ended well leaves nothing; this is for agents, runtimes and machines that did not.
//!
//! `found` and `remove` are for the agent, which knows the pods there are; `end_runtime`
//! is for a reset, when the runtime may be dead and its shims alive.

pub mod network;

use crate::config::Config;
use crate::error::Error;
use crate::pod::{cgroup, links, resources, spec};
use crate::runtime::config::Layout;
use crate::runtime::socket_of_shim;
use crate::volume;
use base64::prelude::*;
use k8s_openapi::api::core::v1::Pod;
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
    uids.extend(network::holders(config));
    uids.retain(|uid| is_uid(uid));
    uids
}

/// Blocks: removes the processes, cgroups, volumes, logs and addresses of a pod that is no more.
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
    network::release(config, uid);
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

/// Takes away what the runtime should have taken away of a pod's containers (or sandboxes) that
/// have ended; almost always it has. One whose shim was killed while it was made has a cgroup, no bundle.
pub fn clear<'a>(config: &Config, pod: &Pod, ids: impl Iterator<Item = &'a str>) {
    let Some(pod_spec) = pod.spec.as_ref() else {
        return;
    };
    let layout = Layout::new(&config.data_dir);
    let group = resources::cgroup_path(&config.cgroup_root, resources::qos(pod_spec), spec::uid(pod));
    let ids: BTreeSet<String> = ids.map(str::to_owned).collect();
    let mut left = BTreeSet::from_iter(of_ended(&layout, ids.iter().map(String::as_str)));
    left.extend(with_cgroup(&hierarchies(), &group, &ids));
    if left.is_empty() {
        return;
    }
    tokio::task::spawn_blocking(move || {
        left.iter().for_each(|id| remove_container(&layout, &group, id));
    });
}

/// Those of these containers that have a cgroup in their pod's.
fn with_cgroup(hierarchies: &[PathBuf], pod_cgroup: &str, ids: &BTreeSet<String>) -> Vec<String> {
    let pod_cgroup = pod_cgroup.trim_start_matches('/');
    let has = |id: &String| hierarchies.iter().any(|root| root.join(pod_cgroup).join(id).exists());
    ids.iter().filter(|id| !id.is_empty() && has(id)).cloned().collect()
}

/// Blocks: removes what the runtime has left of a container in `pod_cgroup` that has ended.
pub fn remove_container(layout: &Layout, pod_cgroup: &str, id: &str) {
    tracing::info!(id, "removing what the runtime has left of a container");
    for (pid, _) in shims(layout).into_iter().filter(|(_, of)| of == id) {
        let _ = kill(pid, Signal::SIGKILL);
        let _ = std::fs::remove_file(socket_of_shim(&layout.socket, id));
    }
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

/// This runtime's shims: their processes, and the containers that they are for.
fn shims(layout: &Layout) -> Vec<(Pid, String)> {
    let socket = layout.socket.display().to_string();
    let pids = names(Path::new("/proc"))
        .into_iter()
        .filter_map(|name| name.parse().ok());
    pids.filter_map(|pid: i32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((Pid::from_raw(pid), shim_of(&arguments, &socket)?))
    })
    .collect()
}

/// Blocks: ends the shims for which there is nothing. A runtime that was killed before it had heard
/// of a shim takes what the shim is for away when it starts again, but not the shim.
pub fn end_lost_shims(layout: &Layout) {
    let bundles = bundles(layout);
    for (pid, id) in shims(layout) {
        if !bundles.join(&id).exists() {
            tracing::info!(id, "ending a shim without a container");
            let _ = kill(pid, Signal::SIGKILL);
            let _ = std::fs::remove_file(socket_of_shim(&layout.socket, &id));
        }
    }
}

/// Ends this runtime's shims and takes away what they left outside of its directory.
pub fn end_runtime(layout: &Layout) -> Vec<Error> {
    for (pid, _) in shims(layout) {
        let _ = kill(pid, Signal::SIGKILL);
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
        let told = ["bootstrap.json", "address"].map(|name| std::fs::read(bundle.join(name)).unwrap_or_default());
        for path in told.iter().filter_map(|told| shim_socket(told)) {
            let _ = std::fs::remove_file(path);
        }
        let _ = std::fs::remove_dir_all(runc_state(&id));
    }
    errors
}

/// The container of a shim of the runtime at `socket`. `arguments`: a process' command line, each
/// word ended by a zero byte.
fn shim_of(arguments: &[u8], socket: &str) -> Option<String> {
    let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    let is_shim = words.first()?.ends_with(b"containerd-shim-runc-v2");
    if !is_shim || !words.contains(&socket.as_bytes()) {
        return None;
    }
    let at = words.iter().position(|word| *word == b"-id")?;
    Some(String::from_utf8_lossy(words.get(at + 1)?).into_owned())
}

/// Where a shim listens: since containerd 2 as JSON, before that bare.
fn shim_socket(told: &[u8]) -> Option<PathBuf> {
    let text = match serde_json::from_slice::<Value>(told) {
        Ok(bootstrap) => bootstrap["address"].as_str()?.to_owned(),
        Err(_) => String::from_utf8(told.to_vec()).ok()?,
    };
    text.trim().strip_prefix("unix://").map(PathBuf::from)
}

/// Removes what containerd keeps of the plugins' answers in `results`, which it shares with
/// every other containerd: those of networks that keep their data in `own`, and the loopback
/// answers of the same sandboxes.
pub fn remove_answers(results: &Path, own: &Path) {
    let is_own = |name: &String| std::fs::read(results.join(name)).is_ok_and(|answer| is_answer_of(&answer, own));
    for name in names(results).into_iter().filter(is_own) {
        let id = name.split('-').nth(1).unwrap_or_default();
        for kept in [format!("cni-loopback-{id}-lo"), name.clone()] {
            let _ = std::fs::remove_file(results.join(kept));
        }
    }
}

/// An answer holds, in base 64, the configuration that the plugin was called with.
fn is_answer_of(answer: &[u8], own: &Path) -> bool {
    let config = || {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let config = BASE64_STANDARD.decode(answer["config"].as_str()?).ok()?;
        serde_json::from_slice::<Value>(&config).ok()
    };
    config().is_some_and(|config| {
        let mut plugins = config["plugins"].as_array().into_iter().flatten();
        plugins.any(|plugin| plugin["dataDir"].as_str().is_some_and(|dir| Path::new(dir) == own))
    })
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
    fn a_container_without_a_bundle_may_have_left_its_cgroup() {
        let dir = tempfile::tempdir().expect("a directory");
        let roots = ["cpu", "memory"].map(|name| dir.path().join(name));
        std::fs::create_dir_all(roots[1].join("kubepods/besteffort/podu/half-made")).expect("made");
        let ids: BTreeSet<String> = ["half-made", "gone", ""].map(str::to_owned).into();
        assert_eq!(with_cgroup(&roots, "/kubepods/besteffort/podu", &ids), ["half-made"]);
        assert!(with_cgroup(&roots, "/kubepods/podu", &ids).is_empty());
    }

    #[test]
    fn only_own_answers_of_plugins_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let answer = |data: &str| {
            let config = serde_json::json!({"name": "skiff", "plugins": [{"type": "skiff-cni", "dataDir": data}]});
            serde_json::json!({"kind": "cniCacheV1", "config": BASE64_STANDARD.encode(config.to_string())}).to_string()
        };
        for (name, text) in [
            ("skiff-aa-eth0", answer("/d/cni")),
            ("cni-loopback-aa-lo", String::new()),
            ("skiff-bb-eth0", answer("/other/cni")),
            ("cni-loopback-bb-lo", String::new()),
            ("skiff-cc-eth0", "{".to_owned()),
            ("bridge-dd-eth0", r#"{"config": "!"}"#.to_owned()),
        ] {
            std::fs::write(dir.path().join(name), text).expect("written");
        }
        remove_answers(dir.path(), Path::new("/d/cni"));
        let mut left = names(dir.path());
        left.sort();
        assert_eq!(
            left,
            ["bridge-dd-eth0", "cni-loopback-bb-lo", "skiff-bb-eth0", "skiff-cc-eth0"]
        );
        remove_answers(Path::new("/no/such/results"), Path::new("/d/cni"));
    }

    #[test]
    fn shims_tell_their_sockets_in_two_ways() {
        let found = |told: &str| shim_socket(told.as_bytes());
        let place = Some(PathBuf::from("/run/containerd/s/ab"));
        assert_eq!(found("unix:///run/containerd/s/ab\n"), place);
        let told = r#"{"version":3,"address":"unix:///run/containerd/s/ab","protocol":"ttrpc"}"#;
        assert_eq!(found(told), place);
        for other in ["", "{}", "vsock://1:2", r#"{"address": 1}"#] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn only_own_shims_and_named_namespaces_are_ended() {
        let ours = "/d/run/containerd.sock";
        let shim = |socket: &str| {
            let words = [
                "/usr/bin/containerd-shim-runc-v2",
                "-namespace",
                "k8s.io",
                "-id",
                "c1",
                "-address",
                socket,
            ];
            shim_of((words.join("\0") + "\0").as_bytes(), ours)
        };
        assert_eq!(shim(ours).as_deref(), Some("c1"));
        assert_eq!(shim("/run/containerd.sock"), None);
        assert_eq!(shim_of(b"vi\0-id\0c1\0/d/run/containerd.sock\0", ours), None);
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
