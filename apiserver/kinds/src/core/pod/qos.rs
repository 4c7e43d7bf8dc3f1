//! The QoS class of a pod, from the cpu and memory of its containers.
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>.

use crate::quantity::{Quantity, parse};
use crate::tree::Tree;
use serde_json::Value;

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn class(spec: &Value) -> &'static str {
    // Resources of the whole pod, where set, decide alone.
    if sets_any(spec) {
        return if guaranteed(spec) { "Guaranteed" } else { "Burstable" };
    }
    let containers = || spec.items("containers").iter().chain(spec.items("initContainers"));
    if !containers().any(sets_any) {
        "BestEffort"
    } else if containers().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn amount(holder: &Value, list: &str, name: &str) -> Quantity {
    holder
        .at("resources")
        .at(list)
        .get(name)
        .and_then(parse)
        .unwrap_or(Quantity::ZERO)
}

fn sets_any(holder: &Value) -> bool {
    COMPUTE
        .iter()
        .any(|name| amount(holder, "requests", name).sign() > 0 || amount(holder, "limits", name).sign() > 0)
}

fn guaranteed(holder: &Value) -> bool {
    COMPUTE.iter().all(|name| {
        let limit = amount(holder, "limits", name);
        let request = match amount(holder, "requests", name) {
            unset if unset.is_zero() => limit,
            set => set,
        };
        limit.sign() > 0 && request == limit
    })
}
