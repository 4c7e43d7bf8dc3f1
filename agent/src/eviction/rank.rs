//! Which pod goes first, and what it is told. As kubelet ranks: those that use more than
//! they asked for, then lower priority, then who uses the most beyond its request. Pure.

use super::plan::Left;
use super::threshold::{Amount, Pressure, Signal, Threshold};
use crate::pod::resources::quantity;
use crate::pod::resources::sums::{self, Sums};
use crate::pod::spec;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of this priority on a pod is one that the cluster needs.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// What one container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    pub memory_bytes: i64,
    /// Its logs.
    pub logs_bytes: i64,
    /// What it wrote over its image.
    pub written_bytes: i64,
    pub inodes: i64,
}

/// What a pod uses of what may be short.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodUse {
    pub containers: BTreeMap<String, Use>,
    pub memory_bytes: i64,
    /// Of the volumes that lie on the node's disk: (name, bytes, inodes).
    pub volumes: Vec<(String, i64, i64)>,
    /// Those in memory: (name, bytes).
    pub in_memory: Vec<(String, i64)>,
    pub processes: i64,
}

impl PodUse {
    /// Everything of the pod that lies on the node's disk.
    pub fn disk_bytes(&self) -> i64 {
        let containers: i64 = self.containers.values().map(|c| c.logs_bytes + c.written_bytes).sum();
        containers + self.volumes.iter().map(|(_, bytes, _)| bytes).sum::<i64>()
    }

    fn inodes(&self) -> i64 {
        let containers: i64 = self.containers.values().map(|c| c.inodes).sum();
        containers + self.volumes.iter().map(|(_, _, inodes)| inodes).sum::<i64>()
    }

    fn of(&self, signal: Signal) -> i64 {
        match signal {
            Signal::Memory | Signal::AllocatableMemory => self.memory_bytes,
            Signal::Nodefs | Signal::Imagefs => self.disk_bytes(),
            Signal::NodefsInodes | Signal::ImagefsInodes => self.inodes(),
            Signal::Pids => self.processes,
        }
    }
}

/// A pod that may go. Its resources are those that it was granted.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub pod: Arc<Pod>,
    pub used: PodUse,
}

pub fn is_critical(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let has = |name: &str| annotations.and_then(|a| a.get(name));
    let of_file = has("kubernetes.io/config.source").is_some_and(|source| source != "api");
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    of_file || has("kubernetes.io/config.mirror").is_some() || priority >= CRITICAL_PRIORITY
}

fn asked(sums: &Sums, signal: Signal) -> i64 {
    sums.get(signal.resource())
        .map_or(0, |milli| quantity::of_milli(*milli))
}

/// The first is the first to go. Critical pods are not among them.
pub fn rank(candidates: &mut Vec<Candidate>, signal: Signal) {
    candidates.retain(|c| !is_critical(&c.pod));
    candidates.sort_by_cached_key(|c| {
        let empty = PodSpec::default();
        let spec = c.pod.spec.as_ref().unwrap_or(&empty);
        let over = c.used.of(signal) - asked(&sums::requests(spec), signal);
        let exceeds = over > 0 && signal != Signal::Pids;
        (!exceeds, spec.priority.unwrap_or(0), Reverse(over), spec::key(&c.pod))
    });
}

/// Why the pod goes.
pub fn message(candidate: &Candidate, threshold: &Threshold, left: Left) -> String {
    let signal = threshold.signal;
    let resource = signal.resource();
    let wanted = match &threshold.value {
        Amount::Whole(_, text) => text.clone(),
        share @ Amount::Share(_) => signal.text(share.of(left.capacity)),
    };
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {wanted}, available: {}. ",
        signal.text(left.available)
    );
    let containers = candidate.pod.spec.iter().flat_map(|s| s.containers.iter());
    for container in containers {
        let Some(used) = candidate.used.containers.get(&container.name) else {
            continue;
        };
        let amount = match signal {
            Signal::Memory | Signal::AllocatableMemory => used.memory_bytes,
            Signal::Nodefs | Signal::Imagefs => used.logs_bytes + used.written_bytes,
            _ => continue,
        };
        let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let request = requests.and_then(|r| r.get(resource)).map_or("0", |q| q.0.as_str());
        let request_bytes = quantity::milli(request).map_or(0, quantity::of_milli);
        if amount > request_bytes {
            text.push_str(&format!(
                "Container {} was using {}, request is {request}, has larger consumption of {resource}. ",
                container.name,
                quantity::binary(amount)
            ));
        }
    }
    text
}

/// Whether a pod's use of the node's disk is bounded by itself, so that it must be watched.
pub fn has_limits(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let sized = |v: &k8s_openapi::api::core::v1::Volume| v.empty_dir.as_ref().is_some_and(|e| e.size_limit.is_some());
    let limited = |r: Option<&k8s_openapi::api::core::v1::ResourceRequirements>| {
        sums::of_limits(r).contains_key("ephemeral-storage")
    };
    spec.volumes.iter().flatten().any(sized) || spec::containers(spec).any(|(c, _)| limited(c.resources.as_ref()))
}

/// Why a pod goes that holds more of the disk than it may, whatever is free.
pub fn beyond_own_limits(pod: &Pod, used: &PodUse) -> Option<String> {
    let spec = pod.spec.as_ref().filter(|_| !is_critical(pod))?;
    for volume in spec.volumes.iter().flatten() {
        let limit = volume.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref());
        let Some((limit, bytes)) = limit.and_then(|l| Some((l, quantity::milli(&l.0)?))) else {
            continue;
        };
        let on_disk = used.volumes.iter().map(|(name, bytes, _)| (name, bytes));
        let mut all = on_disk.chain(used.in_memory.iter().map(|(name, bytes)| (name, bytes)));
        let held = all
            .find(|(name, _)| **name == volume.name)
            .map_or(0, |(_, bytes)| *bytes);
        if bytes > 0 && i128::from(held) * 1_000 > bytes {
            return Some(format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
                volume.name, limit.0
            ));
        }
    }
    let of_pod = sums::limits(spec)
        .get("ephemeral-storage")
        .copied()
        .map(quantity::of_milli);
    if let Some(limit) = of_pod.filter(|limit| used.disk_bytes() > *limit) {
        let limit = quantity::binary(limit);
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
        ));
    }
    for container in &spec.containers {
        let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
        let Some(limit) = limits.and_then(|l| l.get("ephemeral-storage")) else {
            continue;
        };
        let bytes = quantity::milli(&limit.0).map_or(0, quantity::of_milli);
        let held = used
            .containers
            .get(&container.name)
            .map_or(0, |u| u.logs_bytes + u.written_bytes);
        if bytes > 0 && held > bytes {
            return Some(format!(
                "Container {} exceeded its local ephemeral storage limit {:?}. ",
                container.name, limit.0
            ));
        }
    }
    None
}

/// Whether a node that is short of this lets a new pod in; else the message of the refusal.
pub fn admits(pod: &Pod, pressures: &std::collections::BTreeSet<Pressure>) -> Result<(), String> {
    if pressures.is_empty() || is_critical(pod) {
        return Ok(());
    }
    if pressures.iter().all(|p| *p == Pressure::Memory) {
        let best_effort = pod
            .spec
            .as_ref()
            .is_some_and(|s| crate::pod::resources::qos(s) == crate::pod::resources::Qos::BestEffort);
        let tolerates = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten()).any(|t| {
            let text = |v: &Option<String>| v.clone().unwrap_or_default();
            let effect = matches!(text(&t.effect).as_str(), "" | "NoSchedule");
            match text(&t.operator).as_str() {
                "Exists" => effect && matches!(text(&t.key).as_str(), "" | "node.kubernetes.io/memory-pressure"),
                _ => effect && text(&t.key) == "node.kubernetes.io/memory-pressure" && text(&t.value).is_empty(),
            }
        });
        if !best_effort || tolerates {
            return Ok(());
        }
    }
    let names: Vec<&str> = pressures.iter().map(|p| p.name()).collect();
    Err(format!("The node had condition: [{}]. ", names.join(" ")))
}

#[cfg(test)]
#[path = "rank_test.rs"]
mod tests;
