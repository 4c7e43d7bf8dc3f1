//! The Node object as this machine should show it. Pure but for `Machine::read`.

use crate::config::Config;
use crate::pod::resources::sums::Sums;
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_proto::cri::v1 as cri;

#[derive(Debug, Clone, Default)]
pub struct Machine {
    pub cpus: usize,
    pub memory_bytes: i64,
    pub disk_bytes: u64,
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub boot_id: String,
    pub system_uuid: String,
    pub runtime_version: String,
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
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.unwrap_or(0) * 1_024,
            disk_bytes: disk.map_or(0, |d| d.blocks() * d.fragment_size()),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
            machine_id: text("/etc/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            system_uuid: text("/sys/class/dmi/id/product_uuid"),
            runtime_version: String::new(),
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

/// What pods may have of the node, in thousandths.
pub fn allocatable(config: &Config, machine: &Machine) -> Sums {
    let whole = |value: i64| i128::from(value) * 1_000;
    Sums::from([
        ("cpu".to_owned(), whole(i64::try_from(machine.cpus).unwrap_or(1))),
        ("memory".to_owned(), whole(machine.memory_bytes)),
        ("ephemeral-storage".to_owned(), i128::from(machine.disk_bytes) * 1_000),
        ("pods".to_owned(), whole(i64::from(config.pods_max))),
    ])
}

/// `not_ready`: why not, when not.
pub fn status(
    config: &Config,
    machine: &Machine,
    addresses: &[String],
    images: &[cri::Image],
    not_ready: Option<&str>,
    since: Timestamp,
    now: Timestamp,
) -> Value {
    let quantities = json!({
        "cpu": machine.cpus.to_string(),
        "memory": format!("{}Ki", machine.memory_bytes / 1_024),
        "ephemeral-storage": format!("{}Ki", machine.disk_bytes / 1_024),
        "pods": config.pods_max.to_string(),
        "hugepages-2Mi": "0",
    });
    let second = |t: Timestamp| Timestamp::from_second(t.as_second()).unwrap_or(t).to_string();
    let condition = |kind: &str, on: bool, reason: &str, message: &str| {
        json!({"type": kind, "status": if on { "True" } else { "False" }, "reason": reason, "message": message,
            "lastHeartbeatTime": second(now), "lastTransitionTime": second(since)})
    };
    let ready = match not_ready {
        None => condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
        Some(why) => condition("Ready", false, "KubeletNotReady", why),
    };
    let shown: Vec<Value> = addresses
        .iter()
        .map(|ip| json!({"type": "InternalIP", "address": ip}))
        .collect();
    let hostname = vec![json!({"type": "Hostname", "address": config.node_name})];
    // Upstream names the fifty largest.
    let mut images: Vec<(u64, Vec<String>)> = images
        .iter()
        .map(|i| (i.size, i.repo_digests.iter().chain(&i.repo_tags).cloned().collect()))
        .collect();
    images.sort_by(|a, b| b.cmp(a));
    let images: Vec<Value> = images
        .into_iter()
        .take(50)
        .map(|(size, names)| json!({"names": names, "sizeBytes": size}))
        .collect();
    json!({
        "capacity": quantities,
        "allocatable": quantities,
        "addresses": shown.into_iter().chain(hostname).collect::<Vec<_>>(),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.kubelet_port}},
        "images": images,
        "nodeInfo": {
            "architecture": Machine::arch(), "operatingSystem": "linux", "bootID": machine.boot_id,
            "machineID": machine.machine_id, "systemUUID": machine.system_uuid, "kernelVersion": machine.kernel,
            "osImage": machine.os_image, "containerRuntimeVersion": machine.runtime_version,
            "kubeletVersion": VERSION, "kubeProxyVersion": "",
        },
        "conditions": [
            condition("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ready,
        ],
    })
}
