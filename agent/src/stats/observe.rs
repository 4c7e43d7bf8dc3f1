//! Reads the node as it is now into plain values: a list from the runtime, and a few
//! small files per container.

use super::cgroup::{self, Depth, Reading};
use super::disk::{self, FileSystem, Taken, Walks};
use super::network::{Counters, Wires};
use crate::pod::node::Shared;
use crate::pod::observed::{LABEL_CONTAINER_NAME, LABEL_POD_UID};
use crate::pod::{resources, sandbox, spec};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, Clone, PartialEq)]
pub struct ContainerUse {
    pub name: String,
    pub id: String,
    pub image: String,
    pub started: Timestamp,
    pub reading: Reading,
    pub logs: Option<Taken>,
    /// What was written over the image.
    pub written: Option<Taken>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VolumeUse {
    pub name: String,
    pub claim: Option<String>,
    pub space: FileSystem,
    /// It lies on the node's own disk.
    pub on_disk: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PodUse {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub started: Option<Timestamp>,
    /// Of its cgroup, as `/kubepods/burstable/pod<uid>`.
    pub path: String,
    pub reading: Reading,
    pub containers: Vec<ContainerUse>,
    /// Id of its sandbox, where a container tells it, and that one's own use.
    pub sandbox: Option<(String, Option<Reading>)>,
    /// None with the host's network.
    pub network: Option<Counters>,
    pub volumes: Vec<VolumeUse>,
}

/// Something that is no pod: the agent, the runtime, all pods together.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemUse {
    pub name: &'static str,
    pub started: Timestamp,
    pub reading: Reading,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NodeUse {
    pub at: Timestamp,
    pub booted: Timestamp,
    pub reading: Reading,
    pub memory_bytes: u64,
    pub pods: Vec<PodUse>,
    pub system: Vec<SystemUse>,
    /// Slices of the cgroup tree above the pods, by path.
    pub slices: Vec<(String, Reading)>,
    pub wires: Wires,
    /// Of the pods' folders, of the images.
    pub disk: Option<FileSystem>,
    pub images: Option<FileSystem>,
    /// Processes that may be and that are.
    pub processes: (u64, u64),
    /// Whether the runtime could be asked.
    pub whole: bool,
}

/// What is wanted: use of CPU and memory alone, or everything there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Brief,
    Everything,
}

pub async fn observe(shared: &Arc<Shared>, walks: &Arc<Walks>, extent: Extent) -> NodeUse {
    let listed = shared.runtime.containers().await;
    let whole = listed.is_ok();
    let written = match extent {
        Extent::Everything => written_layers(shared).await,
        _ => BTreeMap::new(),
    };
    let (shared, walks) = (shared.clone(), walks.clone());
    // Hundreds of small reads, and walks of folders: not on the threads that serve.
    let read = move || read(&shared, &walks, extent, listed.unwrap_or_default(), &written, whole);
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

async fn written_layers(shared: &Shared) -> BTreeMap<String, Taken> {
    let request = cri::ListContainerStatsRequest { filter: None };
    let Ok(answer) = shared.runtime.cri().list_container_stats(request).await else {
        return BTreeMap::new();
    };
    let one = |stats: cri::ContainerStats| {
        let layer = stats.writable_layer?;
        let taken = Taken {
            bytes: layer.used_bytes.map_or(0, |v| v.value),
            inodes: layer.inodes_used.map_or(0, |v| v.value),
        };
        Some((stats.attributes?.id, taken))
    };
    answer.into_inner().stats.into_iter().filter_map(one).collect()
}

fn read(
    shared: &Shared,
    walks: &Walks,
    extent: Extent,
    listed: Vec<cri::Container>,
    written: &BTreeMap<String, Taken>,
    whole: bool,
) -> NodeUse {
    let depth = match extent {
        Extent::Brief => Depth::Use,
        _ => Depth::All,
    };
    let mut running: BTreeMap<String, Vec<cri::Container>> = BTreeMap::new();
    for container in listed {
        if container.state == cri::ContainerState::ContainerRunning as i32 {
            let uid = container.labels.get(LABEL_POD_UID).cloned().unwrap_or_default();
            running.entry(uid).or_default().push(container);
        }
    }
    let wires = if extent == Extent::Brief {
        Wires::default()
    } else {
        Wires::read()
    };
    let disk_of = |path: &Path| match extent {
        Extent::Everything => disk::file_system(path),
        _ => None,
    };
    let mut pods = Vec::new();
    for pod in shared.cache.pods().into_values() {
        let containers = running.remove(spec::uid(&pod)).unwrap_or_default();
        if let Some(mut found) = pod_use(shared, &pod, containers, depth, &wires) {
            if extent == Extent::Everything {
                disks(shared, &pod, &mut found, walks, written);
            }
            pods.push(found);
        }
    }
    let root = format!("/{}", shared.config.cgroup_root);
    let slices = [root.clone(), format!("{root}/burstable"), format!("{root}/besteffort")];
    let now = Timestamp::now();
    NodeUse {
        at: now,
        booted: booted(now),
        reading: cgroup::read("/", depth).unwrap_or_default(),
        memory_bytes: u64::try_from(shared.memory_bytes).unwrap_or(0),
        pods,
        system: system(shared, &root, now),
        slices: slices
            .into_iter()
            .filter_map(|path| cgroup::read(&path, depth).map(|reading| (path, reading)))
            .collect(),
        wires,
        disk: disk_of(&shared.config.data_dir),
        images: disk_of(&shared.config.data_dir.join("containerd")),
        processes: processes(),
        whole,
    }
}

fn pod_use(shared: &Shared, pod: &Pod, containers: Vec<cri::Container>, depth: Depth, wires: &Wires) -> Option<PodUse> {
    let pod_spec = pod.spec.as_ref()?;
    let (namespace, name) = spec::key(pod);
    let uid = spec::uid(pod).to_owned();
    let path = resources::cgroup_path(&shared.config.cgroup_root, resources::qos(pod_spec), &uid);
    let reading = cgroup::read(&path, depth)?;
    let sandbox = containers.first().map(|c| c.pod_sandbox_id.clone());
    let sandbox = sandbox.map(|id| {
        let reading = (depth == Depth::All).then(|| cgroup::read(&format!("{path}/{id}"), depth));
        (id, reading.flatten())
    });
    let mut containers: Vec<ContainerUse> = containers
        .into_iter()
        .filter_map(|container| {
            let name = container.labels.get(LABEL_CONTAINER_NAME)?.clone();
            // The runtime knows it by its digest.
            let image = spec::any(pod_spec, &name)
                .and_then(|(c, _)| c.image)
                .unwrap_or_default();
            Some(ContainerUse {
                name,
                started: Timestamp::from_nanosecond(i128::from(container.created_at)).ok()?,
                reading: cgroup::read(&format!("{path}/{}", container.id), depth)?,
                image,
                id: container.id,
                logs: None,
                written: None,
            })
        })
        .collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    let status = pod.status.as_ref();
    let address = status.and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse().ok());
    Some(PodUse {
        namespace,
        name,
        uid,
        started: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
        path,
        reading,
        containers,
        sandbox,
        network: address
            .filter(|_| !spec::host_network(pod_spec))
            .and_then(|ip| wires.of_pod(ip)),
        volumes: Vec::new(),
    })
}

fn disks(shared: &Shared, pod: &Pod, found: &mut PodUse, walks: &Walks, written: &BTreeMap<String, Taken>) {
    let logs = sandbox::log_directory(&shared.config, pod);
    for container in &mut found.containers {
        // A few files: what they take is asked each time.
        container.logs = Some(disk::taken(&logs.join(&container.name)));
        container.written = written.get(&container.id).copied();
    }
    found.volumes = volumes(shared, pod, walks);
}

/// Folders as `volumes/kubernetes.io~empty-dir/<name>`.
fn volumes(shared: &Shared, pod: &Pod, walks: &Walks) -> Vec<VolumeUse> {
    let root = shared.config.pod_dir(spec::uid(pod)).join("volumes");
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let device = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).ok().map(|m| m.dev())
    };
    let own = device(&root);
    let declared = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let claims: BTreeMap<&str, String> = declared
        .filter_map(|v| {
            let (name, claim) = (v.name.as_str(), v.persistent_volume_claim.as_ref());
            let made = || v.ephemeral.as_ref().map(|_| format!("{}-{name}", spec::key(pod).1));
            Some((name, claim.map(|c| c.claim_name.clone()).or_else(made)?))
        })
        .collect();
    let mut all: Vec<VolumeUse> = folders(&root)
        .iter()
        .flat_map(|kind| folders(kind))
        .filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let path = if path.join("mount").is_dir() && path.join("vol_data.json").is_file() {
                path.join("mount")
            } else {
                path
            };
            let mut space = disk::file_system(&path)?;
            let on_disk = device(&path) == own;
            if on_disk {
                let taken = walks.taken(&path, Instant::now());
                (space.used_bytes, space.inodes_used) = (taken.bytes, taken.inodes);
            }
            let claim = claims.get(name.as_str()).cloned();
            Some(VolumeUse {
                name,
                claim,
                space,
                on_disk,
            })
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn booted(now: Timestamp) -> Timestamp {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or(0.0);
    now.checked_sub(SignedDuration::from_secs(seconds as i64))
        .unwrap_or(now)
}

pub fn processes() -> (u64, u64) {
    let max = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let current = load.split(' ').nth(3).and_then(|s| s.split('/').nth(1));
    (
        max.trim().parse().unwrap_or(0),
        current.and_then(|s| s.parse().ok()).unwrap_or(0),
    )
}

fn system(shared: &Shared, pods: &str, now: Timestamp) -> Vec<SystemUse> {
    let mut all = Vec::new();
    let pid = std::fs::read_to_string(shared.config.data_dir.join("run/containerd.pid")).unwrap_or_default();
    let own = std::process::id().to_string();
    for (name, pid) in [("kubelet", own.as_str()), ("runtime", pid.trim())] {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        if let Some((age, reading)) = super::own::process(&read("stat"), &read("statm"), now, booted(now)) {
            all.push(SystemUse {
                name,
                started: age,
                reading,
            });
        }
    }
    if let Some(reading) = cgroup::read(pods, Depth::Use) {
        all.push(SystemUse {
            name: "pods",
            started: booted(now),
            reading,
        });
    }
    all
}
