//! A pod's status as Kubernetes shows it. Pure.

mod conditions;
mod container;

use super::anew;
use super::observed::{Observed, State};
use super::plan::{self, Memory, Phase, Verdict};
use super::resources;
use super::spec::{self, Role};
use conditions::Basis;
use container::previous;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, HostIP, Pod, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

type Message = Option<String>;

fn time(ns: i64) -> Option<Time> {
    // Kubernetes' Time has seconds.
    Timestamp::from_second(ns / 1_000_000_000)
        .ok()
        .filter(|_| ns > 0)
        .map(Time)
}

fn whole(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

pub fn status(pod: &Pod, seen: &Observed, memory: &Memory, host_ips: &[String], now: Timestamp) -> PodStatus {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    if let Some(verdict) = memory.failed.as_ref().filter(|v| v.rejected) {
        return rejected(pod, spec, verdict, now);
    }
    let old = pod.status.clone().unwrap_or_default();
    let sandbox = seen.sandboxes.first();
    let statuses = |init: bool| -> Vec<ContainerStatus> {
        spec::containers(spec)
            .filter(|(_, role)| (*role != Role::App) == init)
            .map(|(container, role)| container::status(pod, container, role, seen, memory))
            .collect()
    };
    let (mut inits, mut apps) = (statuses(true), statuses(false));
    let debuggers = spec::ephemeral(spec);
    let mut debuggers: Vec<ContainerStatus> = debuggers
        .iter()
        .map(|(container, _)| container::status(pod, container, Role::Ephemeral, seen, memory))
        .collect();
    let all = inits.len() + apps.len() + debuggers.len();
    container::shorten(&mut [&mut inits, &mut apps, &mut debuggers], all);
    let phase = phase(pod, spec, seen, memory);
    let (reason, message) = match (&memory.failed, &memory.blocked) {
        (Some(verdict), _) => (Some(verdict.reason.clone()), Some(verdict.message.clone())),
        (None, Some(why)) => (Some(why.reason.clone()), Some(why.message.clone())),
        _ if spec::phase_is_final(pod) => (old.reason, old.message),
        _ => (None, None),
    };
    let ips: Vec<String> = if spec::host_network(spec) {
        host_ips.to_vec()
    } else {
        sandbox.map(|s| s.ips.clone()).unwrap_or_default()
    };
    let basis = Basis {
        phase: &phase,
        inits: &inits,
        apps: &apps,
        sandbox_up: seen.sandbox().is_some() && !ips.is_empty(),
        verdict: memory.failed.as_ref(),
        anew: !memory.terminating && anew::trigger(spec, seen).is_some(),
    };
    let mut conditions = conditions::conditions(pod, spec, &basis, now);
    conditions.extend(conditions::resizes(pod, &memory.resize, now));
    let (resources, allocated_resources) = memory.resize.shown_pod();
    PodStatus {
        resources,
        allocated_resources,
        phase: Some(phase),
        conditions: Some(conditions),
        host_ip: host_ips.first().cloned(),
        host_ips: Some(host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: Some(ips.into_iter().map(|ip| PodIP { ip }).collect()).filter(|v: &Vec<_>| !v.is_empty()),
        start_time: old.start_time.or_else(|| Some(whole(now))),
        qos_class: old.qos_class.or_else(|| Some(resources::qos(spec).name().into())),
        observed_generation: pod.metadata.generation,
        init_container_statuses: Some(inits).filter(|v| !v.is_empty()),
        container_statuses: Some(apps).filter(|v| !v.is_empty()),
        ephemeral_container_statuses: Some(debuggers).filter(|v| !v.is_empty()),
        reason,
        message,
        ..PodStatus::default()
    }
}

/// A pod that the node did not let in has no containers to speak of.
fn rejected(pod: &Pod, spec: &PodSpec, verdict: &Verdict, now: Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(verdict.reason.clone()),
        message: Some(format!("Pod was rejected: {}", verdict.message)),
        conditions: Some(conditions::owned(&old.conditions.unwrap_or_default())),
        start_time: old.start_time.or_else(|| Some(whole(now))),
        qos_class: old.qos_class.or_else(|| Some(resources::qos(spec).name().into())),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn phase(pod: &Pod, spec: &PodSpec, seen: &Observed, memory: &Memory) -> String {
    if spec::phase_is_final(pod) {
        return pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
    }
    let running = seen.all().any(|c| c.state == State::Running);
    if memory.failed.is_some() {
        let old = pod.status.as_ref().and_then(|s| s.phase.clone());
        return if running {
            old.unwrap_or_default()
        } else {
            "Failed".into()
        };
    }
    // Sidecars end before the pod has ended.
    if let Some(ended) = plan::ended(spec, seen).filter(|_| !running) {
        return if ended == Phase::Succeeded {
            "Succeeded"
        } else {
            "Failed"
        }
        .into();
    }
    if memory.torn_down && memory.terminating {
        let clean = |c: &Container| newest_of(pod, seen, &c.name).is_some_and(|code| code == 0);
        return if spec.containers.iter().all(clean) {
            "Succeeded"
        } else {
            "Failed"
        }
        .into();
    }
    let stopped = memory.terminating && !running;
    let newest = |c: &Container| seen.newest(&c.name);
    let all_exited = spec
        .containers
        .iter()
        .all(|c| newest(c).is_some_and(|c| c.state == State::Exited));
    if stopped && all_exited {
        let clean = spec
            .containers
            .iter()
            .all(|c| newest(c).is_some_and(|c| c.exit_code == 0));
        return if clean { "Succeeded" } else { "Failed" }.into();
    }
    let made = |c: &Container| newest(c).is_some_and(|c| matches!(c.state, State::Running | State::Exited));
    if spec.containers.iter().all(made) {
        "Running"
    } else {
        "Pending"
    }
    .into()
}

fn newest_of(pod: &Pod, seen: &Observed, name: &str) -> Option<i32> {
    let old = || {
        previous(pod, name)?
            .state
            .as_ref()?
            .terminated
            .as_ref()
            .map(|t| t.exit_code)
    };
    match seen.newest(name) {
        Some(c) => (c.state == State::Exited).then_some(c.exit_code),
        None => old(),
    }
}

/// The part of a status that the node owns, as `status` would write it.
pub fn owned(status: Option<&PodStatus>) -> PodStatus {
    let Some(status) = status.cloned() else {
        return PodStatus::default();
    };
    PodStatus {
        phase: status.phase,
        conditions: Some(conditions::owned(&status.conditions.unwrap_or_default())),
        host_ip: status.host_ip,
        host_ips: status.host_ips,
        pod_ip: status.pod_ip,
        pod_ips: status.pod_ips,
        start_time: status.start_time,
        qos_class: status.qos_class,
        observed_generation: status.observed_generation,
        init_container_statuses: status.init_container_statuses,
        container_statuses: status.container_statuses,
        ephemeral_container_statuses: status.ephemeral_container_statuses,
        reason: status.reason,
        message: status.message,
        resources: status.resources,
        allocated_resources: status.allocated_resources,
        ..PodStatus::default()
    }
}

#[cfg(test)]
#[path = "status_test.rs"]
mod tests;
