//! The Node object as this machine should show it. Pure but for `Machine::read`.

use super::allocatable;
use crate::config::Config;
use crate::eviction::Pressure;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use serde_json::{Value, json};
use skiff_proto::cri::v1 as cri;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default)]
pub struct Machine {
    pub cpus: usize,
    pub memory_bytes: i64,
    pub disk_bytes: u64,
    /// Huge pages by their size in bytes.
    pub pages: BTreeMap<u64, u64>,
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub boot_id: String,
    pub system_uuid: String,
    pub runtime_version: String,
    /// Names of runtime handlers and what they can, where the runtime tells it.
    pub handlers: Vec<cri::RuntimeHandler>,
    pub features: Option<cri::RuntimeFeatures>,
}

pub const VERSION: &str = "v1.36.0+skiff";

impl Machine {
    pub fn read(config: &Config) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let meminfo = text("/proc/meminfo");
        let kib = meminfo.lines().find_map(|l| {
            l.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<i64>()
                .ok()
        });
        let release = text("/etc/os-release");
        let pretty = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
        let disk = nix::sys::statvfs::statvfs(&config.data_dir).ok();
        let pages = std::fs::read_dir("/sys/kernel/mm/hugepages")
            .into_iter()
            .flatten()
            .flatten();
        let pages = pages.filter_map(|entry| {
            let name = entry.file_name();
            let size = name
                .to_str()?
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse::<u64>()
                .ok()?;
            let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
            Some((size * 1_024, count.trim().parse().ok()?))
        });
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.unwrap_or(0) * 1_024,
            disk_bytes: disk.map_or(0, |d| d.blocks() * d.fragment_size()),
            pages: pages.collect(),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
            machine_id: text("/etc/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            // Where no firmware tells, the machine's own name for itself, as upstream.
            system_uuid: Some(text("/sys/class/dmi/id/product_uuid"))
                .filter(|uuid| !uuid.is_empty())
                .unwrap_or_else(|| text("/etc/machine-id")),
            ..Self::default()
        }
    }

    pub fn arch() -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }
}

pub fn node(config: &Config) -> Value {
    let arch = Machine::arch();
    let mut labels: serde_json::Map<String, Value> = config.labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    for (name, value) in [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ] {
        labels.insert(name.to_owned(), json!(value));
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": config.node_name, "labels": labels,
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
        "spec": {"taints": config.taints},
    })
}

/// What the status is made from, besides the machine.
#[derive(Debug, Clone)]
pub struct Basis<'a> {
    pub addresses: &'a [String],
    pub images: &'a [cri::Image],
    /// Why no pod can run here, when none can.
    pub not_ready: Option<&'a str>,
    pub pressures: &'a BTreeSet<Pressure>,
    /// The Node as the API has it.
    pub held: Option<&'a Node>,
}

/// Type, whether it holds, reason, message.
type Finding<'a> = (&'static str, bool, &'static str, &'a str);

fn findings<'a>(basis: &Basis<'a>) -> [Finding<'a>; 4] {
    let pressed = |pressure: Pressure, yes: (&'static str, &'a str), no: (&'static str, &'a str)| {
        let on = basis.pressures.contains(&pressure);
        let (reason, message) = if on { yes } else { no };
        (pressure.name(), on, reason, message)
    };
    [
        pressed(
            Pressure::Memory,
            (
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
            ),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressed(
            Pressure::Disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressed(
            Pressure::Pid,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        match basis.not_ready {
            None => ("Ready", true, "KubeletReady", "kubelet is posting ready status"),
            Some(why) => ("Ready", false, "KubeletNotReady", why),
        },
    ]
}

fn second(t: Timestamp) -> String {
    Timestamp::from_second(t.as_second()).unwrap_or(t).to_string()
}

fn held_condition<'a>(node: Option<&'a Node>, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node?.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

/// Conditions keep the time at which they became what they are.
fn conditions(basis: &Basis<'_>, now: Timestamp) -> Vec<Value> {
    let each = findings(basis).into_iter().map(|(kind, on, reason, message)| {
        let status = if on { "True" } else { "False" };
        let same = held_condition(basis.held, kind).filter(|c| c.status == status);
        let since = same.and_then(|c| c.last_transition_time.as_ref()).map_or(now, |t| t.0);
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": second(now), "lastTransitionTime": second(since)})
    });
    each.collect()
}

/// The API has another of this node's conditions: nobody heard of the node for too long, and
/// the cluster took it for lost.
pub fn overruled(basis: &Basis<'_>) -> bool {
    let mut all = findings(basis).into_iter();
    all.any(|(kind, on, ..)| {
        let held = held_condition(basis.held, kind);
        held.is_some_and(|held| held.status != if on { "True" } else { "False" })
    })
}

/// What to tell of conditions that are new or have changed, as upstream's event reasons.
pub fn transitions(basis: &Basis<'_>, told: &mut BTreeMap<&'static str, bool>) -> Vec<&'static str> {
    let mut news = Vec::new();
    for (kind, on, ..) in findings(basis) {
        let lost = held_condition(basis.held, kind).is_some_and(|held| held.status == "Unknown");
        if told.insert(kind, on) == Some(on) && !lost {
            continue;
        }
        news.push(match (kind, on) {
            ("MemoryPressure", true) => "NodeHasInsufficientMemory",
            ("MemoryPressure", false) => "NodeHasSufficientMemory",
            ("DiskPressure", true) => "NodeHasDiskPressure",
            ("DiskPressure", false) => "NodeHasNoDiskPressure",
            ("PIDPressure", true) => "NodeHasInsufficientPID",
            ("PIDPressure", false) => "NodeHasSufficientPID",
            (_, true) => "NodeReady",
            (_, false) => "NodeNotReady",
        });
    }
    news
}

fn images(images: &[cri::Image]) -> Vec<Value> {
    /// Upstream names the largest, so many of them, by so many names each.
    const IMAGES_MAX: usize = 50;
    const NAMES_MAX: usize = 5;
    let mut images: Vec<(u64, Vec<&String>)> = images
        .iter()
        .map(|i| {
            (
                i.size,
                i.repo_digests.iter().chain(&i.repo_tags).take(NAMES_MAX).collect(),
            )
        })
        .collect();
    images.sort_by(|a, b| b.cmp(a));
    let images = images.into_iter().take(IMAGES_MAX);
    images
        .map(|(size, names)| json!({"names": names, "sizeBytes": size}))
        .collect()
}

fn handlers(machine: &Machine) -> Vec<Value> {
    // As they come, the order may be another one each time.
    let sorted: BTreeMap<&str, &cri::RuntimeHandler> = machine.handlers.iter().map(|h| (h.name.as_str(), h)).collect();
    let each = sorted.into_values().map(|handler| {
        let features = handler.features.unwrap_or_default();
        json!({"name": handler.name, "features": {
            "recursiveReadOnlyMounts": features.recursive_read_only_mounts,
            "userNamespaces": features.user_namespaces}})
    });
    each.collect()
}

pub fn status(config: &Config, machine: &Machine, basis: &Basis<'_>, now: Timestamp) -> Value {
    let addresses = basis.addresses.iter();
    let shown = addresses.map(|ip| json!({"type": "InternalIP", "address": ip}));
    let hostname = [json!({"type": "Hostname", "address": config.node_name})];
    let held = basis.held.and_then(|n| n.status.as_ref());
    let held = (
        held.and_then(|s| s.capacity.as_ref()),
        held.and_then(|s| s.allocatable.as_ref()),
    );
    let mut status = json!({
        "capacity": allocatable::capacity(config, machine),
        "allocatable": allocatable::shown(config, machine, held),
        "addresses": shown.chain(hostname).collect::<Vec<_>>(),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.kubelet_port}},
        "images": images(basis.images),
        "nodeInfo": {
            "architecture": Machine::arch(), "operatingSystem": "linux", "bootID": machine.boot_id,
            "machineID": machine.machine_id, "systemUUID": machine.system_uuid, "kernelVersion": machine.kernel,
            "osImage": machine.os_image, "containerRuntimeVersion": machine.runtime_version,
            "kubeletVersion": VERSION, "kubeProxyVersion": "",
        },
        "conditions": conditions(basis, now),
    });
    if !machine.handlers.is_empty() {
        status["runtimeHandlers"] = json!(handlers(machine));
    }
    if let Some(features) = &machine.features {
        status["features"] = json!({"supplementalGroupsPolicy": features.supplemental_groups_policy});
    }
    status
}

/// The same status without the times of its heartbeats, to see whether it is another one.
pub fn without_heartbeat(status: &Value) -> Value {
    let mut status = status.clone();
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        condition.remove("lastHeartbeatTime");
        condition.remove("lastTransitionTime");
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn conditions_keep_their_times() {
        let config = Config::new("n", Path::new("/x"));
        let pressures = BTreeSet::from([Pressure::Disk]);
        let none = BTreeSet::new();
        let addresses = ["10.0.0.1".to_owned()];
        let mut basis = Basis {
            addresses: &addresses,
            images: &[],
            not_ready: None,
            pressures: &none,
            held: None,
        };
        let mut told = BTreeMap::new();
        let first = status(&config, &Machine::default(), &basis, at("2026-01-01T00:00:00Z"));
        let news = transitions(&basis, &mut told);
        assert_eq!(
            news,
            [
                "NodeHasSufficientMemory",
                "NodeHasNoDiskPressure",
                "NodeHasSufficientPID",
                "NodeReady"
            ]
        );
        let held: Node = serde_json::from_value(json!({ "status": first })).expect("valid");
        basis.held = Some(&held);
        let same = status(&config, &Machine::default(), &basis, at("2026-01-01T01:00:00Z"));
        assert_eq!(without_heartbeat(&first), without_heartbeat(&same));
        assert!(transitions(&basis, &mut told).is_empty());
        assert!(!overruled(&basis));
        basis.pressures = &pressures;
        basis.not_ready = Some("because");
        assert!(overruled(&basis));
        let later = status(&config, &Machine::default(), &basis, at("2026-01-01T02:00:00Z"));
        let shown: Vec<String> = later["conditions"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|c| {
                format!(
                    "{} {} {} {}",
                    c["type"], c["status"], c["reason"], c["lastTransitionTime"]
                )
                .replace('"', "")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "MemoryPressure False KubeletHasSufficientMemory 2026-01-01T00:00:00Z",
                "DiskPressure True KubeletHasDiskPressure 2026-01-01T02:00:00Z",
                "PIDPressure False KubeletHasSufficientPID 2026-01-01T00:00:00Z",
                "Ready False KubeletNotReady 2026-01-01T02:00:00Z",
            ]
        );
        assert_eq!(transitions(&basis, &mut told), ["NodeHasDiskPressure", "NodeNotReady"]);
        assert_ne!(without_heartbeat(&later), without_heartbeat(&same));
        assert_eq!(later["addresses"][1]["type"], "Hostname");
    }

    #[test]
    fn a_node_that_was_taken_for_lost_says_again_that_it_is_there() {
        let config = Config::new("n", Path::new("/x"));
        let none = BTreeSet::new();
        let mut basis = Basis {
            addresses: &[],
            images: &[],
            not_ready: None,
            pressures: &none,
            held: None,
        };
        assert!(!overruled(&basis), "nobody says anything of a node that is not there");
        let mut told = BTreeMap::new();
        let mut shown = status(&config, &Machine::default(), &basis, at("2026-01-01T00:00:00Z"));
        transitions(&basis, &mut told);
        shown["conditions"][3]["status"] = json!("Unknown");
        shown["conditions"][3]["reason"] = json!("NodeStatusUnknown");
        let held: Node = serde_json::from_value(json!({ "status": shown })).expect("valid");
        basis.held = Some(&held);
        assert!(overruled(&basis));
        assert_eq!(transitions(&basis, &mut told), ["NodeReady"]);
        let again = status(&config, &Machine::default(), &basis, at("2026-01-01T00:05:00Z"));
        assert_eq!(again["conditions"][3]["lastTransitionTime"], "2026-01-01T00:05:00Z");
        let held: Node = serde_json::from_value(json!({ "status": again })).expect("valid");
        basis.held = Some(&held);
        assert!(!overruled(&basis) && transitions(&basis, &mut told).is_empty());
    }
}
