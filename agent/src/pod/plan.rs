//! The pod worker's next step: (specification, what runs, what is remembered, now)
//! to actions. Pure; the worker executes and asks again.

use super::anew;
use super::backoff::Backoff;
use super::observed::{Container, Observed, State};
use super::spec::{self, Role};
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
    Resize,
    /// Of a pod that has ended and is not to go yet: what it has is given back.
    Devices,
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
        /// Containers (by id) that are to end before this one is told to; hooks do not wait.
        after: Vec<String>,
    },
    StopSandbox {
        id: String,
    },
    /// None of the pod's containers runs any more: all are to begin anew.
    BeginAnew,
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

/// Why the node ends a pod, or does not even begin it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
    /// Reason and message of the `DisruptionTarget` condition, where the pod is one.
    pub disruption: Option<(String, String)>,
    /// Less than the pod's own period, where there is less time.
    pub grace_s: Option<i64>,
    /// It was never let in: none of its containers is spoken of.
    pub rejected: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub volumes_ready: bool,
    /// No try before; per sandbox and container, for the volumes and the teardown.
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
    /// The node ended the pod.
    pub failed: Option<Verdict>,
    /// Why the pod may not run now; it stays pending until it may.
    pub blocked: Option<Waiting>,
    /// Until when each container that is being stopped may live.
    pub stop_by: BTreeMap<String, Timestamp>,
    pub torn_down: bool,
    pub resize: crate::resize::State,
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
    if memory.blocked.is_some() {
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
            stop_message(&old.name),
            Vec::new(),
        );
    }
    if let Some(trigger) = anew::trigger(spec, seen) {
        begin_anew(pod, (trigger, seen), memory, now, &mut decision);
    } else if memory.volumes_ready {
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
            stop_message(&running.name),
            Vec::new(),
        );
    }
    // A dead sandbox still holds its address.
    if let Some(dead) = seen.sandboxes.first().filter(|s| !s.stopped) {
        if decision.actions.is_empty() && seen.all().all(|c| c.state != State::Running) {
            stop_sandbox(decision, (memory, now), &dead.id);
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
    after: Vec<String>,
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
            after,
        });
    }
}

fn stop_message(name: &str) -> String {
    format!("Stopping container {name}")
}

fn stop_sandbox(decision: &mut Decision, (memory, now): (&Memory, Timestamp), id: &str) {
    if due(memory, &Op::StopSandbox(id.to_owned()), now, decision) {
        decision.actions.push(Action::StopSandbox { id: id.to_owned() });
    }
}

fn wind_down(pod: &Pod, spec: &PodSpec, seen: &Observed, memory: &Memory, now: Timestamp, decision: &mut Decision) {
    stop_in_order(pod, spec, seen, memory, now, decision);
    let busy = memory.in_flight.iter().any(|op| *op != Op::Teardown);
    let quiet = decision.actions.is_empty() && !busy && seen.sandboxes.iter().all(|s| s.stopped);
    if quiet && !memory.torn_down && due(memory, &Op::Teardown, now, decision) {
        decision.actions.push(Action::Teardown);
    }
}

/// How long the pod's containers, who share one period, may take from the first kill on.
fn grace_s(pod: &Pod, memory: &Memory) -> i64 {
    /// Kubernetes leaves every process at least so long.
    const LEAST_S: i64 = 2;
    if memory.forced {
        return LEAST_S;
    }
    let own = spec::grace_s(pod);
    let given = memory.failed.as_ref().and_then(|verdict| verdict.grace_s);
    given.map_or(own, |given| given.min(own)).max(LEAST_S)
}

/// All are told at once, and their hooks run at once; but a sidecar's process is
/// signalled only when those that lean on it (app, ephemeral and init containers, and
/// the sidecars behind it) have ended. At last the sandbox.
fn stop_in_order(pod: &Pod, spec: &PodSpec, seen: &Observed, memory: &Memory, now: Timestamp, decision: &mut Decision) {
    let place = |c: &Container| {
        let mut sidecars = spec::init_containers(spec).iter().enumerate();
        sidecars.find_map(|(at, s)| (s.name == c.name && spec::role(s, true) == Role::Sidecar).then_some(at))
    };
    let alive: Vec<&Container> = seen
        .all()
        .filter(|c| matches!(c.state, State::Running | State::Unknown))
        .collect();
    for container in &alive {
        let own = place(container);
        let leans = |other: &&&Container| own.is_some_and(|own| place(other).is_none_or(|place| place > own));
        let after = alive.iter().filter(leans).map(|c| c.id.clone()).collect();
        kill(
            decision,
            memory,
            container,
            (grace_s(pod, memory), now),
            stop_message(&container.name),
            after,
        );
    }
    let starting = memory
        .in_flight
        .iter()
        .any(|op| matches!(op, Op::Container(_) | Op::Sandbox));
    if alive.is_empty() && !starting {
        for sandbox in seen.sandboxes.iter().filter(|s| !s.stopped) {
            stop_sandbox(decision, (memory, now), &sandbox.id);
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
    let exited = |name: &str| seen.newest(name).filter(|c| c.state == State::Exited && !c.again);
    let is_over = |container: &k8s_openapi::api::core::v1::Container, role: Role| {
        exited(&container.name).filter(|c| !spec::restarts(spec, container, role, c.exit_code))
    };
    for (container, role) in spec::containers(spec).filter(|(_, role)| *role == Role::Init) {
        if is_over(container, role).is_some_and(|c| c.exit_code != 0) {
            return Some(Phase::Failed);
        }
    }
    let codes: Option<Vec<i32>> = spec
        .containers
        .iter()
        .map(|c| is_over(c, Role::App).map(|c| c.exit_code))
        .collect();
    let clean = codes?.iter().all(|code| *code == 0);
    Some(if clean { Phase::Succeeded } else { Phase::Failed })
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
        if role == Role::Init && initialised {
            continue;
        }
        match here.map(|c| c.state) {
            Some(State::Running) => {
                let running = here.expect("matched as present");
                replace(pod, (container, role), running, (memory, now), decision);
                let started = memory.probed.get(&running.id).is_some_and(|p| p.started);
                let hold = role == Role::Init || (role == Role::Sidecar && !initialised && !started);
                if hold {
                    return;
                }
            }
            Some(State::Exited) => {
                let exit = here.expect("matched as present");
                let again = exit.again || spec::restarts(spec, container, role, exit.exit_code);
                if again {
                    start(container, seen, memory, now, decision);
                }
                if role != Role::App && !initialised && (again || exit.exit_code != 0) {
                    return;
                }
            }
            // A container whose creation or start failed half-way is made anew.
            Some(State::Created | State::Unknown) | None => {
                start(container, seen, memory, now, decision);
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
            start(&container, seen, memory, now, decision);
        }
    }
}

/// Ends all containers but ephemeral ones, without hooks and in no order; then all begin anew.
fn begin_anew(
    pod: &Pod,
    (trigger, seen): (&Container, &Observed),
    memory: &Memory,
    now: Timestamp,
    decision: &mut Decision,
) {
    let concerned = |name: &str| pod.spec.as_ref().is_some_and(|spec| spec::find(spec, name).is_some());
    let mut alive = false;
    for running in seen.all().filter(|c| c.state == State::Running && concerned(&c.name)) {
        alive = true;
        let message = stop_message(&running.name);
        kill(decision, memory, running, (0, now), message, Vec::new());
    }
    let busy = memory
        .in_flight
        .iter()
        .any(|op| matches!(op, Op::Container(_) | Op::Stop(_)));
    if alive || busy {
        return;
    }
    match anew::untold(pod, trigger, now) {
        Some(until) => decision.wake(until),
        None => decision.actions.push(Action::BeginAnew),
    }
}

fn starting(container: &k8s_openapi::api::core::v1::Container, memory: &Memory, decision: &Decision) -> bool {
    let decided = |action: &Action| matches!(action, Action::Start { name, .. } if *name == container.name);
    memory.in_flight.contains(&Op::Container(container.name.clone())) || decision.actions.iter().any(decided)
}

fn start(
    container: &k8s_openapi::api::core::v1::Container,
    seen: &Observed,
    memory: &Memory,
    now: Timestamp,
    decision: &mut Decision,
) {
    let newest = seen.last(&container.name);
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

/// Ends a container that is to be another: its image was changed, or a probe gave it up.
fn replace(
    pod: &Pod,
    (container, role): (&k8s_openapi::api::core::v1::Container, Role),
    running: &Container,
    (memory, now): (&Memory, Timestamp),
    decision: &mut Decision,
) {
    let name = &container.name;
    let wanted = container.image.as_deref().unwrap_or_default();
    let changed = !running.image_wanted.is_empty() && running.image_wanted != wanted && role != Role::Init;
    let failed = memory.probed.get(&running.id).and_then(|p| p.failed);
    let what = if role == Role::Sidecar {
        "Init container"
    } else {
        "Container"
    };
    let (mut message, grace_s) = if changed {
        (
            format!("{what} {name} definition changed"),
            spec::probe_grace_s(pod, None),
        )
    } else if let Some(failed) = failed {
        let (which, probe) = match failed {
            Failed::Liveness => ("liveness", container.liveness_probe.as_ref()),
            Failed::Startup => ("startup", container.startup_probe.as_ref()),
        };
        let grace_s = spec::probe_grace_s(pod, probe);
        (format!("{what} {name} failed {which} probe"), grace_s)
    } else {
        return;
    };
    let again = pod.spec.as_ref().is_some_and(|s| spec::may_restart(s, container, role));
    if again && role == Role::App {
        message.push_str(", will be restarted");
    }
    kill(decision, memory, running, (grace_s, now), message, Vec::new());
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
