//! The pod worker's next step: (specification, what runs, what is remembered, now)
//! to actions. Pure; the worker executes and asks again.

use super::backoff::Backoff;
use super::observed::{Container, Observed, State};
use super::spec::{self, RestartPolicy, Role};
use jiff::{SignedDuration, Timestamp};
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
    /// The pod has run for as long as it may.
    PastDeadline,
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
    pub terminating_since: Option<Timestamp>,
    /// Removed by force: nobody waits for it any more.
    pub forced: bool,
    /// The node ended the pod: reason and message.
    pub failed: Option<(&'static str, &'static str)>,
    /// Until when each container that is being stopped may live.
    pub stop_by: BTreeMap<String, Timestamp>,
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
        wind_down(pod, spec, seen, memory, now, &mut decision);
        return decision;
    }
    if ended(spec, seen).is_some() || spec::phase_is_final(pod) || memory.failed.is_some() {
        stop_in_order(pod, spec, seen, memory, now, &mut decision);
        return decision;
    }
    if let Some(deadline) = spec::deadline(pod) {
        if deadline <= now {
            decision.actions.push(Action::PastDeadline);
            return decision;
        }
        decision.wake(deadline);
    }
    let Some(sandbox) = seen.sandbox() else {
        replace_sandbox(spec::grace_s(pod), seen, memory, now, &mut decision);
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
            (spec::grace_s(pod), now),
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

fn replace_sandbox(grace_s: i64, seen: &Observed, memory: &Memory, now: Timestamp, decision: &mut Decision) {
    for running in seen.all().filter(|c| c.state == State::Running) {
        kill(
            decision,
            memory,
            running,
            (grace_s, now),
            "Pod sandbox changed, it will be killed and re-created.".into(),
        );
    }
    // A dead sandbox still holds its address.
    if let Some(dead) = seen.sandboxes.first().filter(|s| !s.stopped) {
        if decision.actions.is_empty() && seen.all().all(|c| c.state != State::Running) {
            stop_sandbox(decision, memory, &dead.id);
        }
        return;
    }
    if due(memory, &Op::Sandbox, now, decision) {
        let attempt = seen.sandboxes.first().map_or(0, |s| s.attempt + 1);
        decision.actions.push(Action::CreateSandbox { attempt });
    }
}

/// `grace_s` from `now` on. One that is being stopped is only ever hurried.
fn kill(
    decision: &mut Decision,
    memory: &Memory,
    container: &Container,
    (grace_s, now): (i64, Timestamp),
    message: String,
) {
    let stopping = memory.in_flight.contains(&Op::Stop(container.id.clone()));
    let until = now.checked_add(SignedDuration::from_secs(grace_s)).unwrap_or(now);
    let hurried = memory
        .stop_by
        .get(&container.id)
        .is_some_and(|known| known.duration_since(until).as_secs() >= 1);
    if !stopping || hurried {
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

fn stop_sandbox(decision: &mut Decision, memory: &Memory, id: &str) {
    if !memory.in_flight.contains(&Op::StopSandbox(id.to_owned())) {
        decision.actions.push(Action::StopSandbox { id: id.to_owned() });
    }
}

fn wind_down(pod: &Pod, spec: &PodSpec, seen: &Observed, memory: &Memory, now: Timestamp, decision: &mut Decision) {
    stop_in_order(pod, spec, seen, memory, now, decision);
    let busy = memory.in_flight.iter().any(|op| *op != Op::Teardown);
    let quiet = decision.actions.is_empty() && !busy && seen.sandboxes.iter().all(|s| s.stopped);
    if quiet && !memory.torn_down && !memory.in_flight.contains(&Op::Teardown) {
        decision.actions.push(Action::Teardown);
    }
}

/// How long containers may still take. All of a pod's share one period, of which
/// sidecars, being last, get what is left.
fn grace_left_s(pod: &Pod, memory: &Memory, sidecar: bool, now: Timestamp) -> i64 {
    /// Kubernetes leaves every process at least so long.
    const LEAST_S: i64 = 2;
    if memory.forced {
        return LEAST_S;
    }
    let spent_s = match memory.terminating_since {
        Some(since) if sidecar => now.duration_since(since).as_secs(),
        _ => 0,
    };
    (spec::grace_s(pod) - spent_s).max(LEAST_S)
}

/// App, ephemeral and init containers first, then sidecars from the last to the
/// first, then the sandbox.
fn stop_in_order(pod: &Pod, spec: &PodSpec, seen: &Observed, memory: &Memory, now: Timestamp, decision: &mut Decision) {
    let alive = |c: &&Container| matches!(c.state, State::Running | State::Unknown);
    let place = |c: &Container| {
        let mut sidecars = spec::init_containers(spec).iter().enumerate();
        sidecars.find_map(|(at, s)| (s.name == c.name && spec::role(s, true) == Role::Sidecar).then_some(at))
    };
    let batch: Vec<&Container> = match seen
        .all()
        .filter(alive)
        .filter(|c| place(c).is_none())
        .collect::<Vec<_>>()
    {
        others if !others.is_empty() => others,
        _ => seen.all().filter(alive).max_by_key(|c| place(c)).into_iter().collect(),
    };
    for container in &batch {
        let grace_s = grace_left_s(pod, memory, place(container).is_some(), now);
        kill(
            decision,
            memory,
            container,
            (grace_s, now),
            stop_message(&container.name),
        );
    }
    let starting = memory
        .in_flight
        .iter()
        .any(|op| matches!(op, Op::Container(_) | Op::Sandbox));
    if batch.is_empty() && !starting {
        for sandbox in seen.sandboxes.iter().filter(|s| !s.stopped) {
            stop_sandbox(decision, memory, &sandbox.id);
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
            Role::Ephemeral => RestartPolicy::Never,
        };
        if role == Role::Init && initialised {
            continue;
        }
        match here.map(|c| c.state) {
            Some(State::Running) => {
                let running = here.expect("matched as present");
                failed_probe(pod, container, running, (memory, now), decision);
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
        // One after another: a postStart hook holds up the containers behind it.
        if role == Role::App && starting(container, memory, decision) {
            break;
        }
    }
    for (container, _) in spec::ephemeral(spec) {
        if seen.newest(&container.name).is_none() {
            start(&container, None, memory, now, decision);
        }
    }
}

fn starting(container: &k8s_openapi::api::core::v1::Container, memory: &Memory, decision: &Decision) -> bool {
    let decided = |action: &Action| matches!(action, Action::Start { name, .. } if *name == container.name);
    memory.in_flight.contains(&Op::Container(container.name.clone())) || decision.actions.iter().any(decided)
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
    (memory, now): (&Memory, Timestamp),
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
    let grace = (spec::probe_grace_s(pod, probe), now);
    kill(decision, memory, running, grace, message);
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
