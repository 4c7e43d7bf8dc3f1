//! Ends everything that the agent ever started on this machine, and says what would not end.

use crate::config::Config;
use crate::error::Error;
use crate::leftovers;
use crate::pod::{cgroup, links};
use crate::runtime::config::Layout;
use crate::runtime::{Runtime, supervise};
use crate::volume;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What has to be known to undo it all, kept beside the data.
#[derive(Debug, Serialize, Deserialize)]
struct Trace {
    cluster_dns: IpAddr,
    cgroup_root: String,
    pod_logs_dir: PathBuf,
    #[serde(default)]
    container_logs_dir: PathBuf,
}

pub fn leave_trace(config: &Config) -> Result<(), Error> {
    let trace = Trace {
        cluster_dns: config.cluster_dns,
        cgroup_root: config.cgroup_root.clone(),
        pod_logs_dir: config.pod_logs_dir.clone(),
        container_logs_dir: config.container_logs_dir.clone(),
    };
    let path = config.data_dir.join("trace.json");
    let bytes = serde_json::to_vec(&trace).map_err(|e| Error::Copy(e.to_string()))?;
    crate::cache::disk::write_atomically(&path, &bytes, 0o644).map_err(Error::io("write", path))
}

/// Removes all pods, ends containerd, unmounts, deletes cgroups and network rules.
pub async fn stop_everything(data_dir: &Path) -> Result<(), Vec<Error>> {
    let mut errors = Vec::new();
    let layout = Layout::new(data_dir);
    let trace: Option<Trace> = std::fs::read(data_dir.join("trace.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(pid) = supervise::running_pid(&layout) {
        errors.extend(remove_pods(&layout, trace.as_ref()).await);
        errors.extend(end(pid, &layout).await.err());
    }
    // The runtime may have been dead, or may not have managed it.
    if let Some(trace) = &trace {
        leftovers::end_processes(Path::new(&trace.cgroup_root));
        for entry in std::fs::read_dir(data_dir.join("pods")).into_iter().flatten().flatten() {
            leftovers::remove_logs(&trace.pod_logs_dir, &entry.file_name().to_string_lossy());
        }
        links::sweep(&trace.container_logs_dir, &trace.pod_logs_dir, None);
    }
    errors.extend(leftovers::end_runtime(&layout));
    leftovers::remove_answers(Path::new("/var/lib/cni/results"), &data_dir.join("cni"));
    errors.extend(volume::unmount_all(&data_dir.join("pods")).err());
    for point in volume::mounts_below(data_dir) {
        let outcome = nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH);
        errors.extend(outcome.err().map(|e| Error::os("unmount", point)(e)));
    }
    if let Some(trace) = trace {
        remove_cgroups(&trace.cgroup_root).await;
        if let Err(problems) = skiff_network::teardown(trace.cluster_dns, &data_dir.join("network")).await {
            errors.extend(
                problems
                    .into_iter()
                    .map(|e| Error::Copy(format!("cannot undo the network: {e}"))),
            );
        }
    }
    // Shared with other programs: only what is empty goes.
    for shared in [
        "/run/containerd/runc/k8s.io",
        "/run/containerd/runc",
        "/run/containerd/s",
        "/run/containerd",
        "/var/lib/cni/results",
        "/var/lib/cni",
        "/var/log/pods",
        "/var/log/containers",
        "/var/lib/kubelet/plugins_registry",
        "/var/lib/kubelet/plugins",
        "/var/lib/kubelet",
    ] {
        let _ = std::fs::remove_dir(shared);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

async fn remove_pods(layout: &Layout, trace: Option<&Trace>) -> Vec<Error> {
    let mut errors = Vec::new();
    let runtime = match Runtime::connect(&layout.socket) {
        Ok(runtime) => runtime,
        Err(error) => return vec![error],
    };
    let sandboxes = match runtime.sandboxes().await {
        Ok(sandboxes) => sandboxes,
        Err(error) => return vec![error],
    };
    let mut work = tokio::task::JoinSet::new();
    for sandbox in sandboxes {
        let runtime = runtime.clone();
        if let (Some(trace), Some(meta)) = (trace, &sandbox.metadata) {
            let name = format!("{}_{}_{}", meta.namespace, meta.name, meta.uid);
            let _ = std::fs::remove_dir_all(trace.pod_logs_dir.join(name));
        }
        work.spawn(async move {
            runtime.stop_sandbox(&sandbox.id).await?;
            runtime.remove_sandbox(&sandbox.id).await
        });
    }
    while let Some(done) = work.join_next().await {
        if let Ok(Err(error)) = done {
            errors.push(error);
        }
    }
    errors
}

/// Processes that were just killed keep their cgroups for a moment.
async fn remove_cgroups(root: &str) {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        cgroup::remove(root);
        if cgroup::processes(root) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cgroup::remove(root);
}

async fn end(pid: i32, layout: &Layout) -> Result<(), Error> {
    /// containerd ends within a second; one that does not is killed.
    const TRIES: u32 = 500;
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    for attempt in 0..TRIES {
        if supervise::running_pid(layout).is_none() {
            return Ok(());
        }
        if attempt == TRIES - 100 {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(Error::Copy(format!("containerd (pid {pid}) does not end")))
}
