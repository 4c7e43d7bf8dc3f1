//! What node, pods and containers use, read when somebody asks: `/stats/summary` and
//! the pages of metrics. Nothing is sampled in between.
//!
//! ```text
//! asked --> observe (runtime's list, cgroup files, /proc) --> NodeUse --> summary | resource | cadvisor
//!                                                              '--> rates (the question before)
//! own: counted as it happens ----------------------------------------> /metrics, /metrics/probes
//! ```

mod cadvisor;
pub mod cgroup;
pub mod disk;
mod network;
pub mod observe;
pub mod own;
mod pressure;
mod rates;
mod resource;
mod summary;

use crate::node::status::VERSION;
use crate::pod::node::Shared;
use crate::pod::spec;
use disk::Walks;
use observe::{Extent, NodeUse, observe};
use own::Gauges;
use rates::{Counters, Rates};
use serde_json::Value;
use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Who asks for the first time gets rates over this long.
const FIRST_WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Stats {
    rates: Mutex<Rates>,
    walks: Arc<Walks>,
}

impl Stats {
    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn summary(&self, shared: &Arc<Shared>, brief: bool) -> Value {
        if self.rates().base(jiff::Timestamp::now()).is_none() {
            let first = observe(shared, &self.walks, Extent::Brief).await;
            self.rates().keep(Counters::of(&first));
            tokio::time::sleep(FIRST_WINDOW).await;
        }
        let extent = if brief { Extent::Brief } else { Extent::Everything };
        let node = observe(shared, &self.walks, extent).await;
        let mut rates = self.rates();
        rates.keep(Counters::of(&node));
        summary::summary(&shared.config.node_name, &node, rates.base(node.at), brief)
    }

    pub async fn resource(&self, shared: &Arc<Shared>) -> String {
        resource::page(&observe(shared, &self.walks, Extent::Brief).await)
    }

    pub async fn cadvisor(&self, shared: &Arc<Shared>) -> String {
        let node = observe(shared, &self.walks, Extent::Everything).await;
        cadvisor::page(&node, &machine(shared), &shared.config.pause_image)
    }

    pub async fn own(&self, shared: &Arc<Shared>) -> String {
        let node = observe(shared, &self.walks, Extent::Everything).await;
        let mut gauges = gauges(shared, &node);
        for container in shared.runtime.containers().await.unwrap_or_default() {
            let state = match cri::ContainerState::try_from(container.state) {
                Ok(cri::ContainerState::ContainerRunning) => "running",
                Ok(cri::ContainerState::ContainerExited) => "exited",
                Ok(cri::ContainerState::ContainerCreated) => "created",
                _ => "unknown",
            };
            *gauges.containers.entry(state).or_default() += 1;
        }
        own::page(&gauges)
    }

    pub fn probes(&self, shared: &Shared) -> String {
        let pods = shared.cache.pods();
        let known: std::collections::BTreeSet<&str> = pods.values().map(|pod| spec::uid(pod)).collect();
        own::keep_probes(|uid| known.contains(uid));
        own::probes_page()
    }
}

fn gauges(shared: &Shared, node: &NodeUse) -> Gauges {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let pods = shared.cache.pods();
    let is_mirror = |pod: &k8s_openapi::api::core::v1::Pod| {
        let annotations = pod.metadata.annotations.as_ref();
        annotations.is_some_and(|a| a.contains_key(MIRROR))
    };
    let volumes = node.pods.iter().flat_map(|pod| {
        let of = |v: &observe::VolumeUse| Some((pod.namespace.clone(), v.claim.clone()?, v.space));
        pod.volumes.iter().filter_map(of).collect::<Vec<_>>()
    });
    let logs = node.pods.iter().flat_map(|pod| {
        let names = |name: &str| {
            [
                pod.uid.clone(),
                pod.namespace.clone(),
                pod.name.clone(),
                name.to_owned(),
            ]
        };
        let of = |c: &observe::ContainerUse| Some((names(&c.name), c.logs?.bytes));
        pod.containers.iter().filter_map(of).collect::<Vec<_>>()
    });
    Gauges {
        node_name: shared.config.node_name.clone(),
        version: VERSION,
        pods: pods.values().filter(|pod| !spec::phase_is_final(pod)).count() as u64,
        running_pods: node.pods.iter().filter(|pod| !pod.containers.is_empty()).count() as u64,
        mirror_pods: pods.values().filter(|pod| is_mirror(pod)).count() as u64,
        containers: BTreeMap::new(),
        volumes: volumes.collect(),
        logs: logs.collect(),
    }
}

fn machine(shared: &Shared) -> cadvisor::Machine {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let meminfo = text("/proc/meminfo");
    let swap = meminfo.lines().find_map(|line| line.strip_prefix("SwapTotal:"));
    let swap = swap
        .and_then(|l| l.trim().split(' ').next()?.parse::<u64>().ok())
        .unwrap_or(0);
    cadvisor::Machine {
        cores: usize::try_from(shared.cpu_milli / 1_000).unwrap_or(1),
        memory_bytes: u64::try_from(shared.memory_bytes).unwrap_or(0),
        swap_bytes: swap * 1_024,
        boot_id: text("/proc/sys/kernel/random/boot_id"),
        machine_id: text("/etc/machine-id"),
        system_uuid: Some(text("/sys/class/dmi/id/product_uuid"))
            .filter(|uuid| !uuid.is_empty())
            .unwrap_or_else(|| text("/etc/machine-id")),
    }
}

#[cfg(test)]
#[path = "stats_test.rs"]
mod tests;
