//! What a pod asks for and may use as a whole, as the scheduler and kubelet add it up.

use super::super::spec::{self, Role};
use super::quantity::milli;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Thousandths by resource name.
pub type Sums = BTreeMap<String, i128>;

type List = BTreeMap<String, Quantity>;

fn read(list: Option<&List>) -> Sums {
    let each = list.into_iter().flatten();
    each.filter_map(|(name, quantity)| Some((name.clone(), milli(&quantity.0)?)))
        .collect()
}

/// A limit without a request is also the request.
fn requested(resources: Option<&ResourceRequirements>) -> Sums {
    let mut all = limited(resources);
    all.extend(read(resources.and_then(|r| r.requests.as_ref())));
    all
}

fn limited(resources: Option<&ResourceRequirements>) -> Sums {
    read(resources.and_then(|r| r.limits.as_ref()))
}

fn add(total: &mut Sums, more: &Sums) {
    for (name, value) in more {
        *total.entry(name.clone()).or_default() += value;
    }
}

fn raise(total: &mut Sums, other: &Sums) {
    for (name, value) in other {
        let known = total.entry(name.clone()).or_insert(*value);
        *known = (*known).max(*value);
    }
}

/// Containers and sidecars run together; an init container runs beside the sidecars
/// that stand before it.
fn together(spec: &PodSpec, of: impl Fn(&Container) -> Sums) -> Sums {
    let (mut running, mut sidecars, mut most) = (Sums::new(), Sums::new(), Sums::new());
    for container in &spec.containers {
        add(&mut running, &of(container));
    }
    for container in spec::init_containers(spec) {
        let mut own = of(container);
        if spec::role(container, true) == Role::Sidecar {
            add(&mut running, &own);
            add(&mut sidecars, &own);
            raise(&mut most, &sidecars);
        } else {
            add(&mut own, &sidecars);
            raise(&mut most, &own);
        }
    }
    raise(&mut running, &most);
    running
}

/// Resources that can be given for the pod as a whole.
fn pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn with_pod_level(mut total: Sums, given: Sums) -> Sums {
    total.extend(given.into_iter().filter(|(name, _)| pod_level(name)));
    total
}

pub fn requests(spec: &PodSpec) -> Sums {
    let total = together(spec, |c| requested(c.resources.as_ref()));
    let given = read(spec.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let mut total = with_pod_level(total, given);
    add(&mut total, &read(spec.overhead.as_ref()));
    total
}

pub fn limits(spec: &PodSpec) -> Sums {
    let total = together(spec, |c| limited(c.resources.as_ref()));
    let mut total = with_pod_level(total, limited(spec.resources.as_ref()));
    for (name, value) in read(spec.overhead.as_ref()) {
        if let Some(limit) = total.get_mut(&name).filter(|limit| **limit != 0) {
            *limit += value;
        }
    }
    total
}

/// The limits of one container, or of the pod as such.
pub fn of_limits(resources: Option<&ResourceRequirements>) -> Sums {
    limited(resources)
}

/// Whether nothing of the pod may use more of this resource than the sum of its limits.
pub fn bounded(spec: &PodSpec, name: &str) -> bool {
    let positive = |resources: Option<&ResourceRequirements>| limited(resources).get(name).is_some_and(|v| *v > 0);
    let all = || spec.containers.iter().chain(spec::init_containers(spec));
    positive(spec.resources.as_ref()) || all().all(|c| positive(c.resources.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(value: Value) -> PodSpec {
        serde_json::from_value(value).expect("valid")
    }

    #[test]
    fn sidecars_are_added_and_other_init_containers_compared() {
        let cpu = |milli: u32| json!({"limits": {"cpu": format!("{milli}m")}});
        let init = |name: &str, milli: u32| json!({"name": name, "resources": cpu(milli)});
        let sidecar =
            |name: &str, milli: u32| json!({"name": name, "restartPolicy": "Always", "resources": cpu(milli)});
        let apps = json!([{"name": "a", "resources": cpu(100)}, {"name": "b", "resources": cpu(200)}]);
        for (inits, expected) in [
            (json!([]), 300),
            (json!([init("i", 250)]), 300),
            (json!([init("i", 400)]), 400),
            (json!([sidecar("s", 50)]), 350),
            (json!([sidecar("s", 50), init("i", 400)]), 450),
            (json!([init("i", 400), sidecar("s", 50)]), 400),
            (json!([sidecar("s", 50), init("i", 320), sidecar("t", 60)]), 410),
        ] {
            let spec = spec(json!({"containers": apps, "initContainers": inits}));
            assert_eq!(limits(&spec).get("cpu"), Some(&expected), "{inits}");
            assert_eq!(requests(&spec).get("cpu"), Some(&expected), "{inits}");
        }
    }

    #[test]
    fn pod_level_and_overhead() {
        let spec = spec(json!({
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi", "x.io/y": "2"}}}],
            "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "2"}},
            "overhead": {"cpu": "100m", "memory": "1Mi"},
        }));
        let asked = requests(&spec);
        assert_eq!(asked["cpu"], 600);
        assert_eq!(asked["memory"], i128::from((1_u64 << 30) + (1 << 20)) * 1_000);
        assert_eq!(asked["x.io/y"], 2_000);
        // Memory has no limit, so its overhead makes none.
        assert_eq!(limits(&spec), Sums::from([("cpu".into(), 2_100)]));
        assert!(bounded(&spec, "cpu") && !bounded(&spec, "memory"));
    }
}
