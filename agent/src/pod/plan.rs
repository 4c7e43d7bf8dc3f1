//! The pod worker's next step: (specification, what runs, what is remembered, now)
//! to actions. Pure; the worker executes and asks again.

use super::backoff::Backoff;
use super::observed::{Container, Observed, State};
use super::spec::{self, RestartPolicy, Role};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use std::collections::{BTreeMap, BTreeSet};

/// What one pod can have under way at once; each at most once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Sandbox,
    Volumes,
    Container(String),
    Stop(String),
    StopSandbox(String),
    Teardown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    MountVolumes,
    CreateSandbox {
        attempt: u32,
    },
    Start {
        name: String,
        attempt: u32,
    },
    Kill {
        id: String,
        name: String,
        grace_s: i64,
        message: String,
    },
    StopSandbox {
        id: String,
    },
    /// Everything has ended: take away what is left, and the API object if it is to go.
    Teardown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Probed {
    pub started: bool,
    pub ready: bool,
    /// A liveness or startup probe said that the container is to be restarted.
    pub failed: Option<Failed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    Liveness,
    Startup,
}

#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub volumes_ready: bool,
    /// No try before; for the sandbox and volumes, and per container.
    pub retry: BTreeMap<Op, Backoff>,
    pub crash: BTreeMap<String, Backoff>,
    pub waiting: BTreeMap<String, Waiting>,
    /// By container id.
    pub probed: BTreeMap<String, Probed>,
    pub in_flight: BTreeSet<Op>,
    /// The API no longer has the pod, or it is being deleted.
    pub terminating: bool,
    pub torn_down: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    pub actions: Vec<Action>,
    pub wake_at: Option<Timestamp>,
}

impl Decision {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}

pub fn plan(pod: &Pod, seen: &Observed, memory: &Memory, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    let Some(spec) = pod.spec.as_ref() else {
        return decision;
    };
    if memory.terminating {
        wind_down(pod, spec, seen, memory, &mut decision);
        return decision;
    }
    if let Some(final_phase) = ended(spec, seen).or_else(|| spec::phase_is_final(pod).then_some(Phase::Failed)) {
        tracing::trace!(?final_phase, "pod has ended");
        stop_sidecars_and_sandbox(pod, spec, seen, memory, &mut decision);
        return decision;
    }
    let Some(sandbox) = seen.sandbox() else {
        replace_sandbox(seen, memory, now, &mut decision);
        want_volumes(memory, now, &mut decision);
        return decision;
    };
    want_volumes(memory, now, &mut decision);
    // Containers of a sandbox that died cannot be reached through the new one.
    for old in seen
        .all()
        .filter(|c| c.sandbox_id != sandbox.id && c.state == State::Running)
    {
        kill(
            &mut decision,
            memory,
            old,
            0,
            "Stopping container of a dead sandbox".into(),
        );
    }
    if memory.volumes_ready {
        containers(pod, spec, seen, &sandbox.id, memory, now, &mut decision);
    }
    decision
}

fn due(memory: &Memory, op: &Op, now: Timestamp, decision: &mut Decision) -> bool {
    if memory.in_flight.contains(op) {
        return false;
    }
    match memory.retry.get(op) {
        Some(retry) if retry.until() > now => {
            decision.wake(retry.until());
            false
        }
        _ => true,
    }
}

fn want_volumes(memory: &Memory, now: Timestamp, decision: &mut Decision) {
    if !memory.volumes_ready && due(memory, &Op::Volumes, now, decision) {
        decision.actions.push(Action::MountVolumes);
    }
}

fn replace_sandbox(seen: &Observed, memory: &Memory, now: Timestamp, decision: &mut Decision) {
    for running in seen.all().filter(|c| c.state == State::Running) {
        kill(
            decision,
            memory,
            running,
            0,
            "Pod sandbox changed, it will be killed and re-created.".into(),
        );
    }
    if due(memory, &Op::Sandbox, now, decision) {
        let attempt = seen.sandboxes.first().map_or(0, |s| s.attempt + 1);
        decision.actions.push(Action::CreateSandbox { attempt });
    }
}

fn kill(decision: &mut Decision, memory: &Memory, container: &Container, grace_s: i64, message: String) {
    if !memory.in_flight.contains(&Op::Stop(container.id.clone())) {
        decision.actions.push(Action::Kill {
            id: container.id.clone(),
            name: container.name.clone(),
            grace_s,
            message,
        });
    }
}

fn stop_message(name: &str) -> String {
    format!("Stopping container {name}")
}

fn wind_down(pod: &Pod, spec: &PodSpec, seen: &Observed, memory: &Memory, decision: &mut Decision) {
    stop_sidecars_and_sandbox(pod, spec, seen, memory, decision);
    let busy = memory.in_flight.iter().any(|op| *op != Op::Teardown);
    let quiet = decision.actions.is_empty() && !busy && seen.sandboxes.iter().all(|s| !s.ready);
    if quiet && !memory.torn_down && !memory.in_flight.contains(&Op::Teardown) {
        decision.actions.push(Action::Teardown);
    }
}

/// App and init containers first, then sidecars, then the sandbox.
fn stop_sidecars_and_sandbox(pod: &Pod, spec: &PodSpec, seen: &Observed, memory: &Memory, decision: &mut Decision) {
    let grace_s = spec::grace_s(pod);
    let alive = |c: &&Container| matches!(c.state, State::Running | State::Unknown);
    let sidecar = |c: &Container| matches!(spec::find(spec, &c.name), Some((_, Role::Sidecar)));
    let (sidecars, others): (Vec<&Container>, Vec<&Container>) = seen.all().filter(alive).partition(|c| sidecar(c));
    let batch = if others.is_empty() { &sidecars } else { &others };
    for container in batch {
        kill(decision, memory, container, grace_s, stop_message(&container.name));
    }
    let starting = memory
        .in_flight
        .iter()
        .any(|op| matches!(op, Op::Container(_) | Op::Sandbox));
    if batch.is_empty() && !starting {
        for sandbox in seen.sandboxes.iter().filter(|s| s.ready) {
            if !memory.in_flight.contains(&Op::StopSandbox(sandbox.id.clone())) {
                decision.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Succeeded,
    Failed,
}

/// Whether nothing of the pod will ever run again.
pub fn ended(spec: &PodSpec, seen: &Observed) -> Option<Phase> {
    let policy = spec::restart_policy(spec);
    if policy == RestartPolicy::Always {
        return None;
    }
    let never = policy == RestartPolicy::Never;
    let exited = |name: &str| seen.newest(name).filter(|c| c.state == State::Exited);
    for (container, role) in spec::containers(spec) {
        if role == Role::Init && never && exited(&container.name).is_some_and(|c| c.exit_code != 0) {
            return Some(Phase::Failed);
        }
    }
    let codes: Option<Vec<i32>> = spec
        .containers
        .iter()
        .map(|c| exited(&c.name).map(|c| c.exit_code))
        .collect();
    let codes = codes?;
    if codes.iter().all(|code| *code == 0) {
        Some(Phase::Succeeded)
    } else if never {
        Some(Phase::Failed)
    } else {
        None
    }
}

fn containers(
    pod: &Pod,
    spec: &PodSpec,
    seen: &Observed,
    sandbox: &str,
    memory: &Memory,
    now: Timestamp,
    decision: &mut Decision,
) {
    // Once an app container of this sandbox exists, initialisation is over.
    let initialised = spec
        .containers
        .iter()
        .any(|c| seen.newest(&c.name).is_some_and(|c| c.sandbox_id == sandbox));
    for (container, role) in spec::containers(spec) {
        let newest = seen.newest(&container.name);
        let here = newest.filter(|c| c.sandbox_id == sandbox);
        let policy = match role {
            Role::Sidecar => RestartPolicy::Always,
            Role::App => spec::restart_policy(spec),
            // A failed init container is tried again unless the pod never restarts.
            Role::Init => match spec::restart_policy(spec) {
                RestartPolicy::Never => RestartPolicy::Never,
                _ => RestartPolicy::OnFailure,
            },
        };
        if role == Role::Init && initialised {
            continue;
        }
        match here.map(|c| c.state) {
            Some(State::Running) => {
                let running = here.expect("matched as present");
                failed_probe(pod, container, running, memory, decision);
                let started = memory.probed.get(&running.id).is_some_and(|p| p.started);
                let hold = role == Role::Init || (role == Role::Sidecar && !initialised && !started);
                if hold {
                    return;
                }
            }
            Some(State::Exited) => {
                let exit = here.expect("matched as present");
                let again = match policy {
                    RestartPolicy::Always => true,
                    RestartPolicy::OnFailure => exit.exit_code != 0,
                    RestartPolicy::Never => false,
                };
                if again {
                    start(container, newest, memory, now, decision);
                }
                if role != Role::App && !initialised && (again || exit.exit_code != 0) {
                    return;
                }
            }
            // A container whose creation or start failed half-way is made anew.
            Some(State::Created | State::Unknown) | None => {
                start(container, newest, memory, now, decision);
                if role != Role::App && !initialised {
                    return;
                }
            }
        }
    }
}

fn start(
    container: &k8s_openapi::api::core::v1::Container,
    newest: Option<&Container>,
    memory: &Memory,
    now: Timestamp,
    decision: &mut Decision,
) {
    let op = Op::Container(container.name.clone());
    if !due(memory, &op, now, decision) {
        return;
    }
    if let Some(crash) = memory.crash.get(&container.name).filter(|c| c.until() > now)
        && newest.is_some_and(|c| c.state == State::Exited)
    {
        decision.wake(crash.until());
        return;
    }
    decision.actions.push(Action::Start {
        name: container.name.clone(),
        attempt: newest.map_or(0, |c| c.attempt + 1),
    });
}

fn failed_probe(
    pod: &Pod,
    container: &k8s_openapi::api::core::v1::Container,
    running: &Container,
    memory: &Memory,
    decision: &mut Decision,
) {
    let Some(failed) = memory.probed.get(&running.id).and_then(|p| p.failed) else {
        return;
    };
    let (what, probe) = match failed {
        Failed::Liveness => ("liveness", container.liveness_probe.as_ref()),
        Failed::Startup => ("startup", container.startup_probe.as_ref()),
    };
    let message = format!("Container {} failed {what} probe, will be restarted", container.name);
    kill(decision, memory, running, spec::probe_grace_s(pod, probe), message);
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
