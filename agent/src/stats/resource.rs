//! `/metrics/resource`: the series that metrics servers read. Pure.

use super::observe::{ContainerUse, NodeUse, PodUse};
use jiff::Timestamp;
use skiff_metrics::Page;

/// Billionths of a second as seconds.
pub fn seconds(ns: u64) -> String {
    let (whole, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let text = format!("{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn since_epoch(at: Timestamp) -> String {
    seconds(u64::try_from(at.as_nanosecond()).unwrap_or(0))
}

pub fn page(node: &NodeUse) -> String {
    let at_ms = node.at.as_millisecond();
    let mut page = Page::default();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(Vec<(&str, &str)>, String)>| {
        if !samples.is_empty() {
            page.family(name, kind, &format!("[STABLE] {help}"));
            for (labels, value) in samples {
                page.sample(name, &labels, format!("{value} {at_ms}"));
            }
        }
    };
    type Of<'a, T> = &'a dyn Fn(&T) -> Option<String>;
    let containers = |value: Of<'_, ContainerUse>| -> Vec<(Vec<(&str, &str)>, String)> {
        let all = node.pods.iter().flat_map(|p| p.containers.iter().map(move |c| (p, c)));
        let labels = |p: &'static str, v| (p, v);
        all.filter_map(|(p, c)| {
            let all = vec![
                labels("container", c.name.as_str()),
                labels("namespace", p.namespace.as_str()),
                labels("pod", p.name.as_str()),
            ];
            Some((all, value(c)?))
        })
        .collect()
    };
    let pods = |value: Of<'_, PodUse>| -> Vec<(Vec<(&str, &str)>, String)> {
        let all = node.pods.iter();
        all.filter_map(|p| {
            let labels = vec![("namespace", p.namespace.as_str()), ("pod", p.name.as_str())];
            Some((labels, value(p)?))
        })
        .collect()
    };
    let whole = |value: u64| Some(value.to_string());
    let own = |value: String| vec![(Vec::new(), value)];
    let used = "Cumulative cpu time consumed by the";
    let held = "Current working set of the";
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        &format!("{used} container in core-seconds"),
        containers(&|c| Some(seconds(c.reading.cpu.usage_ns))),
    );
    family(
        "container_memory_working_set_bytes",
        "gauge",
        &format!("{held} container in bytes"),
        containers(&|c| whole(c.reading.memory.working_set_bytes)),
    );
    family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        containers(&|c| Some(since_epoch(c.started))),
    );
    family(
        "container_swap_usage_bytes",
        "gauge",
        "Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        containers(&|c| whole(c.reading.memory.swap_bytes)),
    );
    family(
        "node_cpu_usage_seconds_total",
        "counter",
        &format!("{used} node in core-seconds"),
        own(seconds(node.reading.cpu.usage_ns)),
    );
    family(
        "node_memory_working_set_bytes",
        "gauge",
        &format!("{held} node in bytes"),
        own(node.reading.memory.working_set_bytes.to_string()),
    );
    family(
        "node_swap_usage_bytes",
        "gauge",
        "Current swap usage of the node in bytes. Reported only on non-windows systems",
        own(node.reading.memory.swap_bytes.to_string()),
    );
    family(
        "pod_cpu_usage_seconds_total",
        "counter",
        &format!("{used} pod in core-seconds"),
        pods(&|p| Some(seconds(p.reading.cpu.usage_ns))),
    );
    family(
        "pod_memory_working_set_bytes",
        "gauge",
        &format!("{held} pod in bytes"),
        pods(&|p| whole(p.reading.memory.working_set_bytes)),
    );
    family(
        "pod_swap_usage_bytes",
        "gauge",
        "Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
        pods(&|p| whole(p.reading.memory.swap_bytes)),
    );
    let failed = u8::from(!node.whole);
    for name in ["resource_scrape_error", "scrape_error"] {
        let help = "1 if there was an error while getting container metrics, 0 otherwise";
        page.family(name, "gauge", &format!("[STABLE] {help}"));
        page.sample(name, &[], failed);
    }
    page.finish()
}
