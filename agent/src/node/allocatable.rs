//! What the node has, and what pods may have of it. Pure.

use super::status::Machine;
use crate::config::Config;
use crate::eviction::threshold::Signal;
use crate::pod::resources::PodLimits;
use crate::pod::resources::kernel::cpu_shares;
use crate::pod::resources::quantity::{self, milli};
use crate::pod::resources::sums::Sums;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

type List = BTreeMap<String, Quantity>;

/// What somebody else counts on this node: `example.com/gpu`.
fn is_extended(name: &str) -> bool {
    let of_kubernetes = |domain: &str| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    name.split_once('/').is_some_and(|(domain, _)| !of_kubernetes(domain)) && !name.starts_with("requests.")
}

fn hugepages(size: u64) -> String {
    format!(
        "hugepages-{}",
        quantity::binary(i64::try_from(size).unwrap_or(i64::MAX))
    )
}

/// The node's own resources; never those that others have put into its status.
pub fn capacity(config: &Config, machine: &Machine) -> Map<String, Value> {
    let kib = |bytes: i64| format!("{}Ki", bytes / 1_024);
    let mut all = Map::new();
    all.insert("cpu".into(), json!(machine.cpus.to_string()));
    all.insert("memory".into(), json!(kib(machine.memory_bytes)));
    let disk = i64::try_from(machine.disk_bytes).unwrap_or(i64::MAX);
    all.insert("ephemeral-storage".into(), json!(kib(disk)));
    all.insert("pods".into(), json!(config.pods_max.to_string()));
    for (size, count) in &machine.pages {
        let bytes = i64::try_from(size * count).unwrap_or(i64::MAX);
        all.insert(hugepages(*size), json!(quantity::binary(bytes)));
    }
    all
}

/// Capacity without what is reserved, set aside as huge pages, or what pods are evicted
/// for. In thousandths.
fn own(config: &Config, machine: &Machine) -> Sums {
    let whole = |value: i64| i128::from(value) * 1_000;
    let disk = i64::try_from(machine.disk_bytes).unwrap_or(i64::MAX);
    let mut all = Sums::from([
        ("cpu".to_owned(), whole(i64::try_from(machine.cpus).unwrap_or(1))),
        ("memory".to_owned(), whole(machine.memory_bytes)),
        ("ephemeral-storage".to_owned(), whole(disk)),
        ("pods".to_owned(), whole(i64::from(config.pods_max))),
    ]);
    for (size, count) in &machine.pages {
        let bytes = whole(i64::try_from(size * count).unwrap_or(i64::MAX));
        all.insert(hugepages(*size), bytes);
        *all.entry("memory".to_owned()).or_default() -= bytes;
    }
    let reserved = config.system_reserved.iter().chain(&config.kube_reserved);
    for (name, text) in reserved {
        if let Some(value) = all.get_mut(name) {
            *value -= milli(text).unwrap_or(0);
        }
    }
    for (name, signal, capacity) in [
        ("memory", Signal::Memory, machine.memory_bytes),
        ("ephemeral-storage", Signal::Nodefs, disk),
    ] {
        if let Some(value) = all.get_mut(name) {
            *value -= whole(config.eviction.kept_back(signal, capacity));
        }
    }
    for value in all.values_mut() {
        *value = (*value).max(0);
    }
    all
}

/// What the kernel keeps all pods together to. Evictions come before that.
pub fn of_all_pods(config: &Config, machine: &Machine) -> PodLimits {
    let mut config = config.clone();
    config.eviction.thresholds.clear();
    let all = own(&config, machine);
    let whole = |name: &str| all.get(name).map(|milli| quantity::of_milli(*milli));
    let cpu = all.get("cpu").map_or(0, |milli| i64::try_from(*milli).unwrap_or(0));
    PodLimits {
        cpu_shares: cpu_shares(cpu),
        memory_bytes: whole("memory").filter(|bytes| *bytes > 0),
        ..PodLimits::default()
    }
}

/// For the scheduler and the node's book. What others have put into the node's capacity
/// is allocatable as a whole.
pub fn allocatable(config: &Config, machine: &Machine, held: Option<&List>) -> Sums {
    let mut all = own(config, machine);
    let others = held.into_iter().flatten().filter(|(name, _)| is_extended(name));
    all.extend(others.filter_map(|(name, quantity)| Some((name.clone(), milli(&quantity.0)?))));
    all
}

/// As the status writes it. `held`: the capacity and allocatable that the API has.
pub fn shown(config: &Config, machine: &Machine, held: (Option<&List>, Option<&List>)) -> Map<String, Value> {
    let (capacity, before) = held;
    let mut all = Map::new();
    for (name, value) in allocatable(config, machine, capacity) {
        let text = match name.as_str() {
            "cpu" if value % 1_000 != 0 => format!("{value}m"),
            "memory" if value % 1_024_000 == 0 => format!("{}Ki", value / 1_024_000),
            _ if name.starts_with("hugepages-") => quantity::binary(quantity::of_milli(value)),
            _ => quantity::of_milli(value).to_string(),
        };
        all.insert(name, json!(text));
    }
    // A merge keeps what is not named: what left the capacity leaves this too.
    let stale = before.into_iter().flatten().map(|(name, _)| name);
    let stale: Vec<String> = stale
        .filter(|name| is_extended(name) && !all.contains_key(*name))
        .cloned()
        .collect();
    all.extend(stale.into_iter().map(|name| (name, Value::Null)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::Settings;
    use std::path::Path;

    fn list(pairs: &[(&str, &str)]) -> List {
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Quantity((*text).to_owned())))
            .collect()
    }

    #[test]
    fn reserved_and_extended() {
        let mut config = Config::new("n", Path::new("/x"));
        config.eviction = Settings::parse("memory.available<100Mi,nodefs.available<10%", "", "", "").expect("right");
        config.system_reserved = [("cpu".to_owned(), "250m".to_owned())].into();
        config.kube_reserved = [
            ("memory".to_owned(), "1Gi".to_owned()),
            ("other".to_owned(), "1".to_owned()),
        ]
        .into();
        let machine = Machine {
            cpus: 4,
            memory_bytes: 8 << 30,
            disk_bytes: 1_000 << 20,
            pages: [(2 << 20, 512), (1 << 30, 0)].into(),
            ..Machine::default()
        };
        let has = json!(capacity(&config, &machine));
        let expected = json!({"cpu": "4", "memory": "8388608Ki", "ephemeral-storage": "1024000Ki", "pods": "110",
            "hugepages-2Mi": "1Gi", "hugepages-1Gi": "0"});
        assert_eq!(has, expected);
        let capacity = list(&[("cpu", "4"), ("example.com/gpu", "3"), ("attachable-volumes-x", "3")]);
        let before = list(&[("example.com/gpu", "5"), ("example.com/gone", "1")]);
        let found = json!(shown(&config, &machine, (Some(&capacity), Some(&before))));
        let expected = json!({"cpu": "3750m", "memory": "6188Mi", "ephemeral-storage": "943718400", "pods": "110",
            "hugepages-2Mi": "1Gi", "hugepages-1Gi": "0", "example.com/gpu": "3", "example.com/gone": null});
        let mut expected = expected;
        expected["memory"] = json!(format!("{}Ki", (8192 - 1024 - 1024 - 100) * 1024));
        assert_eq!(found, expected);
        // Who uses memory up to the threshold is evicted, not stopped by the kernel.
        assert_eq!(of_all_pods(&config, &machine).memory_bytes, Some(6 << 30));
    }
}
