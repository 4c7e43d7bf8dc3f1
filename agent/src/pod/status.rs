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
    let phase = phase(pod, spec, seen, memory);
    let ips: Vec<String> = if spec::host_network(spec) {
        host_ips.to_vec()
    } else {
        sandbox.map(|s| s.ips.clone()).unwrap_or_default()
    };
    let sandbox_up = seen.sandbox().is_some();
    let conditions = conditions(pod, spec, &phase, &inits, &apps, sandbox_up, memory, now);
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
        ..PodStatus::default()
    }
}

fn phase(pod: &Pod, spec: &PodSpec, seen: &Observed, memory: &Memory) -> String {
    if spec::phase_is_final(pod) {
        return pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
    }
    if let Some(ended) = plan::ended(spec, seen) {
        return if ended == Phase::Succeeded {
            "Succeeded"
        } else {
            "Failed"
        }
        .into();
    }
    let stopped = memory.terminating && seen.all().all(|c| c.state != State::Running);
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
        (_, None) => true,
    };
    let mut last = history.get(1).filter(|c| c.state == State::Exited).map(terminated);
    let state = match newest {
        Some(c) if c.state == State::Running => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: time(c.started_at_ns),
            }),
            ..Default::default()
        },
        Some(c) if c.state == State::Exited => {
            let back_off = memory
                .crash
                .get(&container.name)
                .filter(|_| restarts && !memory.terminating);
            match (waiting, back_off) {
                (Some(waiting), _) if restarts && !memory.terminating => {
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
        container_id: newest.map(|c| format!("containerd://{}", c.id)),
        ready: done || (running && probed.ready),
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

fn old_status(pod: &Pod, name: &str) -> Option<ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.init_container_statuses.iter().chain(&status.container_statuses);
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
    memory: &Memory,
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
    let running = sandbox_up && memory.volumes_ready && !memory.terminating;
    let wanted = [
        ("PodReadyToStartContainers", (running, None, None)),
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
