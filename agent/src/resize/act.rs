//! Makes a resize happen: the pod's cgroup and its containers, step by step.

use super::plan::{self, Change, Step};
use crate::error::Error;
use crate::pod::cgroup;
use crate::pod::node::Shared;
use crate::pod::resources::PodLimits;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use std::sync::Arc;

/// What is to be done for one pod.
pub struct Order {
    pub granted: Arc<Pod>,
    pub change: Change,
    pub limits: PodLimits,
    /// The pod's cgroup.
    pub path: String,
}

/// Stops at the first failure; what was done before it is told either way.
pub async fn run(shared: &Shared, order: &Order) -> (Vec<(String, ResourceRequirements)>, Result<(), String>) {
    let Order {
        granted,
        change,
        limits,
        path,
    } = order;
    let mut in_force = Vec::new();
    let Some(now) = cgroup::current(path) else {
        return (in_force, Err(format!("cannot read the pod's cgroup {path}")));
    };
    let used = |id: &str| cgroup::memory_used(&format!("{path}/{id}"));
    if let Some(problem) = plan::memory_in_use(granted, change, limits, &now, used) {
        return (in_force, Err(problem));
    }
    for step in plan::steps(granted, change, limits, &now, &shared.host) {
        let outcome = match step {
            Step::Pod(value) => cgroup::set(path, value).map_err(|e| format!("cannot set {value:?} of {path}: {e}")),
            Step::Container { id, resources, then } => {
                let outcome = shared.runtime.update_container(&id, *resources).await;
                outcome.map(|()| in_force.push((id, then))).map_err(|e: Error| e.rpc())
            }
        };
        if let Err(problem) = outcome {
            return (in_force, Err(problem));
        }
    }
    // A change of requests alone touches nothing, and is in force at once.
    for running in &change.update {
        let wanted = granted
            .spec
            .as_ref()
            .and_then(|s| crate::pod::spec::find(s, &running.name));
        let wanted = wanted.and_then(|(c, _)| c.resources.clone()).unwrap_or_default();
        in_force.push((running.id.clone(), wanted));
    }
    (in_force, Ok(()))
}
