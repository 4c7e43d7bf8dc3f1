//! Amounts of resources: what a pod asks for and what a node has. Pure.
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/resource-bin-packing/>
//! and the pod-level rules of KEP-753 (sidecars) and KEP-2837.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// What a container that asks for nothing is counted as when nodes are scored, so
/// that such pods spread too (upstream's numbers).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// More than any node has (32 PiB).
const AMOUNT_MAX: i128 = 1 << 55;

/// CPU in thousandths of a core, the rest in its own unit (bytes, pieces).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    /// Extended resources and huge pages, by name.
    pub extended: BTreeMap<String, i64>,
}

type List = BTreeMap<String, Quantity>;

impl Resources {
    pub fn from_list(list: &List) -> Self {
        let mut out = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => out.milli_cpu = thousandths(&quantity.0),
                "memory" => out.memory_bytes = whole(&quantity.0),
                "ephemeral-storage" => out.ephemeral_bytes = whole(&quantity.0),
                "pods" => {}
                _ => {
                    out.extended.insert(name.clone(), whole(&quantity.0));
                }
            }
        }
        out
    }

    fn add(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.ephemeral_bytes = self.ephemeral_bytes.saturating_add(other.ephemeral_bytes);
        for (name, amount) in &other.extended {
            let sum = self.extended.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    fn at_least(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.ephemeral_bytes = self.ephemeral_bytes.max(other.ephemeral_bytes);
        for (name, amount) in &other.extended {
            let entry = self.extended.entry(name.clone()).or_default();
            *entry = (*entry).max(*amount);
        }
    }
}

/// What the pod occupies while it runs: its containers and sidecars together,
/// or its largest init container if that is more, plus overhead. Pod-level
/// requests, where given, stand for the sum.
///
/// While a container is resized in place, the node may still hold what it had
/// or already hold what it gets: the largest counts. A resize that the node
/// has refused for good counts as not asked for.
///
/// The second part is (CPU, memory) for scoring: the same with a floor per
/// container that does not name the resource.
pub fn of_pod(pod: &Pod) -> (Resources, (i64, i64)) {
    let Some(spec) = &pod.spec else {
        return Default::default();
    };
    let mut reported = Reported::of(pod);
    let total = of_spec(spec, &reported);
    // With amounts for the whole pod, only what nobody names has a floor.
    let whole = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    let has_whole = whole.is_some_and(|requests| !requests.is_empty());
    reported.floor_cpu = !has_whole || total.milli_cpu == 0;
    reported.floor_memory = !has_whole || total.memory_bytes == 0;
    let scored = of_spec(spec, &reported);
    (total, (scored.milli_cpu, scored.memory_bytes))
}

/// What the node says of the containers that may be resized.
struct Reported<'a> {
    containers: &'a [ContainerStatus],
    sidecars: &'a [ContainerStatus],
    infeasible: bool,
    /// Whether containers that do not name CPU or memory have a floor.
    floor_cpu: bool,
    floor_memory: bool,
}

impl<'a> Reported<'a> {
    fn of(pod: &'a Pod) -> Self {
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref());
        Self {
            containers: status
                .and_then(|status| status.container_statuses.as_deref())
                .unwrap_or_default(),
            sidecars: status
                .and_then(|status| status.init_container_statuses.as_deref())
                .unwrap_or_default(),
            infeasible: conditions.unwrap_or_default().iter().any(|condition| {
                condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
            }),
            floor_cpu: false,
            floor_memory: false,
        }
    }

    fn requests(&self, container: &Container, statuses: &[ContainerStatus]) -> Resources {
        let asked = self.asked(container);
        let status = statuses.iter().find(|status| status.name == container.name);
        let Some((status, actual)) = status.and_then(|status| Some((status, status.resources.as_ref()?))) else {
            return asked;
        };
        let mut held = if self.infeasible { Resources::default() } else { asked };
        for list in [&actual.requests, &status.allocated_resources].into_iter().flatten() {
            held.at_least(&Resources::from_list(list));
        }
        held
    }

    fn asked(&self, container: &Container) -> Resources {
        let list = container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        let mut asked = list.map(Resources::from_list).unwrap_or_default();
        let named = |name| list.is_some_and(|list| list.contains_key(name));
        if self.floor_cpu && !named("cpu") {
            asked.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if self.floor_memory && !named("memory") {
            asked.memory_bytes = DEFAULT_MEMORY_BYTES;
        }
        asked
    }
}

fn of_spec(spec: &PodSpec, reported: &Reported<'_>) -> Resources {
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&reported.requests(container, reported.containers));
    }
    let mut sidecars = Resources::default();
    let mut largest = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut here = reported.asked(container);
        if container.restart_policy.as_deref() == Some("Always") {
            here = reported.requests(container, reported.sidecars);
            total.add(&here);
            sidecars.add(&here);
            here = sidecars.clone();
        } else {
            here.add(&sidecars);
        }
        largest.at_least(&here);
    }
    total.at_least(&largest);
    if let Some(requests) = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref())
    {
        let pod_level = Resources::from_list(requests);
        if requests.contains_key("cpu") {
            total.milli_cpu = pod_level.milli_cpu;
        }
        if requests.contains_key("memory") {
            total.memory_bytes = pod_level.memory_bytes;
        }
        for (name, amount) in pod_level.extended {
            total.extended.insert(name, amount);
        }
    }
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::from_list(overhead));
    }
    total
}

/// Thousandths, rounded up: `250m` is 250, `1` is 1000. What cannot be read
/// counts as nothing: the API has validated it.
fn thousandths(text: &str) -> i64 {
    let (number, power_of_ten, binary) = split(text);
    scale(number, power_of_ten + 3, binary)
}

/// Whole units, rounded up.
pub fn whole(text: &str) -> i64 {
    let (number, power_of_ten, binary) = split(text);
    scale(number, power_of_ten, binary)
}

/// Digits, decimal exponent, and the binary multiplier of a quantity.
fn split(text: &str) -> (&str, i32, i64) {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (power_of_ten, binary) = match suffix {
        "n" => (-9, 1),
        "u" => (-6, 1),
        "m" => (-3, 1),
        "" => (0, 1),
        "k" => (3, 1),
        "M" => (6, 1),
        "G" => (9, 1),
        "T" => (12, 1),
        "P" => (15, 1),
        "E" => (18, 1),
        "Ki" => (0, 1 << 10),
        "Mi" => (0, 1 << 20),
        "Gi" => (0, 1 << 30),
        "Ti" => (0, 1 << 40),
        "Pi" => (0, 1 << 50),
        "Ei" => (0, 1 << 60),
        exponent => (exponent[1..].parse().unwrap_or(0), 1),
    };
    (number, power_of_ten, binary)
}

fn scale(number: &str, power_of_ten: i32, binary: i64) -> i64 {
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: String = format!("{integer}{fraction}");
    let Ok(mantissa) = digits.parse::<i128>() else { return 0 };
    let exponent = power_of_ten - i32::try_from(fraction.len()).unwrap_or(0);
    let scaled = mantissa.saturating_mul(i128::from(binary));
    let value = if exponent >= 0 {
        scaled.saturating_mul(10i128.saturating_pow(exponent.unsigned_abs()))
    } else {
        let divisor = 10i128.saturating_pow(exponent.unsigned_abs());
        (scaled + divisor - 1).div_euclid(divisor)
    };
    // Bounded, so that sums and percentages of nonsense do not overflow.
    i64::try_from(value.clamp(-AMOUNT_MAX, AMOUNT_MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_read_and_rounded_up() {
        let cpu = ["250m", "1", "1.5", "0.1", "1u", "2k"].map(thousandths);
        assert_eq!(cpu, [250, 1000, 1500, 100, 1, 2_000_000]);
        let bytes = ["1Ki", "1.5Gi", "128974848", "129e6", "129M", "1", "100m"].map(whole);
        assert_eq!(
            bytes,
            [1024, 1_610_612_736, 128_974_848, 129_000_000, 129_000_000, 1, 1]
        );
    }

    #[test]
    fn a_pod_is_its_containers_or_its_largest_init_container() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "200m", "example.com/gpu": "2"}}},
            ],
            "initContainers": [
                {"name": "sidecar", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"name": "init", "resources": {"requests": {"cpu": "1", "memory": "10Mi"}}},
            ],
            "overhead": {"cpu": "10m"},
        }}))
        .expect("a pod");
        let (total, scored) = of_pod(&pod);
        // init beside the sidecar (1050m) is more than all containers with it (350m).
        assert_eq!((total.milli_cpu, total.memory_bytes), (1060, 64 << 20));
        assert_eq!(total.extended.get("example.com/gpu"), Some(&2));
        // The init container does not fall under a floor for CPU; the sidecar's memory does.
        assert_eq!(scored, (1060, (64 << 20) + 2 * DEFAULT_MEMORY_BYTES));
    }

    #[test]
    fn a_resize_under_way_counts_the_larger_and_a_refused_one_not() {
        let cpu = |asked: &str, actual: &str, allocated: &str, reason: &str| {
            let status = json!([{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "resources": {"requests": {"cpu": actual}}, "allocatedResources": {"cpu": allocated}}]);
            let container = json!([{"name": "c", "resources": {"requests": {"cpu": asked}}}]);
            let sidecar = json!([{"name": "c", "restartPolicy": "Always", "resources": {"requests": {"cpu": asked}}}]);
            let conditions = json!([{"type": "PodResizePending", "status": "True", "reason": reason}]);
            [
                json!({"spec": {"containers": container}, "status": {"containerStatuses": status, "conditions": conditions}}),
                json!({"spec": {"containers": [], "initContainers": sidecar},
                    "status": {"initContainerStatuses": status, "conditions": conditions}}),
            ]
            .map(|pod| of_pod(&serde_json::from_value(pod).expect("a pod")).0.milli_cpu)
        };
        for (asked, actual, allocated, reason, expected) in [
            ("2", "1", "1", "Deferred", 2000),
            ("1", "2", "1", "Deferred", 2000),
            ("1", "1", "2", "Deferred", 2000),
            ("4", "1", "2", "Infeasible", 2000),
        ] {
            assert_eq!(
                cpu(asked, actual, allocated, reason),
                [expected; 2],
                "{asked} {actual} {allocated} {reason}"
            );
        }
    }

    #[test]
    fn scoring_has_floors() {
        let mem = DEFAULT_MEMORY_BYTES;
        let container = |requests: serde_json::Value| json!({"name": "c", "resources": {"requests": requests}});
        for (spec, expected) in [
            (json!({"containers": [container(json!({}))]}), (100, mem)),
            (
                json!({"containers": [container(json!({})), container(json!({}))]}),
                (200, 2 * mem),
            ),
            (json!({"containers": [container(json!({"cpu": "0"}))]}), (0, mem)),
            (
                json!({"containers": [container(json!({"cpu": "1"})), container(json!({}))]}),
                (1100, 2 * mem),
            ),
            // With amounts for the pod, what they or any container name has no floor.
            (
                json!({"containers": [container(json!({}))], "resources": {"requests": {"cpu": "2"}}}),
                (2000, mem),
            ),
            (
                json!({"containers": [container(json!({"memory": "1Gi"})), container(json!({}))],
                    "resources": {"requests": {"cpu": "2"}}}),
                (2000, 1 << 30),
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
            assert_eq!(of_pod(&pod).1, expected, "{spec}");
        }
    }

    #[test]
    fn amounts_for_the_whole_pod_stand_for_the_sum() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi", "example.com/gpu": "1"}}}],
            "resources": {"requests": {"cpu": "3", "hugepages-2Mi": "4Mi"}},
            "overhead": {"cpu": "100m", "memory": "1Mi"},
        }}))
        .expect("a pod");
        let (total, _) = of_pod(&pod);
        assert_eq!((total.milli_cpu, total.memory_bytes), (3100, (1 << 30) + (1 << 20)));
        assert_eq!(total.extended["hugepages-2Mi"], 4 << 20);
        assert_eq!(total.extended["example.com/gpu"], 1);
    }
}
