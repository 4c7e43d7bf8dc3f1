//! `/metrics/cadvisor`: series with the names and labels that dashboards know from
//! cAdvisor. Pure.

use super::cgroup::Reading;
use super::network::Counters;
use super::observe::NodeUse;
use super::pressure::{Pressure, Stall, Stalls};
use super::resource::seconds;
use skiff_metrics::Page;

/// One cgroup with the labels that every series of it has.
struct Group<'a> {
    labels: [(&'static str, &'a str); 6],
    reading: &'a Reading,
    started_s: i64,
    written_bytes: Option<u64>,
}

pub struct Machine {
    pub cores: usize,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    pub boot_id: String,
    pub machine_id: String,
    pub system_uuid: String,
}

fn labels<'a>(
    container: &'a str,
    id: &'a str,
    image: &'a str,
    name: &'a str,
    namespace: &'a str,
    pod: &'a str,
) -> [(&'static str, &'a str); 6] {
    [
        ("container", container),
        ("id", id),
        ("image", image),
        ("name", name),
        ("namespace", namespace),
        ("pod", pod),
    ]
}

pub fn page(node: &NodeUse, machine: &Machine, pause_image: &str) -> String {
    let ids: Vec<(String, Vec<String>)> = node
        .pods
        .iter()
        .map(|p| {
            let sandbox = p.sandbox.as_ref().map_or("", |(id, _)| id);
            let containers = p.containers.iter().map(|c| format!("{}/{}", p.path, c.id));
            (format!("{}/{sandbox}", p.path), containers.collect())
        })
        .collect();
    let mut groups = vec![Group {
        labels: labels("", "/", "", "", "", ""),
        reading: &node.reading,
        started_s: node.booted.as_second(),
        written_bytes: node.disk.map(|d| d.used_bytes),
    }];
    groups.extend(node.slices.iter().map(|(path, reading)| Group {
        labels: labels("", path, "", "", "", ""),
        reading,
        started_s: node.booted.as_second(),
        written_bytes: None,
    }));
    for (pod, (sandbox_path, paths)) in node.pods.iter().zip(&ids) {
        let started_s = pod.started.unwrap_or(node.booted).as_second();
        groups.push(Group {
            labels: labels("", &pod.path, "", "", &pod.namespace, &pod.name),
            reading: &pod.reading,
            started_s,
            written_bytes: None,
        });
        if let Some((id, Some(reading))) = &pod.sandbox {
            groups.push(Group {
                labels: labels("", sandbox_path, pause_image, id, &pod.namespace, &pod.name),
                reading,
                started_s,
                written_bytes: None,
            });
        }
        for (container, path) in pod.containers.iter().zip(paths) {
            groups.push(Group {
                labels: labels(
                    &container.name,
                    path,
                    &container.image,
                    &container.id,
                    &pod.namespace,
                    &pod.name,
                ),
                reading: &container.reading,
                started_s: container.started.as_second(),
                written_bytes: container.written.map(|w| w.bytes),
            });
        }
    }
    let mut out = Out {
        page: Page::default(),
        at_ms: node.at.as_millisecond(),
    };
    out.page.family("cadvisor_version_info", "gauge", "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.");
    out.page.sample(
        "cadvisor_version_info",
        &[("cadvisorRevision", ""), ("cadvisorVersion", ""), ("dockerVersion", "")],
        1,
    );
    cpu(&mut out, &groups);
    memory(&mut out, &groups);
    pressure(&mut out, &groups);
    disks(&mut out, &groups, node);
    network(&mut out, node, pause_image, &ids);
    limits(&mut out, &groups);
    lives(&mut out, &groups);
    machine_page(&mut out, machine);
    out.page.finish()
}

struct Out {
    page: Page,
    at_ms: i64,
}

impl Out {
    /// One series of each group that has a value.
    fn each(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        groups: &[Group<'_>],
        value: impl Fn(&Group<'_>) -> Option<String>,
    ) {
        let found: Vec<_> = groups.iter().filter_map(|g| Some((g, value(g)?))).collect();
        if found.is_empty() {
            return;
        }
        self.page.family(name, kind, help);
        for (group, value) in found {
            self.sample(name, group.labels.to_vec(), value);
        }
    }

    fn sample(&mut self, name: &str, mut labels: Vec<(&str, &str)>, value: impl std::fmt::Display) {
        labels.sort_unstable();
        self.page.sample(name, &labels, format!("{value} {}", self.at_ms));
    }
}

fn cpu(out: &mut Out, groups: &[Group<'_>]) {
    let name = "container_cpu_usage_seconds_total";
    out.page
        .family(name, "counter", "Cumulative cpu time consumed in seconds.");
    for group in groups {
        let mut labels = group.labels.to_vec();
        labels.push(("cpu", "total"));
        out.sample(name, labels, seconds(group.reading.cpu.usage_ns));
    }
    let limited = |g: &Group<'_>| g.reading.more.as_ref().is_some_and(|m| m.cpu_quota_us.is_some());
    let series: [(&str, &str, fn(&Reading) -> String, bool); 5] = [
        (
            "container_cpu_user_seconds_total",
            "Cumulative user cpu time consumed in seconds.",
            |r| seconds(r.cpu.user_ns),
            false,
        ),
        (
            "container_cpu_system_seconds_total",
            "Cumulative system cpu time consumed in seconds.",
            |r| seconds(r.cpu.system_ns),
            false,
        ),
        (
            "container_cpu_cfs_periods_total",
            "Number of elapsed enforcement period intervals.",
            |r| r.cpu.periods.to_string(),
            true,
        ),
        (
            "container_cpu_cfs_throttled_periods_total",
            "Number of throttled period intervals.",
            |r| r.cpu.throttled_periods.to_string(),
            true,
        ),
        (
            "container_cpu_cfs_throttled_seconds_total",
            "Total time duration the container has been throttled.",
            |r| seconds(r.cpu.throttled_ns),
            true,
        ),
    ];
    for (name, help, value, only_limited) in series {
        out.each(name, "counter", help, groups, |g| {
            (!only_limited || limited(g)).then(|| value(g.reading))
        });
    }
}

fn memory(out: &mut Out, groups: &[Group<'_>]) {
    let series: [(&str, &str, fn(&Reading) -> u64); 6] = [
        ("container_memory_cache", "Number of bytes of page cache memory.", |r| {
            r.memory.cache_bytes
        }),
        (
            "container_memory_mapped_file",
            "Size of memory mapped files in bytes.",
            |r| r.memory.mapped_bytes,
        ),
        ("container_memory_rss", "Size of RSS in bytes.", |r| r.memory.rss_bytes),
        ("container_memory_swap", "Container swap usage in bytes.", |r| {
            r.memory.swap_bytes
        }),
        (
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            |r| r.memory.usage_bytes,
        ),
        (
            "container_memory_working_set_bytes",
            "Current working set in bytes.",
            |r| r.memory.working_set_bytes,
        ),
    ];
    for (name, help, value) in series {
        out.each(name, "gauge", help, groups, |g| Some(value(g.reading).to_string()));
    }
    out.each(
        "container_memory_max_usage_bytes",
        "gauge",
        "Maximum memory usage recorded in bytes",
        groups,
        |g| Some(g.reading.more.as_ref()?.memory_peak_bytes.to_string()),
    );
    out.each(
        "container_memory_failcnt",
        "counter",
        "Number of memory usage hits limits",
        groups,
        |g| Some(g.reading.more.as_ref()?.memory_failures.to_string()),
    );
    out.each(
        "container_oom_events_total",
        "counter",
        "Count of out of memory events observed for the container",
        groups,
        |g| Some(g.reading.more.as_ref()?.oom_kills.to_string()),
    );
    let name = "container_memory_failures_total";
    out.page
        .family(name, "counter", "Cumulative count of memory allocation failures.");
    for group in groups {
        let memory = &group.reading.memory;
        for (kind, value) in [("pgfault", memory.faults), ("pgmajfault", memory.major_faults)] {
            for scope in ["container", "hierarchy"] {
                let mut labels = group.labels.to_vec();
                labels.extend([("failure_type", kind), ("scope", scope)]);
                out.sample(name, labels, value);
            }
        }
    }
}

fn pressure(out: &mut Out, groups: &[Group<'_>]) {
    type Pick = fn(&Pressure) -> Option<Stalls>;
    let resources: [(&str, &str, Pick); 3] = [
        ("cpu", "CPU", |p| p.cpu),
        ("memory", "memory", |p| p.memory),
        ("io", "IO", |p| p.io),
    ];
    let total = |stall: Stall| seconds(stall.total_us.saturating_mul(1_000));
    for (resource, shown, pick) in resources {
        let of = |g: &Group<'_>| pick(&g.reading.more.as_ref()?.pressure);
        out.each(
            &format!("container_pressure_{resource}_stalled_seconds_total"),
            "counter",
            &format!("Total time duration no tasks in the container could make progress due to {shown} congestion."),
            groups,
            |g| of(g).map(|stalls| total(stalls.full)),
        );
        out.each(
            &format!("container_pressure_{resource}_waiting_seconds_total"),
            "counter",
            &format!("Total time duration tasks in the container have waited due to {shown} congestion."),
            groups,
            |g| of(g).map(|stalls| total(stalls.some)),
        );
    }
}

fn disks(out: &mut Out, groups: &[Group<'_>], node: &NodeUse) {
    type Pick = fn(&super::cgroup::Io) -> u64;
    let series: [(&str, &str, Pick); 4] = [
        (
            "container_fs_reads_bytes_total",
            "Cumulative count of bytes read",
            |io| io.read_bytes,
        ),
        (
            "container_fs_reads_total",
            "Cumulative count of reads completed",
            |io| io.reads,
        ),
        (
            "container_fs_writes_bytes_total",
            "Cumulative count of bytes written",
            |io| io.written_bytes,
        ),
        (
            "container_fs_writes_total",
            "Cumulative count of writes completed",
            |io| io.writes,
        ),
    ];
    for (name, help, value) in series {
        out.page.family(name, "counter", help);
        for group in groups {
            let devices = group.reading.more.iter().flat_map(|m| &m.io);
            for (device, io) in devices {
                let mut labels = group.labels.to_vec();
                labels.push(("device", device));
                out.sample(name, labels, value(io));
            }
        }
    }
    let Some(disk) = &node.disk else { return };
    type Space = fn(&super::disk::FileSystem) -> u64;
    let series: [(&str, &str, Space); 3] = [
        (
            "container_fs_limit_bytes",
            "Number of bytes that can be consumed by the container on this filesystem.",
            |d| d.capacity_bytes,
        ),
        ("container_fs_inodes_total", "Number of Inodes", |d| d.inodes),
        ("container_fs_inodes_free", "Number of available Inodes", |d| {
            d.inodes_free
        }),
    ];
    let with_device = |group: &Group<'_>| {
        let mut labels: Vec<(&'static str, String)> = group.labels.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        labels.push(("device", String::new()));
        labels
    };
    for (name, help, value) in series {
        out.page.family(name, "gauge", help);
        for group in groups.iter().filter(|g| g.written_bytes.is_some()) {
            let labels = with_device(group);
            out.sample(
                name,
                labels.iter().map(|(k, v)| (*k, v.as_str())).collect(),
                value(disk),
            );
        }
    }
    out.page.family(
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
    );
    for group in groups {
        let Some(bytes) = group.written_bytes else { continue };
        let labels = with_device(group);
        out.sample(
            "container_fs_usage_bytes",
            labels.iter().map(|(k, v)| (*k, v.as_str())).collect(),
            bytes,
        );
    }
}

fn network(out: &mut Out, node: &NodeUse, pause_image: &str, ids: &[(String, Vec<String>)]) {
    type Pick = fn(&Counters) -> u64;
    let series: [(&str, &str, Pick); 8] = [
        (
            "container_network_receive_bytes_total",
            "Cumulative count of bytes received",
            |c| c.rx_bytes,
        ),
        (
            "container_network_receive_errors_total",
            "Cumulative count of errors encountered while receiving",
            |c| c.rx_errors,
        ),
        (
            "container_network_receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving",
            |c| c.rx_dropped,
        ),
        (
            "container_network_receive_packets_total",
            "Cumulative count of packets received",
            |c| c.rx_packets,
        ),
        (
            "container_network_transmit_bytes_total",
            "Cumulative count of bytes transmitted",
            |c| c.tx_bytes,
        ),
        (
            "container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
            |c| c.tx_errors,
        ),
        (
            "container_network_transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting",
            |c| c.tx_dropped,
        ),
        (
            "container_network_transmit_packets_total",
            "Cumulative count of packets transmitted",
            |c| c.tx_packets,
        ),
    ];
    for (name, help, value) in series {
        out.page.family(name, "counter", help);
        for (interface, counters) in node.wires.of_node() {
            let mut all = labels("", "/", "", "", "", "").to_vec();
            all.push(("interface", interface));
            out.sample(name, all, value(&counters));
        }
        for (pod, (path, _)) in node.pods.iter().zip(ids) {
            let (Some(counters), Some((id, _))) = (&pod.network, &pod.sandbox) else {
                continue;
            };
            let mut all = labels("", path, pause_image, id, &pod.namespace, &pod.name).to_vec();
            all.push(("interface", "eth0"));
            out.sample(name, all, value(counters));
        }
    }
}

fn limits(out: &mut Out, groups: &[Group<'_>]) {
    type Pick = fn(&super::cgroup::More) -> Option<u64>;
    let series: [(&str, &str, Pick); 4] = [
        ("container_spec_cpu_period", "CPU period of the container.", |m| {
            Some(m.cpu_period_us).filter(|p| *p > 0)
        }),
        ("container_spec_cpu_quota", "CPU quota of the container.", |m| {
            m.cpu_quota_us
        }),
        ("container_spec_cpu_shares", "CPU share of the container.", |m| {
            m.cpu_shares
        }),
        // No limit is 0, as cAdvisor says it.
        (
            "container_spec_memory_limit_bytes",
            "Memory limit for the container.",
            |m| Some(m.memory_limit_bytes.unwrap_or(0)),
        ),
    ];
    for (name, help, value) in series {
        out.each(name, "gauge", help, groups, |g| {
            Some(value(g.reading.more.as_ref()?)?.to_string())
        });
    }
    for (name, help) in [
        (
            "container_spec_memory_reservation_limit_bytes",
            "Memory reservation limit for the container.",
        ),
        (
            "container_spec_memory_swap_limit_bytes",
            "Memory swap limit for the container.",
        ),
    ] {
        out.each(name, "gauge", help, groups, |_| Some("0".into()));
    }
}

fn lives(out: &mut Out, groups: &[Group<'_>]) {
    let now = (out.at_ms / 1_000).to_string();
    out.each(
        "container_last_seen",
        "gauge",
        "Last time a container was seen by the exporter",
        groups,
        |_| Some(now.clone()),
    );
    out.each(
        "container_processes",
        "gauge",
        "Number of processes running inside the container.",
        groups,
        |g| Some(g.reading.more.as_ref()?.processes.to_string()),
    );
    let help = "Start time of the container since unix epoch in seconds.";
    out.each("container_start_time_seconds", "gauge", help, groups, |g| {
        Some(g.started_s.to_string())
    });
    out.page.family(
        "container_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    out.page.sample("container_scrape_error", &[], 0);
}

fn machine_page(out: &mut Out, machine: &Machine) {
    let labels = [
        ("boot_id", machine.boot_id.as_str()),
        ("machine_id", machine.machine_id.as_str()),
        ("system_uuid", machine.system_uuid.as_str()),
    ];
    let cores = machine.cores as u64;
    for (name, help, value) in [
        ("machine_cpu_cores", "Number of logical CPU cores.", cores),
        ("machine_cpu_physical_cores", "Number of physical CPU cores.", cores),
        ("machine_cpu_sockets", "Number of CPU sockets.", 1),
        (
            "machine_memory_bytes",
            "Amount of memory installed on the machine.",
            machine.memory_bytes,
        ),
        (
            "machine_swap_bytes",
            "Amount of swap memory available on the machine.",
            machine.swap_bytes,
        ),
    ] {
        out.page.family(name, "gauge", help);
        out.page.sample(name, &labels, value);
    }
    out.page.family(
        "machine_scrape_error",
        "gauge",
        "1 if there was an error while getting machine metrics, 0 otherwise.",
    );
    out.page.sample("machine_scrape_error", &[], 0);
}
