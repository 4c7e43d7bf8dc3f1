//! What a node's `/metrics/resource` says, and what two of them say of the time between. Pure.

use std::collections::BTreeMap;

/// A container began this short a while ago: all that it used counts since then.
const YOUNG_NS: u64 = 60_000_000_000;

/// Counters of one moment. Times are nanoseconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scrape {
    pub at_ns: u64,
    node: Point,
    containers: BTreeMap<Name, Point>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    namespace: String,
    pod: String,
    container: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Point {
    cpu_ns: Option<u64>,
    memory_bytes: Option<u64>,
    started_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Billionths of a core.
    pub cpu_nano: u64,
    pub memory_bytes: u64,
}

/// Use over a span that ended at `at_ns`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    pub at_ns: u64,
    pub window_ns: u64,
    pub node: Option<Used>,
    /// By namespace and name; containers with their names.
    pub pods: BTreeMap<(String, String), Vec<(String, Used)>>,
}

impl Scrape {
    /// Reads Prometheus' text format; lines that are something else are passed over.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, values) = match line.split_once('}') {
                Some((series, values)) => (series, values.trim()),
                None => line.split_once(' ').unwrap_or((line, "")),
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let mut values = values.split(' ');
            let Some(value) = values.next().and_then(|v| v.parse::<f64>().ok()) else {
                continue;
            };
            let at_ms = values.next().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
            let label = |wanted: &str| {
                let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
                let mut found = pairs.filter(|(name, _)| *name == wanted);
                found
                    .next()
                    .map_or(String::new(), |(_, v)| v.trim_matches('"').to_owned())
            };
            let point = if name.starts_with("node_") {
                scrape.at_ns = scrape.at_ns.max(at_ms * 1_000_000);
                &mut scrape.node
            } else if name.starts_with("container_") {
                let name = Name {
                    namespace: label("namespace"),
                    pod: label("pod"),
                    container: label("container"),
                };
                scrape.containers.entry(name).or_default()
            } else {
                continue;
            };
            let kind = name.split_once('_').map_or("", |(_, kind)| kind);
            match kind {
                "cpu_usage_seconds_total" => point.cpu_ns = Some(billion(value)),
                "memory_working_set_bytes" => point.memory_bytes = Some(value as u64),
                "start_time_seconds" => point.started_ns = billion(value),
                _ => {}
            }
        }
        scrape
    }
}

/// Seconds in nanoseconds; casts of floats saturate.
fn billion(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn rate(used_ns: u64, passed_ns: u64) -> Option<u64> {
    let nano = u128::from(used_ns) * 1_000_000_000 / u128::from(Some(passed_ns).filter(|ns| *ns > 0)?);
    u64::try_from(nano).ok()
}

fn used(old: Option<&Point>, new: &Point, from_ns: u64, to_ns: u64) -> Option<Used> {
    let (cpu_ns, memory_bytes) = (new.cpu_ns?, new.memory_bytes?);
    let same = old.filter(|old| old.started_ns == new.started_ns);
    let cpu_nano = match same.and_then(|old| old.cpu_ns) {
        Some(before) => rate(cpu_ns.checked_sub(before)?, to_ns.saturating_sub(from_ns))?,
        // It began in between, or shortly before.
        None => {
            let age_ns = to_ns.checked_sub(new.started_ns).filter(|age| *age < YOUNG_NS)?;
            rate(cpu_ns, age_ns)?
        }
    };
    Some(Used { cpu_nano, memory_bytes })
}

/// A pod of which a container cannot be told is left out: half of its use would be taken for all.
pub fn usage(older: &Scrape, newer: &Scrape) -> Usage {
    let (from_ns, to_ns) = (older.at_ns, newer.at_ns);
    let mut pods: BTreeMap<(String, String), Option<Vec<(String, Used)>>> = BTreeMap::new();
    for (name, point) in &newer.containers {
        let found = used(older.containers.get(name), point, from_ns, to_ns);
        let key = (name.namespace.clone(), name.pod.clone());
        let pod = pods.entry(key).or_insert_with(|| Some(Vec::new()));
        match (pod.as_mut(), found) {
            (Some(pod), Some(found)) => pod.push((name.container.clone(), found)),
            _ => *pod = None,
        }
    }
    Usage {
        at_ns: to_ns,
        window_ns: to_ns.saturating_sub(from_ns),
        node: used(Some(&older.node), &newer.node, from_ns, to_ns),
        pods: pods.into_iter().filter_map(|(key, pod)| Some((key, pod?))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(at_ms: u64, node: &str, container: &str, started: &str) -> String {
        let labels = "{container=\"c\",namespace=\"n\",pod=\"p\"}";
        format!(
            "# HELP x y\ncontainer_cpu_usage_seconds_total{labels} {container} {at_ms}\n\
             container_memory_working_set_bytes{labels} 4096 {at_ms}\n\
             container_start_time_seconds{labels} {started} {at_ms}\n\
             node_cpu_usage_seconds_total {node} {at_ms}\nnode_memory_working_set_bytes 8192 {at_ms}\n\
             resource_scrape_error 0\npod_cpu_usage_seconds_total{{pod=\"p\"}} 1 {at_ms}\nnonsense\n"
        )
    }

    #[test]
    fn rates_between_two() {
        let older = Scrape::parse(&text(1_000_000, "10", "1.5", "500"));
        let newer = Scrape::parse(&text(1_015_000, "25", "3", "500"));
        let found = usage(&older, &newer);
        assert_eq!((found.at_ns, found.window_ns), (1_015_000_000_000, 15_000_000_000));
        assert_eq!(
            found.node,
            Some(Used {
                cpu_nano: 1_000_000_000,
                memory_bytes: 8_192
            })
        );
        let pod = &found.pods[&("n".to_owned(), "p".to_owned())];
        let expected = Used {
            cpu_nano: 100_000_000,
            memory_bytes: 4_096,
        };
        assert_eq!(pod, &[("c".to_owned(), expected)]);
    }

    #[test]
    fn containers_that_began_in_between() {
        let older = Scrape::parse(&text(1_000_000, "10", "7", "500"));
        // Begun ten seconds before, two seconds of CPU since.
        let newer = Scrape::parse(&text(1_015_000, "25", "2", "1005"));
        let pod = &usage(&older, &newer).pods[&("n".to_owned(), "p".to_owned())];
        assert_eq!(pod[0].1.cpu_nano, 200_000_000);
        let strange = usage(&Scrape::default(), &Scrape::parse(&text(1_000_000, "1", "2", "5")));
        assert!(strange.pods.is_empty(), "old, and not seen before");
        let backwards = usage(&newer, &Scrape::parse(&text(1_030_000, "25", "1", "1005")));
        assert!(backwards.pods.is_empty());
    }

    #[test]
    fn half_a_pod_is_none() {
        let both = |at: u64, second: &str| {
            let more = format!(
                "container_cpu_usage_seconds_total{{container=\"d\",namespace=\"n\",pod=\"p\"}} {second} {at}\n"
            );
            Scrape::parse(&(text(at, "1", "1", "5") + &more))
        };
        assert!(usage(&both(1_000_000, "1"), &both(1_015_000, "2")).pods.is_empty());
    }
}
