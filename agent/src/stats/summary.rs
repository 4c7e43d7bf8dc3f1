//! `/stats/summary`: the Summary API. Pure.
//! <https://kubernetes.io/docs/reference/instrumentation/node-metrics/>.

use super::cgroup::Reading;
use super::disk::{FileSystem, Taken};
use super::network::Counters as Traffic;
use super::observe::{ContainerUse, NodeUse, PodUse};
use super::rates::Counters;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What one answer is made with.
struct Summary<'a> {
    at: Timestamp,
    base: Option<&'a Counters>,
    brief: bool,
    node: &'a NodeUse,
}

pub fn summary(node_name: &str, node: &NodeUse, base: Option<&Counters>, brief: bool) -> Value {
    let this = Summary {
        at: second(node.at),
        base,
        brief,
        node,
    };
    json!({"node": this.node(node_name), "pods": node.pods.iter().map(|p| this.pod(p)).collect::<Vec<_>>()})
}

fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

impl Summary<'_> {
    fn part(&self, uid: &str, container: &str, reading: &Reading) -> Value {
        let used_ns = reading.cpu.usage_ns;
        let mut cpu = json!({"time": self.at, "usageCoreNanoSeconds": used_ns});
        let rate = self
            .base
            .and_then(|base| base.rate(uid, container, self.node.at, used_ns));
        // Who was not there before has used all of it since.
        cpu["usageNanoCores"] = json!(rate.unwrap_or(0));
        let memory = &reading.memory;
        let mut shown = json!({
            "time": self.at, "usageBytes": memory.usage_bytes, "workingSetBytes": memory.working_set_bytes,
            "rssBytes": memory.rss_bytes, "pageFaults": memory.faults, "majorPageFaults": memory.major_faults,
        });
        let limit = reading.more.as_ref().and_then(|m| m.memory_limit_bytes);
        if let Some(limit) = limit {
            shown["availableBytes"] = json!(limit.saturating_sub(memory.working_set_bytes));
        }
        let pressure = reading.more.as_ref().map(|m| m.pressure).unwrap_or_default();
        for (of, stalls) in [(&mut cpu, pressure.cpu), (&mut shown, pressure.memory)] {
            if let Some(stalls) = stalls {
                of["psi"] = stalls.shown();
            }
        }
        let mut part = json!({"cpu": cpu, "memory": shown});
        if !self.brief {
            if let Some(stalls) = pressure.io {
                part["io"] = json!({"time": self.at, "psi": stalls.shown()});
            }
            part["swap"] = json!({"time": self.at, "swapUsageBytes": memory.swap_bytes});
        }
        part
    }

    fn node(&self, name: &str) -> Value {
        let node = self.node;
        let mut shown = self.part("", "", &node.reading);
        shown["nodeName"] = json!(name);
        shown["startTime"] = json!(second(node.booted));
        let free = node.memory_bytes.saturating_sub(node.reading.memory.working_set_bytes);
        shown["memory"]["availableBytes"] = json!(free);
        let system = node.system.iter().map(|s| {
            let mut one = self.part("", s.name, &s.reading);
            one["name"] = json!(s.name);
            one["startTime"] = json!(second(s.started));
            one
        });
        shown["systemContainers"] = system.collect();
        if self.brief {
            return shown;
        }
        shown["network"] = self.network(node.wires.of_node().into_iter());
        if let Some(disk) = &node.disk {
            shown["fs"] = self.space(disk);
        }
        if let Some(images) = &node.images {
            let space = self.space(images);
            shown["runtime"] = json!({"imageFs": space, "containerFs": space});
        }
        let (max, current) = node.processes;
        shown["rlimit"] = json!({"time": self.at, "maxpid": max, "curproc": current});
        shown
    }

    fn network<'n>(&self, interfaces: impl Iterator<Item = (&'n str, Traffic)>) -> Value {
        let one = |name: &str, traffic: &Traffic| {
            json!({"name": name, "rxBytes": traffic.rx_bytes, "rxErrors": traffic.rx_errors,
                "txBytes": traffic.tx_bytes, "txErrors": traffic.tx_errors})
        };
        let all: Vec<Value> = interfaces.map(|(name, traffic)| one(name, &traffic)).collect();
        let mut shown = all.first().cloned().unwrap_or_else(|| json!({"name": ""}));
        shown["time"] = json!(self.at);
        shown["interfaces"] = all.into();
        shown
    }

    fn space(&self, space: &FileSystem) -> Value {
        json!({
            "time": self.at, "availableBytes": space.available_bytes, "capacityBytes": space.capacity_bytes,
            "usedBytes": space.used_bytes, "inodesFree": space.inodes_free, "inodes": space.inodes,
            "inodesUsed": space.inodes_used,
        })
    }

    /// What is taken of a file system.
    fn taken(&self, of: Option<&FileSystem>, taken: Taken) -> Value {
        let mut shown = of.map_or_else(|| json!({"time": self.at}), |space| self.space(space));
        shown["usedBytes"] = json!(taken.bytes);
        shown["inodesUsed"] = json!(taken.inodes);
        shown
    }

    fn container(&self, pod: &PodUse, container: &ContainerUse) -> Value {
        let mut shown = self.part(&pod.uid, &container.id, &container.reading);
        shown["name"] = json!(container.name);
        shown["startTime"] = json!(second(container.started));
        if !self.brief {
            let written = container.written.unwrap_or_default();
            shown["rootfs"] = self.taken(self.node.images.as_ref(), written);
            shown["logs"] = self.taken(self.node.disk.as_ref(), container.logs.unwrap_or_default());
        }
        shown
    }

    fn pod(&self, pod: &PodUse) -> Value {
        let mut shown = self.part(&pod.uid, "", &pod.reading);
        shown["podRef"] = json!({"name": pod.name, "namespace": pod.namespace, "uid": pod.uid});
        shown["startTime"] = json!(pod.started.map(second));
        shown["containers"] = pod.containers.iter().map(|c| self.container(pod, c)).collect();
        if self.brief {
            return shown;
        }
        if let Some(network) = &pod.network {
            shown["network"] = self.network([("eth0", *network)].into_iter());
        }
        let volumes = pod.volumes.iter().map(|volume| {
            let mut one = self.space(&volume.space);
            one["name"] = json!(volume.name);
            if let Some(claim) = &volume.claim {
                one["pvcRef"] = json!({"name": claim, "namespace": pod.namespace});
            }
            one
        });
        let volumes: Vec<Value> = volumes.collect();
        if !volumes.is_empty() {
            shown["volume"] = volumes.into();
        }
        shown["ephemeral-storage"] = self.taken(self.node.disk.as_ref(), ephemeral(pod));
        let processes = pod.reading.more.as_ref().map_or(0, |m| m.processes);
        shown["process_stats"] = json!({"process_count": processes});
        shown
    }
}

/// All that the pod takes of the node's disk, volumes of their own life not counted.
pub fn ephemeral(pod: &PodUse) -> Taken {
    let containers = pod.containers.iter().flat_map(|c| [c.logs, c.written]).flatten();
    let volumes = pod.volumes.iter().filter(|v| v.on_disk && v.claim.is_none());
    let volumes = volumes.map(|v| Taken {
        bytes: v.space.used_bytes,
        inodes: v.space.inodes_used,
    });
    containers.chain(volumes).fold(Taken::default(), |all, one| Taken {
        bytes: all.bytes + one.bytes,
        inodes: all.inodes + one.inodes,
    })
}
