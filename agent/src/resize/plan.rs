//! From what was granted and what is in force to what is to be done: which containers
//! restart, which are changed as they run, and in which order that happens. Pure.

use crate::pod::cgroup::{Current, Value};
use crate::pod::resources::kernel::{self, PodLimits};
use crate::pod::resources::{Amounts, Host, amounts};
use crate::pod::spec;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;

/// A container that runs, and the resources that are in force for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub id: String,
    pub name: String,
    pub in_force: ResourceRequirements,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    /// Whose policy says that they must begin anew: (id, name).
    pub restart: Vec<(String, String)>,
    /// Those that are changed as they run.
    pub update: Vec<Running>,
    /// The pod's own resources, whose limits bound containers that have none, until now.
    pub inherited: Option<ResourceRequirements>,
}

impl Change {
    pub fn is_empty(&self) -> bool {
        self.restart.is_empty() && self.update.is_empty()
    }
}

fn restarts(container: &Container, resource: &str) -> bool {
    let policies = container.resize_policy.iter().flatten();
    let mut of = policies.filter(|p| p.resource_name == resource);
    of.next().is_some_and(|p| p.restart_policy == "RestartContainer")
}

/// What differs between the pod as granted and its containers as they run. `inherited`:
/// the pod's own resources that were in force when these began.
pub fn change(granted: &Pod, running: &[Running], inherited: Option<&ResourceRequirements>) -> Change {
    let mut change = Change {
        inherited: inherited.cloned(),
        ..Change::default()
    };
    let Some(spec) = granted.spec.as_ref() else {
        return change;
    };
    let (old, new) = (amounts(inherited), amounts(spec.resources.as_ref()));
    let of_pod = (
        old.cpu_limit_milli != new.cpu_limit_milli,
        old.memory_limit_bytes != new.memory_limit_bytes,
    );
    for now in running {
        let Some((container, _)) = spec::find(spec, &now.name) else {
            continue;
        };
        let wanted = amounts(container.resources.as_ref());
        let in_force = amounts(Some(&now.in_force));
        let cpu = cpu_of(wanted) != cpu_of(in_force);
        let memory = memory_of(wanted) != memory_of(in_force);
        if (cpu && restarts(container, "cpu")) || (memory && restarts(container, "memory")) {
            change.restart.push((now.id.clone(), now.name.clone()));
        } else if cpu
            || memory
            || (of_pod.0 && wanted.cpu_limit_milli.is_none())
            || (of_pod.1 && wanted.memory_limit_bytes.is_none())
        {
            change.update.push(now.clone());
        }
    }
    change
}

fn cpu_of(a: Amounts) -> (Option<i64>, Option<i64>) {
    (a.cpu_request_milli, a.cpu_limit_milli)
}

fn memory_of(a: Amounts) -> (Option<i64>, Option<i64>) {
    (a.memory_request_bytes, a.memory_limit_bytes)
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Pod(Value),
    /// Afterwards these are in force.
    Container {
        id: String,
        resources: Box<cri::LinuxContainerResources>,
        then: ResourceRequirements,
    },
}

/// Memory first, then CPU. The pod's cgroup grows before its containers and shrinks
/// after them; of the containers those that give go before those that take.
pub fn steps(granted: &Pod, change: &Change, limits: &PodLimits, now: &Current, host: &Host) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut in_force: BTreeMap<String, ResourceRequirements> = change
        .update
        .iter()
        .map(|r| (r.id.clone(), r.in_force.clone()))
        .collect();
    // A limit that is not given leaves what is set.
    let memory = limits.memory_bytes.filter(|new| now.memory_bytes != Some(*new));
    let grows = memory.is_some_and(|new| now.memory_bytes.is_some_and(|old| new > old));
    steps.extend(memory.filter(|_| grows).map(|new| Step::Pod(Value::Memory(new))));
    containers(granted, change, "memory", &mut in_force, host, &mut steps);
    steps.extend(memory.filter(|_| !grows).map(|new| Step::Pod(Value::Memory(new))));

    let quota = limits.cpu_quota_us.filter(|new| now.cpu_quota_us != Some(*new));
    let quota_grows = quota.is_some_and(|new| now.cpu_quota_us.is_some_and(|old| new > old));
    let shares = Some(limits.cpu_shares).filter(|new| !same_shares(*new, now.cpu_shares, host));
    let shares_grow = limits.cpu_shares > now.cpu_shares;
    let of_quota = |new| Step::Pod(Value::CpuQuotaUs(Some(new)));
    let of_shares = |new| Step::Pod(Value::CpuShares(new));
    steps.extend(quota.filter(|_| quota_grows).map(of_quota));
    steps.extend(shares.filter(|_| shares_grow).map(of_shares));
    containers(granted, change, "cpu", &mut in_force, host, &mut steps);
    steps.extend(shares.filter(|_| !shares_grow).map(of_shares));
    steps.extend(quota.filter(|_| !quota_grows).map(of_quota));
    steps
}

/// cgroup v2 keeps weights, which stand for several counts of shares.
fn same_shares(one: i64, two: i64, host: &Host) -> bool {
    one == two || (host.cgroup_v2 && kernel::cpu_weight(one) == kernel::cpu_weight(two))
}

fn containers(
    granted: &Pod,
    change: &Change,
    resource: &str,
    in_force: &mut BTreeMap<String, ResourceRequirements>,
    host: &Host,
    steps: &mut Vec<Step>,
) {
    let Some(spec) = granted.spec.as_ref() else { return };
    let mut found = Vec::new();
    let mut before_it = granted.clone();
    if let Some(spec) = &mut before_it.spec {
        spec.resources.clone_from(&change.inherited);
    }
    let linux = |pod: &Pod, container: &Container, resources: &ResourceRequirements| {
        let mut container = container.clone();
        container.resources = Some(resources.clone());
        kernel::container(pod, &container, host)
    };
    for now in &change.update {
        let Some((container, _)) = spec::find(spec, &now.name) else {
            continue;
        };
        let old = in_force.get(&now.id).cloned().unwrap_or_default();
        let wanted = container.resources.clone().unwrap_or_default();
        let then = with(&old, &wanted, resource);
        let (before, mut after) = (
            linux(&before_it, container, &now.in_force),
            linux(granted, container, &wanted),
        );
        if resource == "memory" {
            // CPU has its turn later.
            (after.cpu_quota, after.cpu_shares) = (before.cpu_quota, before.cpu_shares);
        }
        let size = |l: &cri::LinuxContainerResources| match resource {
            "memory" => (l.memory_limit_in_bytes, 0),
            _ => (l.cpu_quota, l.cpu_shares),
        };
        if size(&before) != size(&after) {
            found.push((size(&after) > size(&before), now.id.clone(), after, then));
        } else {
            in_force.insert(now.id.clone(), then);
        }
    }
    found.sort_by_key(|(takes, ..)| *takes);
    for (_, id, resources, then) in found {
        in_force.insert(id.clone(), then.clone());
        steps.push(Step::Container {
            id,
            resources: Box::new(resources),
            then,
        });
    }
}

/// `old` with `wanted`'s requests and limits of one resource.
fn with(old: &ResourceRequirements, wanted: &ResourceRequirements, resource: &str) -> ResourceRequirements {
    type List = BTreeMap<String, Quantity>;
    let list = |old: Option<&List>, wanted: Option<&List>| {
        let mut list = old.cloned().unwrap_or_default();
        match wanted.and_then(|l| l.get(resource)) {
            Some(value) => drop(list.insert(resource.to_owned(), value.clone())),
            None => drop(list.remove(resource)),
        }
        Some(list).filter(|l| !l.is_empty())
    };
    ResourceRequirements {
        claims: old.claims.clone(),
        limits: list(old.limits.as_ref(), wanted.limits.as_ref()),
        requests: list(old.requests.as_ref(), wanted.requests.as_ref()),
    }
}

/// Why memory limits cannot be lowered to what is granted: somebody uses more already.
/// `used` tells a container's memory by its id.
pub fn memory_in_use(
    granted: &Pod,
    change: &Change,
    limits: &PodLimits,
    now: &Current,
    used: impl Fn(&str) -> u64,
) -> Option<String> {
    let mut found = Vec::new();
    let beyond = |limit: i64, used: u64| u64::try_from(limit).is_ok_and(|limit| used > limit);
    if let (Some(new), Some(old)) = (limits.memory_bytes, now.memory_bytes)
        && new < old
        && beyond(new, now.memory_used_bytes)
    {
        let used = now.memory_used_bytes;
        found.push(format!(
            "attempting to set pod memory limit ({new}) below current usage ({used})"
        ));
    }
    for running in &change.update {
        let wanted = granted.spec.as_ref().and_then(|s| spec::find(s, &running.name));
        let new = wanted.and_then(|(c, _)| amounts(c.resources.as_ref()).memory_limit_bytes);
        let old = amounts(Some(&running.in_force)).memory_limit_bytes;
        if let (Some(new), Some(old)) = (new, old)
            && new < old
            && beyond(new, used(&running.id))
        {
            let (name, used) = (&running.name, used(&running.id));
            found.push(format!(
                "attempting to set container \"{name}\" memory limit ({new}) below current usage ({used})"
            ));
        }
    }
    match found.as_slice() {
        [] => None,
        [one] => Some(format!("cannot decrease memory limits: {one}")),
        many => Some(format!("cannot decrease memory limits: [{}]", many.join(", "))),
    }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
