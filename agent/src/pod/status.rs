//! A pod's status as Kubernetes shows it. Pure.

use super::observed::{Container as Seen, Observed, State};
use super::plan::{self, Memory, Phase, Waiting};
use super::resources;
use super::spec::{self, RestartPolicy, Role};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

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

/// Those that the node writes; others belong to whoever set them.
const CONDITIONS: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

pub fn status(pod: &Pod, seen: &Observed, memory: &Memory, host_ips: &[String], now: Timestamp) -> PodStatus {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let old = pod.status.clone().unwrap_or_default();
    let sandbox = seen.sandboxes.first();
    let statuses = |init: bool| -> Vec<ContainerStatus> {
        spec::containers(spec)
            .filter(|(_, role)| (*role != Role::App) == init)
            .map(|(container, role)| container_status(pod, container, role, seen, memory))
            .collect()
    };
    let (inits, apps) = (statuses(true), statuses(false));
    let debuggers: Vec<ContainerStatus> = spec::ephemeral(spec)
        .iter()
        .map(|(container, _)| container_status(pod, container, Role::Ephemeral, seen, memory))
        .collect();
    let phase = phase(pod, spec, seen, memory);
    let failed = memory
        .failed
        .map(|(reason, message)| (reason.to_owned(), message.to_owned()));
    let (reason, message) = match failed {
        Some((reason, message)) => (Some(reason), Some(message)),
        None if spec::phase_is_final(pod) => (old.reason, old.message),
        None => (None, None),
    };
    let ips: Vec<String> = if spec::host_network(spec) {
        host_ips.to_vec()
    } else {
        sandbox.map(|s| s.ips.clone()).unwrap_or_default()
    };
    let sandbox_up = seen.sandbox().is_some() && !ips.is_empty();
    let conditions = conditions(pod, spec, &phase, &inits, &apps, sandbox_up, now);
    PodStatus {
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
    let old = || old_status(pod, name)?.state?.terminated.map(|t| t.exit_code);
    match seen.newest(name) {
        Some(c) => (c.state == State::Exited).then_some(c.exit_code),
        None => old(),
    }
}

fn container_status(pod: &Pod, container: &Container, role: Role, seen: &Observed, memory: &Memory) -> ContainerStatus {
    let history = seen
        .containers
        .get(&container.name)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let newest = history.first();
    let old = old_status(pod, &container.name);
    let waiting = memory.waiting.get(&container.name);
    let probed = newest
        .and_then(|c| memory.probed.get(&c.id))
        .copied()
        .unwrap_or_default();
    let running = newest.is_some_and(|c| c.state == State::Running);
    let spec = pod.spec.as_ref();
    let policy = spec.map_or(RestartPolicy::Always, spec::restart_policy);
    let restarts = match (role, newest) {
        (Role::Sidecar, _) => true,
        (Role::Init, Some(c)) => policy != RestartPolicy::Never && c.exit_code != 0,
        (Role::App, Some(c)) => match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => c.exit_code != 0,
            RestartPolicy::Never => false,
        },
        (Role::Ephemeral, _) => false,
        (_, None) => true,
    };
    let over = memory.terminating
        || memory.failed.is_some()
        || spec::phase_is_final(pod)
        || spec.is_some_and(|s| plan::ended(s, seen).is_some());
    let restarts = restarts && !over;
    let kept = old.as_ref().and_then(|o| o.state.as_ref()?.terminated.clone());
    let mut last = history.get(1).filter(|c| c.state == State::Exited).map(terminated);
    let state = match newest {
        Some(c) if c.state == State::Running => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: time(c.started_at_ns),
            }),
            ..Default::default()
        },
        Some(c) if c.state == State::Exited => {
            let back_off = memory.crash.get(&container.name).filter(|_| restarts);
            match (waiting, back_off) {
                (Some(waiting), _) if restarts => {
                    last = Some(terminated(c));
                    waits(waiting)
                }
                (_, Some(back_off)) => {
                    last = Some(terminated(c));
                    waits(&Waiting {
                        reason: "CrashLoopBackOff".into(),
                        message: format!(
                            "back-off {} restarting failed container={} pod={}",
                            back_off.text(),
                            container.name,
                            spec::full_name(pod)
                        ),
                    })
                }
                _ => ContainerState {
                    terminated: Some(terminated(c)),
                    ..Default::default()
                },
            }
        }
        // The runtime has forgotten it, and nothing will run in its place.
        _ if over && kept.is_some() => ContainerState {
            terminated: kept,
            ..Default::default()
        },
        _ if memory.torn_down && memory.terminating => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                ..Default::default()
            }),
            ..Default::default()
        },
        _ => waits(
            waiting.unwrap_or(&Waiting {
                reason: if spec.is_some_and(|s| !spec::init_containers(s).is_empty()) {
                    "PodInitializing"
                } else {
                    "ContainerCreating"
                }
                .into(),
                message: String::new(),
            }),
        ),
    };
    let done = role == Role::Init && newest.is_some_and(|c| c.state == State::Exited && c.exit_code == 0);
    ContainerStatus {
        name: container.name.clone(),
        image: newest
            .map(|c| c.image.clone())
            .filter(|i| !i.is_empty())
            .or_else(|| container.image.clone())
            .unwrap_or_default(),
        image_id: newest.map(|c| c.image_id.clone()).unwrap_or_default(),
        container_id: newest
            .map(|c| format!("containerd://{}", c.id))
            .or_else(|| old.as_ref().and_then(|o| o.container_id.clone())),
        ready: done || (running && probed.ready && role != Role::Ephemeral),
        started: Some(if role == Role::Init {
            running
        } else {
            running && probed.started
        }),
        restart_count: newest
            .map_or(0, |c| i32::try_from(c.attempt).unwrap_or(i32::MAX))
            .max(old.as_ref().map_or(0, |o| o.restart_count)),
        last_state: Some(match last {
            Some(last) => ContainerState {
                terminated: Some(last),
                ..Default::default()
            },
            // The container before may be gone while its end is still worth telling.
            None => old.and_then(|o| o.last_state).unwrap_or_default(),
        }),
        state: Some(state),
        resources: container.resources.clone(),
        ..ContainerStatus::default()
    }
}

/// The part of a status that the node owns, as `status` would write it.
pub fn owned(status: Option<&PodStatus>) -> PodStatus {
    let Some(status) = status.cloned() else {
        return PodStatus::default();
    };
    let conditions = status.conditions.unwrap_or_default();
    let own = CONDITIONS
        .iter()
        .filter_map(|kind| conditions.iter().find(|c| c.type_ == *kind).cloned());
    PodStatus {
        phase: status.phase,
        conditions: Some(own.collect()),
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
        ..PodStatus::default()
    }
}

fn old_status(pod: &Pod, name: &str) -> Option<ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .chain(&status.ephemeral_container_statuses);
    all.flatten().find(|s| s.name == name).cloned()
}

fn waits(waiting: &Waiting) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(waiting.reason.clone()),
            message: Some(waiting.message.clone()).filter(|m| !m.is_empty()),
        }),
        ..Default::default()
    }
}

fn terminated(c: &Seen) -> ContainerStateTerminated {
    let reason = if c.reason.is_empty() {
        if c.exit_code == 0 { "Completed" } else { "Error" }.to_owned()
    } else {
        c.reason.clone()
    };
    ContainerStateTerminated {
        exit_code: c.exit_code,
        reason: Some(reason),
        message: Some(c.message.clone()).filter(|m| !m.is_empty()),
        started_at: time(c.started_at_ns),
        finished_at: time(c.finished_at_ns),
        container_id: Some(format!("containerd://{}", c.id)),
        signal: None,
    }
}

fn conditions(
    pod: &Pod,
    spec: &PodSpec,
    phase: &str,
    inits: &[ContainerStatus],
    apps: &[ContainerStatus],
    sandbox_up: bool,
    now: Timestamp,
) -> Vec<PodCondition> {
    let names = |list: &[&ContainerStatus]| {
        let names: Vec<&str> = list.iter().map(|s| s.name.as_str()).collect();
        format!("[{}]", names.join(" "))
    };
    let incomplete: Vec<&ContainerStatus> = inits.iter().filter(|s| !s.ready).collect();
    let unready: Vec<&ContainerStatus> = apps.iter().filter(|s| !s.ready).collect();
    let app_made = apps.iter().any(|s| s.container_id.is_some());
    let initialised = match phase {
        "Succeeded" => (true, Some("PodCompleted"), None),
        _ if app_made || incomplete.is_empty() => (true, None, None),
        _ => (
            false,
            Some("ContainersNotInitialized"),
            Some(format!("containers with incomplete status: {}", names(&incomplete))),
        ),
    };
    let ready = match phase {
        "Succeeded" => (false, Some("PodCompleted"), None),
        "Failed" => (false, Some("PodFailed"), None),
        _ if unready.is_empty() => (true, None, None),
        _ => (
            false,
            Some("ContainersNotReady"),
            Some(format!("containers with unready status: {}", names(&unready))),
        ),
    };
    let gates = spec.readiness_gates.iter().flatten();
    let closed: Vec<String> = gates
        .filter(|gate| {
            let old = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
            !old.into_iter()
                .flatten()
                .any(|c| c.type_ == gate.condition_type && c.status == "True")
        })
        .map(|gate| {
            format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )
        })
        .collect();
    let pod_ready = if ready.0 && !closed.is_empty() {
        (false, Some("ReadinessGatesNotReady"), Some(closed.join(", ")))
    } else {
        ready.clone()
    };
    let wanted = [
        ("PodReadyToStartContainers", (sandbox_up, None, None)),
        ("Initialized", initialised),
        ("Ready", pod_ready),
        ("ContainersReady", ready),
        ("PodScheduled", (true, None, None)),
    ];
    wanted
        .map(|(kind, (on, reason, message))| condition(pod, kind, on, reason, message, now))
        .into()
}

fn condition(
    pod: &Pod,
    kind: &str,
    on: bool,
    reason: Option<&str>,
    message: Option<String>,
    now: Timestamp,
) -> PodCondition {
    let status = if on { "True" } else { "False" };
    let old = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let unchanged = old
        .into_iter()
        .flatten()
        .find(|c| c.type_ == kind && c.status == status);
    PodCondition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.map(str::to_owned),
        message,
        last_transition_time: unchanged
            .and_then(|c| c.last_transition_time.clone())
            .or_else(|| Some(whole(now))),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}
