//! The conditions that the node writes. Pure.

use super::{Message, whole};
use crate::pod::anew;
use crate::pod::plan::Verdict;
use crate::pod::spec::{self, Role};
use crate::resize;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec};

/// Those that the node writes; others belong to whoever set them.
const OWN: [&str; 8] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    anew::CONDITION,
    "PodResizePending",
    "PodResizeInProgress",
];
const DISRUPTION: &str = "DisruptionTarget";
/// Of those who write that condition the node is known by its reason.
const DISRUPTED_BY_NODE: &str = "TerminationByKubelet";

/// Whether it holds, reason and message.
type Finding = (bool, Option<&'static str>, Message);

/// What conditions are made from, besides the pod.
pub struct Basis<'a> {
    pub phase: &'a str,
    pub inits: &'a [ContainerStatus],
    pub apps: &'a [ContainerStatus],
    pub sandbox_up: bool,
    pub verdict: Option<&'a Verdict>,
    /// All containers are ended to begin anew.
    pub anew: bool,
}

pub fn conditions(pod: &Pod, spec: &PodSpec, basis: &Basis<'_>, now: Timestamp) -> Vec<PodCondition> {
    let ready = containers_ready(spec, basis);
    let wanted = [
        ("PodReadyToStartContainers", (basis.sandbox_up, None, None)),
        ("Initialized", initialized(spec, basis)),
        ("Ready", pod_ready(pod, spec, &ready)),
        ("ContainersReady", ready),
        ("PodScheduled", (true, None, None)),
    ];
    let anew = anew::may(spec).then(|| condition(pod, anew::CONDITION, restarting(basis), now));
    let disruption = basis.verdict.and_then(|verdict| verdict.disruption.as_ref());
    let disruption = disruption
        .map(|(reason, message)| condition(pod, DISRUPTION, (true, Some(reason), Some(message.clone())), now));
    wanted
        .into_iter()
        .map(|(kind, finding)| condition(pod, kind, finding, now))
        .chain(anew)
        .chain(disruption)
        .collect()
}

/// The node's own among a pod's conditions, in the order in which it writes them.
pub fn owned(conditions: &[PodCondition]) -> Vec<PodCondition> {
    let ours = |c: &&PodCondition| c.type_ == DISRUPTION && c.reason.as_deref() == Some(DISRUPTED_BY_NODE);
    let own = OWN
        .iter()
        .filter_map(|kind| conditions.iter().find(|c| c.type_ == *kind));
    own.chain(conditions.iter().find(ours)).cloned().collect()
}

/// How a resize stands, each about the generation that it is a resize to.
pub fn resizes(pod: &Pod, state: &resize::State, now: Timestamp) -> Vec<PodCondition> {
    let each = state.conditions().into_iter();
    each.map(|(kind, reason, message, generation)| PodCondition {
        observed_generation: Some(generation),
        ..condition(pod, kind, (true, reason, message.map(str::to_owned)), now)
    })
    .collect()
}

fn restarting(basis: &Basis<'_>) -> Finding {
    match basis.phase {
        "Succeeded" => (false, Some("PodCompleted"), None),
        "Failed" => (false, Some("PodFailed"), None),
        _ if basis.anew => {
            let message = "container exited with restart policy rule".to_owned();
            (true, Some("RestartAllContainersStarted"), Some(message))
        }
        _ => (false, None, None),
    }
}

fn named(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == name)
}

/// A container that has begun once is begun, whatever has become of it.
fn has_begun(status: &ContainerStatus) -> bool {
    let state = status.state.as_ref();
    state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
        || status.last_state.as_ref().is_some_and(|s| s.terminated.is_some())
}

fn initialized(spec: &PodSpec, basis: &Basis<'_>) -> Finding {
    if basis.phase == "Succeeded" {
        return (true, Some("PodCompleted"), None);
    }
    let incomplete: Vec<&str> = spec::init_containers(spec)
        .iter()
        .filter(|container| {
            let status = find(basis.inits, &container.name);
            !status.is_some_and(|s| match spec::role(container, true) {
                Role::Sidecar => s.started == Some(true),
                _ => s.ready,
            })
        })
        .map(|container| container.name.as_str())
        .collect();
    // Once an app container has begun, sidecars that begin anew change nothing.
    if incomplete.is_empty() || basis.apps.iter().any(has_begun) {
        return (true, None, None);
    }
    let message = format!("containers with incomplete status: {}", named(&incomplete));
    (false, Some("ContainersNotInitialized"), Some(message))
}

fn containers_ready(spec: &PodSpec, basis: &Basis<'_>) -> Finding {
    match basis.phase {
        "Succeeded" => return (false, Some("PodCompleted"), None),
        "Failed" => return (false, Some("PodFailed"), None),
        _ => {}
    }
    let statuses = |role: Role| if role == Role::App { basis.apps } else { basis.inits };
    let unready: Vec<&str> = spec::containers(spec)
        .filter(|(_, role)| *role != Role::Init)
        .filter(|(container, role)| !find(statuses(*role), &container.name).is_some_and(|s| s.ready))
        .map(|(container, _)| container.name.as_str())
        .collect();
    if unready.is_empty() {
        return (true, None, None);
    }
    let message = format!("containers with unready status: {}", named(&unready));
    (false, Some("ContainersNotReady"), Some(message))
}

fn pod_ready(pod: &Pod, spec: &PodSpec, containers: &Finding) -> Finding {
    if !containers.0 {
        return containers.clone();
    }
    let held = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let closed: Vec<String> = spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match held.iter().find(|c| c.type_ == *kind) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {kind:?} does not exist."
                )),
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if closed.is_empty() {
        return (true, None, None);
    }
    (false, Some("ReadinessGatesNotReady"), Some(closed.join(", ")))
}

fn condition(
    pod: &Pod,
    kind: &str,
    (on, reason, message): (bool, Option<&str>, Message),
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
