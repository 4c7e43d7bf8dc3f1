//! What the agent counts about itself, and its page `/metrics`, with kubelet's names.
//! Counting is an addition or a short lock; there is one node agent in a process.

use super::cgroup::{Cpu, Memory, Reading};
use crate::pod::spec;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use skiff_metrics::{Histogram, Page};
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const TICK_NS: u64 = 10_000_000;
const PAGE_BYTES: u64 = 4_096;
/// kubelet's bounds for pods' starts.
const START_BOUNDS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0,
    600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
const CALL_BOUNDS: &[f64] = &[
    0.005,
    0.0125,
    0.03125,
    0.078_125,
    0.195_312_5,
    0.488_281_25,
    1.220_703_125,
    3.051_757_812_5,
    7.629_394_531_25,
    19.073_486_328_125,
    47.683_715_820_312_5,
    119.209_289_550_781_25,
    298.023_223_876_953_1,
    745.058_059_692_382_8,
];
const PROBE_BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Probes that are counted apart: more than a node has; what is beyond is not counted.
const PROBES_MAX: usize = 4_096;
/// Methods of the runtime there are some forty of.
const CALLS_MAX: usize = 128;

struct Call {
    count: u64,
    errors: u64,
    took: Histogram,
}

/// Whose probe it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    pub container: String,
    pub namespace: String,
    pub pod: String,
    pub pod_uid: String,
    /// `Liveness`, `Readiness`, `Startup`.
    pub kind: &'static str,
}

impl Probe {
    pub fn of(pod: &Pod, container: &str, kind: &'static str) -> Self {
        let (namespace, name) = spec::key(pod);
        Self {
            container: container.to_owned(),
            namespace,
            pod: name,
            pod_uid: spec::uid(pod).to_owned(),
            kind,
        }
    }
}

struct Probed {
    /// Successful, failed.
    results: [u64; 2],
    took: Histogram,
}

pub struct Own {
    calls: Mutex<BTreeMap<&'static str, Call>>,
    probes: Mutex<BTreeMap<Probe, Probed>>,
    start: Histogram,
    start_sli: Histogram,
    started_pods: std::sync::atomic::AtomicU64,
}

static OWN: LazyLock<Own> = LazyLock::new(|| Own {
    calls: Mutex::default(),
    probes: Mutex::default(),
    start: Histogram::new(START_BOUNDS, 1e6),
    start_sli: Histogram::new(START_BOUNDS, 1e6),
    started_pods: std::sync::atomic::AtomicU64::new(0),
});

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call of the runtime has ended. `operation`: as `run_podsandbox`.
pub fn called(operation: &'static str, took: Duration, failed: bool) {
    let mut calls = lock(&OWN.calls);
    if calls.len() >= CALLS_MAX && !calls.contains_key(operation) {
        return;
    }
    let call = calls.entry(operation).or_insert_with(|| Call {
        count: 0,
        errors: 0,
        took: Histogram::new(CALL_BOUNDS, 1e6),
    });
    call.count += 1;
    call.errors += u64::from(failed);
    call.took.observe(took.as_secs_f64());
}

/// A probe has answered.
pub fn probed(probe: &Probe, took: Duration, ok: bool) {
    let mut probes = lock(&OWN.probes);
    if !probes.contains_key(probe) {
        if probes.len() >= PROBES_MAX {
            return;
        }
        let new = Probed {
            results: [0, 0],
            took: Histogram::new(PROBE_BOUNDS, 1e6),
        };
        probes.insert(probe.clone(), new);
    }
    if let Some(probed) = probes.get_mut(probe) {
        probed.results[usize::from(!ok)] += 1;
        probed.took.observe(took.as_secs_f64());
    }
}

/// The API holds a new status of a pod: one that runs now has started.
pub fn written(pod: &Pod, status: &PodStatus) {
    let before = pod
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or("Pending");
    if before != "Pending" || status.phase.as_deref() != Some("Running") {
        return;
    }
    let Some(created) = pod.metadata.creation_timestamp.as_ref() else {
        return;
    };
    // Creation is told in whole seconds.
    let waited = Timestamp::now().duration_since(created.0).unsigned_abs();
    pod_started(waited);
}

fn pod_started(waited: Duration) {
    OWN.started_pods.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    OWN.start.observe(waited.as_secs_f64());
    OWN.start_sli.observe(waited.as_secs_f64());
}

/// Probes of pods that are gone are forgotten.
pub fn keep_probes(of: impl Fn(&str) -> bool) {
    lock(&OWN.probes).retain(|probe, _| of(&probe.pod_uid));
}

/// Gauges that are true when they are asked.
#[derive(Debug, Default)]
pub struct Gauges {
    pub node_name: String,
    pub version: &'static str,
    pub pods: u64,
    pub running_pods: u64,
    pub mirror_pods: u64,
    /// By state, as `running`.
    pub containers: BTreeMap<&'static str, u64>,
    /// By namespace and claim.
    pub volumes: Vec<(String, String, super::disk::FileSystem)>,
    /// By uid, namespace, pod, container.
    pub logs: Vec<([String; 4], u64)>,
}

pub fn page(gauges: &Gauges) -> String {
    let mut page = Page::default();
    let mut gauge = |name: &str, help: &str, labels: &[(&str, &str)], value: u64| {
        page.family(name, "gauge", &format!("[ALPHA] {help}"));
        page.sample(name, labels, value);
    };
    gauge(
        "kubelet_node_name",
        "The node's name. The count is always 1.",
        &[("node", &gauges.node_name)],
        1,
    );
    gauge(
        "kubelet_running_pods",
        "Number of pods that have a running pod sandbox",
        &[],
        gauges.running_pods,
    );
    gauge(
        "kubelet_mirror_pods",
        "The number of mirror pods the kubelet will try to create (one per admitted static pod)",
        &[],
        gauges.mirror_pods,
    );

    let pods = |page: &mut Page, name: &str, help: &str| {
        page.family(name, "gauge", &format!("[ALPHA] {help}"));
        page.sample(name, &[("static", "")], gauges.pods.saturating_sub(gauges.mirror_pods));
        page.sample(name, &[("static", "true")], gauges.mirror_pods);
    };
    pods(
        &mut page,
        "kubelet_active_pods",
        "The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.",
    );
    pods(
        &mut page,
        "kubelet_desired_pods",
        "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
    );
    page.family(
        "kubelet_running_containers",
        "gauge",
        "[ALPHA] Number of containers currently running",
    );
    for (state, count) in &gauges.containers {
        page.sample("kubelet_running_containers", &[("container_state", state)], count);
    }
    page.family(
        "kubelet_started_pods_total",
        "counter",
        "[ALPHA] Cumulative number of pods started",
    );
    page.sample(
        "kubelet_started_pods_total",
        &[],
        OWN.started_pods.load(std::sync::atomic::Ordering::Relaxed),
    );
    page.family(
        "kubelet_pod_start_duration_seconds",
        "histogram",
        "[ALPHA] Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
    );
    page.histogram("kubelet_pod_start_duration_seconds", &[], &OWN.start);
    page.family("kubelet_pod_start_sli_duration_seconds", "histogram", "[ALPHA] Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch");
    page.histogram("kubelet_pod_start_sli_duration_seconds", &[], &OWN.start_sli);
    calls(&mut page);
    volumes(&mut page, gauges);
    page.family(
        "kubelet_container_log_filesystem_used_bytes",
        "gauge",
        "[ALPHA] Bytes used by the container's logs on the filesystem.",
    );
    for ([uid, namespace, pod, container], bytes) in &gauges.logs {
        let labels = [
            ("container", container.as_str()),
            ("namespace", namespace),
            ("pod", pod),
            ("uid", uid),
        ];
        page.sample("kubelet_container_log_filesystem_used_bytes", &labels, bytes);
    }
    page.family("kubernetes_build_info", "gauge", "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.");
    let build = [("git_version", gauges.version), ("major", "1"), ("minor", "36")];
    page.sample("kubernetes_build_info", &build, 1);
    process_page(&mut page);
    page.finish()
}

fn calls(page: &mut Page) {
    let calls = lock(&OWN.calls);
    let label = |operation: &'static str| [("operation_type", operation)];
    page.family(
        "kubelet_runtime_operations_total",
        "counter",
        "[ALPHA] Cumulative number of runtime operations by operation type.",
    );
    for (operation, call) in calls.iter() {
        page.sample("kubelet_runtime_operations_total", &label(operation), call.count);
    }
    page.family(
        "kubelet_runtime_operations_errors_total",
        "counter",
        "[ALPHA] Cumulative number of runtime operation errors by operation type.",
    );
    for (operation, call) in calls.iter().filter(|(_, call)| call.errors > 0) {
        page.sample(
            "kubelet_runtime_operations_errors_total",
            &label(operation),
            call.errors,
        );
    }
    page.family(
        "kubelet_runtime_operations_duration_seconds",
        "histogram",
        "[ALPHA] Duration in seconds of runtime operations. Broken down by operation type.",
    );
    for (operation, call) in calls.iter() {
        page.histogram(
            "kubelet_runtime_operations_duration_seconds",
            &label(operation),
            &call.took,
        );
    }
}

fn volumes(page: &mut Page, gauges: &Gauges) {
    type Pick = fn(&super::disk::FileSystem) -> u64;
    let series: [(&str, &str, Pick); 6] = [
        (
            "kubelet_volume_stats_available_bytes",
            "Number of available bytes in the volume",
            |s| s.available_bytes,
        ),
        (
            "kubelet_volume_stats_capacity_bytes",
            "Capacity in bytes of the volume",
            |s| s.capacity_bytes,
        ),
        (
            "kubelet_volume_stats_inodes",
            "Maximum number of inodes in the volume",
            |s| s.inodes,
        ),
        (
            "kubelet_volume_stats_inodes_free",
            "Number of free inodes in the volume",
            |s| s.inodes_free,
        ),
        (
            "kubelet_volume_stats_inodes_used",
            "Number of used inodes in the volume",
            |s| s.inodes_used,
        ),
        (
            "kubelet_volume_stats_used_bytes",
            "Number of used bytes in the volume",
            |s| s.used_bytes,
        ),
    ];
    for (name, help, value) in series.into_iter().filter(|_| !gauges.volumes.is_empty()) {
        page.family(name, "gauge", &format!("[ALPHA] {help}"));
        for (namespace, claim, space) in &gauges.volumes {
            page.sample(
                name,
                &[("namespace", namespace), ("persistentvolumeclaim", claim)],
                value(space),
            );
        }
    }
}

/// `/metrics/probes`.
pub fn probes_page() -> String {
    let mut page = Page::default();
    let probes = lock(&OWN.probes);
    let labels = |p: &Probe| -> Vec<(&'static str, String)> {
        vec![
            ("container", p.container.clone()),
            ("namespace", p.namespace.clone()),
            ("pod", p.pod.clone()),
            ("pod_uid", p.pod_uid.clone()),
            ("probe_type", p.kind.to_owned()),
        ]
    };
    page.family(
        "prober_probe_total",
        "counter",
        "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
    );
    for (probe, probed) in probes.iter() {
        for (result, count) in ["successful", "failed"].into_iter().zip(probed.results) {
            if count > 0 {
                let mut all = labels(probe);
                all.push(("result", result.to_owned()));
                let all: Vec<(&str, &str)> = all.iter().map(|(k, v)| (*k, v.as_str())).collect();
                page.sample("prober_probe_total", &all, count);
            }
        }
    }
    page.family(
        "prober_probe_duration_seconds",
        "histogram",
        "[ALPHA] Duration in seconds for a probe response.",
    );
    for (probe, probed) in probes.iter() {
        let mut all = labels(probe);
        all.retain(|(name, _)| *name != "pod_uid");
        let all: Vec<(&str, &str)> = all.iter().map(|(k, v)| (*k, v.as_str())).collect();
        page.histogram("prober_probe_duration_seconds", &all, &probed.took);
    }
    page.finish()
}

/// A process's use, from its `stat` and `statm`, and when it began. Pure.
pub fn process(stat: &str, statm: &str, now: Timestamp, booted: Timestamp) -> Option<(Timestamp, Reading)> {
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let (user, system, began) = (number(11)?, number(12)?, number(19)?);
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let began = SignedDuration::from_millis(i64::try_from(began * 10).ok()?);
    let reading = Reading {
        cpu: Cpu {
            usage_ns: (user + system).saturating_mul(TICK_NS),
            user_ns: user.saturating_mul(TICK_NS),
            system_ns: system.saturating_mul(TICK_NS),
            ..Cpu::default()
        },
        memory: Memory {
            usage_bytes: pages * PAGE_BYTES,
            working_set_bytes: pages * PAGE_BYTES,
            rss_bytes: pages * PAGE_BYTES,
            faults: number(7).unwrap_or(0),
            major_faults: number(9).unwrap_or(0),
            ..Memory::default()
        },
        more: None,
    };
    Some((booted.checked_add(began).unwrap_or(now), reading))
}

fn process_page(page: &mut Page) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let up: f64 = uptime.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or(0.0);
    let now = Timestamp::now();
    let booted = now.checked_sub(SignedDuration::from_secs_f64(up)).unwrap_or(now);
    let statm = read("statm");
    let Some((began, reading)) = process(&read("stat"), &statm, now, booted) else {
        return;
    };
    let size: u64 = statm.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or(0);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let limits = read("limits");
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let most = most
        .and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    let used = super::resource::seconds(reading.cpu.usage_ns);
    page.family(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
    );
    page.sample("process_cpu_seconds_total", &[], used);
    for (name, help, value) in [
        ("process_max_fds", "Maximum number of open file descriptors.", most),
        ("process_open_fds", "Number of open file descriptors.", open),
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            reading.memory.rss_bytes,
        ),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            began.as_second().unsigned_abs(),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            size * PAGE_BYTES,
        ),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
}
