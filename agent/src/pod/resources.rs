//! Quantities, QoS classes and what they mean to the kernel. Pure.

pub mod kernel;
pub mod quantity;
pub mod sums;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use kernel::{Host, PodLimits, memory_limit, pod_limits};
pub use quantity::milli;
use std::collections::BTreeMap;

fn get(map: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    milli(&map?.get(name)?.0).and_then(|m| i64::try_from(m).ok())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    pub cpu_request_milli: Option<i64>,
    pub cpu_limit_milli: Option<i64>,
    pub memory_request_bytes: Option<i64>,
    pub memory_limit_bytes: Option<i64>,
}

pub fn amounts(resources: Option<&ResourceRequirements>) -> Amounts {
    let Some(resources) = resources else {
        return Amounts::default();
    };
    let bytes = |m: i64| m / 1_000;
    let mut found = Amounts {
        cpu_request_milli: get(resources.requests.as_ref(), "cpu"),
        cpu_limit_milli: get(resources.limits.as_ref(), "cpu"),
        memory_request_bytes: get(resources.requests.as_ref(), "memory").map(bytes),
        memory_limit_bytes: get(resources.limits.as_ref(), "memory").map(bytes),
    };
    // A limit without a request is also the request.
    found.cpu_request_milli = found.cpu_request_milli.or(found.cpu_limit_milli);
    found.memory_request_bytes = found.memory_request_bytes.or(found.memory_limit_bytes);
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

pub fn qos(spec: &PodSpec) -> Qos {
    let all = || spec.containers.iter().chain(super::spec::init_containers(spec));
    let of = |c: &Container| amounts(c.resources.as_ref());
    let pod_level = amounts(spec.resources.as_ref());
    let positive = |v: Option<i64>| v.is_some_and(|v| v > 0);
    let any = |a: Amounts| {
        positive(a.cpu_request_milli)
            || positive(a.cpu_limit_milli)
            || positive(a.memory_request_bytes)
            || positive(a.memory_limit_bytes)
    };
    let full = |a: Amounts| {
        positive(a.cpu_limit_milli)
            && positive(a.memory_limit_bytes)
            && a.cpu_request_milli == a.cpu_limit_milli
            && a.memory_request_bytes == a.memory_limit_bytes
    };
    if any(pod_level) {
        return if full(pod_level) {
            Qos::Guaranteed
        } else {
            Qos::Burstable
        };
    }
    if !all().any(|c| any(of(c))) {
        Qos::BestEffort
    } else if all().all(|c| full(of(c))) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// The pod's cgroup below the hierarchy's root, e.g. `/kubepods/burstable/pod<uid>`.
pub fn cgroup_path(root: &str, qos: Qos, uid: &str) -> String {
    match qos {
        Qos::Guaranteed => format!("/{root}/pod{uid}"),
        Qos::Burstable => format!("/{root}/burstable/pod{uid}"),
        Qos::BestEffort => format!("/{root}/besteffort/pod{uid}"),
    }
}
