//! Reads what is left of the node, and what its pods hold.

use super::plan::{Left, Observed};
use super::rank::{self, Candidate, PodUse, Use};
use super::threshold::Signal;
use crate::pod::node::Shared;
use crate::pod::observed::{LABEL_CONTAINER_NAME, LABEL_POD_UID};
use crate::pod::{sandbox, spec};
use crate::stats::cgroup::{self, Depth};
use crate::stats::disk::{self, FileSystem, Walks};
use crate::stats::observe::{self, Extent};
use crate::volume;
use k8s_openapi::api::core::v1::Pod;
use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;
use std::sync::Arc;

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A few small files, whatever runs here.
pub fn look(shared: &Shared) -> Observed {
    let mut seen = Observed::new();
    if let Some(reading) = cgroup::read("/", Depth::Use) {
        let capacity = shared.memory_bytes;
        let available = capacity - signed(reading.memory.working_set_bytes);
        seen.insert(Signal::Memory, Left { available, capacity });
    }
    let pods = format!("/{}", shared.config.cgroup_root);
    if let (Some(reading), Some(limit)) = (cgroup::read(&pods, Depth::Use), cgroup::memory_limit(&pods)) {
        let (capacity, used) = (signed(limit), signed(reading.memory.working_set_bytes));
        let available = capacity - used;
        seen.insert(Signal::AllocatableMemory, Left { available, capacity });
    }
    let mut disk = |path: &std::path::Path, bytes: Signal, inodes: Signal| {
        let Some(found) = disk::file_system(path) else { return };
        let FileSystem {
            available_bytes,
            capacity_bytes,
            inodes_free,
            inodes: all,
            ..
        } = found;
        let left = |available: u64, capacity: u64| Left {
            available: signed(available),
            capacity: signed(capacity),
        };
        seen.insert(bytes, left(available_bytes, capacity_bytes));
        // Some file systems make inodes as they are needed, and count none.
        if all > 0 {
            seen.insert(inodes, left(inodes_free, all));
        }
    };
    let data = &shared.config.data_dir;
    disk(data, Signal::Nodefs, Signal::NodefsInodes);
    disk(&data.join("containerd"), Signal::Imagefs, Signal::ImagefsInodes);
    let (max, now) = observe::processes();
    if max > 0 {
        let (available, capacity) = (signed(max) - signed(now), signed(max));
        seen.insert(Signal::Pids, Left { available, capacity });
    }
    seen
}

/// Pods that run here, as they were granted. A pod that is over holds nothing to reclaim.
fn pods(shared: &Shared) -> BTreeMap<String, Arc<Pod>> {
    let all = shared.cache.pods().into_values();
    let runs = |pod: &Arc<Pod>| !spec::phase_is_final(pod) && shared.ledger.holds(spec::uid(pod));
    all.filter(runs).map(|pod| (spec::uid(&pod).to_owned(), pod)).collect()
}

/// Every pod with everything that it holds.
pub async fn all(shared: &Arc<Shared>, walks: &Arc<Walks>) -> Vec<Candidate> {
    let mut pods = pods(shared);
    let node = observe::observe(shared, walks, Extent::Everything).await;
    let measured = node.pods.into_iter().filter_map(|found| {
        let pod = pods.remove(&found.uid)?;
        let containers = found.containers.iter().map(|c| {
            let logs = c.logs.unwrap_or_default();
            let written = c.written.unwrap_or_default();
            let used = Use {
                memory_bytes: signed(c.reading.memory.working_set_bytes),
                logs_bytes: signed(logs.bytes),
                written_bytes: signed(written.bytes),
                inodes: signed(logs.inodes + written.inodes),
            };
            (c.name.clone(), used)
        });
        let on_disk = found.volumes.iter().filter(|v| v.on_disk);
        let used = PodUse {
            containers: containers.collect(),
            memory_bytes: signed(found.reading.memory.working_set_bytes),
            volumes: on_disk
                .map(|v| (v.name.clone(), signed(v.space.used_bytes), signed(v.space.inodes_used)))
                .collect(),
            in_memory: Vec::new(),
            processes: signed(crate::pod::cgroup::processes(&found.path)),
        };
        Some(Candidate { pod, used })
    });
    measured.collect()
}

/// The pods that have limits of their own, with what these are about.
pub async fn limited(shared: &Arc<Shared>) -> Vec<Candidate> {
    let pods: Vec<Arc<Pod>> = pods(shared).into_values().filter(|pod| rank::has_limits(pod)).collect();
    if pods.is_empty() {
        return Vec::new();
    }
    let written = written(shared).await;
    let shared = shared.clone();
    let read = move || pods.into_iter().map(|pod| one(&shared, pod, &written)).collect();
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

type Written = BTreeMap<(String, String), i64>;

/// What containers wrote over their images, by pod UID and container name.
async fn written(shared: &Shared) -> Written {
    let request = cri::ListContainerStatsRequest { filter: None };
    let Ok(answer) = shared.runtime.cri().list_container_stats(request).await else {
        return Written::new();
    };
    let one = |stats: cri::ContainerStats| {
        let labels = stats.attributes?.labels;
        let key = (
            labels.get(LABEL_POD_UID)?.clone(),
            labels.get(LABEL_CONTAINER_NAME)?.clone(),
        );
        Some((key, signed(stats.writable_layer?.used_bytes?.value)))
    };
    answer.into_inner().stats.into_iter().filter_map(one).collect()
}

fn one(shared: &Shared, pod: Arc<Pod>, written: &Written) -> Candidate {
    let logs = sandbox::log_directory(&shared.config, &pod);
    let uid = spec::uid(&pod).to_owned();
    let of_container = |name: &str| Use {
        logs_bytes: signed(disk::taken(&logs.join(name)).bytes),
        written_bytes: written.get(&(uid.clone(), name.to_owned())).copied().unwrap_or(0),
        ..Use::default()
    };
    let names = pod.spec.iter().flat_map(spec::containers).map(|(c, _)| c.name.clone());
    let containers = names.map(|name| (name.clone(), of_container(&name))).collect();
    let (in_memory, on_disk): (Vec<_>, Vec<_>) = volume::usage::of_pod(&shared.config, &pod)
        .into_iter()
        .partition(|v| v.in_memory);
    let used = PodUse {
        containers,
        volumes: on_disk
            .into_iter()
            .map(|v| (v.name, signed(v.used_bytes), signed(v.inodes_used)))
            .collect(),
        in_memory: in_memory.into_iter().map(|v| (v.name, signed(v.used_bytes))).collect(),
        ..PodUse::default()
    };
    Candidate { pod, used }
}
