//! The resources that a node has granted to a pod, which is what it runs with. They
//! differ from the specification's while a change waits for room. Pure.

use crate::pod::resources::quantity;
use crate::pod::spec::{self, Role};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Allocation {
    /// The pod's own, as against its containers'.
    pub pod: Option<ResourceRequirements>,
    pub containers: BTreeMap<String, ResourceRequirements>,
}

/// Containers whose resources may change while they run.
fn resizable(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec::containers(spec)
        .filter(|(_, role)| matches!(role, Role::App | Role::Sidecar))
        .map(|(container, _)| container)
}

impl Allocation {
    pub fn of(spec: &PodSpec) -> Self {
        let each = resizable(spec).map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default()));
        Self {
            pod: spec.resources.clone(),
            containers: each.collect(),
        }
    }

    /// Whether the specification asks for just this.
    pub fn meets(&self, spec: &PodSpec) -> bool {
        same_opt(self.pod.as_ref(), spec.resources.as_ref())
            && resizable(spec).all(|c| {
                let granted = self.containers.get(&c.name);
                granted.is_none_or(|granted| same_opt(Some(granted), c.resources.as_ref()))
            })
    }

    /// The pod as it was granted. Copies only where that is another one.
    pub fn applied(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let Some(spec) = pod.spec.as_ref().filter(|spec| !self.meets(spec)) else {
            return pod.clone();
        };
        let mut spec = spec.clone();
        spec.resources.clone_from(&self.pod);
        let granted = |c: &mut Container, role: Role| {
            if let Some(granted) = self.containers.get(&c.name).filter(|_| role != Role::Init) {
                c.resources = Some(granted.clone());
            }
        };
        for container in &mut spec.containers {
            granted(container, Role::App);
        }
        for container in spec.init_containers.iter_mut().flatten() {
            let role = spec::role(container, true);
            granted(container, role);
        }
        let mut pod = (**pod).clone();
        pod.spec = Some(spec);
        Arc::new(pod)
    }
}

type List = BTreeMap<String, Quantity>;

fn same_list(one: Option<&List>, two: Option<&List>) -> bool {
    let empty = List::new();
    let (one, two) = (one.unwrap_or(&empty), two.unwrap_or(&empty));
    one.len() == two.len()
        && one.iter().all(|(name, value)| {
            let other = two.get(name);
            other.is_some_and(|other| value == other || quantity::milli(&value.0) == quantity::milli(&other.0))
        })
}

fn same_opt(one: Option<&ResourceRequirements>, two: Option<&ResourceRequirements>) -> bool {
    let empty = ResourceRequirements::default();
    same(one.unwrap_or(&empty), two.unwrap_or(&empty))
}

/// Equal in what they mean: `0.5` is `500m`.
pub fn same(one: &ResourceRequirements, two: &ResourceRequirements) -> bool {
    same_list(one.requests.as_ref(), two.requests.as_ref()) && same_list(one.limits.as_ref(), two.limits.as_ref())
}

/// A running container's resources for its status: CPU and memory as they are in force,
/// all else as granted. Where the two mean the same, the granted text stands.
pub fn shown(granted: &ResourceRequirements, in_force: Option<&ResourceRequirements>) -> ResourceRequirements {
    let Some(in_force) = in_force else {
        return granted.clone();
    };
    let list = |granted: Option<&List>, in_force: Option<&List>| {
        let mut list = granted.cloned().unwrap_or_default();
        for name in ["cpu", "memory"] {
            let now = in_force.and_then(|l| l.get(name));
            let same = |text: &Quantity| now.is_some_and(|now| quantity::milli(&now.0) == quantity::milli(&text.0));
            match now {
                _ if list.get(name).is_some_and(same) => {}
                Some(now) => drop(list.insert(name.to_owned(), now.clone())),
                None => drop(list.remove(name)),
            }
        }
        Some(list).filter(|list| !list.is_empty())
    };
    ResourceRequirements {
        claims: granted.claims.clone(),
        limits: list(granted.limits.as_ref(), in_force.limits.as_ref()),
        requests: list(granted.requests.as_ref(), in_force.requests.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(cpu: &str) -> Arc<Pod> {
        let value = json!({"spec": {
            "initContainers": [
                {"name": "once", "resources": {"requests": {"cpu": cpu}}},
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}}],
            "containers": [{"name": "app", "resources": {"requests": {"cpu": cpu}}}]}});
        Arc::new(serde_json::from_value(value).expect("valid"))
    }

    fn needs(value: Value) -> ResourceRequirements {
        serde_json::from_value(value).expect("valid")
    }

    #[test]
    fn a_pod_runs_with_what_it_was_granted() {
        let (old, new) = (pod("500m"), pod("1"));
        let granted = Allocation::of(old.spec.as_ref().expect("given"));
        assert_eq!(granted.containers.keys().collect::<Vec<_>>(), ["app", "side"]);
        assert!(granted.meets(pod("0.5").spec.as_ref().expect("given")));
        assert!(!granted.meets(new.spec.as_ref().expect("given")));
        let runs = granted.applied(&new);
        let spec = runs.spec.as_ref().expect("given");
        let cpu = |name: &str| {
            let found = spec::find(spec, name).expect("named").0;
            found.resources.clone().and_then(|r| r.requests).expect("given")["cpu"]
                .0
                .clone()
        };
        // What cannot be resized is as the specification says.
        assert_eq!(
            (cpu("app"), cpu("side"), cpu("once")),
            ("500m".into(), "500m".into(), "1".into())
        );
        assert!(
            Arc::ptr_eq(&granted.applied(&old), &old),
            "nothing is copied where nothing differs"
        );
    }

    #[test]
    fn a_status_shows_what_is_in_force() {
        let granted =
            needs(json!({"requests": {"cpu": "0.5", "memory": "1Gi", "x.io/y": "1"}, "limits": {"cpu": "1"}}));
        assert_eq!(shown(&granted, None), granted);
        let same = needs(json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1000m"}}));
        assert_eq!(shown(&granted, Some(&same)), granted);
        let before = needs(json!({"requests": {"cpu": "250m", "memory": "1Gi"}}));
        let expected = needs(json!({"requests": {"cpu": "250m", "memory": "1Gi", "x.io/y": "1"}}));
        assert_eq!(shown(&granted, Some(&before)), expected);
    }
}
