//! What node, pods and containers use, read from their cgroups when somebody asks:
//! `/stats/summary` and `/metrics/resource`. Nothing is sampled in between.

use crate::pod::cgroup::{self, Usage};
use crate::pod::node::Shared;
use crate::pod::observed::{LABEL_CONTAINER_NAME, LABEL_POD_UID};
use crate::pod::{resources, spec};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;

#[derive(Debug, Clone, PartialEq)]
struct ContainerUse {
    name: String,
    started: Timestamp,
    usage: Usage,
}

#[derive(Debug, Clone, PartialEq)]
struct PodUse {
    namespace: String,
    name: String,
    uid: String,
    started: Option<Timestamp>,
    usage: Usage,
    containers: Vec<ContainerUse>,
}

#[derive(Debug, Clone, PartialEq)]
struct NodeUse {
    at: Timestamp,
    usage: Usage,
    memory_bytes: u64,
    pods: Vec<PodUse>,
}

/// The CPU figures that were last answered, by pod UID and container name, so that
/// the next answer can tell a rate.
type Earlier = BTreeMap<(String, String), (Timestamp, u64)>;

#[derive(Debug, Default)]
pub struct Stats {
    earlier: Mutex<Earlier>,
}

impl Stats {
    pub async fn summary(&self, shared: &Shared) -> Value {
        let node = observe(shared).await;
        let mut earlier = self.earlier.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (value, now) = summary(&shared.config.node_name, &node, &earlier);
        *earlier = now;
        value
    }

    pub async fn metrics(&self, shared: &Shared) -> String {
        metrics(&observe(shared).await)
    }
}

async fn observe(shared: &Shared) -> NodeUse {
    let mut running: BTreeMap<String, Vec<(String, String, i64)>> = BTreeMap::new();
    for container in shared.runtime.containers().await.unwrap_or_default() {
        if container.state != skiff_proto::cri::v1::ContainerState::ContainerRunning as i32 {
            continue;
        }
        let label = |name: &str| container.labels.get(name).cloned().unwrap_or_default();
        let entry = (label(LABEL_CONTAINER_NAME), container.id.clone(), container.created_at);
        running.entry(label(LABEL_POD_UID)).or_default().push(entry);
    }
    let mut pods = Vec::new();
    for ((namespace, name), pod) in shared.cache.pods() {
        let (Some(pod_spec), uid) = (&pod.spec, spec::uid(&pod).to_owned()) else {
            continue;
        };
        let path = resources::cgroup_path(&shared.config.cgroup_root, resources::qos(pod_spec), &uid);
        let Some(usage) = cgroup::usage(&path) else { continue };
        let mut containers: Vec<ContainerUse> = running
            .remove(&uid)
            .into_iter()
            .flatten()
            .filter_map(|(name, id, created_at)| {
                Some(ContainerUse {
                    name,
                    started: Timestamp::from_nanosecond(i128::from(created_at)).ok()?,
                    usage: cgroup::usage(&format!("{path}/{id}"))?,
                })
            })
            .collect();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
        pods.push(PodUse {
            namespace,
            name,
            uid,
            started,
            usage,
            containers,
        });
    }
    NodeUse {
        at: Timestamp::now(),
        usage: cgroup::usage("/").unwrap_or_default(),
        memory_bytes: u64::try_from(shared.memory_bytes).unwrap_or(0),
        pods,
    }
}

fn summary(node_name: &str, node: &NodeUse, earlier: &Earlier) -> (Value, Earlier) {
    let mut now = Earlier::new();
    let mut part = |uid: &str, name: &str, usage: &Usage| {
        let key = (uid.to_owned(), name.to_owned());
        let mut cpu = json!({"time": node.at, "usageCoreNanoSeconds": usage.cpu_ns});
        if let Some((at, cpu_ns)) = earlier.get(&key) {
            let passed_ns = node.at.duration_since(*at).as_nanos().max(1).unsigned_abs();
            let used_ns = u128::from(usage.cpu_ns.saturating_sub(*cpu_ns));
            cpu["usageNanoCores"] = json!(u64::try_from(used_ns * 1_000_000_000 / passed_ns).unwrap_or(u64::MAX));
        }
        now.insert(key, (node.at, usage.cpu_ns));
        let memory = json!({
            "time": node.at, "usageBytes": usage.memory_bytes,
            "workingSetBytes": usage.working_set_bytes, "rssBytes": usage.rss_bytes,
        });
        json!({"cpu": cpu, "memory": memory})
    };
    let mut pods = Vec::new();
    for pod in &node.pods {
        let mut shown = part(&pod.uid, "", &pod.usage);
        shown["podRef"] = json!({"name": pod.name, "namespace": pod.namespace, "uid": pod.uid});
        shown["startTime"] = json!(pod.started);
        let mut containers = Vec::new();
        for container in &pod.containers {
            let mut one = part(&pod.uid, &container.name, &container.usage);
            one["name"] = json!(container.name);
            one["startTime"] = json!(container.started);
            containers.push(one);
        }
        shown["containers"] = json!(containers);
        pods.push(shown);
    }
    let mut shown = part("", "", &node.usage);
    shown["nodeName"] = json!(node_name);
    shown["memory"]["availableBytes"] = json!(node.memory_bytes.saturating_sub(node.usage.working_set_bytes));
    (json!({"node": shown, "pods": pods}), now)
}

fn metrics(node: &NodeUse) -> String {
    let at_ms = node.at.as_millisecond();
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, String)>| {
        if lines.is_empty() {
            return;
        }
        let _ = writeln!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(text, "{name}{labels} {value} {at_ms}");
        }
    };
    let seconds = |ns: u64| format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    let each = |pick: &dyn Fn(&ContainerUse) -> String| -> Vec<(String, String)> {
        let all = node.pods.iter().flat_map(|p| p.containers.iter().map(move |c| (p, c)));
        all.map(|(p, c)| {
            let labels = format!(
                "{{container={:?},namespace={:?},pod={:?}}}",
                c.name, p.namespace, p.name
            );
            (labels, pick(c))
        })
        .collect()
    };
    let pods = |pick: &dyn Fn(&PodUse) -> String| -> Vec<(String, String)> {
        let labels = |p: &PodUse| format!("{{namespace={:?},pod={:?}}}", p.namespace, p.name);
        node.pods.iter().map(|p| (labels(p), pick(p))).collect()
    };
    let (cpu, memory) = ("Cumulative cpu time consumed by the", "Current working set of the");
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        &format!("{cpu} container in core-seconds"),
        each(&|c| seconds(c.usage.cpu_ns)),
    );
    family(
        "container_memory_working_set_bytes",
        "gauge",
        &format!("{memory} container in bytes"),
        each(&|c| c.usage.working_set_bytes.to_string()),
    );
    family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        each(&|c| format!("{}.{:09}", c.started.as_second(), c.started.subsec_nanosecond())),
    );
    family(
        "node_cpu_usage_seconds_total",
        "counter",
        &format!("{cpu} node in core-seconds"),
        vec![(String::new(), seconds(node.usage.cpu_ns))],
    );
    family(
        "node_memory_working_set_bytes",
        "gauge",
        &format!("{memory} node in bytes"),
        vec![(String::new(), node.usage.working_set_bytes.to_string())],
    );
    family(
        "pod_cpu_usage_seconds_total",
        "counter",
        &format!("{cpu} pod in core-seconds"),
        pods(&|p| seconds(p.usage.cpu_ns)),
    );
    family(
        "pod_memory_working_set_bytes",
        "gauge",
        &format!("{memory} pod in bytes"),
        pods(&|p| p.usage.working_set_bytes.to_string()),
    );
    text.push_str(
        "# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise\n\
         # TYPE resource_scrape_error gauge\nresource_scrape_error 0\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(at: &str, cpu_ns: u64) -> NodeUse {
        let usage = Usage {
            cpu_ns,
            memory_bytes: 300,
            working_set_bytes: 200,
            rss_bytes: 50,
        };
        let at: Timestamp = at.parse().expect("a time");
        NodeUse {
            at,
            usage,
            memory_bytes: 1_000,
            pods: vec![PodUse {
                namespace: "n".into(),
                name: "p".into(),
                uid: "u".into(),
                started: Some(at),
                usage,
                containers: vec![ContainerUse {
                    name: "c".into(),
                    started: at,
                    usage,
                }],
            }],
        }
    }

    #[test]
    fn the_second_summary_tells_rates() {
        let (first, earlier) = summary("node1", &node("2026-01-01T00:00:00Z", 1_000_000_000), &Earlier::new());
        assert!(first["node"]["cpu"].get("usageNanoCores").is_none());
        assert_eq!(first["node"]["memory"]["availableBytes"], 800);
        let (second, _) = summary("node1", &node("2026-01-01T00:00:02Z", 2_000_000_000), &earlier);
        assert_eq!(second["pods"][0]["containers"][0]["cpu"]["usageNanoCores"], 500_000_000);
        assert_eq!(second["pods"][0]["podRef"]["uid"], "u");
        assert_eq!(second["pods"][0]["memory"]["workingSetBytes"], 200);
    }

    #[test]
    fn metrics_have_upstreams_names() {
        let text = metrics(&node("2026-01-01T00:00:00Z", 1_500_000_000));
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.500000000 1767225600000",
            "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 200 1767225600000",
            "node_cpu_usage_seconds_total 1.500000000 1767225600000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
