use super::cgroup::{Cpu, Memory, More, Reading};
use super::disk::{FileSystem, Taken};
use super::observe::{ContainerUse, PodUse, SystemUse, VolumeUse};
use super::*;
use jiff::Timestamp;

fn reading(cpu_ns: u64) -> Reading {
    Reading {
        cpu: Cpu {
            usage_ns: cpu_ns,
            periods: 9,
            ..Cpu::default()
        },
        memory: Memory {
            usage_bytes: 300,
            working_set_bytes: 200,
            rss_bytes: 50,
            ..Memory::default()
        },
        more: Some(More {
            processes: 3,
            cpu_quota_us: Some(50_000),
            cpu_period_us: 100_000,
            pressure: pressure::read(&|file| {
                let total = ["cpu", "memory"]
                    .iter()
                    .position(|r| *r == file.strip_suffix(".pressure").unwrap_or(""))?;
                let line = |kind: &str, total| format!("{kind} avg10=1.25 avg60=0.00 avg300=0.00 total={total}\n");
                Some(line("some", 2_500_000 + total) + &line("full", 500_000))
            }),
            ..More::default()
        }),
    }
}

fn node(at: &str, cpu_ns: u64) -> NodeUse {
    let at: Timestamp = at.parse().expect("a time");
    let booted = "2025-12-31T00:00:00Z".parse().expect("a time");
    let space = FileSystem {
        capacity_bytes: 1_000,
        available_bytes: 400,
        used_bytes: 600,
        ..FileSystem::default()
    };
    let taken = |bytes| Some(Taken { bytes, inodes: 1 });
    let volume = |name: &str, claim: Option<&str>, on_disk| VolumeUse {
        name: name.into(),
        claim: claim.map(str::to_owned),
        space,
        on_disk,
    };
    NodeUse {
        at,
        booted,
        reading: reading(cpu_ns),
        memory_bytes: 1_000,
        pods: vec![PodUse {
            namespace: "n".into(),
            name: "p".into(),
            uid: "u".into(),
            started: Some(at),
            path: "/kubepods/podu".into(),
            reading: reading(cpu_ns),
            containers: vec![ContainerUse {
                name: "c".into(),
                id: "id".into(),
                image: "i:1".into(),
                started: at,
                reading: reading(cpu_ns),
                logs: taken(10),
                written: taken(20),
            }],
            sandbox: Some(("sandbox".into(), Some(reading(1)))),
            network: Some(network::Counters {
                rx_bytes: 7,
                ..network::Counters::default()
            }),
            volumes: vec![
                volume("data", Some("claim"), false),
                volume("empty", None, true),
                volume("ram", None, false),
            ],
        }],
        system: vec![SystemUse {
            name: "kubelet",
            started: booted,
            reading: reading(cpu_ns),
        }],
        slices: vec![("/kubepods".into(), reading(cpu_ns))],
        wires: network::Wires::default(),
        disk: Some(space),
        images: Some(space),
        processes: (100, 10),
        whole: true,
    }
}

#[test]
fn the_second_summary_tells_rates() {
    let first = node("2026-01-01T00:00:00Z", 1_000_000_000);
    let base = Counters::of(&first);
    let second = summary::summary(
        "node1",
        &node("2026-01-01T00:00:02Z", 2_000_000_000),
        Some(&base),
        false,
    );
    let pod = &second["pods"][0];
    assert_eq!(second["node"]["cpu"]["usageNanoCores"], 500_000_000);
    assert_eq!(
        second["node"]["systemContainers"][0]["cpu"]["usageNanoCores"],
        500_000_000
    );
    assert_eq!(pod["containers"][0]["cpu"]["usageNanoCores"], 500_000_000);
    assert_eq!(pod["podRef"]["uid"], "u");
    assert_eq!(pod["memory"]["workingSetBytes"], 200);
    assert_eq!(second["node"]["memory"]["availableBytes"], 800);
    assert_eq!(pod["volume"][0]["pvcRef"]["name"], "claim");
    assert_eq!(pod["network"]["rxBytes"], 7);
    assert_eq!(pod["process_stats"]["process_count"], 3);
    // Logs, what was written over the image, and the volume on the node's disk.
    assert_eq!(pod["ephemeral-storage"]["usedBytes"], 630);
    assert_eq!(second["node"]["rlimit"]["curproc"], 10);
    for part in [&second["node"], pod, &pod["containers"][0]] {
        assert_eq!(
            part["cpu"]["psi"]["some"],
            serde_json::json!({"total": 2_500_000, "avg10": 1.25, "avg60": 0.0, "avg300": 0.0})
        );
        assert_eq!(part["memory"]["psi"]["full"]["total"], 500_000);
        assert_eq!(part.get("io"), None, "the kernel did not say");
    }
}

#[test]
fn a_brief_summary_is_cpu_and_memory_alone() {
    let brief = summary::summary("node1", &node("2026-01-01T00:00:00Z", 1), None, true);
    let keys = |value: &Value| -> Vec<String> { value.as_object().expect("an object").keys().cloned().collect() };
    let mut found = keys(&brief["pods"][0]);
    found.sort();
    assert_eq!(found, ["containers", "cpu", "memory", "podRef", "startTime"]);
    assert!(brief["node"].get("fs").is_none() && brief["node"].get("network").is_none());
}

fn has(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|l| l == *line), "{line} is not in\n{page}");
    }
}

#[test]
fn resource_series_have_upstreams_names() {
    let text = resource::page(&node("2026-01-01T00:00:00Z", 1_500_000_000));
    has(
        &text,
        &[
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5 1767225600000",
            "container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1767225600 1767225600000",
            "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 200 1767225600000",
            "node_cpu_usage_seconds_total 1.5 1767225600000",
            "# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds",
            "resource_scrape_error 0",
            "scrape_error 0",
        ],
    );
}

#[test]
fn cadvisors_series_have_its_labels() {
    let machine = cadvisor::Machine {
        cores: 2,
        memory_bytes: 1_000,
        swap_bytes: 0,
        boot_id: "b".into(),
        machine_id: "m".into(),
        system_uuid: "s".into(),
    };
    let text = cadvisor::page(&node("2026-01-01T00:00:00Z", 1_500_000_000), &machine, "pause:1");
    let container = "container=\"c\",id=\"/kubepods/podu/id\",image=\"i:1\",name=\"id\",namespace=\"n\",pod=\"p\"";
    has(
        &text,
        &[
            &format!("container_memory_working_set_bytes{{{container}}} 200 1767225600000"),
            "container_fs_usage_bytes{container=\"c\",device=\"\",id=\"/kubepods/podu/id\",image=\"i:1\",name=\"id\",namespace=\"n\",pod=\"p\"} 20 1767225600000",
            "container_cpu_usage_seconds_total{container=\"c\",cpu=\"total\",id=\"/kubepods/podu/id\",image=\"i:1\",name=\"id\",namespace=\"n\",pod=\"p\"} 1.5 1767225600000",
            &format!("container_spec_cpu_quota{{{container}}} 50000 1767225600000"),
            &format!("container_pressure_cpu_waiting_seconds_total{{{container}}} 2.5 1767225600000"),
            &format!("container_pressure_cpu_stalled_seconds_total{{{container}}} 0.5 1767225600000"),
            &format!("container_pressure_memory_waiting_seconds_total{{{container}}} 2.500001 1767225600000"),
            "container_network_receive_bytes_total{container=\"\",id=\"/kubepods/podu/sandbox\",image=\"pause:1\",interface=\"eth0\",name=\"sandbox\",namespace=\"n\",pod=\"p\"} 7 1767225600000",
            "container_memory_rss{container=\"\",id=\"/kubepods/podu\",image=\"\",name=\"\",namespace=\"n\",pod=\"p\"} 50 1767225600000",
            "container_memory_rss{container=\"\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"} 50 1767225600000",
            "machine_cpu_cores{boot_id=\"b\",machine_id=\"m\",system_uuid=\"s\"} 2",
        ],
    );
    assert!(!text.contains("container_pressure_io"), "the kernel did not say");
    // A family's lines stand together, and no series is there twice.
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        assert!(
            seen.insert(line.rsplit_once("} ").map_or(line, |(series, _)| series)),
            "{line}"
        );
    }
}

#[test]
fn what_is_counted_is_shown() {
    own::called("run_podsandbox", Duration::from_millis(20), false);
    own::called("run_podsandbox", Duration::from_millis(20), true);
    let created = Timestamp::now() - jiff::SignedDuration::from_millis(1_500);
    let mut pod: k8s_openapi::api::core::v1::Pod =
        serde_json::from_value(serde_json::json!({"metadata": {"creationTimestamp": created}})).expect("a pod");
    let running = k8s_openapi::api::core::v1::PodStatus {
        phase: Some("Running".into()),
        ..Default::default()
    };
    own::written(&pod, &running);
    pod.status = Some(running.clone());
    own::written(&pod, &running);
    let probe = own::Probe {
        container: "c".into(),
        namespace: "n".into(),
        pod: "p".into(),
        pod_uid: "u".into(),
        kind: "Readiness",
    };
    own::probed(&probe, Duration::from_millis(1), true);
    own::probed(&probe, Duration::from_millis(1), false);
    let gauges = Gauges {
        node_name: "node1".into(),
        running_pods: 2,
        containers: BTreeMap::from([("running", 3)]),
        volumes: vec![("n".into(), "claim".into(), FileSystem::default())],
        ..Gauges::default()
    };
    has(
        &own::page(&gauges),
        &[
            "kubelet_node_name{node=\"node1\"} 1",
            "kubelet_running_pods 2",
            "kubelet_running_containers{container_state=\"running\"} 3",
            "kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"} 2",
            "kubelet_runtime_operations_errors_total{operation_type=\"run_podsandbox\"} 1",
            "kubelet_pod_start_sli_duration_seconds_bucket{le=\"1\"} 0",
            "kubelet_pod_start_sli_duration_seconds_count 1",
            "kubelet_volume_stats_used_bytes{namespace=\"n\",persistentvolumeclaim=\"claim\"} 0",
        ],
    );
    let labels = "container=\"c\",namespace=\"n\",pod=\"p\",pod_uid=\"u\",probe_type=\"Readiness\"";
    has(
        &own::probes_page(),
        &[
            &format!("prober_probe_total{{{labels},result=\"successful\"}} 1"),
            &format!("prober_probe_total{{{labels},result=\"failed\"}} 1"),
        ],
    );
    own::keep_probes(|uid| uid != "u");
    assert!(!own::probes_page().contains("pod_uid=\"u\""));
}

#[test]
fn a_process_is_read_whatever_its_name() {
    let at = "2026-01-01T00:00:00Z".parse().expect("a time");
    let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 5 0 200 100 0 0 20 0 9 0 1000 1000000 500";
    let (began, reading) = own::process(stat, "300 20 10 1 0 5 0", at, at).expect("a process");
    assert_eq!(
        (reading.cpu.user_ns, reading.cpu.system_ns),
        (2_000_000_000, 1_000_000_000)
    );
    assert_eq!(
        (
            reading.memory.rss_bytes,
            reading.memory.faults,
            reading.memory.major_faults
        ),
        (81_920, 100, 5)
    );
    assert_eq!(began.as_second() - at.as_second(), 10);
    assert!(own::process("", "", at, at).is_none());
}
